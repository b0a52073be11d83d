"""Handwritten digits and a small convolutional net, shared by the training examples."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

Examples = tuple[torch.Tensor, torch.Tensor]  # images (n, 1, 8, 8) in [0, 1], labels (n,)


class Net(nn.Sequential):
    """205,642 parameters, 96 % of them in the first linear layer. Seed PyTorch before making one."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(512, 384),
            nn.ReLU(),
            nn.Linear(384, 10),
        )


def load(seed: int = 0) -> tuple[Examples, Examples]:
    """All of scikit-learn's digits, split by ``seed`` into three quarters for training and one for the test."""
    digits = load_digits()
    images = torch.from_numpy(digits.images.astype(np.float32) / 16).unsqueeze(1)
    labels = torch.from_numpy(digits.target.astype(np.int64))
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    test, train = order[: len(order) // 4], order[len(order) // 4 :]
    return (images[train], labels[train]), (images[test], labels[test])


def shard(train: Examples, rank: int, size: int, batch: int, seed: int) -> Iterator[Examples]:
    """Endless batches of ``batch`` examples for this rank, reshuffled every epoch.

    The ranks' batches of one step make up a batch of ``batch * size``, which depends only on that product and the seed.
    """
    images, labels = train
    generator = torch.Generator().manual_seed(seed)
    whole = batch * size
    while True:
        order = torch.randperm(len(labels), generator=generator)
        for begin in range(0, len(order) - whole + 1, whole):
            mine = order[begin + rank : begin + whole : size]
            yield images[mine], labels[mine]


def accuracy(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """The share of ``images`` that the model recognises."""
    with torch.no_grad():
        return (model(images).argmax(1) == labels).float().mean().item()
