"""The toy world's quick drawings, as Quick, Draw! is to Sketchy: others, in twenty seconds of hasty strokes."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.path import Path as Outline
from tqdm.auto import tqdm

from sfhelpers.drawing import Stroke, ndjson
from sfhelpers.toyworld.categories import CATEGORIES, individual
from sfhelpers.toyworld.shapes import Drawing, Part, Points, Pose, Stream, resampled, stream, turned
from sfhelpers.toyworld.world import cached

VERSION = 2  # raise it when the drawings change, so that no older ones are read from the cache
DIFFICULTY = 0.65  # a linear probe of the shipped image tower is right at .87 with 10 drawings a class; at 0.5, at .94
NUMBER = 60  # drawings a category
CANVAS = 600  # side in px of the screen that was drawn on
PACE = 0.55  # px a millisecond
STEP = 0.035  # between points, in object units
DEADLINE = 20_000  # ms, then the drawing is taken away


def ensure_quick() -> Path:
    """The folder of the quick drawings, written on first use (about 10 s, 2 MB); OSError as `cached`."""
    return cached("quick", f"v{VERSION}-seed0-difficulty{DIFFICULTY:g}-{NUMBER}-simplified", write_quick)


def write_quick(root: Path, each: int = NUMBER, difficulty: float = DIFFICULTY, categories: tuple = CATEGORIES) -> None:
    """Write `root/<category>.ndjson`, of `each` so many drawings, one a line, as Google publishes them simplified."""
    root.mkdir(parents=True, exist_ok=True)
    for category in tqdm(categories, desc="drawing in a hurry", leave=False):
        lines = "".join(_json(category, index, difficulty) + "\n" for index in range(each))
        (root / f"{category}.ndjson").write_text(lines, encoding="utf-8")


def _json(category: str, index: int, difficulty: float) -> str:
    strokes = [Stroke(stroke[:, :2], 1.0) for stroke in quick_drawing(category, index, 0, difficulty)]
    number = int.from_bytes(hashlib.sha256(f"quick/0/{category}/{index}".encode()).digest()[:8])
    known = {"word": category, "countrycode": "ZZ", "timestamp": "2017-03-08 21:12:07.26604 UTC", "recognized": True}
    known |= {"key_id": str(10**15 + number % (9 * 10**15))} | json.loads(ndjson.line_of(strokes, category))
    return json.dumps(known, separators=(",", ":"))


def quick_drawing(category: str, index: int, seed: int, difficulty: float = DIFFICULTY) -> list[np.ndarray]:
    """The strokes of one drawing as they were drawn, (N, 3) each, N of 2 or more: px of the screen, rising ms."""
    drawing = individual(category, stream("quick shape", seed, category, index))
    return hasty(drawing, stream("quick", seed, category, index), difficulty)


def hasty(drawing: Drawing, rng: Stream, difficulty: float) -> list[np.ndarray]:
    """A drawing in quick strokes, as of `quick_drawing`."""
    haste = difficulty * rng.uniform(0.4, 1.6)
    parts = [_crooked(rng, part, haste) for part in _remembered(rng, drawing.parts, haste)]
    lines = []
    for number, part in enumerate(parts):
        in_front = [later.outline for later in parts[number + 1 :] if later.closed]
        crossing = rng.random() < 0.35 * haste
        lines += _visible(_line(rng, part, haste), [] if crossing else in_front)
    turn = rng.normal(0, 0.5 if rng.random() < 0.15 * haste else 0.08 + 0.1 * haste)  # now and then well off
    pose = Pose(rng.uniform(0.35, 0.7), float(turn), tuple(rng.uniform(-0.08, 0.08, 2).tolist()), rng.random() < 0.5)
    return _timed(rng, [_shaken(rng, pose(line), haste) for line in lines], haste)


def _remembered(rng: Stream, parts: list[Part], haste: float) -> list[Part]:
    """What is drawn at all: most details are not, of two like parts sometimes one, never nothing."""

    def forgotten(part: Part) -> float:
        size = np.ptp(part.outline, axis=0).max()
        return (0.35 + 0.5 * haste) if part.detail else (0.08 + 0.22 * haste) * np.exp(-size)

    kept = [part for part in parts if rng.random() >= forgotten(part)]
    largest = max(parts, key=lambda part: float(np.ptp(part.outline, axis=0).prod()))
    return kept if any(part is largest for part in kept) else [largest, *kept]


def _crooked(rng: Stream, part: Part, haste: float) -> Part:
    """A part that is too long, too wide, turned or beside its place."""
    middle = part.outline.mean(0)
    stretched = (part.outline - middle) * (1 + np.clip(rng.normal(0, 0.22 * haste, 2), -0.5, 0.6)) + middle
    outline = turned(stretched, rng.normal(0, 0.14 * haste), tuple(middle)) + rng.normal(0, 0.06 * haste, 2)
    return replace(part, outline=outline)


def _line(rng: Stream, part: Part, haste: float) -> Points:
    """The pen's way along an outline: thin parts become one line, closed ones begin anywhere and rarely close well."""
    if not part.closed:
        return resampled(part.outline, STEP, round)
    middle = part.outline.mean(0)
    _, spread, axes = np.linalg.svd(part.outline - middle, full_matrices=False)
    if spread[0] > 2.6 * spread[1] and rng.random() < 0.25 + 0.5 * haste:
        along = (part.outline - middle) @ axes[0]
        return resampled(middle + np.outer([along.min(), along.max()], axes[0]), STEP, round)
    ring = np.roll(part.outline, -int(rng.integers(len(part.outline))), axis=0)
    way = resampled(np.concatenate([ring, ring[:2]]), STEP, round)
    length = np.clip(len(way) * (1 + rng.normal(-0.03, 0.06 * haste)), 4, None)
    reach = int(rng.integers(1, 3 + round(4 * haste)))  # corners are cut: a mean over so many points to either side
    padded = np.pad(way[: int(length)], ((reach, reach), (0, 0)), mode="edge")
    window = np.full(2 * reach + 1, 1 / (2 * reach + 1))
    return np.stack([np.convolve(padded[:, k], window, "valid") for k in (0, 1)], 1)


def _visible(line: Points, in_front: list[Points]) -> list[Points]:
    """The pieces of a line that no later part covers."""
    covered = np.any([np.zeros(len(line), bool), *(Outline(one).contains_points(line) for one in in_front)], axis=0)
    pieces = np.split(np.arange(len(line)), np.flatnonzero(np.diff(covered)) + 1)
    return [line[piece] for piece in pieces if not covered[piece[0]] and len(piece) > 2]


def _shaken(rng: Stream, line: Points, haste: float) -> Points:
    """From the pose's 160 px to the screen, bent slowly along the way and shaken at every point."""
    screen = line * (CANVAS / 160)
    t = np.linspace(0, 2 * np.pi, len(screen))[:, None]
    size = np.ptp(screen, axis=0).max()
    waves, phase = rng.uniform(0.3, 0.8 + size / 250, (3, 2)), rng.uniform(0, 2 * np.pi, (3, 2))
    bend = sum(rng.normal(0, 0.012 + 0.025 * haste, 2) * size * np.sin(waves[k] * t + phase[k]) for k in range(3))
    return np.clip(screen + bend + rng.normal(0, 0.5, screen.shape), 0, CANVAS)


def _timed(rng: Stream, lines: list[Points], haste: float) -> list[np.ndarray]:
    """Large things first, at the hand's pace with pauses between strokes; what is not begun in time is missing."""
    order = np.argsort([-np.ptp(line, axis=0).max() * rng.lognormal(0, 0.4) for line in lines], kind="stable")
    allowed = DEADLINE * (1 if rng.random() > 0.5 * haste else rng.uniform(0.25, 0.7))
    clock, strokes = 0.0, []
    for line in (lines[k] for k in order):
        if clock > allowed and strokes:
            break
        step = np.hypot(*np.diff(line, axis=0, prepend=line[:1]).T)
        times = clock + np.cumsum(step / (PACE * rng.uniform(0.7, 1.4)))
        strokes.append(np.column_stack([line.round(1), np.round(times)]))
        clock = times[-1] + rng.uniform(250, 900)
    return strokes
