"""Time to accuracy: one network trained through each way of averaging its gradients, in turns, one process a rank.

Started by `scripts/netns train`. Seconds are those of the steps of that way alone; the test accuracy is looked at
between steps, off the clock. The ways are those of examples/demo.py and PyTorch's PowerSGD hook."""

import argparse
import json
import os
import pathlib
import sys

import torch
import torch.distributed as dist
from torch.distributed.algorithms.ddp_comm_hooks import powerSGD_hook

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "examples"))

import cgx.torch  # noqa: E402
import demo  # noqa: E402
from digits import accuracy, load, shard  # noqa: E402

RANK = 2  # of PowerSGD's matrices
WAYS = {
    "Gloo fp32": None,
    "Gloo fp16 hook": None,
    f"PowerSGD hook, rank {RANK}": None,
    "max-min 4 bits": "maxmin:bits=4",
    "natural8": "natural8",
    "top-k 1 % + EF": "topk:ratio=0.01+ef",
}


class Way(demo.Contender):
    """A network with its own optimiser, and the test accuracy as it went."""

    def __init__(self, name, spec, gloo, seed):
        super().__init__(name, spec, gloo, seed)
        self.accuracies = []

    def make_reduce(self, gloo):
        if not self.name.startswith("PowerSGD"):
            return super().make_reduce(gloo)
        # Error feedback and a warm start, its defaults; compressing from the third step on, as early as it allows.
        state = powerSGD_hook.PowerSGDState(gloo, matrix_approximation_rank=RANK, start_powerSGD_iter=2)
        return lambda bucket: powerSGD_hook.powerSGD_hook(state, bucket)

    def look(self, test):
        self.accuracies.append(accuracy(self.model.module, *test))


def reached(accuracies, target):
    """The first look from which the mean of three is at the target, or None: one lucky look does not count."""
    for k in range(2, len(accuracies)):
        if sum(accuracies[k - 2 : k + 1]) / 3 >= target:
            return k
    return None


def one_seed(seed, args, gloo, say):
    rank, size = dist.get_rank(), dist.get_world_size()
    train, test = load(seed)
    batches = shard(train, rank, size, 32, seed)
    ways = [Way(name, spec, gloo, seed) for name, spec in WAYS.items()]
    interface = os.environ.get("CGX_SOCKET_IFNAME", "lo")
    for step in range(args.steps):
        images, labels = next(batches)
        for way in ways:
            way.step(images, labels, interface)
        if (step + 1) % args.every == 0:
            for way in ways:
                way.look(test)
        if (step + 1) % 30 == 0:
            say(f"seed {seed}: step {step + 1} of {args.steps}")
    share = size if interface == "lo" else 1
    return [result(way, args, share) for way in ways]


def result(way, args, share):
    looks = reached(way.accuracies, args.target)
    seconds = torch.tensor(way.step_times, dtype=torch.float64).cumsum(0).tolist()
    at = None if looks is None else (looks + 1) * args.every - 1
    return {
        "name": way.name,
        "seconds_to_target": None if at is None else seconds[at],
        "steps_to_target": None if at is None else at + 1,
        "step_seconds": demo.median(way.step_times),
        "communication_seconds": demo.median(way.comm),
        "bytes_a_step": demo.median(way.bytes) / share,
        "final_accuracy": way.accuracies[-1],
        "accuracy": way.accuracies,
        "seconds": seconds[args.every - 1 :: args.every],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=180)
    parser.add_argument("--every", type=int, default=2, help="steps between two looks at the test accuracy")
    parser.add_argument("--target", type=float, default=0.94)
    parser.add_argument("--transport", default="tcp")
    parser.add_argument("--json", required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    dist.init_process_group("cgx", pg_options=cgx.torch.Options(transport=args.transport, seed=1))
    gloo = dist.new_group(backend="gloo")
    rank = dist.get_rank()

    def say(text):
        if rank == 0:
            print(text, flush=True)

    runs = [{"seed": seed, "ways": one_seed(seed, args, gloo, say)} for seed in range(1, args.seeds + 1)]
    if rank == 0:
        document = {
            "mode": "training",
            "target": args.target,
            "every": args.every,
            "ranks": dist.get_world_size(),
            "runs": runs,
        }
        pathlib.Path(args.json).write_text(json.dumps(document))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
