"""Plain all_reduce with a codec asked for, by options or environment: what is compressed, what is not, and why."""

from __future__ import annotations

import functools
import threading

import pytest
import torch
import torch.distributed as dist

import cgx
import cgx.torch
import ranks

# maxmin of 8 bits over [0, 1) on two ranks: two roundings of the contributions and one of their sum, each below
# one step, which is (1 - 0) / 255 for a contribution and 2 / 255 for the sum. (Owners' own parts are exact.)
_BOUND = 4 / 255


def _reasons(rank, size):
    ranks.init("cgx", cgx.torch.Options(codec="maxmin:bits=8"))
    generator = torch.Generator().manual_seed(rank)
    dist.all_reduce(torch.rand(50, 50, generator=generator))
    dist.all_reduce(torch.rand(5, 5))
    dist.all_reduce(torch.rand(5000))
    dist.all_reduce(torch.ones(50, 50, dtype=torch.int64))
    dist.all_reduce(torch.ones(50, 50, dtype=torch.float64))
    dist.all_reduce(torch.rand(50, 50), op=dist.ReduceOp.MAX)
    dist.all_reduce(torch.rand(50, 50).t())
    dist.all_reduce(torch.eye(50).to_sparse())
    dist.all_reduce_coalesced([torch.rand(50, 50), torch.rand(5, 5)])
    dist.all_reduce_coalesced([torch.rand(5, 5), torch.rand(6, 6)])
    stats = cgx.torch.stats()
    dist.destroy_process_group()
    return stats


def test_statistics_say_what_was_compressed_and_why_the_rest_was_not():
    for stats in ranks.run(2, _reasons):
        assert stats["codec"].startswith("maxmin:bits=8")
        assert stats["compressed"]["elements_compressed"] == 2500
        assert {reason: row["calls"] for reason, row in stats["delegated"].items()} == {
            "small": 2,
            "one_dimensional": 1,
            "not_float": 2,
            "other_reduction": 1,
            "not_contiguous": 1,
            "sparse": 1,
            "coalesced": 1,
        }


def _values(dtype, rank, size):
    ranks.init("cgx", cgx.torch.Options(codec="maxmin:bits=8", compress_1d=True))
    inputs = [torch.rand(3000, generator=torch.Generator().manual_seed(i)).to(dtype) for i in range(size)]
    total, average = inputs[rank].clone(), inputs[rank].clone()
    dist.all_reduce(total)
    dist.all_reduce(average, op=dist.ReduceOp.AVG)
    exact = sum(tensor.float() for tensor in inputs)
    everyone = [torch.empty_like(total) for _ in range(size)]
    dist.all_gather(everyone, total)
    dist.destroy_process_group()
    identical = all(torch.equal(total, other) for other in everyone)
    return identical, (total.float() - exact).abs().max().item(), (average.float() - exact / size).abs().max().item()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_sums_and_averages_are_near_and_equal_on_all_ranks(dtype):
    rounding = 2 * torch.finfo(dtype).eps  # of the result, which is below 2
    for identical, of_sum, of_average in ranks.run(2, functools.partial(_values, dtype)):
        assert identical
        assert of_sum <= _BOUND + rounding
        assert of_average <= _BOUND / 2 + rounding


def _auto(rank, size):
    ranks.init("cgx", cgx.torch.Options(codec="auto:error=0.1", compress_1d=True, threads=2))
    before = cgx.torch.policy()
    tensor = torch.rand(200_000, generator=torch.Generator().manual_seed(rank))
    exact = sum(torch.rand(200_000, generator=torch.Generator().manual_seed(i)) for i in range(size))
    dist.all_reduce(tensor)
    lazily = cgx.torch.policy()
    cgx.torch.tune()
    again = cgx.torch.policy()
    dist.destroy_process_group()
    return before, lazily, again, ((tensor - exact).square().sum() / exact.square().sum()).item()


def test_auto_measures_once_and_stays_within_the_error():
    policies = []
    for before, lazily, again, error in ranks.run(2, _auto):
        assert before is None
        assert lazily["ranks"] == 2
        assert again["transport"] == lazily["transport"]
        # Of one rounding at most 0.1 of what is rounded; scatter_gather rounds twice. Uniform elements are narrower
        # than normal ones, so their errors are smaller.
        assert error <= 0.2
        policies.append((lazily, again))
    assert policies[0] == policies[1]


def _coalesced(rank, size):
    ranks.init("cgx", cgx.torch.Options(codec="maxmin:bits=8"))
    tensors = [torch.rand(50, 50 + i, generator=torch.Generator().manual_seed(rank + 10 * i)) for i in range(3)]
    exact = [
        sum(torch.rand(50, 50 + i, generator=torch.Generator().manual_seed(r + 10 * i)) for r in range(size))
        for i in range(3)
    ]
    results = dist.all_reduce_coalesced(tensors, async_op=True).wait()
    stats = cgx.torch.stats()
    dist.destroy_process_group()
    assert all(a is b or torch.equal(a, b) for a, b in zip(results, tensors, strict=True))
    return max((a - b).abs().max().item() for a, b in zip(tensors, exact, strict=True)), stats


def test_coalesced_tensors_are_compressed_each():
    for error, stats in ranks.run(2, _coalesced):
        assert error <= _BOUND + 1e-6
        assert stats["compressed"]["collectives"] == 3
        assert stats["compressed"]["elements_compressed"] == 50 * (50 + 51 + 52)
        assert stats["delegated"] == {}


def _uncompressed(rank, size):
    ranks.init("cgx", cgx.torch.Options(codec="none", min_elements=0, compress_1d=True))
    gloo = dist.new_group(backend="gloo")
    equal = []
    for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
        # Small whole numbers: their sums are exact in every order and every type.
        tensor = torch.randint(-8, 8, (3001,), generator=torch.Generator().manual_seed(rank)).to(dtype)
        ours, theirs = tensor.clone(), tensor.clone()
        dist.all_reduce(ours)
        dist.all_reduce(theirs, group=gloo)
        equal.append(torch.equal(ours, theirs))
    dist.all_reduce(torch.ones(5, dtype=torch.int64))
    dist.all_reduce(torch.ones(5), op=dist.ReduceOp.MAX)
    sequence = cgx.torch.backend_of()._get_sequence_number_for_group()
    stats = cgx.torch.stats()
    dist.destroy_process_group()
    return equal, sequence, stats


def test_codec_none_runs_floats_through_our_own_collectives():
    for equal, sequence, stats in ranks.run(2, _uncompressed):
        assert equal == [True] * 4
        assert sequence == 6  # ours and Gloo's together: DETAIL compares it over the ranks
        assert stats["codec"] == "none"
        assert stats["compressed"]["collectives"] == 4
        assert stats["compressed"]["elements_compressed"] == 0
        assert stats["compressed"]["wire_bytes"] > 0
        assert {reason: row["calls"] for reason, row in stats["delegated"].items()} == {
            "not_float": 1,
            "other_reduction": 1,
        }


def _environment(rank, size):
    ranks.init("cgx")
    dist.all_reduce(torch.rand(20, 20))
    dist.all_reduce(torch.rand(500))
    stats = cgx.torch.stats()
    dist.destroy_process_group()
    return stats


def test_the_environment_asks_too():
    variables = {"CGX_CODEC": "natural", "CGX_MIN_ELEMENTS": "100", "CGX_COMPRESS_1D": "1"}
    for stats in ranks.run(2, _environment, **variables):
        assert stats["codec"] == "natural"
        assert stats["compressed"]["elements_compressed"] == 900
        assert stats["delegated"] == {}


def _both_gloos(rank, size):
    ranks.init("cgx", cgx.torch.Options(codec="maxmin:bits=8", transport="gloo"))
    theirs = dist.new_group(backend="gloo")
    for _ in range(5):
        ours, exact = torch.full((64, 64), rank + 1.0), torch.full((64, 64), rank + 1.0)
        dist.all_reduce(ours)
        dist.all_reduce(exact, group=theirs)
    transport = cgx.torch.stats()["compressed"]["transport"]
    dist.destroy_process_group()
    return transport, ours[0, 0].item(), exact[0, 0].item()


def test_our_gloo_transport_and_pytorchs_gloo_live_in_one_process():
    assert ranks.run(2, _both_gloos) == [("gloo", 3.0, 3.0)] * 2


def _asynchronous(rank, size):
    ranks.init("cgx", cgx.torch.Options(codec="maxmin:bits=8"))
    tensors = [torch.full((64, 64), float(rank + i)) for i in range(10)]
    works = [dist.all_reduce(tensor, async_op=True) for tensor in tensors]
    for work in works:
        assert work.wait()
    assert all(work.is_completed() and work.is_success() for work in works)
    assert torch.equal(works[3].result()[0], tensors[3])
    sums = [tensor[0, 0].item() for tensor in tensors]
    future = dist.all_reduce(torch.ones(64, 64), async_op=True).get_future()
    first = future.then(lambda f: f.value()[0][0, 0].item())
    assert first.wait() == size
    assert future.value()[0][0, 0].item() == size
    dist.destroy_process_group()
    return sums


def test_work_and_futures():
    assert ranks.run(2, _asynchronous) == [[2.0 * i + 1 for i in range(10)]] * 2


def _collective_in_a_callback(rank, size):
    ranks.init("cgx", cgx.torch.Options(codec="maxmin:bits=8"))

    def again(future):
        tensor = future.value()[0].clone()
        # As PowerSGD's hook does: a collective, waited for, inside a callback.
        return dist.all_reduce(tensor, async_op=True).get_future().wait()[0]

    result = dist.all_reduce(torch.ones(64, 64), async_op=True).get_future().then(again).wait()
    dist.destroy_process_group()
    return result[0, 0].item()


def test_a_callback_may_run_another_collective_and_wait_for_it():
    assert ranks.run(2, _collective_in_a_callback) == [4.0, 4.0]


def _profiled(rank, size):
    ranks.init("cgx", cgx.torch.Options(codec="maxmin:bits=8"))
    with torch.autograd.profiler.profile() as profile:
        dist.all_reduce(torch.ones(64, 64))
    dist.destroy_process_group()
    return [event.name for event in profile.function_events]


def test_the_profiler_names_the_collective():
    assert "cgx:all_reduce" in ranks.run(2, _profiled)[0]


def _from_threads(rank, size):
    ranks.init("cgx", cgx.torch.Options(codec="maxmin:bits=8"))
    groups = [dist.new_group(backend="cgx", pg_options=cgx.torch.Options(codec="maxmin:bits=8")) for _ in range(3)]
    tensors = [torch.full((64, 64), float(i)) for i in range(3)]

    def work(i):
        for _ in range(10):
            tensors[i].fill_(float(i))
            dist.all_reduce(tensors[i], group=groups[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    dist.destroy_process_group()
    return [tensor[0, 0].item() for tensor in tensors]


def test_groups_are_used_from_threads_at_the_same_time():
    assert ranks.run(2, _from_threads) == [[0.0, 2.0, 4.0]] * 2


def test_wrong_options_are_refused():
    with pytest.raises(cgx.Error, match="bits"):
        cgx.torch.Options(codec="maxmin:bits=17")
    with pytest.raises(cgx.Error, match="nonsense"):
        cgx.torch.Options(codec="nonsense")
    with pytest.raises(ValueError, match="ddp_hook"):
        cgx.torch.Options(codec="topk:ratio=0.01+ef")
    with pytest.raises(ValueError, match="min_elements -1"):
        cgx.torch.Options(min_elements=-1)
    with pytest.raises(cgx.Error, match="bits"):
        cgx.torch.Policy(default="maxmin:bits=17")
    with pytest.raises(cgx.Error, match="nonsense"):
        cgx.torch.Policy(rules=[("weight", "nonsense")])
    with pytest.raises(TypeError, match="DistributedDataParallel"):
        cgx.torch.ddp_hook(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="not initialized"):
        cgx.torch.stats()
