"""R14 beside Gloo and Open MPI: strangers at every port that a running job of two ranks listens on. For scripts/chaos."""

import contextlib
import os
import random
import signal
import socket
import statistics
import struct
import tempfile
import time

from jobs import Job, Problem
from peers import gloo, openmpi
from scenarios import START_S, scenario

TURN_S = 1
IDLE = 2000  # connections held at most


def listening_ports(pids):
    """Of these processes, on any address. From /proc, as ss would tell."""
    inodes = set()
    for pid in pids:
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                inodes.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
    ports = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with open(table) as file:
            rows = [line.split() for line in file.readlines()[1:]]
        ports |= {int(row[1].rsplit(":", 1)[1], 16) for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in inodes}
    return sorted(ports)


class Strangers:
    """A few of each kind every 10 ms: connections that say nothing, noise, a byte at a time, lengths of 4 GiB."""

    def __init__(self, ports):
        self.ports, self.random = ports, random.Random(5)
        self.idle, self.slow, self.made = [], [], 0

    def knock(self):
        one = socket.socket()
        one.setblocking(False)
        with contextlib.suppress(OSError):
            one.connect(("127.0.0.1", self.ports[self.made % len(self.ports)]))
        self.made += 1
        return one

    def say(self, one, text):
        with contextlib.suppress(OSError):
            one.send(text)

    def attack(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.idle += [self.knock() for _ in range(3)]
            while len(self.idle) > IDLE:
                self.idle.pop(0).close()
            for text in (self.random.randbytes(4096), struct.pack("<IIQ", 0xFFFFFFFF, 0xFFFFFFFF, 1 << 32) * 64):
                with self.knock() as one:
                    self.say(one, text)
            if len(self.slow) < 100:
                self.slow.append(self.knock())
            self.say(self.random.choice(self.slow), self.random.randbytes(1))
            time.sleep(0.01)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        for one in self.idle + self.slow:
            one.close()


def memory_kib(pid):
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * (os.sysconf("SC_PAGESIZE") // 1024)


def step_ms(group, source, body):
    """Milliseconds a step while `body` runs, of the lines that `source` printed meanwhile; None: it stands still."""
    group.pump(0)
    source.lines.clear()
    body()
    for _ in range(20):
        group.pump(0)
    # mpirun mixes the lines of its ranks, sometimes within one
    lines = [line for line in source.all("alive") if line.get("rank", 0) == 0 and "steps" in line]
    if len(lines) < 2:
        return None
    return (lines[-1]["t"] - lines[0]["t"]) / 1000 / (lines[-1]["steps"] - lines[0]["steps"])


def flood(trials, group, source, pids):
    """`count` turns, quiet and attacked one after the other."""
    ports = listening_ports(pids)
    quiet, attacked = [], []
    before = [memory_kib(pid) for pid in pids]
    trials.figures["ports"] = len(ports)
    if not ports:
        return
    with Strangers(ports) as strangers:
        for _ in trials:
            quiet.append(step_ms(group, source, lambda: time.sleep(TURN_S)))
            attacked.append(step_ms(group, source, lambda: strangers.attack(TURN_S)))
        trials.figures["connections"] = strangers.made
    if quiet[0] is None:
        raise Problem(f"no step in {TURN_S} s before any attack")
    for name, steps in (("attacked", attacked), ("later quiet", quiet[1:])):
        if None in steps:
            trials.figures[f"{name} turns without a step"] = f"{steps.count(None)} of {len(steps)}"
    quiet, attacked = ([step for step in steps if step] for steps in (quiet, attacked))
    if quiet and attacked:
        trials.figures["times the time of a step"] = round(statistics.median(attacked) / statistics.median(quiet), 2)
    trials.figures["KiB more in a rank"] = max(memory_kib(pid) - was for pid, was in zip(pids, before))


def kill_all(pids):
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@scenario("R14", "strangers at the ports of a job of two ranks over tcp; turns of a second, attacked and not", 20, 1)
def flooded(trials):
    with Job(2, store="tcp", transport="tcp", timeout=60000, say_every=20) as job:
        job.wait_for("stepping", job.processes, START_S)
        pids = [p.pid for p in job.processes]
        flood(trials, job, job.processes[0], pids)
        for p in job.processes:
            if p.first("error"):
                raise Problem(p.words())
        if "attacked turns without a step" in trials.figures:
            raise Problem("strangers stopped the job")


@scenario("R14 Gloo", "the same with Gloo", 20, 0)
def flooded_gloo(trials):
    with tempfile.TemporaryDirectory(prefix="cgx-chaos-") as directory:
        group, pids = gloo(2, directory, trials.context)
        with group:
            flood(trials, group, group.processes[0], pids)


@scenario("R14 Open MPI", "the same with Open MPI over TCP", 20, 0)
def flooded_mpi(trials):
    with tempfile.TemporaryDirectory(prefix="cgx-chaos-") as directory:
        group, pids = openmpi(2, directory, trials.context, ("--mca", "btl", "tcp,self"))
        with group:
            try:
                flood(trials, group, group.processes[0], pids)
            finally:
                kill_all(pids)
