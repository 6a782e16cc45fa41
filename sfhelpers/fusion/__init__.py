"""The fused extractor: CLIP tokens injected into SD's up-blocks, then aggregated (SketchFusion, Sec. 5.1)."""

from sfhelpers.fusion.extractor import ARMS, FinetunedExtractor, FusedExtractor, matched_width, trainable_parameters
