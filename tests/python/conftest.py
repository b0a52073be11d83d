"""Lets the tests find the examples and the package of this tree, where no installed one is wanted."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
