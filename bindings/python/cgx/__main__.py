"""``python -m cgx env [--markdown]``: the environment variables of cgx and their values. ``... version``: its version."""

import sys

from . import _observe
from ._library import path, version


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["env"] and arguments[1:] in ([], ["--markdown"]):
        print(_observe.environment_text(markdown=len(arguments) == 2))
        return 0
    if arguments == ["version"]:
        print(f"cgx {version()} ({path()})")
        return 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
