"""Animals of the toy world: each function draws one random individual with eight named keypoints."""

import numpy as np

from sfhelpers.toyworld.shapes import Drawing, Uniform, arc, ellipse, limb, poly, smooth


def _quadruped(
    u: Uniform, leg: float, neck: float, lean: float, body: tuple[float, float], head: tuple[float, float]
) -> tuple[Drawing, dict[str, float]]:
    """Side view facing left: legs, tail base, body, neck, head. `lean` is the neck's angle above the horizon."""
    d = Drawing()
    bx, by = body
    ground = by * 0.6 + leg
    width = u(0.09, 0.13)
    for x, tone in ((-0.62, 2), (0.6, 2), (-0.8, 0), (0.78, 0)):
        step = u(-0.06, 0.06)
        d.add(limb(x * bx, by * 0.3, x * bx + step, ground, width * 1.2, width * 0.75), tone)
    d.add(ellipse(0, 0, bx, by, u(-0.08, 0.04)))
    nx, ny = -bx * 0.72 - neck * np.cos(lean), -by * 0.3 - neck * np.sin(lean)
    d.add(limb(-bx * 0.68, -by * 0.1, nx, ny, by * 1.1, head[1] * 1.5))
    hx, hy = nx - head[0] * 0.5, ny + head[1] * 0.2
    d.add(ellipse(hx, hy, head[0], head[1], u(-0.5, -0.2)))
    d.add(ellipse(hx - head[0] * 0.05, hy - head[1] * 0.25, 0.025, 0.025), 4, detail=True)
    d.keypoints = {
        "nose": (hx - head[0] * 0.85, hy + head[1] * 0.45),
        "head top": (nx, ny - head[1] * 0.7),
        "neck base": (-bx * 0.7, -by * 0.5),
        "back": (0.0, -by),
        "belly": (0.0, by),
        "tail base": (bx * 0.97, -by * 0.15),
        "front hoof": (-bx * 0.8, ground),
        "hind hoof": (bx * 0.78, ground),
    }
    return d, {"bx": bx, "by": by, "nx": nx, "ny": ny, "hx": hx, "hy": hy}


def horse(u: Uniform) -> Drawing:
    d, s = _quadruped(u, u(0.55, 0.7), u(0.36, 0.48), u(0.7, 1.0), (u(0.5, 0.6), u(0.22, 0.27)), (0.21, 0.1))
    d.add(poly((s["nx"], s["ny"] - 0.02), (s["nx"] + 0.05, s["ny"] - 0.2), (s["nx"] + 0.1, s["ny"])), 0)
    mane = limb(s["nx"] + 0.1, s["ny"] - 0.03, -s["bx"] * 0.45, -s["by"] * 0.7, 0.08, 0.14)
    d.add(mane, 1)
    d.add(
        smooth((s["bx"] * 0.95, -0.1), (s["bx"] + 0.18, 0.05), (s["bx"] + u(0.14, 0.28), 0.5), (s["bx"] + 0.06, 0.15)),
        1,
    )
    return d


def giraffe(u: Uniform) -> Drawing:
    d, s = _quadruped(u, u(0.6, 0.75), u(0.8, 1.0), u(1.05, 1.3), (u(0.4, 0.48), u(0.2, 0.25)), (0.17, 0.085))
    for x in (0.0, 0.07):
        d.line(poly((s["nx"] + x, s["ny"] - 0.05), (s["nx"] + x, s["ny"] - 0.17)), 4, 0.035)
    for k in range(5):
        t = 0.1 + 0.18 * k
        x, y = -s["bx"] * 0.7 * (1 - t) + s["nx"] * t, -s["by"] * 0.2 * (1 - t) + s["ny"] * t
        d.add(ellipse(x, y, 0.05, 0.06, n=7), 1, detail=True)
    for x, y in ((-0.25, -0.05), (0.0, 0.06), (0.05, -0.12), (0.24, 0.0)):
        d.add(ellipse(x, y, u(0.06, 0.09), 0.06, u(0, 3), n=7), 1, detail=True)
    d.line(poly((s["bx"] * 0.95, -0.05), (s["bx"] + 0.08, 0.3)), 4, 0.035)
    return d


def cow(u: Uniform) -> Drawing:
    d, s = _quadruped(u, u(0.38, 0.48), u(0.1, 0.18), u(0.3, 0.6), (u(0.64, 0.74), u(0.32, 0.38)), (0.22, 0.15))
    for side in (-0.12, 0.06):
        horn = arc(s["nx"] + side, s["ny"] - 0.14, 0.09, 0.12, 0.5 if side < 0 else 0.25, 0.0 if side < 0 else -0.25)
        d.line(horn[:9], 3, 0.05)
    for x, y in ((-0.3, -0.1), (0.1, 0.05), (0.42, -0.12)):
        d.add(ellipse(x + u(-0.05, 0.05), y, u(0.1, 0.17), u(0.08, 0.13), u(0, 3), n=11), 1, detail=True)
    d.line(poly((s["bx"] * 0.97, -0.12), (s["bx"] + 0.1, 0.15), (s["bx"] + 0.08, 0.4)), 2, 0.05)
    d.add(ellipse(s["bx"] * 0.45, s["by"] * 1.0, 0.12, 0.09), 3, detail=True)
    return d


def dog(u: Uniform) -> Drawing:
    d, s = _quadruped(u, u(0.36, 0.5), u(0.14, 0.22), u(0.6, 1.0), (u(0.5, 0.62), u(0.2, 0.26)), (0.22, 0.15))
    ear = smooth(
        (s["nx"] - 0.02, s["ny"] - 0.12),
        (s["nx"] + 0.1, s["ny"] - 0.1),
        (s["nx"] + 0.12, s["ny"] + u(0.1, 0.2)),
        (s["nx"] + 0.02, s["ny"] + 0.1),
    )
    d.add(ear, 1)
    d.add(ellipse(s["hx"] - 0.2, s["hy"] + 0.04, 0.045, 0.035), 4, detail=True)
    up = u(0.25, 0.45)
    d.add(smooth((s["bx"] * 0.9, -0.15), (s["bx"] + 0.12, -up), (s["bx"] + 0.2, -up - 0.06), (s["bx"], 0.0)), 0)
    return d


def cat(u: Uniform) -> Drawing:
    d = Drawing()
    wide, tall = u(0.4, 0.5), u(0.5, 0.6)
    side = 1 if u(0, 1) < 0.5 else -1
    d.add(smooth((side * 0.3, 0.75), (side * 0.75, 0.7), (side * 0.8, u(0.1, 0.3)), (side * 0.66, 0.6)), 2)
    d.add(smooth((0, -0.15), (wide, 0.35), (wide * 0.9, 0.85), (-wide * 0.9, 0.85), (-wide, 0.35)), 0)
    head = u(0.33, 0.4)
    for sx in (-1, 1):
        tip = (sx * head * 0.85, -0.45 - head * 1.25)
        d.add(poly((sx * head * 0.95, -0.5), tip, (sx * head * 0.15, -0.45 - head * 0.8)), 0)
    d.add(ellipse(0, -0.42, head * 1.1, head * 0.9), 0)
    for sx in (-1, 1):
        d.add(ellipse(sx * head * 0.42, -0.48, 0.06, 0.075), 3, detail=True)
        d.add(ellipse(sx * head * 0.42, -0.48, 0.03, 0.06), 4, detail=True)
        d.line(poly((sx * 0.08, -0.3), (sx * head * 1.3, -0.33 + u(-0.06, 0.06))), 4, 0.018, detail=True)
        d.add(ellipse(sx * wide * 0.42, 0.84, 0.13, 0.08), 3)
    d.add(poly((-0.05, -0.36), (0.05, -0.36), (0, -0.3)), 1, detail=True)
    d.add(ellipse(0, 0.4, wide * 0.45, tall * 0.5), 3, detail=True)
    d.keypoints = {
        "left ear": (-head * 0.85, -0.45 - head * 1.2),
        "right ear": (head * 0.85, -0.45 - head * 1.2),
        "left eye": (-head * 0.42, -0.48),
        "right eye": (head * 0.42, -0.48),
        "nose": (0, -0.34),
        "chest": (0, 0.1),
        "left paw": (-wide * 0.42, 0.86),
        "right paw": (wide * 0.42, 0.86),
    }
    return d


def rabbit(u: Uniform) -> Drawing:
    d = Drawing()
    long, head = u(0.5, 0.65), u(0.25, 0.3)
    d.add(ellipse(0.62, 0.5, 0.14, 0.14), 3)
    d.add(smooth((-0.3, 0.0), (0.15, -0.08), (0.58, 0.25), (0.6, 0.8), (-0.35, 0.82), (-0.42, 0.4)), 0)
    for k, turn in enumerate((-0.25, u(0.0, 0.25))):
        x = -0.42 + 0.18 * k
        d.add(ellipse(x + np.sin(turn) * long / 2, -0.35 - long / 2, 0.085, long / 2 + 0.05, turn), 2 * (1 - k))
        d.add(ellipse(x + np.sin(turn) * long / 2, -0.35 - long / 2, 0.04, long / 2 - 0.05, turn), 1, detail=True)
    d.add(ellipse(-0.4, -0.15, head * 1.1, head), 0)
    d.add(ellipse(-0.5, -0.2, 0.035, 0.05), 4, detail=True)
    d.add(ellipse(0.25, 0.75, 0.3, 0.11), 2)
    d.add(ellipse(-0.32, 0.8, 0.14, 0.08), 2)
    d.keypoints = {
        "left ear tip": (-0.42 + np.sin(-0.25) * long, -0.35 - long),
        "ear base": (-0.33, -0.38),
        "eye": (-0.5, -0.2),
        "nose": (-0.4 - head * 1.05, -0.1),
        "front paw": (-0.38, 0.84),
        "hind foot": (0.3, 0.84),
        "back": (0.3, 0.02),
        "tail": (0.66, 0.5),
    }
    return d


def duck(u: Uniform) -> Drawing:
    d = Drawing()
    neck, head = u(0.35, 0.5), u(0.19, 0.24)
    d.add(smooth((-0.6, 0.1), (-0.2, 0.05), (0.5, 0.0), (0.92, u(-0.25, -0.1)), (0.6, 0.5), (0, 0.62), (-0.5, 0.45)), 0)
    d.add(limb(-0.42, 0.3, -0.5, -neck, 0.36, 0.2), 0)
    d.add(poly((-0.62, -neck - 0.12), (-0.98, -neck - 0.02), (-0.62, -neck + 0.06)), 1)
    d.add(ellipse(-0.5, -neck - 0.08, head, head * 0.95), 0)
    d.add(ellipse(-0.56, -neck - 0.14, 0.035, 0.035), 4, detail=True)
    d.add(smooth((-0.2, 0.2), (0.3, 0.1), (0.62, 0.2), (0.2, 0.45)), 2, detail=True)
    for x in (-0.05, 0.15):
        d.line(poly((x, 0.6), (x, 0.82), (x - 0.14, 0.84)), 1, 0.06)
    d.keypoints = {
        "beak": (-0.96, -neck - 0.02),
        "eye": (-0.56, -neck - 0.14),
        "head top": (-0.5, -neck - 0.08 - head),
        "neck": (-0.46, -0.1),
        "chest": (-0.58, 0.25),
        "tail": (0.9, -0.18),
        "belly": (0.1, 0.6),
        "foot": (-0.1, 0.84),
    }
    return d


def fish(u: Uniform) -> Drawing:
    d = Drawing()
    tall, tail = u(0.34, 0.5), u(0.3, 0.42)
    d.add(poly((0.45, 0), (0.95, -tail), (0.82, 0), (0.95, tail)), 1)
    d.add(smooth((-0.2, -tall * 0.8), (0.05, -tall - u(0.15, 0.28)), (0.35, -tall * 0.5)), 1)
    d.add(smooth((-0.1, tall * 0.8), (0.08, tall + 0.15), (0.25, tall * 0.6)), 1)
    d.add(smooth((-0.85, 0), (-0.35, -tall), (0.25, -tall * 0.75), (0.6, 0), (0.25, tall * 0.75), (-0.35, tall)), 0)
    d.line(arc(-0.62, 0, 0.22, tall * 0.85, -0.2, 0.2), 2, 0.035)
    d.add(ellipse(-0.6, -0.09, 0.07, 0.07), 3, detail=True)
    d.add(ellipse(-0.6, -0.09, 0.035, 0.035), 4, detail=True)
    for k in range(int(u(1, 4))):
        d.line(arc(-0.25 + 0.2 * k, 0, 0.1, tall * 0.5, -0.2, 0.2), 2, 0.04, detail=True)
    d.keypoints = {
        "mouth": (-0.84, 0.0),
        "eye": (-0.6, -0.09),
        "gill": (-0.4, 0.0),
        "back fin": (0.06, -tall - 0.16),
        "belly fin": (0.08, tall + 0.12),
        "tail root": (0.52, 0.0),
        "upper tail": (0.93, -tail * 0.95),
        "lower tail": (0.93, tail * 0.95),
    }
    return d


def butterfly(u: Uniform) -> Drawing:
    d = Drawing()
    wide, up, low = u(0.75, 0.92), u(0.6, 0.8), u(0.5, 0.65)
    for s in (-1, 1):
        d.add(smooth((s * 0.05, 0.05), (s * wide * 0.4, 0.1), (s * wide * 0.75, low * 0.8), (s * 0.3, low)), 1)
        d.add(smooth((s * 0.05, -0.1), (s * wide * 0.6, -up), (s * wide, -up * 0.9), (s * wide * 0.8, 0.0)), 0)
        d.add(ellipse(s * wide * 0.66, -up * 0.55, 0.14, 0.12), 3, detail=True)
        d.add(ellipse(s * wide * 0.45, low * 0.55, 0.09, 0.08), 3, detail=True)
        d.line(arc(s * 0.14, -0.4, 0.12, 0.25, 0.5 if s > 0 else 1.0, 0.75), 4, 0.025)
    d.add(ellipse(0, 0.05, 0.075, 0.45), 4)
    d.add(ellipse(0, -0.42, 0.085, 0.085), 4)
    d.keypoints = {
        "head": (0.0, -0.42),
        "abdomen": (0.0, 0.46),
        "left wing tip": (-wide, -up * 0.9),
        "right wing tip": (wide, -up * 0.9),
        "left waist": (-wide * 0.6, 0.04),
        "right waist": (wide * 0.6, 0.04),
        "left lower wing": (-wide * 0.6, low * 0.95),
        "right lower wing": (wide * 0.6, low * 0.95),
    }
    return d


def turtle(u: Uniform) -> Drawing:
    d = Drawing()
    high = u(0.45, 0.6)
    for x in (-0.4, 0.42):
        d.add(limb(x, 0.2, x - 0.08, 0.55, 0.2, 0.17), 1)
    d.add(poly((0.6, 0.2), (0.88, 0.32), (0.6, 0.32)), 1)
    d.add(limb(-0.5, 0.15, -0.8, u(-0.15, 0.1), 0.2, 0.17), 1)
    d.add(ellipse(-0.84, -0.02, 0.17, 0.13), 1)
    d.add(ellipse(-0.88, -0.06, 0.03, 0.03), 4, detail=True)
    shell = np.concatenate([arc(0, 0.28, 0.68, high + 0.2, 0.5, 1.0), poly((0.68, 0.34), (-0.68, 0.34))])
    d.add(shell, 0)
    for x in (-0.3, 0.0, 0.3):
        d.add(ellipse(x, 0.0 + abs(x) * 0.25, 0.13, high * 0.26, n=6), 2, detail=True)
    d.line(poly((-0.66, 0.24), (0.66, 0.24)), 2, 0.04)
    d.keypoints = {
        "head": (-0.98, -0.02),
        "eye": (-0.88, -0.06),
        "neck": (-0.6, 0.14),
        "shell top": (0.0, 0.08 - high),
        "shell front": (-0.66, 0.28),
        "shell back": (0.66, 0.28),
        "front foot": (-0.46, 0.54),
        "hind foot": (0.36, 0.54),
    }
    return d
