"""What people build on torch.distributed: meshes, functional collectives, FSDP, torch.compile, over "cgx".

Restarts by torchrun are in test_state.py.
"""

from __future__ import annotations

import functools
import os
import time

import pytest
import torch
import torch.distributed as dist
import torch.distributed._functional_collectives as funcol
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import cgx.torch
import ranks

# All_reduces of floats do not go to Gloo.
_OURS = {"CGX_CODEC": "none", "CGX_MIN_ELEMENTS": "0", "CGX_COMPRESS_1D": "1"}


def _input(rank: int, *shape: int) -> torch.Tensor:
    # Whole numbers: sums are exact in any order.
    return torch.randint(-9, 9, shape, generator=torch.Generator().manual_seed(7 + rank)).float()


def _codecs_at_once(rank, size):
    ranks.init("cgx")
    specs = {(0, 1): "maxmin:bits=8", (1, 2): "natural", (0, 2): "none", (0, 1, 2): "cast:bf16"}
    groups = {
        members: dist.new_group(list(members), backend="cgx", pg_options=cgx.torch.Options(codec=spec))
        for members, spec in specs.items()
    }
    mine = {members: group for members, group in groups.items() if rank in members}
    tensors = {members: torch.full((64, 64), 2.0**rank) for members in mine}
    works = [dist.all_reduce(tensors[members], group=group, async_op=True) for members, group in mine.items()]
    for work in reversed(works):
        work.wait()
    codecs = {members: cgx.torch.stats(group)["codec"].split(":")[0] for members, group in mine.items()}
    dist.destroy_process_group()
    return {members: tensor.unique().tolist() for members, tensor in tensors.items()}, codecs


def test_overlapping_groups_with_different_codecs_work_at_once():
    for sums, codecs in ranks.run(3, _codecs_at_once):
        for members, values in sums.items():
            exact = float(sum(2**i for i in members))
            # Constants are exact in each codec; natural may round their sum 6 to a power of two.
            assert values == [exact] if codecs[members] != "natural" else set(values) <= {4.0, 6.0, 8.0}
        assert codecs.get((1, 2), "natural") == "natural"
        assert codecs[(0, 1, 2)] == "cast"


def _meshes(rank, size):
    ranks.init("cgx")
    line = dist.init_device_mesh("cpu", (size,))
    tensor = _input(rank, 50, 50)
    dist.all_reduce(tensor, group=line.get_group())
    plane = dist.init_device_mesh(
        "cpu",
        (2, 2),
        mesh_dim_names=("replica", "shard"),
        backend_override={"replica": ("cgx", cgx.torch.Options(codec="maxmin:bits=8")), "shard": "cgx"},
    )
    across, inside = torch.full((50, 50), float(rank)), torch.full((50, 50), float(rank))
    dist.all_reduce(across, group=plane["replica"].get_group())
    dist.all_reduce(inside, group=plane["shard"].get_group())
    compressed = [cgx.torch.stats(plane.get_group(name))["codec"] for name in ("replica", "shard")]
    dist.destroy_process_group()
    equal = torch.equal(tensor, sum(_input(i, 50, 50) for i in range(size)))
    return equal, across[0, 0].item(), inside[0, 0].item(), compressed


def test_meshes_of_one_and_two_dimensions_with_a_codec_for_one_of_them():
    outcomes = ranks.run(4, _meshes)
    for equal, _, _, compressed in outcomes:
        assert equal
        assert compressed[0].startswith("maxmin")
        assert compressed[1] is None
    assert [(across, inside) for _, across, inside, _ in outcomes] == [(2, 1), (4, 1), (2, 5), (4, 5)]


def _functional(group, rank, size):
    x, wide = _input(rank, 12, 5), _input(rank, 4 * size, 3)
    results = [
        funcol.all_reduce(x, "sum", group),
        funcol.all_reduce(x, "avg", group),
        funcol.all_reduce(x, "max", group),
        funcol.broadcast(x, 1, group),
        funcol.all_gather_tensor(x, 0, group),
        funcol.reduce_scatter_tensor(wide, "sum", 0, group),
        funcol.all_to_all_single(wide, None, None, group),
        *funcol.all_reduce_coalesced([x, wide], "sum", group),
        *funcol.all_gather_into_tensor_coalesced([x, wide], group),
        *funcol.reduce_scatter_tensor_coalesced([wide, wide], "sum", [0, 0], group),
    ]
    return [funcol.wait_tensor(one).clone() for one in results]


def _functional_beside_gloo(rank, size):
    ranks.init("cgx")
    gloo = dist.new_group(backend="gloo")
    ours, theirs = _functional(dist.group.WORLD, rank, size), _functional(gloo, rank, size)
    stats = cgx.torch.stats()
    dist.destroy_process_group()
    return [torch.equal(a, b) for a, b in zip(ours, theirs, strict=True)], stats


@pytest.mark.parametrize("environment", [{}, _OURS], ids=["delegated", "own"])
def test_functional_collectives_give_what_gloo_gives(environment):
    for equal, stats in ranks.run(2, _functional_beside_gloo, **environment):
        assert equal == [True] * 13
        assert (stats["compressed"] is not None) == bool(environment)
        if environment:
            assert stats["compressed"]["collectives"] == 4  # sum, average, and two at once
            assert set(stats["delegated"]) == {"other_reduction"}


_ROUNDS = 8


def _kept() -> tuple[int, int]:
    return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))


def _grown(before: tuple[int, int]) -> tuple[int, int]:
    descriptors, threads = _kept()
    return descriptors - before[0], threads - before[1]


def _round(store, transport):
    os.environ["TEST_STORE"] = store
    ranks.init("cgx", cgx.torch.Options(codec="maxmin:bits=8", transport=transport))
    side = dist.new_group(backend="cgx", pg_options=cgx.torch.Options(codec="natural", transport=transport))
    for group in (None, side):
        dist.all_reduce(torch.ones(50, 50), group=group)
        dist.all_reduce(torch.ones(50, dtype=torch.int64), group=group)
    dist.barrier()
    dist.destroy_process_group()


def _again_and_again(transport, rank, size):
    store = os.environ["TEST_STORE"]
    for i in range(4):  # what is made once for a process
        _round(f"{store}.before.{i}", transport)
    before = _kept()
    for i in range(_ROUNDS):
        _round(f"{store}.{i}", transport)
    # Threads end on their own time, on a busy machine late: a few may be there yet, or were still before.
    deadline = time.monotonic() + 60
    while max(_grown(before)) >= _ROUNDS // 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    return _grown(before)


@pytest.mark.parametrize("transport", ["shm", "tcp"])
def test_making_and_destroying_the_process_group_leaves_no_descriptors_and_no_threads(transport):
    for descriptors, threads in ranks.run(2, functools.partial(_again_and_again, transport), timeout=180):
        # What is left behind piles up, one a round at least.
        assert descriptors < _ROUNDS // 2
        assert threads < _ROUNDS // 2


def _detail(rank, size):
    dist.set_debug_level_from_env()
    ranks.init("cgx")
    model = DistributedDataParallel(nn.Linear(64, 64))
    cgx.torch.ddp_hook(model, "maxmin:bits=4")
    model(torch.ones(2, 64)).sum().backward()
    compressed = cgx.torch.stats()["compressed"]["elements_compressed"]
    error = ""
    try:
        dist.all_reduce(torch.ones(10 + rank))
    except RuntimeError as caught:
        error = str(caught)
    return compressed, error


def test_debug_level_detail_finds_a_mismatch_and_lets_hooks_work():
    for compressed, error in ranks.run(2, _detail, TORCH_DISTRIBUTED_DEBUG="DETAIL"):
        assert compressed == 64 * 64
        assert "mismatch" in error


def _titles(rank, size):
    ranks.init("cgx")
    other = 1 - rank
    with torch.autograd.profiler.profile(record_shapes=True) as profile:
        dist.all_reduce(torch.ones(3))
        dist.broadcast(torch.ones(4), src=0)
        dist.reduce(torch.ones(5), dst=0)
        dist.all_gather([torch.ones(6) for _ in range(size)], torch.ones(6))
        dist.all_gather_into_tensor(torch.ones(7 * size), torch.ones(7))
        dist.reduce_scatter_tensor(torch.ones(8), torch.ones(8 * size))
        dist.all_to_all_single(torch.ones(2), torch.ones(2))
        dist.barrier()
        works = [dist.isend(torch.ones(9), other), dist.irecv(torch.ones(9), other)]
        for work in works:
            work.wait()
    assert dist.all_reduce(torch.ones(3), async_op=True).wait() is not None
    dist.destroy_process_group()
    return [(event.name, event.input_shapes) for event in profile.function_events if ":" in event.name]


def test_the_profiler_shows_delegated_collectives_under_our_name():
    for events in ranks.run(2, _titles):
        names = [name for name, _ in events if name.split(":")[0] in ("cgx", "gloo")]
        wanted = ["all_reduce", "broadcast", "reduce", "all_gather", "all_gather", "reduce_scatter", "all_to_all"]
        wanted += ["barrier", "send", "recv"]
        assert sorted(names) == sorted(f"cgx:{title}" for title in wanted)
        assert ("cgx:broadcast", [[4]]) in events


def _step(model, optimizer, batch):
    optimizer.zero_grad()
    loss = model(batch).square().mean()
    loss.backward()
    optimizer.step()
    return loss.detach()


def _compiled(rank, size):
    ranks.init("cgx")
    results = []
    for compiled in (False, True):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 4))
        model = DistributedDataParallel(module)
        cgx.torch.ddp_hook(model, "maxmin:bits=4,rounding=nearest")
        forward = torch.compile(model, backend="aot_eager") if compiled else model
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        batches = torch.randn(3, 8, 64, generator=torch.Generator().manual_seed(rank))
        results.append([_step(forward, optimizer, batch).item() for batch in batches])

    def average(x):
        return funcol.all_reduce(x * 2, "avg", dist.group.WORLD) + 1

    tensor = _input(rank, 30, 30)
    fused = torch.compile(average, backend="aot_eager", fullgraph=True)(tensor)
    equal = torch.equal(fused, average(tensor))
    compressed = cgx.torch.stats()["compressed"]["elements_compressed"]
    dist.destroy_process_group()
    return results, equal, compressed


def test_a_compiled_step_trains_as_the_eager_one():
    for (eager, compiled), equal, compressed in ranks.run(2, _compiled, timeout=180):
        assert eager == compiled
        assert equal
        assert compressed == 2 * 3 * 64 * 64


def _sharded(backend, rank, size):
    from torch.distributed.fsdp import fully_shard

    ranks.init(backend)
    mesh = dist.init_device_mesh("cpu", (size,))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 4))
    for layer in (model[0], model[2], model):
        fully_shard(layer, mesh=mesh)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batches = torch.randn(3, 8, 16, generator=torch.Generator().manual_seed(rank))
    losses = [_step(model, optimizer, batch).item() for batch in batches]
    dist.destroy_process_group()
    return losses


def test_fsdp_trains_as_over_gloo():
    ours, theirs = (ranks.run(2, functools.partial(_sharded, backend)) for backend in ("cgx", "gloo"))
    assert ours == theirs


def _by_device(rank, size):
    ranks.init("cpu:gloo,cuda:cgx")
    tensor = torch.ones(5)
    dist.all_reduce(tensor)
    group = dist.group.WORLD
    kinds = [type(group._get_backend(torch.device(device))).__name__ for device in ("cpu", "cuda")]
    try:
        cgx.torch.stats()
    except ValueError as error:
        told = str(error)
    dist.destroy_process_group()
    return tensor[0].item(), kinds, told


def test_a_backend_for_each_device():
    for value, kinds, told in ranks.run(2, _by_device):
        assert value == 2.0
        assert kinds == ["ProcessGroupGloo", "ProcessGroupCgx"]
        assert "not cgx" in told
