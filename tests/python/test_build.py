"""The C++ side of cgx.torch where it cannot be built, or was built for another PyTorch: what the user is told."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import cgx.torch
from cgx.torch import _build


def _unbuilt(monkeypatch, tmp_path) -> None:
    """As on a machine where neither the package nor the cache has the module."""
    monkeypatch.setenv("CGX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(_build, "key", lambda: "torch0.0.0-abi1-none-0")


def test_no_compiler_is_an_error_that_says_what_to_install(monkeypatch, tmp_path):
    _unbuilt(monkeypatch, tmp_path)
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ImportError, match="apt-get install g"):
        _build.find(Path("libcgx.so"))


def test_a_failing_compiler_is_quoted(monkeypatch, tmp_path):
    _unbuilt(monkeypatch, tmp_path)
    compiler = tmp_path / "compiler"
    compiler.write_text("#!/bin/sh\necho 'strange header' >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    with pytest.raises(_build.BuildError, match="strange header"):
        _build.find(Path("libcgx.so"))
    assert not list((tmp_path / "cache").glob("*/_shim.so"))


def test_a_cache_that_cannot_be_written_is_named(monkeypatch, tmp_path):
    _unbuilt(monkeypatch, tmp_path)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CGX_CACHE", str(tmp_path / "file"))
    with pytest.raises(_build.BuildError, match="set CGX_CACHE"):
        _build.find(Path("libcgx.so"))


def test_a_module_for_another_pytorch_is_not_loaded(monkeypatch, tmp_path, capsys):
    _unbuilt(monkeypatch, tmp_path)
    package = tmp_path / "package"
    (package / "prebuilt" / "torch1.0-abi0-none-0").mkdir(parents=True)
    (package / "prebuilt" / "torch1.0-abi0-none-0" / "_shim.so").write_text("not this one")
    monkeypatch.setattr(_build, "_HERE", package)
    monkeypatch.setattr(_build, "build", lambda out, library: (out.parent.mkdir(parents=True), out.write_text("built")))
    found = _build.find(Path("libcgx.so"))
    assert found.read_text() == "built"
    assert "was built for PyTorch 1.0 (none)" in capsys.readouterr().err


def test_a_broken_module_is_an_error_that_says_what_to_delete(monkeypatch, tmp_path):
    broken = tmp_path / "key" / "_shim.so"
    broken.parent.mkdir()
    broken.write_bytes(b"nonsense")
    monkeypatch.setattr(_build, "find", lambda library: broken)
    with pytest.raises(_build.BuildError, match="delete"):
        _build.load(Path("libcgx.so"))


def test_the_key_changes_with_pytorch(monkeypatch):
    before = _build.key()
    monkeypatch.setattr(sys.modules["torch"], "__version__", "99.0")
    assert _build.key() != before
    assert "torch99.0" in _build.key()
    assert cgx.torch.register() is None  # registering again does no harm
