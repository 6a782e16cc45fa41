"""Drawings made of strokes: from a hand, from a file, or one of the presets."""

from sfhelpers.drawing.drawing import PRESETS, Drawing
from sfhelpers.drawing.strokes import Stroke
