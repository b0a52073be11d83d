"""From rows to figures: medians of per-round ratios with their quartiles, and the control."""

import json
import math
import statistics
from dataclasses import dataclass

from .plan import AUTO, FIXED, FOUR_BITS, WAYS
from .runner import CONTROL
from .words import rate_mbps


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

    def environment(self, section):
        return self.sections[section]["environment"]

    def codecs(self, cache, dtype="float"):
        """The codec section's rows of one kind, by codec; not those that are there for their errors alone."""
        steps = [step for step in self.steps("codec") if not step["label"].startswith("error")]
        rows = [row for step in steps for row in step.get("document", {}).get("rows", [])]
        return {row["name"]: row for row in rows if (row["cache"], row["type"]) == (cache, dtype)}

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

    def places(self, models=None):
        """Every step and size of collectives: (section, step, size, words for a reader). models: only all layers of models
        (True), or all but those (False)."""
        for section, content in self.sections.items():
            left_out = section == "codec" or models == (section != "layers")
            for step in [] if left_out else content["steps"]:
                for size in self.sizes(step):
                    yield section, step, size, f"{section}, {step['label']}, {bytes_text(size)}"

    def second_look(self, step, size):
        """The record that decides about a size that seemed to break a claim; else the step's own."""
        for record in step.get("again", []):
            if self.sizes(record) == [size]:
                return record
        return step

    def everywhere(self, name, over, models=None):
        """The ratios of every step and size that have both, as a list."""
        out = []
        for _, step, size, where in self.places(models):
            # A second look has only what its claim is about.
            ratio = self.ratio(self.second_look(step, size), name, over, size) or self.ratio(step, name, over, size)
            if ratio:
                ratio.where = where
                out.append(ratio)
        return out

    def best_fixed(self, step, size):
        """What the automatic policy could have chosen and was the fastest; None where it is not compared."""
        rows = self.rows(step, size)
        fixed = [name for name in (*FIXED, *WAYS) if name in rows]
        return min(fixed, key=lambda name: rows[name]["time_us"]) if AUTO in rows and len(fixed) > 1 else None

    def auto_against_best(self, models=None):
        """A second look is at what was the best in the first one, so that no luck of its own is chosen by."""
        out = []
        for _, step, size, where in self.places(models):
            best = self.best_fixed(step, size)
            if best:
                ratio = self.ratio(self.second_look(step, size), AUTO, best, size)
                ratio.where = f"{where}, best {best}"
                out.append(ratio)
        return out

    def controls(self):
        ratios = [self.ratio(step, "gloo (2)", "gloo", size) for _, step, size, _ in self.places()]
        return [ratio for ratio in ratios if ratio]

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
        """The cost model's times for the crowd, in us, and what was measured, by turns; None where they are missing.

        With n ranks on c < n cores every core does the codec work of n / c ranks, and what a rank encodes, another
        reads from memory where it lies: S bytes encoded, (n-1)/n S decoded and added, S decoded. Its rates are those
        of one core while the others rest ("codec"), and those of all cores while all work ("at once")."""
        turns = []
        for step in self.steps("crowd"):
            if not step["label"].startswith("alone"):
                continue
            row = self.rows(step).get(FOUR_BITS)
            turn = {"measured_us": row["time_us"]} if row else {}
            for name in ("codec", "at once"):
                rates = self.rows(self.step("crowd", step["label"].replace("alone", name))).get(FOUR_BITS)
                if row and rates:
                    turn[name] = rates
                    turn[f"{name}_us"] = self.crowd_us(rates, row["size_bytes"], step["ranks"])
            if "codec" in turn:
                turns.append(turn)
        return turns or None

    def crowd_us(self, rates, size, n):
        add = rates.get("decode_add_GBps", rates["decode_GBps"])
        work = size / 1000 * (1 / rates["encode_GBps"] + (n - 1) / n / add + 1 / rates["decode_GBps"])
        return max(1, n / self.environment("crowd")["cores"]) * work


def bytes_text(count):
    for unit, power in (("MiB", 20), ("KiB", 10)):
        if count >= 1 << power and count % (1 << power) == 0:
            return f"{count >> power} {unit}"
    return f"{count} B"


def worst(ratios):
    return min(ratios, key=lambda ratio: ratio.median) if ratios else None


def control_outside(figures, step):
    """Of one step: the Gloo/Gloo ratios outside 0.9-1.1."""
    ratios = [(size, figures.ratio(step, "gloo (2)", "gloo", size)) for size in figures.sizes(step)]
    return [(size, ratio) for size, ratio in ratios if ratio and not CONTROL[0] <= ratio.median <= CONTROL[1]]


def break_even(figures, name=FOUR_BITS, over="none"):
    """Mb/s at which the codec stops paying against cgx without one; None if it always pays up to the fastest link."""
    points = []
    for step in figures.steps("sweep"):
        ratio = rate_mbps(step["link"]) and figures.ratio(step, name, over)
        if ratio:
            points.append((rate_mbps(step["link"]), ratio.median))
    points.sort()
    for (x0, y0), (x1, y1) in zip(points, points[1:], strict=False):
        if y0 >= 1 > y1:
            return math.exp(math.log(x0) + (math.log(x1) - math.log(x0)) * math.log(y0) / (math.log(y0) - math.log(y1)))
    return None
