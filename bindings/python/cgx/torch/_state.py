"""What a restart needs beside model, optimizer and PyTorch's own random state: ``state_dict``, ``load_state_dict``.

Residuals, the random bits' counter and seed and the policy come from the communicator. The buckets of
DistributedDataParallel matter too: it cuts them anew after its first backward pass, by the order in which gradients
came, and a restarted run would make its first step with other buckets, so with other bits. So that order is
kept, and replayed with gradients of zero before the state is loaded.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ._backend import backend_of
from ._hook import DdpHook, hooks_of
from ._native import ProcessGroupCgx

_FORMAT = 1

Target = DistributedDataParallel | dist.ProcessGroup | None


def state_dict(target: Target = None) -> dict[str, Any]:
    """This rank's part of what later steps depend on, for ``torch.save`` with the rest of a checkpoint.

    ``target``: a model with a ``ddp_hook``, or a process group (None: the default one); either way all of the
    group's communicator. The key names the rank ("rank0of2"), as every rank saves and loads its own. Call it on all ranks,
    between steps. Tensors, numbers, strings and lists only, so that ``torch.load(weights_only=True)`` reads it.
    """
    backend = _backend(target)
    connected = backend.communicator_stats() is not None
    return {
        _name(backend): {
            "format": _FORMAT,
            "communicator": backend.save_state() if connected else None,
            "hooks": [{"tensor_ids": hook.tensor_ids(), "order": _order(hook)} for hook in hooks_of(backend)],
        }
    }


def load_state_dict(target: Target, state: dict[str, Any]) -> None:
    """Goes on where ``state_dict`` was called: bit for bit, if model, optimizer, data and random state do as well.

    Call it on all ranks, after ``DistributedDataParallel`` and ``ddp_hook`` were made as in the first run (same order, same
    parameters, same bucket_cap_mb) and before the first step. It runs one backward pass with gradients of zero for each
    model, to have its buckets cut as before; not where these never change (find_unused_parameters) nor where it
    cannot (static_graph, sparse gradients, mixed_precision: the first step then has other buckets). Raises
    ValueError or DistBackendError, and changes nothing, for a state of another rank or number of ranks (start without
    one then), of other parameters, or that is damaged.
    """
    backend = _backend(target)
    name = _name(backend)
    if name not in state:
        raise ValueError(
            f"the state is that of {', '.join(state) or 'nobody'}, this is {name}: every rank loads its own; start "
            "without a state where the number of ranks has changed"
        )
    mine = state[name]
    if mine.get("format") != _FORMAT:
        raise ValueError(f"the state has format {mine.get('format')}, this cgx.torch reads {_FORMAT}")
    hooks = hooks_of(backend)
    _check_parameters(hooks, mine["hooks"])
    if mine["communicator"] is None:
        return
    backend.connect()
    backend.load_state(mine["communicator"])  # finds what is wrong with it before any step is taken
    replayed = [_replay(hook, kept["order"]) for hook, kept in zip(hooks, mine["hooks"], strict=True)]
    if any(replayed):
        backend.load_state(mine["communicator"])


def _backend(target: Target) -> ProcessGroupCgx:
    if not isinstance(target, DistributedDataParallel):
        return backend_of(target)
    from ._hook import _hooks

    for hook in _hooks:
        if hook.model is not None and hook.model() is target:
            return hook.backend
    raise ValueError("this model has no cgx hook: call cgx.torch.ddp_hook(model) first, or give a process group")


def _name(backend: ProcessGroupCgx) -> str:
    return f"rank{backend.rank()}of{backend.size()}"


def _check_parameters(hooks: list[DdpHook], kept: list[dict[str, Any]]) -> None:
    if len(hooks) != len(kept):
        raise ValueError(f"the state is of {len(kept)} models with a ddp_hook, and now there are {len(hooks)}")
    for hook, one in zip(hooks, kept, strict=True):
        ours, theirs = hook.tensor_ids(), one["tensor_ids"]
        if ours != theirs:
            differ = sorted(set(ours.items()) ^ set(theirs.items()), key=str)[:4]
            raise ValueError(
                f"the state is of other parameters, or of hooks made in another order: {differ} (name, tensor id) "
                "are not in both"
            )


def _cuts_buckets_anew(model: DistributedDataParallel) -> bool:
    sparse = any(getattr(module, "sparse", False) for module in model.modules())
    return not (model.find_unused_parameters or model.static_graph or sparse or getattr(model, "mixed_precision", None))


def _order(hook: DdpHook) -> list[str]:
    """The parameters in the order of the buckets of the next step; none where that does not matter."""
    model = hook.model() if hook.model is not None else None
    if model is None or not hook.order or not _cuts_buckets_anew(model):
        return []
    if model.reducer._rebuild_buckets():  # else the next forward pass would: this was the first step
        model._has_rebuilt_buckets = True
        buckets = model.reducer._get_zeros_like_grad_buckets()
        hook.order = [name for bucket in buckets for name in hook.names_of(bucket.parameters())]
    return list(hook.order)


def _replay(hook: DdpHook, order: list[str]) -> bool:
    """Has the model's buckets cut as after a backward pass whose gradients came in ``order``."""
    model = hook.model() if hook.model is not None else None
    if model is None or not order or hook.order or not _cuts_buckets_anew(model):
        return False
    parameters = dict(model.module.named_parameters())
    kept = {name: parameter.grad for name, parameter in parameters.items()}

    def zeros(*_: Any, **__: Any) -> torch.Tensor:
        # What is used last has its gradient first.
        return sum(0 * parameters[name].flatten()[:1].sum() for name in reversed(order))

    with _forward_replaced(model.module, zeros), torch.enable_grad():
        model().backward()
    for name, parameter in parameters.items():
        parameter.grad = kept[name]
    model._has_rebuilt_buckets = bool(model.reducer._rebuild_buckets())
    return True


class _forward_replaced:  # noqa: N801 (a context manager)
    def __init__(self, module: nn.Module, forward: Any) -> None:
        self._module, self._forward, self._own = module, forward, module.__dict__.get("forward")

    def __enter__(self) -> None:
        self._module.forward = self._forward

    def __exit__(self, *_: object) -> None:
        if self._own is None:
            del self._module.forward
        else:
            self._module.forward = self._own
