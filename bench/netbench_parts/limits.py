"""What floors ask for beside what moving the bytes alone takes, from figures of the same run."""

from .plan import DENSE, FOUR_BITS, TOPK
from .words import time_text

FEEDBACK = 0.35  # the most of encode's time that error feedback may add
SELECTION = 15  # times nth_element's speed


def limits(figures):
    """Sentences; only those that hold here."""
    return [text for text in (shared_memory(figures), feedback(figures), selection(figures)) if text]


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


def feedback(figures):
    """Error feedback's least traffic, for the codecs whose cost is above the floor."""
    rows = figures.codecs("cold")
    found = []
    for name in (*DENSE, TOPK):
        cost, least = (rows.get(name, {}).get(field) for field in ("feedback_cost", "feedback_least"))
        moved = "move_for_feedback_us" in rows.get(name, {})  # files of before did not write the block's bytes
        if moved and cost is not None and least is not None and cost > FEEDBACK:
            found.append(f"`{name}` {least:.0%} (measured: {cost:.0%})")
    if not found:
        return None
    return (
        "Error feedback from memory: reading the tensor, adding it to a residual in place and writing as many bytes as the "
        f"block has, with no codec, takes so much more time than encoding without feedback: {', '.join(found)}. The floor is {FEEDBACK:.0%}."
    )


def selection(figures):
    """Reading every element, against nth_element."""
    row = figures.codecs("cold").get(TOPK, {})
    least, got = row.get("read_over_nth_element"), row.get("encode_over_nth_element")
    if least is None or least >= SELECTION:
        return None
    return (
        f"Top-k from memory: reading every element, and nothing else, is {least:.1f} times as fast as nth_element; the floor "
        f"is {SELECTION} times. Measured: {got:.1f}."
    )
