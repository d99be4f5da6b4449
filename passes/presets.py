"""The pipelines that come with penstock, as literal lists: the table of contents of all passes."""

from __future__ import annotations

from penstock.passes.cleanup.canonicalize import Canonicalize
from penstock.passes.cleanup.common_subexpressions import CommonSubexpressions
from penstock.passes.cleanup.dead_code import DeadCode
from penstock.passes.cleanup.fold_constants import FoldConstants
from penstock.passes.cleanup.fuse_attention import FuseAttention
from penstock.passes.cleanup.join_scattered import JoinScattered
from penstock.passes.core.base import Pass
from penstock.passes.legalize.adaptive_max_pool import AdaptiveMaxPoolToAmax
from penstock.passes.legalize.adaptive_pool import SeparateAdaptivePool3d
from penstock.passes.legalize.affine_norm import AffineGroupNorm
from penstock.passes.legalize.attention_mask import BooleanAttentionMask
from penstock.passes.legalize.batch_norm import AffineBatchNorm
from penstock.passes.legalize.bfloat16 import Bfloat16ToFloat32
from penstock.passes.legalize.casts_at_readers import CastsAtReaders
from penstock.passes.legalize.decompose_to_core import DecomposeToCore
from penstock.passes.legalize.diagonal import DiagonalToSlice
from penstock.passes.legalize.distances import DistancesToNorms
from penstock.passes.legalize.empty_attention import EmptyAttentionToZeros
from penstock.passes.legalize.explicit_promotion import ExplicitPromotion
from penstock.passes.legalize.float64 import Float64ToFloat32
from penstock.passes.legalize.functional_copy import FunctionalCopy
from penstock.passes.legalize.group_norm_halves import GroupNormHalves
from penstock.passes.legalize.grouped_query_attention import GroupedQueryAttention
from penstock.passes.legalize.instance_norm import InstanceNormToGroupNorm
from penstock.passes.legalize.masked_index_put import MaskedIndexPut
from penstock.passes.legalize.masked_scatter import MaskedScatterToGather
from penstock.passes.legalize.max_pool import MaxPoolToMaxPool2d
from penstock.passes.legalize.min_max import DecomposeMinMax
from penstock.passes.legalize.named_convolution import NamedConvolution
from penstock.passes.legalize.native_norm import NativeNormToNorm
from penstock.passes.legalize.nearest_upsample import NearestUpsample
from penstock.passes.legalize.non_negative_index_tensors import NonNegativeIndexTensors
from penstock.passes.legalize.non_negative_indices import NonNegativeIndices
from penstock.passes.legalize.pixel_shuffle import PixelShuffle
from penstock.passes.legalize.rare_elementwise import RareElementwise
from penstock.passes.legalize.real_rope import RealRope
from penstock.passes.legalize.repeat_interleave import RepeatInterleave
from penstock.passes.legalize.rms_norm import DecomposeRmsNorm
from penstock.passes.legalize.scatter_reduce import ScatterReduceToMatmul
from penstock.passes.legalize.select_before_permute import SelectBeforePermute
from penstock.passes.legalize.transposed_convolution import TransposedConvolution
from penstock.passes.legalize.unfold import UnfoldToIndexSelect
from penstock.passes.legalize.vector_norm import VectorNorm
from penstock.passes.legalize.widen_bool_cumsum import WidenBoolCumsum

CLEANUP: tuple[Pass, ...] = (
    # one way to say each thing
    Canonicalize(),
    JoinScattered(),
    FoldConstants(),
    CommonSubexpressions(),
    # attention as one operator, whoever wrote it out
    FuseAttention(),
    # what the passes above left behind
    Canonicalize(),
    DeadCode(),
)
"""Makes a Program smaller and changes nothing that it computes."""

MOBILE: tuple[Pass, ...] = (
    # position tables and masks, in the precision of the model
    Canonicalize(),
    FoldConstants(),
    # the types that phone GPUs compute in
    Float64ToFloat32(),
    Bfloat16ToFloat32(),
    # one way to say each thing, and attention as one operator
    Canonicalize(),
    JoinScattered(),
    FoldConstants(),
    CommonSubexpressions(),
    FuseAttention(),
    # what the passes above left behind
    Canonicalize(),
    DeadCode(),
)
"""Prepares a Program for a phone. The types make it lossy where the model uses types that phones lack."""

SINGLE_PRECISION: tuple[Pass, ...] = (
    FoldConstants(),
    Float64ToFloat32(),
)
"""Comes before `LEGALIZE` for GPUs, which have no double precision."""

LEGALIZE: tuple[Pass, ...] = (
    # numbers that no back end computes with
    Bfloat16ToFloat32(),
    # complex numbers become pairs of reals
    RealRope(),
    # operators outside the door that have a better form than torch's own decomposition
    FunctionalCopy(),
    NamedConvolution(),
    TransposedConvolution(),
    InstanceNormToGroupNorm(),
    NativeNormToNorm(),
    AffineBatchNorm(),
    GroupNormHalves(),
    DecomposeRmsNorm(),
    DistancesToNorms(),
    VectorNorm(),
    PixelShuffle(),
    RepeatInterleave(),
    UnfoldToIndexSelect(),
    MaxPoolToMaxPool2d(),
    SeparateAdaptivePool3d(),
    AdaptiveMaxPoolToAmax(),
    DiagonalToSlice(),
    MaskedScatterToGather(),
    RareElementwise(),
    ScatterReduceToMatmul(),
    # all other operators outside the door
    DecomposeToCore(),
    # forms within the door that back ends get wrong, or lack
    SelectBeforePermute(),
    EmptyAttentionToZeros(),
    MaskedIndexPut(),
    GroupedQueryAttention(),
    BooleanAttentionMask(),
    DecomposeMinMax(),
    NearestUpsample(),
    AffineGroupNorm(),
    # what torch leaves implicit
    WidenBoolCumsum(),
    ExplicitPromotion(),
    NonNegativeIndices(),
    # what all this made of weights alone; index tensors that are known by now need no guard
    FoldConstants(),
    NonNegativeIndexTensors(),
    CommonSubexpressions(),
    # what kernels read in half the bytes
    CastsAtReaders(),
)
"""Writes a Program in the operators of the door, `legalize.door`."""

PRESETS: dict[str, tuple[Pass, ...]] = {
    "none": (),
    "cleanup": CLEANUP,
    "mobile": MOBILE,
    "legalize": LEGALIZE,
}
"""The pipelines by the names that the command line takes."""
