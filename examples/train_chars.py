"""Trains a small character-level transformer on the King James Bible, its gradients averaged by a codec.

    python examples/train_chars.py --codec maxmin:bits=4                  # starts --ranks processes itself
    torchrun --nproc-per-node 4 examples/train_chars.py --codec topk:ratio=0.01+ef --json run.json
    python examples/train_chars.py --all                                  # every way, three seeds: table and picture

--all keeps each run in --out and goes on where it was stopped. Every run sees the same text in the same order,
whatever the codec. The text is that of Debian's package bible-kjv.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import multiprocessing
import os
import tempfile
import time
from pathlib import Path

import torch
import torch._dynamo  # DistributedDataParallel imports it, for seconds: here once, not in every rank
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

import cgx.torch
from averaging import BytesSent, Clock, attach, backend_for, replicas_identical
from chars import Text, Transformer, loss

BATCH = 16  # places a step, over all ranks, of CONTEXT characters each
CLIP = 1.0  # norm of the averaged gradient
VALIDATION = 256  # places
VALIDATIONS = 10  # in a run
WARM_UP = 0.1  # of the steps


def learning_rate(step: int, steps: int) -> float:
    """Share of --lr: rises over the first tenth of the steps, then falls to a tenth along a cosine."""
    warm_up = max(1, int(WARM_UP * steps))
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.1 + 0.45 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))


def validate(model: torch.nn.Module, text: Text) -> float:
    with torch.no_grad():
        return loss(model, text.validation(VALIDATION)).item()


def train(arguments: argparse.Namespace, text: Text) -> dict:
    """One run; returns what --json saves."""
    rank, size = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(arguments.seed)
    model = DistributedDataParallel(Transformer(len(text.characters)))
    clock = Clock()
    way = attach(model, arguments.codec, clock)
    parameters = sum(p.numel() for p in model.parameters())
    sent = BytesSent(arguments.codec, None, parameters, way)
    optimizer = torch.optim.AdamW(model.parameters(), lr=arguments.lr, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate(step, arguments.steps))
    losses, sizes, validations = [], [], []
    begin = time.monotonic()
    batches = text.batches(rank, size, BATCH // size, seed=1000 + arguments.seed)
    for step, batch in enumerate(itertools.islice(batches, arguments.steps), start=1):
        optimizer.zero_grad()
        value = loss(model, batch)
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        schedule.step()
        losses.append(value.detach())
        sizes.append(sent.take())
        if rank == 0 and (step % max(1, arguments.steps // VALIDATIONS) == 0 or step == arguments.steps):
            validations.append([step, validate(model.module, text)])
    mean_losses = torch.stack(losses)
    dist.all_reduce(mean_losses)
    return {
        "codec": arguments.codec,
        "ranks": size,
        "seed": arguments.seed,
        "steps": arguments.steps,
        "lr": arguments.lr,
        "parameters": parameters,
        "loss": (mean_losses / size).tolist(),
        "validation": validations,
        "replicas_identical": replicas_identical(model.module),
        "bytes_a_step": sorted(sizes)[len(sizes) // 2],
        "bytes_source": sent.source,
        "seconds": time.monotonic() - begin,
        "communication_seconds": clock.take(),
    }


def run_in_group(arguments: argparse.Namespace, text: Text) -> None:
    """A rank's part of one run, once the process group is there."""
    torch.set_num_threads(1)
    try:
        result = train(arguments, text)
        if dist.get_rank() == 0:
            print(summary(result), flush=True)
            if arguments.json:
                part = arguments.json.with_suffix(".part")
                part.write_text(json.dumps(result) + "\n")
                part.replace(arguments.json)
    finally:
        dist.destroy_process_group()
    if not result["replicas_identical"]:
        raise SystemExit("the ranks' models differ")


def _rank(arguments: argparse.Namespace, text: Text, rank: int, store: str) -> None:
    size = arguments.ranks
    backend = backend_for(arguments.codec)
    options = cgx.torch.Options(seed=arguments.seed) if backend == "cgx" else None
    dist.init_process_group(
        backend, store=dist.FileStore(store, size), rank=rank, world_size=size, pg_options=options
    )
    run_in_group(arguments, text)


def start(arguments: argparse.Namespace, text: Text) -> None:
    """One run in ``--ranks`` processes of its own: forked, as PyTorch takes seconds to import."""
    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as directory:
        ranks = [
            context.Process(target=_rank, args=(arguments, text, rank, f"{directory}/store"))
            for rank in range(arguments.ranks)
        ]
        for process in ranks:
            process.start()
        for process in ranks:
            process.join()
    if any(process.exitcode != 0 for process in ranks):
        raise SystemExit(f"{arguments.codec}, seed {arguments.seed}: a rank failed, see above")


def summary(result: dict) -> str:
    """One line for people."""
    return (
        f"{result['codec']}: seed {result['seed']}, {result['ranks']} ranks, {result['steps']} steps, "
        f"validation loss {result['validation'][-1][1]:.4f} nats, {result['bytes_a_step'] / 1e3:.1f} kB a step a rank, "
        f"{result['seconds']:.0f} s (communication {result['communication_seconds']:.0f} s), "
        f"replicas {'identical' if result['replicas_identical'] else 'DIFFER'}"
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--codec", default="maxmin:bits=4", help='a spec, or over Gloo: "gloo" (fp32), "fp16-hook", "powersgd:2"'
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--ranks", type=int, default=2, help="processes to start, where torchrun has started none")
    parser.add_argument("--json", type=Path, help="save the run here: every step's loss")
    parser.add_argument("--all", action="store_true", help="every way of averaging with every seed")
    parser.add_argument("--seeds", type=int, default=3, help="with --all: how many")
    parser.add_argument("--only", nargs="+", metavar="CODEC", help="with --all: of its ways, these")
    parser.add_argument("--out", type=Path, default=Path("build/train_chars"), help="with --all: the runs' folder")
    parser.add_argument("--page", type=Path, help="with --all: write table and picture here, as docs/TRAINING.md")
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    text = Text()
    if arguments.all:
        import chars_report  # of its own, as it takes matplotlib

        chars_report.run_all(arguments, lambda one: start(one, text))
    elif "RANK" in os.environ:
        backend = backend_for(arguments.codec)
        dist.init_process_group(backend)
        run_in_group(arguments, text)
    else:
        start(arguments, text)


if __name__ == "__main__":
    main()
