"""Ranks as forked processes: the parent has imported PyTorch already, so a rank starts in milliseconds.

The parent never starts a process group or a thread pool, which would not survive the fork.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import multiprocessing
import os
import runpy
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
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


def _serve_store(pipe: Connection) -> None:
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    pipe.send(store.port)
    store.wait(["never"], datetime.timedelta(hours=1))


@contextlib.contextmanager
def _store() -> Iterator[dict[str, str]]:
    """A store that outlives the ranks, as that of torchrun's agent: the variables by which they find it."""
    mine, theirs = _context.Pipe(duplex=False)
    process = _context.Process(target=_serve_store, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    try:
        agent = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(mine.recv())}
        yield agent | {"TORCHELASTIC_USE_AGENT_STORE": "True"}
    finally:
        process.kill()
        process.join()


def _run_as_main(script: Path, arguments: tuple[str, ...], output: str, alone: bool, rank: int, size: int) -> None:
    if alone:
        del os.environ["RANK"], os.environ["WORLD_SIZE"]
    descriptor = os.open(f"{output}.{rank}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout = sys.stderr = os.fdopen(descriptor, "w", buffering=1)
    sys.argv = [str(script), *arguments]
    sys.path.insert(0, str(script.parent))
    runpy.run_path(str(script), run_name="__main__")


def run_script(script: Path, *arguments: str, size: int, timeout: float = 300) -> str:
    """Runs a script in ranks that find each other as torchrun's do: what they printed. ``size`` 0: alone, no rank.

    torchrun itself costs ten seconds of a core, in which it and its ranks import PyTorch.
    """
    with tempfile.TemporaryDirectory() as directory:
        body = functools.partial(_run_as_main, script, arguments, f"{directory}/output", size == 0)
        with _store() as agent:
            run(max(1, size), body, timeout, **agent)
        return "".join(path.read_text() for path in sorted(Path(directory).glob("output.*")))


def init(backend: str = "cgx", options: cgx.torch.Options | None = None, seconds: float = 30) -> None:
    """Makes the default process group of a rank's body.

    No rank returns before all have their group. Without the barrier a body that communicates no more could end, and
    close its connections, while another still makes them: Gloo takes that for a crash.
    """
    os.environ["TORCH_DIST_INIT_BARRIER"] = "1"
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    dist.init_process_group(
        backend,
        store=dist.FileStore(os.environ["TEST_STORE"], size),
        rank=rank,
        world_size=size,
        timeout=datetime.timedelta(seconds=seconds),
        pg_options=options,
    )


def error_of(call: Callable[[], Any]) -> str:
    """The error that ``call`` ends with, by its type and words; "" where it ends well."""
    try:
        call()
    except (RuntimeError, ValueError, TypeError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


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
