"""Metrics as plain functions on arrays and tensors, one item or a batch, float64, with one value an item.

What papers call by one name ("mAP@200" has four definitions) says which one it is; what does not fit is a ValueError.
"""

from sfhelpers.metrics.predictions import *
from sfhelpers.metrics.retrieval import *
