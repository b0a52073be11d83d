"""Enforces the house rules that a compiler does not: which layer may include which, and where a few
words may stand. `python3 cmake/check_layers.py` prints each violation as file:line and exits 1."""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

# layer: the layers it may include from (beside itself).
MAY_INCLUDE = {
    "lib/base": [],
    "lib/codec": ["lib/base"],
    "lib/plan": ["lib/base", "lib/codec", "lib/transport/transport.h"],
    "lib/transport": ["lib/base"],
    "lib/comm": ["lib/base", "lib/codec", "lib/plan", "lib/transport", "include/cgx"],
    "cuda": ["lib/base", "lib/codec"],
    "bench": ["include/cgx"],
    "bindings": ["include/cgx"],
    "examples": ["include/cgx"],
    "include/cgx": [],
}

# word: where it may stand.
ONLY_IN = {
    r"\bgetenv\b": ["lib/base/config.cc", "bindings/", "tests/", "bench/"],
    r"\bthrow\b": ["bindings/", "include/cgx/cgx.hpp", "tests/", "examples/", "bench/"],
    r"cuda_runtime\.h": ["cuda/"],
    r"\b(at|c10)::": ["bindings/torch/"],
}

INCLUDE = re.compile(r'^\s*#\s*include\s+["<]([^">]+)[">]')
COMMENT = re.compile(r"//.*|/\*.*?\*/|^\s*\*.*")


def layer_of(path):
    return next((layer for layer in MAY_INCLUDE if path.startswith(layer + "/")), None)


def included_file(source, name):
    """The repository file that an include means, or None for a system header."""
    for base in ("lib", "include", str(source.parent.relative_to(ROOT)), "."):
        candidate = ROOT / base / name
        if candidate.exists():
            return str(candidate.resolve().relative_to(ROOT))
    return None


def violations(source):
    path = str(source.relative_to(ROOT))
    layer = layer_of(path)
    for number, line in enumerate(source.read_text().splitlines(), 1):
        match = INCLUDE.match(line)
        target = match and included_file(source, match.group(1))
        if target and layer and layer_of(target) != layer:
            if not any(target.startswith(allowed) for allowed in MAY_INCLUDE[layer]):
                yield f"{path}:{number}: {layer} may not include {target}"
        code = COMMENT.sub("", re.sub(r'"(\\.|[^"\\])*"', '""', line)) if not match else line
        for word, places in ONLY_IN.items():
            if re.search(word, code) and not any(path.startswith(place) for place in places):
                yield f"{path}:{number}: {word} may stand only in {', '.join(places)}"


def main():
    folders = ("lib", "cuda", "include", "bench", "bindings", "examples", "tests")
    files = [f for folder in folders for f in sorted((ROOT / folder).rglob("*"))
             if f.suffix in (".h", ".hpp", ".cc", ".cu", ".c")]
    found = [v for f in files for v in violations(f)]
    print("\n".join(found) if found else f"layers: {len(files)} files, none out of place")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
