"""The communication hook of DistributedDataParallel: one collective a bucket, a spec for each parameter in it.

Everything is keyed by the parameter, never by (bucket, offset): DDP rebuilds its buckets after the first step.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from ._backend import backend_of
from ._native import Layout, ProcessGroupCgx
from ._policy import Parameter, Policy

_FEEDBACK = "+ef"
_hooks: weakref.WeakSet[DdpHook] = weakref.WeakSet()


class DdpHook:
    """The state of one model's hook. Making one is collective. ``report()`` says what travels how."""

    def __init__(
        self, module: torch.nn.Module, policy: Policy, backend: ProcessGroupCgx, group: dist.ProcessGroup
    ) -> None:
        backend.connect()
        self.backend = backend
        self._group = group
        named = list(module.named_parameters())
        first = backend.reserve_tensor_ids(len(named))
        self._parameters = [parameter for _, parameter in named]  # held, so that no id() is used again
        self._tensor_ids = {id(parameter): first + i for i, (_, parameter) in enumerate(named)}
        described = [Parameter(name, tuple(parameter.shape), parameter.dtype) for name, parameter in named]
        self._described = dict(zip(self._tensor_ids.values(), described, strict=True))
        self._choices = {tensor_id: policy.choose(one) for tensor_id, one in self._described.items()}
        self._layouts: dict[tuple[tuple[int, ...], tuple[bool, ...]], Layout] = {}
        self.model: weakref.ref[DistributedDataParallel] | None = None  # this and the next are set by make_hook
        self.holds_back = False  # DDP drops what comes for parameters that no rank used: nothing owed may go there
        self.order: list[str] = []  # of the parameters in the buckets of the last backward pass
        _hooks.add(self)

    def report(self) -> list[dict[str, Any]]:
        """For each parameter in order: name, shape, spec (None: uncompressed) and the reason."""
        return [
            {"name": one.name, "shape": one.shape, "spec": self._choices[i].spec, "reason": self._choices[i].reason}
            for i, one in self._described.items()
        ]

    def names(self) -> dict[int, str]:
        """The parameters' names by their tensor ids."""
        return {tensor_id: one.name for tensor_id, one in self._described.items()}

    def names_of(self, parameters: list[torch.Tensor]) -> list[str]:
        return [self._described[self._tensor_ids[id(parameter)]].name for parameter in parameters]

    def tensor_ids(self) -> dict[str, int]:
        """The other way round."""
        return {name: tensor_id for tensor_id, name in self.names().items()}

    def tensor_id(self, name: str) -> int:
        """The id under which the parameter's residual is kept."""
        return next(i for i, one in self._described.items() if one.name == name)

    def residual_norm(self, name: str) -> float:
        """The L2 norm of the parameter's residuals on this rank; 0 without error feedback. Not during a step."""
        return self.backend.residual_norm(self.tensor_id(name))

    def layout(self, parameters: list[torch.Tensor], unused: tuple[bool, ...] = ()) -> Layout:
        """The layout of a bucket that holds ``parameters`` in this order; ``unused`` ones go without error feedback."""
        ids = tuple(self._tensor_ids[id(parameter)] for parameter in parameters)
        found = self._layouts.get((ids, unused))
        if found is None:
            found = self._layouts[ids, unused] = Layout()
            for i, (tensor_id, parameter) in enumerate(zip(ids, parameters, strict=True)):
                spec = self._choices[tensor_id].spec or ""
                if unused and unused[i]:
                    spec = spec.removesuffix(_FEEDBACK)
                if parameter.numel() > 0:
                    found.add(parameter.numel(), spec, tensor_id)
        return found

    def _unused(self, bucket: dist.GradBucket) -> tuple[bool, ...]:
        """Which of the bucket's parameters have a gradient of zero on every rank: one small all_reduce."""
        used = torch.tensor([int(gradient.any()) for gradient in bucket.gradients()])
        dist.all_reduce(used, op=dist.ReduceOp.MAX, group=self._group)
        return tuple(used.eq(0).tolist())

    def reduce(self, bucket: dist.GradBucket) -> torch.futures.Future:
        """Averages a bucket in place."""
        buffer, parameters = bucket.buffer(), bucket.parameters()
        if bucket.index() == 0:
            self.order = []
        self.order += self.names_of(parameters)
        if buffer.layout != torch.strided:
            return self._reduce_sparse(buffer)
        unused = self._unused(bucket) if self.holds_back else ()
        work = self.backend.allreduce_layout(buffer, self.layout(parameters, unused), dist.ReduceOp.AVG)
        return work.get_future().then(lambda future: future.value()[0])

    def _reduce_sparse(self, buffer: torch.Tensor) -> torch.futures.Future:
        # Gloo knows no average of sparse tensors.
        work = dist.all_reduce(buffer, group=self._group, async_op=True)
        return work.get_future().then(lambda future: future.value()[0].div_(self._group.size()))


def _run_hook(state, bucket):  # noqa: ANN001, ANN202 (DDP looks at annotations, and knows few)
    return state.reduce(bucket)


def hooks_of(backend: ProcessGroupCgx) -> list[DdpHook]:
    """In the order in which they were made."""
    ours = [hook for hook in _hooks if hook.backend is backend]
    return sorted(ours, key=lambda hook: min(hook.tensor_ids().values(), default=0))


def make_hook(
    model: DistributedDataParallel, policy: Policy | str | None = None, process_group: dist.ProcessGroup | None = None
) -> DdpHook:
    """As ``ddp_hook``, without registering it: for a hook of one's own that calls ``reduce(bucket)``."""
    if not isinstance(model, DistributedDataParallel):
        raise TypeError(f"ddp_hook takes a DistributedDataParallel model, not {type(model).__name__}")
    policy = Policy() if policy is None else Policy(default=policy) if isinstance(policy, str) else policy
    group = model.process_group if process_group is None else process_group
    if dist.get_process_group_ranks(group) != dist.get_process_group_ranks(model.process_group):
        raise ValueError("process_group must hold the ranks of the model's own group, in the same order")
    hook = DdpHook(model.module, policy, backend_of(group), group)
    hook.model = weakref.ref(model)
    hook.holds_back = model.find_unused_parameters and any(
        (row["spec"] or "").endswith(_FEEDBACK) for row in hook.report()
    )
    return hook


def ddp_hook(
    model: DistributedDataParallel, policy: Policy | str | None = None, process_group: dist.ProcessGroup | None = None
) -> DdpHook:
    """Makes DDP average its gradients through cgx. Call it on all ranks, once a model, before the first forward.

    ``policy`` is a ``Policy``, or a spec for ``Policy(default=spec)``; None: ``Policy()``. Equal on all ranks.
    The gradients are averaged inside the collective, so there is no division pass. ``process_group`` must have backend
    "cgx" and the ranks of the model's group; None: the model's own. Raises ValueError where it does not fit.
    """
    hook = make_hook(model, policy, process_group)
    model.register_comm_hook(hook, _run_hook)
    return hook
