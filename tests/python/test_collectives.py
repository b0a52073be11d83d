"""Every collective of c10d in the backend "cgx", beside the same over Gloo: equal results, bit for bit."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
import torch.distributed._functional_collectives

import cgx.torch
import ranks


def _input(rank: int, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7 + rank)
    if dtype.is_floating_point:
        return torch.randn(*shape, generator=generator).to(dtype)
    return torch.randint(0, 100, shape, generator=generator, dtype=dtype)


def _all_reduce(op, dtype=torch.float32):
    def run(group, rank, size):
        tensor = _input(rank, 40, 50, dtype=dtype)
        dist.all_reduce(tensor, op=op, group=group)
        return [tensor]

    return run


def _all_reduce_coalesced(group, rank, size):
    tensors = [_input(rank, 30), _input(rank, 20, 4)]
    dist.all_reduce_coalesced(tensors, group=group)
    return tensors


def _sparse(group, rank, size):
    tensor = (_input(rank, 8, 8) * (_input(rank, 8, 8) > 1)).to_sparse()
    dist.all_reduce(tensor, group=group)
    return [tensor.to_dense()]


def _not_contiguous(group, rank, size):
    tensor = _input(rank, 60, 80).t()
    dist.all_reduce(tensor, group=group)
    part = _input(rank, 60, 80)[:, ::2]
    dist.all_reduce(part, group=group)
    return [tensor, part]


def _broadcast(group, rank, size):
    tensor = _input(rank, 100)
    dist.broadcast(tensor, src=size - 1, group=group)
    return [tensor]


def _reduce(group, rank, size):
    tensor = _input(rank, 100)
    dist.reduce(tensor, dst=0, group=group)
    return [tensor] if rank == 0 else []


def _all_gather(group, rank, size):
    out = [torch.empty(33) for _ in range(size)]
    dist.all_gather(out, _input(rank, 33), group=group)
    return out


def _all_gather_into_tensor(group, rank, size):
    out = torch.empty(33 * size)
    dist.all_gather_into_tensor(out, _input(rank, 33), group=group)
    return [out]


def _all_gather_coalesced(group, rank, size):
    outs = [[torch.empty(7) for _ in range(size)], [torch.empty(3, 2) for _ in range(size)]]
    transposed = [[outs[0][i], outs[1][i]] for i in range(size)]
    dist.all_gather_coalesced(transposed, [_input(rank, 7), _input(rank, 3, 2)], group=group)
    return [tensor for row in transposed for tensor in row]


def _gather(group, rank, size):
    out = [torch.empty(10) for _ in range(size)] if rank == 0 else None
    dist.gather(_input(rank, 10), out, dst=0, group=group)
    return out or []


def _scatter(group, rank, size):
    tensor = torch.empty(10)
    dist.scatter(tensor, [_input(i, 10) for i in range(size)] if rank == 0 else None, src=0, group=group)
    return [tensor]


def _reduce_scatter(group, rank, size):
    out = torch.empty(10)
    dist.reduce_scatter(out, [_input(rank * size + i, 10) for i in range(size)], group=group)
    return [out]


def _reduce_scatter_tensor(group, rank, size):
    out = torch.empty(10)
    dist.reduce_scatter_tensor(out, _input(rank, 10 * size), group=group)
    return [out]


def _all_to_all_single(group, rank, size):
    out = torch.empty(4 * size)
    dist.all_to_all_single(out, _input(rank, 4 * size), group=group)
    return [out]


def _all_to_all(group, rank, size):
    out = [torch.empty(5) for _ in range(size)]
    dist.all_to_all(out, [_input(rank * size + i, 5) for i in range(size)], group=group)
    return out


def _send_recv(group, rank, size):
    tensor = _input(rank, 20)
    if rank == 0:
        dist.send(tensor, dst=1, group=group)
    elif rank == 1:
        dist.recv(tensor, src=0, group=group)
    return [tensor]


def _recv_from_any(group, rank, size):
    tensor = _input(rank, 20)
    if rank == 0:
        dist.send(tensor, dst=1, group=group)
    elif rank == 1:
        assert dist.recv(tensor, group=group) == 0
    return [tensor]


def _batch_isend_irecv(group, rank, size):
    incoming = torch.empty(20)
    operations = [
        dist.P2POp(dist.isend, _input(rank, 20), (rank + 1) % size, group=group),
        dist.P2POp(dist.irecv, incoming, (rank - 1) % size, group=group),
    ]
    for work in dist.batch_isend_irecv(operations):
        work.wait()
    return [incoming]


def _objects(group, rank, size):
    gathered = [None] * size
    dist.all_gather_object(gathered, {"rank": rank}, group=group)
    assert gathered == [{"rank": i} for i in range(size)]
    said = [f"from {rank}"]
    dist.broadcast_object_list(said, src=0, group=group)
    assert said == ["from 0"]
    collected = [None] * size if rank == 1 else None
    dist.gather_object({"rank": rank}, collected, dst=1, group=group)
    assert collected == ([{"rank": i} for i in range(size)] if rank == 1 else None)
    given = [None]
    dist.scatter_object_list(given, [f"for {i}" for i in range(size)] if rank == 0 else None, src=0, group=group)
    assert given == [f"for {rank}"]
    if rank == 0:
        dist.send_object_list(["sent"], dst=1, group=group)
    elif rank == 1:
        received = [None]
        dist.recv_object_list(received, src=0, group=group)
        assert received == ["sent"]
    return []


def _barrier(group, rank, size):
    dist.barrier(group=group)
    assert dist.barrier(group=group, async_op=True).wait() is not None
    return []


CASES = {
    "all_reduce_sum": _all_reduce(dist.ReduceOp.SUM),
    "all_reduce_avg": _all_reduce(dist.ReduceOp.AVG),
    "all_reduce_max": _all_reduce(dist.ReduceOp.MAX),
    "all_reduce_product": _all_reduce(dist.ReduceOp.PRODUCT),
    "all_reduce_int64": _all_reduce(dist.ReduceOp.SUM, torch.int64),
    "all_reduce_int32_bor": _all_reduce(dist.ReduceOp.BOR, torch.int32),
    "all_reduce_uint8": _all_reduce(dist.ReduceOp.SUM, torch.uint8),
    "all_reduce_float64": _all_reduce(dist.ReduceOp.SUM, torch.float64),
    "all_reduce_float16": _all_reduce(dist.ReduceOp.SUM, torch.float16),
    "all_reduce_bfloat16": _all_reduce(dist.ReduceOp.SUM, torch.bfloat16),
    "all_reduce_coalesced": _all_reduce_coalesced,
    "all_reduce_sparse": _sparse,
    "all_reduce_not_contiguous": _not_contiguous,
    "broadcast": _broadcast,
    "reduce": _reduce,
    "all_gather": _all_gather,
    "all_gather_into_tensor": _all_gather_into_tensor,
    "all_gather_coalesced": _all_gather_coalesced,
    "gather": _gather,
    "scatter": _scatter,
    "reduce_scatter": _reduce_scatter,
    "reduce_scatter_tensor": _reduce_scatter_tensor,
    "all_to_all_single": _all_to_all_single,
    "all_to_all": _all_to_all,
    "send_recv": _send_recv,
    "recv_from_any": _recv_from_any,
    "batch_isend_irecv": _batch_isend_irecv,
    "objects": _objects,
    "barrier": _barrier,
}


def _outcome(case, group, rank, size):
    """The tensors, or the text of the error where Gloo itself does not offer the collective."""
    try:
        return case(group, rank, size)
    except (RuntimeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"


def _same(ours, theirs) -> bool:
    if isinstance(theirs, str) or isinstance(ours, str):
        # Messages name places in the source and the backend; the kind of error has to agree.
        return isinstance(ours, str) and isinstance(theirs, str) and ours.split(":")[0] == theirs.split(":")[0]
    return len(ours) == len(theirs) and all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def _compare_all(rank, size):
    ranks.init("cgx")
    gloo = dist.new_group(backend="gloo")
    different = []
    for name, case in CASES.items():
        ours, theirs = _outcome(case, dist.group.WORLD, rank, size), _outcome(case, gloo, rank, size)
        if not _same(ours, theirs):
            different.append((name, str(ours)[:300], str(theirs)[:300]))
    stats = cgx.torch.stats()
    dist.destroy_process_group()
    return different, stats


@pytest.mark.parametrize("size", [2, 3])
def test_every_collective_gives_what_gloo_gives_and_nothing_is_compressed_unasked(size):
    for different, stats in ranks.run(size, _compare_all):
        assert different == []
        assert stats["compressed"] is None
        assert set(stats["delegated"]) == {"not_asked"}


def _sub_groups(rank, size):
    ranks.init("cgx")
    low = dist.new_group([0, 1], backend="cgx")
    high = dist.new_group([2, 3], backend="cgx", pg_options=cgx.torch.Options(codec="maxmin:bits=8"))
    mine = low if rank < 2 else high
    tensor = torch.full((64, 64), float(rank))
    dist.all_reduce(tensor, group=mine)
    everyone = torch.full((64, 64), float(rank))
    dist.all_reduce(everyone)
    stats = cgx.torch.stats(mine)
    dist.destroy_process_group()
    return tensor[0, 0].item(), everyone[0, 0].item(), stats


def test_sub_groups_have_their_own_options_and_statistics():
    results = ranks.run(4, _sub_groups)
    assert [r[0] for r in results] == [1.0, 1.0, 5.0, 5.0]
    assert [r[1] for r in results] == [6.0] * 4
    assert results[0][2]["delegated"] == {"not_asked": {"calls": 1, "elements": 4096}}
    assert results[3][2]["compressed"]["elements_compressed"] == 4096


def _mixed_backend(rank, size):
    ranks.init("cpu:cgx")
    tensor = torch.ones(5)
    dist.all_reduce(tensor)
    name = dist.get_backend_config()
    dist.destroy_process_group()
    return tensor[0].item(), str(name)


def test_the_backend_is_chosen_by_device():
    assert ranks.run(2, _mixed_backend) == [(2.0, "cpu:cgx")] * 2


def _again_and_again(rank, size):
    values = []
    ranks.init("cgx", cgx.torch.Options(codec="maxmin:bits=8"))
    for _ in range(3):
        group = dist.new_group(backend="cgx", pg_options=cgx.torch.Options(codec="maxmin:bits=8"))
        tensor = torch.ones(50, 50)
        dist.all_reduce(tensor, group=group)
        values.append(tensor[0, 0].item())
        dist.destroy_process_group(group)
    dist.destroy_process_group()
    return values


def test_groups_are_made_and_destroyed_again_and_again():
    assert ranks.run(2, _again_and_again) == [[2.0] * 3] * 2


def _debugged(rank, size):
    dist.set_debug_level(dist.DebugLevel.DETAIL)
    ranks.init("cgx", cgx.torch.Options(codec="maxmin:bits=8"))
    tensor = torch.ones(50, 50)
    dist.all_reduce(tensor)
    compressed = cgx.torch.stats()["compressed"]["elements_compressed"]
    dist.destroy_process_group()
    return tensor[0, 0].item(), compressed


def test_the_wrapper_of_debug_level_detail_is_looked_through():
    assert ranks.run(2, _debugged) == [(2.0, 2500)] * 2


def _mesh(rank, size):
    ranks.init("cgx")
    mesh = dist.init_device_mesh("cpu", (2, 2), mesh_dim_names=("replica", "shard"))
    tensor = torch.full((50, 50), float(rank))
    dist.all_reduce(tensor, group=mesh.get_group("shard"))
    gathered = dist._functional_collectives.all_gather_tensor(torch.ones(3) * rank, 0, (mesh, 0))
    values = tensor[0, 0].item(), gathered.tolist()[::3]
    dist.destroy_process_group()
    return values


def test_device_meshes_and_functional_collectives():
    assert ranks.run(4, _mesh) == [(1.0, [0.0, 2.0]), (1.0, [1.0, 3.0]), (5.0, [0.0, 2.0]), (5.0, [1.0, 3.0])]
