"""The ways in which the training examples average gradients, and what each costs: time and bytes."""

from __future__ import annotations

import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks, powerSGD_hook
from torch.nn.parallel import DistributedDataParallel

import cgx.torch

# PyTorch's own ways, over Gloo; every other name is a spec of cgx. "powersgd" may be followed by ":RANK" (2).
HOOKS = {"gloo": default_hooks.allreduce_hook, "fp16-hook": default_hooks.fp16_compress_hook}
_POWER_SGD = "powersgd"
_POWER_SGD_STARTS = 10  # steps in fp32 before it


def backend_for(codec: str) -> str:
    """The backend of torch.distributed that a way runs on."""
    return "gloo" if codec in HOOKS or codec.startswith(_POWER_SGD) else "cgx"


class Clock:
    """Seconds in which some bucket was on its way, from the hook's call to the future's completion."""

    def __init__(self) -> None:
        self._spans: list[tuple[float, float]] = []

    def timed(self, hook):
        """``hook(bucket) -> future``, with its time taken."""

        def run(_state, bucket):
            begin = time.perf_counter()

            def done(future):
                self._spans.append((begin, time.perf_counter()))
                return future.value()

            return hook(bucket).then(done)

        return run

    def take(self) -> float:
        """The length of the union of the spans since the last call."""
        seconds, until = 0.0, 0.0
        for begin, end in sorted(self._spans):
            seconds += max(0.0, end - max(begin, until))
            until = max(until, end)
        self._spans.clear()
        return seconds


Way = cgx.torch.DdpHook | powerSGD_hook.PowerSGDState | None


class BytesSent:
    """Bytes that this rank has sent: counted by cgx, or on a network interface, or computed for Gloo's ring."""

    def __init__(self, codec: str, interface: str | None, parameters: int, way: Way) -> None:
        self._counter = Path(f"/sys/class/net/{interface}/statistics/tx_bytes") if interface else None
        self._parameters, self._way = parameters, way
        self._ring = 2 * (dist.get_world_size() - 1) / dist.get_world_size()
        self._width = 0 if backend_for(codec) == "cgx" else 2 if codec == "fp16-hook" else 4
        if self._counter is not None:
            self.source = f"measured on {interface}"
        elif self._width:
            self.source = f"computed: a ring sends 2 (n - 1) / n x {self._width} bytes an element"
        else:
            self.source = "counted by cgx (wire_bytes)"
        self._before = self._total()

    def _total(self) -> float:
        if self._counter is not None:
            return float(self._counter.read_text())
        if isinstance(self._way, powerSGD_hook.PowerSGDState):
            return self._ring * self._width * self._way.total_numel_after_compression
        if self._width:
            return 0.0
        compressed = cgx.torch.stats()["compressed"]
        return compressed["wire_bytes"] if compressed else 0

    def take(self) -> float:
        """Bytes since the last call (computed: in one step)."""
        before, self._before = self._before, self._total()
        # PowerSGD's first steps, like the others of Gloo, send every element.
        if self._width and self._counter is None and self._before == before:
            return self._ring * self._width * self._parameters
        return self._before - before


def attach(model: DistributedDataParallel, codec: str, clock: Clock) -> Way:
    """Registers the hook that averages the gradients; returns its state: cgx's, PowerSGD's, or None."""
    if codec in HOOKS:
        model.register_comm_hook(None, clock.timed(lambda bucket: HOOKS[codec](None, bucket)))
        return None
    if codec.startswith(_POWER_SGD):
        rank = int(codec.partition(":")[2] or 2)
        state = powerSGD_hook.PowerSGDState(
            model.process_group, matrix_approximation_rank=rank, start_powerSGD_iter=_POWER_SGD_STARTS
        )
        model.register_comm_hook(None, clock.timed(lambda bucket: powerSGD_hook.powerSGD_hook(state, bucket)))
        return state
    hook = cgx.torch.make_hook(model, codec)
    model.register_comm_hook(None, clock.timed(hook.reduce))
    return hook


def replicas_identical(model: nn.Module) -> bool:
    """Whether all ranks hold the same bits."""
    mine = torch.cat([p.detach().flatten() for p in model.parameters()]).view(torch.int32)
    theirs = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(theirs, mine)
    return all(torch.equal(mine, other) for other in theirs)
