"""Codecs over numpy arrays: a spec such as "maxmin:bits=4,bucket=512" made into encode and decode."""

from __future__ import annotations

import ctypes
import json
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _library
from ._library import RandomKey, check, load

_DTYPES = {"float32": 0, "float16": 1, "bfloat16": 2}
_MAX_UINT32 = (1 << 32) - 1


def _dtype_code(dtype: Any) -> int:
    name = dtype if isinstance(dtype, str) else np.dtype(dtype).name
    if name not in _DTYPES:
        raise TypeError(
            f"dtype {name}: codecs take float32, float16 and bfloat16 (convert with .astype(numpy.float32))"
        )
    return _DTYPES[name]


def _checked_input(array: Any) -> tuple[np.ndarray, int]:
    if not isinstance(array, np.ndarray):
        raise TypeError(f"encode takes a numpy array, not {type(array).__name__} (numpy.asarray makes one)")
    code = _dtype_code(array.dtype)
    if not array.dtype.isnative:
        raise TypeError(f"dtype {array.dtype} is not in this machine's byte order (use .astype)")
    if not array.flags.c_contiguous:
        raise ValueError(
            f"array of shape {array.shape} and strides {array.strides} is not C-contiguous "
            "(numpy.ascontiguousarray copies it)"
        )
    return array, code


def _checked_floats(array: Any, name: str, shape: tuple[int, ...] | None) -> int:
    """The address of an array that the library writes."""
    if not isinstance(array, np.ndarray) or array.dtype != np.float32:
        raise TypeError(f"{name} is a numpy array of float32")
    if shape is not None and array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}, what is encoded {shape}")
    if not array.flags.c_contiguous or not array.flags.writeable:
        raise ValueError(f"{name} must be C-contiguous and writeable")
    return array.ctypes.data


def _checked_count(count: int) -> int:
    if isinstance(count, bool) or not isinstance(count, (int, np.integer)):
        raise TypeError(f"count is in elements and an integer, not {type(count).__name__}")
    if count < 0:
        raise ValueError(f"count {count} is negative")
    return int(count)


def _random_key(seed: int, op: int, tensor: int, rank: int) -> RandomKey:
    limits = {
        "seed": (seed, (1 << 64) - 1),
        "op": (op, _MAX_UINT32),
        "tensor": (tensor, _MAX_UINT32),
        "rank": (rank, 65535),
    }
    for name, (value, largest) in limits.items():
        if not 0 <= value <= largest:
            raise ValueError(f"{name} {value} must be 0 to {largest}")
    return RandomKey(seed, op, tensor, rank)


class Codec:
    """A codec made from a spec, such as ``cgx.Codec("maxmin:bits=4,bucket=512")``.

    Immutable; any number of threads may use one codec at the same time.
    Raises ``cgx.Error`` (INVALID_ARGUMENT) naming the codec, the parameter, its value and its range.
    """

    def __init__(self, spec: str) -> None:
        self._handle = ctypes.c_void_p()
        if not isinstance(spec, str):
            raise TypeError(f"a spec is a string such as 'maxmin:bits=4', not {type(spec).__name__}")
        check(load().cgx_codec_create(spec.encode(), ctypes.byref(self._handle)))

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            load().cgx_codec_destroy(self._handle)

    def __repr__(self) -> str:
        return f"cgx.Codec({self.spec!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Codec) and self.spec == other.spec

    def __hash__(self) -> int:
        return hash(self.spec)

    def __reduce__(self) -> tuple[type, tuple[str]]:
        return Codec, (self.spec,)

    @property
    def spec(self) -> str:
        """The canonical spec, every parameter spelled out."""
        return load().cgx_codec_spec(self._handle).decode()

    @property
    def unbiased(self) -> bool:
        """Whether decoding gives the input on average over seeds."""
        return bool(load().cgx_codec_unbiased(self._handle))

    def encoded_bytes(self, count: int, dtype: npt.DTypeLike = np.float32) -> int:
        """Bytes that ``count`` elements of ``dtype`` encode to: known before encoding, never above the raw elements."""
        size = ctypes.c_uint64()
        code = _dtype_code(dtype)
        check(load().cgx_codec_encoded_bytes(self._handle, code, _checked_count(count), ctypes.byref(size)))
        return size.value

    def encode(
        self,
        array: np.ndarray,
        seed: int = 0,
        op: int = 0,
        tensor: int = 0,
        rank: int = 0,
        residual: np.ndarray | None = None,
    ) -> bytes:
        """Encodes a C-contiguous array of any shape, float32, float16 or (with ml_dtypes) bfloat16.

        ``seed``, ``op``, ``tensor`` and ``rank`` key the random bits: equal keys give equal bytes on
        every machine. ``residual``, a float32 array of the same shape (zeros at first), turns on error
        feedback: what is encoded is array + residual, and it becomes what the block lost of that. Raises
        TypeError for another dtype, ValueError for a non-contiguous array.
        """
        array, code = _checked_input(array)
        key = ctypes.byref(_random_key(seed, op, tensor, rank))
        size = self.encoded_bytes(array.size, array.dtype)
        block = ctypes.create_string_buffer(max(size, 1))
        x = array.ctypes.data
        if residual is None:
            check(load().cgx_codec_encode(self._handle, code, x, array.size, key, block, size))
        else:
            kept = _checked_floats(residual, "residual", array.shape)
            check(load().cgx_codec_encode_feedback(self._handle, code, x, array.size, key, kept, block, size))
        return block.raw[:size]

    def decode(self, data: bytes, count: int, dtype: npt.DTypeLike = np.float32) -> np.ndarray:
        """Decodes ``data`` into a float32 array of shape (count,). ``dtype`` is the type that was encoded.

        Any bytes are safe. Raises ``cgx.Error``: INVALID_ARGUMENT for a wrong length, CORRUPT for bytes
        that no encoder can have written.
        """
        view = memoryview(data).cast("B")
        out = np.empty(_checked_count(count), dtype=np.float32)
        block = np.frombuffer(view, dtype=np.uint8)
        check(
            load().cgx_codec_decode(
                self._handle, _dtype_code(dtype), block.ctypes.data, view.nbytes, out.size, out.ctypes.data
            )
        )
        return out

    def decode_add(self, data: bytes, out: np.ndarray, dtype: npt.DTypeLike = np.float32) -> None:
        """Decodes ``data`` and adds it to ``out``, a float32 array; otherwise as ``decode()``."""
        view = memoryview(data).cast("B")
        block = np.frombuffer(view, dtype=np.uint8)
        sums = _checked_floats(out, "out", None)
        check(
            load().cgx_codec_decode_add(
                self._handle, _dtype_code(dtype), block.ctypes.data, view.nbytes, out.size, sums
            )
        )


def codecs() -> list[dict[str, Any]]:
    """The codecs there are: name, summary, unbiased, params (each with name, range, default and meaning)."""
    return json.loads(_library.load().cgx_codec_list())


def algorithms() -> list[dict[str, Any]]:
    """The allreduce algorithms there are: name and summary."""
    return json.loads(_library.load().cgx_algorithm_list())
