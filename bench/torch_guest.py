"""A guest of cgx-bench (guest.h): does its rank's calls as PyTorch's users have them, over PyTorch's own Gloo.

torch is all_reduce; torch-fp16, torch-bf16 and torch-powersgd are DDP's hooks, given a bucket with one parameter. Not
timed: filling the bucket, which backward passes do, and turning the hooks' average into a sum where a sum is asked for."""

import argparse
import datetime
import json
import math
import mmap
import os
import socket
import sys
import time


class Bucket:
    """What hooks take for DDP's GradBucket, which only DDP can make."""

    def __init__(self, tensor, shape):
        self.tensor, self.shape = tensor, shape

    def buffer(self):
        return self.tensor

    def set_buffer(self, tensor):
        self.tensor = tensor

    def gradients(self):
        return [self.tensor.view(self.shape)]

    def parameters(self):
        return self.gradients()

    def index(self):
        return 0

    def is_last(self):
        return True


def matrix_shape(count):
    """PowerSGD is about matrices: as square as a power of two for the rows allows."""
    rows = 1
    while (2 * rows) ** 2 <= count and count % (2 * rows) == 0:
        rows *= 2
    return (rows, count // rows) if rows > 1 else (count,)


class Server:
    POWERSGD_RANK = 2

    def __init__(self, args):
        import torch
        import torch.distributed as dist

        torch.set_num_threads(1)
        self.torch, self.dist, self.ranks = torch, dist, args.ranks
        store = dist.FileStore(args.meeting, args.ranks)
        timeout = datetime.timedelta(milliseconds=args.timeout)
        dist.init_process_group("gloo", store=store, rank=args.rank, world_size=args.ranks, timeout=timeout)
        self.states = {}

    def ready(self):
        return {"transport": "PyTorch's Gloo", "version": f"PyTorch {self.torch.__version__}"}

    def answer(self, request):
        if "load" in request:
            return self.load(request["load"])
        if "call" in request:
            return self.call(request["call"], request["method"])
        self.forget(request["forget"])
        return {}

    def load(self, what):
        torch = self.torch
        names = {"float": "float32", "half": "float16", "bfloat16": "bfloat16", "double": "float64"}
        dtype = getattr(torch, names.get(what["dtype"], what["dtype"]))
        length = 2 * what["buffers"] * what["stride"]
        file = os.open(what["path"], os.O_RDWR)
        memory = torch.frombuffer(mmap.mmap(file, length), dtype=torch.uint8)
        os.close(file)
        self.buffers = [
            memory[b * what["stride"] : b * what["stride"] + what["bytes"]].view(dtype) for b in range(2 * what["buffers"])
        ]
        self.spans, self.op, self.element = what["spans"], what["op"], dtype.itemsize
        self.states = {}
        return {}

    def reduce(self, method, at, tensor):
        """Starts the reduction of a span; a future, or something with wait()."""
        dist = self.dist
        if method == "torch":
            names = {"prod": "PRODUCT", "min": "MIN", "max": "MAX"}
            return dist.all_reduce(tensor, getattr(dist.ReduceOp, names.get(self.op, "SUM")), async_op=True)
        from torch.distributed.algorithms.ddp_comm_hooks import default_hooks, powerSGD_hook

        shape = matrix_shape(tensor.numel()) if method == "torch-powersgd" else (tensor.numel(),)
        bucket = Bucket(tensor, shape)
        if method == "torch-fp16":
            return default_hooks.fp16_compress_hook(None, bucket)
        if method == "torch-bf16":
            return default_hooks.bf16_compress_hook(None, bucket)
        if at not in self.states:
            # Compressing from the start: its first calls are meant for a network's first steps.
            state = powerSGD_hook.PowerSGDState(None, matrix_approximation_rank=self.POWERSGD_RANK, start_powerSGD_iter=2)
            state.iter = 2
            self.states[at] = state
        return powerSGD_hook.powerSGD_hook(self.states[at], bucket)

    def finish(self, method, pending, out):
        """The hooks' averages to where they are asked for."""
        pending.wait()
        if method == "torch":
            if self.op == "avg":
                out.div_(self.ranks)
            return
        value = pending.value()
        value = value[0] if isinstance(value, (list, tuple)) else value
        if value.data_ptr() != out.data_ptr():
            out.copy_(value.view(-1))

    def call(self, number, method):
        inputs, out = self.buffers[number], self.buffers[len(self.buffers) // 2 + number]
        out.copy_(inputs)
        self.dist.barrier()
        start = time.perf_counter()
        for at, (first, count) in enumerate(self.spans):
            part = out[first : first + count]
            self.finish(method, self.reduce(method, at, part), part)
        seconds = time.perf_counter() - start
        if method != "torch" and self.op == "sum":
            out.mul_(self.ranks)
        wire = sum(self.wire_bytes(method, count) for _, count in self.spans)
        raw = sum(self.wire_bytes("torch", count) for _, count in self.spans)
        return {"us": seconds * 1e6, "wire": wire, "raw": raw}

    def wire_bytes(self, method, count):
        """What a ring sends, as Gloo does not count."""
        if method == "torch-powersgd":
            shape = matrix_shape(count)
            if len(shape) == 2 and 2 * sum(shape) * self.POWERSGD_RANK < math.prod(shape):  # else it does not compress
                count = sum(shape) * self.POWERSGD_RANK
        element = 2 if method in ("torch-fp16", "torch-bf16") else self.element
        return 2 * (self.ranks - 1) * count * element // self.ranks

    def forget(self, method):
        if method == "torch-powersgd":
            self.states = {}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--socket", required=True)
    parser.add_argument("--rank", type=int, required=True)
    parser.add_argument("--ranks", type=int, required=True)
    parser.add_argument("--meeting", required=True, help="a file, through which the guests find each other")
    parser.add_argument("--timeout", type=int, required=True, help="of a collective, in ms")
    args = parser.parse_args()
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(args.socket)
    stream = connection.makefile("rw")

    def say(line):
        stream.write(json.dumps(line) + "\n")
        stream.flush()

    try:
        server = Server(args)
        say(server.ready())
        for line in stream:
            say(server.answer(json.loads(line)))
    except Exception as error:  # its rank tells the user
        say({"error": f"{type(error).__name__}: {error}"})
        return 1
    server.dist.destroy_process_group()
    return 0


if __name__ == "__main__":
    sys.exit(main())
