"""Frozen features on disk, so that nothing is computed twice and not all of it need be held in memory."""

from sfhelpers.store.filling import SHARED, Filling, fill, grey_image, joined, kept_bytes, precision
from sfhelpers.store.store import Store, item_key
