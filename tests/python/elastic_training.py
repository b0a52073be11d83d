"""Training that survives the loss of a rank, as torchrun starts it: after a restart it goes on from its checkpoint.

    torchrun --max-restarts=1 --nproc-per-node=2 elastic_training.py DIRECTORY
In the first attempt rank 1 kills itself in the middle of step 3; test_ecosystem.py looks at what DIRECTORY holds after.
"""

from __future__ import annotations

import datetime
import os
import signal
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import cgx.torch

STEPS = 6
KILLED_IN = 3


def train(directory: Path, killed_in: int | None) -> list[float]:
    """Trains from the checkpoint in ``directory`` (or from the start) to the end, in the default process group."""
    rank = dist.get_rank()
    torch.manual_seed(0)
    model = DistributedDataParallel(nn.Sequential(nn.Linear(32, 64), nn.Tanh(), nn.Linear(64, 1)))
    # Rounded to the nearest: no random numbers, whose counters would begin anew with the process.
    cgx.torch.ddp_hook(model, cgx.torch.Policy(default="maxmin:bits=4,rounding=nearest", min_elements=0))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    checkpoint = directory / "checkpoint"
    losses: list[float] = []
    if checkpoint.exists():
        saved = torch.load(checkpoint)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        losses = saved["losses"]
        (directory / f"resumed.{rank}").write_text(str(len(losses)))
    for step in range(len(losses), STEPS):
        batch = torch.randn(16, 32, generator=torch.Generator().manual_seed(100 * step + rank))
        optimizer.zero_grad()
        loss = model(batch).square().mean()
        if step == killed_in and rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        loss.backward()
        optimizer.step()
        total = loss.detach().clone()
        dist.all_reduce(total)
        losses.append(total.item())
        if rank == 0:
            torch.save(
                {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "losses": losses},
                directory / "writing",
            )
            (directory / "writing").rename(checkpoint)
    return losses


def main() -> None:
    directory = Path(sys.argv[1])
    attempt = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
    dist.init_process_group("cgx", timeout=datetime.timedelta(seconds=60))
    try:
        losses = train(directory, KILLED_IN if attempt == 0 else None)
    except RuntimeError as error:
        (directory / f"error.{dist.get_rank()}.{attempt}").write_text(str(error))
        raise
    (directory / f"losses.{dist.get_rank()}").write_text(repr(losses))
    dist.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
