"""The compiled module, loaded once, after libcgx.so (whose symbols it uses)."""

from __future__ import annotations

from .. import _library
from . import _build

_library.load()
shim = _build.load(_library.path())
ProcessGroupCgx = shim.ProcessGroupCgx
RawOptions = shim.RawOptions
Layout = shim.Layout
