"""Builds and loads the C++ side of ``cgx.torch``, which must match the exact PyTorch that is installed.

c10d has no stable ABI: its vtables change with every minor version. So the wheel carries the sources, and a prebuilt
module for the PyTorch that was there when the wheel was built, if any. Where that is not this one, the
module is compiled at the first import and kept in a cache. Run as a script (by the wheel's build), this
file needs only the standard library and torch.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import importlib.util
import logging
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

_HERE = Path(__file__).resolve().parent
_REPOSITORY = _HERE.parents[3]
_MODULE = "_shim"
_FLAGS = ["-std=c++20", "-O2", "-fPIC", "-fvisibility=hidden", f"-DTORCH_EXTENSION_NAME={_MODULE}"]


class BuildError(ImportError):
    """The C++ side of cgx.torch could not be built. The message has the compiler's own words."""


def source_directory() -> Path:
    """The C++ sources: inside an installed package, else in the repository."""
    installed = _HERE / "csrc"
    return installed if installed.is_dir() else _REPOSITORY / "bindings" / "torch"


def include_directory() -> Path:
    installed = _HERE.parent / "include"
    return installed if installed.is_dir() else _REPOSITORY / "include"


def _sources() -> list[Path]:
    return sorted(source_directory().glob("*.cc"))


def key() -> str:
    """What a built module depends on: PyTorch's version and ABI, Python's, and the sources."""
    import torch

    digest = hashlib.sha256(" ".join(_FLAGS).encode())
    for path in [*_sources(), *sorted(source_directory().glob("*.h")), include_directory() / "cgx" / "cgx.h"]:
        digest.update(path.read_bytes())
    abi = int(torch.compiled_with_cxx11_abi())
    return f"torch{torch.__version__}-abi{abi}-{sys.implementation.cache_tag}-{digest.hexdigest()[:16]}"


def _compiler() -> str:
    wanted = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "c++", "clang++"]
    for name in wanted:
        found = shutil.which(name)
        if found:
            return found
    raise BuildError(f"{_why_compile()}, and there is no C++ compiler ({', '.join(wanted)}). {_remedies()}")


def _prebuilt() -> list[str]:
    """The keys of the modules in this package."""
    directory = _HERE / "prebuilt"
    return sorted(path.name for path in directory.glob("torch*")) if directory.is_dir() else []


def _name_of(built: str) -> str:
    """For people: "PyTorch 2.15.0 (cpython-311)" of a key."""
    words = built.removeprefix("torch").split("-abi")
    tag = words[1].split("-", 1)[1].rsplit("-", 1)[0] if "-" in words[-1] else ""
    return f"PyTorch {words[0]} ({tag})"


def _why_compile() -> str:
    built = ", ".join(_name_of(one) for one in _prebuilt())
    been = f"was built for {built}" if built else "was built without PyTorch"
    return f"This cgx {been} and this is {_name_of(key())}: cgx.torch has to be compiled for it, once"


def _remedies() -> str:
    versions = sorted({one.removeprefix("torch").split("-abi")[0].split("+")[0] for one in _prebuilt()})
    same = f"; or have the PyTorch it was built for (pip install torch=={versions[-1]})" if versions else ""
    return (
        "Install a compiler (Debian: apt-get install g++ python3-dev), or name one in CXX, and import cgx.torch again"
        f"{same}; or build cgx again beside this PyTorch (in its sources: pip install --no-build-isolation .)"
    )


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildError(f"compiling cgx.torch failed:\n{' '.join(command)}\n{done.stderr[-6000:]}")


def build(out: Path, library: Path) -> None:
    """Compiles the module to ``out``, linked to ``library`` (a libcgx.so)."""
    import torch

    # Importing cpp_extension warns where PyTorch was built for a GPU that is not here.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    from torch.utils import cpp_extension

    compiler = _compiler()
    headers = Path(sysconfig.get_paths()["include"])
    if not (headers / "Python.h").is_file():
        raise BuildError(f"{_why_compile()}, and {headers} has no Python.h. {_remedies()}")
    includes = [f"-I{include_directory()}", f"-I{source_directory()}"]
    # System includes: warnings in PyTorch's headers are not the user's.
    for path in [*cpp_extension.include_paths(), sysconfig.get_paths()["include"]]:
        includes += ["-isystem", path]
    flags = [*_FLAGS, f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"]
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
        objects = [Path(scratch) / f"{source.stem}.o" for source in _sources()]
        commands = [
            [compiler, *flags, *includes, "-c", str(source), "-o", str(target)]
            for source, target in zip(_sources(), objects, strict=True)
        ]
        with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
            list(pool.map(_run, commands))
        linked = Path(scratch) / out.name
        # By the library's file, not a search path: it is loaded before this module, and found again by its soname.
        libraries = [f"-L{path}" for path in cpp_extension.library_paths()]
        libraries += [str(library), "-ltorch_python", "-ltorch", "-ltorch_cpu", "-lc10"]
        _run([compiler, "-shared", *map(str, objects), *libraries, "-o", str(linked)])
        linked.replace(out)


def cache_directory() -> Path:
    """CGX_CACHE, else $XDG_CACHE_HOME/cgx, else ~/.cache/cgx."""
    named = os.environ.get("CGX_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cgx"


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _built_now(wanted: str, library: Path) -> Path:
    """The module from the cache, compiled first if it is not there. One process compiles, others wait for it."""
    cache = cache_directory()
    built = cache / wanted / f"{_MODULE}.so"
    if built.is_file():
        return built
    try:
        with _locked(cache / f"{wanted}.lock"):
            if not built.is_file():
                said = f"{_why_compile()}. Compiling into {built.parent} (a minute or two) ..."
                print(said, file=sys.stderr, flush=True)
                build(built, library)
    except OSError as error:
        raise BuildError(
            f"cgx.torch cannot write to its cache {cache}: {error}; set CGX_CACHE to another place"
        ) from error
    return built


def find(library: Path) -> Path:
    """The module for this PyTorch: prebuilt in the package, from the cache, or compiled now."""
    wanted = key()
    prebuilt = _HERE / "prebuilt" / wanted / f"{_MODULE}.so"
    if prebuilt.is_file():
        return prebuilt
    return _built_now(wanted, library)


def load(library: Path) -> ModuleType:
    """Imports the module. libcgx.so must have been loaded into this process already."""
    path = find(library)
    spec = importlib.util.spec_from_file_location(f"cgx.torch.{_MODULE}", path)
    if spec is None or spec.loader is None:
        raise BuildError(f"{path} is not a Python module")
    try:
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except ImportError as error:
        raise BuildError(f"{path} does not load ({error}); delete {path.parent} to have it built again") from error
    return module


def _main() -> None:
    parser = argparse.ArgumentParser(description="Builds the C++ side of cgx.torch into DIRECTORY/<key>/.")
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--library", type=Path, required=True, help="the libcgx.so to link to")
    arguments = parser.parse_args()
    wanted = key()
    for other in arguments.directory.glob("*"):
        if other.name != wanted:
            shutil.rmtree(other)  # for another PyTorch, or from older sources
    target = arguments.directory / wanted / f"{_MODULE}.so"
    if not target.is_file():
        build(target, arguments.library)
    print(target)


if __name__ == "__main__":
    _main()
