"""Image files to tensors: opening what people really have, and one transform that masks follow."""

import os
import threading
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image, ImageFilter, ImageOps, PngImagePlugin
from torch import Tensor

from sfhelpers.files import reading, shown

EXTENSIONS = (".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp")
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP")  # nothing that starts another program, as EPS would
MIN_SIDE = 8  # pixels
MAX_PIXELS = 250_000_000  # a phone's photo has 202 million at most
Image.MAX_IMAGE_PIXELS = MAX_PIXELS  # else PIL refuses 179 million by itself
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = MAX_PIXELS  # bytes of words that nobody reads
GREY16 = "I"  # how PIL's modes of 16-bit grey begin, "I" and "I;16", whatever their bytes' order
TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # EXIF's orientation to PIL's Transpose; 5 to 8 exchange the sides
READERS = min(4, os.cpu_count() or 1)  # images that are read together; a phone's photo takes 600 MB
QUIET = threading.Lock()  # what is warned of is one setting for all threads
FEW = 16  # values; in a mask with more of them, as in a lossy file, those near an end are taken for it
FAINTEST = 0.12  # difference of lightness from the paper, below which nothing counts as a line
THIN = 0.08  # of a side, a frame's width at most
SMALLEST = 0.03  # of the image's longer side; less is a dot
LARGEST = 1024  # px, the longer side of a sketch as it is framed


def open_image(path: str | Path) -> Image.Image:
    """Open an image (of an animation the first frame) as `as_seen`. FileNotFoundError without it; ValueError if it
    is empty, truncated, not one of FORMATS, has a side shorter than 8 pixels, or more than 250 megapixels."""
    return as_seen(_told(_read, path))


def as_seen(image: Image.Image) -> Image.Image:
    """An open image as a person sees it: turned as EXIF says, 8-bit RGB, transparency over white, or over black where
    on white hardly anything would be seen."""
    image = _upright(image)
    if image.mode.startswith(GREY16):  # PIL would clip it to 255, not scale it
        image = Image.fromarray(np.round(np.clip(np.asarray(image), 0, 65535) / 257).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        solid = Image.fromarray((alpha := np.asarray(image)[..., 3]) >= alpha.max() / 2)  # not the soft edges
        lines = np.mean(solid.crop(solid.getbbox())) < 0.5  # else an area, on which a few dark pixels are the drawing
        papers = (Image.new("RGBA", image.size, paper) for paper in ("white", "black"))
        image, dark = (Image.alpha_composite(paper, image) for paper in papers)
        light = 255 - np.asarray(image.convert("L")) < np.minimum(64, dark.convert("L"))
        inner = np.asarray(solid.convert("L").filter(ImageFilter.MinFilter(3)), bool)
        if light[np.asarray(solid) & ~(inner & lines)].mean() >= (0.5 if lines else 1):
            image = dark  # light ink, as programs in dark mode export it
    image = image.convert("RGB")
    image.info = {}  # or EXIF would turn it again
    return image


def open_mask(path: str | Path) -> np.ndarray:
    """Open a mask as an (H, W) bool array, True on the object: what is opaque if a part is transparent, else one bright
    colour on a dark one (0/1, 0/255, 16 bits, red on black), its edges soft or not; a palette's colours are its indices
    but 255, which is ignored, unless they are greys or lie on black. Errors as `open_image`, also for more labels."""
    return _told(_mask, path)


def image_size(path: str | Path) -> tuple[int, int]:
    """(width, height) of what `open_image` gives, from the header alone. Errors as it, but for truncation."""
    with _told(_header, path) as image:
        return image.size[::-1] if _orientation(image) > 4 else image.size


def problem(path: str | Path, kind: str = "photo") -> str:
    """What is wrong with a "photo", "mask" or "sketch" in a few words, "" if it can be used. Decodes the whole file."""
    try:
        image = _mask(path) if kind == "mask" else _read(path)
        if kind == "sketch":
            find_ink(as_seen(image))
    except (ValueError, OSError) as error:
        return f"cannot be read ({error.strerror})" if isinstance(error, OSError) else str(error).split(":")[0]
    return ""


def load_images(paths: Sequence[str | Path], size: int) -> Tensor:
    """Load image files padded to squares, (B, 3, size, size) in [0, 1]. Errors as `open_image`."""
    if isinstance(paths, str | Path):
        raise TypeError(f"load_images takes a list of paths, but got {shown(paths)} alone: put it into a list.")

    def read(path: str | Path) -> Tensor:
        image = open_image(path)
        return Square.of(*image.size, size).image(image)[None]

    with ThreadPoolExecutor(READERS) as readers:  # Pillow lets go of Python's lock where it takes long
        return torch.cat([torch.zeros(0, 3, size, size), *readers.map(read, paths)])


def find_ink(image: Image.Image, said: str = "") -> tuple[Image.Image, np.ndarray, tuple[int, ...], np.ndarray]:
    """A sketch as seen, 1024 px at most, without a frame, dark on light; its ink, (H, W) bool, and the box around it;
    the paper's RGB in [0, 1]. ValueError, which begins with `said`, for no line or only a dot."""
    image.thumbnail((LARGEST, LARGEST))
    image = _unframed(image)
    pixels = np.asarray(image, dtype=np.float32) / 255
    paper = np.median(np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]), axis=0)
    difference = np.abs(pixels - paper).mean(axis=2)
    if difference.max() < FAINTEST:
        raise ValueError(f"{said}has no line: draw something first.")
    ink = difference > difference.max() / 2
    if paper.mean() < min(0.5, pixels[ink].mean()):  # light lines on a dark page ask as dark ones on a light page
        image, paper = ImageOps.invert(image), 1 - paper
    left, top, right, bottom = box = Image.fromarray(ink).getbbox()
    if max(right - left, bottom - top) < SMALLEST * max(image.size):
        raise ValueError(f"{said}is a single dot: draw a little more.")
    return image, ink, box, paper


@dataclass(frozen=True)
class Square:
    """Fits images and masks of `width` x `height` into a square of `size` pixels, all alike: scaled as a whole,
    centred, padded. Make it with `Square.of`."""

    width: int
    height: int
    size: int
    inner: tuple[int, int]  # width and height of the image in the square
    corner: tuple[int, int]  # its left and top there

    @classmethod
    def of(cls, width: int, height: int, size: int) -> "Square":
        """The transform for an image of `width` x `height` pixels. ValueError if one of the three is below 1."""
        if min(width, height, size) < 1:
            raise ValueError(f"cannot fit {width} x {height} pixels into a square of {size}: all must be 1 or more.")
        scale = size / max(width, height)
        inner = max(1, round(width * scale)), max(1, round(height * scale))
        return cls(width, height, size, inner, ((size - inner[0]) // 2, (size - inner[1]) // 2))

    def image(self, image: Image.Image) -> Tensor:
        """(3, size, size) in [0, 1]; padded with the median colour of the image's border (white for most sketches)."""
        if image.size != (self.width, self.height):
            raise ValueError(f"this Square is for {self.width} x {self.height} pixels, not {image.size}: make another.")
        # Scaled first and padded after: padding a long thin image at full size could take gigabytes.
        inner = image.convert("RGB").resize(self.inner, Image.Resampling.BICUBIC)
        pixels = np.asarray(inner)
        border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]).astype(np.float32) / 255
        square = np.empty((3, self.size, self.size), dtype=np.float32)
        square[:] = np.median(border, axis=0)[:, None, None]
        np.divide(pixels.transpose(2, 0, 1), 255, out=square[:, *self._inner], dtype=np.float32)
        return torch.from_numpy(square)

    def mask(self, mask: np.ndarray) -> Tensor:
        """(H, W) bool to (size, size) bool: True where the object covers half of the new pixel, False in padding."""
        if mask.shape != (self.height, self.width):
            raise ValueError(f"this Square is for masks of {self.height, self.width}, not {mask.shape}: make another.")
        grey = Image.fromarray(mask.astype(np.uint8) * 255).resize(self.inner, Image.Resampling.BOX)
        square = torch.zeros(self.size, self.size, dtype=torch.bool)
        square[self._inner] = torch.from_numpy(np.asarray(grey) > 127)
        return square

    def undo_map(self, values: Tensor) -> np.ndarray:
        """Bring a (size, size) map back to the image's own pixels: padding cropped, (height, width) float32."""
        if values.shape != (self.size, self.size):
            raise ValueError(f"the map must be {self.size} x {self.size}, not {tuple(values.shape)}: resize it first.")
        inner = values.detach().float().cpu()[None, None, *self._inner]
        size = (self.height, self.width)
        return F.interpolate(inner, size=size, mode="bilinear", align_corners=False, antialias=True)[0, 0].numpy()

    @property
    def _inner(self) -> tuple[slice, slice]:
        (left, top), (width, height) = self.corner, self.inner
        return slice(top, top + height), slice(left, left + width)


def _told(read: Callable, path: str | Path) -> Any:
    """What one of the readers below gives, its reason made a sentence."""
    try:
        with reading(Path(path)):
            return read(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no image {shown(path)}: check the path.") from None
    except ValueError as error:
        raise ValueError(f"{shown(path)} {error}: replace the file or take it away.") from error


def _read(path: str | Path) -> Image.Image:
    """Decode the file, in its own mode; ValueError with a reason that follows on the file's name."""
    with _header(path) as image:
        try:
            image.load()
        except Exception as error:  # decoders raise OSError, SyntaxError, struct.error and more on damaged bytes
            raise ValueError("is truncated or damaged") from error
        return image


def _orientation(image: Image.Image) -> int:
    """1 to 8, as EXIF has it; whatever else it holds, an image is shown, as browsers show it."""
    found = 1
    with suppress(Exception), QUIET, warnings.catch_warnings(action="ignore"):  # PIL raises many kinds on odd tags
        found = 1 if image.format == "TIFF" else image.getexif().get(0x0112)  # PIL turns a TIFF by itself
    return int(found) if found in range(1, 9) else 1


def _upright(image: Image.Image) -> Image.Image:
    turn = TURNS.get(_orientation(image))
    return image if turn is None else image.transpose(turn)


def _mask(path: str | Path) -> np.ndarray:
    opened = _read(path)
    image, lossy = _upright(opened), opened.format in ("JPEG", "MPO", "WEBP")
    if image.mode.startswith(GREY16):  # taken as it is: scaled to 8 bits it would lose a mask of 0 and 1
        values = np.asarray(image)[..., None]
    else:
        values = np.asarray(image.convert("RGBA"))
        colours, alpha = values[..., :3] * (values[..., 3:] > 0), values[..., 3:]
        sums = colours[alpha[..., 0] == 255].sum(axis=1)
        own = alpha.min() == 255 or (np.isin((0, 765), sums).all() and _bright(colours, lossy) is not None)
        values = colours if own else alpha  # what is itself black and white is no cut-out
    mask = _bright(values, lossy)
    if image.mode == "P" and alpha.min() == 255:
        index = np.asarray(image)
        used, first = np.unique(index, return_index=True)
        colours, labels = values.reshape(-1, 3)[first], np.setdiff1d(used, (0, 255))
        plain = np.ptp(colours, axis=1).max() == 0 or (len(used) == 2 and len(labels) and not colours.sum(1).all())
        if mask is None or not plain or len(np.unique(colours, axis=0)) < len(used):
            values, mask = index[..., None], np.isin(index, labels) if len(labels) < 2 else None
    if mask is None:
        kinds = np.unique(values.reshape(-1, values.shape[2]), axis=0)
        named = [str(kind[0]) if np.ptp(kind) == 0 else "#{:02x}{:02x}{:02x}".format(*kind) for kind in kinds[:6]]
        said = f"has {len(kinds)} values ({', '.join(named)}{', ...' * (len(kinds) > 6)})"
        raise ValueError(f"{said}, but a mask has a dark one and, on its object, a bright one")
    return mask


def _bright(values: np.ndarray, lossy: bool) -> np.ndarray | None:
    """Where (H, W, C) values are bright, (H, W) bool, if they are one bright colour on a dark one; None if not."""
    values = values.astype(np.int32)
    level, codes = values.max(axis=2), values @ 256 ** np.arange(values.shape[2], dtype=np.int32)
    top, number = level.max(), len(np.unique(codes))
    if number == 1:
        return level > 0 if top in (0, 1, 255, 65535) else None
    if number > 2:  # soft edges, perhaps: then nowhere an area of one value that lies between
        margin = top // 8 if lossy or number > FEW else 0
        even = values[1:-1, 1:-1][np.ptp(sliding_window_view(codes, (3, 3)), axis=(2, 3)) == 0]
        light, between = even[even.max(axis=1) >= top - margin], (8 * level > top) & (8 * level < 7 * top)
        apart = (light.max(axis=0, initial=0) - light.min(axis=0, initial=top)).max() > margin
        if top < 64 or apart or (even.max(axis=1) > margin).sum() > len(light) or between.mean() > 0.5:
            return None
    return 2 * level > top if 4 * level.min() <= top else None


def _header(path: str | Path) -> Image.Image:
    """Open the file without decoding it; ValueError as `_read`."""
    if Path(path).exists() and not Path(path).is_file():  # a pipe would have us wait
        raise ValueError("is not a file")
    if Path(path).is_file() and Path(path).stat().st_size == 0:
        raise ValueError("is empty (0 bytes)")
    most = f"{MAX_PIXELS / 1e6:.0f} megapixels"
    try:
        with QUIET, warnings.catch_warnings(action="ignore"):  # of metadata
            image = Image.open(path, formats=FORMATS)
    except Exception as error:  # damaged headers make the readers raise many kinds
        if getattr(error, "errno", None):  # what the system says, not the reader
            raise
        bomb = isinstance(error, Image.DecompressionBombError)
        raise ValueError(f"is larger than {most}" if bomb else "is not an image that can be read") from error
    width, height = image.size
    if min(width, height) < MIN_SIDE:
        reason = f"is {width} x {height} pixels, and each side must have {MIN_SIDE} or more"
    elif width * height > MAX_PIXELS:
        reason = f"is {width} x {height} pixels, more than {most}"
    elif image.mode in ("F", "LAB"):  # their range is not known
        reason = f"has pixels of mode {image.mode}, which have no 8-bit meaning"
    else:
        return image
    image.close()
    raise ValueError(reason)


def _unframed(image: Image.Image) -> Image.Image:
    """A thin frame on all four sides, or bars at the edges if something is left then, painted over as it is inside."""
    pixels, sides = np.array(image), []
    for turn in range(4):
        side = np.rot90(pixels, turn)
        lines = side[: 1 + round(THIN * len(side))]
        colours = np.median(lines, axis=1)
        even = (np.abs(lines - colours[:, None]).mean(axis=2) < 255 * FAINTEST).mean(axis=1) > 0.8
        sides.append((lines, even & (np.abs(colours - colours[-1]).mean(axis=1) > 255 * FAINTEST), colours[-1].copy()))
    whole = all(framed[: 1 + len(framed) * 2 // 3].any() for _, framed, _ in sides)  # drawings, too, may end at THIN
    for lines, framed, inside in sides:
        lines[: len(framed) - framed[::-1].argmax() if whole else framed.argmin()] = inside
    return Image.fromarray(pixels) if whole or np.ptp(pixels.mean(axis=2)) > 255 * FAINTEST else image
