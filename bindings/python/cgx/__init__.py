"""cgx: collectives that compress inside.

This package needs only numpy. It offers the codecs (``cgx.Codec``), the lists of what there is
(``cgx.codecs()``, ``cgx.algorithms()``) and a thin communicator over numpy arrays
(``cgx.Communicator``). ``import cgx.torch`` adds the backend for ``torch.distributed``.
"""

from ._codec import Codec, algorithms, codecs
from ._communicator import Communicator
from ._library import Error, Status, version
from ._observe import Table, variables

__all__ = ["Codec", "Communicator", "Error", "Status", "Table", "algorithms", "codecs", "variables", "version"]
__version__ = "0.1.0"
