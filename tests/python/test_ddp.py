"""DistributedDataParallel with and without the hook: averages, what is compressed, and replicas that stay equal."""

from __future__ import annotations

import functools

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import cgx
import cgx.torch
import ranks


def _model() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Linear(40, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 4)
    )


def _bits(model: nn.Module) -> bytes:
    return b"".join(p.detach().contiguous().view(torch.uint8).numpy().tobytes() for p in model.parameters())


def _replicas_equal(model: nn.Module) -> bool:
    everyone = [None] * dist.get_world_size()
    dist.all_gather_object(everyone, _bits(model))
    return all(bits == everyone[0] for bits in everyone)


def _train(model: nn.Module, rank: int, steps: int = 4) -> list[bool]:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    dtype = next(model.parameters()).dtype
    generator = torch.Generator().manual_seed(100 + rank)
    equal = []
    for _ in range(steps):
        optimizer.zero_grad()
        output = model(torch.randn(16, 40, generator=generator).to(dtype))
        output.float().square().mean().backward()
        optimizer.step()
        equal.append(_replicas_equal(model))
    return equal


def _without_hook(rank, size):
    ranks.init("cgx")
    gloo = dist.new_group(backend="gloo")
    ours, theirs = DistributedDataParallel(_model()), DistributedDataParallel(_model(), process_group=gloo)
    equal = _train(ours, rank) + _train(theirs, rank)
    same = _bits(ours) == _bits(theirs)
    stats = cgx.torch.stats()
    dist.destroy_process_group()
    return equal, same, stats


def test_without_a_hook_nothing_is_compressed_and_all_is_as_over_gloo():
    for equal, same, stats in ranks.run(2, _without_hook):
        assert all(equal)
        assert same
        assert stats["compressed"] is None
        assert stats["parameters"] == []


POLICIES = {
    "maxmin": cgx.torch.Policy(default="maxmin:bits=4"),
    "error_feedback": cgx.torch.Policy(default="topk:ratio=0.1+ef"),
    "everything": cgx.torch.Policy(default="natural", min_elements=0, compress_1d=True),
    "mixed": cgx.torch.Policy(
        default="dither:bits=4",
        rules=[(r"^0\.", "topk:ratio=0.05"), (lambda p: p.size == 64 * 48, "natural8"), ("bias", None)],
        min_elements=100,
    ),
}


def _with_hook(policy, options, rank, size):
    ranks.init("cgx", cgx.torch.Options(**options))
    model = DistributedDataParallel(_model())
    hook = cgx.torch.ddp_hook(model, POLICIES[policy])
    equal = _train(model, rank)
    stats = cgx.torch.stats()
    report = hook.report()
    dist.destroy_process_group()
    return equal, stats, report


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("policy", POLICIES)
def test_with_the_hook_replicas_are_equal_bit_for_bit_after_every_step(policy, size):
    for equal, stats, report in ranks.run(size, functools.partial(_with_hook, policy, {})):
        assert all(equal)
        compressed = stats["compressed"]
        parts = ("elements_compressed", "elements_raw", "elements_too_small", "elements_not_float")
        assert sum(compressed[part] for part in parts) == compressed["elements"]
        assert compressed["elements_compressed"] > 0
        assert compressed["wire_bytes"] < compressed["raw_bytes"]
        assert stats["parameters"] == report


@pytest.mark.parametrize("algorithm", [row["name"] for row in cgx.algorithms()])
def test_the_hook_works_with_every_algorithm(algorithm):
    body = functools.partial(_with_hook, "maxmin", {"algorithm": algorithm})
    for equal, _, _ in ranks.run(2, body):
        assert all(equal)


def test_the_policy_says_what_travels_how_and_why():
    _, stats, _ = ranks.run(2, functools.partial(_with_hook, "mixed", {}))[0]
    rows = {row["name"]: (row["spec"], row["reason"]) for row in stats["parameters"]}
    assert rows == {
        "0.weight": ("topk:ratio=0.05", "rule"),
        "0.bias": ("topk:ratio=0.05", "rule"),
        "1.weight": (None, "small"),
        "1.bias": (None, "rule"),
        "3.weight": ("natural8", "rule"),
        "3.bias": (None, "rule"),
        "5.weight": ("dither:bits=4", "default"),
        "5.bias": (None, "rule"),
    }


def test_one_dimensional_and_small_parameters_stay_raw_by_default():
    _, stats, _ = ranks.run(2, functools.partial(_with_hook, "maxmin", {}))[0]
    reasons = {row["name"]: row["reason"] for row in stats["parameters"]}
    assert reasons["0.weight"] == "default"
    assert reasons["5.weight"] == "small"  # 192 elements
    assert {reasons[name] for name in ("0.bias", "1.weight", "3.bias")} == {"small"}
    big = cgx.torch.Parameter("norm.weight", (4096,), torch.float32)
    assert cgx.torch.Policy().choose(big) == cgx.torch.Policy().choose(big)
    assert cgx.torch.Policy().choose(big).reason == "one_dimensional"
    assert cgx.torch.Policy(compress_1d=True).choose(big).spec is not None
    assert cgx.torch.Policy().choose(cgx.torch.Parameter("w", (64, 64), torch.float64)).reason == "not_float"


def _exact_average(rank, size):
    """With every parameter raw, the hook must give the average, and so the same model as DDP's own averaging."""
    ranks.init("cgx")
    gloo = dist.new_group(backend="gloo")
    ours, theirs = DistributedDataParallel(_model()), DistributedDataParallel(_model(), process_group=gloo)
    cgx.torch.ddp_hook(ours, cgx.torch.Policy(default=None))
    _train(ours, rank), _train(theirs, rank)
    difference = max((a - b).abs().max().item() for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    dist.destroy_process_group()
    return difference


def test_the_hook_averages():
    # Two ranks: (a + b) / 2 and a / 2 + b / 2 are the same float, unless a half is subnormal.
    assert ranks.run(2, _exact_average) == [0.0, 0.0]


class _Constant(nn.Module):
    """A loss whose gradient is always the weight's own direction, on every rank and at every step."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(11)
        self.directions = [torch.randn(40, 30, generator=generator), torch.randn(20, 70, generator=generator)]
        self.layers = nn.ParameterList([nn.Parameter(torch.zeros(40, 30)), nn.Parameter(torch.zeros(20, 70))])

    def forward(self) -> torch.Tensor:
        return sum((layer * direction).sum() for layer, direction in zip(self.layers, self.directions, strict=True))


def _rebuilt_buckets(rank, size):
    ranks.init("cgx")
    module = _Constant()
    model = DistributedDataParallel(module, bucket_cap_mb=0.001)
    hook = cgx.torch.ddp_hook(model, cgx.torch.Policy(default="topk:ratio=0.25+ef", min_elements=0))
    seen, reduce = [], hook.reduce
    hook.reduce = lambda bucket: seen.append([p.numel() for p in bucket.parameters()]) or reduce(bucket)
    sums = [torch.zeros_like(layer) for layer in module.layers]
    steps = 8
    for _ in range(steps):
        model.zero_grad()
        model().backward()
        for total, layer in zip(sums, module.layers, strict=True):
            total += layer.grad
    # Each residual, by its own account, and the gradient that was not applied.
    norms = [hook.residual_norm(f"layers.{i}") for i in range(2)]
    missing = [(steps * d - s).norm().item() for d, s in zip(module.directions, sums, strict=True)]
    dist.destroy_process_group()
    return seen, norms, missing, [d.norm().item() for d in module.directions]


def test_residuals_follow_their_parameter_when_ddp_rebuilds_its_buckets():
    for seen, norms, missing, directions in ranks.run(2, _rebuilt_buckets):
        assert seen[0] == [1200, 1400]  # the first step: one bucket, in the model's order
        assert [1400] in seen  # later: one for each
        for norm, lost, direction in zip(norms, missing, directions, strict=True):
            # What was not applied is in the residuals. All ranks have the same gradient, so an
            # average of contributions loses what each rank's residual holds; the owners' residuals add at most as much.
            assert lost <= 2 * norm + 1e-3 * direction
            # A quarter of the elements goes each step, so that none waits for much more than four.
            assert lost < 6 * direction


class _Partly(nn.Module):
    """A model of which each step uses one branch."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.branches = nn.ModuleList([nn.Linear(40, 50), nn.Linear(40, 50)])

    def forward(self, x: torch.Tensor, which: int) -> torch.Tensor:
        return self.branches[which](x)


def _unused(rank, size):
    ranks.init("cgx")
    model = DistributedDataParallel(_Partly(), find_unused_parameters=True, gradient_as_bucket_view=True)
    cgx.torch.ddp_hook(model, "maxmin:bits=4+ef")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    generator = torch.Generator().manual_seed(rank)
    equal = []
    for step in range(4):
        optimizer.zero_grad()
        model(torch.randn(8, 40, generator=generator), step % 2).square().mean().backward()
        optimizer.step()
        equal.append(_replicas_equal(model))
    stats = cgx.torch.stats()
    dist.destroy_process_group()
    return equal, stats


def test_unused_parameters_and_gradients_as_views_of_the_bucket():
    for equal, stats in ranks.run(2, _unused):
        assert all(equal)
        assert stats["delegated"]["not_asked"]["calls"] > 0  # the integers that say which parameters were used


def _low_precision(dtype, rank, size):
    ranks.init("cgx")
    model = DistributedDataParallel(_model().to(dtype))
    cgx.torch.ddp_hook(model, "maxmin:bits=6")
    equal = _train(model, rank)
    compressed = cgx.torch.stats()["compressed"]["elements_compressed"]
    dist.destroy_process_group()
    return equal, compressed


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_parameters_of_other_types(dtype):
    for equal, compressed in ranks.run(2, functools.partial(_low_precision, dtype)):
        assert all(equal)
        assert (compressed > 0) == (dtype != torch.float64)


def _sparse_gradients(rank, size):
    ranks.init("cgx")
    torch.manual_seed(0)
    model = DistributedDataParallel(nn.Sequential(nn.Embedding(50, 40, sparse=True), nn.Linear(40, 40)))
    cgx.torch.ddp_hook(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(3):
        optimizer.zero_grad()
        model(torch.tensor([rank, 3 + step])).square().mean().backward()
        optimizer.step()
    equal = _replicas_equal(model)
    dist.destroy_process_group()
    return equal


def test_sparse_gradients_go_uncompressed():
    assert ranks.run(2, _sparse_gradients) == [True, True]


def _side_group(rank, size):
    ranks.init("gloo")
    model = DistributedDataParallel(_model())
    with pytest.raises(ValueError, match="not cgx"):
        cgx.torch.ddp_hook(model)
    side = dist.new_group(backend="cgx")
    cgx.torch.ddp_hook(model, process_group=side)
    equal = _train(model, rank)
    compressed = cgx.torch.stats(side)["compressed"]["elements_compressed"]
    dist.destroy_process_group()
    return equal, compressed


def test_a_model_over_gloo_takes_a_cgx_group_beside_it():
    for equal, compressed in ranks.run(2, _side_group):
        assert all(equal)
        assert compressed > 0


def _two_models(rank, size):
    ranks.init("cgx")
    models = [DistributedDataParallel(_model()) for _ in range(2)]
    hooks = [cgx.torch.ddp_hook(model, "topk:ratio=0.1+ef") for model in models]
    ids = [{hook.tensor_id(row["name"]) for row in hook.report()} for hook in hooks]
    equal = [_train(model, rank) for model in models]
    dist.destroy_process_group()
    return equal, ids[0] & ids[1]


def test_two_models_on_one_group_share_no_residuals():
    for equal, shared in ranks.run(2, _two_models):
        assert all(map(all, equal))
        assert shared == set()
