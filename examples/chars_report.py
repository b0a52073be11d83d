"""Every way of averaging gradients, some seeds each: runs what is missing, then makes a table, a picture and a page."""

from __future__ import annotations

import argparse
import copy
import datetime
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

# What --codec takes, its name here, and what theory says of the loss beside fp32's after as many steps: the SAME where rounding
# is far below the gradients' own noise; NOISIER for unbiased codecs, whose error adds to that noise and asks for more
# steps, by the share it adds; LATER for error feedback, which catches up once steps are many beside 1 / ratio; WORSE where a bias stays.
SAME, NOISIER, LATER, WORSE = "the same", "noise for more steps", "the same later", "worse"
WAYS = [
    ("gloo", "fp32", SAME),
    ("fp16-hook", "fp16 hook", SAME),
    ("powersgd:2", "PowerSGD hook, rank 2", LATER),
    ("cast:bf16", "bf16", SAME),
    ("natural", "natural", NOISIER),
    ("natural8", "natural8", NOISIER),
    ("maxmin:bits=4", "max-min 4 bits", NOISIER),
    ("dither:bits=4", "dithering 4 bits", NOISIER),
    ("natdither:bits=4", "natural dithering 4 bits", NOISIER),
    ("maxmin:bits=2+ef", "max-min 2 bits + EF", LATER),
    ("topk:ratio=0.01+ef", "top-k 1 % + EF", LATER),
    ("topk:ratio=0.01", "top-k 1 %, no EF", WORSE),
    ("randk:ratio=0.1", "rand-k 10 %", NOISIER),
]
_BEGIN, _END = "<!-- begin: made by train_chars.py --all -->", "<!-- end -->"
_SEEDS = 3  # that a verdict takes
_SMOOTH = 20  # steps of training loss that a point of the picture averages


def run_all(arguments: argparse.Namespace, run: Callable[[argparse.Namespace], None]) -> None:
    """Makes the runs that ``--out`` lacks, then the report."""
    arguments.out.mkdir(parents=True, exist_ok=True)
    codecs = [codec for codec, _, _ in WAYS if not arguments.only or codec in arguments.only]
    wanted = [(codec, seed) for seed in range(arguments.seeds) for codec in codecs]
    begin = time.monotonic()
    for number, (codec, seed) in enumerate(wanted, start=1):
        one = copy.copy(arguments)
        one.codec, one.seed = codec, seed
        one.json = arguments.out / f"{codec.replace(':', '-')}-seed{seed}.json"
        if _is_kept(one):
            continue
        print(f"[{number} of {len(wanted)}, {time.monotonic() - begin:.0f} s] {codec}, seed {seed}", flush=True)
        run(one)
    report(arguments)


def _is_kept(one: argparse.Namespace) -> bool:
    if not one.json.exists():
        return False
    kept = json.loads(one.json.read_text())
    return all(kept[name] == getattr(one, name) for name in ("codec", "seed", "steps", "lr", "ranks"))


def report(arguments: argparse.Namespace) -> None:
    """Table and picture from the runs in ``--out``; with --page also as a page with both beside it."""
    runs = [json.loads(path.read_text()) for path in sorted(arguments.out.glob("*-seed*.json"))]
    runs = [run for run in runs if run["steps"] == arguments.steps and run["ranks"] == arguments.ranks]
    if not any(run["codec"] == WAYS[0][0] for run in runs):
        raise SystemExit(f"no fp32 run of {arguments.steps} steps is in {arguments.out}: nothing to compare with")
    rows = [row for row in (_row(runs, *way) for way in WAYS) if row]
    for row in rows:
        row["verdict"] = verdict(row, rows[0])
    page = arguments.page or arguments.out / "TRAINING.md"
    picture(rows, page.with_name("training.png"))
    for run in runs:
        run["loss"] = [round(value, 4) for value in run["loss"]]
    kept = {"date": datetime.date.today().isoformat(), "runs": runs}
    page.with_name("training.json").write_text(json.dumps(kept, separators=(",", ":")) + "\n")
    _write(page, _section(rows, runs))
    print(table(rows) + f"\n\n{page}, training.png and training.json beside it")


def _row(runs: list[dict], codec: str, name: str, promise: str) -> dict | None:
    own = sorted((run for run in runs if run["codec"] == codec), key=lambda run: run["seed"])
    exact = {run["seed"]: run["validation"][-1][1] for run in runs if run["codec"] == WAYS[0][0]}
    if not own:
        return None
    finals = [run["validation"][-1][1] for run in own]
    apart = [run["validation"][-1][1] - exact[run["seed"]] for run in own if run["seed"] in exact]
    return {
        "codec": codec,
        "name": name,
        "promise": promise,
        "seeds": len(own),
        "final": statistics.mean(finals),
        "spread": max(finals) - min(finals),
        "apart": statistics.mean(apart) if apart else float("nan"),
        "kilobytes": own[0]["bytes_a_step"] / 1e3,
        "losses": [run["loss"] for run in own],
    }


def verdict(row: dict, exact: dict) -> str:
    """Whether the mean is within the seeds' spread of fp32's mean, or how it lies outside of it."""
    difference, noise = row["final"] - exact["final"], max(row["spread"], exact["spread"])
    if row is exact:
        return "-"
    if min(row["seeds"], exact["seeds"]) < _SEEDS:
        return f"too few seeds: {difference / exact['final']:+.1%}"
    if abs(difference) <= noise:
        return "within"
    return f"{'above' if difference > 0 else 'below'} by {abs(difference) / exact['final']:.1%}"


def table(rows: list[dict]) -> str:
    """Markdown."""
    lines = [
        "| averaged by | seeds | validation loss | spread | beside fp32, same seeds | within the spread? | theory "
        "| kB a step |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['name']} | {row['seeds']} | {row['final']:.4f} | {row['spread']:.4f} | {row['apart']:+.4f} | {row['verdict']} "
            f"| {row['promise']} | {row['kilobytes']:.1f} |"
        )
    return "\n".join(lines)


def _smooth(losses: list[float]) -> list[float]:
    width = min(_SMOOTH, len(losses))
    sums = [sum(losses[:width])]
    for old, new in zip(losses, losses[width:], strict=False):
        sums.append(sums[-1] + new - old)
    return [total / width for total in sums]


def picture(rows: list[dict], path: Path) -> None:
    """Training loss by step: mean of the seeds, and the band between the least and the largest."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 3, figsize=(17, 5.2), sharey=True)
    groups = [rows[:4], [row for row in rows[4:] if row["promise"] == NOISIER]]
    groups.append([row for row in rows[4:] if row not in groups[1]])
    for panel, group in zip(panels, groups, strict=True):
        for row in rows[:1] + [row for row in group if row is not rows[0]]:
            curves = [_smooth(losses) for losses in row["losses"]]
            steps = range(len(row["losses"][0]) - len(curves[0]) + 1, len(row["losses"][0]) + 1)
            columns = list(zip(*curves, strict=True))
            color = "black" if row is rows[0] else None
            (line,) = panel.plot(steps, [statistics.mean(c) for c in columns], label=row["name"], color=color, lw=1.2)
            panel.fill_between(
                steps, [min(c) for c in columns], [max(c) for c in columns], color=line.get_color(), alpha=0.15
            )
        panel.set_xlabel("step")
        panel.grid(alpha=0.3)
        panel.legend()
    panels[0].set_ylabel(f"training loss in nats a character (mean of {_SMOOTH} steps)")
    figure.suptitle("Character-level transformer: mean of the seeds, band from the least to the largest")
    figure.tight_layout()
    figure.savefig(path, dpi=100)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _write(page: Path, section: str) -> None:
    """Replaces what stands between the marks, and nothing else; a page without marks becomes the section alone."""
    before, mark, rest = page.read_text().partition(_BEGIN) if page.exists() else ("", "", "")
    after = rest.partition(_END)[2] if mark else "\n"
    page.write_text(f"{before if mark else ''}{_BEGIN}\n\n{section}\n{_END}{after}")


def _section(rows: list[dict], runs: list[dict]) -> str:
    first = runs[0]
    seeds = sorted({run["seed"] for run in runs})
    promised = [row for row in rows[1:] if row["promise"] == SAME]
    kept = [row for row in promised if row["verdict"] == "within"]
    others = "; ".join(f"{row['name']}: {row['verdict']}" for row in rows[1:] if row["verdict"] != "within")
    missing = [name for codec, name, _ in WAYS if sum(run["codec"] == codec for run in runs) < _SEEDS]
    outcome = (
        f"**Not complete**: {len(missing)} of {len(WAYS)} ways have fewer than {_SEEDS} seeds, and so no verdict yet."
        if missing
        else f"{len(kept)} of {len(promised)} ways for which theory says the same loss are within the spread of it.\n"
        f"Outside: {others or 'none'}."
    )
    return f"""A character-level transformer ({first['parameters']:,} parameters, 64 characters of context) learns the King James
Bible (Debian's package `bible-kjv`, 4.1 million characters; the last 5 % are held back) with AdamW, gradient clipping and a
cosine schedule: {first['steps']} steps of 16 places, {first['ranks']} ranks, seeds {', '.join(map(str, seeds))}. All ways see the same
text in the same order and start from the same weights.

{table(rows)}

Validation loss: nats a character after the last step, mean of the seeds; spread: largest less smallest. "Within": the mean
is no farther from fp32's than the larger of the two spreads. kB a step: what a rank sends (for Gloo's ways computed, for
cgx counted). {outcome}

"Noise for more steps": an unbiased codec's error adds to the noise that batches have anyway, and the same loss takes more steps; after
as many steps the loss is higher, and most so where nine tenths of the gradient are left out (rand-k). "The same later": error feedback catches up after some multiple of 1 / ratio steps (100 for top-k 1 %), of which there are four here. AdamW
divides by the gradient's own size, noise included. `examples/README.md` compares with SGD, on images.

![Training loss](training.png)

Made by `python examples/train_chars.py --all --steps {first['steps']} --page docs/TRAINING.md` on
{datetime.date.today().isoformat()}, {_processor()}; every run's losses are in
[training.json](training.json). Runs are kept in `build/train_chars`; the command goes on where it was stopped.
"""
