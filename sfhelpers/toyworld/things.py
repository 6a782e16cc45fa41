"""Household things of the toy world: each function draws one random individual with eight named keypoints."""

import numpy as np

from sfhelpers.toyworld.shapes import Drawing, Uniform, arc, box, ellipse, limb, poly, ring, smooth


def cup(u: Uniform) -> Drawing:
    d = Drawing()
    w, taper, top = u(0.48, 0.62), u(0.65, 0.95), u(-0.6, -0.45)
    d.line(arc(w * 0.85, 0.05, u(0.3, 0.4), u(0.26, 0.34), -0.25, 0.25), 0, 0.1)
    d.add(poly((-w, top), (w, top), (w * taper, 0.65), (-w * taper, 0.65)), 0)
    d.add(ellipse(0, 0.65, w * taper, 0.1), 0)
    d.add(ellipse(0, top, w, 0.13), 2)
    d.add(box(0, 0.12, w * 1.6, 0.16), 1, detail=True)
    d.keypoints = {
        "rim left": (-w, top),
        "rim right": (w, top),
        "rim front": (0, top + 0.13),
        "handle outer": (w * 0.85 + 0.33, 0.05),
        "handle top": (w * 0.9, -0.22),
        "base left": (-w * taper, 0.66),
        "base right": (w * taper, 0.66),
        "body centre": (0, 0.12),
    }
    return d


def teapot(u: Uniform) -> Drawing:
    d = Drawing()
    w, h = u(0.5, 0.58), u(0.42, 0.52)
    d.line(arc(w * 0.9, 0.1, 0.34, h * 0.75, -0.25, 0.25), 0, 0.09)
    d.add(poly((-w * 0.7, 0.3), (-0.98, -0.32), (-0.84, -0.36), (-w * 0.6, -0.05)), 0)
    d.add(ellipse(0, 0.15, w, h), 0)
    d.add(box(0, 0.15 + h, w * 0.9, 0.08), 2)
    d.add(ellipse(0, 0.15 - h * 0.9, w * 0.52, 0.1), 2)
    d.add(ellipse(0, 0.0 - h * 0.95, 0.09, 0.09), 1)
    d.line(arc(0, 0.15, w * 0.95, h * 0.4, 0.05, 0.45), 1, 0.06, detail=True)
    d.keypoints = {
        "spout tip": (-0.92, -0.34),
        "spout base": (-w * 0.75, 0.12),
        "knob": (0, 0.0 - h * 0.95),
        "lid edge": (w * 0.5, 0.15 - h * 0.88),
        "handle outer": (w * 0.9 + 0.34, 0.1),
        "base": (0, 0.17 + h),
        "belly left": (-w * 0.97, 0.22),
        "belly right": (w * 0.97, 0.22),
    }
    return d


def bottle(u: Uniform) -> Drawing:
    d = Drawing()
    w, neck, shoulder = u(0.26, 0.36), u(0.09, 0.13), u(-0.35, -0.1)
    d.add(
        smooth(
            (-neck, -0.75), (neck, -0.75), (neck, shoulder - 0.12), (w, shoulder + 0.12),
            (w, 0.88), (-w, 0.88), (-w, shoulder + 0.12), (-neck, shoulder - 0.12), steps=4,
        ), 0,
    )  # fmt: skip
    d.add(box(0, -0.84, neck * 2.4, 0.18), 1)
    d.add(box(0, 0.4, w * 2.02, u(0.35, 0.5)), 3)
    d.line(poly((-w * 0.6, 0.4), (w * 0.6, 0.4)), 2, 0.05, detail=True)
    d.keypoints = {
        "cap": (0, -0.92),
        "neck left": (-neck, -0.5),
        "neck right": (neck, -0.5),
        "shoulder left": (-w, shoulder + 0.12),
        "shoulder right": (w, shoulder + 0.12),
        "label": (0, 0.4),
        "base left": (-w, 0.88),
        "base right": (w, 0.88),
    }
    return d


def wine_glass(u: Uniform) -> Drawing:
    d = Drawing()
    w, bowl = u(0.36, 0.46), u(-0.1, 0.08)
    d.add(ellipse(0, 0.85, u(0.32, 0.42), 0.08), 0)
    d.add(limb(0, bowl, 0, 0.84, 0.07, 0.09), 0)
    d.add(
        smooth((-w * 0.8, -0.85), (w * 0.8, -0.85), (w, -0.4), (0.06, bowl + 0.08), (-0.06, bowl + 0.08), (-w, -0.4)), 0
    )
    d.add(smooth((-w * 0.9, -0.45), (w * 0.9, -0.45), (w * 0.75, -0.2), (0, bowl), (-w * 0.75, -0.2)), 1)
    d.add(ellipse(0, -0.84, w * 0.8, 0.07), 2)
    d.keypoints = {
        "rim left": (-w * 0.8, -0.84),
        "rim right": (w * 0.8, -0.84),
        "bowl left": (-w, -0.4),
        "bowl right": (w, -0.4),
        "bowl bottom": (0, bowl + 0.08),
        "stem middle": (0, (bowl + 0.84) / 2),
        "foot left": (-0.34, 0.86),
        "foot right": (0.34, 0.86),
    }
    return d


def umbrella(u: Uniform) -> Drawing:
    d = Drawing()
    w, top = u(0.8, 0.95), u(-0.75, -0.6)
    d.line(poly((0, -0.1), (0, 0.65)), 4, 0.055)
    d.line(arc(-0.13, 0.65, 0.13, 0.2, 0.0, 0.5), 4, 0.065)
    n = 4
    bays = [arc(-w + (2 * k + 1) * w / n, -0.02, w / n, 0.1, 1.0, 0.5, 7) for k in reversed(range(n))]
    d.add(np.concatenate([arc(0, -0.02, w, -top, 0.5, 1.0, 24), *bays]), 0)
    d.add(np.concatenate([arc(0, -0.02, w / 2, -top, 0.5, 1.0, 14), *bays[1:3]]), 1, detail=True)
    d.line(poly((0, top), (0, top - 0.12)), 4, 0.05)
    d.keypoints = {
        "tip": (0, top - 0.12),
        "left edge": (-w, -0.02),
        "right edge": (w, -0.02),
        "left bay": (-w / 2, -0.02),
        "right bay": (w / 2, -0.02),
        "canopy top": (0, top),
        "shaft": (0, 0.35),
        "handle": (-0.13, 0.84),
    }
    return d


def lamp(u: Uniform) -> Drawing:
    d = Drawing()
    w, top, low = u(0.48, 0.6), u(0.2, 0.3), u(-0.2, -0.05)
    d.add(limb(0, low, 0, 0.8, 0.09, 0.12), 1)
    d.add(ellipse(0, 0.4, u(0.12, 0.24), 0.24), 1)
    d.add(ellipse(0, 0.83, u(0.32, 0.42), 0.09), 1)
    d.add(poly((-top, -0.82), (top, -0.82), (w, low), (-w, low)), 0)
    d.line(poly((-w * 0.9, low - 0.08), (w * 0.9, low - 0.08)), 2, 0.045, detail=True)
    d.keypoints = {
        "shade top left": (-top, -0.82),
        "shade top right": (top, -0.82),
        "shade low left": (-w, low),
        "shade low right": (w, low),
        "shade centre": (0, (low - 0.82) / 2),
        "body": (0, 0.4),
        "foot left": (-0.34, 0.84),
        "foot right": (0.34, 0.84),
    }
    return d


def chair(u: Uniform) -> Drawing:
    d = Drawing()
    w, back = u(0.4, 0.5), u(0.75, 0.92)
    for x, tone in ((-w * 0.75, 2), (w * 0.8, 2)):
        d.add(limb(x + 0.1, 0.15, x + 0.1, 0.68, 0.08), tone)
    d.add(box(0.05, -back / 2, w * 1.9, back), 0)
    d.add(box(0.05, -back / 2 - 0.04, w * 1.3, back * 0.6), 1)
    d.add(poly((-w, 0.02), (w + 0.08, 0.02), (w + 0.02, 0.24), (-w - 0.14, 0.24)), 0)
    for x in (-w - 0.07, w - 0.05):
        d.add(limb(x, 0.22, x - 0.02, 0.9, 0.1, 0.08), 0)
    d.keypoints = {
        "back top left": (0.05 - w * 0.95, -back),
        "back top right": (0.05 + w * 0.95, -back),
        "back centre": (0.05, -back / 2),
        "seat left": (-w - 0.13, 0.23),
        "seat right": (w + 0.02, 0.23),
        "seat centre": (-0.02, 0.13),
        "left foot": (-w - 0.09, 0.9),
        "right foot": (w - 0.07, 0.9),
    }
    return d


def table(u: Uniform) -> Drawing:
    d = Drawing()
    w, top, thick = u(0.8, 0.95), u(-0.35, -0.2), u(0.09, 0.14)
    for x in (-w * 0.66, w * 0.72):
        d.add(limb(x, top, x, 0.5, 0.09, 0.07), 2)
    d.add(poly((-w * 0.78, top - 0.22), (w * 0.84, top - 0.22), (w, top), (-w, top)), 0)
    d.add(box(0, top + thick / 2, 2 * w, thick), 1)
    for x in (-w * 0.9, w * 0.9):
        d.add(limb(x, top + thick, x, 0.72, 0.11, 0.08), 0)
    d.keypoints = {
        "back left": (-w * 0.78, top - 0.22),
        "back right": (w * 0.84, top - 0.22),
        "front left": (-w, top),
        "front right": (w, top),
        "top centre": (0, top - 0.1),
        "front edge": (0, top + thick / 2),
        "left foot": (-w * 0.9, 0.72),
        "right foot": (w * 0.9, 0.72),
    }
    return d


def guitar(u: Uniform) -> Drawing:
    d = Drawing()
    low, up = u(0.4, 0.48), u(0.28, 0.34)
    d.add(
        smooth(
            (0, -0.05), (up, 0.08), (up * 0.72, 0.3), (low, 0.6), (0, 0.92), (-low, 0.6), (-up * 0.72, 0.3), (-up, 0.08)
        ),
        0,
    )
    d.add(ellipse(0, 0.36, 0.12, 0.12), 4)
    d.add(box(0, 0.66, 0.24, 0.06), 4)
    d.add(box(0, -0.32, u(0.085, 0.12), 0.98), 1)
    d.add(box(0, -0.9, 0.17, 0.2, taper=0.75), 1)
    for k in range(3):
        d.add(ellipse(-0.12, -0.97 + 0.07 * k, 0.035, 0.025), 3, detail=True)
        d.add(ellipse(0.12, -0.97 + 0.07 * k, 0.035, 0.025), 3, detail=True)
    d.line(poly((0.0, -0.8), (0.0, 0.66)), 3, 0.02, detail=True)
    d.keypoints = {
        "head": (0, -0.98),
        "nut": (0, -0.8),
        "neck joint": (0, 0.1),
        "sound hole": (0, 0.36),
        "bridge": (0, 0.66),
        "waist left": (-up * 0.72, 0.3),
        "waist right": (up * 0.72, 0.3),
        "bottom": (0, 0.91),
    }
    return d


def hammer(u: Uniform) -> Drawing:
    d = Drawing()
    w, h = u(0.42, 0.55), u(0.2, 0.27)
    d.add(limb(0, -0.6, 0, 0.92, u(0.12, 0.15), u(0.15, 0.2)), 1)
    d.add(limb(0, 0.4, 0, 0.93, 0.18, 0.2), 2, detail=True)
    d.add(poly((-w, -0.62 - h / 2), (0.15, -0.64 - h / 2), (0.15, -0.6 + h / 2), (-w, -0.62 + h / 2)), 0)
    d.add(smooth((0.1, -0.62 - h / 2), (w * 0.8, -0.72), (w * 1.2, u(-0.5, -0.42)), (0.1, -0.6 + h / 2)), 0)
    d.add(box(-w, -0.62, 0.14, h * 1.3), 0)
    d.keypoints = {
        "face top": (-w - 0.05, -0.62 - h * 0.6),
        "face bottom": (-w - 0.05, -0.62 + h * 0.6),
        "head centre": (0, -0.62),
        "claw tip": (w * 1.15, -0.47),
        "claw root": (w * 0.5, -0.7),
        "neck": (0, -0.45),
        "grip": (0, 0.45),
        "handle end": (0, 0.92),
    }
    return d


def key(u: Uniform) -> Drawing:
    d = Drawing()
    r, w = u(0.3, 0.36), u(0.1, 0.14)
    d.add(limb(-0.35, 0, 0.92, 0, w), 0)
    tooth = u(0.24, 0.34)
    d.add(box(0.84, tooth / 2, 0.12, tooth), 0)
    d.add(box(0.62, tooth * 0.4, 0.11, tooth * 0.8), 0)
    d.add(box(0.42, tooth * 0.3, 0.08, tooth * 0.6), 0)
    d.add(ring(-0.58, 0, r, u(0.11, 0.16)), 0)
    d.add(box(-0.24, 0, 0.08, w * 2.2), 1, detail=True)
    d.keypoints = {
        "bow left": (-0.58 - r + 0.05, 0),
        "bow top": (-0.58, -r + 0.05),
        "bow bottom": (-0.58, r - 0.05),
        "collar": (-0.24, 0),
        "shaft": (0.2, 0),
        "tip": (0.92, 0),
        "outer tooth": (0.84, tooth),
        "inner tooth": (0.62, tooth * 0.8),
    }
    return d


def clock(u: Uniform) -> Drawing:
    d = Drawing()
    r = u(0.7, 0.82)
    for s in (-1, 1):
        d.add(limb(s * r * 0.5, r * 0.75, s * r * 0.75, 0.98, 0.12, 0.09), 1)
        d.add(ellipse(s * r * 0.55, -r * 0.92, 0.2, 0.13, s * 0.6), 1)
    d.add(ellipse(0, 0, r, r), 0)
    d.add(ellipse(0, 0, r * 0.82, r * 0.82), 3)
    for k in range(4):
        a = k * np.pi / 2
        d.add(ellipse(np.cos(a) * r * 0.7, np.sin(a) * r * 0.7, 0.035, 0.035), 4, detail=True)
    a, b = u(0, 6.28), u(0, 6.28)
    d.add(limb(0, 0, np.cos(a) * r * 0.4, np.sin(a) * r * 0.4, 0.07), 4)
    d.add(limb(0, 0, np.cos(b) * r * 0.65, np.sin(b) * r * 0.65, 0.045), 4)
    d.keypoints = {
        "twelve": (0, -r * 0.7),
        "three": (r * 0.7, 0),
        "six": (0, r * 0.7),
        "nine": (-r * 0.7, 0),
        "centre": (0, 0),
        "left bell": (-r * 0.55, -r * 0.95),
        "left foot": (-r * 0.74, 0.97),
        "right foot": (r * 0.74, 0.97),
    }
    return d
