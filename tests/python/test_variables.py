"""The environment: one list of variables, which the code, docs/VARIABLES.md and `python -m cgx env` share."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import cgx
from cgx import _observe

_ROOT = Path(__file__).parents[2]


def _run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cgx", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, **environment})


def test_the_page_holds_the_list():
    page = (_ROOT / "docs" / "VARIABLES.md").read_text()
    table = _observe.environment_text(markdown=True)
    assert table in page, "write it anew: python -m cgx env --markdown"
    assert all("|" not in text for row in cgx.variables() for text in row.values())


def test_whatever_is_read_is_in_the_list_and_nothing_else_is():
    by_library = set(re.findall(r'"(CGX_\w+)"', (_ROOT / "lib" / "base" / "config.cc").read_text()))
    python = [path.read_text() for path in (_ROOT / "bindings" / "python").rglob("*.py")]
    by_python = set(re.findall(r'(?:environ\.get|_number)\(\s*"(CGX_\w+)"', "\n".join(python)))
    listed = {(row["name"], row["reader"]) for row in cgx.variables()}
    read = {(name, "library") for name in by_library} | {(name, "python") for name in by_python}
    assert read == listed


def test_the_command_prints_the_present_values():
    shown = _run("env", CGX_THREADS="3").stdout.splitlines()
    assert len(shown) == 1 + len(cgx.variables())
    assert re.search(r"^CGX_THREADS +3 +1 ", "\n".join(shown), re.MULTILINE)
    assert _run("version").stdout.startswith(f"cgx {cgx.version()} (")
    assert _run("nonsense").returncode == 2
