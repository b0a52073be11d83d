"""What ``import cgx.torch`` needs of this Python, looked at first: else the reader sees somebody else's traceback."""

from __future__ import annotations

import sys

OLDEST = (2, 11)


def check() -> None:
    """Raises ImportError, saying what is missing and what to do, unless there is a PyTorch that will do."""
    wanted = f"cgx.torch needs PyTorch {OLDEST[0]}.{OLDEST[1]} or newer"
    rest = "Without it cgx.Codec and cgx.Communicator work, over numpy arrays."
    try:
        import torch
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ImportError(f"{wanted}, and {sys.executable} has none: pip install torch. {rest}") from None
    version = torch.__version__
    numbers = tuple(int(part) for part in version.split("+")[0].split(".")[:2] if part.isdigit())
    if numbers < OLDEST:
        raise ImportError(f"{wanted}, and this is {version}: pip install --upgrade torch. {rest}")
    if not torch.distributed.is_available():
        raise ImportError(f"{wanted} with torch.distributed, which this {version} was built without. {rest}")
