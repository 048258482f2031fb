"""Image measures tell sharp from blurred and dark from light; previews carry pixels alone."""

import cv2
import numpy as np
import pytest

from evidence.errors import MediaInvalid
from evidence.media import image
from evidence.media.findings import State
from evidence.media.image import check_image, make_preview, perceptual_hash, refusal
from tests.media import material as m


def as_jpeg(picture: np.ndarray) -> bytes:
    """A picture as a JPEG."""
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


def scene(width: int = 1200, height: int = 900) -> np.ndarray:
    """A picture with many edges."""
    chance = np.random.default_rng(7)
    small = chance.integers(0, 255, (18, 24, 3), dtype=np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST)


def distance(one: str, other: str) -> int:
    """Bits in which two hashes differ."""
    return (int(one, 16) ^ int(other, 16)).bit_count()


def measured(picture: np.ndarray) -> image.ImageFacts:
    """Measures of a picture."""
    return check_image(as_jpeg(picture), picture.shape[1], picture.shape[0])


def test_sharpness_falls_with_blur() -> None:
    """The same scene out of focus has a much lower variance of the Laplacian."""
    sharp, soft = measured(scene()), measured(cv2.GaussianBlur(scene(), (31, 31), 0))
    assert sharp.sharpness_milli is not None
    assert soft.sharpness_milli is not None
    assert sharp.sharpness_milli > 20 * soft.sharpness_milli


@pytest.mark.parametrize(
    ("level", "mean", "dark", "bright"),
    [(0, 0, 1_000_000, 0), (255, 255_000, 0, 1_000_000), (128, 128_000, 0, 0)],
)
def test_exposure_is_measured(level: int, mean: int, dark: int, bright: int) -> None:
    """A black, a white and a grey picture give the extremes and the middle."""
    facts = measured(np.full((60, 80, 3), level, np.uint8))
    assert (facts.mean_milli, facts.dark_ppm, facts.bright_ppm) == (mean, dark, bright)


def test_the_hash_survives_re_encoding_and_not_another_scene() -> None:
    """A smaller, harder compressed copy stays near; another scene is far."""
    small = cv2.resize(scene(), (500, 375), interpolation=cv2.INTER_AREA)
    copy = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 40])[1].tobytes()
    original, again = measured(scene()), check_image(copy, 500, 375)
    other = measured(np.flipud(scene()).copy())
    assert original.phash is not None
    assert again.phash is not None
    assert other.phash is not None
    assert distance(original.phash, again.phash) <= 6
    assert distance(original.phash, other.phash) >= 16
    assert len(perceptual_hash(np.zeros((9, 9), np.uint8))) == 16


@pytest.mark.parametrize("kind", [".jpg", ".png", ".webp", ".tiff"])
def test_each_decodable_format_is_measured(kind: str) -> None:
    """The formats that phones and editors write are decoded."""
    facts = check_image(m.encoded(kind), 64, 48)
    assert (facts.state, facts.findings) == (State.READ, ())


def test_large_pictures_are_decoded_small() -> None:
    """A picture of 48 megapixels is measured on a reduced one and has the expected size."""
    data = as_jpeg(np.full((6000, 8000, 3), 90, np.uint8))
    facts = check_image(data, 8000, 6000)
    assert (facts.state, facts.mean_milli, facts.findings) == (State.READ, 90_000, ())


def test_a_header_that_lies_about_its_size_is_noted() -> None:
    """A decoded size that differs from the header's is a finding."""
    facts = check_image(m.encoded(".jpg"), 640, 480)
    assert [finding.code for finding in facts.findings] == ["image_size_differs"]


@pytest.mark.parametrize("data", [b"", b"\xff\xd8\xff", m.encoded(".png")[:60]])
def test_what_cannot_be_decoded_is_noted(data: bytes) -> None:
    """Broken data is a finding for the measures and an error for the preview."""
    facts = check_image(data, 64, 48)
    assert (facts.state, [finding.code for finding in facts.findings]) == (
        State.PRESENT_UNREADABLE,
        ["image_undecodable"],
    )
    with pytest.raises(MediaInvalid):
        make_preview(data, 64, 48, None)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("image/jpeg", 100, 20_000, 9_999), None),
        (("image/jpeg", 100, 20_000, 14_000), ["image_too_many_pixels"]),
        (("image/png", 100, 10_000, 10_000), ["image_too_many_pixels"]),
        (("image/jpeg", image.MAX_BYTES + 1, 64, 48), ["image_too_large"]),
        (("image/jpeg", 100, None, 48), ["image_undecodable"]),
        (("image/heic", 100, 64, 48), []),
        (("video/mp4", 100, 64, 48), []),
    ],
)
def test_limits_are_checked_before_decoding(
    arguments: tuple[str, int, int | None, int | None], expected: list[str] | None
) -> None:
    """Size and pixels are refused from the header; formats without decoder are unsupported."""
    refused = refusal(*arguments)
    codes = None if refused is None else [finding.code for finding in refused.findings]
    assert codes == expected


CORNERS = {
    1: ("TL", (64, 48)), 2: ("TR", (64, 48)), 3: ("BR", (64, 48)), 4: ("BL", (64, 48)),
    5: ("TL", (48, 64)), 6: ("TR", (48, 64)), 7: ("BR", (48, 64)), 8: ("BL", (48, 64)),
}  # fmt: skip
"""Where the stored picture's top left corner is shown, and how large the picture then is."""


@pytest.mark.parametrize("orientation", range(1, 9))
def test_previews_are_upright(orientation: int) -> None:
    """Each of the eight orientations puts the marked corner where a viewer expects it."""
    stored = np.full((48, 64, 3), 255, np.uint8)
    stored[:16, :16] = 0
    data = make_preview(as_jpeg(stored), 64, 48, orientation)
    shown = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert shown is not None
    height, width = shown.shape
    corners = {
        "TL": shown[4, 4], "TR": shown[4, width - 5], "BL": shown[height - 5, 4],
        "BR": shown[height - 5, width - 5],
    }  # fmt: skip
    dark = min(corners, key=lambda name: int(corners[name]))
    assert (dark, (width, height)) == CORNERS[orientation]


def test_previews_are_small_and_carry_nothing_else() -> None:
    """A preview is at most 1,600 pixels wide and holds no segment of the original."""
    large = cv2.imencode(".jpg", scene(4000, 3000))[1].tobytes()
    marked = large[:2] + m.exif_segment() + m.xmp_segment() + large[2:] + b"trailing"
    data = make_preview(marked, 4000, 3000, 6)
    shown = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert shown is not None
    assert shown.shape[:2] == (1600, 1200)
    assert [mark for mark in (b"Exif", b"xap", b"Fengni", b"trailing") if mark in data] == []
