"""Buildings and plants of the toy world: each function draws one random individual with eight named keypoints."""

import numpy as np

from sfhelpers.toyworld.shapes import Drawing, Uniform, arc, box, ellipse, limb, poly, smooth


def house(u: Uniform) -> Drawing:
    d = Drawing()
    w, wall, peak = u(0.6, 0.75), u(-0.15, 0.05), u(0.5, 0.65)
    d.add(box(w * 0.5, wall - peak * 0.62, 0.16, 0.4), 2)
    d.add(box(0, (wall + 0.8) / 2, 2 * w, 0.8 - wall), 0)
    d.add(poly((-w - 0.12, wall), (0, wall - peak), (w + 0.12, wall)), 1)
    door = u(-0.15, 0.15)
    d.add(box(door, 0.58, 0.24, 0.44), 4)
    for x in (-w * 0.62, w * 0.62):
        d.add(box(x, wall + 0.32, 0.24, 0.24), 3)
        d.line(poly((x, wall + 0.2), (x, wall + 0.44)), 4, 0.025, detail=True)
    d.keypoints = {
        "peak": (0, wall - peak),
        "left eave": (-w - 0.1, wall),
        "right eave": (w + 0.1, wall),
        "left corner": (-w, 0.8),
        "right corner": (w, 0.8),
        "door": (door, 0.4),
        "left window": (-w * 0.62, wall + 0.32),
        "chimney": (w * 0.5, wall - peak * 0.62 - 0.2),
    }
    return d


def church(u: Uniform) -> Drawing:
    d = Drawing()
    tower, nave = u(0.26, 0.32), u(0.0, 0.12)
    d.add(poly((-0.3, nave), (-0.15, nave - 0.3), (0.72, nave - 0.3), (0.9, nave)), 1)
    d.add(box(0.28, (nave + 0.85) / 2, 1.18, 0.85 - nave), 0)
    for x in (0.12, 0.42, 0.72):
        d.add(
            np.concatenate([arc(x, nave + 0.34, 0.07, 0.1, 0.5, 1.0, 7), poly((x + 0.07, 0.62), (x - 0.07, 0.62))]), 3
        )
    d.add(box(-0.45, 0.25, 2 * tower, 1.2), 0)
    spire = u(-0.85, -0.75)
    d.add(poly((-0.45 - tower - 0.05, -0.33), (-0.45, spire), (-0.45 + tower + 0.05, -0.33)), 1)
    d.line(poly((-0.45, spire), (-0.45, spire - 0.16)), 4, 0.04)
    d.line(poly((-0.52, spire - 0.09), (-0.38, spire - 0.09)), 4, 0.04)
    d.add(box(-0.45, 0.68, 0.2, 0.34), 4)
    d.add(ellipse(-0.45, 0.0, 0.09, 0.09), 3, detail=True)
    d.keypoints = {
        "cross": (-0.45, spire - 0.14),
        "spire left": (-0.5 - tower, -0.33),
        "spire right": (-0.4 + tower, -0.33),
        "roof end": (0.72, nave - 0.3),
        "eave": (0.88, nave),
        "far corner": (0.86, 0.85),
        "near corner": (-0.45 - tower, 0.85),
        "door": (-0.45, 0.52),
    }
    return d


def windmill(u: Uniform) -> Drawing:
    d = Drawing()
    low, top, a = u(0.42, 0.52), u(0.24, 0.3), u(0, np.pi / 2)
    d.add(poly((-top, -0.35), (top, -0.35), (low, 0.95), (-low, 0.95)), 0)
    d.add(smooth((-top - 0.05, -0.33), (0, -0.72), (top + 0.05, -0.33), steps=3), 1)
    d.add(box(0, 0.78, 0.2, 0.34), 4)
    d.add(box(0, 0.2, 0.14, 0.16), 3, detail=True)
    tips = []
    for k in range(4):
        c, s = np.cos(a + k * np.pi / 2), np.sin(a + k * np.pi / 2)
        tips.append((0.62 * c, -0.4 + 0.62 * s))
        d.add(limb(0.14 * c - 0.06 * s, -0.4 + 0.14 * s + 0.06 * c, tips[k][0], tips[k][1], 0.16, 0.2), 3)
        d.line(poly((0, -0.4), tips[k]), 4, 0.035)
    d.add(ellipse(0, -0.4, 0.06, 0.06), 4)
    top_tip = min(tips, key=lambda p: p[1])
    d.keypoints = {
        "upper blade": top_tip,
        "lower blade": max(tips, key=lambda p: p[1]),
        "left blade": min(tips, key=lambda p: p[0]),
        "right blade": max(tips, key=lambda p: p[0]),
        "hub": (0, -0.4),
        "left corner": (-low, 0.94),
        "right corner": (low, 0.94),
        "door": (0, 0.62),
    }
    return d


def tree(u: Uniform) -> Drawing:
    d = Drawing()
    r, crown = u(0.32, 0.4), u(-0.35, -0.25)
    d.add(limb(0, 0.1, u(-0.05, 0.05), 0.95, 0.18, 0.28), 1)
    d.add(limb(0, 0.3, 0.25, 0.0, 0.1, 0.07), 1)
    lobes = [(-0.38, 0.0), (0.38, 0.0), (-0.25, -0.35), (0.25, -0.35), (0, -0.1)]
    corners = [
        (np.cos(t) * (r + 0.33) * u(0.9, 1.1), crown + np.sin(t) * (r + 0.18) * u(0.9, 1.1))
        for t in np.arange(10) * 0.6283
    ]
    d.add(smooth(*corners), 0)
    for x, y in lobes:
        d.line(arc(x * 0.8, crown + y * 0.5 + 0.1, r * 0.4, r * 0.35, 0.55, 0.95), 2, 0.045, detail=True)
    d.keypoints = {
        "top": (0, crown - r - 0.17),
        "crown left": (-r - 0.32, crown),
        "crown right": (r + 0.32, crown),
        "crown centre": (0, crown),
        "fork": (0.0, 0.25),
        "trunk middle": (0.0, 0.55),
        "root left": (-0.13, 0.94),
        "root right": (0.13, 0.94),
    }
    return d


def flower(u: Uniform) -> Drawing:
    d = Drawing()
    n, r = int(u(5, 9)), u(0.26, 0.32)
    y = -0.38
    d.line(poly((0, y), (u(-0.06, 0.06), 0.3), (0, 0.95)), 1, 0.08)
    d.add(smooth((0, 0.6), (0.25, 0.3), (0.5, 0.28), (0.3, 0.55)), 1)
    d.add(smooth((0, 0.75), (-0.25, 0.45), (-0.5, 0.45), (-0.3, 0.72)), 1)
    for k in range(n):
        a = 2 * np.pi * k / n - np.pi / 2
        d.add(ellipse(np.cos(a) * r, y + np.sin(a) * r, r * 0.72, r * 0.45, a), 0)
    d.add(ellipse(0, y, r * 0.55, r * 0.55), 3)
    d.keypoints = {
        "top petal": (0, y - r * 1.6),
        "left petal": (-r * 1.5, y),
        "right petal": (r * 1.5, y),
        "centre": (0, y),
        "stem middle": (0, 0.3),
        "right leaf": (0.48, 0.3),
        "left leaf": (-0.48, 0.46),
        "stem end": (0, 0.94),
    }
    return d


def mushroom(u: Uniform) -> Drawing:
    d = Drawing()
    w, high, stem = u(0.68, 0.85), u(0.6, 0.75), u(0.2, 0.28)
    d.add(poly((-stem, 0.0), (stem, 0.0), (stem * 1.3, 0.85), (-stem * 1.3, 0.85)), 3)
    d.add(ellipse(0, 0.85, stem * 1.3, 0.07), 3)
    d.add(np.concatenate([arc(0, 0.1, w, high, 0.5, 1.0, 20), arc(0, 0.1, w, 0.13, 0.0, 0.5, 12)]), 0)
    for x, y, s in ((-0.35, -0.2, 0.1), (0.05, -0.38, 0.12), (0.4, -0.12, 0.09)):
        d.add(ellipse(x, y, s, s * 0.85), 1, detail=True)
    d.keypoints = {
        "cap top": (0, 0.1 - high),
        "cap left": (-w, 0.1),
        "cap right": (w, 0.1),
        "rim front": (0, 0.22),
        "stem left": (-stem * 1.15, 0.5),
        "stem right": (stem * 1.15, 0.5),
        "foot left": (-stem * 1.3, 0.86),
        "foot right": (stem * 1.3, 0.86),
    }
    return d


def apple(u: Uniform) -> Drawing:
    d = Drawing()
    w, h = u(0.66, 0.78), u(0.6, 0.72)
    d.line(poly((0, -0.4), (u(0.0, 0.1), -0.85)), 4, 0.07)
    d.add(smooth((0.06, -0.62), (0.3, -0.88), (0.58, -0.8), (0.35, -0.58)), 1)
    d.add(
        smooth(
            (0, -0.42),
            (w * 0.6, -0.52),
            (w, -0.05),
            (w * 0.65, h),
            (0, h * 0.9),
            (-w * 0.65, h),
            (-w, -0.05),
            (-w * 0.6, -0.52),
        ),
        0,
    )
    d.add(ellipse(-w * 0.5, -0.15, 0.1, 0.17, 0.4), 3, detail=True)
    d.keypoints = {
        "stem tip": (0.05, -0.84),
        "stem base": (0, -0.42),
        "leaf tip": (0.58, -0.8),
        "left side": (-w, -0.05),
        "right side": (w, -0.05),
        "bottom left": (-w * 0.65, h),
        "bottom right": (w * 0.65, h),
        "centre": (0, 0.1),
    }
    return d


def cactus(u: Uniform) -> Drawing:
    d = Drawing()
    w, left, right = u(0.26, 0.34), u(-0.05, 0.2), u(-0.2, 0.1)
    d.add(limb(-0.1, left + 0.1, -0.55, left + 0.1, 0.18), 0)
    d.add(smooth((-0.64, left + 0.18), (-0.46, left + 0.18), (-0.46, left - 0.42), (-0.64, left - 0.42)), 0)
    d.add(limb(0.1, right + 0.2, 0.55, right + 0.2, 0.18), 0)
    d.add(smooth((0.46, right + 0.28), (0.64, right + 0.28), (0.64, right - 0.38), (0.46, right - 0.38)), 0)
    d.add(smooth((-w / 1.6, 0.65), (-w / 1.5, -0.7), (0, -0.95), (w / 1.5, -0.7), (w / 1.6, 0.65)), 0)
    for x in (-0.07, 0.07):
        d.line(poly((x, -0.7), (x, 0.5)), 2, 0.03, detail=True)
    d.add(box(0, 0.78, 0.7, 0.36, taper=0.75), 1)
    d.add(box(0, 0.62, 0.78, 0.1), 1)
    d.keypoints = {
        "top": (0, -0.93),
        "left arm top": (-0.55, left - 0.44),
        "left elbow": (-0.58, left + 0.14),
        "right arm top": (0.55, right - 0.4),
        "right elbow": (0.58, right + 0.24),
        "pot left": (-0.38, 0.62),
        "pot right": (0.38, 0.62),
        "pot bottom": (0, 0.95),
    }
    return d
