"""The README's example runs as it stands, and the demo's shortest form tells what it promises."""

import ctypes
import functools
import json
import pathlib
import re
import subprocess
import sys

import ranks

ROOT = pathlib.Path(__file__).resolve().parents[2]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]


def test_readme_example_runs_in_two_processes(tmp_path):
    example = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    script = tmp_path / "example.py"
    script.write_text(example + "dist.destroy_process_group()\n")
    ran = subprocess.run([*TORCHRUN, str(script)], capture_output=True, text=True, timeout=180)
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert "elements_compressed" in ran.stdout


def _demo(out, rank, size):
    """In a network of its own where root may have one: the demo counts all that crosses the loopback interface."""
    if ctypes.CDLL(None).unshare(0x40000000) == 0:  # CLONE_NEWNET
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    ranks.run_script(ROOT / "examples" / "demo.py", "--steps", "4", "--out", out, size=2, timeout=400)


def test_demo_moves_fewer_bytes_for_every_codec(tmp_path):
    ranks.run(1, functools.partial(_demo, str(tmp_path)), timeout=420)
    assert (tmp_path / "demo.png").stat().st_size > 10_000
    rows = {row["name"]: row for row in json.loads((tmp_path / "demo.json").read_text())["rows"]}
    sent = {name: rows["Gloo fp32"]["bytes_a_step"] / row["bytes_a_step"] for name, row in rows.items()}
    # Ratios of the formats (32 / bits an element with metadata), less a tenth for TCP, hellos and biases.
    expected = {
        "Gloo fp16 hook": 2.0,
        "natural": 3.56,
        "natural8": 4.0,
        "max-min 4 bits": 7.76,
        "natural dithering 4 bits": 7.88,
    }
    for name, ratio in expected.items():
        assert sent[name] > 0.9 * ratio, f"{name}: {sent[name]:.2f} times fewer bytes than Gloo, {ratio} by its format"
    assert sent["top-k 1 %, no EF"] > 20
