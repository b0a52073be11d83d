"""How names, times and tables are written."""

import re

NAMES = {
    "gloo": "Gloo",
    "gloo16": "Gloo, 16-bit hook",
    "openmpi": "Open MPI",
    "memcpy": "one memcpy",
    "none": "cgx, uncompressed",
    "cast:bf16": "cgx, bf16",
    "maxmin:bits=2": "cgx, 2 bits",
    "maxmin:bits=4": "cgx, 4 bits",
    "maxmin:bits=8": "cgx, 8 bits",
    "natural": "cgx, natural",
    "natural8": "cgx, natural8",
    "topk:ratio=0.01": "cgx, top-k 1 %",
    "topk:ratio=0.01,indices=packed": "cgx, top-k 1 %, packed indices",
    "auto": "cgx, automatic",
}


def rate_mbps(rate):
    match = re.fullmatch(r"([\d.]+)([kmg])bit", rate)
    return float(match[1]) * {"k": 1e-3, "m": 1, "g": 1e3}[match[2]] if match else None


def name_of(name):
    whole, comma, rest = name.partition(", ")
    spec, _, way = whole.partition("@")
    ways = {"algorithm": " by {}", "transport": " over {}", "threads": ", {} threads"}
    words = (ways[key].format(value.replace("_", "-")) for key, _, value in (word.partition("=") for word in way.split(",") if word))
    return NAMES.get(spec, f"cgx, `{spec}`") + "".join(words) + comma + rest


def time_text(us):
    return f"{us / 1e6:.2f} s" if us >= 1e6 else f"{us / 1e3:.3g} ms" if us >= 1e3 else f"{us:.3g} us"


def number(value, digits=3):
    return "-" if value is None else f"{value:.{digits}g}"


def markdown(header, rows):
    return [
        "| " + " | ".join(header) + " |",
        "|" + "---|" * len(header),
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
    ]
