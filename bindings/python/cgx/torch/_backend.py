"""The backend "cgx" of torch.distributed: its registration, and what it says it did."""

from __future__ import annotations

import datetime
import json
from typing import Any

import torch
import torch.distributed as dist

from .._observe import Table
from ._meeting import meet
from ._native import ProcessGroupCgx
from ._options import Options

NAME = "cgx"


def register() -> None:
    """Registers the backend. PyTorch calls this by entry point; ``import cgx.torch`` does too. May be repeated."""
    if NAME.upper() not in dist.Backend._plugins:
        dist.Backend.register_backend(NAME, _create, extended_api=True, devices=["cpu"])


def _create(opts: Any, backend_options: Any) -> ProcessGroupCgx:
    options = Options.from_environment() if backend_options is None else backend_options
    if not isinstance(options, Options):
        raise TypeError(f"pg_options of backend 'cgx' must be cgx.torch.Options, not {type(options).__name__}")
    store, inner = make_inner(opts.store, opts.group_rank, opts.group_size, opts.timeout)
    return ProcessGroupCgx(
        store=store,
        rank=opts.group_rank,
        size=opts.group_size,
        timeout=opts.timeout,
        options=options,
        inner=inner,
    )


def make_inner(
    store: dist.Store, rank: int, size: int, timeout: datetime.timedelta
) -> tuple[dist.Store, dist.ProcessGroupGloo]:
    """A part of ``store`` that is this group's alone, and Gloo for what is not cgx's. Collective; C++ calls it, too."""
    name = meet(dist.PrefixStore("cgx/meeting", store), rank, size, timeout)
    own = dist.PrefixStore(f"cgx/{name}", store)
    return own, dist.ProcessGroupGloo(dist.PrefixStore("gloo", own), rank, size, timeout=timeout)


def backend_of(group: dist.ProcessGroup | None = None) -> ProcessGroupCgx:
    """The cgx backend of ``group`` (None: the default group). Raises ValueError where it has none."""
    group = dist.group.WORLD if group is None else group
    if group is None:
        raise ValueError("torch.distributed is not initialized; call init_process_group('cgx') first")
    backend = group._get_backend(torch.device("cpu"))
    while not isinstance(backend, ProcessGroupCgx) and hasattr(backend, "wrapped_pg"):
        backend = backend.wrapped_pg  # TORCH_DISTRIBUTED_DEBUG=DETAIL
    if not isinstance(backend, ProcessGroupCgx):
        raise ValueError(
            f"the CPU backend of this process group is {type(backend).__name__}, not cgx; "
            "make one with init_process_group('cgx') or new_group(backend='cgx')"
        )
    return backend


def tune(group: dist.ProcessGroup | None = None) -> None:
    """Measures codecs and links now, and lets the result decide from now on. Collective; no work may be outstanding."""
    backend = backend_of(group)
    backend.connect()
    backend.tune()


def policy(group: dist.ProcessGroup | None = None) -> dict[str, Any] | None:
    """What was measured and what follows from it at some sizes; None as long as nothing was. No outstanding work.

    Written to a file with ``json.dump`` it is what ``Options(policy_file=)`` takes.
    """
    backend = backend_of(group)
    text = backend.policy() if backend.communicator_stats() is not None else ""
    return json.loads(text) if text else None


def observe(every: int = 1, group: dist.ProcessGroup | None = None) -> None:
    """Counts and times by tensor from now on; every ``every``-th collective of a layout measures errors. 0: off.

    Collective where the group has not connected yet (a ``ddp_hook`` has).
    """
    backend = backend_of(group)
    backend.connect()
    backend.observe(every)


def table(group: dist.ProcessGroup | None = None) -> Table:
    """What became of each tensor on this rank: a list of dicts that prints as a table (see ``cgx.Table``).

    Parameters under a ``ddp_hook`` have their names; tensor 0 is all of plain all_reduce. No work may be outstanding.
    """
    from ._hook import hooks_of

    backend = backend_of(group)
    if backend.communicator_stats() is None:
        return Table()
    names = {tensor: name for hook in hooks_of(backend) for tensor, name in hook.names().items()}
    rows = json.loads(backend.table())
    return Table({**row, "name": names.get(row["tensor"], "all_reduce" if row["tensor"] == 0 else None)} for row in rows)


def stats(group: dist.ProcessGroup | None = None) -> dict[str, Any]:
    """What was compressed on this rank, what was not, and why. No communication.

    "codec": of plain all_reduce, or None. "compressed": totals of the collectives that cgx ran (cgx_stats in cgx.h, by
    name, and "transport"), or None where it ran none; in it "elements_compressed", "elements_raw" (asked for raw),
    "elements_too_small" and "elements_not_float" add up to "elements"; "wire_bytes" were sent where "raw_bytes" would
    have been. "delegated": calls and elements of all_reduce that went to Gloo, by reason ("coalesced": several tensors
    in one call that differ in it). "parameters": one entry for each parameter under a ``ddp_hook``: name, shape, spec
    (None: raw) and reason.
    """
    from ._hook import hooks_of

    backend = backend_of(group)
    return {
        "codec": backend.cgx_options.codec or None,
        "compressed": backend.communicator_stats(),
        "delegated": backend.delegated(),
        "parameters": [row for hook in hooks_of(backend) for row in hook.report()],
    }
