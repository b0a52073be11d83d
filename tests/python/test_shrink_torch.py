"""torch.distributed.shrink_group() on a cgx group: the ranks that live go on, their residuals with them."""

from __future__ import annotations

import datetime

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import cgx.torch
import ranks


def _sums(rank: int) -> tuple[float, int, int]:
    """By cgx, by Gloo, and by cgx again; ``rank`` is the one that this process had at first."""
    first, second, whole = torch.full((64, 64), 2.0**rank), torch.full((64, 64), 2.0**rank), torch.tensor([2**rank])
    dist.all_reduce(first)
    dist.all_reduce(whole)
    dist.all_reduce(second)
    return first[0, 0].item(), whole.item(), second[0, 0].item()


def _one_dies(rank, size):
    ranks.init("cgx", cgx.torch.Options(codec="maxmin:bits=8"))
    side = dist.new_group(backend="gloo")
    before = _sums(rank)
    if rank == 1:
        ranks.die()
    error = ranks.error_of(lambda: dist.all_reduce(torch.ones(64, 64)))
    group = dist.shrink_group([1])
    there = group is dist.group.WORLD, dist.get_rank(), dist.get_world_size(), dist.get_backend()
    after = _sums(rank)
    stats = cgx.torch.stats()["compressed"]["elements_compressed"]
    closed = ranks.error_of(lambda: dist.all_reduce(torch.ones(2), group=side))
    dist.destroy_process_group()
    return before, error, there, after, stats, closed


def test_the_survivors_of_a_killed_rank_go_on_in_the_default_group():
    outcomes = ranks.run_all(4, _one_dies)
    assert outcomes[1].exit_code == -9
    for new_rank, old_rank in enumerate((0, 2, 3)):
        outcome = outcomes[old_rank]
        assert outcome.error is None, outcome.error
        before, error, there, after, stats, closed = outcome.value
        assert before == (15, 15, 15)
        assert "rank 1" in error
        assert there == (True, new_rank, 3, "cgx")
        assert after == (13, 13, 13)
        assert stats == 2 * 64 * 64
        assert closed  # shrinking the default group ends all others: PyTorch's own rule


def _with_residuals(rank, size):
    ranks.init("cgx")
    module = nn.Linear(64, 64)
    model = DistributedDataParallel(module)
    hook = cgx.torch.ddp_hook(model, "topk:ratio=0.05+ef")
    x = torch.randn(8, 64, generator=torch.Generator().manual_seed(rank))
    model(x).square().sum().backward()
    owed = hook.residual_norm("weight")
    dist.barrier()
    if rank == 0:
        ranks.die()
    error = ranks.error_of(lambda: model(x).square().sum().backward())
    group = dist.shrink_group([0], shrink_flags=dist.distributed_c10d.SHRINK_ABORT)
    again = DistributedDataParallel(module, process_group=group)
    hook = cgx.torch.ddp_hook(again, "topk:ratio=0.05+ef")
    kept = hook.residual_norm("weight")
    again(x).square().sum().backward()
    gathered = [torch.empty_like(module.weight) for _ in range(2)]
    dist.all_gather(gathered, module.weight.grad)
    dist.destroy_process_group()
    return error, owed, kept, torch.equal(*gathered)


def test_residuals_go_along_where_hooks_are_made_again_in_the_same_order():
    outcomes = ranks.run_all(3, _with_residuals)
    for outcome in outcomes[1:]:
        assert outcome.error is None, outcome.error
        error, owed, kept, same = outcome.value
        assert error  # at the latest where DDP agrees on new buckets, over Gloo
        assert owed > 0
        assert kept == owed
        assert same


def _two_die(rank, size):
    ranks.init("cgx", cgx.torch.Options(codec="none", min_elements=0), seconds=20)
    _sums(rank)
    if rank in (1, 3):
        ranks.die()
    ranks.error_of(lambda: dist.all_reduce(torch.ones(64, 64)))
    too_few = ranks.error_of(lambda: dist.shrink_group([1]))
    foreign = ranks.error_of(lambda: dist.shrink_group([1, 3], pg_options=dist.ProcessGroupGloo._Options()))
    other = ranks.error_of(lambda: dist.shrink_group([1, 3], pg_options=cgx.torch.Options(transport="tcp", seed=9)))
    dist.shrink_group([1, 3], pg_options=cgx.torch.Options(codec="maxmin:bits=8"))
    codec = cgx.torch.stats()["codec"]
    sums = _sums(rank)
    dist.destroy_process_group()
    return too_few, foreign, other, codec, sums


def test_who_else_has_died_is_asked_for_and_options_may_change_what_is_compressed():
    outcomes = ranks.run_all(5, _two_die)
    for rank in (0, 2, 4):
        assert outcomes[rank].error is None, outcomes[rank].error
        too_few, foreign, other, codec, sums = outcomes[rank].value
        assert "leave 4 ranks, but 3 came" in too_few
        assert "cgx.torch.Options" in foreign
        assert "must be those of the group" in other
        assert codec.startswith("maxmin")
        assert sums == (21, 21, 21)


def _never_compressed(rank, size):
    ranks.init("cgx")
    if rank == 2:
        return None
    dist.shrink_group([2])
    total = torch.ones(3)
    dist.all_reduce(total)
    stats = cgx.torch.stats()["compressed"]
    dist.destroy_process_group()
    return total.tolist(), stats


def test_a_group_that_never_compressed_shrinks_too():
    for outcome in ranks.run(3, _never_compressed)[:2]:
        assert outcome == ([2.0] * 3, None)


def _in_a_side_group(rank, size):
    ranks.init("gloo")
    options, timeout = cgx.torch.Options(codec="natural"), datetime.timedelta(seconds=20)
    side = dist.new_group(backend="cgx", pg_options=options, timeout=timeout)
    tensor = torch.ones(64, 64)
    dist.all_reduce(tensor, group=side)
    dist.barrier()
    if rank == 2:
        return None
    cgx.torch.backend_of(side).abort()  # of a group that works: the excluded rank is told
    smaller = dist.shrink_group([2], group=side)
    tensor = torch.ones(64, 64)
    dist.all_reduce(tensor, group=smaller)
    return tensor[0, 0].item(), dist.get_world_size(), dist.get_world_size(smaller)


def test_a_group_beside_the_default_one_shrinks_alone():
    for outcome in ranks.run(3, _in_a_side_group)[:2]:
        assert outcome == (2.0, 3, 2)
