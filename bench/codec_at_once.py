#!/usr/bin/env python3
"""Measures a codec on every core at once, as ranks that fill a machine run it: rows as `cgx-bench codec` writes them.

    bench/codec_at_once.py --size 64M --codec maxmin:bits=4 --json rows.json

One process a core, started together and pinned. Rates (GB/s of elements, a core) are the means of the processes'.
"""

import argparse
import json
import os
import pathlib
import subprocess
import tempfile

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
built = pathlib.Path(__file__).resolve().parents[1] / "build/release/bin/cgx-bench"
parser.add_argument("--bench", default=os.environ.get("CGX_BENCH_BINARY", built), help="cgx-bench")
parser.add_argument("--size", default="64M")
parser.add_argument("--codec", default="maxmin:bits=4")
parser.add_argument("--rounds", default="7")
parser.add_argument("--json", required=True)
args = parser.parse_args()

with tempfile.TemporaryDirectory(prefix="codec-at-once-") as directory:
    files = [pathlib.Path(directory, f"{core}.json") for core in sorted(os.sched_getaffinity(0))]
    command = [args.bench, "codec", "-b", args.size, "--rounds", args.rounds, "-n", "1", "--codec", args.codec]
    ranks = [
        subprocess.Popen(["taskset", "-c", file.stem, *command, "--json", str(file)], stdout=subprocess.DEVNULL)
        for file in files
    ]
    failures = [rank.wait() for rank in ranks]
    if any(failures):
        raise SystemExit("cgx-bench failed")
    documents = [json.loads(file.read_text()) for file in files]

document = documents[0]
for row, *others in zip(*(d["rows"] for d in documents), strict=True):
    for field in [field for field in row if field.endswith("_GBps") and row[field] is not None]:
        row[field] = sum(r[field] for r in (row, *others)) / len(documents)
document["at_once"] = len(documents)
pathlib.Path(args.json).write_text(json.dumps(document))
