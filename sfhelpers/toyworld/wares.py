"""Chairs and shoes that differ as those of a shop do, and more that is not among the 36; none has named keypoints."""

import numpy as np

from sfhelpers.toyworld.shapes import Drawing, Point, Uniform, arc, box, ellipse, limb, poly, ring, smooth, symmetric


def chair(d: Drawing, u: Uniform) -> None:
    w, top, seat, thick, splay = u(0.32, 0.52), -u(0.4, 0.95), u(0.0, 0.25), u(0.06, 0.2), u(-0.04, 0.16)
    _legs(d, u, w - 0.02, seat, splay)
    _back(d, u, w * u(0.8, 1.05), top, seat)
    d.add(0, poly((-w * 0.92, seat - 0.13), (w * 0.92, seat - 0.13), (w + 0.06, seat + 0.02), (-w - 0.06, seat + 0.02)))
    d.add(1, box(0, seat + thick / 2, 2 * w + 0.12, thick, taper=u(0.85, 1)))
    if u(0, 1) < 0.45:  # arms
        high, reach = u(0.22, 0.38), w + u(0.06, 0.14)
        for x in (-reach, reach):
            d.add(0, limb(x, seat - high, x, seat + thick, 0.07), limb(x * 0.8, seat - high, x * 1.1, seat - high, 0.1))


def _back(d: Drawing, u: Uniform, w: float, top: float, seat: float) -> None:
    """A board, a shell, spindles, a ladder, a hoop or a window with a knob."""
    middle, high, number = (top + seat) / 2 - 0.04, seat - top - 0.08, int(u(2, 6))
    across, r = np.linspace(-w + 0.08, w - 0.08, number + 2)[1:-1], min(w, high / 2)
    posts = [limb(x, seat, x * u(1.0, 1.1), top, 0.09, 0.07) for x in (-w + 0.04, w - 0.04)]
    kinds = (
        lambda: [poly((-w, seat - 0.1), (-w * u(0.75, 1.1), top), (w * u(0.75, 1.1), top), (w, seat - 0.1))],
        lambda: [smooth(*symmetric((0, top), (w * 0.8, top + 0.1), (w, middle), (w * 0.7, seat - 0.08)))],
        lambda: [*posts, *(box(x, middle, 0.05, high) for x in across), box(0, top + 0.05, 2 * w + 0.06, 0.14)],
        lambda: [*posts, *(box(0, y, 2 * w, 0.09) for y in np.linspace(top + 0.08, seat - 0.25, number))],
        lambda: [ring(0, seat - 0.1 - r, r, 0.1), *(box(x / 2, seat - 0.1 - r, 0.05, 1.6 * r) for x in across)],
        lambda: [*posts, box(0, top + 0.09, 2 * w, 0.18), box(0, seat - 0.22, 2 * w, 0.1), ellipse(0, top, 0.1, 0.1)],
    )
    d.add(0, *kinds[int(u(0, len(kinds)))]())


def _legs(d: Drawing, u: Uniform, x: float, seat: float, splay: float) -> None:
    """Four, four with a bar, four on rockers, one on a star with castors, a bow, or a box down to the floor."""
    kind, thick, foot = int(u(0, 6)), u(0.06, 0.13), 0.92
    if kind < 3:
        d.add(2, *(limb(s * x * 0.75, seat, s * (x * 0.75 + splay * 0.5), foot - 0.18, thick * 0.8) for s in (-1, 1)))
        d.add(0, *(limb(s * x, seat, s * (x + splay), foot, thick, thick * u(0.5, 1)) for s in (-1, 1)))
    if kind == 1:
        d.add(0, box(0, seat + (foot - seat) * u(0.45, 0.75), 2 * x, 0.07))
    elif kind == 2:
        d.line(1, 0.09, arc(0, 0.55, x + 0.3, 0.45, 0.08, 0.42))
    elif kind == 3:
        d.add(4, limb(0, seat, 0, 0.75, thick, thick * 1.5), *(limb(0, 0.7, s, 0.85, 0.06) for s in (-0.42, 0, 0.42)))
        d.add(4, *(ellipse(s, 0.89, 0.06, 0.06) for s in (-0.42, 0, 0.42)))
    elif kind == 4:
        d.line(4, 0.07, poly((-x, seat), (-x - splay, foot), (x + splay, foot), (x, seat)))
    elif kind == 5:
        d.add(0, box(0, (seat + 0.8) / 2, 2 * x, 0.8 - seat, taper=u(0.8, 1.1)))
        d.add(4, *(box(s * x * 0.75, 0.86, 0.12, 0.12) for s in (-1, 1)))


def shoe(d: Drawing, u: Uniform) -> None:
    sole, heel, toe = u(0.05, 0.18), max(0.0, u(-0.25, 0.55)), u(0.14, 0.3)
    ball, back, throat, tip = 0.8 - sole, 0.8 - sole - heel, u(-0.12, 0.2), u(0.86, 1.0)
    instep = min(back - 0.3, ball - toe - 0.12)
    top = instep - u(0.3, 0.9) if u(0, 1) < 0.45 else back - u(0.28, 0.5)  # of a boot, and of a low one behind
    under = [(0.68, back), (0.35, back + heel * 0.1), (-0.1, ball - heel * 0.25), (-0.4, ball), (-tip + 0.1, ball)]
    upper = [(-tip, ball - 0.05), (-0.8, ball - toe), (-0.45, ball - toe - 0.06), (throat, instep)]
    rim = [(throat + 0.05, min(top, instep)), (0.7 if top < instep - 0.2 else 0.62, top)]
    _heel(d, u, heel, under)
    outline = smooth(*upper, *rim, (0.72, back - 0.15), *under, steps=4)
    outline[:, 1] = np.maximum(outline[:, 1], min(y for _, y in rim))
    d.add(0, outline)
    d.line(4, 0.06, poly(*rim))
    d.add(1, poly(*under, *((x, y + sole) for x, y in reversed(under))))
    _fastened(d, u, (-0.42, ball - toe), (throat, instep), rim[0][1])
    stripes = np.arange(int(u(1, 4))) * 0.13 - 0.15
    kind = int(u(0, 4.5))
    if kind == 0:
        d.add(1, smooth((-tip, ball), (-0.85, ball - toe * 0.9), (-0.55, ball - toe * 0.8), (-0.5, ball)))
    elif kind == 1:
        d.line(3, 0.06, *(poly((x, ball - 0.04 - heel * 0.2), (x + 0.14, instep + 0.16)) for x in stripes))
    elif kind == 2:
        d.add(1, smooth((0.5, back), (0.48, back - 0.28), (0.7, back - 0.3), (0.72, back)))
    elif kind == 3:
        d.add(3, *(ellipse(x * 1.4, ball - 0.12 - heel * 0.25, 0.05, 0.05) for x in stripes))


def _heel(d: Drawing, u: Uniform, heel: float, under: list[Point]) -> None:
    """None of a flat shoe; else a block, a thin one or a wedge."""
    kind = int(u(0, 3))
    if heel > 0.08 and kind == 2:
        d.add(1, poly(*under[:4], (-0.4, 0.8), (0.7, 0.8)))
    elif heel > 0.08:
        d.add(1, limb(0.54, under[0][1], 0.58, 0.8, 0.3, u(0.22, 0.3) if kind else 0.08))


def _fastened(d: Drawing, u: Uniform, low: Point, instep: Point, top: float) -> None:
    """Not at all, by laces, by straps with buckles or by a bow."""
    kind, (x, y), up = int(u(0, 4)), instep, np.linspace(0.2, 1, int(u(2, 5)))
    places = [*zip(low[0] + (x - low[0]) * up, low[1] + (y - low[1]) * up, strict=True)]
    places += [(x + 0.04, at) for at in np.arange(y - 0.16, top + 0.04, -0.16)]
    if kind == 1:
        d.line(3, 0.045, *(poly((x - 0.04, y - 0.03), (x + 0.17, y + 0.1)) for x, y in places))
    elif kind == 2:
        d.add(1, *(limb(x - 0.04, y + 0.06, 0.68, y + 0.12, 0.1) for x, y in places[:0:-3]))
        d.add(3, *(box(x + 0.25, y + 0.08, 0.13, 0.15) for x, y in places[:0:-3]))
    elif kind == 3:
        d.add(1, *(poly((x, y), (x + s * 0.21, y - 0.13), (x + s * 0.21, y + 0.11)) for s in (-1, 1)))


def pear(d: Drawing, u: Uniform) -> None:
    w, neck, shoulder = u(0.5, 0.65), u(0.2, 0.28), u(-0.2, 0.0)
    d.line(4, 0.07, poly((0, -0.6), (u(-0.1, 0.1), -0.95)))
    d.add(1, smooth((0.03, -0.72), (0.25, -0.95), (0.5, -0.85), (0.28, -0.68)))
    d.add(0, smooth(*symmetric((0, -0.7), (neck, -0.55), (neck * 1.2, shoulder), (w, 0.4), (w * 0.6, 0.85), (0, 0.88))))
    d.add(3, ellipse(-w * 0.5, 0.3, 0.08, 0.18, 0.3), detail=True)


def scissors(d: Drawing, u: Uniform) -> None:
    spread, r, long = u(0.15, 0.4), u(0.22, 0.28), u(0.75, 0.95)
    for s in (-1, 1):
        d.add(3, poly((s * long * np.sin(spread), -long * np.cos(spread)), (0.07, 0.06), (-0.07, 0.06)))
        d.add(0, limb(0, 0, -s * (0.2 + r * 0.5), 0.45, 0.14), ring(-s * (r + 0.04), 0.62, r, 0.1))
    d.add(4, ellipse(0, 0, 0.06, 0.06))


def penguin(d: Drawing, u: Uniform) -> None:
    w, head, wing = u(0.36, 0.48), u(0.25, 0.31), u(0.1, 0.3)
    d.add(1, *(ellipse(x, 0.88, 0.2, 0.08) for x in (-0.2, 0.2)))
    d.add(2, *(limb(s * w * 0.8, -0.15, s * (w + wing), 0.4, 0.2, 0.1) for s in (-1, 1)))
    d.add(0, ellipse(0, 0.25, w, 0.62), ellipse(0, -0.5, head, head))
    d.add(3, ellipse(0, 0.35, w * 0.68, 0.48), *(ellipse(x, -0.55, 0.09, 0.1) for x in (-0.1, 0.1)))
    d.add(1, poly((-0.09, -0.42), (0.09, -0.42), (0, -0.26)))
    d.add(4, *(ellipse(x, -0.55, 0.035, 0.045) for x in (-0.09, 0.09)), detail=True)
