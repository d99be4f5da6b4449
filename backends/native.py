"""The native library, where it is there. Everything works without it."""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import logging
from functools import cache
from pathlib import Path

_NAMES = frozenset({"libpenstock_runtime.so", "libpenstock_runtime.dylib"})
_log = logging.getLogger(__name__)


@cache
def native_library() -> ctypes.CDLL | None:
    """The loaded library, or None. An install holds it beside the modules; an editable one, in site-packages."""
    for path in _candidates():
        if path.name in _NAMES and path.is_file():
            try:
                library = ctypes.CDLL(str(path))
            except OSError as error:
                _log.warning("the native library %s does not load: %s", path, error)
                continue
            library.penstock_runtime_version.restype = ctypes.c_char_p
            library.penstock_exchange_paths.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
            return library
    return None


def native_version() -> str | None:
    """The version of the native library, or None."""
    library = native_library()
    return None if library is None else str(library.penstock_runtime_version(), "ascii")


def _candidates() -> list[Path]:
    paths = []
    try:
        files = importlib.metadata.files("penstock") or []
        paths = [Path(str(file.locate())) for file in files if file.name in _NAMES]
    except importlib.metadata.PackageNotFoundError:
        pass  # running from a source tree
    spec = importlib.util.find_spec("penstock.backends")
    for folder in spec.submodule_search_locations or [] if spec else []:
        paths.extend(Path(folder) / "_native" / name for name in sorted(_NAMES))
    return paths
