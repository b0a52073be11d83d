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
from torch.nn.parallel import DistributedDataParallel

import cgx.torch
from averaging import BytesSent, Clock, attach, backend_for, replicas_identical
from digits import Net, accuracy, load, shard

BATCH = 64  # images a step, over all ranks


def own_gradient(model: DistributedDataParallel, batch) -> np.ndarray:
    """This rank's own gradient, before any averaging, flat, as fp16 (whose finest step is 6e-8)."""
    with model.no_sync():
        nn.functional.cross_entropy(model(batch[0]), batch[1]).backward()
    flat = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
    model.zero_grad()
    return flat.to(torch.float16).numpy()


def train(arguments: argparse.Namespace) -> dict:
    """One run; returns what --json saves."""
    rank, size = dist.get_rank(), dist.get_world_size()
    examples, test = load()
    torch.manual_seed(arguments.seed)
    model = DistributedDataParallel(Net())
    clock = Clock()
    way = attach(model, arguments.codec, clock)
    hook = way if isinstance(way, cgx.torch.DdpHook) else None
    parameters = sum(p.numel() for p in model.parameters())
    sent = BytesSent(arguments.codec, arguments.interface, parameters, way)
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
        "--codec", default="maxmin:bits=4", help='a spec, or over Gloo: "gloo" (fp32), "fp16-hook", "powersgd"'
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
    dist.init_process_group(backend_for(arguments.codec))
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
