"""docs/BENCHMARKS.md from the JSON beside it: no figure is ever copied by hand."""

import statistics

from .claims import MORE, MORE_OF_OWN, POLICY, second_looks
from .figures import break_even, bytes_text, control_outside
from .limits import limits
from .plan import FOUR_BITS, MODELS, TOPK
from .table import table
from .training import training
from .words import NAMES, markdown, name_of, number, rate_mbps, time_text

RATES = ("encode", "decode_add", "decode")
BURST = 128 << 10  # of scripts/netns at rates up to 2 Gb/s


class Page:
    def __init__(self, figures, pictures, others=()):
        self.figures, self.pictures = figures, pictures
        self.others = others  # directories with other machines' pages, below that of the pictures
        self.lines = []

    def say(self, *lines):
        self.lines.extend(lines)

    def text(self, picture_directory):
        self.directory = picture_directory
        self.head()
        self.table()
        self.picture("bandwidth", "Speed against the link's rate")
        self.break_even()
        self.picture("size", "Speed against size")
        for section, label in (
            ("1g", "n=2"),
            ("1g", "n=4"),
            ("1g", "n=8, shallow queues"),
            ("10g", "n=2"),
            ("10g", "n=4"),
            ("loopback", "n=2"),
            ("loopback", "n=4"),
            ("shm", "large"),
        ):
            self.allreduce(section, label)
        for step in self.figures.steps("far"):
            self.allreduce("far", step["label"])
        self.latency()
        self.crowd()
        self.layers()
        self.codecs()
        self.training()
        self.tail()
        return "\n".join(self.lines).rstrip() + "\n"

    def head(self):
        sections = self.figures.sections
        quick = any(section["quick"] for section in sections.values())
        dates = sorted({section["date"] for section in sections.values()})
        env = next(iter(sections.values()))["environment"] if sections else {}
        self.say(
            "# Benchmarks",
            "",
            "<!-- Made by bench/netbench from docs/benchmarks/*.json. Do not edit: run it again. -->",
            "",
        )
        if quick:
            self.say("**A quick run: it shows that everything works. Its figures mean nothing.**", "")
        caches = ", ".join(f"{name} {size}" for name, size in env.get("caches", {}).items())
        self.say(
            f"Measured {' and '.join(dates)} with `bench/netbench` on {env.get('cores')} cores of {env.get('cpu')} "
            f"({', '.join(env.get('instructions', []))}; {caches}; {env.get('memory_GiB')} GiB), {env.get('kernel')}; "
            f"{env.get('cgx')}, Gloo {env.get('libgloo-dev')}, "
            f"Open MPI {env.get('openmpi-bin')}, PyTorch {env.get('torch')}. "
            "Sections are of several runs; the load is that of the minute before:",
            "",
            "| section | commit | load | command |",
            "|---|---|---|---|",
            *(
                f"| {name} | {section['environment'].get('commit')} | "
                f"{section['environment'].get('load_average_before', 'several, from compilers')} | "
                f"`{section.get('command', '-')}` |"
                for name, section in sections.items()
            ),
            "",
            "Contenders take turns within every round; a ratio is the median of the rounds' ratios, with quartiles in "
            "brackets. Every rank is a process; data are random normal numbers and differ between ranks; buffers "
            "rotate so that caches are no warmer than in use. Links are network namespaces whose two directions are "
            "limited by token buckets (`scripts/netns`), where everybody uses TCP with cubic, as on loopback sockets; beside "
            "shared memory Gloo runs over the host's own loopback, as the host is set up. Every row's result was "
            "compared with the exact one: NMSE is |error|²/|exact|², no element was outside its codec's declared "
            "bound unless a row says so, and all replicas were identical.",
            "",
        )
        if self.others:
            links = ", ".join(f"[{name}]({self.directory}{name}/BENCHMARKS.md)" for name in self.others)
            self.say(f"Other machines, perhaps of earlier commits: {links}.", "")
        self.controls()

    def controls(self):
        controls = self.figures.controls()
        outside = [
            (section, step["label"], bytes_text(size), ratio)
            for section, content in self.figures.sections.items()
            for step in content["steps"]
            for size, ratio in control_outside(self.figures, step)
        ]
        if controls:
            medians = [ratio.median for ratio in controls]
            self.say(
                f"Control: Gloo against a second Gloo in the same rounds, {len(controls)} times: "
                f"{min(medians):.2f} to {max(medians):.2f}, "
                f"{len(controls) - len(outside)} of them within 0.9-1.1.",
                "",
            )
        for section, label, size, ratio in outside:
            self.say(
                f"- **CONTROL OUTSIDE 0.9-1.1: {section}, {label}, {size}: {ratio}. "
                "Do not trust this row's ratios beyond that.**"
            )
        if outside:
            self.say("")

    def table(self):
        self.say("## Floors and ambitions", "")
        rows = []
        for line in table(self.figures):
            where = f" [{line.got.where}]" if line.got and line.got.where else ""
            rows.append(
                [
                    line.metric + where,
                    f"{line.floor:.3g}x",
                    f"{line.ambition:g}x" if line.ambition else "-",
                    str(line.got) if line.got else "-",
                    line.verdict(),
                ]
            )
        self.say(*markdown(["metric", "floor", "ambition", "measured", ""], rows))
        bounds = limits(self.figures)
        if bounds:
            self.say(
                "What moving the bytes alone takes here, by figures of the same run:", "", *(f"- {text}" for text in bounds), ""
            )

        self.policy()

    def policy(self):
        """The worst of many rows says little where equal contenders differ."""
        rows, controls = self.figures.auto_against_best(), self.figures.controls()
        if rows and controls:
            behind = sum(row.median < POLICY for row in rows)
            self.say(
                f"Automatic policy against the fixed choice that turned out the best, {len(rows)} rows: "
                f"{statistics.median(row.median for row in rows):.2f}x in the middle, below {POLICY}x in {behind}. Equal "
                f"contenders differ as well: the second Gloo is below {POLICY}x of the first in "
                f"{sum(c.median < POLICY for c in controls)} rows of {len(controls)}.",
                "",
            )
        looks = second_looks(self.figures)
        if looks:
            self.say(
                "What is said of all rows, noise alone breaks in some. Those were measured once more, alone and for "
                f"{MORE} times the rounds ({MORE_OF_OWN} times where Gloo is not beside them), and this second look is what counts above:",
                "",
                *(f"- {look}" for look in looks),
                "",
            )

    def picture(self, name, title):
        if f"{name}.png" in self.pictures:
            self.say(f"![{title}]({self.directory}{name}.png)", "")

    def break_even(self):
        steps = self.figures.steps("sweep")
        if not any(self.figures.rows(step) for step in steps):
            return
        parts = []
        for over, words in (("none", "cgx without compression"), ("gloo", "Gloo")):
            even = break_even(self.figures, over=over)
            rates = [
                rate_mbps(step["link"])
                for step in steps
                if rate_mbps(step["link"]) and self.figures.ratio(step, FOUR_BITS, over)
            ]
            if rates:
                parts.append(
                    f"against {words} "
                    + (
                        f"up to {even / 1000:.2g} Gb/s"
                        if even
                        else f"on every link measured, up to {max(rates) / 1000:g} Gb/s"
                    )
                )
        self.say(
            f"Break-even: 4 bits pay {' and '.join(parts)}. "
            "Where links outrun this machine's cores, the cores set the speed, not the link." + self.burst(steps),
            "",
        )

    def burst(self, steps):
        """Top-k's messages are hardly longer than what a token bucket lets through at once."""
        rows = [self.figures.rows(step).get(TOPK) for step in steps]
        sent = next((row["wire_bytes"] for row in rows if row), None)
        if sent is None or sent > 8 * BURST:
            return ""
        return (
            f" Top-k sends {sent / 1e6:.2f} MB here, and the links let {BURST / 1e6:.2f} MB through at once: its line "
            "flatters it."
        )

    def allreduce(self, section, label):
        step = self.figures.step(section, label)
        rows = self.figures.rows(step)
        if not rows:
            return
        size = bytes_text(next(iter(rows.values()))["size_bytes"])
        place = {"host": "shared memory", "loopback": "loopback sockets"}.get(step["link"], step["link"])
        label = [part for part in step["label"].split(", ") if not part.endswith("M")]  # the size is said
        detail = (", ", ", ".join(label)) if section == "far" else step["label"].partition(", ")[1:]
        self.say(f"### {size}, {step['ranks']} ranks, {place}{''.join(detail)}", "")
        self.say(*self.contenders(step, rows))
        self.command(step)

    def contenders(self, step, rows):
        others = [name for name in ("gloo", "gloo16", "openmpi", "memcpy") if name in rows]
        cells = []
        for name, row in rows.items():
            if name != "gloo (2)":
                sent = f"{row['wire_bytes'] / 1e6:.2f} MB" if row["wire_bytes"] else "-"
                wrong = "-" if row["wrong"] is None else str(row["wrong"])
                ratios = [str(self.figures.ratio(step, name, over)) for over in others]
                cells.append([name_of(name), time_text(row["time_us"]), *ratios, sent, number(row["nmse"]), wrong])
        against = [f"against {NAMES[name]}" for name in others]
        return markdown(["", "time", *against, "sent a rank", "NMSE", "#wrong"], cells)

    def command(self, step):
        self.say("```", step["command"], "```", "")

    def latency(self):
        for link, place in (("host", "shared memory"), ("loopback", "loopback sockets")):
            step = self.figures.step("latency", link)
            sizes = self.figures.sizes(step) if step else []
            if not sizes:
                continue
            names = [name for name in self.figures.rows(step) if name != "gloo (2)"]
            self.say(f"### Small messages, two ranks, {place}", "")
            rows = [(size, self.figures.rows(step, size)) for size in sizes]
            cells = [[bytes_text(size), *(time_text(row[name]["time_us"]) for name in names)] for size, row in rows]
            self.say(*markdown(["size", *map(name_of, names)], cells))
            self.command(step)

    def crowd(self):
        step, turns = self.figures.step("crowd", "n=8"), self.figures.model()
        rows = self.figures.rows(step)
        if not rows:
            return
        size = bytes_text(next(iter(rows.values()))["size_bytes"])
        self.say(
            f"### {size}, {step['ranks']} ranks on {self.figures.environment('crowd')['cores']} cores, shared memory",
            "",
        )
        self.say(*self.contenders(step, rows))
        if turns:
            self.say(
                "Cost model: n ranks on c < n cores share them, and in shared memory nothing else takes time: "
                "T = n/c S (1/E + (n-1)/n/Da + 1/D), with E, Da and D the rates of a core that encodes, decodes and "
                "adds, and decodes from memory.",
                "",
            )
            for name, words in (("codec", "while the other cores rest"), ("at once", "while all cores do the same")):
                self.model(turns, name, words)
            self.say("")
        self.command(step)

    def model(self, turns, name, words):
        turns = [turn for turn in turns if name in turn]
        if not turns:
            return
        rates = [statistics.median(turn[name][f"{work}_GBps"] for turn in turns) for work in RATES]
        took, predicted = (statistics.median(turn[key] for turn in turns) for key in ("measured_us", f"{name}_us"))
        share = statistics.median(turn[f"{name}_us"] / turn["measured_us"] for turn in turns)
        self.say(
            f"- {words}: {', '.join(f'{rate:.3g}' for rate in rates)} GB/s, which gives {time_text(predicted)}; measured "
            f"{time_text(took)}, {share:.2f} of the model's speed (medians of {len(turns)} turns of all three).",
        )

    def layers(self):
        steps = [step for step in self.figures.steps("layers") if self.figures.rows(step)]
        if not steps:
            return
        self.say(
            "## All gradients of a model",
            "",
            "Each parameter a layer, in the buckets of PyTorch's DDP (1 MiB, then 25 MiB, last parameter first). "
            'Layers of one dimension or below 1024 elements stay uncompressed. "cgx" makes one call a bucket; '
            '"a call a layer" shows what fusing gains. The others reduce the flat buckets.',
            "",
        )
        cells = []
        for step in steps:
            rows = self.figures.rows(step)
            title = ", ".join(
                [MODELS.get(step["document"]["model"], step["document"]["model"]), *step["label"].split(", ")[1:]]
            )
            for name, row in rows.items():
                if name != "gloo (2)":
                    apart = self.figures.ratio(step, name, name + ", a call a layer")
                    cells.append(
                        [
                            title,
                            name_of(name),
                            time_text(row["time_us"]),
                            str(self.figures.ratio(step, name, "gloo")),
                            str(apart) if apart else "-",
                        ]
                    )
                    title = ""
        self.say(*markdown(["", "", "time", "against Gloo", "against a call a layer"], cells))
        self.command(steps[0])

    def codecs(self):
        places = (("L2", "warm"), ("memory", "cold"))
        rows = {cache: self.figures.codecs(cache) for _, cache in places}
        if not rows["warm"]:
            return
        self.say("## Codecs on one core", "", self.memcpy(rows), "")
        cells = []
        for name, warm in rows["warm"].items():
            line = [f"`{name}`"]
            for _, cache in places:
                row = rows[cache].get(name, {})
                for work in ("encode", "decode_add", "decode"):
                    rate, share = row.get(f"{work}_GBps"), row.get(f"{work}_over_memcpy")
                    line.append("-" if rate is None else f"{rate:.3g} ({number(share, 2)})")
            cells.append([*line, f"{warm['ratio']:.2f}", number((rows["cold"].get(name) or warm)["nmse"])])
        works = [f"{work}, {place}" for place, _ in places for work in ("encode", "decode+add", "decode")]
        self.say(*markdown(["codec", *works, "ratio", "NMSE"], cells))
        self.command(self.figures.steps("codec")[0])
        self.picture("error", "Ratio against error")

    @staticmethod
    def memcpy(rows):
        copies = {
            cache: statistics.median(row["memcpy_GBps"] for row in rows[cache].values())
            for cache in rows
            if rows[cache]
        }
        return (
            "GB/s of fp32 and, in brackets, the share of memcpy's speed, same bytes, same rounds. memcpy: "
            + ", ".join(
                f"{rate:.3g} GB/s {'in L2' if cache == 'warm' else 'from memory'}" for cache, rate in copies.items()
            )
            + "."
        )

    def training(self):
        step = self.figures.step("training", "training")
        if not (step or {}).get("document"):
            return
        self.say("## Time to accuracy", "", *training(step))
        self.picture("training", "Time to accuracy")
        self.command(step)

    def tail(self):
        reasons = self.figures.reasons()
        self.say(
            "## Not measured",
            "",
            *(
                f"- {reason}"
                for reason in reasons or ["Nothing was skipped; kernels on GPUs are not part of this page."]
            ),
            "",
            "## Again",
            "",
            "```",
            "bench/netbench                  # everything: 25 minutes, as root, on an idle machine",
            "bench/netbench --quick          # two minutes: that it works",
            "bench/netbench --only shm,1g    # some sections; the page keeps the others' figures",
            "```",
            "",
        )
