"""What must work with every PyTorch that cgx.torch is built for; torchrun starts it (see scripts/torch_versions).

    torchrun --nproc-per-node=2 tests/python/torch_smoke.py
Rank 0 prints one line: PyTorch's version, whether it found the backend by itself, and "ok".
"""

from __future__ import annotations

import contextlib

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel


def _init() -> bool:
    """Without importing cgx where PyTorch looks for backends (2.14 and later). True if it found ours."""
    with contextlib.suppress(ValueError, RuntimeError, AttributeError, AssertionError):
        dist.init_process_group("cgx")
        return True
    import cgx.torch  # noqa: F401 (registers the backend)

    dist.init_process_group("cgx")
    return False


def _reduce(size: int) -> None:
    import cgx.torch

    plain = torch.ones(1000, dtype=torch.int64)
    dist.all_reduce(plain)
    assert plain[0] == size
    group = dist.new_group(backend="cgx", pg_options=cgx.torch.Options(codec="maxmin:bits=8"))
    tensor = torch.full((64, 64), 2.0)
    dist.all_reduce(tensor, group=group)
    assert tensor[0, 0] == 2 * size
    assert cgx.torch.stats(group)["compressed"]["elements_compressed"] == tensor.numel()
    dist.barrier()


def _train() -> None:
    import cgx.torch

    torch.manual_seed(dist.get_rank())
    model = DistributedDataParallel(nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8)))
    cgx.torch.ddp_hook(model, "maxmin:bits=4+ef")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(16, 64)).square().mean().backward()
        optimizer.step()
    mine = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    others = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(others, mine)
    assert all(torch.equal(mine, other) for other in others)
    assert cgx.torch.stats()["compressed"]["elements_compressed"] > 0


def main() -> None:
    by_itself = _init()
    rank = dist.get_rank()
    _reduce(dist.get_world_size())
    _train()
    dist.destroy_process_group()
    if rank == 0:
        print(f"{torch.__version__} {'found by itself' if by_itself else 'imported'} ok")


if __name__ == "__main__":
    main()
