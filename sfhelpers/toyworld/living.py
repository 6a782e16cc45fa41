"""Animals and plants: each function draws one random individual with its eight named keypoints."""

import numpy as np

from sfhelpers.toyworld.shapes import Drawing, Point, Uniform, arc, box, ellipse, limb, poly, smooth, symmetric


def _walker(d: Drawing, u: Uniform, head: Point, *ranges: Point) -> list[float]:
    """On four legs, facing left; `ranges`: leg, neck, its angle, body radii. Returns these and where neck, head end."""
    leg, neck, lean, bx, by = (u(*limits) for limits in ranges)
    ground = by * 0.6 + leg
    width = u(0.09, 0.13)
    for x, tone in ((-0.62, 2), (0.6, 2), (-0.8, 0), (0.78, 0)):
        step = u(-0.06, 0.06)
        d.add(tone, limb(x * bx, by * 0.3, x * bx + step, ground, width * 1.2, width * 0.75))
    d.add(0, ellipse(0, 0, bx, by, u(-0.08, 0.04)))
    nx, ny = -bx * 0.72 - neck * np.cos(lean), -by * 0.3 - neck * np.sin(lean)
    d.add(0, limb(-bx * 0.68, -by * 0.1, nx, ny, by * 1.1, head[1] * 1.5))
    hx, hy = nx - head[0] * 0.5, ny + head[1] * 0.2
    d.add(0, ellipse(hx, hy, *head, u(-0.5, -0.2)))
    d.add(4, ellipse(hx - head[0] * 0.05, hy - head[1] * 0.25, 0.025, 0.025), detail=True)
    d.mark(nose=(hx - head[0] * 0.85, hy + head[1] * 0.45), head_top=(nx, ny - head[1] * 0.7))
    d.mark(neck_base=(-bx * 0.7, -by * 0.5), back=(0.0, -by), belly=(0.0, by), tail_base=(bx * 0.97, -by * 0.15))
    d.mark(front_hoof=(-bx * 0.8, ground), hind_hoof=(bx * 0.78, ground))
    return [bx, by, nx, ny, hx, hy]


def horse(d: Drawing, u: Uniform) -> None:
    bx, by, nx, ny, *_ = _walker(d, u, (0.21, 0.1), (0.55, 0.7), (0.36, 0.48), (0.7, 1.0), (0.5, 0.6), (0.22, 0.27))
    d.add(0, poly((nx, ny - 0.02), (nx + 0.05, ny - 0.2), (nx + 0.1, ny)))
    d.add(1, limb(nx + 0.1, ny - 0.03, -bx * 0.45, -by * 0.7, 0.08, 0.14))
    d.add(1, smooth((bx * 0.95, -0.1), (bx + 0.18, 0.05), (bx + u(0.14, 0.28), 0.5), (bx + 0.06, 0.15)))


def giraffe(d: Drawing, u: Uniform) -> None:
    bx, by, nx, ny, *_ = _walker(d, u, (0.17, 0.085), (0.6, 0.75), (0.8, 1.0), (1.05, 1.3), (0.4, 0.48), (0.2, 0.25))
    d.line(4, 0.035, *(poly((nx + x, ny - 0.05), (nx + x, ny - 0.17)) for x in (0.0, 0.07)))
    for t in 0.1 + 0.18 * np.arange(5):
        x, y = -bx * 0.7 * (1 - t) + nx * t, -by * 0.2 * (1 - t) + ny * t
        d.add(1, ellipse(x, y, 0.05, 0.06, n=7), detail=True)
    for x, y in ((-0.25, -0.05), (0.0, 0.06), (0.05, -0.12), (0.24, 0.0)):
        d.add(1, ellipse(x, y, u(0.06, 0.09), 0.06, u(0, 3), n=7), detail=True)
    d.line(4, 0.035, poly((bx * 0.95, -0.05), (bx + 0.08, 0.3)))


def cow(d: Drawing, u: Uniform) -> None:
    bx, by, nx, ny, *_ = _walker(d, u, (0.22, 0.15), (0.38, 0.48), (0.1, 0.18), (0.3, 0.6), (0.64, 0.74), (0.32, 0.38))
    for side, start, stop in ((-0.12, 0.5, 0.0), (0.06, 0.25, -0.25)):
        d.line(3, 0.05, arc(nx + side, ny - 0.14, 0.09, 0.12, start, stop)[:9])
    for x, y in ((-0.3, -0.1), (0.1, 0.05), (0.42, -0.12)):
        d.add(1, ellipse(x + u(-0.05, 0.05), y, u(0.1, 0.17), u(0.08, 0.13), u(0, 3), n=11), detail=True)
    d.line(2, 0.05, poly((bx * 0.97, -0.12), (bx + 0.1, 0.15), (bx + 0.08, 0.4)))
    d.add(3, ellipse(bx * 0.45, by * 1.0, 0.12, 0.09), detail=True)


def dog(d: Drawing, u: Uniform) -> None:
    bx, _, nx, ny, hx, hy = _walker(d, u, (0.22, 0.15), (0.36, 0.5), (0.14, 0.22), (0.6, 1.0), (0.5, 0.62), (0.2, 0.26))
    d.add(1, smooth((nx - 0.02, ny - 0.12), (nx + 0.1, ny - 0.1), (nx + 0.12, ny + u(0.1, 0.2)), (nx + 0.02, ny + 0.1)))
    d.add(4, ellipse(hx - 0.2, hy + 0.04, 0.045, 0.035), detail=True)
    up = u(0.25, 0.45)
    d.add(0, smooth((bx * 0.9, -0.15), (bx + 0.12, -up), (bx + 0.2, -up - 0.06), (bx, 0.0)))


def cat(d: Drawing, u: Uniform) -> None:
    wide, tall = u(0.4, 0.5), u(0.5, 0.6)
    side = 1 if u(0, 1) < 0.5 else -1
    d.add(2, smooth((side * 0.3, 0.75), (side * 0.75, 0.7), (side * 0.8, u(0.1, 0.3)), (side * 0.66, 0.6)))
    d.add(0, smooth((0, -0.15), (wide, 0.35), (wide * 0.9, 0.85), (-wide * 0.9, 0.85), (-wide, 0.35)))
    head = u(0.33, 0.4)
    for x in (-head, head):
        d.add(0, poly((x * 0.95, -0.5), (x * 0.85, -0.45 - head * 1.25), (x * 0.15, -0.45 - head * 0.8)))
    d.add(0, ellipse(0, -0.42, head * 1.1, head * 0.9))
    for sx in (-1, 1):
        d.add(3, ellipse(sx * head * 0.42, -0.48, 0.06, 0.075), detail=True)
        d.add(4, ellipse(sx * head * 0.42, -0.48, 0.03, 0.06), detail=True)
        d.line(4, 0.018, poly((sx * 0.08, -0.3), (sx * head * 1.3, -0.33 + u(-0.06, 0.06))), detail=True)
        d.add(3, ellipse(sx * wide * 0.42, 0.84, 0.13, 0.08))
    d.add(1, poly((-0.05, -0.36), (0.05, -0.36), (0, -0.3)), detail=True)
    d.add(3, ellipse(0, 0.4, wide * 0.45, tall * 0.5), detail=True)
    d.mark(left_right_ear=(head * 0.85, -0.45 - head * 1.2), left_right_eye=(head * 0.42, -0.48), nose=(0, -0.34))
    d.mark(chest=(0, 0.1), left_right_paw=(wide * 0.42, 0.86))


def rabbit(d: Drawing, u: Uniform) -> None:
    long, head = u(0.5, 0.65), u(0.25, 0.3)
    d.add(3, ellipse(0.62, 0.5, 0.14, 0.14))
    d.add(0, smooth((-0.3, 0.0), (0.15, -0.08), (0.58, 0.25), (0.6, 0.8), (-0.35, 0.82), (-0.42, 0.4)))
    for k, turn in enumerate((-0.25, u(0.0, 0.25))):
        x = -0.42 + 0.18 * k
        d.add(2 * (1 - k), ellipse(x + np.sin(turn) * long / 2, -0.35 - long / 2, 0.085, long / 2 + 0.05, turn))
        d.add(1, ellipse(x + np.sin(turn) * long / 2, -0.35 - long / 2, 0.04, long / 2 - 0.05, turn), detail=True)
    d.add(0, ellipse(-0.4, -0.15, head * 1.1, head))
    d.add(4, ellipse(-0.5, -0.2, 0.035, 0.05), detail=True)
    d.add(2, ellipse(0.25, 0.75, 0.3, 0.11), ellipse(-0.32, 0.8, 0.14, 0.08))
    d.mark(left_ear_tip=(-0.42 + np.sin(-0.25) * long, -0.35 - long), ear_base=(-0.33, -0.38), eye=(-0.5, -0.2))
    d.mark(nose=(-0.4 - head * 1.05, -0.1), front_paw=(-0.38, 0.84), hind_foot=(0.3, 0.84), back=(0.3, 0.02))
    d.mark(tail=(0.66, 0.5))


def duck(d: Drawing, u: Uniform) -> None:
    neck, head = u(0.35, 0.5), u(0.19, 0.24)
    d.add(0, smooth((-0.6, 0.1), (-0.2, 0.05), (0.5, 0.0), (0.92, u(-0.25, -0.1)), (0.6, 0.5), (0, 0.62), (-0.5, 0.45)))
    d.add(0, limb(-0.42, 0.3, -0.5, -neck, 0.36, 0.2))
    d.add(1, poly((-0.62, -neck - 0.12), (-0.98, -neck - 0.02), (-0.62, -neck + 0.06)))
    d.add(0, ellipse(-0.5, -neck - 0.08, head, head * 0.95))
    d.add(4, ellipse(-0.56, -neck - 0.14, 0.035, 0.035), detail=True)
    d.add(2, smooth((-0.2, 0.2), (0.3, 0.1), (0.62, 0.2), (0.2, 0.45)), detail=True)
    d.line(1, 0.06, *(poly((x, 0.6), (x, 0.82), (x - 0.14, 0.84)) for x in (-0.05, 0.15)))
    d.mark(beak=(-0.96, -neck - 0.02), eye=(-0.56, -neck - 0.14), head_top=(-0.5, -neck - 0.08 - head))
    d.mark(neck=(-0.46, -0.1), chest=(-0.58, 0.25), tail=(0.9, -0.18), belly=(0.1, 0.6), foot=(-0.1, 0.84))


def fish(d: Drawing, u: Uniform) -> None:
    tall, tail = u(0.34, 0.5), u(0.3, 0.42)
    d.add(1, poly((0.45, 0), (0.95, -tail), (0.82, 0), (0.95, tail)))
    d.add(1, smooth((-0.2, -tall * 0.8), (0.05, -tall - u(0.15, 0.28)), (0.35, -tall * 0.5)))
    d.add(1, smooth((-0.1, tall * 0.8), (0.08, tall + 0.15), (0.25, tall * 0.6)))
    d.add(0, smooth((-0.85, 0), (-0.35, -tall), (0.25, -tall * 0.75), (0.6, 0), (0.25, tall * 0.75), (-0.35, tall)))
    d.line(2, 0.035, arc(-0.62, 0, 0.22, tall * 0.85, -0.2, 0.2))
    d.add(3, ellipse(-0.6, -0.09, 0.07, 0.07), detail=True)
    d.add(4, ellipse(-0.6, -0.09, 0.035, 0.035), detail=True)
    d.line(2, 0.04, *(arc(-0.25 + 0.2 * k, 0, 0.1, tall * 0.5, -0.2, 0.2) for k in range(int(u(1, 4)))), detail=True)
    d.mark(mouth=(-0.84, 0.0), eye=(-0.6, -0.09), gill=(-0.4, 0.0), back_fin=(0.06, -tall - 0.16))
    d.mark(belly_fin=(0.08, tall + 0.12), tail_root=(0.52, 0.0), upper_tail=(0.93, -tail * 0.95))
    d.mark(lower_tail=(0.93, tail * 0.95))


def butterfly(d: Drawing, u: Uniform) -> None:
    wide, up, low = u(0.75, 0.92), u(0.6, 0.8), u(0.5, 0.65)
    for s, x in ((-1, -wide), (1, wide)):
        d.add(1, smooth((s * 0.05, 0.05), (x * 0.4, 0.1), (x * 0.75, low * 0.8), (s * 0.3, low)))
        d.add(0, smooth((s * 0.05, -0.1), (x * 0.6, -up), (x, -up * 0.9), (x * 0.8, 0.0)))
        d.add(3, ellipse(x * 0.66, -up * 0.55, 0.14, 0.12), ellipse(x * 0.45, low * 0.55, 0.09, 0.08), detail=True)
        d.line(4, 0.025, arc(s * 0.14, -0.4, 0.12, 0.25, 0.5 if s > 0 else 1.0, 0.75))
    d.add(4, ellipse(0, 0.05, 0.075, 0.45), ellipse(0, -0.42, 0.085, 0.085))
    d.mark(head=(0.0, -0.42), abdomen=(0.0, 0.46), left_right_wing_tip=(wide, -up * 0.9))
    d.mark(left_right_waist=(wide * 0.6, 0.04), left_right_lower_wing=(wide * 0.6, low * 0.95))


def turtle(d: Drawing, u: Uniform) -> None:
    high = u(0.45, 0.6)
    d.add(1, *(limb(x, 0.2, x - 0.08, 0.55, 0.2, 0.17) for x in (-0.4, 0.42)))
    d.add(1, poly((0.6, 0.2), (0.88, 0.32), (0.6, 0.32)), limb(-0.5, 0.15, -0.8, u(-0.15, 0.1), 0.2, 0.17))
    d.add(1, ellipse(-0.84, -0.02, 0.17, 0.13))
    d.add(4, ellipse(-0.88, -0.06, 0.03, 0.03), detail=True)
    d.add(0, np.concatenate([arc(0, 0.28, 0.68, high + 0.2, 0.5, 1.0), poly((0.68, 0.34), (-0.68, 0.34))]))
    d.add(2, *(ellipse(x, 0.0 + abs(x) * 0.25, 0.13, high * 0.26, n=6) for x in (-0.3, 0.0, 0.3)), detail=True)
    d.line(2, 0.04, poly((-0.66, 0.24), (0.66, 0.24)))
    d.mark(head=(-0.98, -0.02), eye=(-0.88, -0.06), neck=(-0.6, 0.14), shell_top=(0.0, 0.08 - high))
    d.mark(shell_front=(-0.66, 0.28), shell_back=(0.66, 0.28), front_foot=(-0.46, 0.54), hind_foot=(0.36, 0.54))


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
    d.add(3, poly(*symmetric((stem, 0.0), (stem * 1.3, 0.85))), ellipse(0, 0.85, stem * 1.3, 0.07))
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
