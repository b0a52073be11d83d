"""What frameworks do around gradients, under the hook: accumulation, no_sync, unused parameters, AMP, clipping."""

from __future__ import annotations

import functools
import math

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import cgx
import cgx.torch
import ranks

# One spec of each codec, and the sparse ones with error feedback.
_SPECS = [
    "cast:fp16",
    "cast:bf16",
    "maxmin:bits=4",
    "dither:bits=4",
    "natdither:bits=4",
    "natural",
    "natural8",
    "topk:ratio=0.05",
    "topk:ratio=0.05+ef",
    "topk:ratio=0.05|natural",
    "maxmin:bits=2+ef",
    "randk:ratio=0.1",
]


def test_every_codec_is_among_the_specs():
    assert {spec.partition(":")[0].partition("+")[0] for spec in _SPECS} == {row["name"] for row in cgx.codecs()} - {
        "none",
        "auto",
    }


class _Given(nn.Module):
    """Its weight's gradient is what forward() is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(40, 64))

    def forward(self, gradient: torch.Tensor) -> torch.Tensor:
        return (self.weight * gradient).sum()


def _gradient(rank: int, step: int) -> torch.Tensor:
    return torch.randn(40, 64, generator=torch.Generator().manual_seed(100 * step + rank))


def _same_everywhere(tensor: torch.Tensor) -> bool:
    everyone = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
    dist.all_gather(everyone, tensor.contiguous())
    return all(torch.equal(one.view(torch.int32), everyone[0].view(torch.int32)) for one in everyone)


# ---- Gradient accumulation and no_sync -------------------------------------------------------------


def _accumulate(spec, with_no_sync, rank, size):
    """Two steps of three backward passes; each step's relative error, and the collectives."""
    ranks.init("cgx")
    model = DistributedDataParallel(_Given())
    cgx.torch.ddp_hook(model, cgx.torch.Policy(default=spec))
    found = []
    for step in range(2):
        model.zero_grad()
        passes = range(3 * step, 3 * step + 3)
        for number in passes:
            if with_no_sync and number != passes[-1]:
                with model.no_sync():
                    model(_gradient(rank, number)).backward()
            else:
                model(_gradient(rank, number)).backward()
        exact = sum(_gradient(r, number) for r in range(size) for number in passes) / size
        gradient = model.module.weight.grad
        found.append((((gradient - exact).norm() / exact.norm()).item(), _same_everywhere(gradient)))
    collectives = cgx.torch.stats()["compressed"]["collectives"]
    dist.destroy_process_group()
    return found, collectives


@pytest.mark.parametrize("with_no_sync", [True, False])
@pytest.mark.parametrize("spec", [None, "maxmin:bits=8", "natural", "topk:ratio=0.05+ef"])
def test_accumulated_gradients_are_averaged(spec, with_no_sync):
    body = functools.partial(_accumulate, spec, with_no_sync)
    for found, collectives in ranks.run(2, body):
        assert collectives == (2 if with_no_sync else 6)
        for error, same in found:
            assert same
            # Sums of a few floats in other orders; 8 bits: steps of 1/255 of a bucket's range, about 6 standard
            # deviations, two roundings, at most thrice; natural: factors of up to 4/3 from 2^n; top-k: what it lost
            # comes later, and is less than the whole.
            limit = {None: 1e-6, "maxmin:bits=8": 3 * 2 * 6 / 255, "natural": 0.5}.get(spec, 1.0)
            assert error <= limit


def _accumulated_with_feedback(rank, size):
    """no_sync with error feedback: what was not applied is in the residuals, as if each step had been one pass."""
    ranks.init("cgx")
    model = DistributedDataParallel(_Given())
    hook = cgx.torch.ddp_hook(model, "topk:ratio=0.25+ef")
    applied, exact = torch.zeros(40, 64), torch.zeros(40, 64)
    for step in range(8):
        model.zero_grad()
        with model.no_sync():
            model(_gradient(0, 0)).backward()
        model(_gradient(0, 1)).backward()
        applied += model.module.weight.grad
        exact += _gradient(0, 0) + _gradient(0, 1)
    norm = hook.residual_norm("weight")
    dist.destroy_process_group()
    return (exact - applied).norm().item(), norm, exact.norm().item()


def test_accumulation_with_error_feedback_owes_only_what_the_residuals_hold():
    for missing, norm, exact in ranks.run(2, _accumulated_with_feedback):
        # Equal gradients on both ranks: the average owes what each contribution's residual holds, and at most as much
        # for the owner's sums.
        assert missing <= 2 * norm + 1e-4 * exact
        assert missing < 0.5 * exact


# ---- Parameters that a step does not use -----------------------------------------------------------


class _Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.branches = nn.ModuleList([_Given(), _Given(), _Given()])

    def forward(self, which: int, gradient: torch.Tensor) -> torch.Tensor:
        return self.branches[which](gradient)


def _unused(spec, rank, size):
    """Ranks use different branches, and nobody the third in most steps. What was applied to each, and what was due."""
    ranks.init("cgx")
    model = DistributedDataParallel(_Branches(), find_unused_parameters=True)
    hook = cgx.torch.ddp_hook(model, cgx.torch.Policy(default=spec))
    applied, due = torch.zeros(3, 40, 64), torch.zeros(3, 40, 64)
    same, none_where_unused = [], []
    for step in range(12):
        model.zero_grad()
        used = [(r + step) % 2 if step % 4 else 2 for r in range(size)]
        model(used[rank], _gradient(rank, step % 4)).backward()
        for r in range(size):
            due[used[r]] += _gradient(r, step % 4) / size
        for which, branch in enumerate(model.module.branches):
            if branch.weight.grad is not None:
                applied[which] += branch.weight.grad
                same.append(_same_everywhere(branch.weight.grad))
            none_where_unused.append((branch.weight.grad is None) == (which not in used))
    norms = [hook.residual_norm(f"branches.{which}.weight") for which in range(3)]
    dist.destroy_process_group()
    missing = [(due[which] - applied[which]).norm().item() for which in range(3)]
    return same, none_where_unused, missing, norms, [due[which].norm().item() for which in range(3)]


@pytest.mark.parametrize("spec", [None, "maxmin:bits=8", "topk:ratio=0.25+ef", "maxmin:bits=2+ef"])
def test_parameters_that_nobody_used_get_no_gradient_and_lose_none(spec):
    results = ranks.run(2, functools.partial(_unused, spec))
    for same, none_where_unused, missing, _, due in results:
        assert all(same)
        assert all(none_where_unused)
        for which in range(3):
            lost = missing[which]
            if spec is None:
                assert lost <= 1e-5 * due[which]
            elif spec == "maxmin:bits=8":
                assert lost <= 3 * 6 / 255 * due[which]
            else:
                # Residuals of contributions count half each (an average of two), those of sums in full.
                owed = sum(norms[which] for _, _, _, norms, _ in results)
                assert lost <= math.sqrt(2) * owed + 1e-4 * due[which]


# ---- AMP -------------------------------------------------------------------------------------------


_BAD = {1: math.inf, 3: math.nan, 4: -math.inf}  # by step


def _amp(spec, rank, size):
    """Steps with a GradScaler; in three of them one rank alone has a gradient with one bad element."""
    ranks.init("cgx", cgx.torch.Options(seed=1))
    torch.manual_seed(0)
    model = DistributedDataParallel(_Given())
    cgx.torch.ddp_hook(model, cgx.torch.Policy(default=spec))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=1000)
    rows = []
    for step in range(7):
        optimizer.zero_grad()
        gradient = _gradient(rank, step)
        if step in _BAD and rank == size - 1:
            gradient[17, 23] = _BAD[step]
        before = model.module.weight.detach().clone()
        scaler.scale(model(gradient)).backward()
        scaler.unscale_(optimizer)
        found = not torch.isfinite(model.module.weight.grad).all().item()
        scaler.step(optimizer)
        scaler.update()
        moved = not torch.equal(before, model.module.weight)
        rows.append((found, moved, scaler.get_scale(), bool(torch.isfinite(model.module.weight).all())))
    same = _same_everywhere(model.module.weight.detach())
    dist.destroy_process_group()
    return rows, same


@pytest.mark.parametrize("spec", _SPECS)
def test_one_bad_element_of_one_rank_reaches_the_scaler_of_every_rank(spec):
    for rows, same in ranks.run(2, functools.partial(_amp, spec)):
        assert same
        assert [found for found, _, _, _ in rows] == [step in _BAD for step in range(7)]
        assert [moved for _, moved, _, _ in rows] == [step not in _BAD for step in range(7)]
        assert [scale for _, _, scale, _ in rows] == [1024.0, 512.0, 512.0, 256.0, 128.0, 128.0, 128.0]
        assert all(finite for _, _, _, finite in rows)


def _halves(rank, size):
    """autocast to bf16 with fp32 weights, and a scaler."""
    ranks.init("cgx")
    torch.manual_seed(0)
    model = DistributedDataParallel(nn.Sequential(nn.Linear(40, 64), nn.ReLU(), nn.Linear(64, 48)))
    cgx.torch.ddp_hook(model, "maxmin:bits=4")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu")
    generator = torch.Generator().manual_seed(rank)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(torch.randn(16, 40, generator=generator)).square().mean()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
    same = all(_same_everywhere(p.detach()) for p in model.parameters())
    dist.destroy_process_group()
    return losses, same


def test_autocast_trains():
    for losses, same in ranks.run(2, _halves):
        assert same
        assert losses[-1] < losses[0]


# ---- Gradient clipping -----------------------------------------------------------------------------


def _clipped(spec, rank, size):
    ranks.init("cgx")
    model = DistributedDataParallel(nn.Sequential(nn.Linear(40, 64), nn.ReLU(), nn.Linear(64, 48)))
    cgx.torch.ddp_hook(model, cgx.torch.Policy(default=spec))
    generator = torch.Generator().manual_seed(rank)
    rows = []
    for step in range(3):
        model.zero_grad()
        (model(torch.randn(16, 40, generator=generator)).square().sum() * 10).backward()
        before = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
        if step < 2:
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, error_if_nonfinite=True)
        else:
            norm = before
            torch.nn.utils.clip_grad_value_(model.parameters(), 0.01)
        flat = torch.cat([p.grad.flatten() for p in model.parameters()])
        rows.append((norm.item(), before.item(), flat.norm().item(), flat.abs().max().item(), _same_everywhere(flat)))
    dist.destroy_process_group()
    return rows


@pytest.mark.parametrize("spec", [None, "maxmin:bits=4", "topk:ratio=0.05+ef"])
def test_clipping_sees_the_same_norm_on_every_rank(spec):
    ours, theirs = ranks.run(2, functools.partial(_clipped, spec))
    assert ours == theirs
    for number, (norm, before, after, largest, same) in enumerate(ours):
        assert same
        assert norm == pytest.approx(before, rel=1e-5)
        assert norm > 1
        if number < 2:
            assert after <= 1 + 1e-5
        else:
            assert largest <= 0.01
