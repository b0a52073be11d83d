"""The table of tensors under DistributedDataParallel: parameters by their names."""

from __future__ import annotations

import math

import torch
from torch.nn.parallel import DistributedDataParallel

import cgx.torch
import ranks


def _train(rank, size):
    ranks.init("cgx")
    torch.manual_seed(1)
    net = torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10))
    model = DistributedDataParallel(net)
    cgx.torch.ddp_hook(model, "maxmin:bits=4")
    cgx.torch.observe(1)
    for _ in range(4):
        model(torch.randn(16, 64)).square().mean().backward()
    table = cgx.torch.table()
    stats = cgx.torch.stats()["compressed"]
    torch.distributed.destroy_process_group()
    return list(table), str(table), stats


def test_the_table_names_parameters():
    for rows, text, stats in ranks.run(2, _train):
        by_name = {row["name"]: row for row in rows}
        assert set(by_name) == {"0.weight", "0.bias", "2.weight", "2.bias"}
        weight, bias = by_name["0.weight"], by_name["0.bias"]
        assert weight["codec"].startswith("maxmin:bits=4")
        assert weight["calls"] == weight["observed"] == 4
        # Stochastic rounding to 15 steps of a bucket's range: the error is at most a step, so for elements spread
        # over the range anything near 1 would be a mistake, and 0 another one.
        assert 0 < weight["nmse"] < 0.2
        assert 0.8 < weight["cosine"] < 1
        assert (bias["codec"], bias["nmse"], bias["ratio"]) == ("none", 0, 1)
        assert sum(row["wire_bytes"] for row in rows) == stats["wire_bytes"]
        assert weight["encode_seconds"] > 0
        assert sum(row["encode_seconds"] for row in rows) <= 1.001 * stats["encode_seconds"]  # what is between is not a row's
        assert "0.weight" in text.splitlines()[1]
