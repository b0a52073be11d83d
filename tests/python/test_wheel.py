"""The wheel in fresh environments: what it brings and asks for, without PyTorch, with it, and with another one.

The wheel is CGX_WHEEL, or the one in build/dist that scripts/test makes. No network: numpy and PyTorch are lent by the
environment that runs the tests.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import numpy
import pytest

ROOT = Path(__file__).parents[2]
# What every Linux has that runs a Python with wheels (the list of manylinux), and what only PyTorch's process has.
SYSTEM = {"libc.so.6", "libm.so.6", "libdl.so.2", "librt.so.1", "libpthread.so.0", "libstdc++.so.6", "libgcc_s.so.1"}
LOADER = "ld-linux-x86-64.so.2"
TORCH = {"libtorch.so", "libtorch_cpu.so", "libtorch_python.so", "libc10.so", "libcgx.so.0"}

_INIT = "import torch.distributed as d; d.init_process_group('cgx', store=d.HashStore(), rank=0, world_size=1)"
USE = """
import sys, cgx, numpy
values = numpy.linspace(-1, 1, 10000, dtype=numpy.float32)
codec = cgx.Codec("maxmin:bits=4")
assert abs(codec.decode(codec.encode(values), values.size) - values).max() < 0.2
with cgx.Communicator(rank=int(sys.argv[1]), size=2, store="file:" + sys.argv[2], timeout_ms=60000, **eval(sys.argv[3])) as comm:
    total = comm.allreduce(values, codec="natural")
assert total.shape == values.shape and abs(total - 2 * values).max() <= 2
print("ok", *{line.split()[-1] for line in open("/proc/self/maps") if ".so" in line}, sep="\\n")
"""


def _wheel() -> Path:
    named = os.environ.get("CGX_WHEEL")
    found = [Path(named)] if named else sorted((ROOT / "build" / "dist").glob("cgx-*.whl"))
    if not found:
        pytest.skip("no wheel in build/dist: scripts/test makes one (or pip wheel . -w build/dist)")
    return found[-1]


def _environment(**more: str) -> dict[str, str]:
    dropped = ("CGX_", "CXX", "LD_", "PYTHON", "OMPI_", "PMI")
    return {name: value for name, value in os.environ.items() if not name.startswith(dropped)} | more


def _lend(directory: Path, modules: list[str]) -> Path:
    """A directory on the path with these modules alone of the tests' own environment."""
    directory.mkdir()
    for name in modules:
        for path in Path(numpy.__file__).parents[1].glob(f"{name}*"):
            (directory / path.name).symlink_to(path)
    return directory


def _environment_with(directory: Path, lent: Path) -> Path:
    """The Python of a fresh virtual environment with the wheel, and what is lent behind it on the path."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", directory], check=True)
    python = directory / "bin" / "python"
    command = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", "install", "--quiet"]
    subprocess.run([*command, "--no-deps", "--no-index", _wheel()], check=True)
    purelib = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"], check=True, capture_output=True, text=True
    ).stdout.strip()
    (Path(purelib) / "lent.pth").write_text(f"{lent}\n")
    return python


@pytest.fixture(scope="module")
def bare(tmp_path_factory) -> Path:
    """A Python with the wheel and numpy, and nothing else."""
    directory = tmp_path_factory.mktemp("bare")
    return _environment_with(directory / "venv", _lend(directory / "lent", ["numpy"]))


@pytest.fixture(scope="module")
def with_torch(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("torch")
    return _environment_with(directory / "venv", Path(numpy.__file__).parents[1])


def _run(command: list, directory: Path, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        command, cwd=directory, env=_environment(**environment), capture_output=True, text=True, timeout=300, check=False
    )


def _two_ranks(prefix: list, python: Path, directory: Path, options: str = "{}") -> list[str]:
    """The output of each rank of USE."""
    script = directory / "use.py"
    script.write_text(USE)
    command = [*prefix, python, script]
    ranks = [
        subprocess.Popen(
            [*command, str(rank), str(directory / "meet"), options],
            cwd=directory, env=_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    return [rank.communicate(timeout=300)[0] for rank in ranks]


def _dynamic(library: Path) -> dict[str, list[str]]:
    text = subprocess.run(["objdump", "-p", library], check=True, capture_output=True, text=True).stdout
    found: dict[str, list[str]] = {"NEEDED": [], "RUNPATH": [], "RPATH": []}
    for name, value in re.findall(r"^\s+(NEEDED|RUNPATH|RPATH)\s+(\S+)", text, flags=re.M):
        found[name].append(value)
    found["GLIBC"] = re.findall(r"GLIBC_([0-9.]+)", text)
    return found


def test_every_library_that_the_wheel_needs_is_in_it_or_on_every_system(tmp_path):
    with zipfile.ZipFile(_wheel()) as archive:
        archive.extractall(tmp_path)
    libraries = [path for path in tmp_path.rglob("*") if re.search(r"\.so(\.\d+)*$", path.name)]
    bundled = {path.name for path in libraries}
    assert {"libcgx.so"} <= bundled
    assert not [name for name in bundled if "crypto" in name], "Python's ssl would get this one, by its soname"
    for path in libraries:
        dynamic = _dynamic(path)
        allowed = SYSTEM | {LOADER} | bundled | (TORCH if path.name == "_shim.so" else set())
        allowed |= {"libgloo.so.0"} if path.name == "libcgx_gloo.so" else set()
        assert set(dynamic["NEEDED"]) <= allowed, path
        assert set(dynamic["RUNPATH"] + dynamic["RPATH"]) <= {"$ORIGIN"}, path
        newest = max(tuple(map(int, version.split("."))) for version in dynamic["GLIBC"] or ["2.0"])
        assert newest <= (2, 36), f"{path} needs glibc {newest}, newer than Debian 12's"


def test_what_is_bundled_comes_with_its_licence():
    names = zipfile.ZipFile(_wheel()).namelist()
    bundled = [name for name in names if re.search(r"cgx/lib/lib[a-z]+\.so\.\d+$", name)]
    licences = [name for name in names if name.startswith("cgx/lib/licenses/")]
    assert len(bundled) == len(licences)


def test_codecs_and_communicators_work_without_pytorch(bare, tmp_path):
    outputs = _two_ranks([], bare, tmp_path)
    for output in outputs:
        assert output.startswith("ok"), output
        own = [path for path in output.split() if "/cgx/" in path]
        assert any(path.endswith("libcgx.so") for path in own), output
        # Nothing of cgx's dependencies came from the system.
        foreign = [path for path in output.split() if re.search(r"lib(fmt|hwy|gloo|crypto)", path) and path not in own]
        assert not foreign


def test_without_pytorch_importing_cgx_torch_says_what_to_install(bare, tmp_path):
    done = _run([bare, "-c", "import cgx.torch"], tmp_path)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1
    assert last.startswith("ImportError: cgx.torch needs PyTorch 2.11 or newer"), done.stderr
    assert "pip install torch" in last


def test_an_older_pytorch_is_refused_by_its_version(bare, tmp_path):
    (tmp_path / "torch.py").write_text("__version__ = '2.6.0+cpu'\n")
    done = _run([bare, "-c", "import cgx.torch"], tmp_path)
    assert "needs PyTorch 2.11 or newer, and this is 2.6.0+cpu" in done.stderr


def test_on_a_system_without_our_libraries_all_but_gloo_works(bare, tmp_path):
    """A namespace whose /usr/lib lacks fmt, Highway, Gloo and OpenSSL."""
    bare_system = tmp_path / "bare-system"
    bare_system.write_text(
        textwrap.dedent(f"""\
            #!/bin/sh
            # Removes nothing but in this namespace's own layer.
            set -e
            mount --make-rprivate /
            mount -t tmpfs none {tmp_path}/layer
            mkdir {tmp_path}/layer/upper {tmp_path}/layer/work
            mount -t overlay none -o lowerdir=/usr/lib,upperdir={tmp_path}/layer/upper,workdir={tmp_path}/layer/work /usr/lib
            find /usr/lib -name 'libfmt.so*' -o -name 'libhwy*.so*' -o -name 'libgloo.so*' | xargs rm -f
            exec "$@"
            """)
    )
    bare_system.chmod(0o755)
    (tmp_path / "layer").mkdir()
    prefix = ["unshare", "-m", str(bare_system)]
    probe = subprocess.run([*prefix, "true"], capture_output=True, text=True, check=False)
    if probe.returncode != 0:
        pytest.skip(f"no namespace with a layer over /usr/lib here: {probe.stderr.strip()}")
    for output in _two_ranks(prefix, bare, tmp_path):
        assert output.startswith("ok"), output
    (tmp_path / "second").mkdir()
    for output in _two_ranks(prefix, bare, tmp_path / "second", "{'transport': 'gloo'}"):
        assert "gloo" in output.splitlines()[-1], output
        assert "libgloo0" in output or "libgloo-dev" in output, output


def test_with_the_pytorch_of_its_build_nothing_is_compiled(with_torch, tmp_path):
    if not any("torch/prebuilt" in name for name in zipfile.ZipFile(_wheel()).namelist()):
        pytest.skip("this wheel was built without PyTorch")
    script = """
    import sys, torch, torch.distributed as dist
    assert "cgx" not in sys.modules
    dist.init_process_group("cgx", store=dist.HashStore(), rank=0, world_size=1)  # found by entry point
    x = torch.ones(4)
    dist.all_reduce(x)
    assert x.tolist() == [1, 1, 1, 1]
    dist.destroy_process_group()
    print(sys.modules["cgx.torch"].__file__)
    """
    done = _run([with_torch, "-c", textwrap.dedent(script)], tmp_path, CGX_CACHE=str(tmp_path / "cache"))
    assert done.returncode == 0, done.stderr
    assert str(with_torch.parents[1]) in done.stdout
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("use", ["import cgx.torch", _INIT], ids=["by import", "by entry point"])
def test_another_pytorch_without_a_compiler_is_told_apart_and_helped(with_torch, tmp_path, use):
    script = f"import torch; torch.__version__ = '2.99.0'; {use}"
    done = _run([with_torch, "-c", script], tmp_path, PATH=str(tmp_path), CGX_CACHE=str(tmp_path / "cache"))
    assert done.returncode == 1
    for said in ("was built ", "this is PyTorch 2.99.0", "no C++ compiler", "apt-get install g++", "import cgx.torch again"):
        assert said in done.stderr, said
