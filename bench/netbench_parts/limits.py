"""What bounds some rows of the table from below, computed from figures of the same run."""

from .plan import FOUR_BITS
from .words import time_text


def limits(figures):
    """Sentences; only those whose bound holds here."""
    return [text for text in (shared_memory(figures), *error_feedback(figures)) if text]


def shared_memory(figures):
    """Six times Gloo, against reading the tensor and writing the result: what a memcpy moves."""
    rows = figures.rows(figures.step("shm", "large"))
    if not {"gloo", "memcpy", FOUR_BITS} <= rows.keys():
        return None
    wanted, copy = rows["gloo"]["time_us"] / 6, rows["memcpy"]["time_us"]
    if wanted >= copy:
        return None
    return (
        f"64 MiB in shared memory: a sixth of Gloo's time is {time_text(wanted)}. Every rank has to read its tensor and "
        f"write the result, which is what a memcpy of it moves: {time_text(copy)} by all ranks at once. "
        f"Measured: {time_text(rows[FOUR_BITS]['time_us'])}."
    )


def error_feedback(figures):
    """What 35 % more than encoding's time leaves, against a memcpy: the residual read and written back."""
    for name, row in figures.codecs("cold").items():
        if name not in ("natural", "natural8", FOUR_BITS) or row.get("feedback_cost") is None:
            continue
        budget, copy = 1.35 * row["encode_us"], row["memcpy_us"]
        if budget < copy:
            yield (
                f"Error feedback of `{name}` from memory: to read the residual and write it back moves what a memcpy of "
                f"the tensor moves, {time_text(copy)}; encoding and 35 % are {time_text(budget)} in all. "
                f"Measured: {time_text(row['encode_feedback_us'])}."
            )
