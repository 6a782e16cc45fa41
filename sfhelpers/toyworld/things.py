"""Household things: each function draws one random individual with its eight named keypoints."""

import numpy as np

from sfhelpers.toyworld.shapes import Drawing, Uniform, arc, box, ellipse, limb, poly, ring, smooth, symmetric


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
    for s in (-1, 1):
        d.add(1, limb(s * r * 0.5, r * 0.75, s * r * 0.75, 0.98, 0.12, 0.09))
        d.add(1, ellipse(s * r * 0.55, -r * 0.92, 0.2, 0.13, s * 0.6))
    d.add(0, ellipse(0, 0, r, r))
    d.add(3, ellipse(0, 0, r * 0.82, r * 0.82))
    for a in np.arange(4) * np.pi / 2:
        d.add(4, ellipse(np.cos(a) * r * 0.7, np.sin(a) * r * 0.7, 0.035, 0.035), detail=True)
    for a, long, thick in ((u(0, 6.28), 0.4, 0.07), (u(0, 6.28), 0.65, 0.045)):
        d.add(4, limb(0, 0, np.cos(a) * r * long, np.sin(a) * r * long, thick))
    d.mark(twelve=(0, -r * 0.7), three=(r * 0.7, 0), six=(0, r * 0.7), nine=(-r * 0.7, 0), centre=(0, 0))
    d.mark(left_bell=(-r * 0.55, -r * 0.95), left_right_foot=(r * 0.74, 0.97))
