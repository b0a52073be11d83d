"""Exact top-k of cgx beside torch.topk on one core, in turns: prints the median of per-round ratios.

    CGX_LIBRARY=build/release/lib/libcgx.so PYTHONPATH=bindings/python python bench/topk_torch.py [--count N] [--ratio R]

torch.topk is given |x| and neither sorts nor gathers; cgx writes the whole block, indices and values."""

import argparse
import json
import statistics
import sys
import time

import numpy as np

import cgx

try:
    import torch
except ImportError:
    sys.exit("skipped: no PyTorch in this Python")


def seconds(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1 << 24, help="fp32 elements, normal (16 Mi)")
    parser.add_argument("--ratio", type=float, default=0.01)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", help="save the rounds' ratios here")
    args = parser.parse_args()
    torch.set_num_threads(1)
    x = np.random.default_rng(1).standard_normal(args.count, dtype=np.float32)
    magnitudes = torch.from_numpy(np.abs(x))
    codec = cgx.Codec(f"topk:ratio={args.ratio}")
    k = codec.encoded_bytes(args.count) // 8
    block = codec.encode(x)
    indices = np.frombuffer(block, dtype=np.uint32)[:k]
    theirs = torch.topk(magnitudes, k, sorted=False)
    assert np.abs(x[indices]).min() == theirs.values.min().item(), "another threshold"
    pairs = [
        (seconds(lambda: torch.topk(magnitudes, k, sorted=False)), seconds(lambda: codec.encode(x)))
        for _ in range(args.rounds)
    ]
    torch_s, cgx_s = (statistics.median(times) for times in zip(*pairs))
    ratio = statistics.median(a / b for a, b in pairs)
    if args.json:
        with open(args.json, "w") as file:
            json.dump({"mode": "torch.topk", "count": args.count, "ratios": [a / b for a, b in pairs]}, file)
    print(f"{args.count} elements, k = {k}: torch.topk {torch_s * 1e3:.2f} ms, cgx {cgx_s * 1e3:.2f} ms, {ratio:.1f}x")


if __name__ == "__main__":
    main()
