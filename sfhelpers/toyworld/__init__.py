"""A small procedural world with exact ground truth: paired photos and freehand sketches of 36 categories, and more."""

from sfhelpers.toyworld.categories import CATEGORIES, SEEN, UNSEEN
from sfhelpers.toyworld.further import FURTHER, NEW, ensure_further, write_further
from sfhelpers.toyworld.scenes import Thing, render_scene
from sfhelpers.toyworld.shapes import SIZE
from sfhelpers.toyworld.sketches import render_sketch
from sfhelpers.toyworld.world import DIFFICULTY, ensure, keypoint_names, write_folder, write_sketchy
