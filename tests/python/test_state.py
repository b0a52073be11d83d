"""Runs that are stopped or killed and go on from a checkpoint give the losses of the run that was not, bit for bit."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import cgx
import cgx.torch
import ranks
import resumable


def _train(directory, every, plan, attempt, use_state, rank, size):
    ranks.init("cgx")
    result = resumable.train(Path(directory), every, plan, attempt, use_state)
    dist.destroy_process_group()
    return result


def _trained(size: int, directory: Path, every: int = resumable.STEPS, plan=(), attempt=0, use_state=True) -> list:
    directory.mkdir(exist_ok=True)
    body = functools.partial(_train, str(directory), every, list(plan), attempt, use_state)
    return ranks.run_all(size, body, timeout=120)


def _same_run(resumed: dict, whole: dict) -> bool:
    return all(resumed[name] == whole[name] for name in ("losses", "digests", "buckets"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[int, list[dict]]:
    """Runs that nobody stopped, by number of ranks: what each rank saw."""
    results = {}
    for size in (2, 3):
        outcome = _trained(size, tmp_path_factory.mktemp(f"whole{size}"))
        assert all(one.value for one in outcome), outcome
        results[size] = [one.value for one in outcome]
    return results


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("step", [1, 4])
def test_a_run_killed_and_resumed_gives_the_losses_of_the_whole_one(tmp_path, whole, size, step):
    plan = [{"attempt": 0, "rank": size - 1, "step": step + 1, "place": "in_hook"}]
    killed = _trained(size, tmp_path, step, plan)
    assert killed[-1].exit_code == -9
    assert all(one.error for one in killed)
    for one, original in zip(_trained(size, tmp_path, step, plan, attempt=1), whole[size], strict=True):
        assert one.error is None
        assert one.value["began"] == step
        assert _same_run(one.value, original)


def test_without_the_state_it_does_not(tmp_path, whole):
    plan = [{"attempt": 0, "rank": 1, "step": 5, "place": "in_hook"}]
    _trained(2, tmp_path, 4, plan)
    for rank, one in enumerate(_trained(2, tmp_path, 4, plan, attempt=1, use_state=False)):
        assert one.value["began"] == 4
        for resumed, original in zip(one.value["losses"], whole[2][rank]["losses"], strict=True):
            assert resumed[:5] == original[:5]  # the fifth is of weights that the checkpoint has
            assert resumed[5:] != original[5:]


@pytest.mark.parametrize("seed", [0])
def test_under_torchrun_a_run_killed_twice_gives_the_losses_of_the_whole_one(tmp_path, whole, seed):
    plan = resumable.random_plan(seed, 2)
    # --standalone: a new store each time. Without it ranks that start again find the addresses of those that died.
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["--max-restarts", "2"]
    command += ["--monitor-interval", "0.2", resumable.__file__, str(tmp_path), json.dumps(plan)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "CGX_SOCKET_IFNAME": "lo"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-4000:]
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["attempt"] == 2  # both kills happened
    assert _same_run(result, whole[2][0]), plan


def _model(rank, width=64):
    torch.manual_seed(0)
    model = DistributedDataParallel(nn.Linear(40, width))
    return model, cgx.torch.ddp_hook(model, "topk:ratio=0.1+ef")


def _foreign(rank, size):
    ranks.init("cgx")
    model, hook = _model(rank)
    model(torch.ones(4, 40)).square().sum().backward()
    state = cgx.torch.state_dict(model)
    name = f"rank{rank}of{size}"
    norm = hook.residual_norm("weight")
    broken = state[name]["communicator"].clone()
    broken[70] ^= 1
    tries = {
        "other rank": {f"rank{1 - rank}of{size}": state[name]},
        "other format": {name: {**state[name], "format": 99}},
        "other names": {name: {**state[name], "hooks": [{"tensor_ids": {"other.weight": 1}, "order": []}]}},
        "more models": {name: {**state[name], "hooks": state[name]["hooks"] * 2}},
        "damaged": {name: {**state[name], "communicator": broken}},
        "renamed": {name: {**state[name], "communicator": torch.zeros(100, dtype=torch.uint8)}},
        "not bytes": {name: {**state[name], "communicator": torch.zeros(100)}},
    }
    load = functools.partial(cgx.torch.load_state_dict, model)
    errors = {what: ranks.error_of(functools.partial(load, one)) for what, one in tries.items()}
    unchanged = hook.residual_norm("weight") == norm
    cgx.torch.load_state_dict(model, state)
    model(torch.ones(4, 40)).square().sum().backward()  # works on
    plain = DistributedDataParallel(nn.Linear(4, 4))
    errors["no hook"] = ranks.error_of(lambda: cgx.torch.state_dict(plain))
    dist.destroy_process_group()
    return errors, unchanged, norm


def test_states_that_do_not_fit_are_refused_and_change_nothing():
    for rank, (errors, unchanged, norm) in enumerate(ranks.run(2, _foreign)):
        assert unchanged
        assert norm > 0
        assert f"rank{1 - rank}of2" in errors["other rank"]
        assert "format 99" in errors["other format"]
        assert "other.weight" in errors["other names"]
        assert "2 models" in errors["more models"]
        assert "checksum" in errors["damaged"]
        assert "CGXSTATE" in errors["renamed"]
        assert "uint8" in errors["not bytes"]
        assert "ddp_hook" in errors["no hook"]


def _group_without_communicator(rank, size):
    ranks.init("cgx")
    state = cgx.torch.state_dict()
    cgx.torch.load_state_dict(None, state)
    dist.destroy_process_group()
    return state


def test_a_group_that_never_compressed_has_an_empty_state():
    for rank, state in enumerate(ranks.run(2, _group_without_communicator)):
        assert state == {f"rank{rank}of2": {"format": 1, "communicator": None, "hooks": []}}


def _frameworkless(rank, size):
    def steps(comm, count):
        out = []
        for _ in range(count):
            x = np.random.default_rng(rank).standard_normal(5000).astype(np.float32)
            out.append(comm.allreduce(x, "avg", "topk:ratio=0.05+ef", tensor=1).tobytes())
            y = np.random.default_rng(rank).standard_normal(5000).astype(np.float32)
            out.append(comm.allreduce(y, "avg", "maxmin:bits=4", tensor=2).tobytes())
        return out

    store = f"file:{os.environ['TEST_STORE']}-dir"
    with cgx.Communicator(rank, size, store, job="first", seed=3) as comm:
        steps(comm, 2)
        state = comm.state_dict()
        expected = steps(comm, 2)
    with cgx.Communicator(rank, size, store, job="second") as comm:
        with pytest.raises(cgx.Error, match="another copy"):
            comm.load_state_dict({name: one[:-1] for name, one in state.items()})
        with pytest.raises(cgx.Error, match="rank7of9"):
            comm.load_state_dict({"rank7of9": state[f"rank{rank}of{size}"]})
        comm.load_state_dict(state)
        assert comm.state_dict().keys() == state.keys()
        return steps(comm, 2) == expected


def test_a_numpy_communicator_goes_on_bit_for_bit():
    assert ranks.run(3, _frameworkless) == [True] * 3
