"""What a user chooses for a process group of backend "cgx"."""

from __future__ import annotations

import os

from .._codec import Codec
from ._native import RawOptions

_NUMBERS_OF_UINT64 = range(1 << 64)
_MAX_THREADS = 256


class Options(RawOptions):
    """Options of a "cgx" process group, for ``pg_options=``. Equal on all its ranks.

    codec: the spec for plain ``all_reduce``. None: it goes to Gloo (``ddp_hook`` has its own policy). "none": cgx's own
        collectives, uncompressed, for floats of any size that the two options below let through.
        Error feedback ("+ef") is refused here: a plain all_reduce does not say which tensor it carries.
    min_elements: smaller tensors go uncompressed.
    compress_1d: also compress 1-D tensors. Off: they are biases and norms, and what averages of losses and
        gradient norms look like. DDP without ``ddp_hook`` also reduces flat 1-D buckets.
    transport: "shm", "tcp", "mixed", "gloo" or "auto"; algorithm: "scatter_gather", "ring", "allgather",
        "tree", "hierarchical" or "auto".
    interface: the network interface of tcp and gloo. seed: of the random bits.
    slice_bytes: raw bytes encoded and sent at a time; 0 for the library's choice.
    threads: of this rank's codecs, beside PyTorch's own; 0 for CGX_THREADS, else 1.
    tune: measure codecs and links at the first collective that cgx runs, and let the result choose algorithms too, not
        only codecs that are "auto". policy_file: JSON that ``cgx.torch.policy()`` gave, instead of measuring.
    secret: what all ranks prove to each other when cgx connects them, 16 bytes at least; None for CGX_SECRET or
        CGX_SECRET_FILE, else no proof. PyTorch's own connections know nothing of it.
    Raises ValueError or ``cgx.Error`` for a wrong value.
    """

    def __init__(
        self,
        codec: str | None = None,
        min_elements: int = 1024,
        compress_1d: bool = False,
        transport: str | None = None,
        algorithm: str | None = None,
        interface: str | None = None,
        seed: int = 0,
        slice_bytes: int = 0,
        threads: int = 0,
        tune: bool = False,
        policy_file: str | None = None,
        secret: str | None = None,
    ) -> None:
        super().__init__()
        if min_elements < 0:
            raise ValueError(f"min_elements {min_elements} is negative")
        for name, value in (("seed", seed), ("slice_bytes", slice_bytes)):
            if value not in _NUMBERS_OF_UINT64:
                raise ValueError(f"{name} {value} must be 0 to 2^64 - 1")
        if not 0 <= threads <= _MAX_THREADS:
            raise ValueError(f"threads {threads} must be 0 to {_MAX_THREADS}")
        self.codec = _plain_codec(codec)
        self.min_elements = min_elements
        self.compress_1d = compress_1d
        self.transport = transport or ""
        self.algorithm = algorithm or ""
        self.interface = interface or ""
        self.seed = seed
        self.slice_bytes = slice_bytes
        self.threads = threads
        self.tune = tune
        self.policy_file = policy_file or ""
        self.secret = secret or ""

    @classmethod
    def from_environment(cls) -> Options:
        """Options from CGX_CODEC, CGX_MIN_ELEMENTS, CGX_COMPRESS_1D, CGX_TRANSPORT, CGX_ALGORITHM and CGX_SEED."""
        return cls(
            codec=os.environ.get("CGX_CODEC"),
            min_elements=_number("CGX_MIN_ELEMENTS", 1024),
            compress_1d=bool(_number("CGX_COMPRESS_1D", 0)),
            transport=os.environ.get("CGX_TRANSPORT"),
            algorithm=os.environ.get("CGX_ALGORITHM"),
            seed=_number("CGX_SEED", 0),
        )


def _plain_codec(spec: str | None) -> str:
    if not spec:
        return ""
    canonical = Codec(spec).spec
    if canonical.endswith("+ef"):
        raise ValueError(
            f"codec {spec!r}: error feedback needs to know which tensor is reduced, which a plain all_reduce "
            "does not say; use cgx.torch.ddp_hook"
        )
    return canonical


def _number(name: str, default: int) -> int:
    text = os.environ.get(name)
    if not text:
        return default
    try:
        return int(text)
    except ValueError as error:
        raise ValueError(f"{name}={text}: not a whole number") from error
