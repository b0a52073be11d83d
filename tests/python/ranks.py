"""Ranks as forked processes: the parent has imported PyTorch already, so a rank starts in milliseconds.

The parent never starts a process group or a thread pool, which would not survive the fork.
"""

from __future__ import annotations

import datetime
import multiprocessing
import os
import signal
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import torch
import torch._dynamo  # DistributedDataParallel imports it, for seconds: here once, not in every rank
import torch.distributed as dist

import cgx.torch

torch.set_num_threads(1)
_context = multiprocessing.get_context("fork")


@dataclass
class Rank:
    """How one rank ended: its value, or its error as text; ``exit_code`` is set if it was killed."""

    value: Any = None
    error: str | None = None
    exit_code: int | None = None
    seconds: float = 0.0


def _run(
    body: Callable[..., Any], rank: int, size: int, store: str, environment: dict[str, str], pipe: Connection
) -> None:
    os.environ.update({"GLOO_SOCKET_IFNAME": "lo", "CGX_SOCKET_IFNAME": "lo", **environment})
    os.environ.update({"TEST_STORE": store, "RANK": str(rank), "WORLD_SIZE": str(size)})
    begin = time.monotonic()
    try:
        outcome = Rank(value=body(rank, size))
    except BaseException as error:  # noqa: BLE001 (it is reported to the parent)
        outcome = Rank(error=f"{type(error).__name__}: {error}\n{traceback.format_exc()}")
    outcome.seconds = time.monotonic() - begin
    pipe.send(outcome)
    os._exit(0)


def run_all(size: int, body: Callable[[int, int], Any], timeout: float = 60, **environment: str) -> list[Rank]:
    """Runs ``body(rank, size)`` in ``size`` processes and says how each ended. Kills what outlasts ``timeout`` s."""
    with tempfile.TemporaryDirectory() as directory:
        started = []
        for rank in range(size):
            mine, theirs = _context.Pipe(duplex=False)
            arguments = (body, rank, size, f"{directory}/store", environment, theirs)
            process = _context.Process(target=_run, args=arguments)
            process.start()
            theirs.close()
            started.append((process, mine))
        deadline = time.monotonic() + timeout
        return [_outcome(process, pipe, deadline) for process, pipe in started]


def _outcome(process: Any, pipe: Connection, deadline: float) -> Rank:
    try:
        if not pipe.poll(max(0.0, deadline - time.monotonic())):
            return Rank(error="the rank had not ended within the test's timeout")
        return pipe.recv()
    except EOFError:
        process.join(5)
        return Rank(error="the rank died", exit_code=process.exitcode)
    finally:
        process.join(1)
        if process.is_alive():
            process.kill()
            process.join()


def run(size: int, body: Callable[[int, int], Any], timeout: float = 60, **environment: str) -> list[Any]:
    """As ``run_all``; fails unless every rank returned. Gives the values in rank order."""
    ranks = run_all(size, body, timeout, **environment)
    failures = [f"rank {i}: {rank.error}" for i, rank in enumerate(ranks) if rank.error]
    assert not failures, "\n".join(failures)
    return [rank.value for rank in ranks]


def init(backend: str = "cgx", options: cgx.torch.Options | None = None, seconds: float = 30) -> None:
    """Makes the default process group of a rank's body."""
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    dist.init_process_group(
        backend,
        store=dist.FileStore(os.environ["TEST_STORE"], size),
        rank=rank,
        world_size=size,
        timeout=datetime.timedelta(seconds=seconds),
        pg_options=options,
    )


def tell(what: str) -> None:
    """Lets other ranks go on from ``wait_for(what)``."""
    dist.FileStore(f"{os.environ['TEST_STORE']}.{what}", -1).set("told", "yes")


def wait_for(what: str) -> None:
    """Waits until some rank has called ``tell(what)``."""
    store = dist.FileStore(f"{os.environ['TEST_STORE']}.{what}", -1)
    store.wait(["told"], datetime.timedelta(seconds=60))


def die() -> None:
    """Ends this rank at once, as a crash would."""
    os.kill(os.getpid(), signal.SIGKILL)
