"""Claims about every row of the grid. Of many rows, noise alone lets some seem to break one: a row that does is measured
again, alone and for more rounds, and that measurement decides. It is compared with what was the best fixed choice in the
first one: the best of a measurement's own rows is best by luck as well."""

from dataclasses import dataclass, replace

from .plan import AUTO, CONTROL, baselines, codecs

POLICY = 0.9  # the least of the best fixed choice's speed
UNCOMPRESSED = 0.95  # the least of the speed without compression, and of Gloo's by cgx without compression
MORE = 3  # times the rounds
MORE_OF_OWN = 9  # where only our own choices are compared: Gloo's small messages take a hundred times as long


@dataclass
class Claim:
    text: str
    name: str
    over: str  # "best": of the fixed choices
    least: float

    def contender(self, figures, step, size):
        return figures.best_fixed(step, size) if self.over == "best" else self.over

    def ratio(self, figures, step, size):
        """By the first look."""
        over = self.contender(figures, step, size)
        return over and figures.ratio(step, self.name, over, size)


CLAIMS = (
    Claim("automatic policy, against the best fixed choice", AUTO, "best", POLICY),
    Claim("automatic policy, against uncompressed", AUTO, "none", UNCOMPRESSED),
    Claim("uncompressed, against Gloo", "none", "gloo", UNCOMPRESSED),
)


def broken(figures, record):
    """(size, claim, ratio) of a step's record where a first look breaks a claim."""
    found = []
    for size in figures.sizes(record):
        for claim in CLAIMS:
            ratio = claim.ratio(figures, record, size)
            if ratio and ratio.median < claim.least:
                found.append((size, claim, ratio))
    return found


def second_steps(figures, step, record):
    """What to measure again of a step."""
    if step.words[0] not in ("allreduce", "layers"):
        return []
    return [
        second_step(figures, step, record, size) for size in sorted({size for size, _, _ in broken(figures, record)})
    ]


def second_step(figures, step, record, size):
    rows = figures.rows(record, size)
    names = [name for name in ("none", figures.best_fixed(record, size), AUTO) if name in rows]
    about_gloo = any(at == size and claim.over == "gloo" for at, claim, _ in broken(figures, record))
    more = MORE if about_gloo else MORE_OF_OWN
    words = without(step.words, "--baseline", "--codec")
    for option, value in (("-b", size), ("-e", size), ("--rounds", more * int(words[words.index("--rounds") + 1]))):
        if option in words:  # a model has its size
            words[words.index(option) + 1] = str(value)
    contenders = [*(CONTROL if about_gloo else []), *codecs(*dict.fromkeys(names))]
    return replace(step, label=f"{step.label}, {size} B again", words=[*words, *contenders])


def without(words, *options):
    """Words less these options and their values."""
    return [word for i, word in enumerate(words) if word not in options and (i == 0 or words[i - 1] not in options)]


def second_looks(figures):
    """Sentences: what seemed to break a claim, and what the second look said."""
    out = []
    for _, step, size, where in figures.places():
        again = figures.second_look(step, size)
        if again is step:
            continue
        for at, claim, ratio in broken(figures, step):
            if at == size:
                second = figures.ratio(again, claim.name, claim.contender(figures, step, size), size)
                control = figures.ratio(again, "gloo (2)", "gloo", size)
                beside = f", Gloo against Gloo {control}" if control else ""
                out.append(f"{where}: {claim.text}: {ratio}, then {second}{beside}.")
    return out
