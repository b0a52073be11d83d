"""Floors that ask for less than a memcpy takes, computed from figures of the same run."""

from .plan import FOUR_BITS
from .words import time_text


def limits(figures):
    """Sentences; only those that hold here."""
    return [text for text in (shared_memory(figures),) if text]


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
