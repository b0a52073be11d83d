"""The page's pictures, from its JSON: `python -m netbench_parts.pictures DIRECTORY`, with matplotlib."""

import argparse
import pathlib
import re

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402

from netbench_parts.figures import Figures, break_even  # noqa: E402
from netbench_parts.words import NAMES, rate_mbps  # noqa: E402

STYLE = {
    "gloo": ("black", "-"),
    "openmpi": ("dimgray", "--"),
    "gloo16": ("dimgray", ":"),
    "memcpy": ("silver", "-"),
    "none": ("tab:blue", "-"),
    "cast:bf16": ("tab:cyan", "-"),
    "maxmin:bits=8": ("tab:green", "-"),
    "maxmin:bits=4": ("tab:red", "-"),
    "topk:ratio=0.01": ("tab:purple", "-"),
    "auto": ("tab:orange", "--"),
}


def line(panel, name, xs, ys, **more):
    color, style = STYLE.get(name, (None, "-"))
    if xs:
        panel.plot(xs, ys, style, color=color, marker="o", markersize=3, label=NAMES.get(name, name), **more)


def finish(figure, path):
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)


def bandwidth(figures, path):
    steps = [step for step in figures.steps("sweep") if figures.rows(step)]
    limited = [step for step in steps if step["link"] != "loopback"]
    if not limited:
        return
    figure, panels = plt.subplots(1, 2, figsize=(13, 4.6))
    for name in figures.rows(limited[0]):
        if name == "gloo (2)":
            continue
        have = [step for step in limited if name in figures.rows(step)]
        xs = [rate_mbps(step["link"]) for step in have]
        line(panels[0], name, xs, [figures.ratio(step, name, "gloo").median for step in have])
        line(panels[1], name, xs, [figures.rows(step)[name]["algbw_GBps"] for step in have])
        if name != "gloo":
            for step in steps:
                if step["link"] == "loopback" and name in figures.rows(step):
                    panels[0].plot(
                        [xs[-1] * 2.5],
                        [figures.ratio(step, name, "gloo").median],
                        "s",
                        color=STYLE.get(name, (None,))[0],
                        markersize=4,
                    )
    even = break_even(figures)
    if even:
        panels[0].axvline(even, color="tab:red", alpha=0.4, linestyle=":")
        panels[0].annotate(
            f"4 bits break even with raw\nat {even / 1000:.1f} Gb/s",
            (even, panels[0].get_ylim()[1]),
            ha="right",
            va="top",
            fontsize=8,
        )
    for panel, label in zip(panels, ("times as fast as Gloo (squares: loopback)", "GB/s of tensor"), strict=True):
        panel.set(xscale="log", yscale="log", xlabel="link, Mb/s", ylabel=label)
        panel.grid(alpha=0.3, which="both")
    panels[1].legend(fontsize=8)
    size = max(figures.sizes(limited[0])) >> 20
    figure.suptitle(f"allreduce of {size} MiB, two ranks, against the link's rate")
    finish(figure, path)


def sizes(figures, path):
    figure, panels = plt.subplots(1, 2, figsize=(13, 4.6))
    for panel, (section, prefix, title) in zip(
        panels, (("shm", "", "shared memory"), ("1g", "sizes, ", "1 Gb/s")), strict=True
    ):
        points = {}
        for step in figures.steps(section):
            if step["label"].startswith(prefix):
                for row in step.get("document", {}).get("rows", []):
                    points.setdefault(row["name"], []).append((row["size_bytes"], row["algbw_GBps"]))
        for name, values in points.items():
            if name != "gloo (2)":
                line(panel, name, *map(list, zip(*sorted(values), strict=True)))
        panel.set(
            xscale="log", yscale="log", xlabel="bytes of tensor", ylabel="GB/s of tensor", title=f"two ranks, {title}"
        )
        panel.grid(alpha=0.3, which="both")
        panel.legend(fontsize=8)
    finish(figure, path)


def error(figures, path):
    figure, panels = plt.subplots(1, 2, figsize=(13, 5.2), sharey=True)
    for panel, kind in zip(panels, ("normal", "gradients"), strict=True):
        groups = {}
        for row in figures.rows(figures.step("codec", f"error, {kind}")).values():
            packed = ", packed indices" if "indices=packed" in row["name"] else ""
            family = re.split("[:|]", row["name"])[0] + packed
            if row["nmse"]:
                groups.setdefault(family, []).append((row["nmse"], row["ratio"], row["name"]))
        for family, points in groups.items():
            points.sort()
            panel.plot([p[0] for p in points], [p[1] for p in points], "o-", markersize=4, label=family, alpha=0.8)
            for x, y, name in points:
                detail = name.partition(":")[2].replace("bits=", "").replace("ratio=", "").replace(",indices=packed", "")
                panel.annotate(detail, (x, y), textcoords="offset points", xytext=(4, 4), fontsize=6)
        panel.set(xscale="log", yscale="log", xlabel="NMSE of one encoding", title=f"{kind} data")
        panel.grid(alpha=0.3, which="both")
    panels[0].set_ylabel("ratio of raw to encoded bytes")
    panels[0].legend(fontsize=8)
    finish(figure, path)


def training(figures, path):
    document = (figures.step("training", "training") or {}).get("document")
    if not document:
        return
    figure, panels = plt.subplots(1, 2, figsize=(13, 4.6))
    for k, way in enumerate(document["runs"][0]["ways"]):
        for run in document["runs"]:
            mine = run["ways"][k]
            label = mine["name"] if run is document["runs"][0] else None
            panels[0].plot(mine["seconds"], mine["accuracy"], color=f"C{k}", alpha=0.8, linewidth=1.2, label=label)
        reached = [run["ways"][k]["seconds_to_target"] for run in document["runs"]]
        values = [s for s in reached if s is not None]
        panels[1].plot(values, [k] * len(values), "o", color=f"C{k}")
        panels[1].annotate(way["name"], (0, k), xytext=(4, 6), textcoords="offset points", fontsize=8)
    panels[0].axhline(document["target"], color="gray", linestyle=":")
    panels[0].set(xlabel="seconds of training", ylabel="test accuracy", ylim=(0.5, 1), xscale="log")
    panels[0].legend(fontsize=8)
    panels[0].grid(alpha=0.3, which="both")
    panels[1].set(xlabel=f"seconds until {document['target']:.0%}, a point a seed", yticks=[], xlim=(0, None))
    panels[1].invert_yaxis()
    panels[1].grid(alpha=0.3)
    finish(figure, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=pathlib.Path)
    directory = parser.parse_args().directory
    figures = Figures(directory, [path.stem for path in directory.glob("*.json")])
    if figures.steps("sweep"):
        bandwidth(figures, directory / "bandwidth.png")
    if figures.steps("shm") or figures.steps("1g"):
        sizes(figures, directory / "size.png")
    if figures.steps("codec"):
        error(figures, directory / "error.png")
    training(figures, directory / "training.png")


if __name__ == "__main__":
    main()
