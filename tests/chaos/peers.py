"""The same faults for Gloo (PyTorch's) and Open MPI, in the same harness. For scripts/chaos."""

import os
import shutil
import signal
import subprocess
import tempfile
import time

from jobs import Group, Problem, Process, now_us
from scenarios import START_S, Skip, scenario

HERE = os.path.dirname(os.path.abspath(__file__))
TIMEOUT_MS = 5000


def gloo(size, directory, context):
    if not context.torch_python:
        raise Skip("no Python with PyTorch: give one with --torch-python")
    group = Group()
    for rank in range(size):
        words = [context.torch_python, f"{HERE}/peer_gloo.py", str(rank), str(size), f"{directory}/meet", str(TIMEOUT_MS)]
        group.add(Process(f"rank {rank}", words, {"GLOO_SOCKET_IFNAME": "lo"}))
    group.wait_for("stepping", group.processes, 2 * START_S)
    return group, [p.pid for p in group.processes]


def openmpi(size, directory, context, options=()):
    if not shutil.which("mpirun") or not shutil.which("mpicc"):
        raise Skip("mpirun or mpicc is missing (Debian: apt install openmpi-bin libopenmpi-dev)")
    program = f"{directory}/peer_mpi"
    subprocess.run(["mpicc", "-O2", f"{HERE}/peer_mpi.c", "-o", program], check=True)
    group = Group()
    words = ["mpirun", "--allow-run-as-root", "--oversubscribe", *options, "-np", str(size), program]
    mpirun = group.add(Process("mpirun", words, {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}))
    group.wait_until(lambda: len(mpirun.all("ready")) == size and mpirun.first("alive"), START_S, "Open MPI starts")
    return group, [line["pid"] for line in sorted(mpirun.all("ready"), key=lambda line: line["rank"])]


def measure(trials, start, number, give_up_s):
    """From the fault to the survivors' errors; Open MPI's survivors are ended by mpirun, which counts as theirs."""
    hung = 0
    for trial in trials:
        def once():
            nonlocal hung
            with tempfile.TemporaryDirectory(prefix="cgx-chaos-") as directory:
                group, pids = start(3, directory, trials.context)
                with group:
                    time.sleep(trials.random.uniform(0, 0.02))
                    fault_us = now_us()
                    os.kill(pids[2], number)
                    over = lambda: all(p.first("error") or p.popen.poll() is not None for p in group.processes[:2])
                    try:
                        group.wait_until(over, give_up_s, "")
                        errors = [p.first("error") for p in group.processes[:2]]
                        ends = [line["t"] for line in errors if line] or [now_us()]
                        for at in ends:
                            trials.note("", (at - fault_us) / 1000)
                    except Problem:
                        hung += 1
                    finally:
                        for pid in pids:
                            try:
                                os.kill(pid, signal.SIGKILL)
                            except ProcessLookupError:
                                pass

        trials.attempt(trial, once)
    if hung:
        trials.figures[f"without an end after {give_up_s} s"] = hung


@scenario("R1 Gloo", "the same with Gloo, 3 ranks", 20, 0)
def killed_gloo(trials):
    measure(trials, gloo, signal.SIGKILL, 30)


@scenario("R5 Gloo", f"stopped for ever with Gloo, 3 ranks, its timeout {TIMEOUT_MS} ms", 5, 0)
def stopped_gloo(trials):
    measure(trials, gloo, signal.SIGSTOP, 30)


@scenario("R1 Open MPI", "the same with Open MPI, 3 ranks: mpirun ends the job", 20, 0)
def killed_mpi(trials):
    measure(trials, openmpi, signal.SIGKILL, 30)


@scenario("R5 Open MPI", "stopped for ever with Open MPI, 3 ranks", 3, 0)
def stopped_mpi(trials):
    measure(trials, openmpi, signal.SIGSTOP, 20)
