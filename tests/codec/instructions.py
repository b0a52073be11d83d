"""Counts the instructions that encoding and decoding a mebibyte takes, codec by codec, and compares them with the
recorded counts: a check on speed that does not care how busy the machine is.

    instructions.py PROGRAM RECORD COMPILER [--record]

Exit status: 0 all well, 1 a codec got slower, 77 skipped. To record anew after a change that is meant:
cmake --build --preset release --target record_instructions, and look at the difference."""

import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

# The same compiler, input and key give the same count, to a few dozen instructions. What may differ is the C library
# that is loaded: its copies count an instruction a byte (rep movsb) or one for 32. Top-k's two copies of 10 KiB are
# 2.5 % of its encoding, the largest share of all that are judged; a codec that only copies or clears is not.
TOLERANCE = 0.03
COPIES = ("none encode", "none encode bf16", "none decode", "none decode_add", "topk:ratio=0.01 decode", "topk:ratio=0.01,indices=packed decode", "randk:ratio=0.01 decode")
ELEMENTS = (1 << 20) // 4


def skip(reason):
    print(f"skipped: {reason}")
    sys.exit(77)


def count(program):
    """{"codec what": instructions}, and the CPU path that was counted."""
    valgrind = shutil.which("valgrind")
    if not valgrind:
        skip("there is no valgrind (Debian: valgrind)")
    if not program:
        skip("callgrind.h was not found when this was configured (Debian: valgrind)")
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "out"
        command = [valgrind, "--tool=callgrind", "--collect-atstart=no", f"--callgrind-out-file={out}", program]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{' '.join(command)}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
        counts = {}
        for dump in pathlib.Path(folder).glob("out.*"):
            text = dump.read_text()
            name = re.search(r"^desc: Trigger: Client Request: (.*)$", text, re.M)
            total = re.search(r"^(?:summary|totals): (\d+)", text, re.M)
            if name and total:
                counts[name.group(1)] = int(total.group(1))
    return dict(sorted(counts.items())), done.stdout.split()[0]


def main():
    program, record, compiler = sys.argv[1:4]
    recorded = json.loads(pathlib.Path(record).read_text())
    if "--record" not in sys.argv and recorded["compiler"] != compiler:
        skip(f"counts were recorded with {recorded['compiler']}, this is {compiler}")
    counts, path = count(program)
    if "--record" in sys.argv:
        document = {"compiler": compiler, "path": path, "counts": counts}
        pathlib.Path(record).write_text(json.dumps(document, indent=1) + "\n")
        print(f"recorded {len(counts)} counts of path {path}")
        return
    if recorded["path"] != path:
        skip(f"counts were recorded on path {recorded['path']}, callgrind runs {path} here")
    slower = []
    print(f"{'':34} {'instructions':>12} {'an element':>10} {'recorded':>12}")
    for name in sorted(counts.keys() | recorded["counts"].keys()):
        now, before = counts.get(name), recorded["counts"].get(name)
        line = f"{name:34} {now or '-':>12} {(now or 0) / ELEMENTS:10.2f} {before or '-':>12}"
        if now is None or before is None:
            slower.append(f"{name}: {'not recorded' if now else 'recorded, and no longer counted'}")
        elif now > before * (1 + TOLERANCE) and name not in COPIES:
            line += f"  {now / before - 1:+.1%}"
            slower.append(f"{name}: {before} -> {now} instructions ({now / before - 1:+.1%})")
        elif now < before * (1 - TOLERANCE):
            line += f"  {now / before - 1:+.1%}: record it"
        print(line)
    if slower:
        print("\n".join(["", *slower, __doc__.split("\n\n")[2]]))
        sys.exit(1)


if __name__ == "__main__":
    main()
