"""Metrics as plain functions on arrays and tensors, one item or a batch, float64, with one value an item.

Papers use one name for several definitions ("mAP@200" has four), so each says which one it is, and a row must carry it.
What does not fit or cannot be measured is a ValueError of one sentence.
"""

from sfhelpers.metrics.bootstrap import *
from sfhelpers.metrics.predictions import *
from sfhelpers.metrics.ranking import *
from sfhelpers.metrics.retrieval import *
