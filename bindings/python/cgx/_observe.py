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


class Table(list[dict[str, Any]]):
    """One dict a tensor; as text an aligned table, the tensors that cost most bytes first.

    tensor (its id), name (where one is known), codec, calls, elements of one call, raw_bytes, wire_bytes and ratio of
    what this rank sent; of ``observed`` calls: saturated, non_finite, encode_seconds, decode_seconds, wait_seconds; of
    measured ones: nmse and cosine of what was sent against the input (None: not measured), over ``compared`` elements;
    residual_norm of error feedback.
    """

    def __str__(self) -> str:
        head = ["tensor", "codec", "calls", "elements", "raw", "wire", "ratio", "NMSE", "cosine", "clipped", "NaN/Inf"]
        head += ["residual", "encode ms", "decode ms", "wait ms"]
        rows = [_cells(row) for row in sorted(self, key=lambda row: -row["wire_bytes"])]
        return aligned(head, rows, right=lambda column: column > 1)


def _cells(row: dict[str, Any]) -> list[str]:
    seen = row["observed"] > 0

    def measured(name: str, form: str) -> str:
        return "-" if row[name] is None else format(row[name], form)

    def noted(value: float, form: str) -> str:
        return format(value, form) if seen else "-"

    return [
        str(row.get("name") or row["tensor"]),
        row["codec"],
        str(row["calls"]),
        str(row["elements"]),
        str(row["raw_bytes"]),
        str(row["wire_bytes"]),
        f"{row['ratio']:.2f}",
        measured("nmse", ".2e"),
        measured("cosine", ".6f"),
        noted(row["saturated"], "d"),
        noted(row["non_finite"], "d"),
        f"{row['residual_norm']:.3g}",
        *(noted(1e3 * row[f"{what}_seconds"], ".2f") for what in ("encode", "decode", "wait")),
    ]


def aligned(head: list[str], rows: Iterable[list[str]], right: Callable[[int], bool] = lambda column: False) -> str:
    """Rows of text under their head, each column as wide as its widest entry."""
    lines = [head, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]

    def pad(line: list[str]) -> str:
        cells = (c.rjust(w) if right(i) else c.ljust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True)))
        return "  ".join(cells).rstrip()

    return "\n".join(map(pad, lines))
