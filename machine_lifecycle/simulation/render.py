"""Pictures: those that sampling would make, and the exact arithmetic of the simple image nodes.

Needs Pillow. Only the thread that runs prompts imports this module, so that the server listens
before Pillow is loaded.
"""

from __future__ import annotations

import hashlib
import math
import random
import struct
from functools import lru_cache
from io import BytesIO
from typing import Any

import attrs
from PIL import Image, ImageChops, ImageEnhance, ImageOps
from PIL.PngImagePlugin import PngInfo

__all__ = ["Picture", "Sampled", "as_png", "blank", "from_file", "invert", "paint", "scale"]

_RESAMPLING = {
    "nearest-exact": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "area": Image.Resampling.BOX,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_WARP_CELLS = 24  # quads per side of the mesh that bends the picture: smooth, and still fast


@attrs.frozen
class Picture:
    """One picture of a batch.

    Attributes:
        base: RGB pixels.
        inversions: How often it was inverted since; done in floats when it is saved, because each
            of ComfyUI's inversions rounds.
    """

    base: Image.Image
    inversions: int = 0

    def pixels(self) -> Image.Image:
        """What a file of it holds."""
        if not self.inversions:
            return self.base
        return self.base.point(_inversion_table(self.inversions) * 3)


@attrs.frozen(kw_only=True)
class Sampled:
    """What a sampler made: enough to paint the same picture again.

    Attributes:
        width: Pixels.
        height: Pixels.
        batch: Pictures.
        key: Everything the picture depends on; empty for a latent that nobody sampled.
        detail: Octaves of noise.
        contrast: 1 for as painted.
    """

    width: int
    height: int
    batch: int
    key: str = ""
    detail: int = 5
    contrast: float = 1.0


def _single(value: float) -> float:
    """Rounded to single precision, in which ComfyUI's tensors are."""
    return float(struct.unpack("f", struct.pack("f", value))[0])


@lru_cache(maxsize=16)
def _inversion_table(times: int) -> list[int]:
    table = []
    for byte in range(256):
        value = _single(byte / 255)
        for _ in range(times):
            value = _single(1.0 - value)
        # Saving cuts off instead of rounding: the inverse of 0x99 is 101.
        table.append(int(min(255.0, max(0.0, _single(255.0 * value)))))
    return table


def blank(width: int, height: int, batch: int, color: int) -> tuple[Picture, ...]:
    """Pictures of one colour, 0xRRGGBB. They share their pixels."""
    rgb = ((color >> 16) & 0xFF, (color >> 8) & 0xFF, color & 0xFF)
    return (Picture(Image.new("RGB", (width, height), rgb)),) * batch


def invert(batch: tuple[Picture, ...]) -> tuple[Picture, ...]:
    """Every picture inverted."""
    return tuple(attrs.evolve(picture, inversions=picture.inversions + 1) for picture in batch)


def scale(
    batch: tuple[Picture, ...], method: str, width: int, height: int, *, center: bool
) -> tuple[Picture, ...]:
    """Every picture resized. A side of 0 keeps the proportions; both 0 changes nothing."""
    if not width and not height:
        return batch
    resampling = _RESAMPLING[method]
    scaled = []
    for picture in batch:
        image = picture.pixels()
        wide = width or max(1, round(image.width * height / image.height))
        high = height or max(1, round(image.height * width / image.width))
        if center:
            scaled.append(Picture(ImageOps.fit(image, (wide, high), resampling)))
        else:
            scaled.append(Picture(image.resize((wide, high), resampling)))
    return tuple(scaled)


def from_file(path: str) -> tuple[Picture, ...]:
    """The picture in a file, turned as its EXIF data say."""
    with Image.open(path) as image:
        return (Picture(ImageOps.exif_transpose(image).convert("RGB")),)


def as_png(picture: Picture, texts: dict[str, str], compression: int) -> bytes:
    """A PNG file with *texts* in it."""
    info = PngInfo()
    for name, text in texts.items():
        info.add_text(name, text)
    buffer = BytesIO()
    picture.pixels().save(buffer, "PNG", pnginfo=info, compress_level=compression)
    return buffer.getvalue()


def paint(sampled: Sampled) -> tuple[Picture, ...]:
    """The pictures of a latent; the same for the same key, always."""
    size = (sampled.width, sampled.height)
    if not sampled.key:
        return (Picture(Image.new("RGB", size, (127, 127, 127))),) * sampled.batch
    return tuple(
        Picture(_painting(size, f"{sampled.key}/{index}", sampled))
        for index in range(sampled.batch)
    )


def _painting(size: tuple[int, int], key: str, sampled: Sampled) -> Image.Image:
    dice = random.Random(hashlib.sha256(key.encode()).digest())  # noqa: S311  # pictures, not keys
    ground = _noise(size, dice, sampled.detail)
    bands = ground.point(_band_table(dice.uniform(2.0, 5.0), dice.random()))
    light = _noise(size, dice, 3)
    hues = sorted(dice.random() for _ in range(3))
    image = ImageOps.colorize(
        ground, _color(hues[0], 0.08), _color(hues[2], 0.98), mid=_color(hues[1], 0.55)
    )
    glow = ImageOps.colorize(light, (0, 0, 0), _color(hues[2] + 0.5, 0.9), mid=(20, 12, 30))
    image = ImageChops.screen(image, glow)
    shade = Image.merge("RGB", (bands,) * 3)
    image = Image.blend(image, ImageChops.soft_light(image, shade), 0.85)
    image = _bent(image, dice)
    return ImageEnhance.Contrast(image).enhance(sampled.contrast)


def _noise(size: tuple[int, int], dice: random.Random, octaves: int) -> Image.Image:
    """Clouds: noise at doubling frequencies, each half as strong as the one before."""
    clouds: Image.Image | None = None
    for octave in range(octaves):
        cells = 3 * 2**octave
        grid = Image.frombytes("L", (cells, cells), dice.randbytes(cells * cells))
        layer = grid.resize(size, Image.Resampling.BICUBIC)
        clouds = layer if clouds is None else Image.blend(clouds, layer, 0.5**octave * 0.7)
    return ImageOps.autocontrast(clouds if clouds is not None else Image.new("L", size))


def _band_table(turns: float, phase: float) -> list[int]:
    return [
        int(127.5 + 127.5 * math.sin(2 * math.pi * (turns * level / 255 + phase)))
        for level in range(256)
    ]


def _color(hue: float, lightness: float) -> tuple[int, int, int]:
    # A cosine palette: three waves, a third of a turn apart, lifted to the lightness asked for.
    waves = (0.5 + 0.5 * math.cos(2 * math.pi * (hue + shift / 3)) for shift in range(3))
    red, green, blue = (int(255 * min(1.0, lightness * (0.45 + 0.75 * wave))) for wave in waves)
    return red, green, blue


def _bent(image: Image.Image, dice: random.Random) -> Image.Image:
    """The picture pulled along a smooth flow field."""
    width, height = image.size
    strength = min(width, height) * 0.06
    waves = [(dice.uniform(0.6, 2.2), dice.uniform(0, 6.3)) for _ in range(4)]

    def corner(column: int, row: int) -> tuple[float, float]:
        x, y = column / _WARP_CELLS, row / _WARP_CELLS
        # The rim stays where it is, so that nothing from outside is pulled in.
        rim = math.sin(math.pi * x) * math.sin(math.pi * y)
        push = math.sin(6.3 * waves[0][0] * y + waves[0][1]) + math.sin(
            6.3 * waves[1][0] * x + waves[1][1]
        )
        pull = math.cos(6.3 * waves[2][0] * x + waves[2][1]) + math.cos(
            6.3 * waves[3][0] * y + waves[3][1]
        )
        return x * width + rim * strength * push, y * height + rim * strength * pull

    mesh: list[Any] = []
    for row in range(_WARP_CELLS):
        for column in range(_WARP_CELLS):
            box = (
                column * width // _WARP_CELLS,
                row * height // _WARP_CELLS,
                (column + 1) * width // _WARP_CELLS,
                (row + 1) * height // _WARP_CELLS,
            )
            if box[0] == box[2] or box[1] == box[3]:
                continue
            quad = (
                *corner(column, row),
                *corner(column, row + 1),
                *corner(column + 1, row + 1),
                *corner(column + 1, row),
            )
            mesh.append((box, quad))
    return image.transform(
        image.size, Image.Transform.MESH, mesh, resample=Image.Resampling.BILINEAR
    )
