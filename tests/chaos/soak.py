"""An hour's ordinary life of two ranks: memory and descriptors must not grow. For scripts/chaos."""

import os
import statistics

from jobs import Job, Problem, check_ends, check_no_wrong
from scenarios import START_S, scenario

GROWTH_KIB = 2048  # between the second tenth and the last


def growth(lines, key):
    """(the second tenth's median, the last tenth's); the first tenth warms up."""
    tenth = max(1, len(lines) // 10)
    return [statistics.median(line[key] for line in part) for part in (lines[tenth : 2 * tenth] or lines, lines[-tenth:])]


@scenario("R20", "leaks: communicators, aborts, shrinks and sums of all kinds, 2 ranks; seconds", 3600, 3)
def soak(trials):
    """`count` is in seconds."""
    program = os.path.join(os.path.dirname(Job.worker), "cgx-chaos-soak")
    with Job(2, program=program, seconds=trials.count, seed=trials.seed) as job:
        job.wait_exit(job.processes, trials.count + 2 * START_S)
        check_no_wrong(job.processes)
        check_ends(job.processes)
        for p in job.processes:
            lines = p.all("soaked")
            if not p.first("end") or not lines:
                raise Problem(f"{p.words()}")
            memory, descriptors = growth(lines, "rss_kib"), growth(lines, "descriptors")
            trials.figures.update({key: lines[-1][key] for key in ("operations", "communicators")})
            trials.figures[f"KiB of {p.name} at first and at last"] = f"{memory[0]:.0f} {memory[1]:.0f}"
            trials.figures[f"descriptors of {p.name}"] = f"{descriptors[0]:.0f} {descriptors[1]:.0f}"
            if trials.count >= 200 and memory[1] - memory[0] > GROWTH_KIB:
                trials.problems.append(f"{p.name} grew from {memory[0]:.0f} to {memory[1]:.0f} KiB")
            if descriptors[1] > descriptors[0]:
                trials.problems.append(f"{p.name} has {descriptors[1]:.0f} descriptors, {descriptors[0]:.0f} before")
