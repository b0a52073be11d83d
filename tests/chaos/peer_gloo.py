"""Sums for ever with PyTorch's Gloo, for scripts/chaos: what Gloo does when a rank dies or stops.

    python peer_gloo.py RANK SIZE FILE TIMEOUT_MS
"""
import datetime
import json
import sys
import time

import torch
import torch.distributed as dist


def say(at, **more):
    print(json.dumps({"at": at, "t": time.monotonic_ns() // 1000, **more}), flush=True)


rank, size, file, timeout_ms = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
torch.set_num_threads(1)
timeout = datetime.timedelta(milliseconds=timeout_ms)
dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=size, timeout=timeout)
say("ready")
x = torch.zeros(30000)
try:
    dist.all_reduce(x)
    say("stepping")
    steps, said = 0, 0.0
    while True:
        dist.all_reduce(x)
        steps += 1
        if time.monotonic() - said > 0.02:
            said = time.monotonic()
            say("alive", steps=steps)
except Exception as error:
    say("error", message=str(error).splitlines()[0][:200])
