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


def _sources() -> str:
    """All of the library's string literals as they are put together, and Python's."""
    text = "\n".join(
        path.read_text() for folder in ("lib", "bindings") for path in (_ROOT / folder).rglob("*.[ch][c]") if path.is_file()
    )
    text += "\n".join(path.read_text() for path in (_ROOT / "bindings" / "python").rglob("*.py"))
    return re.sub(r'"\s*\n\s*"', "", text).replace('\\"', '"')


def test_every_message_and_variable_of_the_troubleshooting_page_exists():
    page = (_ROOT / "docs" / "TROUBLESHOOTING.md").read_text()
    names = {row["name"] for row in cgx.variables()} | set(re.findall(r"\b(CGX_[A-Z_]+) = \d", (_ROOT / "include/cgx/cgx.h").read_text()))
    assert {name for name in re.findall(r"\bCGX_[A-Z_0-9]+", page) if name not in names} == set()
    sources = re.sub(r"\{[^{}]*\}", "…", _sources())
    quoted = [quote for quote in re.findall(r'"([^"`=]+)"', re.sub(r"`[^`]*`", "", page.replace("\n", " "))) if len(quote) > 12]
    assert len(quoted) > 15
    for quote in quoted:
        for part in quote.split("…"):
            assert part.strip() in sources, f"nobody says: {part.strip()!r}"
