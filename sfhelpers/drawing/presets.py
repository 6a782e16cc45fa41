"""Drawings to begin with, named after categories of the toy world; the last four are of those never trained on."""

import numpy as np

from sfhelpers.drawing.drawing import LINE_WIDTH, SIZE, Drawing
from sfhelpers.drawing.strokes import Points, Stroke

GRID = 100  # the drawings' own units a side
STEP = 4.0  # pixels between two points
TREMOR = 0.8  # pixels, of an unsteady hand

# One stroke a line, through points x,y: "~" bends from point to point, "-" goes straight.
HANDS = {
    "cup": """~ 27,28 38,23 54,23 68,27 57,33 40,33 28,29
        ~ 28,30 30,50 33,73 39,79 50,81 60,79 65,73 67,52 69,27
        ~ 68,38 79,35 84,45 79,58 67,61
        ~ 30,51 47,55 66,51""",
    "fish": """~ 19,51 31,37 50,32 66,38 79,50 64,62 48,67 31,62 20,50
        - 77,51 92,36 88,51 93,66 76,52
        ~ 38,39 43,50 39,62
        ~ 28,47 30,44 33,47 31,50 28,48
        ~ 43,33 50,22 61,26 64,37
        ~ 45,67 50,77 59,74 57,65
        ~ 52,44 56,49 53,54
        ~ 61,44 65,49 62,54""",
    "house": """- 24,46 25,85 77,83 75,45
        - 16,49 50,19 84,47 17,48
        - 64,31 64,17 73,18 72,38
        - 45,84 45,63 57,62 56,84
        - 31,53 41,54 41,65 31,65 31,53
        - 36,54 36,65
        - 61,54 70,53 71,64 61,64 61,53
        - 66,54 66,64""",
    "tree": """~ 31,49 22,36 30,20 47,13 64,17 77,30 72,46 58,55 42,55 30,48
        - 45,55 44,89 57,88 55,55
        ~ 34,39 39,34 44,39
        ~ 46,26 51,21 56,26
        ~ 57,43 62,38 67,43""",
    "cat": """~ 36,30 35,40 42,48 53,48 60,41 60,30 54,25 47,24 41,26 36,31
        - 36,31 34,13 44,25
        - 52,25 62,13 60,31
        ~ 42,48 33,60 29,76 34,88 50,91 64,88 68,76 63,60 54,48
        ~ 66,86 79,85 86,74 82,61
        ~ 43,34 44,32 46,34 44,36 43,34
        ~ 52,34 53,32 55,34 53,36 52,34
        - 46,40 50,40 48,43 46,40
        - 43,42 27,39
        - 43,44 28,48
        - 53,42 69,38
        - 53,44 69,47
        ~ 38,90 41,84 47,85 48,91
        ~ 51,91 53,85 59,84 61,90""",
    "umbrella": """~ 13,47 21,29 37,17 50,15 64,17 80,29 88,47
        ~ 13,47 21,42 30,42 36,48
        ~ 36,48 43,43 55,43 63,48
        ~ 63,48 70,42 80,42 88,47
        ~ 36,47 42,28 50,15
        ~ 63,47 59,28 51,15
        - 50,15 50,8
        ~ 50,44 50,62 51,80 47,88 40,88 38,80""",
    "butterfly": """~ 50,32 53,42 53,60 50,75 47,60 47,42 50,32
        ~ 49,32 46,22 39,16
        ~ 51,32 55,22 62,16
        ~ 47,44 36,26 20,19 10,28 14,44 28,52 47,51
        ~ 53,44 64,26 80,20 90,29 86,44 72,52 53,51
        ~ 47,54 30,55 20,64 24,78 36,81 44,70 47,60
        ~ 53,54 70,55 80,64 77,78 64,80 56,70 53,60
        ~ 19,32 24,28 29,33 25,39 20,34
        ~ 81,32 76,28 71,33 75,39 80,34""",
    "mushroom": """~ 15,51 22,32 37,20 52,17 68,22 80,34 86,51 68,54 50,56 32,54 16,50
        ~ 40,55 41,70 37,84 50,88 63,84 59,70 60,55
        ~ 33,36 37,31 42,35 39,41 33,37
        ~ 54,30 59,26 63,31 58,35 54,31
        ~ 63,45 67,41 71,45 67,49 63,46""",
    "teapot": """~ 30,46 24,60 30,76 48,82 66,76 73,60 66,46 48,43 30,46
        ~ 31,46 38,37 48,34 59,37 66,46
        ~ 45,34 44,28 48,25 53,28 52,34
        ~ 26,67 17,58 13,46 7,39
        ~ 7,38 15,37 21,46 27,51
        ~ 68,49 80,44 90,52 86,66 71,68
        ~ 25,58 48,63 72,58""",
    "wine_glass": """~ 34,16 31,34 38,48 50,54 62,48 68,34 66,16
        ~ 33,16 50,12 67,16 50,21 34,17
        ~ 32,31 50,36 68,31
        - 50,54 51,81
        ~ 33,86 42,82 51,80 59,82 67,86 50,90 34,86""",
}


def _through(points: Points) -> Points:
    """A smooth line through three points or more: a Catmull-Rom spline, ten pieces from one point to the next."""
    first, last = (3 * a - 3 * b + c for a, b, c in (points[:3], points[:-4:-1]))  # as a parabola goes on
    ends = np.concatenate([[first], points, [last]])
    t = np.linspace(0, 1, 11)[1:, None]
    pieces = [points[:1]]
    for a, b, c, d in zip(ends, ends[1:], ends[2:], ends[3:], strict=False):
        pieces.append(b + t / 2 * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a))))
    return np.concatenate(pieces)


def _by_hand(line: str, number: int) -> Stroke:
    """One line of `HANDS` as a stroke, drawn by a slightly unsteady hand that is the same every time."""
    way, *pairs = line.split()
    points = np.array([pair.split(",") for pair in pairs], dtype=float) * SIZE / GRID
    points = _through(points) if way == "~" else points
    along = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    grid = np.union1d(np.arange(0, along[-1], STEP), along if way == "-" else along[-1:])  # corners stay sharp
    points = np.stack([np.interp(grid, along, points[:, axis]) for axis in (0, 1)], 1)
    phase = number * 2.4 + np.array([0.0, 1.3])
    sway = np.sin(grid[:, None] / 31 + phase) + 0.6 * np.sin(grid[:, None] / 13 + 2 * phase)
    return Stroke((points + TREMOR * sway).round(2), LINE_WIDTH * SIZE)


PRESETS = {
    name: Drawing(SIZE, tuple(_by_hand(line, number) for number, line in enumerate(lines.splitlines())))
    for name, lines in HANDS.items()
}
