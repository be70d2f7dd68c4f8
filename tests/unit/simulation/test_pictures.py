"""The arithmetic of the simple image nodes, and pictures from seeds."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from machine_lifecycle.simulation import render


@pytest.mark.parametrize(
    ("byte", "inverse"), [(0, 255), (255, 0), (0x33, 204), (0x66, 153), (0x99, 101), (0xCC, 50)]
)
def test_an_inverse_is_cut_off_where_bytes_are_made(byte: int, inverse: int) -> None:
    (picture,) = render.invert(render.blank(1, 1, 1, byte << 16))
    assert picture.pixels().getpixel((0, 0)) == (inverse, 255, 255)


def test_a_picture_is_the_same_for_the_same_key() -> None:
    sampled = render.Sampled(width=512, height=512, batch=1, key="a fox/7")
    (first,) = render.paint(sampled)
    (again,) = render.paint(sampled)
    assert first.base.tobytes() == again.base.tobytes()
    assert first.base.getcolors(1000) is None  # a picture, not a colour


@pytest.mark.parametrize("size", [(16, 16), (8, 640), (1024, 64)])
def test_every_size_is_honoured(size: tuple[int, int]) -> None:
    pictures = render.paint(render.Sampled(width=size[0], height=size[1], batch=2, key="k"))
    assert [picture.base.size for picture in pictures] == [size, size]


def test_a_latent_that_nobody_sampled_is_grey() -> None:
    (picture,) = render.paint(render.Sampled(width=8, height=8, batch=1))
    assert picture.base.getpixel((1, 1)) == (127, 127, 127)


def test_a_png_carries_its_texts() -> None:
    (picture,) = render.blank(4, 4, 1, 0x112233)
    with Image.open(io.BytesIO(render.as_png(picture, {"prompt": "{}"}, 4))) as image:
        assert image.info["prompt"] == "{}"
        assert image.getpixel((0, 0)) == (0x11, 0x22, 0x33)


@pytest.mark.parametrize(
    ("asked", "size"), [((0, 10), (20, 10)), ((40, 0), (40, 20)), ((0, 0), (100, 50))]
)
def test_a_side_of_nothing_keeps_the_proportions(
    asked: tuple[int, int], size: tuple[int, int]
) -> None:
    (picture,) = render.scale(render.blank(100, 50, 1, 0), "area", *asked, center=False)
    assert picture.pixels().size == size
