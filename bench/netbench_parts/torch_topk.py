"""cgx's exact top-k beside torch.topk of absolute values, one thread, in turns. cgx also writes the block."""

import argparse
import json
import statistics
import time

import numpy as np
import torch

import cgx


def timed(call):
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--elements", type=int, default=1 << 24)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    codec = cgx.Codec("topk:ratio=0.01")
    tensors = [np.random.default_rng(seed).standard_normal(args.elements, dtype=np.float32) for seed in range(2)]
    ratios, ours = [], []
    for turn in range(args.rounds + 1):
        array = tensors[turn % 2]
        tensor = torch.from_numpy(array)
        theirs = timed(lambda t=tensor: torch.topk(t.abs(), args.elements // 100, sorted=False))
        mine = timed(lambda a=array: codec.encode(a))
        if turn > 0:
            ratios.append(theirs / mine)
            ours.append(mine)
    document = {
        "mode": "torch.topk",
        "elements": args.elements,
        "ratios": ratios,
        "encode_us": statistics.median(ours) * 1e6,
    }
    with open(args.json, "w") as file:
        json.dump(document, file)


if __name__ == "__main__":
    main()
