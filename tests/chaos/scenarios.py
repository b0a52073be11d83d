"""The faults: each a function that makes one happen `count` times and gives figures. For scripts/chaos."""

import os
import random
import signal
import time

from figures import percentiles
from jobs import Job, Problem, check_ends, check_error, check_no_wrong, now_us

CODECS = ["none", "maxmin:bits=4,bucket=512", "natural", "cast:bf16"]
SLACK_MS = 1000  # what an error may take beyond the timeout
START_S = 60  # for processes to start and meet on a busy machine
SCENARIOS = {}


class Skip(Exception):
    """This machine cannot do it; the text says why."""


def scenario(identity, what, count, quick):
    def add(function):
        SCENARIOS[identity] = (function, what, count, quick)
        return function

    return add


class Trials:
    """`count` seeded trials, their problems, and what they measured."""

    def __init__(self, identity, count, seed, context):
        self.identity, self.count, self.seed, self.context = identity, count, seed, context
        self.problems, self.figures, self.values = [], {}, {}
        self.until = time.monotonic() + (context.seconds or float("inf"))

    def __iter__(self):
        for trial in range(self.count):
            if time.monotonic() > self.until:
                self.count = trial
                return
            self.random = random.Random(f"{self.identity}/{self.seed}/{trial}")
            self.context.progress(self, trial)
            yield trial

    def note(self, name, value):
        self.values.setdefault(name, []).append(value)

    def attempt(self, trial, function):
        try:
            function()
        except Problem as problem:
            self.problems.append(f"trial {trial}: {problem}")
            self.context.progress(self, trial, str(problem))

    def finish(self):
        for name, values in self.values.items():
            self.figures.update({f"{name} {key}".strip(): value for key, value in percentiles(values).items()})
        return self


def one_of_each(trials, trial, sizes):
    """Transport, algorithm, codec and size, so that many trials go through all of their combinations."""
    algorithms = trials.context.algorithms
    shape = {"size": sizes[trial % len(sizes)], "codec": CODECS[trial // len(sizes) % len(CODECS)]}
    shape["algorithm"] = algorithms[trial // (len(sizes) * len(CODECS)) % len(algorithms)]
    if shape["codec"] == "natural" and shape["algorithm"] not in ("auto", "scatter_gather", "allgather"):
        shape["codec"] = "maxmin:bits=2,bucket=64"  # partial sums in other orders than the ranks' are no powers of two
    shape["transport"] = ("shm", "tcp")[trials.random.randrange(2)]
    return shape


def one_that_steps(trials, job):
    """Any rank, at any moment once all are at work."""
    job.wait_for("stepping", job.processes, START_S)
    time.sleep(trials.random.uniform(0, 0.02))
    return job.ranks[trials.random.randrange(job.size)]


def judge(trials, job, name, fault_us, bound_ms):
    job.wait_exit(job.alive, bound_ms / 1000 + START_S)
    check_no_wrong(job.processes)
    check_ends(job.processes)
    for p in job.alive:
        trials.note(name, check_error(p, fault_us, bound_ms))


@scenario("R1", "a rank is killed at a random point", 1000, 8)
def killed(trials):
    for trial in trials:
        def once():
            early = trials.random.random() < 0.15
            timeout_ms = 1000 if early else 3000  # while they meet it is waited for
            shape = one_of_each(trials, trial, [2, 3, 4, 5])
            if early:
                shape["meet"] = timeout_ms
            with Job(timeout=timeout_ms, **shape) as job:
                if early:
                    time.sleep(trials.random.uniform(0, 0.02))
                    victim = job.ranks[trials.random.randrange(job.size)]
                else:
                    victim = one_that_steps(trials, job)
                fault_us = victim.kill()
                judge(trials, job, "while meeting" if early else "", fault_us, timeout_ms + SLACK_MS)

        trials.attempt(trial, once)


def survive(trials, job, left, seconds=START_S):
    """All that live end their steps in a communicator of `left` ranks."""
    job.wait_any(["end", "noshrink", "refused"], job.alive, seconds)
    job.wait_exit(job.alive, seconds)
    check_no_wrong(job.processes)
    check_ends(job.processes)
    for p in job.alive:
        shrunk = p.all("shrunk")
        if not p.first("end") or not shrunk or shrunk[-1]["size"] != left:
            raise Problem(f"{p.name} is not among {left} survivors: {p.words()}")
        for error in p.all("error"):
            if error["status"] not in ("CGX_PEER_FAILED", "CGX_TIMEOUT", "CGX_ABORTED"):
                raise Problem(f"{p.name}: {error['status']}: {error['message']}")


@scenario("R2", "killed, shrunk, gone on with (a file store; a store that rank 0 serves)", 300, 6)
def shrunk(trials):
    for trial in trials:
        def once():
            shape = one_of_each(trials, trial, [2, 3, 4, 5])
            store = ("file", "tcp")[trial % 2]
            with Job(store=store, shrink=1, timeout=10000, **shape) as job:
                fault_us = one_that_steps(trials, job).kill()
                job.wait_until(lambda: all(len(p.all("stepping")) > 1 for p in job.alive), START_S, "going on")
                for p in job.alive:
                    trials.note("going on again", (p.all("stepping")[1]["t"] - fault_us) / 1000)
                    if p.all("stepping")[1]["size"] != job.size - 1:
                        raise Problem(f"{p.name}: not {job.size - 1} survivors: {p.words()}")
                check_no_wrong(job.processes)

        trials.attempt(trial, once)


@scenario("R3", "two of five at once; a second during the shrink; rank 0 with its store", 200, 6)
def several(trials):
    for trial in trials:
        def once():
            kind = ("at once", "during the shrink", "rank 0")[trial % 3]
            shape = one_of_each(trials, trial // 3, [5])
            victims = trials.random.sample(range(5), 2)
            if kind == "rank 0":
                victims = [0]
            with Job(store="tcp", shrink=1, timeout=5000, **shape) as job:
                job.wait_for("stepping", job.processes, START_S)
                time.sleep(trials.random.uniform(0, 0.02))
                job.ranks[victims[0]].kill()
                if kind == "during the shrink":
                    time.sleep(trials.random.uniform(0, 0.03))
                for victim in victims[1:]:
                    job.ranks[victim].kill()
                left = 5 - len(victims)
                began_us = now_us()
                job.wait_until(
                    lambda: all(any(s["size"] == left for s in p.all("stepping")) for p in job.alive), START_S, kind
                )
                trials.note("going on again", (now_us() - began_us) / 1000)
                check_no_wrong(job.processes)

        trials.attempt(trial, once)


@scenario("R4", "stopped for less than the timeout", 200, 4)
def paused(trials):
    timeout_ms = 4000
    for trial in trials:
        def once():
            with Job(timeout=timeout_ms, **one_of_each(trials, trial, [2, 3, 4, 5])) as job:
                victim = one_that_steps(trials, job)
                victim.signal(signal.SIGSTOP)
                time.sleep(trials.random.uniform(0.05, 0.5))
                victim.signal(signal.SIGCONT)
                time.sleep(0.1)
                job.pump(0)
                for p in job.processes:
                    if p.first("error"):
                        raise Problem(f"{p.name} failed: {p.words()}")
                check_no_wrong(job.processes)

        trials.attempt(trial, once)


@scenario("R5", "stopped for longer than the timeout of 1000 ms, and woken late", 100, 4)
def stopped(trials):
    timeout_ms = 1000
    for trial in trials:
        def once():
            with Job(timeout=timeout_ms, **one_of_each(trials, trial, [2, 3, 4, 5])) as job:
                victim = one_that_steps(trials, job)
                fault_us = victim.signal(signal.SIGSTOP)
                others = [p for p in job.processes if p is not victim]
                job.wait_for("error", others, timeout_ms / 1000 + 20)
                woken_us = victim.signal(signal.SIGCONT)
                job.wait_exit(job.processes, START_S)
                check_no_wrong(job.processes)
                check_ends(job.processes)
                for p in others:
                    trials.note("", check_error(p, fault_us, timeout_ms + SLACK_MS))
                trials.note("woken rank", check_error(victim, woken_us, timeout_ms + SLACK_MS))

        trials.attempt(trial, once)


# What rank 1 does otherwise, and whether the ranks find it out when they meet.
DESYNC = {
    "count": {"odd": "count"},
    "dtype": {"odd": "dtype"},
    "op": {"odd": "op"},
    "order of tensors": {"odd": "order"},
    "a call left out": {"odd": "behind"},
    "segments": {"odd": "segments"},
    "no codec": {"odd": "nocodec"},
    "codec": {"codec": "natural"},
    "bits": {"codec": "maxmin:bits=5,bucket=512"},
    "algorithm": {"algorithm": "ring"},
    "seed": {"odd": "seed"},
    "version": {},
}


def forge_version(job):
    """Rank 1's card in the store is one of another version."""
    os.makedirs(f"{job.directory}/store")
    with open(f"{job.directory}/store/chaos%2fcard%2f1", "w") as file:
        file.write(
            '{"cgx": 999, "size": %d, "transport": "auto", "algorithm": "auto", "seed": 7, "slice_bytes": 16384, "tune": 0,'
            ' "policy": 0, "members": "", "heir": "", "inner_codec": ""}' % job.size
        )


@scenario("R17", "ranks that disagree: 12 ways, over shm and tcp", 24, 24)
def disagree(trials):
    for trial in trials:
        def once():
            kind = list(DESYNC)[trial % 12]
            transport = ("shm", "tcp")[trial // 12 % 2]
            size = 2 + trial % 2
            odd = {1: {**DESYNC[kind], "odd_at": 2}}
            codec = "maxmin:bits=4,bucket=512"
            with Job(size, of_rank=odd, codec=codec, transport=transport, timeout=20000, start=False) as job:
                if kind == "version":
                    forge_version(job)
                for rank in range(size):
                    if kind != "version" or rank != 1:
                        job.start(rank)
                job.wait_exit(job.processes, START_S)
                check_no_wrong(job.processes)
                check_ends(job.processes)
                for p in job.processes:
                    line = p.first("error") or p.first("refused")
                    if not line or line["status"] != "CGX_MISMATCH":
                        raise Problem(f"{kind}: {p.name} has no CGX_MISMATCH: {p.words()}")
                    if "rank 1" not in line["message"]:
                        raise Problem(f"{kind}: {p.name}: does not name rank 1: {line['message']}")

        trials.attempt(trial, once)


@scenario("R24", "a rank never comes, or comes late; two jobs on one port", 30, 3)
def missing(trials):
    timeout_ms = 2000
    for trial in trials:
        kind = ("never", "late", "two jobs")[trial % 3]

        def never():
            size = trials.random.randrange(2, 6)
            absent = trials.random.randrange(1, size)
            began_us = now_us()
            with Job(size, store=("file", "tcp")[trial % 2], meet=timeout_ms, start=False) as job:
                for rank in range(size):
                    if rank != absent:
                        job.start(rank)
                job.wait_exit(job.processes, START_S)
                for p in job.processes:
                    check_error(p, began_us, timeout_ms + SLACK_MS + 2000, ("CGX_TIMEOUT", "CGX_PEER_FAILED"))
                first = job.ranks[0].first("refused")
                if f"rank {absent} of {size} did not come" not in first["message"]:
                    raise Problem(f"rank 0 does not name rank {absent}: {first['message']}")

        def late():
            with Job(3, store=("file", "tcp")[trial % 2], timeout=30000, steps=5, start=False) as job:
                for rank in trials.random.sample(range(3), 3):
                    job.start(rank)
                    time.sleep(trials.random.uniform(0, 0.7))
                job.wait_exit(job.processes, START_S)
                check_no_wrong(job.processes)
                for p in job.processes:
                    if not p.first("end"):
                        raise Problem(f"{p.words()}")

        def two_jobs():
            with Job(2, store="tcp", timeout=timeout_ms) as first:
                first.wait_for("stepping", first.processes, START_S)
                with Job(2, store="tcp", timeout=timeout_ms, start=False) as second:
                    second.store = first.store
                    second.start(0)
                    second.wait_exit(second.processes, START_S)
                    line = second.ranks[0].first("refused")
                    if not line or line["status"] != "CGX_RESOURCE" or "another job has this port" not in line["message"]:
                        raise Problem(f"the second job: {second.ranks[0].words()}")
                first.pump(0.05)
                for p in first.processes:
                    if p.first("error"):
                        raise Problem(f"the first job: {p.words()}")

        trials.attempt(trial, {"never": never, "late": late, "two jobs": two_jobs}[kind])


@scenario("R25", "abort from another thread at a random moment of collectives or, every fourth time, of a shrink; cycles of one set of processes", 1000, 40)
def aborted(trials):
    total = trials.count
    trials.count = max(1, total // 250)
    for trial in trials:
        def once():
            cycles = total // trials.count
            size = 2 + trial % 3
            shape = {"transport": ("shm", "tcp")[trial % 2], "codec": CODECS[trial % 4], "timeout": 60000}
            with Job(size, mode="abort", cycles=cycles, **shape) as job:
                job.wait_exit(job.processes, 60 + cycles)
                check_no_wrong(job.processes)
                check_ends(job.processes)
                for p in job.processes:
                    judge_aborts(trials, p, cycles)

        trials.attempt(trial, once)
    trials.count = total


def judge_aborts(trials, p, cycles):
    lines = p.all("aborted")
    if len(lines) != cycles:
        raise Problem(f"{p.name}: {len(lines)} of {cycles} cycles: {p.words()}")
    for line in lines:
        shrink = line["of"] == "shrink"  # may be through before the abort comes
        allowed = ("CGX_ABORTED", "CGX_PEER_FAILED", "CGX_TIMEOUT" if shrink else "CGX_FAILED", "CGX_OK" if shrink else "CGX_FAILED")
        if line["status"] not in allowed or line["after"] != "CGX_FAILED":
            raise Problem(f"{p.name}: {line}")
        if "us" in line:
            trials.note(f"until the {line['of']} returns", line["us"] / 1000)
            if line["us"] > (1000000 if shrink else 100000):
                raise Problem(f"{p.name}: the {line['of']} returned {line['us'] / 1000:.0f} ms after the abort: {line}")
    end = p.first("end")
    trials.figures["descriptors at the end"] = max(trials.figures.get("descriptors at the end", 0), end["descriptors"])


@scenario("R30", "chaos: a kill or a new rank every 0.5 to 2 s, 2 to 8 ranks; seconds", 600, 12)
def chaos(trials):
    """`count` is in seconds. After a kill the ranks shrink by themselves; for a new rank all make a new communicator."""
    until = time.monotonic() + trials.count
    trials.random = random.Random(f"R30/{trials.seed}")
    kills = joins = 0
    with Job(0, store="file", mode="follow", timeout=10000, start=False, codec=CODECS[1]) as job:
        generation, next_name = 0, 0

        def join_all(new):
            nonlocal generation, next_name
            for _ in range(new):
                job.start(next_name)
                next_name += 1
            generation += 1
            for rank, p in enumerate(job.alive):
                p.order(f"join chaos-{generation} {rank} {len(job.alive)}")

        def settled():
            size = len(job.alive)
            return all(p.all("alive") and p.all("alive")[-1]["size"] == size for p in job.alive)

        join_all(3)
        try:
            while True:
                trials.context.progress(trials, trials.count - int(until - time.monotonic()))
                changed = now_us()
                job.wait_until(lambda: settled() and all(p.all("alive")[-1]["t"] > changed for p in job.alive), 90, "chaos: all go on")
                trials.note("until all go on", max(min(a["t"] for a in p.all("alive") if a["t"] > changed) for p in job.alive) / 1000 - changed / 1000)
                check_no_wrong(job.processes)
                if any(p.popen.poll() is not None for p in job.alive):
                    raise Problem("a rank ended: " + "; ".join(p.words() for p in job.alive))
                if time.monotonic() >= until:  # not before all have met: who is killed then leaves a name for the next start
                    break
                time.sleep(trials.random.uniform(0.5, 2) / 2)
                job.pump(0)
                for p in job.processes:
                    p.lines = p.lines[-50:]
                if len(job.alive) > 2 and (len(job.alive) >= 8 or trials.random.random() < 0.5):
                    kills += 1
                    trials.random.choice(job.alive).kill()
                else:
                    joins += 1
                    join_all(1)
        except Problem as problem:
            trials.problems.append(str(problem))
        ends = [p.all("alive")[-1] for p in job.alive if p.all("alive")]
        trials.figures.update({"kills": kills, "joins": joins})
        if ends:
            trials.figures["most descriptors"] = max(e["descriptors"] for e in ends)
