"""Vehicles of the toy world: each function draws one random individual with eight named keypoints."""

from sfhelpers.toyworld.shapes import Drawing, Uniform, arc, box, ellipse, limb, poly, ring, smooth


def _wheel(d: Drawing, x: float, y: float, r: float) -> None:
    d.add(ellipse(x, y, r, r), 4)
    d.add(ellipse(x, y, r * 0.5, r * 0.5), 3, detail=True)


def car(u: Uniform) -> Drawing:
    d = Drawing()
    roof, front = u(0.42, 0.55), u(0.35, 0.5)
    d.add(poly((-front, 0.0), (-front + 0.22, -roof), (0.35, -roof), (0.62, 0.0)), 0)
    d.add(poly((-front + 0.1, -0.03), (-front + 0.27, -roof + 0.08), (0.0, -roof + 0.08), (0.0, -0.03)), 3)
    d.add(poly((0.06, -0.03), (0.06, -roof + 0.08), (0.31, -roof + 0.08), (0.5, -0.03)), 3)
    d.add(smooth((-0.95, 0.1), (-0.75, -0.04), (0.8, -0.05), (0.95, 0.1), (0.93, 0.36), (-0.93, 0.36)), 0)
    d.line(poly((-0.9, 0.2), (0.9, 0.2)), 2, 0.04, detail=True)
    d.add(ellipse(-0.88, 0.1, 0.06, 0.06), 3, detail=True)
    for x in (-0.55, 0.55):
        _wheel(d, x, 0.38, u(0.18, 0.22))
    d.keypoints = {
        "front bumper": (-0.93, 0.25),
        "rear bumper": (0.93, 0.25),
        "bonnet": (-0.72, -0.02),
        "windscreen": (-front + 0.1, -roof * 0.5),
        "roof": (0.05, -roof),
        "rear window": (0.5, -roof * 0.4),
        "front wheel": (-0.55, 0.38),
        "rear wheel": (0.55, 0.38),
    }
    return d


def bus(u: Uniform) -> Drawing:
    d = Drawing()
    high = u(0.5, 0.62)
    d.add(smooth((-0.95, -high), (0.95, -high), (0.95, 0.32), (-0.95, 0.32), steps=3), 0)
    d.add(box(-0.82, -high * 0.3, 0.2, high * 0.75), 3)
    n = int(u(3, 6))
    for k in range(n):
        d.add(box(-0.5 + (k + 0.5) * 1.35 / n, -high * 0.42, 1.0 / n, high * 0.5), 3)
    d.add(box(0.0, 0.1, 1.85, 0.1), 1)
    for x in (-0.55, 0.55):
        _wheel(d, x, 0.34, u(0.15, 0.19))
    d.keypoints = {
        "front top": (-0.93, -high * 0.97),
        "rear top": (0.93, -high * 0.97),
        "front bumper": (-0.95, 0.28),
        "rear bumper": (0.95, 0.28),
        "roof": (0.0, -high * 1.02),
        "stripe": (0.0, 0.1),
        "front wheel": (-0.55, 0.34),
        "rear wheel": (0.55, 0.34),
    }
    return d


def truck(u: Uniform) -> Drawing:
    d = Drawing()
    cab, high = u(0.42, 0.52), u(0.5, 0.68)
    d.add(box(0.0, 0.28, 1.8, 0.12), 4)
    d.add(box(0.3, 0.24 - high / 2 - 0.02, 1.25, high), 1)
    d.line(poly((0.3, 0.2), (0.3, 0.26 - high)), 2, 0.03, detail=True)
    d.add(poly((-0.95, 0.3), (-0.95, -0.02), (-0.82, 0.3 - cab - 0.12), (-0.4, 0.3 - cab - 0.12), (-0.4, 0.3)), 0)
    d.add(poly((-0.86, -0.0), (-0.77, 0.24 - cab), (-0.55, 0.24 - cab), (-0.55, 0.0)), 3)
    for x in (-0.66, 0.35, 0.7):
        _wheel(d, x, 0.38, 0.17)
    d.keypoints = {
        "front bumper": (-0.95, 0.26),
        "cab top": (-0.62, 0.18 - cab),
        "window": (-0.7, 0.1 - cab * 0.5),
        "cargo front top": (-0.32, 0.22 - high),
        "cargo rear top": (0.92, 0.22 - high),
        "cargo rear bottom": (0.92, 0.2),
        "front wheel": (-0.66, 0.38),
        "rear wheel": (0.7, 0.38),
    }
    return d


def airplane(u: Uniform) -> Drawing:
    d = Drawing()
    fat, wing = u(0.13, 0.18), u(0.5, 0.7)
    d.add(poly((-0.1, -0.05), (0.2, -wing * 0.85), (0.38, -wing * 0.85), (0.25, -0.05)), 2)
    d.add(poly((0.62, -0.05), (0.8, -u(0.42, 0.55)), (0.96, -0.46), (0.9, 0.0)), 1)
    d.add(smooth((-0.95, 0.02), (-0.6, -fat), (0.5, -fat), (0.95, -0.08), (0.5, fat), (-0.6, fat)), 0)
    for k in range(5):
        d.add(ellipse(-0.5 + 0.2 * k, -fat * 0.3, 0.04, 0.05), 4, detail=True)
    d.add(poly((-0.15, 0.05), (0.3, wing), (0.48, wing), (0.22, 0.02)), 1)
    d.add(poly((0.62, 0.0), (0.82, 0.24), (0.94, 0.24), (0.86, 0.0)), 1)
    d.keypoints = {
        "nose": (-0.93, 0.02),
        "cockpit": (-0.65, -fat * 0.9),
        "near wing tip": (0.4, wing),
        "far wing tip": (0.3, -wing * 0.85),
        "wing root": (0.05, 0.04),
        "tail top": (0.9, -0.46),
        "tail end": (0.93, -0.06),
        "belly": (-0.3, fat),
    }
    return d


def sailboat(u: Uniform) -> Drawing:
    d = Drawing()
    mast, wide = u(0.75, 0.95), u(0.5, 0.65)
    d.line(poly((0.0, 0.5), (0.0, -mast)), 4, 0.055)
    d.add(smooth((0.06, -mast * 0.92), (wide * 0.6, -0.2), (wide, 0.32), (0.06, 0.34), steps=3), 3)
    d.add(poly((-0.06, -mast * 0.8), (-0.06, 0.32), (-wide * 0.85, 0.32)), 1)
    d.add(poly((-0.85, 0.46), (0.9, 0.46), (0.62, 0.82), (-0.6, 0.82)), 0)
    d.line(poly((-0.78, 0.56), (0.82, 0.56)), 2, 0.04, detail=True)
    d.add(poly((0.0, -mast), (0.2, -mast + 0.07), (0.0, -mast + 0.14)), 0, detail=True)
    d.keypoints = {
        "mast top": (0.0, -mast),
        "mast foot": (0.0, 0.44),
        "main sail clew": (wide * 0.98, 0.3),
        "jib tack": (-wide * 0.83, 0.31),
        "bow": (-0.84, 0.47),
        "stern": (0.89, 0.47),
        "keel front": (-0.6, 0.81),
        "keel rear": (0.61, 0.81),
    }
    return d


def bicycle(u: Uniform) -> Drawing:
    d = Drawing()
    r = u(0.35, 0.42)
    left, right, crank, seat, head = (-0.55, 0.35), (0.55, 0.35), (-0.05, 0.35), (-0.2, -0.3), (0.4, -0.3)
    for x, y in (left, right):
        d.add(ring(x, y, r, 0.075), 4)
        d.add(ellipse(x, y, 0.05, 0.05), 4)
    w = u(0.05, 0.075)
    for a, b in ((left, seat), (left, crank), (crank, seat), (crank, head), (seat, head), (head, right)):
        d.add(limb(*a, *b, w), 0)
    d.add(limb(*seat, -0.23, -0.44, 0.05), 4)
    d.add(ellipse(-0.24, -0.46, 0.17, 0.055), 1)
    d.add(limb(*head, 0.36, -0.52, 0.05), 4)
    d.line(arc(0.48, -0.48, 0.15, 0.1, 0.5, 1.0), 4, 0.06)
    d.add(ellipse(*crank, 0.09, 0.09), 2)
    d.keypoints = {
        "rear hub": left,
        "front hub": right,
        "crank": crank,
        "saddle": (-0.24, -0.47),
        "handlebar": (0.4, -0.54),
        "head tube": head,
        "rear wheel bottom": (-0.55, 0.35 + r),
        "front wheel bottom": (0.55, 0.35 + r),
    }
    return d
