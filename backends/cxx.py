"""The C++ compiler of this machine."""

from __future__ import annotations

import os
import shutil
import sys

NAMES = ("c++", "g++", "clang++")
INSTALL = "xcode-select --install" if sys.platform == "darwin" else "apt-get install g++ (or set CXX)"
"""How to get one."""


def find_compiler() -> str | None:
    """Its path: of what the variable CXX names, else of the first of the usual names on the PATH."""
    chosen = os.environ.get("CXX")
    return next(filter(None, map(shutil.which, [chosen] if chosen else NAMES)), None)
