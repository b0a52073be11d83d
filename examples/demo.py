"""Trains one network through each way of averaging gradients, side by side, and shows what each costs and gives.

Every contender has its own copy of the same network. They take turns: step 1 of each, step 2 of each, and so on,
so that whatever else the machine does falls on all alike. Started by scripts/demo, one process a rank.
"""

import argparse
import json
import os
import pathlib
import time

import torch
import torch.distributed as dist
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import fp16_compress_hook
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import cgx.torch
from digits import accuracy, load, shard

# name in the table: the spec, or None for PyTorch's own ways over Gloo.
CONTENDERS = {
    "Gloo fp32": None,
    "Gloo fp16 hook": None,
    "natural": "natural",
    "natural8": "natural8",
    "max-min 4 bits": "maxmin:bits=4",
    "natural dithering 4 bits": "natdither:bits=4",
    "top-k 1 % + EF": "topk:ratio=0.01+ef",
    "top-k 1 %, no EF": "topk:ratio=0.01",
}


def make_model(seed):
    """2.1 million parameters, nearly all in one linear layer: 8.5 MB of gradients a step."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(2048, 1024), nn.ReLU(), nn.Linear(1024, 10),
    )


def sent_bytes(interface):
    """Bytes that this rank has put on its network interface, headers and acknowledgements included."""
    for line in pathlib.Path("/proc/net/dev").read_text().splitlines():
        name, _, numbers = line.partition(":")
        if name.strip() == interface:
            return int(numbers.split()[8])
    raise SystemExit(f"interface {interface} is not in /proc/net/dev")


class Contender:
    """A network, its optimiser, and a clock around its communication: from the first bucket's hook until the last is averaged."""

    def __init__(self, name, spec, gloo, seed):
        self.name, self.spec = name, spec
        # One bucket, so that all communication comes after the backward pass and is timed alone.
        self.model = DistributedDataParallel(make_model(seed), process_group=gloo, bucket_cap_mb=1000)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.05, momentum=0.9)
        self.reduce = self.make_reduce(gloo)
        self.model.register_comm_hook(None, self.hook)
        self.losses, self.bytes, self.comm, self.step_times = [], [], [], []

    def make_reduce(self, gloo):
        if self.name == "Gloo fp16 hook":
            return lambda bucket: fp16_compress_hook(gloo, bucket)
        if self.spec is None:
            return lambda bucket: self.plain(gloo, bucket)
        return cgx.torch.make_hook(self.model, self.spec, dist.group.WORLD).reduce

    @staticmethod
    def plain(gloo, bucket):
        work = dist.all_reduce(bucket.buffer().div_(gloo.size()), group=gloo, async_op=True)
        return work.get_future().then(lambda future: future.value()[0])

    def hook(self, _, bucket):
        self.started = min(self.started, time.perf_counter())

        def ended(future):
            self.ended = time.perf_counter()
            return future.value()

        return self.reduce(bucket).then(ended)

    def step(self, images, labels, interface):
        dist.barrier()
        begin, sent = time.perf_counter(), sent_bytes(interface)
        self.started, self.ended = float("inf"), 0.0
        self.optimizer.zero_grad()
        loss = nn.functional.cross_entropy(self.model(images), labels)
        loss.backward()
        self.optimizer.step()
        self.step_times.append(time.perf_counter() - begin)
        self.comm.append(self.ended - self.started)
        self.bytes.append(sent_bytes(interface) - sent)
        self.losses.append(loss.item())

    def result(self, test, loopback):
        losses = torch.tensor(self.losses)
        dist.all_reduce(losses, op=dist.ReduceOp.SUM)
        # Both directions of loopback are counted on one interface.
        share = dist.get_world_size() if loopback else 1
        return {
            "name": self.name,
            "spec": self.spec or self.name,
            "accuracy": accuracy(self.model.module, *test),
            "loss": (losses / dist.get_world_size()).tolist(),
            "bytes_a_step": median(self.bytes) / share,
            "communication_seconds": median(self.comm),
            "step_seconds": median(self.step_times),
            "bytes": [b / share for b in self.bytes],
            "step_times": self.step_times,
        }


def median(values):
    """Without the first step, where connections and buffers are made."""
    return sorted(values[1:])[len(values[1:]) // 2]


def table(rows):
    base = rows[0]
    lines = [f"{'':26}{'accuracy':>9}{'loss':>8}{'MB/step':>9}{'fewer':>7}{'comm ms':>9}{'faster':>8}{'step ms':>9}"]
    for row in rows:
        lines.append(
            f"{row['name']:26}{row['accuracy']:9.3f}{sum(row['loss'][-10:]) / len(row['loss'][-10:]):8.3f}"
            f"{row['bytes_a_step'] / 1e6:9.3f}{base['bytes_a_step'] / row['bytes_a_step']:6.1f}x"
            f"{row['communication_seconds'] * 1e3:9.1f}{base['communication_seconds'] / row['communication_seconds']:7.1f}x"
            f"{row['step_seconds'] * 1e3:9.1f}"
        )
    return "\n".join(lines)


def picture(rows, title, path):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 3, figsize=(16, 4.8), sharey=True)
    labels = ("step", "MB sent by a rank", "seconds")
    for row in rows:
        smooth = torch.tensor(row["loss"]).unfold(0, 5, 1).mean(1).tolist() if len(row["loss"]) >= 5 else row["loss"]
        begin = len(row["loss"]) - len(smooth)
        sent = (torch.tensor(row["bytes"]).cumsum(0)[begin:] / 1e6).tolist()
        seconds = torch.tensor(row["step_times"]).cumsum(0)[begin:].tolist()
        for panel, x in zip(panels, (range(begin, len(row["loss"])), sent, seconds)):
            panel.plot(x, smooth, label=row["name"])
    for panel, label in zip(panels, labels):
        panel.set_xlabel(label)
        panel.set_yscale("log")
        panel.grid(alpha=0.3)
    panels[1].set_xscale("log")
    panels[0].set_ylabel("training loss (mean of 5 steps)")
    panels[2].legend(fontsize=8)
    figure.suptitle(title)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def said(stats, parameters):
    """What was and was not compressed, in words."""
    compressed = stats["elements_compressed"]
    total = compressed + stats["elements_raw"] + stats["elements_too_small"] + stats["elements_not_float"]
    return (
        f"In the six cgx runs {100 * compressed / total:.1f} % of the gradients' elements were compressed; the rest are biases, "
        f"which stay exact by default (Policy.compress_1d). Each rank's gradients have {parameters:,} elements.\n"
        f"cgx sent {stats['wire_bytes'] / 1e6:.1f} MB where raw gradients would have been {stats['raw_bytes'] / 1e6:.1f} MB. "
        "Everything else (broadcast of the first weights, barriers, losses) went uncompressed through Gloo."
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--link", default="loopback", help="what the ranks are joined by, for the title")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("build/demo"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    interface = os.environ.get("CGX_SOCKET_IFNAME", "lo")
    dist.init_process_group("cgx", pg_options=cgx.torch.Options(transport="gloo", seed=args.seed))
    gloo = dist.new_group(backend="gloo")
    rank, size = dist.get_rank(), dist.get_world_size()

    train, test = load()
    batches = shard(train, rank, size, 32, args.seed)
    contenders = [Contender(name, spec, gloo, args.seed) for name, spec in CONTENDERS.items()]
    begin = time.monotonic()
    for step in range(args.steps):
        images, labels = next(batches)
        for contender in contenders:
            contender.step(images, labels, interface)
        if rank == 0 and (step + 1) % max(1, args.steps // 6) == 0:
            print(f"    step {step + 1} of {args.steps}, each of {len(contenders)} ways: {time.monotonic() - begin:.0f} s", flush=True)

    rows = [contender.result(test, interface == "lo") for contender in contenders]
    if rank == 0:
        args.out.mkdir(parents=True, exist_ok=True)
        stats = cgx.torch.stats()["compressed"]
        title = f"Handwritten digits, {size} processes, {args.link}"
        (args.out / "demo.json").write_text(json.dumps({"link": args.link, "ranks": size, "steps": args.steps, "rows": rows, "stats": stats}))
        picture(rows, title, args.out / "demo.png")
        print(f"\n{title}, {args.steps} steps\n\n{table(rows)}\n")
        print(said(stats, sum(p.numel() for p in contenders[0].model.parameters())))
        print(f"\nPicture: {args.out / 'demo.png'}   Numbers: {args.out / 'demo.json'}")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
