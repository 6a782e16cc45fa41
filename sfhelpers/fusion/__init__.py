"""The fused extractor: CLIP tokens injected into SD's up-blocks, then aggregated (SketchFusion, Sec. 5.1)."""

from sfhelpers.fusion.extractor import ARMS, FusedExtractor, matched_width, trainable_parameters
from sfhelpers.fusion.finetuned import FinetunedExtractor
from sfhelpers.fusion.modules import ChannelStatistics, ClipInjection, FeatureAggregator

__all__ = [
    "ARMS",
    "ChannelStatistics",
    "ClipInjection",
    "FeatureAggregator",
    "FinetunedExtractor",
    "FusedExtractor",
    "matched_width",
    "trainable_parameters",
]
