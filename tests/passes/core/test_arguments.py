from __future__ import annotations

import torch
import torch.nn.functional as F

from penstock.passes.core.arguments import arguments_of, changed_arguments


def only(program, name):
    (node,) = [node for node in program.graphs["main"].graph.nodes if node.name == name]
    return node


def test_arguments_go_by_name_with_defaults(capture):
    node = only(
        capture(lambda x, w: F.conv2d(x, w, stride=2), (torch.randn(1, 2, 5, 5), torch.randn(3, 2, 3, 3))), "conv2d"
    )
    found = arguments_of(node)
    assert found["weight"].name == "w"
    assert found["bias"] is None
    assert (found["stride"], found["padding"], found["groups"]) == ([2, 2], [0, 0], 1)


def test_keyword_arguments_count(capture):
    node = only(capture(lambda x: x.sum(0, dtype=torch.float64), (torch.randn(2),)), "sum_1")
    assert arguments_of(node)["dtype"] == torch.float64
    assert arguments_of(node)["keepdim"] is False


def test_changes_stay_in_their_place_and_defaults_are_left_out(capture):
    node = only(capture(lambda x: x.sum(0, dtype=torch.float64), (torch.randn(2),)), "sum_1")
    assert changed_arguments(node, {"dim": [1]}) == ((node.args[0], [1]), {"dtype": torch.float64})
    assert changed_arguments(node, {"dtype": None}) == (node.args, {})
    assert changed_arguments(node, {"keepdim": True}) == (node.args, {"keepdim": True, "dtype": torch.float64})
