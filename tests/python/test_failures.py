"""What goes wrong between ranks: a named error on every survivor, within the timeout, and no hang."""

from __future__ import annotations

import datetime
import functools
import time

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import cgx.torch
import ranks
from cgx.torch._native import Layout

_TRANSPORTS = ["shm", "tcp", "gloo"]


def _options(transport: str = "auto") -> cgx.torch.Options:
    return cgx.torch.Options(codec="maxmin:bits=8", transport=transport)


def _different_counts(rank, size):
    ranks.init("cgx", _options(), seconds=15)
    error = ranks.error_of(lambda: dist.all_reduce(torch.ones(40 + rank, 50)))
    again = ranks.error_of(lambda: dist.all_reduce(torch.ones(40, 50)))
    return error, again


def test_different_counts_are_an_error_on_all_ranks_that_names_both():
    for error, again in ranks.run(2, _different_counts):
        assert "DistBackendError" in error
        assert "MISMATCH" in error
        assert "2000" in error
        assert "2050" in error
        assert "FAILED" in again  # the communicator says so from then on


def _different_specs(rank, size):
    ranks.init("cgx", cgx.torch.Options(codec=f"maxmin:bits={4 + rank}"), seconds=15)
    return ranks.error_of(lambda: dist.all_reduce(torch.ones(40, 50)))


def test_different_specs_are_an_error_on_all_ranks_that_names_both():
    for error in ranks.run(2, _different_specs):
        assert "MISMATCH" in error
        assert "bits=4" in error
        assert "bits=5" in error


def _different_policies(rank, size):
    ranks.init("cgx", seconds=15)
    model = DistributedDataParallel(nn.Linear(64, 64))
    cgx.torch.ddp_hook(model, f"maxmin:bits={4 + rank}")
    return ranks.error_of(lambda: model(torch.ones(2, 64)).sum().backward())


def test_different_policies_are_an_error_in_backward():
    for error in ranks.run(2, _different_policies):
        assert "MISMATCH" in error


def _killed(transport, rank, size):
    ranks.init("cgx", _options(transport), seconds=10)
    tensor = torch.ones(64, 64)
    dist.all_reduce(tensor)
    if rank == 1:
        ranks.die()
    begin = time.monotonic()
    error = ranks.error_of(lambda: dist.all_reduce(tensor))
    return error, time.monotonic() - begin


@pytest.mark.parametrize("transport", _TRANSPORTS)
def test_a_killed_rank_is_named_on_every_survivor_within_the_timeout(transport):
    outcomes = ranks.run_all(3, functools.partial(_killed, transport), timeout=40)
    assert outcomes[1].exit_code == -9
    for survivor in (outcomes[0], outcomes[2]):
        error, seconds = survivor.value
        assert "DistBackendError" in error
        assert "rank 1" in error
        assert seconds < 15


def _killed_in_training(rank, size):
    ranks.init("cgx", seconds=10)
    model = DistributedDataParallel(nn.Linear(64, 64))
    cgx.torch.ddp_hook(model)
    for step in range(3):
        if rank == 1 and step == 2:
            ranks.die()
        error = ranks.error_of(lambda: model(torch.ones(2, 64)).sum().backward())
    return error


def test_a_rank_killed_in_training_ends_backward_with_its_name():
    outcome = ranks.run_all(2, _killed_in_training, timeout=40)[0]
    assert "rank 1" in outcome.value


def _never_comes(rank, size):
    begin = time.monotonic()
    if rank == 1:
        return "", 0.0
    return ranks.error_of(lambda: ranks.init("cgx", _options(), seconds=3)), time.monotonic() - begin


def test_a_rank_that_never_comes_is_an_error_at_the_start():
    error, seconds = ranks.run(2, _never_comes)[0]
    assert error
    assert seconds < 15


def _never_calls(rank, size):
    ranks.init("cgx", _options(), seconds=3)
    dist.all_reduce(torch.ones(64, 64))
    if rank == 1:
        ranks.wait_for("timeout")  # alive, and busy with something else
        return "", 0.0
    begin = time.monotonic()
    error, seconds = ranks.error_of(lambda: dist.all_reduce(torch.ones(64, 64))), time.monotonic() - begin
    ranks.tell("timeout")
    return error, seconds


def test_a_rank_that_never_calls_is_named_after_the_timeout():
    error, seconds = ranks.run(2, _never_calls)[0]
    assert "rank 1" in error
    assert 2 < seconds < 15


def _wait_with_timeout(rank, size):
    ranks.init("cgx", _options(), seconds=20)
    dist.all_reduce(torch.ones(64, 64))
    if rank == 1:
        ranks.wait_for("waited")
    work = dist.all_reduce(torch.ones(64, 64), async_op=True)
    error = ""
    if rank == 0:
        error = ranks.error_of(lambda: work.wait(datetime.timedelta(milliseconds=100)))
        ranks.tell("waited")
    assert work.wait()
    dist.destroy_process_group()
    return error


def test_a_wait_that_times_out_leaves_the_collective_running():
    assert "goes on" in ranks.run(2, _wait_with_timeout)[0]


def _aborted(rank, size):
    ranks.init("cgx", _options(), seconds=20)
    dist.all_reduce(torch.ones(64, 64))
    if rank == 1:
        cgx.torch.backend_of().abort()
    return ranks.error_of(lambda: dist.all_reduce(torch.ones(64, 64)))


def test_abort_ends_the_collective_on_all_ranks():
    for error in ranks.run(2, _aborted):
        assert "DistBackendError" in error


def _destroyed(rank, size):
    ranks.init("cgx", _options())
    backend = cgx.torch.backend_of()
    group = dist.group.WORLD
    dist.destroy_process_group()
    backend.shutdown()
    of_group = ranks.error_of(lambda: group.allreduce([torch.ones(64, 64)]))
    return of_group, ranks.error_of(lambda: dist.all_reduce(torch.ones(2)))


def test_a_destroyed_group_says_so():
    for of_group, of_default in ranks.run(2, _destroyed):
        assert "shut down" in of_group
        assert of_default


def _bad_layouts(rank, size):
    ranks.init("cgx")
    backend = cgx.torch.backend_of()
    backend.connect()
    layout = Layout()
    layout.add(100, "maxmin:bits=4", 1)
    tries = {
        "count": torch.ones(99),
        "contiguous": torch.ones(10, 10).t(),
        "sparse": torch.eye(10).to_sparse(),
        "integer": torch.ones(100, dtype=torch.int64),
    }
    errors = {
        name: ranks.error_of(functools.partial(backend.allreduce_layout, tensor, layout, dist.ReduceOp.SUM))
        for name, tensor in tries.items()
    }
    errors["op"] = ranks.error_of(lambda: backend.allreduce_layout(torch.ones(100), layout, dist.ReduceOp.MAX))
    errors["codec"] = ranks.error_of(lambda: layout.add(10, "maxmin:bits=17", 2))
    # None of this has hurt the communicator.
    tensor = torch.ones(100)
    backend.allreduce_layout(tensor, layout, dist.ReduceOp.SUM).wait()
    dist.destroy_process_group()
    return errors, tensor[0].item()


def test_wrong_tensors_and_layouts_are_refused_before_anything_is_sent():
    for errors, value in ranks.run(2, _bad_layouts):
        assert "covers 100" in errors["count"]
        assert "not contiguous" in errors["contiguous"]
        assert "sparse" in errors["sparse"]
        assert "Long" in errors["integer"]
        assert "SUM or AVG" in errors["op"]
        assert "bits" in errors["codec"]
        assert all("ValueError" in error for error in errors.values())
        assert value == 2.0


def _foreign_options(rank, size):
    try:
        ranks.init("cgx", dist.ProcessGroupGloo._Options())
    except TypeError as error:
        return str(error)
    return ""


def test_options_of_another_backend_are_refused():
    for error in ranks.run(2, _foreign_options):
        assert "cgx.torch.Options" in error
