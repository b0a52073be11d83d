"""Where the ranks of a new process group meet in a store that may hold what an earlier attempt left behind.

torchrun keeps its store over restarts, and PyTorch puts no attempt in its keys: ranks that start again would read the
addresses of the dead. So rank 0 draws a name, each rank answers with one of its own under it, and rank 0 confirms those
answers. A name whose confirmation lacks a rank's own answer is from an earlier attempt; that rank looks again.
"""

from __future__ import annotations

import datetime
import secrets
import time

import torch.distributed as dist

_LONGEST_PAUSE = 0.05


def _missing(what: str, timeout: datetime.timedelta) -> dist.DistBackendError:
    return dist.DistBackendError(f"cgx: {what} within {timeout.total_seconds():g} s")


def _wait(store: dist.Store, key: str, until: float) -> bool:
    """Whether ``key`` is there before the time ``until``. Asks again and again: a wait could not be given up."""
    pause = 0.001
    while not store.check([key]):
        if time.monotonic() > until:
            return False
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
    return True


def meet(store: dist.Store, rank: int, size: int, timeout: datetime.timedelta) -> str:
    """A name that the ranks of this attempt have in common, and no earlier attempt had. Collective."""
    deadline = time.monotonic() + timeout.total_seconds()
    mine = secrets.token_hex(8)
    if rank == 0:
        store.set("call", mine)
        answers = []
        for other in range(1, size):
            if not _wait(store, f"{mine}/{other}", deadline):
                raise _missing(f"rank {other} of {size} has not come to make the process group", timeout)
            answers.append(store.get(f"{mine}/{other}").decode())
        store.set(f"{mine}/all", ",".join(answers))
        return mine
    while _wait(store, "call", deadline):
        name = store.get("call").decode()
        store.set(f"{name}/{rank}", mine)
        # Not for long: rank 0 may be about to draw another name.
        if _wait(store, f"{name}/all", min(deadline, time.monotonic() + 1)):
            if mine in store.get(f"{name}/all").decode().split(","):
                return name
            time.sleep(_LONGEST_PAUSE)
        if time.monotonic() > deadline:
            break
    raise _missing(f"rank 0 has not come to make the process group (this is rank {rank} of {size})", timeout)
