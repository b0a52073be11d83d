"""libcgx.so behind ctypes: finds it, declares its functions once, turns a status into ``cgx.Error``.

The order of the search: the file that CGX_LIBRARY names, then the library inside this package.
"""

from __future__ import annotations

import ctypes
import enum
import functools
import os
from pathlib import Path


class Status(enum.IntEnum):
    """Why a call failed; the values are those of ``cgx_status`` in cgx.h."""

    OK = 0
    INVALID_ARGUMENT = 1
    UNSUPPORTED = 2
    TIMEOUT = 3
    PEER_FAILED = 4
    MISMATCH = 5
    ABORTED = 6
    FAILED = 7
    RESOURCE = 8
    CORRUPT = 9
    INTERNAL = 10


class Error(RuntimeError):
    """A call into libcgx failed. ``status`` says which kind of failure, the message says what was wrong."""

    def __init__(self, status: int, message: str) -> None:
        self.status = Status(status)
        super().__init__(f"{message} [{self.status.name}]")


class RandomKey(ctypes.Structure):
    _fields_ = [
        ("seed", ctypes.c_uint64),
        ("operation", ctypes.c_uint32),
        ("tensor", ctypes.c_uint32),
        ("rank", ctypes.c_uint32),
    ]


class Config(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_uint32),
        ("rank", ctypes.c_int32),
        ("size", ctypes.c_int32),
        ("store", ctypes.c_void_p),
        ("job", ctypes.c_char_p),
        ("transport", ctypes.c_char_p),
        ("algorithm", ctypes.c_char_p),
        ("interface_name", ctypes.c_char_p),
        ("timeout_ms", ctypes.c_int64),
        ("seed", ctypes.c_uint64),
        ("slice_bytes", ctypes.c_uint64),
        ("threads", ctypes.c_uint32),
        ("tune", ctypes.c_uint32),
        ("policy_file", ctypes.c_char_p),
        ("secret", ctypes.c_char_p),
        ("inner_codec", ctypes.c_char_p),
    ]


class AllreduceArgs(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_uint32),
        ("input", ctypes.c_void_p),
        ("output", ctypes.c_void_p),
        ("count", ctypes.c_uint64),
        ("dtype", ctypes.c_int),
        ("op", ctypes.c_int),
        ("codec", ctypes.c_void_p),
        ("tensor_id", ctypes.c_uint32),
        ("segments", ctypes.c_void_p),
        ("segment_count", ctypes.c_uint64),
        ("timeout_ms", ctypes.c_int64),
    ]


_COUNTERS = (
    "collectives",
    "failed",
    "elements",
    "elements_compressed",
    "elements_raw",
    "elements_too_small",
    "elements_not_float",
    "raw_bytes",
    "wire_bytes",
    "saturated",
    "non_finite",
)
_LATER_COUNTERS = ("elements_not_sum",)
_SECONDS = ("encode_seconds", "decode_seconds", "wait_seconds")


class Stats(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_uint32),
        *((name, ctypes.c_uint64) for name in _COUNTERS),
        *((name, ctypes.c_double) for name in _SECONDS),
        *((name, ctypes.c_uint64) for name in _LATER_COUNTERS),
    ]

    def as_dict(self) -> dict[str, int | float]:
        return {name: getattr(self, name) for name in _COUNTERS + _LATER_COUNTERS + _SECONDS}


_HANDLE = ctypes.c_void_p
_OUT = ctypes.POINTER(ctypes.c_void_p)
_STATUS = ctypes.c_int
_SIGNATURES = {
    "cgx_version": (ctypes.c_int, []),
    "cgx_version_string": (ctypes.c_char_p, []),
    "cgx_last_error": (ctypes.c_char_p, []),
    "cgx_codec_create": (_STATUS, [ctypes.c_char_p, _OUT]),
    "cgx_codec_destroy": (None, [_HANDLE]),
    "cgx_codec_spec": (ctypes.c_char_p, [_HANDLE]),
    "cgx_codec_unbiased": (ctypes.c_int, [_HANDLE]),
    "cgx_codec_encoded_bytes": (
        _STATUS,
        [_HANDLE, ctypes.c_int, ctypes.c_uint64, ctypes.POINTER(ctypes.c_uint64)],
    ),
    "cgx_codec_encode": (
        _STATUS,
        [
            _HANDLE,
            ctypes.c_int,
            ctypes.c_void_p,
            ctypes.c_uint64,
            ctypes.POINTER(RandomKey),
            ctypes.c_void_p,
            ctypes.c_uint64,
        ],
    ),
    "cgx_codec_encode_feedback": (
        _STATUS,
        [
            _HANDLE,
            ctypes.c_int,
            ctypes.c_void_p,
            ctypes.c_uint64,
            ctypes.POINTER(RandomKey),
            ctypes.c_void_p,
            ctypes.c_void_p,
            ctypes.c_uint64,
        ],
    ),
    "cgx_codec_decode": (
        _STATUS,
        [_HANDLE, ctypes.c_int, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_void_p],
    ),
    "cgx_codec_decode_add": (
        _STATUS,
        [_HANDLE, ctypes.c_int, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_void_p],
    ),
    "cgx_codec_list": (ctypes.c_char_p, []),
    "cgx_algorithm_list": (ctypes.c_char_p, []),
    "cgx_variable_list": (ctypes.c_char_p, []),
    "cgx_store_create_file": (_STATUS, [ctypes.c_char_p, _OUT]),
    "cgx_store_create_tcp_secret": (
        _STATUS,
        [ctypes.c_char_p, ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_char_p, _OUT],
    ),
    "cgx_store_destroy": (None, [_HANDLE]),
    "cgx_comm_create": (_STATUS, [ctypes.POINTER(Config), _OUT]),
    "cgx_comm_destroy": (None, [_HANDLE]),
    "cgx_comm_abort": (_STATUS, [_HANDLE, ctypes.c_char_p]),
    "cgx_comm_shrink": (_STATUS, [_HANDLE, ctypes.c_int64, _OUT]),
    "cgx_comm_rank": (ctypes.c_int, [_HANDLE]),
    "cgx_comm_size": (ctypes.c_int, [_HANDLE]),
    "cgx_comm_transport": (ctypes.c_char_p, [_HANDLE]),
    "cgx_comm_tune": (_STATUS, [_HANDLE]),
    "cgx_comm_policy": (
        _STATUS,
        [_HANDLE, ctypes.c_void_p, ctypes.c_uint64, ctypes.POINTER(ctypes.c_uint64)],
    ),
    "cgx_comm_observe": (_STATUS, [_HANDLE, ctypes.c_uint32]),
    "cgx_comm_table": (
        _STATUS,
        [_HANDLE, ctypes.c_void_p, ctypes.c_uint64, ctypes.POINTER(ctypes.c_uint64)],
    ),
    "cgx_allreduce": (_STATUS, [_HANDLE, ctypes.POINTER(AllreduceArgs)]),
    "cgx_comm_stats": (_STATUS, [_HANDLE, ctypes.POINTER(Stats)]),
    "cgx_comm_state_bytes": (_STATUS, [_HANDLE, ctypes.POINTER(ctypes.c_uint64)]),
    "cgx_comm_state_save": (_STATUS, [_HANDLE, ctypes.c_void_p, ctypes.c_uint64]),
    "cgx_comm_state_load": (_STATUS, [_HANDLE, ctypes.c_void_p, ctypes.c_uint64]),
}


def path() -> Path:
    """The libcgx.so that is used. Raises ImportError where there is none."""
    named = os.environ.get("CGX_LIBRARY")
    if named:
        if not Path(named).is_file():
            raise ImportError(f"CGX_LIBRARY={named}: no such file; name a libcgx.so, or unset it")
        return Path(named).resolve()
    bundled = Path(__file__).parent / "lib" / "libcgx.so"
    if bundled.is_file():
        return bundled
    raise ImportError(f"{bundled} is missing: install the package (pip install .), or set CGX_LIBRARY to a libcgx.so")


@functools.cache
def load() -> ctypes.CDLL:
    """The library, loaded once, its functions declared."""
    library = ctypes.CDLL(str(path()))
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype = result
        function.argtypes = arguments
    return library


def check(status: int) -> None:
    """Raises ``cgx.Error`` with the library's own message unless ``status`` is 0."""
    if status != Status.OK:
        raise Error(status, load().cgx_last_error().decode(errors="replace"))


def version() -> str:
    """The version of the libcgx.so that is loaded, such as "0.1.0"."""
    return load().cgx_version_string().decode()
