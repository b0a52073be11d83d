"""A communicator over numpy arrays: the C interface's allreduce, and nothing more."""

from __future__ import annotations

import ctypes
import json
import threading
from types import TracebackType
from typing import Any

import numpy as np

from ._codec import Codec
from ._library import AllreduceArgs, Config, Error, Stats, Status, check, load
from ._observe import Table

_DTYPES = {
    "float32": 0,
    "float16": 1,
    "bfloat16": 2,
    "float64": 3,
    "int8": 4,
    "uint8": 5,
    "int16": 6,
    "int32": 7,
    "int64": 8,
}
_OPS = {"sum": 0, "avg": 1, "min": 2, "max": 3, "prod": 4}


def _text(value: str | None) -> bytes | None:
    return None if value is None else value.encode()


class Communicator:
    """Ranks that sum numpy arrays together.

    Collective: every rank makes one, with the same arguments but ``rank``. With no arguments everything
    comes from the environment (torchrun's, MPI launchers' or CGX_* variables). ``store`` is
    "file:DIRECTORY" or "tcp:HOST:PORT". Raises ``cgx.Error``, naming the peer that is missing or differs.
    ``threads`` are those of this rank's codecs (0: CGX_THREADS, else 1). ``tune`` measures at once, as ``tune()``;
    ``policy_file`` holds what ``policy()`` gave, as JSON, and replaces the measuring.
    ``secret`` (16 bytes at least; None: CGX_SECRET or the file CGX_SECRET_FILE, else none) is proven by all ranks to
    each other when they connect.
    ``inner_codec`` is the spec of messages inside a host, of the algorithm "hierarchical".
    One call at a time is made on a communicator (a lock sees to it); ``abort`` may come from any thread.
    """

    def __init__(
        self,
        rank: int = -1,
        size: int = -1,
        store: str | None = None,
        job: str | None = None,
        transport: str | None = None,
        algorithm: str | None = None,
        interface: str | None = None,
        timeout_ms: int = 0,
        seed: int = 0,
        slice_bytes: int = 0,
        threads: int = 0,
        tune: bool = False,
        policy_file: str | None = None,
        secret: str | None = None,
        inner_codec: str | None = None,
    ) -> None:
        self._lock = threading.Lock()
        self._handle = ctypes.c_void_p()
        self._store: _Store | None = _Store(store, rank, timeout_ms, secret)
        config = Config(
            struct_size=ctypes.sizeof(Config),
            rank=rank,
            size=size,
            store=self._store.handle,
            job=_text(job),
            transport=_text(transport),
            algorithm=_text(algorithm),
            interface_name=_text(interface),
            timeout_ms=timeout_ms,
            seed=seed,
            slice_bytes=slice_bytes,
            threads=threads,
            tune=int(tune),
            policy_file=_text(policy_file),
            secret=_text(secret),
            inner_codec=_text(inner_codec),
        )
        try:
            check(load().cgx_comm_create(ctypes.byref(config), ctypes.byref(self._handle)))
        except Error:
            self.close()
            raise

    def close(self) -> None:
        """Disconnects and frees. May be called again."""
        with self._lock:
            handle, self._handle = self._handle, ctypes.c_void_p()
            store, self._store = self._store, None
        load().cgx_comm_destroy(handle)
        del store  # after the communicator, and only if no communicator of survivors needs it

    def __del__(self) -> None:
        if hasattr(self, "_store"):
            self.close()

    def __enter__(self) -> Communicator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> ctypes.c_void_p:
        if not self._handle:
            raise Error(Status.FAILED, "this communicator was closed")
        return self._handle

    @property
    def rank(self) -> int:
        return load().cgx_comm_rank(self._open())

    @property
    def size(self) -> int:
        return load().cgx_comm_size(self._open())

    @property
    def transport(self) -> str:
        return load().cgx_comm_transport(self._open()).decode()

    def allreduce(
        self,
        array: np.ndarray,
        op: str = "sum",
        codec: Codec | str | None = None,
        tensor: int = 0,
        timeout_ms: int = 0,
    ) -> np.ndarray:
        """Sums (``op``: "sum", "avg", "min", "max", "prod") ``array`` over the ranks in place, and returns it.

        The array is C-contiguous, writable, of any shape, equal on all ranks; float32, float16,
        bfloat16, or (uncompressed) float64, int8, uint8, int16, int32, int64. "min", "max" and "prod" are never
        compressed. A codec that cannot serve is left out, which is logged once and counted in ``stats()``. Every rank ends with the same
        bits. ``tensor`` keys random numbers and error feedback: the same for the same tensor in every step.
        """
        args = self._arguments(array, op, tensor, timeout_ms)
        codec = Codec(codec) if isinstance(codec, str) else codec
        args.codec = codec._handle if codec is not None else None
        with self._lock:
            check(load().cgx_allreduce(self._open(), ctypes.byref(args)))
        return array

    @staticmethod
    def _arguments(array: np.ndarray, op: str, tensor: int, timeout_ms: int) -> AllreduceArgs:
        if not isinstance(array, np.ndarray):
            raise TypeError(f"allreduce takes a numpy array, not {type(array).__name__}")
        if array.dtype.name not in _DTYPES or not array.dtype.isnative:
            raise TypeError(f"dtype {array.dtype} has no allreduce; there are {', '.join(_DTYPES)}")
        if not array.flags.c_contiguous or not array.flags.writeable:
            raise ValueError("allreduce works in place: the array must be C-contiguous and writable")
        if op not in _OPS:
            raise ValueError(f"op {op!r} must be one of {', '.join(_OPS)}")
        return AllreduceArgs(
            struct_size=ctypes.sizeof(AllreduceArgs),
            input=array.ctypes.data,
            output=array.ctypes.data,
            count=array.size,
            dtype=_DTYPES[array.dtype.name],
            op=_OPS[op],
            tensor_id=tensor,
            timeout_ms=timeout_ms,
        )

    def tune(self) -> None:
        """Measures codecs and links; the result chooses algorithms and the codec "auto" from now on. Collective."""
        with self._lock:
            check(load().cgx_comm_tune(self._open()))

    def policy(self) -> dict[str, Any] | None:
        """What was measured, and what follows from it at some sizes; None as long as nothing was.

        Written to a file with ``json.dump`` it is a ``policy_file``.
        """
        text = self._text(load().cgx_comm_policy)
        return json.loads(text) if text else None

    def observe(self, every: int) -> None:
        """Counts and times by tensor from now on; every ``every``-th collective of a layout measures errors. 0: off."""
        check(load().cgx_comm_observe(self._open(), every))

    def table(self) -> Table:
        """What became of each tensor: a list of dicts that prints as a table (see ``cgx.Table``). No outstanding work."""
        return Table(json.loads(self._text(load().cgx_comm_table)))

    def _text(self, function: Any) -> bytes:
        size = ctypes.c_uint64()
        with self._lock:
            check(function(self._open(), None, 0, ctypes.byref(size)))
            text = ctypes.create_string_buffer(size.value)
            check(function(self._open(), text, size.value, ctypes.byref(size)))
        return text.value

    def abort(self, reason: str = "aborted by the caller") -> None:
        """Fails the communicator here and on its peers. Returns at once."""
        check(load().cgx_comm_abort(self._open(), reason.encode()))

    def shrink(self, timeout_ms: int = 0) -> Communicator:
        """After a failure: a communicator of the ranks that live, in their old order. Every one of them calls it.

        Ranks that are not known to be dead are waited for, ``timeout_ms`` at most (0: the communicator's). Residuals
        are carried over as of the last success. This communicator stays failed and must still be closed.
        """
        made = Communicator.__new__(Communicator)
        made._lock = threading.Lock()
        made._handle = ctypes.c_void_p()
        made._store = self._store
        with self._lock:
            check(load().cgx_comm_shrink(self._open(), timeout_ms, ctypes.byref(made._handle)))
        return made

    def stats(self) -> dict[str, int | float]:
        """Totals since the communicator was made: elements by what became of them, bytes, seconds (see cgx.h)."""
        stats = Stats(struct_size=ctypes.sizeof(Stats))
        check(load().cgx_comm_stats(self._open(), ctypes.byref(stats)))
        return stats.as_dict()


    def state_dict(self) -> dict[str, np.ndarray]:
        """What a restart needs of this rank: residuals, random counter and seed, policy. ``{"rank0of2": uint8 array}``.

        The key names the rank: every rank saves and loads its own. No collective may be running.
        """
        size = ctypes.c_uint64()
        with self._lock:
            check(load().cgx_comm_state_bytes(self._open(), ctypes.byref(size)))
            state = np.empty(size.value, np.uint8)
            check(load().cgx_comm_state_save(self._open(), state.ctypes.data, size.value))
        return {f"rank{self.rank}of{self.size}": state}

    def load_state_dict(self, state_dict: dict[str, np.ndarray]) -> None:
        """Goes on where ``state_dict()`` was called, bit for bit, if every rank loads its own.

        Raises ``cgx.Error``, and changes nothing, for a state that is damaged, another rank's, or of another number of
        ranks (start without one then).
        """
        name = f"rank{self.rank}of{self.size}"
        if name not in state_dict:
            raise Error(Status.INVALID_ARGUMENT, f"the state is of {', '.join(state_dict) or 'no rank'}, not of {name}")
        state = np.frombuffer(memoryview(state_dict[name]).cast("B"), np.uint8)
        with self._lock:
            check(load().cgx_comm_state_load(self._open(), state.ctypes.data, state.size))


class _Store:
    """A store's handle, shared by the communicators that need it. Null where it comes from the environment."""

    def __init__(self, store: str | None, rank: int, timeout_ms: int, secret: str | None) -> None:
        self.handle = ctypes.c_void_p()
        self.handle = _make_store(store, rank, timeout_ms, secret)

    def __del__(self) -> None:
        load().cgx_store_destroy(self.handle)


def _make_store(store: str | None, rank: int, timeout_ms: int, secret: str | None) -> ctypes.c_void_p:
    handle = ctypes.c_void_p()
    if store is None:
        return handle
    kind, _, rest = store.partition(":")
    if kind == "file" and rest:
        check(load().cgx_store_create_file(rest.encode(), ctypes.byref(handle)))
        return handle
    host, _, port = rest.rpartition(":")
    if kind != "tcp" or not host or not port.isdigit():
        raise ValueError(f"store {store!r} must be 'file:DIRECTORY' or 'tcp:HOST:PORT'")
    if rank < 0:
        raise ValueError("a tcp store needs to know the rank: pass rank=")
    known = _text(secret)
    create = load().cgx_store_create_tcp_secret
    check(create(host.encode(), int(port), rank, timeout_ms, known, ctypes.byref(handle)))
    return handle
