"""The doctor: silent and content with every healthy data set, and every trap of the published layouts told."""

import re
import shutil

import pytest

from sfhelpers.datasets import published
from sfhelpers.datasets.__main__ import main
from sfhelpers.datasets.sketchy import RENDERING
from tests import miniatures
from tests.miniatures import MADE, lines, put

TX = f"256x256/photo/{RENDERING}"
SK = f"256x256/sketch/{RENDERING}"
EXT = "EXTEND_image_sketchy"
QS, QI = "QuickDraw_sketches_final", "QuickDraw_images_final"
BEE = "bee/n00000001_10"
PSC = "PSC6K/test_pairs_ps.csv"


def move(old, new):
    return lambda root: shutil.move(root / old, root / new)


def gone(name):
    return lambda root: shutil.rmtree(root / name) if (root / name).is_dir() else (root / name).unlink()


def wrote(name, *content):
    return lambda root: lines(root / name, *content)


def drawn(*names):
    return lambda root: put(root, *names)


def copied(old, new):
    return lambda root: shutil.copytree(root / old, root / new)


def emptied(name):
    return lambda root: (root / name).write_bytes(b"")


def every(*changes):
    return lambda root: [change(root) for change in changes]


def replaced(name, old, new):
    return lambda root: (root / name).write_text((root / name).read_text().replace(old, new))


def cut(name):
    return lambda root: lines(root / name, *(root / name).read_text().splitlines()[:-1])


HEALTHY = {  # what looks odd and is not
    "renamed as sem-pcyc does": ("sketchy", move(f"{TX}/hot-air_balloon", f"{TX}/hot_air_balloon")),
    "another published count": ("sketchy", drawn(f"{SK}/apple/n00000001_4-20.png")),
    "what systems leave": ("sketchy", every(wrote(f"{TX}/.DS_Store", "x"), wrote(f"{TX}/ant/Thumbs.db", "x"))),
    "invalid sketches": ("sketchy", wrote("info/invalid-error.txt", "n00000001_4-1", "n00000001_5-1")),
    "as published": ("sketchy", every(copied("256x256", "Sketchy/rendered_256x256/256x256"), gone("256x256"))),
    "upper and lower case": ("sketchy", move("256x256/photo", "256x256/Photo")),
    "folders renamed as by ZSE": (
        "sketchy-extended", every(move(EXT, f"{EXT}_ready"), move(SK, f"{SK}_ready"))
    ),
    "underscores": ("tuberlin", move("png/bear (animal)", "png/bear_(animal)")),
    "SVG": ("tuberlin", every(gone("png"), lambda root: miniatures.tuberlin(root, "svg"))),
    "folders as the sketches'": ("tuberlin-extended", move("ImageResized/griaffe", "ImageResized/giraffe")),
    "mice apart": ("tuberlin-extended", move("ImageResized/mouse", "ImageResized/mouse (animal)")),
    "as a browser saves": ("quickdraw", move("cat.ndjson", "full_simplified_cat.ndjson")),
    "as Google's bucket": ("quickdraw", every(lambda root: shutil.copytree(root, root.parent / "b/full/simplified"))),
    "misspelt tower": ("quickdraw-extended", move(f"{QI}/eiffel tower", f"{QI}/effiel_tower")),
    "palm_tree": ("quickdraw-extended", move(f"{QS}/palm tree", f"{QS}/palm_tree")),
    "folders named otherwise": ("quickdraw-extended", move(QS, "QuickDraw_sketches")),
    "keypoints in the tree": ("psc6k", move(PSC, "Sketchy/rendered_256x256/test_pairs_ps.csv")),
    "one sketch more": ("shoev2", drawn("ShoeV2_sketch/11_3.png")),
    "sketches as PNG beside SVG": ("shoev2", copied("ShoeV2_sketch", "ShoeV2_sketch_png")),
    "a folder an individual": (
        "shoev2", every(*map(gone, ("ShoeV2_photo", "ShoeV2_sketch", "photo_test.txt")), miniatures.cduf)
    ),
    "composed letters": ("folder", every(drawn("photo/caf\u00e9/a.jpg", "sketch/cafe\u0301/a.png"))),
}  # fmt: skip
TRAPS = {  # what is wrong -> the words of its sentence
    "another rendering": ("sketchy", move(SK, "256x256/sketch/tx_000000000000"), "no sketches .*tx_000000000000/"),
    "not unpacked": ("sketchy", every(gone("256x256"), wrote("256.7z", "7z")), r"no photos .*256\.7z is there"),
    "two spellings": ("sketchy", copied(f"{TX}/teddy_bear", f"{TX}/teddy-bear"), "two folders of one class: teddy"),
    "no class": ("sketchy", gone(f"{TX}/apple"), "1 missing, 124 of 125.*1 classes have no photo: apple"),
    "a class too many": ("sketchy", drawn(f"{TX}/unicorn/n00000001_1.jpg"), r"photo classes, .*: unicorn\.$"),
    "a photo too few": ("sketchy", gone(f"{TX}/{BEE}.jpg"), f"sketches without their photo: {BEE}-1.png"),
    "a photo too many": ("sketchy", drawn(f"{TX}/{BEE}0.jpg"), "1 surplus, 126.*bee 2 of 1"),
    "another name": ("sketchy", move(f"{SK}/{BEE}-1.png", f"{SK}/bee/x.png"), "named otherwise: bee/x.png"),
    "an empty file": ("sketchy", emptied(f"{TX}/ant/n00000001_2.jpg"), "empty files: ant/n00000001_2.jpg"),
    "a link": ("sketchy", lambda root: (root / TX / "ant/l.jpg").symlink_to("none"), r"links that.*: ant/l\.jpg"),
    "no sketches at all": ("sketchy", gone("256x256/sketch"), "no sketches .*ask where it is kept"),
    "no originals": (
        "sketchy-extended", lambda root: [p.unlink() for p in (root / EXT).rglob("n*.jpg")], "125 missing, 0 of 125"
    ),
    "a class cut short": ("sketchy-extended", gone(f"{EXT}/sword/ext_1.jpg"), "sword 1 of 2"),
    "a sketch elsewhere": ("tuberlin", move("png/alarm clock/2.png", "png/angel/2.png"), "another class: angel/2.png"),
    "another test set": ("sketchy", wrote("info/testset.txt", "ant/n00000001_2.jpg"), "1,249 missing, 1 of 1,250"),
    "a stray class": ("tuberlin-extended", drawn("ImageResized/unicorn/n1_1.JPEG"), "surplus photo classes.*unicorn"),
    "no misspelt class": ("tuberlin-extended", gone("ImageResized/tromobone"), "no photo: trombone"),
    "no category": ("quickdraw", gone("cat.ndjson"), "1 categories have no file: cat"),
    "a stray category": ("quickdraw", wrote("unicorn.ndjson", '{"drawing": []}'), "no category that there is: unicorn"),
    "bitmaps": ("quickdraw", wrote("cat.npy", "x"), r"none of the formats ndjson, bin and npz.*: cat\.npy"),
    "a cut line": ("quickdraw", wrote("cat.ndjson", '{"word": "cat", "dra'), r"cannot be used.*: cat\.ndjson line 1"),
    "another word": ("quickdraw", replaced("cat.ndjson", '"cat"', '"dog"'), r"another category: cat\..* line 1 of dog"),
    "a script": ("quickdraw-extended", wrote(f"{QI}/cactus/s.sh", "x"), r"no images: cactus/s\.sh"),
    "a stray label": ("quickdraw-extended", wrote(f"{QS}/class_labels.txt", "x"), "or files in none: class_labels.txt"),
    "no sketch folder": ("quickdraw-extended", move(QS, "train"), "no sketches .*train/"),
    "no keypoints": ("psc6k", gone("PSC6K"), r"no keypoints beside .*ask where it is kept"),
    "the other table": ("psc6k", replaced(PSC, "photo,sketch", "source_image,target_image"), "no column"),
    "a pair too few": ("psc6k", cut(PSC), "pairs: 1 missing, 1 of 2.*photos: 1 missing"),
    "an image that is not there": ("psc6k", gone(f"Sketchy/rendered_256x256/{SK}/airplane"), "line 2 .*names"),
    "a pickle": ("shoev2", wrote("ShoeV2_Coordinate", "x"), "pickles, .*: ShoeV2_Coordinate"),
    "trained on and tested": ("shoev2", wrote("photo_train.txt", "11.png", "12.png", "21.png"), "both name 21"),
    "a short list": ("shoev2", wrote("photo_train.txt", "11.png"), r"list photo_train\.txt: 2 missing, 1 of 3"),
    "no list": ("chairv2", gone("photo_test.txt"), r"no list .* expected photo_test\.txt"),
    "no photo folder": ("chairv2", gone("ChairV2_photo"), "no photos .*ask where it is kept"),
    "no shoe": ("chairv2", gone("ChairV2_photo/21.png"), "1 missing, 3 of 4.*without their photo: .*21_1"),
    "no scene": ("fscoco", gone("images/2"), "1 missing, 2 of 3"),
    "classes that do not meet": ("folder", move("sketch/dog", "sketch/Dogs"), "no photo: Dogs.*no sketch: dog"),
}  # fmt: skip


def diagnosed(capsys, *arguments):
    code = main(["doctor", *map(str, arguments)])
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.mark.parametrize("name", MADE)
def test_a_healthy_data_set_is_counted_and_nothing_is_complained_of(name, tmp_path, monkeypatch, capsys):
    root = miniatures.make(name, tmp_path / "root", monkeypatch)
    code, told, complaints = diagnosed(capsys, name, root, "--every")
    assert (code, complaints) == (0, ""), complaints
    assert published.DATASETS[name]["title"] in told and "licence " in told and "split " in told
    for domain, (counts, _) in MADE[name][1].items():
        assert f"{domain:<8} {counts[0][0]:,}" in told


@pytest.mark.parametrize("odd", HEALTHY)
def test_what_looks_odd_and_is_published_so_is_no_complaint(odd, tmp_path, monkeypatch, capsys):
    name, change = HEALTHY[odd]
    root = miniatures.make(name, tmp_path / "root", monkeypatch)
    change(root)
    root = root.parent / "b" if (root.parent / "b").exists() else root
    assert diagnosed(capsys, name, root)[::2] == (0, "")


@pytest.mark.parametrize("trap", TRAPS)
def test_every_trap_is_told_in_a_sentence_and_ends_with_1(trap, tmp_path, monkeypatch, capsys):
    name, change, words = TRAPS[trap]
    root = miniatures.make(name, tmp_path / "root", monkeypatch)
    change(root)
    code, _, complaints = diagnosed(capsys, name, root)
    assert code == 1
    assert re.search(words, complaints, re.DOTALL), complaints
    assert all(line.startswith("problem: ") and line.endswith(".") for line in complaints.splitlines())
