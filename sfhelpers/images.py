"""Image files to tensors: opening what people really have, and one transform that points and masks follow."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from sfhelpers.files import reading, shown

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp")
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP")  # nothing that starts another program, as EPS would
MIN_SIDE = 8  # pixels
MAX_PIXELS = 50_000_000
GREY16 = "I"  # how PIL's modes of 16-bit grey begin, "I" and "I;16", whatever their bytes' order


def open_image(path: str | Path) -> Image.Image:
    """Open an image (of an animation the first frame) as `as_seen`. FileNotFoundError without it; ValueError if it
    is empty, truncated, not one of FORMATS, has a side shorter than 8 pixels, or more than 50 megapixels."""
    return as_seen(_told(_read, path))


def as_seen(image: Image.Image) -> Image.Image:
    """An open image as a person sees it: EXIF turned, transparency over white, 8-bit RGB."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(GREY16):  # PIL would clip it to 255, not scale it
        image = Image.fromarray(np.round(np.clip(np.asarray(image), 0, 65535) / 257).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def open_mask(path: str | Path) -> np.ndarray:
    """Open a mask as an (H, W) bool array, True on the object: on what is opaque if a part is transparent, else above
    half of the largest value, so 0/1, 0/255, 16 bits and one colour on black all work. Errors as `open_image`."""
    image = _told(_read, path)
    if image.mode.startswith(GREY16):  # taken as it is: scaled to 8 bits it would lose a mask of 0 and 1
        values = np.asarray(image).astype(np.int64)
    else:
        alpha = np.asarray(image.convert("RGBA").getchannel("A"))
        if alpha.min() < 255:
            return alpha > 127
        values = np.asarray(as_seen(image)).astype(np.int64).max(axis=2)
    return 2 * values > values.max()


def image_size(path: str | Path) -> tuple[int, int]:
    """(width, height) after EXIF turning, from the header alone. Errors as `open_image`, but for truncation."""
    image = _told(_header, path)
    width, height = image.size
    return (height, width) if image.getexif().get(0x0112, 1) in (5, 6, 7, 8) else (width, height)


def problem(path: str | Path) -> str:
    """What is wrong with an image file in a few words, "" if it can be used. Decodes the whole file."""
    try:
        _read(path)
    except (ValueError, OSError) as error:
        return f"cannot be read ({error.strerror})" if isinstance(error, OSError) else str(error)
    return ""


def load_images(paths: Sequence[str | Path], size: int) -> Tensor:
    """Load image files padded to squares, (B, 3, size, size) in [0, 1]. Errors as `open_image`."""
    if isinstance(paths, str | Path):
        raise TypeError(f"load_images takes a list of paths, but got {shown(paths)} alone: put it into a list.")
    images = [open_image(path) for path in paths]
    if not images:
        return torch.zeros(0, 3, size, size)
    return torch.stack([Square.of(*image.size, size).image(image) for image in images])


@dataclass(frozen=True)
class Square:
    """Fits images, points and masks of `width` x `height` into a square of `size` pixels, all alike: scaled as a whole,
    centred, padded. Make it with `Square.of`."""

    width: int
    height: int
    size: int
    inner_width: int
    inner_height: int
    left: int
    top: int

    @classmethod
    def of(cls, width: int, height: int, size: int) -> "Square":
        """The transform for an image of `width` x `height` pixels. ValueError if one of the three is below 1."""
        if min(width, height, size) < 1:
            raise ValueError(f"cannot fit {width} x {height} pixels into a square of {size}: all must be 1 or more.")
        scale = size / max(width, height)
        inner_width, inner_height = max(1, round(width * scale)), max(1, round(height * scale))
        left, top = (size - inner_width) // 2, (size - inner_height) // 2
        return cls(width, height, size, inner_width, inner_height, left, top)

    def image(self, image: Image.Image) -> Tensor:
        """(3, size, size) in [0, 1]; padded with the median colour of the image's border (white for most sketches)."""
        if image.size != (self.width, self.height):
            raise ValueError(f"this Square is for {self.width} x {self.height} pixels, not {image.size}: make another.")
        # Scaled first and padded after: padding a long thin image at full size could take gigabytes.
        inner = image.convert("RGB").resize((self.inner_width, self.inner_height), Image.Resampling.BICUBIC)
        pixels = np.asarray(inner, dtype=np.float32) / 255
        border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
        square = np.empty((self.size, self.size, 3), dtype=np.float32)
        square[:] = np.median(border, axis=0)
        square[self._inner] = pixels
        return torch.from_numpy(square.transpose(2, 0, 1).copy())

    def points(self, xy: Tensor) -> Tensor:
        """Move points (K, 2), x then y, in pixels from the image's upper left corner (a pixel's centre is at +0.5)."""
        scale = torch.tensor([self.inner_width / self.width, self.inner_height / self.height])
        return xy * scale.to(xy) + torch.tensor([self.left, self.top]).to(xy)

    def mask(self, mask: np.ndarray) -> Tensor:
        """(H, W) bool to (size, size) bool: True where the object covers half of the new pixel, False in padding."""
        if mask.shape != (self.height, self.width):
            raise ValueError(f"this Square is for masks of {self.height, self.width}, not {mask.shape}: make another.")
        grey = Image.fromarray(mask.astype(np.uint8) * 255)
        inner = np.asarray(grey.resize((self.inner_width, self.inner_height), Image.Resampling.BOX)) > 127
        square = torch.zeros(self.size, self.size, dtype=torch.bool)
        square[self._inner] = torch.from_numpy(inner)
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
        """Rows and columns of the square that the image fills."""
        return slice(self.top, self.top + self.inner_height), slice(self.left, self.left + self.inner_width)


def _told(read: Callable, path: str | Path) -> Image.Image:
    """What one of the readers below gives, its reason made a sentence."""
    try:
        with reading(Path(path)):
            return read(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no image {shown(path)}: check the path.") from None
    except ValueError as error:
        raise ValueError(f"{shown(path)} {error}: replace the file or take it away.") from error


def _read(path: str | Path) -> Image.Image:
    """Decode the file, EXIF turned, in its own mode; ValueError with a reason that follows on the file's name."""
    with _header(path) as image:
        try:
            image.load()
            return ImageOps.exif_transpose(image)
        except Exception as error:  # decoders raise OSError, SyntaxError, struct.error and more on damaged bytes
            raise ValueError("is truncated or damaged") from error


def _header(path: str | Path) -> Image.Image:
    """Open the file without decoding it; ValueError as `_read`."""
    if Path(path).exists() and not Path(path).is_file():  # a pipe would have us wait
        raise ValueError("is not a file")
    if Path(path).is_file() and Path(path).stat().st_size == 0:
        raise ValueError("is empty (0 bytes)")
    most = f"{MAX_PIXELS / 1e6:.0f} megapixels"
    try:
        with warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning):  # our limit is lower
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
