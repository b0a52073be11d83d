"""Trains a small convolutional net on scikit-learn's handwritten digits, its gradients averaged by a codec.

    torchrun --nproc-per-node 2 examples/train_digits.py --codec maxmin:bits=4
    torchrun --nproc-per-node 4 examples/train_digits.py --codec topk:ratio=0.01+ef --json run.json
    torchrun --nproc-per-node 2 examples/train_digits.py --codec gloo          # plain DDP over Gloo, fp32

Every run sees the same data in the same order, whatever the codec and the number of ranks; a rank takes its
part of each batch. The ranks' models are compared bit for bit at the end.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.nn.parallel import DistributedDataParallel

import cgx.torch
from digits import Net, accuracy, load, shard

BATCH = 64  # images a step, over all ranks
HOOKS = {"gloo": default_hooks.allreduce_hook, "fp16-hook": default_hooks.fp16_compress_hook}


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


class BytesSent:
    """Bytes that this rank has sent: counted by cgx, or on a network interface, or computed for Gloo's ring."""

    def __init__(self, codec: str, interface: str | None, parameters: int) -> None:
        self._counter = Path(f"/sys/class/net/{interface}/statistics/tx_bytes") if interface else None
        self._per_step = 0.0
        if self._counter is not None:
            self.source = f"measured on {interface}"
        elif codec in HOOKS:
            width = 2 if codec == "fp16-hook" else 4
            self._per_step = 2 * (dist.get_world_size() - 1) / dist.get_world_size() * width * parameters
            self.source = f"computed: a ring sends 2 (n - 1) / n x {width} bytes a parameter"
        else:
            self.source = "counted by cgx (wire_bytes)"
        self._before = self._total()

    def _total(self) -> float:
        if self._counter is not None:
            return float(self._counter.read_text())
        if self._per_step:
            return 0.0
        compressed = cgx.torch.stats()["compressed"]
        return compressed["wire_bytes"] if compressed else 0

    def take(self) -> float:
        """Bytes since the last call (computed: in one step)."""
        if self._per_step:
            return self._per_step
        before, self._before = self._before, self._total()
        return self._before - before


def attach(model: DistributedDataParallel, codec: str, clock: Clock) -> cgx.torch.DdpHook | None:
    """Registers the hook that averages the gradients; returns cgx's, if it is one."""
    if codec in HOOKS:
        model.register_comm_hook(None, clock.timed(lambda bucket: HOOKS[codec](None, bucket)))
        return None
    hook = cgx.torch.make_hook(model, codec)
    model.register_comm_hook(None, clock.timed(hook.reduce))
    return hook


def own_gradient(model: DistributedDataParallel, batch) -> np.ndarray:
    """This rank's own gradient, before any averaging, flat, as fp16 (whose finest step is 6e-8)."""
    with model.no_sync():
        nn.functional.cross_entropy(model(batch[0]), batch[1]).backward()
    flat = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
    model.zero_grad()
    return flat.to(torch.float16).numpy()


def replicas_identical(model: nn.Module) -> bool:
    """Whether all ranks hold the same bits."""
    mine = torch.cat([p.detach().flatten() for p in model.parameters()]).view(torch.int32)
    theirs = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(theirs, mine)
    return all(torch.equal(mine, other) for other in theirs)


def train(arguments: argparse.Namespace) -> dict:
    """One run; returns what --json saves."""
    rank, size = dist.get_rank(), dist.get_world_size()
    examples, test = load()
    torch.manual_seed(arguments.seed)
    model = DistributedDataParallel(Net())
    clock = Clock()
    hook = attach(model, arguments.codec, clock)
    parameters = sum(p.numel() for p in model.parameters())
    sent = BytesSent(arguments.codec, arguments.interface, parameters)
    optimizer = torch.optim.SGD(model.parameters(), lr=arguments.lr, momentum=arguments.momentum)
    gradients = []
    rows, losses = [], []
    batches = shard(examples, rank, size, BATCH // size, seed=1000 + arguments.seed)
    for step, batch in enumerate(itertools.islice(batches, arguments.steps)):
        if arguments.save_gradients and step in (0, arguments.steps // 8, arguments.steps - 1):
            gradients.append(own_gradient(model, batch))
        begin = time.perf_counter()
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(batch[0]), batch[1])
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
        seconds = time.perf_counter() - begin
        rows.append({"bytes": sent.take(), "seconds": seconds, "communication_seconds": clock.take()})
    mean_losses = torch.stack(losses)
    dist.all_reduce(mean_losses)
    for row, value in zip(rows, (mean_losses / size).tolist(), strict=True):
        row["loss"] = value
    if arguments.save_gradients and rank == 0:
        np.save(arguments.save_gradients, np.stack(gradients))
    return {
        "codec": arguments.codec,
        "ranks": size,
        "seed": arguments.seed,
        "parameters": parameters,
        "accuracy": accuracy(model.module, *test),
        "replicas_identical": replicas_identical(model.module),
        "bytes_source": sent.source,
        "steps": rows,
        "layers": hook.report() if hook else [],
        "stats": cgx.torch.stats()["compressed"] if hook else None,
    }


def summary(result: dict) -> str:
    """A few lines for people."""
    rows = result["steps"]
    raw = sum(layer["spec"] is None for layer in result["layers"])
    lines = [
        f"{result['codec']}: {result['ranks']} ranks, seed {result['seed']}, {len(rows)} steps, "
        f"{result['parameters']} parameters",
        f"  accuracy {100 * result['accuracy']:.2f} %, last loss {rows[-1]['loss']:.4f}, "
        f"replicas {'identical' if result['replicas_identical'] else 'DIFFER'}",
        f"  a step: {np.median([r['seconds'] for r in rows]) * 1e3:.2f} ms, of it communication "
        f"{np.median([r['communication_seconds'] for r in rows]) * 1e3:.2f} ms; "
        f"{np.median([r['bytes'] for r in rows]):.0f} bytes sent a rank ({result['bytes_source']})",
    ]
    if result["layers"]:
        lines.append(f"  {len(result['layers']) - raw} tensors compressed, {raw} not (small or 1-D)")
    return "\n".join(lines)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--codec", default="maxmin:bits=4", help='a spec, "gloo" (fp32) or "fp16-hook" (both over Gloo)'
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=300, help="of 64 images each")
    parser.add_argument("--lr", type=float, default=0.2)
    parser.add_argument("--momentum", type=float, default=0.0)
    parser.add_argument("--interface", help="count the bytes sent on this network interface")
    parser.add_argument("--json", type=Path, help="save the run here: every step's loss, bytes and times")
    parser.add_argument(
        "--save-gradients", type=Path, metavar="NPY", help="save rank 0's gradients of three steps, a row each, as fp16"
    )
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    torch.set_num_threads(1)
    dist.init_process_group("gloo" if arguments.codec in HOOKS else "cgx")
    try:
        result = train(arguments)
        if dist.get_rank() == 0:
            print(summary(result), flush=True)
            if arguments.json:
                arguments.json.write_text(json.dumps(result) + "\n")
    finally:
        dist.destroy_process_group()
    if not result["replicas_identical"]:
        raise SystemExit("the ranks' models differ")


if __name__ == "__main__":
    main()
