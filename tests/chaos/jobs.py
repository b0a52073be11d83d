"""Ranks as processes that print JSON lines: started, watched, killed, and judged. For scripts/chaos."""

import contextlib
import ctypes
import json
import os
import random
import re
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time


class Problem(Exception):
    """What must not happen has happened: a hang, a wrong result, an error that explains nothing."""


def now_us():
    return time.monotonic_ns() // 1000


class Stalls:
    """A shared machine stands still now and then: what a thread that only sleeps overslept."""

    STEP_S, WORTH_US, MOST_MS = 0.01, 50_000, 1000

    def __init__(self):
        self.gaps, self.before = [], now_us()
        threading.Thread(target=self.watch, daemon=True).start()

    def watch(self):
        while True:
            time.sleep(self.STEP_S)
            now = now_us()
            if now - self.before > self.WORTH_US:
                self.gaps.append((self.before, now))
            self.before = now

    def ms_between(self, begin_us, end_us):
        open_gap = [(self.before, now_us())] if now_us() - self.before > self.WORTH_US else []
        overslept_us = sum(max(0, min(end_us, last) - max(begin_us, first)) for first, last in self.gaps + open_gap)
        return min(overslept_us / 1000, self.MOST_MS)


STALLS = Stalls()


def free_port():
    """Below those that the kernel gives to clients: one of them could take it before the rank that serves does."""
    for _ in range(100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", random.SystemRandom().randrange(10000, 30000)))
            return probe.getsockname()[1]
    raise OSError("no port of 127.0.0.1 can be bound")


def die_with_parent():
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


class Process:
    """One rank: its process and the lines that it printed."""

    def __init__(self, name, words, env=None):
        self.name, self.lines, self.rest = name, [], b""
        self.popen = subprocess.Popen(
            words,
            env={**os.environ, **(env or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=die_with_parent,
        )
        self.killed = False
        os.set_blocking(self.popen.stdout.fileno(), False)

    @property
    def pid(self):
        return self.popen.pid

    def signal(self, number):
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)
        return now_us()

    def kill(self):
        self.killed = True
        at = now_us()
        self.signal(signal.SIGKILL)
        return at

    def order(self, text):
        with contextlib.suppress(BrokenPipeError):
            self.popen.stdin.write(text.encode() + b"\n")
            self.popen.stdin.flush()

    def read(self):
        """False at the end."""
        try:
            part = os.read(self.popen.stdout.fileno(), 1 << 16)
        except BlockingIOError:
            return True
        self.rest += part
        *whole, self.rest = self.rest.split(b"\n")
        for line in whole:
            with contextlib.suppress(ValueError):  # mpirun mixes its ranks' lines, sometimes within one
                said = json.loads(line)
                if isinstance(said, dict) and "at" in said and "t" in said:
                    self.lines.append(said)
        return bool(part)

    def all(self, at):
        return [line for line in self.lines if line["at"] == at]

    def first(self, at):
        return next((line for line in self.lines if line["at"] == at), None)

    def words(self):
        last = self.lines[-1] if self.lines else {}
        return f"{self.name}: last said {json.dumps(last)[:300]}"


class Group:
    """Processes that are watched together and ended together."""

    def __init__(self):
        self.processes, self.selector = [], selectors.DefaultSelector()

    def add(self, process):
        self.processes.append(process)
        self.selector.register(process.popen.stdout, selectors.EVENT_READ, process)
        return process

    def pump(self, seconds):
        for key, _ in self.selector.select(seconds):
            if not key.data.read():
                self.selector.unregister(key.fileobj)

    def wait_until(self, condition, seconds, what):
        deadline = time.monotonic() + seconds
        while not condition():
            left = deadline - time.monotonic()
            if left <= 0:
                raise Problem(f"{what}: not within {seconds:.1f} s; " + "; ".join(p.words() for p in self.processes))
            self.pump(min(left, 0.05))

    def wait_for(self, at, processes, seconds):
        self.wait_until(lambda: all(p.first(at) for p in processes), seconds, f'waiting for "{at}"')

    def wait_any(self, ats, processes, seconds):
        self.wait_until(lambda: all(any(p.first(at) for at in ats) for p in processes), seconds, f"waiting for {ats}")

    def wait_exit(self, processes, seconds):
        def over():
            return all(p.popen.poll() is not None for p in processes)

        self.wait_until(over, seconds, "waiting for the end")
        for p in processes:
            while p.popen.stdout.fileno() in self.selector.get_map() and p.read():
                pass

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        for p in self.processes:
            if p.popen.poll() is None:
                p.signal(signal.SIGKILL)
        for p in self.processes:
            p.popen.wait()
            for pipe in (p.popen.stdin, p.popen.stdout, p.popen.stderr):
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        self.selector.close()


class Job(Group):
    """`size` workers with a store of their own. Options become the worker's; `of_rank` gives further ones to some."""

    worker = None  # set by scripts/chaos

    def __init__(self, size, *, store="file", program=None, prefix=None, env=None, of_rank=None, start=True, host="127.0.0.1", **options):
        super().__init__()
        self.size, self.prefix, self.env, self.of_rank = size, prefix or (lambda rank: []), env or {}, of_rank or {}
        self.program = program or self.worker
        self.directory = tempfile.mkdtemp(prefix="cgx-chaos-")
        self.store = f"file:{self.directory}/store" if store == "file" else f"tcp:{host}:{free_port()}"
        self.options = {"timeout": 3000, "interface": "lo", **options}
        self.ranks = {}
        if start:
            for rank in range(size):
                self.start(rank)

    def start(self, rank):
        options = {"rank": rank, "size": self.size, "store": self.store, **self.options, **self.of_rank.get(rank, {})}
        words = [*self.prefix(rank), self.program, *(f"{key}={value}" for key, value in options.items())]
        self.ranks[rank] = self.add(Process(f"rank {rank}", words, self.env))
        return self.ranks[rank]

    @property
    def alive(self):
        return [p for p in self.ranks.values() if not p.killed]

    def __exit__(self, *unused):
        super().__exit__()
        shutil.rmtree(self.directory, ignore_errors=True)


# What every trial asks of every process that was not killed.


def check_no_wrong(processes):
    for p in processes:
        wrong = p.first("wrong")
        if wrong:
            raise Problem(f"{p.name} got a wrong result and CGX_OK: {wrong}")


def check_ends(processes):
    for p in processes:
        if not p.killed and p.popen.returncode not in (0, None):
            words = p.popen.stderr.read().decode(errors="replace")[-400:]
            raise Problem(f"{p.name} ended with {p.popen.returncode}: {words}")


def check_error(p, fault_us, bound_ms, statuses=("CGX_PEER_FAILED", "CGX_TIMEOUT", "CGX_MISMATCH")):
    """The milliseconds from the fault to a survivor's error, which must be one that helps."""
    line = p.first("error") or p.first("refused")
    if line is None:
        raise Problem(f"{p.name} had no error: {p.words()}")
    if line["status"] not in statuses:
        raise Problem(f"{p.name}: {line['status']} is none of {statuses}: {line['message']}")
    if not re.search(r"ranks? \d", line["message"]):
        raise Problem(f"{p.name}: the error names no rank: {line['message']}")
    if line["at"] == "error" and line["status"] != "CGX_MISMATCH" and "phase" not in line["message"]:
        raise Problem(f"{p.name}: the error names no phase: {line['message']}")
    after = p.first("after")
    if line["at"] == "error" and after and after["status"] != "CGX_FAILED":
        raise Problem(f"{p.name}: the call after the error gave {after['status']}: {after['message']}")
    if line["at"] == "refused":  # its time runs from its own start
        fault_us = max(fault_us, p.first("begun")["t"])
    took_ms = (line["t"] - fault_us) / 1000
    stalled_ms = STALLS.ms_between(fault_us, line["t"])
    if took_ms > bound_ms and took_ms <= bound_ms + stalled_ms:
        print(f"{p.name}: {took_ms:.0f} ms, {bound_ms} at most, of which the machine stood still for {stalled_ms:.0f}", file=sys.stderr)
    elif took_ms > bound_ms:
        raise Problem(f"{p.name}: the error came after {took_ms:.0f} ms, {bound_ms} at most: {line['message']}")
    return took_ms
