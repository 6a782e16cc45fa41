"""The fused extractor: CLIP tokens injected into SD's up-blocks, then aggregated (SketchFusion, Sec. 5.1)."""

from sfhelpers.fusion.extractor import ARMS, FinetunedExtractor, FusedExtractor
from sfhelpers.fusion.modules import ChannelStatistics, ClipInjection, FeatureAggregator, TokenInterpolation
from sfhelpers.fusion.plan import INJECT, MATCH, matched_width, trainable_parameters

__all__ = [
    "ARMS",
    "INJECT",
    "MATCH",
    "ChannelStatistics",
    "ClipInjection",
    "FeatureAggregator",
    "FinetunedExtractor",
    "FusedExtractor",
    "TokenInterpolation",
    "matched_width",
    "trainable_parameters",
]
