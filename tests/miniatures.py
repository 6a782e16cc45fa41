"""Miniatures of the published data sets: every class, a file or two each, in the real layout and with real names."""

import copy
import io
import json

from PIL import Image, ImageDraw

from sfhelpers.datasets import published
from sfhelpers.datasets.sketchy import RENDERING


def picture(kind):
    image = Image.new("RGB", (32, 32), "white")
    ImageDraw.Draw(image).line([(6, 6), (26, 12), (10, 26)], fill="black", width=3)
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


PICTURES = {"jpg": picture("JPEG"), "jpeg": picture("JPEG"), "png": picture("PNG")}
LINE = b'<path d="M9 9L700 600" stroke="black" stroke-width="30"/>'
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 800 800">%b</svg>' % LINE
PICTURES["svg"] = SVG


def put(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(PICTURES[name.rpartition(".")[2].lower()])


def lines(path, *content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(content) + "\n")


def sketchy(root, base="256x256"):
    for k, name in enumerate(published.classes("sketchy_all125")):
        put(root / base / "photo" / RENDERING / name, f"n00000001_{k}.jpg")
        put(root / base / "sketch" / RENDERING / name, f"n00000001_{k}-1.png")


def extended(root):
    sketchy(root)
    for k, name in enumerate(published.classes("sketchy_all125")):
        put(root / "EXTEND_image_sketchy" / name, f"n00000001_{k}.jpg", "ext_1.jpg")


def tuberlin(root, kind="png"):
    for k, name in enumerate(published.classes("tuberlin_all250"), 1):
        put(root / kind / name, f"{k}.{kind}")
    lines(root / kind / "filelist.txt", "airplane/1.png")


def tuberlin_extended(root):
    tuberlin(root)
    distributed = {
        r["tuberlin_class"]: r["photo_dir_as_distributed"] for r in published.table("tuberlin_ext_photo_dirnames.csv")
    }
    for name in published.classes("tuberlin_all250"):
        put(root / "ImageResized" / distributed.get(name, name), "n02691156_7.JPEG")


def quickdraw(root):
    for k, name in enumerate(published.classes("quickdraw_all345")):
        drawing = {"word": name, "key_id": str(k), "drawing": [[[0, 90, 5], [0, 3, 80 + k % 9]]]}
        lines(root / f"{name}.ndjson", json.dumps(drawing))


def quickdraw_extended(root):
    for k, name in enumerate(published.classes("quickdraw_ext_all110")):
        put(root / "QuickDraw_sketches_final" / name, f"{4503641325043712 + k}.png")
        put(root / "QuickDraw_images_final" / name, "image_00000.jpg")


def psc6k(root):
    sketchy(root / "Sketchy" / "rendered_256x256")
    points = ";".join(["8"] * 8)
    rows = [
        f"photo/{RENDERING}/{name}/n00000001_{k}.jpg,sketch/{RENDERING}/{name}/n00000001_{k}-1.png,1{f',{points}' * 4}"
        for k, name in enumerate(published.classes("sketchy_all125")[:2])
    ]
    lines(root / "PSC6K" / "test_pairs_ps.csv", "photo,sketch,class,XA,YA,XB,YB", *rows)


def shoev2(root, name="ShoeV2"):
    for part, stems in (("train", ("11", "12", "13")), ("test", ("21",))):
        put(root / f"{name}_photo", *(f"{stem}.png" for stem in stems))
        put(root / f"{name}_sketch", *(f"{stem}_{k}.png" for stem in stems for k in (1, 2)))
        lines(root / f"photo_{part}.txt", *(f"{stem}.png" for stem in stems))
        lines(root / f"sketch_{part}.txt", *(f"{stem}_{k}.svg" for stem in stems for k in (1, 2)))


def cduf(root):
    """The layout of CDUF: a folder for each individual."""
    for part, stems in (("train", ("11", "12", "13")), ("val", ("21",))):
        for stem in stems:
            put(root / part / "photo" / stem, f"{stem}.png")
            put(root / part / "sketch" / stem, f"{stem}_1.png", f"{stem}_2.png")


def fscoco(root):
    for user, stem in ((1, "000000000139"), (1, "000000000285"), (2, "000000000632")):
        put(root / "images" / str(user), f"{stem}.jpg")
        put(root / "raster_sketches" / str(user), f"{stem}.jpg")
    lines(root / "val_normal.txt", "000000000285")
    lines(root / "val_unseen_user.txt", "632")


def folder(root):
    put(root, "photo/cat/a.jpg", "photo/dog/b.jpg", "sketch/cat/s.png", "sketch/dog/t.png")


# Data set -> what makes it, and how many files of each name's pattern of each side, and of each class, it then has.
MADE = {
    "sketchy": (sketchy, {"photo": ([[125]], 1), "sketch": ([[125, 126]], None)}),
    "sketchy-extended": (extended, {"photo": ([[125], [125]], 2), "sketch": ([[125]], 1)}),
    "tuberlin": (tuberlin, {"sketch": ([[250]], 1)}),
    "tuberlin-extended": (tuberlin_extended, {"photo": ([[250]], None), "sketch": ([[250]], 1)}),
    "quickdraw": (quickdraw, {}),
    "quickdraw-extended": (quickdraw_extended, {"photo": ([[110]], 1), "sketch": ([[110]], 1)}),
    "psc6k": (psc6k, {}),
    "shoev2": (shoev2, {"photo": ([[4]], None), "sketch": ([[8, 9]], None)}),
    "chairv2": (lambda root: shoev2(root, "ChairV2"), {"photo": ([[4]], None), "sketch": ([[8]], None)}),
    "fscoco": (fscoco, {"photo": ([[3]], None), "sketch": ([[3]], None)}),
    "folder": (folder, {}),
}


def shrink(name, monkeypatch):
    """Let the table say of a data set what its miniature has."""
    entry = copy.deepcopy(published.DATASETS[name])
    for domain, (counts, each) in MADE[name][1].items():
        side = entry["sides"][domain]
        side["names"] = dict(zip(side["names"], counts, strict=True))
        side.pop("each", None)
        side |= {"each": each} if each else {}
        side |= {"ids": 1} if "ids" in side else {}
    if name in ("shoev2", "chairv2"):
        lengths = ([3], [1], [6], [2])
        entry["lists"] = dict(zip(entry["lists"], lengths, strict=True))
    entry |= {"pairs": 2, "photos": 2} if name == "psc6k" else {}
    monkeypatch.setitem(published.DATASETS, name, entry)


def make(name, root, monkeypatch):
    shrink(name, monkeypatch)
    MADE[name][0](root)
    return root
