"""Metrics as plain functions on arrays and tensors, in float64, one value an item; ValueError for what does not fit."""

from sfhelpers.metrics.predictions import *
from sfhelpers.metrics.retrieval import *
