"""Ranks that meet in a store which outlives them, as torchrun's does: what earlier attempts left misleads no one."""

from __future__ import annotations

import datetime
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch.distributed as dist

import cgx.torch  # noqa: F401 (loads the library first)
from cgx.torch._meeting import meet

_LONG = datetime.timedelta(seconds=60)


def _meet_all(store: dist.Store, size: int) -> set[str]:
    with ThreadPoolExecutor(size) as pool:
        return {future.result() for future in [pool.submit(meet, store, rank, size, _LONG) for rank in range(size)]}


def test_ranks_agree_on_a_name_that_no_earlier_meeting_had():
    store = dist.HashStore()
    names = [_meet_all(store, 3) for _ in range(4)]
    assert all(len(one) == 1 for one in names)
    assert len(set.union(*names)) == 4
    assert len(_meet_all(dist.HashStore(), 1)) == 1


@pytest.mark.parametrize("confirmed", [True, False], ids=["that had met", "that had not met"])
def test_an_earlier_attempt_is_not_mistaken_for_this_one(confirmed):
    store = dist.HashStore()
    store.set("call", "stale")
    store.set("stale/1", "answer")
    if confirmed:
        store.set("stale/all", "answer,other")
    with ThreadPoolExecutor(3) as pool:
        others = [pool.submit(meet, store, rank, 3, _LONG) for rank in (1, 2)]
        # Both have read the stale name before rank 0 comes.
        store.wait(["stale/2"], _LONG)
        name = meet(store, 0, 3, _LONG)
        assert name != "stale"
        assert [other.result() for other in others] == [name, name]


def test_who_has_not_come_is_named():
    short = datetime.timedelta(milliseconds=50)
    with pytest.raises(dist.DistBackendError, match="rank 1 of 2 has not come"):
        meet(dist.HashStore(), 0, 2, short)
    with pytest.raises(dist.DistBackendError, match="rank 0 has not come"):
        meet(dist.HashStore(), 1, 2, short)
