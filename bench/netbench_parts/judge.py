"""From rows to figures: medians of per-round ratios with their quartiles, the control, and the table of floors."""

import json
import statistics
from dataclasses import dataclass

from .plan import AUTO, FIXED, FOUR_BITS, TOPK
from .runner import CONTROL


@dataclass
class Ratio:
    median: float
    low: float  # quartiles over rounds
    high: float
    where: str = ""

    def __str__(self):
        return f"{self.median:.2f}x ({self.low:.2f}-{self.high:.2f})"


def quantile(values, share):
    values = sorted(values)
    at = share * (len(values) - 1)
    below = int(at)
    above = min(below + 1, len(values) - 1)
    return values[below] + (values[above] - values[below]) * (at - below)


def summary(values, where=""):
    return Ratio(statistics.median(values), quantile(values, 0.25), quantile(values, 0.75), where)


class Figures:
    """All sections' JSON. Sizes of None mean the largest that a step has."""

    def __init__(self, directory, names):
        self.sections = {}
        for name in names:
            path = directory / f"{name}.json"
            if path.exists():
                self.sections[name] = json.loads(path.read_text())

    def steps(self, section):
        return self.sections.get(section, {}).get("steps", [])

    def step(self, section, label):
        return next((step for step in self.steps(section) if step["label"] == label), None)

    def rows(self, step, size=None):
        rows = (step or {}).get("document", {}).get("rows", [])
        if not rows:
            return {}
        size = size or max(row["size_bytes"] for row in rows)
        return {row["name"]: row for row in rows if row["size_bytes"] == size}

    def sizes(self, step):
        return sorted({row["size_bytes"] for row in step.get("document", {}).get("rows", [])})

    def ratio(self, step, name, over, size=None):
        """How many times as fast as `over`."""
        rows = self.rows(step, size)
        if name not in rows or over not in rows:
            return None
        pairs = zip(rows[over]["rounds_us"], rows[name]["rounds_us"], strict=True)
        return summary([base / mine for base, mine in pairs])

    def everywhere(self, name, over):
        """The ratios of every step and size that have both, as a list."""
        out = []
        for section, content in self.sections.items():
            for step in content["steps"]:
                for size in self.sizes(step):
                    ratio = section != "codec" and self.ratio(step, name, over, size)
                    if ratio:
                        ratio.where = f"{section}, {step['label']}, {bytes_text(size)}"
                        out.append(ratio)
        return out

    def auto_against_best(self):
        out = []
        for section, content in self.sections.items():
            for step in content["steps"]:
                for size in self.sizes(step) if section not in ("codec", "layers") else []:
                    rows = self.rows(step, size)
                    fixed = [rows[name] for name in FIXED if name in rows]
                    if AUTO in rows and len(fixed) > 1:
                        best = min(fixed, key=lambda row: row["time_us"])
                        pairs = zip(best["rounds_us"], rows[AUTO]["rounds_us"], strict=True)
                        out.append(
                            summary(
                                [a / b for a, b in pairs],
                                f"{section}, {step['label']}, {bytes_text(size)}, best {best['name']}",
                            )
                        )
        return out

    def controls(self):
        return self.everywhere("gloo (2)", "gloo")

    def reasons(self):
        """What was skipped or failed, in words."""
        out = []
        for section, content in self.sections.items():
            for step in content["steps"]:
                for word in ("skipped", "failed"):
                    if word in step:
                        out.append(f"{section}, {step['label']}: {word}: {step[word]}")
                for name, reason in (step.get("document", {}).get("skipped") or {}).items():
                    out.append(f"{section}, {step['label']}: {name}: skipped: {reason}")
        return out

    def model(self):
        """The cost model's time for the crowd, in us, and the figures that go in; None where they are missing.

        With n ranks on c < n cores every core does the codec work of n / c ranks, and what a rank encodes, another
        reads from memory where it lies: S bytes encoded, (n-1)/n S decoded and added, S decoded."""
        step, codec = self.step("crowd", "n=8"), self.rows(self.step("crowd", "codec"))
        row = self.rows(step).get(FOUR_BITS)
        if not row or FOUR_BITS not in codec:
            return None
        rates = codec[FOUR_BITS]
        n, cores = step["ranks"], self.sections["crowd"]["environment"]["cores"]
        encode, decode = rates["encode_GBps"], rates["decode_GBps"]
        add = rates.get("decode_add_GBps", decode)
        work = row["size_bytes"] / 1000 * (1 / encode + (n - 1) / n / add + 1 / decode)
        return {
            "model_us": max(1, n / cores) * work,
            "measured_us": row["time_us"],
            "encode": encode,
            "decode": decode,
            "add": add,
            "ranks": n,
            "cores": cores,
            "rounds_us": row["rounds_us"],
            "bytes": row["size_bytes"],
        }


def bytes_text(count):
    for unit, power in (("MiB", 20), ("KiB", 10)):
        if count >= 1 << power and count % (1 << power) == 0:
            return f"{count >> power} {unit}"
    return f"{count} B"


def worst(ratios):
    return min(ratios, key=lambda ratio: ratio.median) if ratios else None


@dataclass
class Line:
    """A line of the table. Higher is better."""

    metric: str
    floor: float
    ambition: float
    got: Ratio | None
    percent: bool = False

    def verdict(self):
        if self.got is None:
            return "not measured"
        return "PASS" if round(self.got.median, 2) >= self.floor else "BELOW"


def codec_share(figures, label, name, field):
    row = figures.rows(figures.step("codec", label)).get(name)
    if not row or row.get(field) is None:
        return None
    value = row[field]
    return Ratio(value, *(row.get(field + "_quartiles") or (value, value)))


def table(figures):
    """performance.md's table, as far as it is about CPUs."""
    lines = []
    bits = {
        "4 bits": (FOUR_BITS, 7.0, 7.7),
        "2 bits": ("maxmin:bits=2", 13, 15),
        "8 bits": ("maxmin:bits=8", 3.7, 3.94),
        "nat9": ("natural", 3.4, 3.55),
        "nat8": ("natural8", 3.8, 4.0),
    }
    for n in (2, 4):
        step = figures.step("1g", f"n={n}")
        for name, (spec, floor, ambition) in bits.items():
            lines.append(
                Line(
                    f"64 MiB at 1 Gb/s, n={n}, {name}, against Gloo", floor, ambition, figures.ratio(step, spec, "gloo")
                )
            )
    step = figures.step("1g", "n=4")
    lines.append(Line("same, n=4, top-k 1 %", 12, 20, figures.ratio(step, TOPK, "gloo")))
    for section, title, floors in (
        ("10g", "64 MiB at 10 Gb/s", ((3, 5), (4, 7))),
        ("loopback", "64 MiB on loopback TCP", ((2, 3.5), (2.5, 5))),
    ):
        for n, (floor, ambition) in zip((2, 4), floors, strict=True):
            got = figures.ratio(figures.step(section, f"n={n}"), FOUR_BITS, "gloo")
            lines.append(Line(f"{title}, n={n}, 4 bits, against Gloo", floor, ambition, got))
    large = figures.step("shm", "large")
    for name, over, floor, ambition in (
        ("Gloo", "gloo", 6, 12),
        ("Open MPI", "openmpi", 3, 6),
        ("one memcpy by every rank", "memcpy", 0.5, 0.8),
    ):
        lines.append(
            Line(
                f"shared memory, 64 MiB, n=2, 4 bits, against {name}",
                floor,
                ambition,
                figures.ratio(large, FOUR_BITS, over),
            )
        )
    for label, size in (("middle", 1 << 20), ("large", 16 << 20), ("large", None)):
        got = figures.ratio(figures.step("shm", label), "none", "openmpi", size)
        lines.append(
            Line(f"shared memory, uncompressed, n=2, {bytes_text(size or 64 << 20)}, against Open MPI", 1.2, 2, got)
        )
    latency = figures.step("latency", "n=2")
    lines.append(
        Line(
            "64 KiB, shared memory, n=2, uncompressed, against Gloo",
            5,
            10,
            figures.ratio(latency, "none", "gloo", 64 << 10),
        )
    )
    lines.append(Line("64 KiB, same, against Open MPI", 0.67, 1, figures.ratio(latency, "none", "openmpi", 64 << 10)))
    lines.append(Line("4 KiB, same, against Open MPI", 0.5, 1, figures.ratio(latency, "none", "openmpi", 4 << 10)))
    model = figures.model()
    share = summary([model["model_us"] / us for us in model["rounds_us"]]) if model else None
    lines.append(Line("8 ranks on these cores, 64 MiB, 4 bits, share of the cost model's speed", 0.8, 1, share))
    lines.append(
        Line(
            "64 MiB at 1 Gb/s, n=2, 4 bits, against a vectorised 16-bit hook",
            3.5,
            3.9,
            figures.ratio(figures.step("1g", "n=2"), FOUR_BITS, "gloo16"),
        )
    )
    return lines + codec_lines(figures) + policy_lines(figures)


def codec_lines(figures):
    lines = []
    for label, title, floors in (
        ("in L2", "in L2", (0.4, 0.8, 0.25, 0.45, 0.8, 1.0)),
        ("from memory", "from DRAM", (0.8, 1.3, 0.8, 1.2, 0.85, 1.3)),
    ):
        for name, spec, k in (
            ("natural", "natural", 0),
            ("natural8", "natural8", 0),
            ("4 bits", FOUR_BITS, 2),
            ("4-bit dither", "dither:bits=4", 2),
            ("4-bit natural dither", "natdither:bits=4", 2),
        ):
            lines.append(
                Line(
                    f"encode {title}, share of memcpy: {name}",
                    *floors[k : k + 2],
                    codec_share(figures, label, spec, "encode_over_memcpy"),
                )
            )
        for name, spec in (("natural", "natural"), ("natural8", "natural8"), ("4 bits", FOUR_BITS)):
            lines.append(
                Line(
                    f"decode+add {title}, share of memcpy: {name}",
                    *floors[4:],
                    codec_share(figures, label, spec, "decode_add_over_memcpy"),
                )
            )
    got = codec_share(figures, "from memory", TOPK, "encode_over_nth_element")
    lines.append(Line("top-k 1 % exact, against nth_element", 15, 29, got))
    torch = (figures.step("codec", "torch.topk") or {}).get("document", {}).get("ratios")
    lines.append(Line("top-k 1 % exact, against torch.topk", 20, 54, summary(torch) if torch else None))
    return lines


def policy_lines(figures):
    lines = [
        Line(
            "compression off, against Gloo: the worst of all links and sizes",
            0.95,
            1.3,
            worst(figures.everywhere("none", "gloo")),
        )
    ]
    lines.append(
        Line(
            "automatic policy, against the best fixed choice: the worst", 0.9, 0.95, worst(figures.auto_against_best())
        )
    )
    lines.append(
        Line("automatic policy, against uncompressed: the worst", 0.95, 1, worst(figures.everywhere(AUTO, "none")))
    )
    return lines


def control_outside(figures, step):
    """Of one step: the Gloo/Gloo ratios outside 0.9-1.1."""
    ratios = [(size, figures.ratio(step, "gloo (2)", "gloo", size)) for size in figures.sizes(step)]
    return [(size, ratio) for size, ratio in ratios if ratio and not CONTROL[0] <= ratio.median <= CONTROL[1]]
