from __future__ import annotations

import torch
import torch.nn.functional as F

from penstock.backends.targets import find_target
from penstock.backends.tvm.build import launches_of
from penstock.compilation import legalized
from penstock.passes.cleanup.common_subexpressions import CommonSubexpressions
from penstock.passes.legalize.casts_at_readers import CastsAtReaders


def test_each_reader_casts(run_pass, assert_listing):
    def model(x):
        x = x.float()
        return x - x.mean(1, keepdim=True)

    _, after = run_pass(model, (torch.randn(4, 8).half(),), CastsAtReaders())
    assert_listing(
        after,
        """graph main
        in   x                                        f16[4, 8]
        _to_copy = _to_copy(x, dtype=float32)         f32[4, 8]
        mean = mean.dim(_to_copy, [1], True)           f32[4, 1]
        sub_to_copy = _to_copy(x, dtype=float32)      f32[4, 8]
        sub = sub(sub_to_copy, mean)                  f32[4, 8]
        return (sub)
        """,
    )


def test_what_multiplies_a_cast_reads_it_from_memory(run_pass):
    def model(x, y):
        x = x.float()
        return x.relu() + x @ y

    args = torch.randn(4, 4).half(), torch.randn(4, 4)
    before, after = run_pass(model, args, CastsAtReaders())
    assert after is before


def test_casts_to_fewer_bytes_stay(run_pass):
    def model(x):
        x = x.half()
        return x.relu() + x.sigmoid()

    before, after = run_pass(model, (torch.randn(4, 4),), CastsAtReaders())
    assert after is before


def test_merging_common_subexpressions_undoes_it(run_pass, op_names):
    def model(x):
        x = x.float()
        return x - x.mean(1, keepdim=True)

    args = (torch.randn(4, 8).half(),)
    _, after = run_pass(model, args, CastsAtReaders(), CommonSubexpressions(), idempotent=False)
    assert op_names(after).count("_to_copy") == 1


def test_half_precision_norms_store_nothing_in_float32(capture):
    def model(x, weight):
        return F.rms_norm(F.group_norm(x, 4, weight), [32], weight, 1e-6)

    target = find_target("opencl")
    program = legalized(capture(model, (torch.randn(2, 32, 32).half(), torch.randn(32).half())), target)
    launches = launches_of(program, target)
    written = [buffer for nest in launches.table.nests.values() for buffer in nest.buffers]
    assert max(torch.Size(buffer.shape).numel() for buffer in written if buffer.dtype == "float32") <= 2 * 32
