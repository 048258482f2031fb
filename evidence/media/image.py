"""Image checks: sharp enough, lit enough, and a fingerprint that survives re-encoding.

Does: decodes an image to a small grey picture and measures it, and makes a preview that
holds nothing of the original but its pixels. Refuses to decode before the header's size was
checked, to decode formats without a decoder here (HEIC, films), and to judge: it measures.

    {"state": "read", "sharpness_milli": 182340, "mean_milli": 117204, "phash": "d1c4…"}

Source: pHash after Zauner 2010 §3.2 (32 × 32 DCT, lowest 8 × 8, median); variance of the
Laplacian after Pech-Pacheco 2000.
"""

from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from evidence.errors import MediaInvalid
from evidence.media.findings import Finding, State
from evidence.media.foreign import guarded

# 200 megapixels is the largest phone sensor. JPEG is decoded at an eighth of that; the other
# formats are unpacked whole before they can be made smaller, four bytes for each pixel.
MAX_PIXELS = 200_000_000
MAX_PIXELS_UNSCALED = 60_000_000
# The largest phone photo has some 60 MB.
MAX_BYTES = 128 * 1024 * 1024
# The measures are taken on a picture of this long side, so that they compare across cameras.
CHECK_SIDE_PX = 1024
PREVIEW_SIDE_PX = 1600
PREVIEW_QUALITY = 82
# Grey levels that count as lost in shadow or light.
DARK_LEVEL, BRIGHT_LEVEL = 4, 251

DECODABLE = frozenset({"image/jpeg", "image/png", "image/webp", "image/tiff", "image/avif"})
_REDUCED_GREY = {
    1: cv2.IMREAD_GRAYSCALE,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
}
_REDUCED_COLOUR = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
_Picture = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFacts:
    """What the picture itself shows. Measures, not judgements.

    Attributes:
        state: absent, read, present_unreadable or unsupported.
        sharpness_milli: variance of the Laplacian, grey levels squared times 1,000.
        mean_milli: mean grey level times 1,000; 0 is black, 255,000 white.
        dark_ppm: share of pixels lost in shadow, parts per million.
        bright_ppm: share of pixels lost in light, parts per million.
        phash: 64-bit perceptual hash, 16 hex digits.
        findings: why nothing was measured.
    """

    state: State
    sharpness_milli: int | None = None
    mean_milli: int | None = None
    dark_ppm: int | None = None
    bright_ppm: int | None = None
    phash: str | None = None
    findings: tuple[Finding, ...] = ()


def refusal(
    media_type: str, size_bytes: int, width_px: int | None, height_px: int | None
) -> ImageFacts | None:
    """Say why an image will not be decoded, or None if it may be.

    Args:
        media_type: what `sniff` named.
        size_bytes: length of the file.
        width_px: from the header.
        height_px: from the header.
    """
    if media_type not in DECODABLE:
        return ImageFacts(state=State.UNSUPPORTED)
    if size_bytes > MAX_BYTES:
        return _unreadable("image_too_large")
    if not width_px or not height_px:
        return _unreadable("image_undecodable")
    limit = MAX_PIXELS if media_type == "image/jpeg" else MAX_PIXELS_UNSCALED
    if width_px * height_px > limit:
        return _unreadable("image_too_many_pixels")
    return None


def _unreadable(code: str) -> ImageFacts:
    finding = Finding(code=code, facet="image")
    return ImageFacts(state=State.PRESENT_UNREADABLE, findings=(finding,))


def check_image(data: bytes, width_px: int, height_px: int) -> ImageFacts:
    """Measure an image that `refusal` let pass.

    Args:
        data: the whole file.
        width_px: from the header.
        height_px: from the header.

    Returns:
        Measures, or state `present_unreadable` if the decoder gave up.
    """
    factor = _factor(max(width_px, height_px), CHECK_SIDE_PX)
    try:
        grey = _decode(data, _REDUCED_GREY[factor])
        return guarded("opencv", lambda: _measure(grey, (width_px, height_px), factor))
    except MediaInvalid:
        return _unreadable("image_undecodable")


def make_preview(data: bytes, width_px: int, height_px: int, orientation: int | None) -> bytes:
    """Return a JPEG of at most 1,600 pixels that shows the image and carries nothing else.

    Args:
        data: the whole file.
        width_px: from the header.
        height_px: from the header.
        orientation: Exif orientation, applied to the pixels; others than 2 to 8 change nothing.

    Raises:
        MediaInvalid: the decoder gave up.
    """
    factor = _factor(max(width_px, height_px), PREVIEW_SIDE_PX)
    colour = _decode(data, _REDUCED_COLOUR[factor])

    def encode() -> bytes:
        upright = _turned(_shrunk(colour, PREVIEW_SIDE_PX), orientation)
        _, encoded = cv2.imencode(".jpg", upright, [cv2.IMWRITE_JPEG_QUALITY, PREVIEW_QUALITY])
        return encoded.tobytes()

    return guarded("opencv", encode)


def perceptual_hash(grey: _Picture) -> str:
    """Return the 64-bit DCT hash of a grey picture as 16 hex digits."""
    small = cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = cv2.dct(small)[:8, :8].flatten()
    middle = np.sort(low)[31:33].mean()  # the median of 64
    bits = low > middle
    return np.packbits(bits).tobytes().hex()


def _factor(side_px: int, wanted_px: int) -> int:
    """Return the largest of 8, 4, 2, 1 that leaves at least the wanted side."""
    return next((factor for factor in (8, 4, 2) if side_px // factor >= wanted_px), 1)


def _decode(data: bytes, flags: int) -> _Picture:
    """Decode without believing the file's own orientation, which we apply ourselves."""
    raw = np.frombuffer(data, np.uint8)
    picture = guarded("opencv", lambda: cv2.imdecode(raw, flags | cv2.IMREAD_IGNORE_ORIENTATION))
    if picture is None or not picture.size:
        raise MediaInvalid("The image cannot be decoded.")
    return cast("_Picture", picture)


def _shrunk(picture: _Picture, side_px: int) -> _Picture:
    height, width = picture.shape[:2]
    scale = side_px / max(height, width)
    if scale >= 1:
        return picture
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cast("_Picture", cv2.resize(picture, size, interpolation=cv2.INTER_AREA))


def _measure(decoded: _Picture, size_px: tuple[int, int], factor: int) -> ImageFacts:
    """Take the measures on a picture of bounded size."""
    expected = tuple(-(-side // factor) for side in size_px)
    differs = any(
        abs(side - got) > 1 for side, got in zip(expected, decoded.shape[1::-1], strict=True)
    )
    grey = _shrunk(decoded, CHECK_SIDE_PX)
    edges = cv2.Laplacian(grey, cv2.CV_32F)
    note = Finding(code="image_size_differs", facet="image")
    return ImageFacts(
        state=State.READ,
        sharpness_milli=round(float(edges.var(dtype=np.float64)) * 1000),
        mean_milli=round(float(grey.mean()) * 1000),
        dark_ppm=_share_ppm(grey <= DARK_LEVEL),
        bright_ppm=_share_ppm(grey >= BRIGHT_LEVEL),
        phash=perceptual_hash(grey),
        findings=(note,) if differs else (),
    )


def _share_ppm(mask: NDArray[np.bool_]) -> int:
    return int(np.count_nonzero(mask)) * 1_000_000 // mask.size


def _turned(picture: _Picture, orientation: int | None) -> _Picture:
    """Return the picture upright. Source: CIPA DC-008 §4.6.4, Orientation."""
    if orientation in {5, 6, 7, 8}:
        picture = cast("_Picture", cv2.transpose(picture))
    flips = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}
    flip = flips.get(orientation or 1)
    return picture if flip is None else cast("_Picture", cv2.flip(picture, flip))
