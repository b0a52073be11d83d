"""What is measured: sections of steps, each step one command. A section's figures live in one JSON file."""

from dataclasses import dataclass, field, replace

FOUR_BITS = "maxmin:bits=4"
TOPK = "topk:ratio=0.01"
PACKED = f"{TOPK},indices=packed"
DENSE = ("natural", "natural8", FOUR_BITS, "dither:bits=4", "natdither:bits=4")
AUTO = "auto"
FAR = "a round trip of 40 ms, 64M"
# What "auto" may choose from within its default error (but for 6 bits, which lie between 8 and 4 in bytes and in work), and
# so has to be no slower than; the same by algorithms that a caller may fix.
FIXED = ["none", "cast:bf16", "maxmin:bits=8", FOUR_BITS]
WAYS = [f"{spec}@algorithm={way}" for spec in ("none", FOUR_BITS) for way in ("scatter_gather", "allgather")]
OVER_GLOO = [f"{spec}@transport=gloo" for spec in ("none", FOUR_BITS)]
MODELS = {"resnet50": "ResNet-50", "gpt2": "GPT-2 124M"}
SWEEP = ["100mbit", "250mbit", "500mbit", "1gbit", "2.5gbit", "5gbit", "10gbit", "25gbit"]


@dataclass
class Step:
    label: str
    words: list  # of cgx-bench; of a Python script where `script` is given
    ranks: int = 2
    link: str = "host"  # "host", "loopback", or a rate
    script: str = ""
    realtime: bool = True  # False: at ordinary priority even with --realtime
    queue: str = ""  # of a link; "": 50 ms of its rate
    delay: str = ""  # of a packet, each way, in milliseconds
    flow: str = ""  # the rate of a connection; "": the link's
    streams: int = 1  # connections of cgx between two ranks
    cores: int = 1  # a rank: where that is several, skipped if there are fewer


@dataclass
class Section:
    title: str
    steps: list = field(default_factory=list)


def baselines(*names):
    return [word for name in names for word in ("--baseline", name)]


def codecs(*specs):
    return [word for spec in specs for word in ("--codec", spec)]


CONTROL = baselines("gloo", "gloo")


class Plan:
    """The sections there are. `quick` shrinks everything; `sockets` is cgx's transport between hosts."""

    def __init__(self, quick, sockets, auto):
        self.quick, self.sockets = quick, sockets
        self.auto = [AUTO] if auto else []
        self.rounds = 3 if quick else 7
        self.big = "4M" if quick else "64M"

    def allreduce(self, label, link, ranks, sizes, iterations, contenders, warmup=1):
        """sizes: "64M", or (smallest, largest, factor)."""
        low, high, factor = sizes if isinstance(sizes, tuple) else (sizes, sizes, 2)
        words = ["allreduce", "-g", str(ranks), "-b", low, "-e", high, "-f", str(factor), "-n", str(iterations)]
        return self.step(label, link, ranks, [*words, "-w", str(warmup), *contenders])

    def step(self, label, link, ranks, words):
        transport = "shm" if link == "host" else self.sockets
        return Step(label, [*words, "--rounds", str(self.rounds), "--transport", transport], ranks, link)

    def grid(self, prefix, link, contenders):
        """Sizes from 4 KiB to 64 MiB (16 MiB on slow links), with as many calls as make a turn some milliseconds."""
        slow = link != "host"
        steps = [
            ("small", ("4K", "64K", 4), 40 if slow else 400),
            ("middle", ("256K", "1M", 4), 4 if slow else 40),
            ("large", ("4M", "16M", 4) if slow else ("4M", "64M", 4), 1 if slow else 2),
        ]
        if self.quick:
            steps = [("small", ("4K", "64K", 16), 5), ("large", ("1M", "4M", 4), 1)]
        return [self.allreduce(prefix + name, link, 2, sizes, n, contenders, 3) for name, sizes, n in steps]

    def sections(self):
        return {
            "shm": Section("Shared memory, two ranks", self.shm_steps()),
            "latency": Section("Small messages, two ranks", self.latency_steps()),
            "crowd": Section("Eight ranks on this machine's cores, shared memory", self.crowd_steps()),
            "loopback": Section("Sockets on loopback", self.loopback_steps()),
            "1g": Section(
                "1 Gb/s",
                [
                    *self.link_steps("1gbit", 1),
                    self.incast(),
                    *self.grid("sizes, ", "1gbit", self.choices(TOPK, *WAYS)),
                ],
            ),
            "10g": Section("10 Gb/s", self.link_steps("10gbit", 4)),
            "far": Section("Far hosts, and connections that do not fill a link", self.far_steps()),
            "sweep": Section("From 100 Mb/s to 25 Gb/s, two ranks", self.sweep_steps()),
            "codec": Section("Codecs on one core", self.codec_steps()),
            "layers": Section("All gradients of a model", self.layer_steps()),
            "training": Section("Time to accuracy at 1 Gb/s", self.training_steps()),
        }

    def choices(self, *more):
        """Gloo twice, and what the automatic policy chooses from beside itself."""
        return [*CONTROL, *codecs(*FIXED, *self.auto, *more)]

    def shm_steps(self):
        steps = self.grid("", "host", [*baselines("openmpi", "memcpy"), *self.choices(*WAYS)])
        threads = codecs(FOUR_BITS, f"{FOUR_BITS}@threads=2")
        steps.append(replace(self.allreduce("threads", "host", 2, self.big, 2, threads), cores=2))
        return steps

    def latency_steps(self):
        sizes, calls = (("4K", "64K", 16), 10) if self.quick else (("4", "64K", 4), 400)
        contenders = [*baselines("openmpi"), *self.choices(*WAYS)]
        return [self.allreduce(link, link, 2, sizes, calls, contenders, 10) for link in ("host", "loopback")]

    def crowd_steps(self):
        steps = [self.allreduce("n=8", "host", 8, self.big, 1, [*baselines("openmpi"), *self.choices()])]
        # What the cost model takes and what it is compared with, by turns: the machine's speed drifts.
        codec = ["codec", "-b", self.big, "--rounds", "3", "-n", "1", "--codec", FOUR_BITS]
        for turn in range(1, self.rounds + 1):
            steps.append(Step(f"codec, turn {turn}", codec, realtime=False))
            at_once = ["--size", self.big, "--rounds", "3", "--codec", FOUR_BITS]
            steps.append(Step(f"at once, turn {turn}", at_once, script="bench/codec_at_once.py", realtime=False))
            steps.append(self.allreduce(f"alone, turn {turn}", "host", 8, self.big, 1, codecs(FOUR_BITS)))
        return steps

    def loopback_steps(self):
        contenders = [*baselines("openmpi"), *self.choices()]
        steps = [self.allreduce(f"n={n}", "loopback", n, self.big, 4 // n, contenders) for n in (2, 4)]
        if not self.quick:
            steps.append(self.allreduce("sizes", "loopback", 2, ("4K", "1M", 16), 100, self.choices(), 3))
        return steps

    def link_steps(self, rate, calls):
        every = [
            "none",
            FOUR_BITS,
            "maxmin:bits=2",
            "maxmin:bits=8",
            "natural",
            "natural8",
            TOPK,
            PACKED,
            "cast:bf16",
            *self.auto,
        ]
        contenders = [*CONTROL, *baselines("gloo16", "openmpi"), *codecs(*every)]
        over_gloo = codecs(*OVER_GLOO) if self.sockets != "gloo" else []
        steps = [self.allreduce(f"n={n}", rate, n, self.big, calls, contenders) for n in (2, 4)]
        steps[0].words.extend(over_gloo)
        return steps

    def incast(self):
        """All send to one at once, and what a switch can hold is little."""
        step = self.allreduce("n=8, shallow queues", "1gbit", 8, "4M", 1, self.choices())
        step.queue = "256K"
        return step

    def far_steps(self):
        """Packets that take 20 ms, and connections of which each gets a tenth of the link, with one connection and with more."""
        far = [*self.choices(TOPK, PACKED)]
        steps = [
            replace(self.allreduce(label, "1gbit", 2, size, 1, far), delay="20")
            for label, size in [("a round trip of 40 ms, 1M", "1M"), (FAR, self.big)][: 1 if self.quick else 2]
        ]
        if self.quick:
            return steps
        own = codecs("none", FOUR_BITS)
        more = replace(steps[-1], label=f"{FAR}, two connections", streams=2)
        steps.append(more)
        for streams, words in ((1, "one connection"), (4, "four connections"), (8, "eight connections")):
            step = self.allreduce(f"1 Gb/s a connection, {words}", "10gbit", 2, self.big, 1, [*CONTROL, *own])
            steps.append(replace(step, flow="1gbit", streams=streams))
        return steps

    def sweep_steps(self):
        size = "1M" if self.quick else "8M"
        contenders = [*baselines("gloo16"), *self.choices(TOPK)]
        rates = [*(["500mbit", "10gbit"] if self.quick else SWEEP), "loopback"]
        return [self.allreduce(rate, rate, 2, size, 1 if rate in SWEEP[:3] else 4, contenders) for rate in rates]

    def training_steps(self):
        seeds, steps = ("1", "6") if self.quick else ("3", "180")
        words = ["--seeds", seeds, "--steps", steps, "--transport", self.sockets]
        return [Step("training", words, 2, "1gbit", "bench/netbench_parts/train.py")]

    def codec_steps(self):
        main = [*DENSE, TOPK]
        rounds = ["--rounds", str(self.rounds)]
        steps = [Step("floors", ["codec", "--floors", *rounds])]
        if self.quick:
            small = ["codec", *rounds, "-n", "2", *codecs(*main)]
            steps = [
                Step("in L2", [*small, "-b", "64K", "--cache", "warm"]),
                Step("from memory", [*small, "-b", "4M"]),
            ]
        errors = [
            *main,
            *("cast:fp16", "cast:bf16", "randk:ratio=0.01", "topk:ratio=0.001", "topk:ratio=0.1", f"{TOPK}|natural8"),
            *(PACKED, "topk:ratio=0.001,indices=packed", f"{PACKED}|natural8"),
            *(f"maxmin:bits={bits}" for bits in (1, 2, 3, 5, 6, 7, 8)),
            *(f"{name}:bits={bits}" for name in ("dither", "natdither") for bits in (2, 3, 6, 8)),
        ]
        size = "256K" if self.quick else "4M"
        words = ["codec", "-b", size, "--rounds", "1", "-n", "1", *codecs(*errors)]
        steps.append(Step("error, normal", words))
        steps.append(Step("error, gradients", [*words, "--data", "examples/data/digits_gradients.npy"]))
        count = str(1 << (16 if self.quick else 24))
        steps.append(Step("torch.topk", ["--count", count, *rounds], script="bench/topk_torch.py"))
        return steps

    def layer_steps(self):
        def layers(label, model, link, contenders):
            return self.step(label, link, 2, ["layers", "--model", model, "-g", "2", "-n", "1", *contenders])

        if self.quick:
            return [layers("resnet50, shared memory", "resnet50", "host", [*CONTROL, *codecs(FOUR_BITS)])]
        wide = [*CONTROL, *baselines("openmpi"), *codecs("none", FOUR_BITS, *self.auto)]
        return [
            layers("resnet50, shared memory", "resnet50", "host", wide),
            layers("gpt2, shared memory", "gpt2", "host", [*CONTROL, *codecs("none", FOUR_BITS, *self.auto)]),
            layers("resnet50, 10 Gb/s", "resnet50", "10gbit", wide),
            layers("gpt2, 10 Gb/s", "gpt2", "10gbit", [*CONTROL, *codecs(FOUR_BITS)]),
            layers("resnet50, 1 Gb/s", "resnet50", "1gbit", [*CONTROL, *codecs("none", FOUR_BITS, *self.auto)]),
        ]
