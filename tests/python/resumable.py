"""A training run that keeps checkpoints, is killed where it is told to, and goes on; by torchrun or in forked ranks.

Two models on one process group, top-k with error feedback and stochastic max-min, whose buckets DDP cuts anew
after the first step. Every rank keeps files of its own; a restarted run takes the last step that all ranks have.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import cgx.torch

SPECS = ["topk:ratio=0.05+ef", "maxmin:bits=3"]
STEPS = 8
PLACES = ("in_hook", "before_optimizer", "while_saving")


class Killer:
    """Ends this process as a crash would, once, where ``plan`` says: {"attempt", "rank", "step", "place"}."""

    def __init__(self, plan: list[dict], attempt: int) -> None:
        self._plan = [one for one in plan if one["attempt"] == attempt and one["rank"] == dist.get_rank()]
        self.step = -1

    def at(self, place: str) -> None:
        if any(one["step"] == self.step and one["place"] == place for one in self._plan):
            os.kill(os.getpid(), signal.SIGKILL)


class Run:
    """One model with its optimizer, hook and losses."""

    def __init__(self, spec: str, killer: Killer) -> None:
        torch.manual_seed(7)
        module = nn.Sequential(nn.Linear(40, 96), nn.Tanh(), nn.Linear(96, 64), nn.Tanh(), nn.Linear(64, 40))
        # Gradients come in the reverse of the model's order, and no two matrices share a bucket after the first step.
        self.model = DistributedDataParallel(module, bucket_cap_mb=0.01)
        self.hook = cgx.torch.ddp_hook(self.model, spec)
        reduce = self.hook.reduce

        def reduce_or_die(bucket):  # noqa: ANN001, ANN202
            if bucket.is_last():
                killer.at("in_hook")
            return reduce(bucket)

        self.hook.reduce = reduce_or_die
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=3e-3)
        self.losses: list[str] = []

    def step(self, x: torch.Tensor, killer: Killer) -> None:
        self.optimizer.zero_grad()
        loss = (self.model(x) - x).square().mean()
        loss.backward()
        killer.at("before_optimizer")
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.losses.append(loss.item().hex())

    def state(self) -> dict:
        return {
            "model": self.model.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "losses": list(self.losses),
        }

    def load(self, state: dict) -> None:
        self.model.module.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.losses = state["losses"]

    def digest(self) -> str:
        return hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in self.model.parameters())).hexdigest()


def _file(directory: Path, step: int) -> Path:
    return directory / f"rank{dist.get_rank()}-step{step}.pt"


def _save(directory: Path, step: int, runs: list[Run], killer: Killer) -> None:
    part = _file(directory, step).with_suffix(".part")
    state = {
        "step": step,
        "runs": [run.state() for run in runs],
        "cgx": cgx.torch.state_dict(),
        "random": torch.get_rng_state(),
    }
    torch.save(state, part)
    killer.at("while_saving")
    part.replace(_file(directory, step))


def _last_step(directory: Path) -> int:
    """The last step that every rank has kept; 0: none."""
    mine = torch.zeros(STEPS + 1, dtype=torch.int64)
    for step in range(1, STEPS + 1):
        mine[step] = int(_file(directory, step).exists())
    dist.all_reduce(mine, op=dist.ReduceOp.MIN)
    return max((step for step in range(1, STEPS + 1) if mine[step]), default=0)


def train(directory: Path, every: int, plan: list[dict], attempt: int, use_state: bool = True) -> dict:
    """All steps from the last checkpoint on, in the process group that is there."""
    killer = Killer(plan, attempt)
    runs = [Run(spec, killer) for spec in SPECS]
    begin = _last_step(directory)
    torch.manual_seed(100 + dist.get_rank())  # of the data
    if begin:
        state = torch.load(_file(directory, begin), weights_only=True)
        for run, kept in zip(runs, state["runs"], strict=True):
            run.load(kept)
        torch.set_rng_state(state["random"])
        if use_state:
            cgx.torch.load_state_dict(None, state["cgx"])
    for step in range(begin + 1, STEPS + 1):
        killer.step = step
        for run in runs:
            run.step(torch.randn(16, 40), killer)
        if step % every == 0 and step < STEPS:
            _save(directory, step, runs, killer)
    return {
        "attempt": attempt,
        "began": begin,
        "losses": [run.losses for run in runs],
        "digests": [run.digest() for run in runs],
        "buckets": [run.hook.order for run in runs],
    }


def random_plan(seed: int, size: int) -> list[dict]:
    """Two kills, of random ranks at random steps, each at another place."""
    draw = random.Random(seed)
    places = draw.sample(PLACES, 2)
    steps = sorted(draw.sample(range(2, STEPS), 2))
    return [
        {"attempt": attempt, "rank": draw.randrange(size), "step": step, "place": place}
        for attempt, (step, place) in enumerate(zip(steps, places, strict=True))
    ]


def main() -> None:
    directory, plan = Path(sys.argv[1]), json.loads(sys.argv[2])
    torch.set_num_threads(1)
    dist.init_process_group("cgx")
    result = train(directory, 1, plan, int(os.environ["TORCHELASTIC_RESTART_COUNT"]))
    if dist.get_rank() == 0:
        (directory / "result.json").write_text(json.dumps(result))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
