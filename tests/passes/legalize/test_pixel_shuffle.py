from __future__ import annotations

import torch
import torch.nn.functional as F

from penstock.passes.legalize.pixel_shuffle import PixelShuffle


def test_shuffle_and_unshuffle_are_transpositions(run_pass, assert_listing):
    def model(x):
        return F.pixel_shuffle(x, 2), F.pixel_unshuffle(x, 2)

    _, after = run_pass(model, (torch.randn(2, 4, 4, 4),), PixelShuffle(), tolerance=1e-12)
    assert_listing(
        after,
        """graph main
        in   x                                                                          f32[2, 4, 4, 4]
        pixel_shuffle_reshape = reshape(x, [2, 1, 2, 2, 4, 4])                          f32[2, 1, 2, 2, 4, 4]
        pixel_shuffle_permute = permute(pixel_shuffle_reshape, [0, 1, 4, 2, 5, 3])      f32[2, 1, 4, 2, 4, 2]
        pixel_shuffle = reshape(pixel_shuffle_permute, [2, 1, 8, 8])                    f32[2, 1, 8, 8]
        pixel_unshuffle_reshape = reshape(x, [2, 4, 2, 2, 2, 2])                        f32[2, 4, 2, 2, 2, 2]
        pixel_unshuffle_permute = permute(pixel_unshuffle_reshape, [0, 1, 3, 5, 2, 4])  f32[2, 4, 2, 2, 2, 2]
        pixel_unshuffle = reshape(pixel_unshuffle_permute, [2, 16, 2, 2])               f32[2, 16, 2, 2]
        return (pixel_shuffle, pixel_unshuffle)
        """,
    )


def test_without_and_with_several_batch_dimensions(run_pass):
    run_pass(lambda x: F.pixel_shuffle(x, 3), (torch.randn(9, 2, 3),), PixelShuffle())
    run_pass(lambda x: F.pixel_unshuffle(x, 2), (torch.randn(2, 3, 4, 6, 8),), PixelShuffle())


def test_a_graph_without_one_stays(run_pass):
    before, after = run_pass(lambda x: x.transpose(0, 1), (torch.randn(2, 3),), PixelShuffle())
    assert after is before
