"""What can be seen of cgx: its environment variables, and the table of what became of each tensor."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from typing import Any

from ._library import load


def variables() -> list[dict[str, str]]:
    """The CGX_* environment variables there are: name, default, meaning, and which part reads them."""
    return json.loads(load().cgx_variable_list())


def environment_text(markdown: bool = False) -> str:
    """The variables as aligned text with their present values, or as the table of docs/VARIABLES.md."""
    if markdown:
        rows = [(f"`{v['name']}`", v["default"], v["meaning"], v["reader"]) for v in variables()]
        head = [("variable", "default", "meaning", "read by"), ("---", "---", "---", "---")]
        return "\n".join(f"| {' | '.join(row)} |" for row in head + rows)
    return aligned(
        ["variable", "value", "default", "meaning"],
        [[v["name"], os.environ.get(v["name"], "-"), v["default"], v["meaning"]] for v in variables()],
    )


def aligned(head: list[str], rows: Iterable[list[str]], right: Callable[[int], bool] = lambda column: False) -> str:
    """Rows of text under their head, each column as wide as its widest entry."""
    lines = [head, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]

    def pad(line: list[str]) -> str:
        cells = (c.rjust(w) if right(i) else c.ljust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True)))
        return "  ".join(cells).rstrip()

    return "\n".join(map(pad, lines))
