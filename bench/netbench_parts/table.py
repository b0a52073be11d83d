"""The table of floors and ambitions that the page begins with."""

from dataclasses import dataclass

from .claims import POLICY, UNCOMPRESSED
from .figures import Ratio, bytes_text, summary, worst
from .limits import FEEDBACK, SELECTION
from .plan import AUTO, DENSE, FAR, FOUR_BITS, PACKED, TOPK


@dataclass
class Line:
    """A line of the table. Higher is better."""

    metric: str
    floor: float
    ambition: float | None
    got: Ratio | None

    def verdict(self):
        if self.got is None:
            return "not measured"
        return "PASS" if max(self.got.median, round(self.got.median, 2)) >= self.floor else "BELOW"


def codec_share(figures, cache, name, field, dtype="float"):
    value = figures.codecs(cache, dtype).get(name, {}).get(field)
    return None if value is None else Ratio(value, value, value)


PLACES = {"warm": "in L2", "cold": "from DRAM"}


def worst_codec(figures, field, names, dtypes=("float",), caches=PLACES):
    """The least of several codecs."""
    found = []
    for cache in caches:
        for dtype in dtypes:
            for name in names:
                share = codec_share(figures, cache, name, field, dtype)
                if share:
                    share.where = f"{name}, {dtype}, {PLACES[cache]}"
                    found.append(share)
    return worst(found)


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
    for spec, words in ((TOPK, ""), (PACKED, ", packed indices")):
        lines.append(Line(f"same, n=4, top-k 1 %{words}", 12, 20, figures.ratio(step, spec, "gloo")))
    for section, title, floors in (
        ("10g", "64 MiB at 10 Gb/s", ((3, 5), (4, 7))),
        ("loopback", "64 MiB on loopback TCP", ((2, 3.5), (2.5, 5))),
    ):
        for n, (floor, ambition) in zip((2, 4), floors, strict=True):
            got = figures.ratio(figures.step(section, f"n={n}"), FOUR_BITS, "gloo")
            lines.append(Line(f"{title}, n={n}, 4 bits, against Gloo", floor, ambition, got))
    for section, title in (("1g", "1 Gb/s"), ("10g", "10 Gb/s")):
        for words, spec in (("uncompressed", "none"), ("4 bits", FOUR_BITS)):
            got = figures.ratio(figures.step(section, "n=2"), spec, f"{spec}@transport=gloo")
            lines.append(Line(f"64 MiB at {title}, n=2, {words}, our sockets against Gloo's as transport", 0.95, None, got))
    step = figures.step("1g", "n=8, shallow queues")
    for words, spec, floor in (("uncompressed", "none", UNCOMPRESSED), ("4 bits", FOUR_BITS, 1)):
        got = figures.ratio(step, spec, "gloo")
        lines.append(Line(f"4 MiB at 1 Gb/s, n=8, queues of 256 KiB, {words}, against Gloo", floor, None, got))
    far = figures.step("far", FAR)
    for words, spec, floor in (("uncompressed", "none", UNCOMPRESSED), ("4 bits", FOUR_BITS, 7)):
        got = figures.ratio(far, spec, "gloo")
        lines.append(Line(f"64 MiB at 1 Gb/s and a round trip of 40 ms, n=2, {words}, against Gloo", floor, None, got))
    lines.append(
        Line(
            "64 MiB, shared memory, n=2, 4 bits, two threads a rank against one",
            1,
            None,
            figures.ratio(figures.step("shm", "threads"), f"{FOUR_BITS}@threads=2", FOUR_BITS),
        )
    )
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
    for label, size in (("middle", 1 << 20), ("large", 4 << 20), ("large", 16 << 20), ("large", None)):
        got = figures.ratio(figures.step("shm", label), "none", "openmpi", size)
        lines.append(
            Line(f"shared memory, uncompressed, n=2, {bytes_text(size or 64 << 20)}, against Open MPI", 1.2, 2, got)
        )
    latency = figures.step("latency", "host")
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
    turns = figures.model()
    for name, words in (("codec", ""), ("at once", ", the codec's rates measured on all cores at once")):
        shares = [turn[f"{name}_us"] / turn["measured_us"] for turn in turns or () if name in turn]
        got = summary(shares) if shares else None
        lines.append(
            Line(f"8 ranks on these cores, 64 MiB, 4 bits, share of the cost model's speed{words}", 0.8, 1, got)
        )
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
    for cache, floors in (
        ("warm", {"natural": (0.4, 0.8), "bits": (0.25, 0.45), "add": (0.8, 1.0)}),
        ("cold", {"natural": (0.8, 1.3), "bits": (0.8, 1.2), "add": (0.85, 1.3)}),
    ):
        place = PLACES[cache]
        for work, field in (("encode", "encode_over_memcpy"), ("decode+add", "decode_add_over_memcpy")):
            for name in DENSE:
                kind = "add" if work != "encode" else "natural" if name.startswith("natural") else "bits"
                got = codec_share(figures, cache, name, field)
                lines.append(Line(f"{work} {place}, share of memcpy: `{name}`", *floors[kind], got))
    families = ("maxmin", "dither", "natdither")
    for work, field in (("encode", "encode_over_base"), ("decode+add", "decode_add_over_base")):
        for widths, floor in (((1, 2, 8), 0.7), ((3, 5, 6, 7), 0.5)):
            names = [f"{family}:bits={bits}" for family in families for bits in widths]
            got = worst_codec(figures, field, names)
            lines.append(Line(f"{work}, {'/'.join(map(str, widths))} bits against 4: the worst", floor, None, got))
    for cache, place in PLACES.items():
        got = worst_codec(figures, "encode_over_base", (*DENSE, TOPK), ("half", "bfloat16"), (cache,))
        lines.append(Line(f"encode {place}, fp16 and bf16 against fp32, an element: the worst", 1, None, got))
    for names, of in ((DENSE, ""), ((TOPK,), " of top-k 1 %")):
        lines += [feedback_line(figures, cache, names, of) for cache in PLACES]
    got = codec_share(figures, "cold", TOPK, "encode_over_nth_element")
    lines.append(Line("top-k 1 % exact, against nth_element", SELECTION, 29, got))
    torch = (figures.step("codec", "torch.topk") or {}).get("document", {}).get("ratios")
    lines.append(Line("top-k 1 % exact, against torch.topk", 20, 54, summary(torch) if torch else None))
    return lines


def feedback_line(figures, cache, names, of):
    """What error feedback costs is a share of encoding's time; here as the speed that is left."""
    costs = []
    for name in names:
        cost = figures.codecs(cache).get(name, {}).get("feedback_cost")
        if cost is not None:
            left = 1 / (1 + cost)
            costs.append(Ratio(left, left, left, f"{name}: {cost:.0%}"))
    return Line(
        f"encode{of} {PLACES[cache]} with error feedback (at most {FEEDBACK:.0%} more time), speed left{'' if of else ': the worst'}",
        1 / (1 + FEEDBACK),
        None,
        worst(costs),
    )


def policy_lines(figures):
    lines = [
        Line(
            "compression off, against Gloo: the worst of all links and sizes",
            UNCOMPRESSED,
            1.3,
            worst(figures.everywhere("none", "gloo")),
        )
    ]
    for models, of in ((False, "links and sizes"), (True, "models' layers")):
        best, none = figures.auto_against_best(models), figures.everywhere(AUTO, "none", models)
        lines.append(Line(f"automatic policy, against the best fixed choice: the worst of all {of}", POLICY, 0.95, worst(best)))
        lines.append(Line(f"automatic policy, against uncompressed: the worst of all {of}", UNCOMPRESSED, 1, worst(none)))
    return lines
