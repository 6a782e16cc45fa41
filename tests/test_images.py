import io
import struct
import threading
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageColor, ImageDraw

from sfhelpers.images import Square, as_seen, image_size, load_images, open_image, open_mask, problem
from tests.backbone_fixtures import refused

NOISE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def png_header(width, height):
    """The first bytes of a PNG that announces a size and brings no pixels."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"\0" * 100)
    parts = [struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in (chunk, data)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def exif(orientation, tag, kind, count, value):
    """EXIF that holds the orientation and one tag more, which need not make sense."""
    entries = sorted([(0x0112, 3, 1, struct.pack("<HH", orientation, 0)), (tag, kind, count, value)])
    packed = b"".join(struct.pack("<HHI", *entry[:3]) + entry[3] for entry in entries)
    return b"Exif\0\0II*\0\x08\0\0\0\x02\0" + packed + bytes(4) + struct.pack("<ii", -1, 0)


def test_of_exif_the_orientation_alone_counts_and_the_size_is_known_from_the_header(tmp_path):
    rng = np.random.default_rng(0)
    odd = [(0x011A, 5, 1, struct.pack("<I", 38))]  # a resolution of -1/0
    for number in rng.integers(0, 2**32, (60, 4)).tolist():
        tag = (0x011A, 0x0131, 0x0132, 0x8769, 0x8825, 0x9286)[number[0] % 6]
        odd.append((tag, number[1] % 14, (0, 1, 9, 2**31)[number[2] % 4], struct.pack("<I", number[3])))
    for kind in ("JPEG", "PNG", "WEBP", "TIFF"):
        for k, tags in enumerate(odd if kind != "TIFF" else odd[:8]):
            known = Image.Exif()
            known[0x0112] = k % 8 + 1
            given = known if kind == "TIFF" else exif(k % 8 + 1, *tags)
            Image.fromarray(NOISE).save(tmp_path / "x", kind, exif=given)
            Image.fromarray(NOISE).save(tmp_path / "plain", kind)
            plain, seen = np.asarray(open_image(tmp_path / "plain")), open_image(tmp_path / "x")
            ways = [plain, plain[:, ::-1], plain[::-1, ::-1], plain[::-1]]
            expected = [*ways, *(ways[n].transpose(1, 0, 2) for n in (0, 3, 2, 1))][k % 8]
            assert np.array_equal(seen, expected) and np.array_equal(as_seen(seen), expected), (kind, k % 8 + 1, tags)
            assert image_size(tmp_path / "x") == seen.size and problem(tmp_path / "x") == ""


def in_palette(index, colours):
    image = Image.frombytes("P", index.shape[::-1], index.astype(np.uint8).tobytes())
    image.putpalette(np.asarray(colours, np.uint8).tobytes())
    return image


def drawn(mode, colour, pixels=()):
    image = Image.new(mode, (16, 16), colour)
    for place, value in dict(pixels).items():
        image.putpixel(place, value)
    return image


BLACK, WHITE = (0, 0, 0), (255, 255, 255)
IN_PALETTE = in_palette(np.pad([[0]], (2, 13), constant_values=1), [BLACK, (10, 200, 30)])
CLEAR = drawn("RGBA", (0, 0, 0, 0), {(3, 3): (200, 0, 0, 255), (4, 4): (0, 0, 0, 128)})
DEEP = drawn("I;16", 0, {(9, 9): 32896, (0, 0): 65535})  # 32896 is 128/255 of 65535


@pytest.mark.parametrize(
    ("name", "image", "how", "colours"),
    [
        ("clear.png", CLEAR, {}, {(0, 0): WHITE, (3, 3): (200, 0, 0), (4, 4): (127, 127, 127)}),
        ("grey.png", drawn("L", 90), {}, {(5, 5): (90, 90, 90)}),
        ("clear_grey.png", drawn("LA", (90, 0)), {}, {(5, 5): WHITE}),
        ("palette.png", IN_PALETTE, {}, {(2, 2): BLACK}),
        ("clear_palette.png", IN_PALETTE, {"transparency": 0}, {(2, 2): WHITE, (5, 5): (10, 200, 30)}),
        *((f"deep.{kind}", DEEP, {}, {(1, 1): BLACK, (9, 9): (128,) * 3, (0, 0): WHITE}) for kind in ("png", "tif")),
        ("print.jpg", drawn("CMYK", (0, 255, 255, 0)), {"quality": 100}, {(8, 8): (255, 0, 0)}),
    ],
)
def test_transparency_is_white_or_mixes_deep_grey_is_scaled_and_cmyk_is_kept(tmp_path, name, image, how, colours):
    image.save(tmp_path / name, **how)
    seen = open_image(tmp_path / name)
    assert problem(tmp_path / name) == "" and image_size(tmp_path / name) == seen.size
    assert how or np.array_equal(seen, as_seen(image)), "an open image is seen as its file is"
    for place, colour in colours.items():
        assert np.abs(np.subtract(seen.getpixel(place), colour)).max() <= 4 * (name == "print.jpg")


@pytest.mark.parametrize("begins", [b"zTXtk\0\0", b"iTXtk\0\1\0\0\0"])
def test_long_words_in_a_png_do_not_matter(tmp_path, begins):
    part = begins + zlib.compress(bytes(2_000_000))
    chunk = struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part))
    for place in (33, len(PNG) - 12):
        (tmp_path / "x.png").write_bytes(PNG[:place] + chunk + PNG[place:])
        assert np.array_equal(open_image(tmp_path / "x.png"), NOISE)


@pytest.mark.parametrize("name", ["Ünïcode 猫.png", "really_a_png.jpg"])
def test_a_name_need_not_be_ascii_nor_its_extension_true(tmp_path, name):
    (tmp_path / name).write_bytes(PNG)
    assert np.array_equal(open_image(tmp_path / name), NOISE)


def saved(image, kind):
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


PNG, JPEG = (saved(Image.fromarray(NOISE), kind) for kind in ("PNG", "JPEG"))
HALF = len(PNG) // 2


UNUSABLE = [
    (b"", "empty"),
    (b"these are words, not pixels", "not an image"),
    (png_header(60_000, 60_000), "250 megapixels"),
    (png_header(20_000, 13_000), "20000 x 13000"),
    (png_header(1, 500), "1 x 500"),
    *((whole[: len(whole) * 9 // 10], "truncated") for whole in (PNG, JPEG)),
    (PNG[: len(PNG) // 5], "truncated"),
    (JPEG[: len(JPEG) // 5], "not an image"),
    (PNG[:HALF] + bytes([PNG[HALF] ^ 255]) + PNG[HALF + 1 :], "damaged"),
    (saved(Image.new("F", (16, 16), 0.5), "TIFF"), "mode F"),
]


@pytest.mark.parametrize(("content", "words"), UNUSABLE, ids=range(len(UNUSABLE)))
def test_unusable_file_gives_one_sentence(tmp_path, content, words):
    path = tmp_path / "x.png"
    path.write_bytes(content)
    with refused(f"{path} .*{words}"):
        open_image(path)
    assert words in problem(path)


def shape(seed):
    """A disc or a square in (120, 160) bool, a border around it, and dice."""
    rng = np.random.default_rng(seed)
    y, x = np.abs(np.mgrid[:120, :160] - rng.integers(45, 76, (2, 1, 1)))
    far, radius = np.hypot(y, x) if seed % 2 else np.maximum(y, x), rng.integers(12, 36)
    return far < radius, (far >= radius) & (far < radius + rng.integers(3, 9)), rng


@pytest.mark.parametrize("seed", range(8))
def test_a_mask_may_have_any_high_value_be_soft_lossy_cut_out_or_a_palette_in_which_255_is_ignored(tmp_path, seed):
    true, border, rng = shape(seed)
    hard, voc, ramp = Image.fromarray(true).convert("L"), rng.integers(1, 256, (256, 3)), np.arange(256)[:, None]
    soft, red = hard.resize((40, 30), 2).resize((160, 120), 2), Image.new("RGB", (160, 120), (200, seed, 20))
    paper = Image.new("RGB", (160, 120))
    label, voc[0] = rng.integers(1, 255), 0
    good = {f"{quality}.jpg": soft for quality in (40, 75, 95)} | {f"{quality}.webp": hard for quality in (50, 90)}
    good |= {"soft.png": soft, "soft.gif": soft, "red.png": Image.composite(red, paper, soft)}
    good |= {"red.gif": Image.composite(red, paper, hard)}
    good |= {"voc.png": in_palette(label * true + 255 * border, voc), "one.png": in_palette(label * true, voc)}
    good |= {"ignored.png": in_palette(true + 255 * border, np.repeat(ramp, 3, 1))}
    good |= {"reversed.png": in_palette(255 - np.asarray(soft), np.repeat(255 - ramp, 3, 1))}
    exact = [Image.fromarray((true * high).astype(kind)) for kind, high in (("u1", 1), ("u1", 128), ("u2", 1))]
    exact += [Image.composite(red, paper, hard), Image.new("RGBA", (160, 120))]
    exact[-1].putalpha(hard)
    for image, mask in [*((image, true) for image in exact), (drawn("L", 0), False), (drawn("L", 255), True)]:
        image.save(tmp_path / "exact.png")
        found = open_mask(tmp_path / "exact.png")
        assert found.dtype == bool and (found == mask).all()
    margin = Image.fromarray(np.dstack([hard, np.where(np.arange(160) < 150, 255, [[0]] * 120).astype(np.uint8)]))
    good |= {"margin.png": margin, "margin.webp": margin}
    for name, image in good.items():
        image.save(tmp_path / name, **({"quality": int(name.split(".")[0])} if name[0].isdigit() else {}))
        mask = open_mask(tmp_path / name)
        assert (mask & true).sum() > 0.88 * (mask | true).sum() and problem(tmp_path / name, "mask") == "", name


@pytest.mark.parametrize("seed", range(8))
def test_a_map_of_several_labels_is_refused_with_its_values_and_no_mask_is_turned_inside_out(tmp_path, seed):
    true, border, rng = shape(seed)
    few = np.array([(2, 1, 3), (1, 2, 3), (0, 1, 255), (0, 1, 2), (0, 255, 100), (2, 1, 2), (0, 40, 80)][seed % 7])
    labels, voc = few[true + 2 * border], rng.integers(0, 256, (256, 3))
    colours = np.array([(0, 0, 0), (128, 0, 0), (0, 128, 0)], np.uint8)
    maps = [(Image.fromarray(labels.astype(kind)), ", ".join(map(str, np.unique(few)))) for kind in ("u1", "u2")]
    maps += [(in_palette(true + 2 * border, voc), "0, 1, 2"), (Image.fromarray(colours[true + 2 * border]), "#800000")]
    maps += [(Image.fromarray(np.where(true[..., None], (255, 0, 0), 255).astype(np.uint8)), "#ff0000")]
    maps += [(Image.fromarray(np.kron(rng.integers(0, 90, (12, 16)), np.ones((10, 10))).astype(np.uint8)), ", ...")]
    maps += [(Image.fromarray(rng.integers(0, 256, (120, 160, 3), dtype=np.uint8)), ", ...")]
    for image, named in maps:
        image.save(tmp_path / "labels.png")
        with refused(f"labels.png has \\d+ values .*{named}.*, but a mask has a dark one"):
            open_mask(tmp_path / "labels.png")


@pytest.mark.parametrize("ink", ["white", "#f0f0e0", "#dddddd", "yellow", "black", "#404040", "red"])
@pytest.mark.parametrize("opaque", [255, 120])
def test_transparent_ink_of_any_colour_is_seen(tmp_path, ink, opaque):
    clear = Image.new("RGBA", (60, 60))
    ImageDraw.Draw(clear).rectangle((10, 10, 50, 50), outline=ImageColor.getrgb(ink) + (opaque,), width=2)
    ImageDraw.Draw(clear).line((20, 30, 40, 30), fill=(90, 0, 0, opaque), width=2)  # an accent
    clear.save(tmp_path / "ink.png")
    grey = np.asarray(open_image(tmp_path / "ink.png").convert("L")).astype(int)
    assert abs(grey[10, 30] - grey[0, 0]) >= 0.2 * opaque and problem(tmp_path / "ink.png", "sketch") == ""


def test_many_images_are_read_by_several_threads_in_their_order_with_the_bits_of_one_by_one(tmp_path, monkeypatch):
    rng, paths, threads = np.random.default_rng(0), [], set()
    for k in range(40):
        image = Image.fromarray(rng.integers(0, 256, (20 + k, 60, 3), dtype=np.uint8))
        paths.append(tmp_path / f"{k}.{('png', 'jpg', 'webp')[k % 3]}")
        image.save(paths[-1], exif=exif(1 + k % 8, 0x011A, 5, 1, struct.pack("<I", 38)))  # which Pillow warns of
    alone = [Square.of(*image.size, 32).image(image) for image in map(open_image, paths)]
    monkeypatch.setattr("sfhelpers.images.READERS", 4)
    monkeypatch.setattr("sfhelpers.images.open_image", lambda p: threads.add(threading.get_ident()) or open_image(p))
    before = list(warnings.filters)
    for _ in range(5):
        assert torch.equal(load_images(paths, 32), torch.stack(alone))
    assert len(threads) > 1 and threading.get_ident() not in threads and warnings.filters == before
    paths[7].write_bytes(b"")
    paths[30].unlink()
    with refused("7.jpg is empty"):  # the first of the two
        load_images(paths, 32)


def test_load_images_gives_a_batch_in_the_unit_range_of_none_an_empty_one_and_refuses_a_single_path(tmp_path):
    for name, width in (("a.png", 60), ("b.png", 24)):
        Image.fromarray(NOISE[:, :width]).save(tmp_path / name)
    batch = load_images([tmp_path / "a.png", tmp_path / "b.png"], 32)
    assert batch.shape == (2, 3, 32, 32) and batch.dtype == torch.float32 and 0 <= batch.min() <= batch.max() <= 1
    assert load_images([], 32).shape == (0, 3, 32, 32)
    for path in ("a.png", tmp_path / "a.png"):
        with refused(r"a\.png alone: put it into a list\.$", TypeError):
            load_images(path, 32)
    with refused(f"there is no image {tmp_path / 'none.png'}: check the path", FileNotFoundError):
        load_images([tmp_path / "none.png"], 32)


def test_an_image_that_fits_is_not_touched_and_padding_takes_the_border_colour():
    square = Square.of(40, 40, 40).image(Image.fromarray(NOISE[:, :40]))
    assert torch.equal((square * 255).round().byte(), torch.from_numpy(NOISE[:, :40].copy()).permute(2, 0, 1))
    paper = Image.new("RGB", (40, 20), "white")
    paper.paste("black", (10, 5, 30, 15))
    wall = Image.new("RGB", (20, 40), (51, 102, 153))
    assert (Square.of(40, 20, 40).image(paper)[:, :9] == 1).all()
    padding = Square.of(20, 40, 40).image(wall)[:, :, :9]
    assert torch.allclose(padding, torch.tensor([0.2, 0.4, 0.6])[:, None, None])


@pytest.mark.parametrize(("width", "height"), [(50, 30), (31, 77), (64, 64), (8, 4000), (20, 16)])
def test_masks_and_images_move_together_and_a_map_comes_back(width, height):
    square = Square.of(width, height, 64)
    mask = np.zeros((height, width), dtype=bool)
    mask[height // 4 : height // 2, width // 4 : 3 * width // 4] = True
    image = Image.fromarray(~mask * np.uint8(255)).convert("RGB")
    moved = square.mask(mask)
    assert (square.image(image)[0] < 0.5).logical_xor(moved).float().mean() < 0.02
    corners = torch.tensor([[width // 4, height // 4], [3 * width // 4, height // 2]], dtype=torch.float32)
    scale = torch.tensor(square.inner) / torch.tensor([width, height])
    (left, top), (right, bottom) = corners * scale + torch.tensor(square.corner)
    rows, columns = torch.nonzero(moved, as_tuple=True)
    found = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    assert (found - torch.stack([left, top, right, bottom])).abs().max() <= 0.5
    back = square.undo_map(moved.float())
    assert back.shape == mask.shape
    assert ((back > 0.5) == mask).mean() > 0.97 or height == 4000  # there, one pixel holds all columns


def test_square_refuses_what_it_was_not_made_for():
    square = Square.of(40, 20, 32)
    for call in (
        lambda: square.image(Image.new("RGB", (20, 40))),
        lambda: square.mask(np.zeros((40, 20), bool)),
        lambda: square.undo_map(torch.zeros(31, 32)),
        lambda: Square.of(0, 20, 32),
    ):
        with pytest.raises(ValueError):
            call()
