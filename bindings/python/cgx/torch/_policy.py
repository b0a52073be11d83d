"""Which parameter travels under which spec."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence

import torch

from .._codec import Codec

_COMPRESSIBLE = (torch.float32, torch.float16, torch.bfloat16)


@dataclasses.dataclass(frozen=True)
class Parameter:
    """What a rule may look at. ``size`` is in elements."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def size(self) -> int:
        return int(torch.Size(self.shape).numel())

    @property
    def dim(self) -> int:
        return len(self.shape)


Match = str | re.Pattern[str] | Callable[[Parameter], bool]


@dataclasses.dataclass(frozen=True)
class Choice:
    """A spec (None: uncompressed) and the reason for it."""

    spec: str | None
    reason: str


@dataclasses.dataclass(frozen=True)
class Policy:
    """Specs per parameter, for ``ddp_hook``.

    rules: (match, spec) pairs; the first that matches decides, whatever the size. ``match`` is a regular
        expression searched in the name, or a function of a ``Parameter`` (name, shape, size, dim, dtype). A spec of
        None (or "none") leaves the parameter uncompressed.
    default: the spec where no rule matches. It leaves alone parameters of fewer than ``min_elements``
        elements and, unless ``compress_1d``, those of one dimension (biases, norms).
    A spec with "+ef" keeps a residual for each parameter. Raises ``cgx.Error`` for a wrong spec.
    """

    default: str | None = "maxmin:bits=4"
    rules: Sequence[tuple[Match, str | None]] = ()
    min_elements: int = 1024
    compress_1d: bool = False

    def __post_init__(self) -> None:
        if self.min_elements < 0:
            raise ValueError(f"min_elements {self.min_elements} is negative")
        for spec in [self.default, *(spec for _, spec in self.rules)]:
            if spec is not None:
                Codec(spec)

    def choose(self, parameter: Parameter) -> Choice:
        """The spec for a parameter, and why."""
        if parameter.dtype not in _COMPRESSIBLE:
            return Choice(None, "not_float")
        for match, spec in self.rules:
            if _matches(match, parameter):
                return Choice(_or_none(spec), "rule")
        if _or_none(self.default) is None:
            return Choice(None, "not_asked")
        if parameter.size < self.min_elements:
            return Choice(None, "small")
        if parameter.dim < 2 and not self.compress_1d:
            return Choice(None, "one_dimensional")
        return Choice(self.default, "default")


def _or_none(spec: str | None) -> str | None:
    return None if spec is None or Codec(spec).spec == "none" else spec


def _matches(match: Match, parameter: Parameter) -> bool:
    if callable(match):
        return bool(match(parameter))
    return re.search(match, parameter.name) is not None
