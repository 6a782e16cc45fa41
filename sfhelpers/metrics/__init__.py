"""Metrics as plain functions on numpy arrays and torch tensors, one item or a batch, with one value an item.

Papers use one name for several definitions ("mAP@200" has four), so every function says which one it computes and
where it came from, and a result row must carry it.
"""

from sfhelpers.metrics.bootstrap import *
from sfhelpers.metrics.predictions import *
from sfhelpers.metrics.ranking import *
from sfhelpers.metrics.retrieval import *
