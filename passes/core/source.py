"""Where a node comes from: the module and the source line of the user's model."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch.fx import Node

_NOT_THE_USERS = (f"{Path(torch.__file__).parent}/", "<", "/<")
_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<function>\S+)')


def source_of(node: Node) -> str:
    """``unet.py:214 in forward``: the innermost line of the user's model that made the node, or an empty string."""
    return last_frame(str(node.meta.get("stack_trace") or ""))


@lru_cache(maxsize=65536)
def last_frame(trace: str) -> str:
    """``unet.py:214 in forward``: the innermost frame of a traceback that is not torch's own, or an empty string."""
    frames = [match for match in _FRAME.finditer(trace) if not match["file"].startswith(_NOT_THE_USERS)]
    if not frames:
        return ""
    frame = frames[-1]
    path = Path(frame["file"])
    return f"{path.parent.name}/{path.name}:{frame['line']} in {frame['function']}"


def module_of(node: Node) -> str:
    """The dotted path of the innermost module that made the node (``down_blocks.0.resnets.1.conv1``), or ''."""
    stack: Any = node.meta.get("nn_module_stack") or {}
    paths = [str(entry[0]) for entry in stack.values()]
    return paths[-1].removeprefix("L['self'].").removeprefix("L['self']") if paths else ""


def made_by(node: Node) -> str:
    """The name of the pass that made the node, or '' for a node of the captured model."""
    return str(node.meta.get("custom", {}).get("made_by", ""))


def inherit(new: Node, origin: Node, made_by: str) -> None:
    """Give a node made by a pass the module and source line of the node it stands for, and the pass's name."""
    for key in ("stack_trace", "nn_module_stack"):
        if key in origin.meta:
            new.meta[key] = origin.meta[key]
    new.meta["custom"] = {**origin.meta.get("custom", {}), "made_by": made_by}
