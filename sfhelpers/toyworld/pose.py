"""Random streams and similarity transforms shared by photos and sketches."""

import hashlib
from dataclasses import dataclass, replace

import numpy as np

from sfhelpers.toyworld.shapes import Drawing, Points, Uniform

SIZE = 160  # side of every rendered image, in pixels


def stream(*key: object) -> np.random.Generator:
    """A random stream that depends on its key alone: the same on every machine, in any order of calls."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "big")))


def uniform(rng: np.random.Generator) -> Uniform:
    """The `u(low, high)` that the category functions draw their shape parameters from."""
    return lambda low, high: float(low + (high - low) * rng.random())


@dataclass(frozen=True)
class Pose:
    """A similarity transform from object coordinates to pixels, with an optional mirror image.

    Args:
        scale: the object's side as a share of the image's side.
        angle: turn in radians.
        shift: (x, y) of the object's centre from the image's centre, as a share of the image's side.
        mirror: whether left and right are swapped.
    """

    scale: float
    angle: float
    shift: tuple[float, float]
    mirror: bool

    def __call__(self, points: Points) -> Points:
        """Move (N, 2) points from object coordinates to pixels of a SIZE x SIZE image."""
        flip = np.array([-1.0 if self.mirror else 1.0, 1.0])
        c, s = np.cos(self.angle), np.sin(self.angle)
        return (points * flip) @ np.array([[c, s], [-s, c]]) * (self.scale * SIZE / 2) + SIZE * (
            0.5 + np.array(self.shift)
        )


def random_pose(
    rng: np.random.Generator, scale: tuple[float, float], turn: float, shift: float, mirror: float = 0.5
) -> Pose:
    """Draw a pose: uniform scale, normal turn (`turn` = standard deviation, radians), uniform shift, mirrored or not.

    Args:
        mirror: the share of poses that are mirrored.
    """
    u = uniform(rng)
    return Pose(
        u(*scale), float(np.clip(rng.normal(0, turn), -2.5 * turn, 2.5 * turn)),
        (u(-shift, shift), u(-shift, shift)), rng.random() < mirror,
    )  # fmt: skip


def subject_pose(rng: np.random.Generator) -> Pose:
    """The pose of a photo's subject, the first thing that is drawn from the photo's stream."""
    return random_pose(rng, (0.6, 0.95), 0.15, 0.1)


def place_keypoints(drawing: Drawing, pose: Pose) -> Points:
    """(8, 2) pixels of a posed drawing's keypoints.

    A drawing that is its own mirror image does not show which way round it was put, so nobody who annotates it could
    know: its left and right are named as the picture shows them.
    """
    seen_from_front = replace(pose, mirror=False) if drawing.symmetric else pose
    return seen_from_front(np.array(list(drawing.keypoints.values())))
