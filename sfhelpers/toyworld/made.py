"""Things, buildings and vehicles: each function draws one random individual with its eight named keypoints."""

import numpy as np

from sfhelpers.toyworld.shapes import Drawing, Point, Uniform, arc, box, ellipse, limb, poly, ring, smooth, symmetric


def cup(d: Drawing, u: Uniform) -> None:
    w, taper, top = u(0.48, 0.62), u(0.65, 0.95), u(-0.6, -0.45)
    d.line(0, 0.1, arc(w * 0.85, 0.05, u(0.3, 0.4), u(0.26, 0.34), -0.25, 0.25))
    d.add(0, poly((-w, top), (w, top), (w * taper, 0.65), (-w * taper, 0.65)), ellipse(0, 0.65, w * taper, 0.1))
    d.add(2, ellipse(0, top, w, 0.13))
    d.add(1, box(0, 0.12, w * 1.6, 0.16), detail=True)
    d.mark(rim_left_right=(w, top), rim_front=(0, top + 0.13), handle_outer=(w * 0.85 + 0.33, 0.05))
    d.mark(handle_top=(w * 0.9, -0.22), base_left_right=(w * taper, 0.66), body_centre=(0, 0.12))


def teapot(d: Drawing, u: Uniform) -> None:
    w, h = u(0.5, 0.58), u(0.42, 0.52)
    d.line(0, 0.09, arc(w * 0.9, 0.1, 0.34, h * 0.75, -0.25, 0.25))
    d.add(0, poly((-w * 0.7, 0.3), (-0.98, -0.32), (-0.84, -0.36), (-w * 0.6, -0.05)), ellipse(0, 0.15, w, h))
    d.add(2, box(0, 0.15 + h, w * 0.9, 0.08), ellipse(0, 0.15 - h * 0.9, w * 0.52, 0.1))
    d.add(1, ellipse(0, 0.0 - h * 0.95, 0.09, 0.09))
    d.line(1, 0.06, arc(0, 0.15, w * 0.95, h * 0.4, 0.05, 0.45), detail=True)
    d.mark(spout_tip=(-0.92, -0.34), spout_base=(-w * 0.75, 0.12), knob=(0, 0.0 - h * 0.95))
    d.mark(lid_edge=(w * 0.5, 0.15 - h * 0.88), handle_outer=(w * 0.9 + 0.34, 0.1), base=(0, 0.17 + h))
    d.mark(belly_left_right=(w * 0.97, 0.22))


def bottle(d: Drawing, u: Uniform) -> None:
    w, neck, shoulder = u(0.26, 0.36), u(0.09, 0.13), u(-0.35, -0.1)
    d.add(0, smooth(*symmetric((neck, -0.75), (neck, shoulder - 0.12), (w, shoulder + 0.12), (w, 0.88)), steps=4))
    d.add(1, box(0, -0.84, neck * 2.4, 0.18))
    d.add(3, box(0, 0.4, w * 2.02, u(0.35, 0.5)))
    d.line(2, 0.05, poly((-w * 0.6, 0.4), (w * 0.6, 0.4)), detail=True)
    d.mark(cap=(0, -0.92), neck_left_right=(neck, -0.5), shoulder_left_right=(w, shoulder + 0.12), label=(0, 0.4))
    d.mark(base_left_right=(w, 0.88))


def wine_glass(d: Drawing, u: Uniform) -> None:
    w, bowl = u(0.36, 0.46), u(-0.1, 0.08)
    d.add(0, ellipse(0, 0.85, u(0.32, 0.42), 0.08), limb(0, bowl, 0, 0.84, 0.07, 0.09))
    d.add(0, smooth(*symmetric((w * 0.8, -0.85), (w, -0.4), (0.06, bowl + 0.08))))
    d.add(1, smooth(*symmetric((w * 0.9, -0.45), (w * 0.75, -0.2), (0, bowl))))
    d.add(2, ellipse(0, -0.84, w * 0.8, 0.07))
    d.mark(rim_left_right=(w * 0.8, -0.84), bowl_left_right=(w, -0.4), bowl_bottom=(0, bowl + 0.08))
    d.mark(stem_middle=(0, (bowl + 0.84) / 2), foot_left_right=(0.34, 0.86))


def umbrella(d: Drawing, u: Uniform) -> None:
    w, top = u(0.8, 0.95), u(-0.75, -0.6)
    d.line(4, 0.055, poly((0, -0.1), (0, 0.65)))
    d.line(4, 0.065, arc(-0.13, 0.65, 0.13, 0.2, 0.0, 0.5))
    bays = [arc(-w + (2 * k + 1) * w / 4, -0.02, w / 4, 0.1, 1.0, 0.5, 7) for k in reversed(range(4))]
    d.add(0, np.concatenate([arc(0, -0.02, w, -top, 0.5, 1.0, 24), *bays]))
    d.add(1, np.concatenate([arc(0, -0.02, w / 2, -top, 0.5, 1.0, 14), *bays[1:3]]), detail=True)
    d.line(4, 0.05, poly((0, top), (0, top - 0.12)))
    d.mark(tip=(0, top - 0.12), left_right_edge=(w, -0.02), left_right_bay=(w / 2, -0.02), canopy_top=(0, top))
    d.mark(shaft=(0, 0.35), handle=(-0.13, 0.84))


def lamp(d: Drawing, u: Uniform) -> None:
    w, top, low = u(0.48, 0.6), u(0.2, 0.3), u(-0.2, -0.05)
    d.add(1, limb(0, low, 0, 0.8, 0.09, 0.12), ellipse(0, 0.4, u(0.12, 0.24), 0.24))
    d.add(1, ellipse(0, 0.83, u(0.32, 0.42), 0.09))
    d.add(0, poly((-top, -0.82), (top, -0.82), (w, low), (-w, low)))
    d.line(2, 0.045, poly((-w * 0.9, low - 0.08), (w * 0.9, low - 0.08)), detail=True)
    d.mark(shade_top_left_right=(top, -0.82), shade_low_left_right=(w, low), shade_centre=(0, (low - 0.82) / 2))
    d.mark(body=(0, 0.4), foot_left_right=(0.34, 0.84))


def chair(d: Drawing, u: Uniform) -> None:
    w, back = u(0.4, 0.5), u(0.75, 0.92)
    d.add(2, *(limb(x + 0.1, 0.15, x + 0.1, 0.68, 0.08) for x in (-w * 0.75, w * 0.8)))
    d.add(0, box(0.05, -back / 2, w * 1.9, back))
    d.add(1, box(0.05, -back / 2 - 0.04, w * 1.3, back * 0.6))
    d.add(0, poly((-w, 0.02), (w + 0.08, 0.02), (w + 0.02, 0.24), (-w - 0.14, 0.24)))
    d.add(0, *(limb(x, 0.22, x - 0.02, 0.9, 0.1, 0.08) for x in (-w - 0.07, w - 0.05)))
    d.mark(back_top_left=(0.05 - w * 0.95, -back), back_top_right=(0.05 + w * 0.95, -back))
    d.mark(back_centre=(0.05, -back / 2), seat_left=(-w - 0.13, 0.23), seat_right=(w + 0.02, 0.23))
    d.mark(seat_centre=(-0.02, 0.13), left_foot=(-w - 0.09, 0.9), right_foot=(w - 0.07, 0.9))


def table(d: Drawing, u: Uniform) -> None:
    w, top, thick = u(0.8, 0.95), u(-0.35, -0.2), u(0.09, 0.14)
    d.add(2, *(limb(x, top, x, 0.5, 0.09, 0.07) for x in (-w * 0.66, w * 0.72)))
    d.add(0, poly((-w * 0.78, top - 0.22), (w * 0.84, top - 0.22), (w, top), (-w, top)))
    d.add(1, box(0, top + thick / 2, 2 * w, thick))
    d.add(0, *(limb(x, top + thick, x, 0.72, 0.11, 0.08) for x in (-w * 0.9, w * 0.9)))
    d.mark(back_left=(-w * 0.78, top - 0.22), back_right=(w * 0.84, top - 0.22), front_left_right=(w, top))
    d.mark(top_centre=(0, top - 0.1), front_edge=(0, top + thick / 2), left_right_foot=(w * 0.9, 0.72))


def guitar(d: Drawing, u: Uniform) -> None:
    low, up = u(0.4, 0.48), u(0.28, 0.34)
    d.add(0, smooth(*symmetric((0, -0.05), (up, 0.08), (up * 0.72, 0.3), (low, 0.6), (0, 0.92))))
    d.add(4, ellipse(0, 0.36, 0.12, 0.12), box(0, 0.66, 0.24, 0.06))
    d.add(1, box(0, -0.32, u(0.085, 0.12), 0.98), box(0, -0.9, 0.17, 0.2, taper=0.75))
    d.add(3, *(ellipse(x, -0.97 + 0.07 * k, 0.035, 0.025) for k in range(3) for x in (-0.12, 0.12)), detail=True)
    d.line(3, 0.02, poly((0.0, -0.8), (0.0, 0.66)), detail=True)
    d.mark(head=(0, -0.98), nut=(0, -0.8), neck_joint=(0, 0.1), sound_hole=(0, 0.36), bridge=(0, 0.66))
    d.mark(waist_left_right=(up * 0.72, 0.3), bottom=(0, 0.91))


def hammer(d: Drawing, u: Uniform) -> None:
    w, h = u(0.42, 0.55), u(0.2, 0.27)
    d.add(1, limb(0, -0.6, 0, 0.92, u(0.12, 0.15), u(0.15, 0.2)))
    d.add(2, limb(0, 0.4, 0, 0.93, 0.18, 0.2), detail=True)
    d.add(0, poly((-w, -0.62 - h / 2), (0.15, -0.64 - h / 2), (0.15, -0.6 + h / 2), (-w, -0.62 + h / 2)))
    d.add(0, smooth((0.1, -0.62 - h / 2), (w * 0.8, -0.72), (w * 1.2, u(-0.5, -0.42)), (0.1, -0.6 + h / 2)))
    d.add(0, box(-w, -0.62, 0.14, h * 1.3))
    d.mark(face_top=(-w - 0.05, -0.62 - h * 0.6), face_bottom=(-w - 0.05, -0.62 + h * 0.6), head_centre=(0, -0.62))
    d.mark(claw_tip=(w * 1.15, -0.47), claw_root=(w * 0.5, -0.7), neck=(0, -0.45), grip=(0, 0.45), handle_end=(0, 0.92))


def key(d: Drawing, u: Uniform) -> None:
    r, w, tooth = u(0.3, 0.36), u(0.1, 0.14), u(0.24, 0.34)
    d.add(0, limb(-0.35, 0, 0.92, 0, w), box(0.84, tooth / 2, 0.12, tooth), box(0.62, tooth * 0.4, 0.11, tooth * 0.8))
    d.add(0, box(0.42, tooth * 0.3, 0.08, tooth * 0.6), ring(-0.58, 0, r, u(0.11, 0.16)))
    d.add(1, box(-0.24, 0, 0.08, w * 2.2), detail=True)
    d.mark(bow_left=(-0.58 - r + 0.05, 0), bow_top=(-0.58, -r + 0.05), bow_bottom=(-0.58, r - 0.05), collar=(-0.24, 0))
    d.mark(shaft=(0.2, 0), tip=(0.92, 0), outer_tooth=(0.84, tooth), inner_tooth=(0.62, tooth * 0.8))


def clock(d: Drawing, u: Uniform) -> None:
    r = u(0.7, 0.82)
    for x, turn in ((-r, -0.6), (r, 0.6)):
        d.add(1, limb(x * 0.5, r * 0.75, x * 0.75, 0.98, 0.12, 0.09), ellipse(x * 0.55, -r * 0.92, 0.2, 0.13, turn))
    d.add(0, ellipse(0, 0, r, r))
    d.add(3, ellipse(0, 0, r * 0.82, r * 0.82))
    for a in np.arange(4) * np.pi / 2:
        d.add(4, ellipse(np.cos(a) * r * 0.7, np.sin(a) * r * 0.7, 0.035, 0.035), detail=True)
    for a, long, thick in ((u(0, 6.28), 0.4, 0.07), (u(0, 6.28), 0.65, 0.045)):
        d.add(4, limb(0, 0, np.cos(a) * r * long, np.sin(a) * r * long, thick))
    d.mark(twelve=(0, -r * 0.7), three=(r * 0.7, 0), six=(0, r * 0.7), nine=(-r * 0.7, 0), centre=(0, 0))
    d.mark(left_bell=(-r * 0.55, -r * 0.95), left_right_foot=(r * 0.74, 0.97))


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
        d.add(3, np.concatenate([arc(x, nave + 0.34, 0.07, 0.1, 0.5, 1, 7), poly((x + 0.07, 0.62), (x - 0.07, 0.62))]))
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
