"""cgx for PyTorch: the backend "cgx" of torch.distributed, and a hook for DistributedDataParallel.

    import cgx.torch
    torch.distributed.init_process_group("cgx")              # under plain torchrun
    model = DistributedDataParallel(model)
    cgx.torch.ddp_hook(model, "maxmin:bits=4")

All collectives of torch.distributed work in the backend "cgx" (CPU tensors). Nothing is compressed unless asked:
by ``ddp_hook``, by ``Options(codec=...)`` in ``pg_options=``, or by CGX_CODEC in the environment. ``stats()`` says
what was compressed, what was not, and why.
"""

from . import _require

_require.check()

from ._backend import backend_of, observe, policy, register, stats, table, tune  # noqa: E402
from ._hook import DdpHook, ddp_hook, make_hook  # noqa: E402
from ._options import Options  # noqa: E402
from ._policy import Parameter, Policy  # noqa: E402
from ._state import load_state_dict, state_dict  # noqa: E402

__all__ = [
    "DdpHook",
    "Options",
    "Parameter",
    "Policy",
    "backend_of",
    "ddp_hook",
    "load_state_dict",
    "make_hook",
    "observe",
    "policy",
    "register",
    "state_dict",
    "stats",
    "table",
    "tune",
]

register()
