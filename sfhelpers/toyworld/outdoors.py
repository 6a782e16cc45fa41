"""Buildings, plants and vehicles: each function draws one random individual with its eight named keypoints."""

import numpy as np

from sfhelpers.toyworld.shapes import Drawing, Point, Uniform, arc, box, ellipse, limb, poly, ring, smooth, symmetric


def house(d: Drawing, u: Uniform) -> None:
    w, wall, peak, door = u(0.6, 0.75), u(-0.15, 0.05), u(0.5, 0.65), u(-0.15, 0.15)
    d.add(2, box(w * 0.5, wall - peak * 0.62, 0.16, 0.4))
    d.add(0, box(0, (wall + 0.8) / 2, 2 * w, 0.8 - wall))
    d.add(1, poly((-w - 0.12, wall), (0, wall - peak), (w + 0.12, wall)))
    d.add(4, box(door, 0.58, 0.24, 0.44))
    for x in (-w * 0.62, w * 0.62):
        d.add(3, box(x, wall + 0.32, 0.24, 0.24))
        d.line(4, 0.025, poly((x, wall + 0.2), (x, wall + 0.44)), detail=True)
    d.mark(peak=(0, wall - peak), left_right_eave=(w + 0.1, wall), left_right_corner=(w, 0.8), door=(door, 0.4))
    d.mark(left_window=(-w * 0.62, wall + 0.32), chimney=(w * 0.5, wall - peak * 0.62 - 0.2))


def church(d: Drawing, u: Uniform) -> None:
    tower, nave, spire = u(0.26, 0.32), u(0.0, 0.12), u(-0.85, -0.75)
    d.add(1, poly((-0.3, nave), (-0.15, nave - 0.3), (0.72, nave - 0.3), (0.9, nave)))
    d.add(0, box(0.28, (nave + 0.85) / 2, 1.18, 0.85 - nave))
    for x in (0.12, 0.42, 0.72):
        arch = arc(x, nave + 0.34, 0.07, 0.1, 0.5, 1.0, 7)
        d.add(3, np.concatenate([arch, poly((x + 0.07, 0.62), (x - 0.07, 0.62))]))
    d.add(0, box(-0.45, 0.25, 2 * tower, 1.2))
    d.add(1, poly((-0.45 - tower - 0.05, -0.33), (-0.45, spire), (-0.45 + tower + 0.05, -0.33)))
    d.line(4, 0.04, poly((-0.45, spire), (-0.45, spire - 0.16)), poly((-0.52, spire - 0.09), (-0.38, spire - 0.09)))
    d.add(4, box(-0.45, 0.68, 0.2, 0.34))
    d.add(3, ellipse(-0.45, 0.0, 0.09, 0.09), detail=True)
    d.mark(cross=(-0.45, spire - 0.14), spire_left=(-0.5 - tower, -0.33), spire_right=(-0.4 + tower, -0.33))
    d.mark(roof_end=(0.72, nave - 0.3), eave=(0.88, nave), far_corner=(0.86, 0.85), near_corner=(-0.45 - tower, 0.85))
    d.mark(door=(-0.45, 0.52))


def windmill(d: Drawing, u: Uniform) -> None:
    low, top, a = u(0.42, 0.52), u(0.24, 0.3), u(0, np.pi / 2)
    d.add(0, poly((-top, -0.35), (top, -0.35), (low, 0.95), (-low, 0.95)))
    d.add(1, smooth((-top - 0.05, -0.33), (0, -0.72), (top + 0.05, -0.33), steps=3))
    d.add(4, box(0, 0.78, 0.2, 0.34))
    d.add(3, box(0, 0.2, 0.14, 0.16), detail=True)
    tips = []
    for k in range(4):
        c, s = np.cos(a + k * np.pi / 2), np.sin(a + k * np.pi / 2)
        tips.append((0.62 * c, -0.4 + 0.62 * s))
        d.add(3, limb(0.14 * c - 0.06 * s, -0.4 + 0.14 * s + 0.06 * c, tips[k][0], tips[k][1], 0.16, 0.2))
        d.line(4, 0.035, poly((0, -0.4), tips[k]))
    d.add(4, ellipse(0, -0.4, 0.06, 0.06))
    d.mark(upper_blade=min(tips, key=lambda p: p[1]), lower_blade=max(tips, key=lambda p: p[1]))
    d.mark(left_blade=min(tips, key=lambda p: p[0]), right_blade=max(tips, key=lambda p: p[0]), hub=(0, -0.4))
    d.mark(left_right_corner=(low, 0.94), door=(0, 0.62))


def tree(d: Drawing, u: Uniform) -> None:
    r, crown = u(0.32, 0.4), u(-0.35, -0.25)
    d.add(1, limb(0, 0.1, u(-0.05, 0.05), 0.95, 0.18, 0.28), limb(0, 0.3, 0.25, 0.0, 0.1, 0.07))
    turns = np.arange(10) * 0.6283
    rim = [(np.cos(t) * (r + 0.33) * u(0.9, 1.1), crown + np.sin(t) * (r + 0.18) * u(0.9, 1.1)) for t in turns]
    d.add(0, smooth(*rim))
    for x, y in ((-0.38, 0.0), (0.38, 0.0), (-0.25, -0.35), (0.25, -0.35), (0, -0.1)):
        d.line(2, 0.045, arc(x * 0.8, crown + y * 0.5 + 0.1, r * 0.4, r * 0.35, 0.55, 0.95), detail=True)
    d.mark(top=(0, crown - r - 0.17), crown_left_right=(r + 0.32, crown), crown_centre=(0, crown), fork=(0.0, 0.25))
    d.mark(trunk_middle=(0.0, 0.55), root_left_right=(0.13, 0.94))


def flower(d: Drawing, u: Uniform) -> None:
    n, r, y = int(u(5, 9)), u(0.26, 0.32), -0.38
    d.line(1, 0.08, poly((0, y), (u(-0.06, 0.06), 0.3), (0, 0.95)))
    d.add(1, smooth((0, 0.6), (0.25, 0.3), (0.5, 0.28), (0.3, 0.55)))
    d.add(1, smooth((0, 0.75), (-0.25, 0.45), (-0.5, 0.45), (-0.3, 0.72)))
    for a in 2 * np.pi * np.arange(n) / n - np.pi / 2:
        d.add(0, ellipse(np.cos(a) * r, y + np.sin(a) * r, r * 0.72, r * 0.45, a))
    d.add(3, ellipse(0, y, r * 0.55, r * 0.55))
    d.mark(top_petal=(0, y - r * 1.6), left_right_petal=(r * 1.5, y), centre=(0, y), stem_middle=(0, 0.3))
    d.mark(right_leaf=(0.48, 0.3), left_leaf=(-0.48, 0.46), stem_end=(0, 0.94))


def mushroom(d: Drawing, u: Uniform) -> None:
    w, high, stem = u(0.68, 0.85), u(0.6, 0.75), u(0.2, 0.28)
    d.add(3, poly((-stem, 0.0), (stem, 0.0), (stem * 1.3, 0.85), (-stem * 1.3, 0.85)))
    d.add(3, ellipse(0, 0.85, stem * 1.3, 0.07))
    d.add(0, np.concatenate([arc(0, 0.1, w, high, 0.5, 1.0, 20), arc(0, 0.1, w, 0.13, 0.0, 0.5, 12)]))
    for x, y, s in ((-0.35, -0.2, 0.1), (0.05, -0.38, 0.12), (0.4, -0.12, 0.09)):
        d.add(1, ellipse(x, y, s, s * 0.85), detail=True)
    d.mark(cap_top=(0, 0.1 - high), cap_left_right=(w, 0.1), rim_front=(0, 0.22), stem_left_right=(stem * 1.15, 0.5))
    d.mark(foot_left_right=(stem * 1.3, 0.86))


def apple(d: Drawing, u: Uniform) -> None:
    w, h = u(0.66, 0.78), u(0.6, 0.72)
    d.line(4, 0.07, poly((0, -0.4), (u(0.0, 0.1), -0.85)))
    d.add(1, smooth((0.06, -0.62), (0.3, -0.88), (0.58, -0.8), (0.35, -0.58)))
    d.add(0, smooth(*symmetric((0, -0.42), (w * 0.6, -0.52), (w, -0.05), (w * 0.65, h), (0, h * 0.9))))
    d.add(3, ellipse(-w * 0.5, -0.15, 0.1, 0.17, 0.4), detail=True)
    d.mark(stem_tip=(0.05, -0.84), stem_base=(0, -0.42), leaf_tip=(0.58, -0.8), left_right_side=(w, -0.05))
    d.mark(bottom_left_right=(w * 0.65, h), centre=(0, 0.1))


def cactus(d: Drawing, u: Uniform) -> None:
    w, left, right = u(0.26, 0.34), u(-0.05, 0.2), u(-0.2, 0.1)
    d.add(0, limb(-0.1, left + 0.1, -0.55, left + 0.1, 0.18))
    d.add(0, smooth((-0.64, left + 0.18), (-0.46, left + 0.18), (-0.46, left - 0.42), (-0.64, left - 0.42)))
    d.add(0, limb(0.1, right + 0.2, 0.55, right + 0.2, 0.18))
    d.add(0, smooth((0.46, right + 0.28), (0.64, right + 0.28), (0.64, right - 0.38), (0.46, right - 0.38)))
    d.add(0, smooth((-w / 1.6, 0.65), (-w / 1.5, -0.7), (0, -0.95), (w / 1.5, -0.7), (w / 1.6, 0.65)))
    d.line(2, 0.03, *(poly((x, -0.7), (x, 0.5)) for x in (-0.07, 0.07)), detail=True)
    d.add(1, box(0, 0.78, 0.7, 0.36, taper=0.75), box(0, 0.62, 0.78, 0.1))
    d.mark(top=(0, -0.93), left_arm_top=(-0.55, left - 0.44), left_elbow=(-0.58, left + 0.14))
    d.mark(right_arm_top=(0.55, right - 0.4), right_elbow=(0.58, right + 0.24), pot_left_right=(0.38, 0.62))
    d.mark(pot_bottom=(0, 0.95))


def _wheels(d: Drawing, y: float, *wheels: Point) -> None:
    for x, r in wheels:
        d.add(4, ellipse(x, y, r, r))
        d.add(3, ellipse(x, y, r * 0.5, r * 0.5), detail=True)
    d.mark(front_wheel=(wheels[0][0], y), rear_wheel=(wheels[-1][0], y))


def car(d: Drawing, u: Uniform) -> None:
    roof, front = u(0.42, 0.55), u(0.35, 0.5)
    d.add(0, poly((-front, 0.0), (-front + 0.22, -roof), (0.35, -roof), (0.62, 0.0)))
    d.add(3, poly((-front + 0.1, -0.03), (-front + 0.27, -roof + 0.08), (0.0, -roof + 0.08), (0.0, -0.03)))
    d.add(3, poly((0.06, -0.03), (0.06, -roof + 0.08), (0.31, -roof + 0.08), (0.5, -0.03)))
    d.add(0, smooth((-0.95, 0.1), (-0.75, -0.04), (0.8, -0.05), (0.95, 0.1), (0.93, 0.36), (-0.93, 0.36)))
    d.line(2, 0.04, poly((-0.9, 0.2), (0.9, 0.2)), detail=True)
    d.add(3, ellipse(-0.88, 0.1, 0.06, 0.06), detail=True)
    d.mark(front_bumper=(-0.93, 0.25), rear_bumper=(0.93, 0.25), bonnet=(-0.72, -0.02))
    d.mark(windscreen=(-front + 0.1, -roof * 0.5), roof=(0.05, -roof), rear_window=(0.5, -roof * 0.4))
    _wheels(d, 0.38, (-0.55, u(0.18, 0.22)), (0.55, u(0.18, 0.22)))


def bus(d: Drawing, u: Uniform) -> None:
    high, n = u(0.5, 0.62), int(u(3, 6))
    d.add(0, smooth((-0.95, -high), (0.95, -high), (0.95, 0.32), (-0.95, 0.32), steps=3))
    d.add(3, box(-0.82, -high * 0.3, 0.2, high * 0.75))
    d.add(3, *(box(-0.5 + (k + 0.5) * 1.35 / n, -high * 0.42, 1.0 / n, high * 0.5) for k in range(n)))
    d.add(1, box(0.0, 0.1, 1.85, 0.1))
    d.mark(front_top=(-0.93, -high * 0.97), rear_top=(0.93, -high * 0.97), front_bumper=(-0.95, 0.28))
    d.mark(rear_bumper=(0.95, 0.28), roof=(0.0, -high * 1.02), stripe=(0.0, 0.1))
    _wheels(d, 0.34, (-0.55, u(0.15, 0.19)), (0.55, u(0.15, 0.19)))


def truck(d: Drawing, u: Uniform) -> None:
    cab, high = u(0.42, 0.52), u(0.5, 0.68)
    d.add(4, box(0.0, 0.28, 1.8, 0.12))
    d.add(1, box(0.3, 0.24 - high / 2 - 0.02, 1.25, high))
    d.line(2, 0.03, poly((0.3, 0.2), (0.3, 0.26 - high)), detail=True)
    d.add(0, poly((-0.95, 0.3), (-0.95, -0.02), (-0.82, 0.3 - cab - 0.12), (-0.4, 0.3 - cab - 0.12), (-0.4, 0.3)))
    d.add(3, poly((-0.86, -0.0), (-0.77, 0.24 - cab), (-0.55, 0.24 - cab), (-0.55, 0.0)))
    d.mark(front_bumper=(-0.95, 0.26), cab_top=(-0.62, 0.18 - cab), window=(-0.7, 0.1 - cab * 0.5))
    d.mark(cargo_front_top=(-0.32, 0.22 - high), cargo_rear_top=(0.92, 0.22 - high), cargo_rear_bottom=(0.92, 0.2))
    _wheels(d, 0.38, (-0.66, 0.17), (0.35, 0.17), (0.7, 0.17))


def airplane(d: Drawing, u: Uniform) -> None:
    fat, wing = u(0.13, 0.18), u(0.5, 0.7)
    d.add(2, poly((-0.1, -0.05), (0.2, -wing * 0.85), (0.38, -wing * 0.85), (0.25, -0.05)))
    d.add(1, poly((0.62, -0.05), (0.8, -u(0.42, 0.55)), (0.96, -0.46), (0.9, 0.0)))
    d.add(0, smooth((-0.95, 0.02), (-0.6, -fat), (0.5, -fat), (0.95, -0.08), (0.5, fat), (-0.6, fat)))
    d.add(4, *(ellipse(-0.5 + 0.2 * k, -fat * 0.3, 0.04, 0.05) for k in range(5)), detail=True)
    d.add(1, poly((-0.15, 0.05), (0.3, wing), (0.48, wing), (0.22, 0.02)))
    d.add(1, poly((0.62, 0.0), (0.82, 0.24), (0.94, 0.24), (0.86, 0.0)))
    d.mark(nose=(-0.93, 0.02), cockpit=(-0.65, -fat * 0.9), near_wing_tip=(0.4, wing), far_wing_tip=(0.3, -wing * 0.85))
    d.mark(wing_root=(0.05, 0.04), tail_top=(0.9, -0.46), tail_end=(0.93, -0.06), belly=(-0.3, fat))


def sailboat(d: Drawing, u: Uniform) -> None:
    mast, wide = u(0.75, 0.95), u(0.5, 0.65)
    d.line(4, 0.055, poly((0.0, 0.5), (0.0, -mast)))
    d.add(3, smooth((0.06, -mast * 0.92), (wide * 0.6, -0.2), (wide, 0.32), (0.06, 0.34), steps=3))
    d.add(1, poly((-0.06, -mast * 0.8), (-0.06, 0.32), (-wide * 0.85, 0.32)))
    d.add(0, poly((-0.85, 0.46), (0.9, 0.46), (0.62, 0.82), (-0.6, 0.82)))
    d.line(2, 0.04, poly((-0.78, 0.56), (0.82, 0.56)), detail=True)
    d.add(0, poly((0.0, -mast), (0.2, -mast + 0.07), (0.0, -mast + 0.14)), detail=True)
    d.mark(mast_top=(0.0, -mast), mast_foot=(0.0, 0.44), main_sail_clew=(wide * 0.98, 0.3))
    d.mark(jib_tack=(-wide * 0.83, 0.31), bow=(-0.84, 0.47), stern=(0.89, 0.47), keel_front=(-0.6, 0.81))
    d.mark(keel_rear=(0.61, 0.81))


def bicycle(d: Drawing, u: Uniform) -> None:
    r, w = u(0.35, 0.42), u(0.05, 0.075)
    left, right, crank, seat, head = (-0.55, 0.35), (0.55, 0.35), (-0.05, 0.35), (-0.2, -0.3), (0.4, -0.3)
    for x, y in (left, right):
        d.add(4, ring(x, y, r, 0.075), ellipse(x, y, 0.05, 0.05))
    for a, b in ((left, seat), (left, crank), (crank, seat), (crank, head), (seat, head), (head, right)):
        d.add(0, limb(*a, *b, w))
    d.add(4, limb(*seat, -0.23, -0.44, 0.05))
    d.add(1, ellipse(-0.24, -0.46, 0.17, 0.055))
    d.add(4, limb(*head, 0.36, -0.52, 0.05))
    d.line(4, 0.06, arc(0.48, -0.48, 0.15, 0.1, 0.5, 1.0))
    d.add(2, ellipse(*crank, 0.09, 0.09))
    d.mark(rear_hub=left, front_hub=right, crank=crank, saddle=(-0.24, -0.47), handlebar=(0.4, -0.54), head_tube=head)
    d.mark(rear_wheel_bottom=(-0.55, 0.35 + r), front_wheel_bottom=(0.55, 0.35 + r))
