"""Going on with the survivors from Python, where the rank that died also served the store."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket

import numpy as np
import pytest

import cgx


def _free_port() -> int:
    """Below those that the kernel gives to clients: one of them could take it before the rank that serves does."""
    for _ in range(100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", random.SystemRandom().randrange(10000, 30000)))
            return probe.getsockname()[1]
    raise OSError("no port of 127.0.0.1 can be bound")


def _survive(rank: int, store: str) -> bool:
    first = cgx.Communicator(rank=rank, size=3, store=store, interface="lo", timeout_ms=30000)
    first.allreduce(np.ones(1000, np.float32))
    if rank == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    with pytest.raises(cgx.Error, match="rank 0"):
        for _ in range(1000):
            first.allreduce(np.ones(1000, np.float32))
    left = first.shrink()
    first.close()
    x = left.allreduce(np.full(1000, 2.0**rank, np.float32), codec="maxmin:bits=4")
    good = left.size == 2 and left.rank == rank - 1 and bool(np.all(x == 6))
    left.close()
    return good


@pytest.mark.parametrize("kind", ["file", "tcp"])
def test_survivors_of_rank_zero_go_on(tmp_path, kind):
    store = f"file:{tmp_path}/store" if kind == "file" else f"tcp:127.0.0.1:{_free_port()}"
    children = []
    for rank in range(3):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = 0 if _survive(rank, store) else 2
            finally:
                os._exit(code)
        children.append(child)
    states = [os.waitpid(child, 0)[1] for child in children]
    assert os.WIFSIGNALED(states[0])
    assert states[1:] == [0, 0]
