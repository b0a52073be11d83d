"""netbench's training, a few steps of it: every way of averaging gradients learns, and what it sends is counted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

_TOP = Path(__file__).parents[2]


def test_every_way_trains_in_turns_and_its_cost_is_counted(tmp_path: Path) -> None:
    out = tmp_path / "training.json"
    netns = [str(_TOP / "scripts" / "netns"), "train", "--ranks", "2", "--loopback", "--", sys.executable]
    script = [str(_TOP / "bench" / "netbench_parts" / "train.py"), "--seeds", "1", "--steps", "12", "--json", str(out)]
    done = subprocess.run([*netns, *script, "--target", "0"], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    ways = {way["name"]: way for way in json.loads(out.read_text())["runs"][0]["ways"]}
    assert {"Gloo fp32", "Gloo fp16 hook", "PowerSGD hook, rank 2", "max-min 4 bits"} <= set(ways)
    for name, way in ways.items():
        assert len(way["accuracy"]) == len(way["seconds"]) == 6, name
        assert way["seconds"] == sorted(way["seconds"]), name
        assert way["steps_to_target"] == 6, name  # of any accuracy: the third look
        assert way["seconds_to_target"] == way["seconds"][2], name
    # 2.1 million gradients: a rank of two sends each once. What else crosses the interface is small.
    assert 8.4e6 < ways["Gloo fp32"]["bytes_a_step"] < 9.2e6
    assert ways["max-min 4 bits"]["bytes_a_step"] < ways["Gloo fp32"]["bytes_a_step"] / 6
