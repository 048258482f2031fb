"""Arbitrary bytes and mutated structures leave facts or `EvidenceError`, nothing else."""

import io
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evidence.canonical import parse_canonical
from evidence.errors import EvidenceError
from evidence.media import image
from evidence.media.containers import heif, jpeg, movie, photoshop, png, tiff, webp
from evidence.media.containers.found import Found
from evidence.media.exif import read_exif
from evidence.media.findings import Finding
from evidence.media.inspection import inspect, preview
from evidence.media.provenance import read_c2pa
from evidence.media.sniff import sniff
from evidence.media.window import Window
from evidence.media.xmp import facts_of, read_properties
from tests.media import material as m

WALKERS: dict[str, Callable[[Window], Found]] = {
    "heif": heif.walk,
    "jpeg": jpeg.walk,
    "movie": movie.walk,
    "photoshop": photoshop.walk,
    "png": png.walk,
    "tiff": tiff.walk,
    "webp": webp.walk,
}
WHOLE = (
    m.jpeg(m.c2pa_segment(), m.exif_segment(), m.xmp_segment()),
    m.png(
        m.chunk(b"eXIf", m.EXIF), m.chunk(b"iTXt", b"XML:com.adobe.xmp\x00\x00\x00\x00\x00" + m.XMP)
    ),
    m.webp((b"EXIF", m.EXIF), (b"XMP ", m.XMP)),
    m.EXIF,
    m.heic(exif=m.EXIF, xmp=m.XMP),
    m.heic(exif=m.EXIF, in_idat=True, split=True, brand=b"avif"),
    m.movie(
        m.mvhd(3_800_000_000),
        m.trak(),
        m.box(b"udta", m.atom(b"\xa9xyz", b"+30.2500+120.1700/")),
        m.keys((b"com.apple.quicktime.location.ISO6709", b"+30.2500+120.1700/")),
        outer=m.box(b"uuid", m.XMP_UUID + m.XMP),
    ),
)
"""One sound file of each family."""


@st.composite
def mutated(draw: st.DrawFn, sources: tuple[bytes, ...] = WHOLE) -> bytes:
    """A sound file in which a few bytes are changed, cut out, doubled or cut off."""
    data = bytearray(draw(st.sampled_from(sources)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        match draw(st.integers(0, 4)):
            case 0:
                data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case 1:
                data[at : at + 4] = draw(
                    st.sampled_from([b"\xff" * 4, b"\x00" * 4, b"\x7f" + b"\xff" * 3])
                )
            case 2:
                del data[at : at + draw(st.integers(1, 64))]
            case 3:
                data[at:at] = data[at : at + draw(st.integers(1, 64))]
            case _:
                del data[at:]
    return bytes(data)


def check(data: bytes) -> None:
    """Inspect bytes and demand facts that are canonical evidence."""
    facts = inspect(io.BytesIO(data), len(data), "image/jpeg")
    document = parse_canonical(facts.to_json(), max_bytes=65536)
    assert document["sniffed_media_type"] == sniff(data[:4096])
    assert isinstance(preview(io.BytesIO(data)), bytes | Finding)


@given(st.binary(max_size=2000))
def test_arbitrary_bytes_give_facts(data: bytes) -> None:
    """Any bytes give facts that may stand in evidence."""
    check(data)


@given(mutated())
@settings(max_examples=300)
def test_mutated_files_give_facts(data: bytes) -> None:
    """Damaged files of every family give facts that may stand in evidence."""
    check(data)


@pytest.mark.parametrize("name", WALKERS)
@given(data=st.binary(max_size=600) | mutated())
@settings(max_examples=120)
def test_walkers_leave_only_our_errors(name: str, data: bytes) -> None:
    """Every walker walks any bytes or refuses them by our error."""
    try:
        assert WALKERS[name](Window.of(data)).exif_marked >= 0
    except EvidenceError as error:
        assert error.code in {"media_invalid", "too_large"}  # noqa: PT017  both ends are right


@given(st.binary(max_size=600) | mutated((m.EXIF,)))
@settings(max_examples=300)
def test_exif_leaves_only_our_errors(data: bytes) -> None:
    """Any block, also with a sound header before it, is read or refused by our error."""
    for block in (data, b"II*\x00" + data, b"MM\x00*" + data):
        try:
            assert read_exif(Window.of(block)).state == "read"
        except EvidenceError as error:
            assert error.code in {"media_invalid", "too_large"}  # noqa: PT017


@given(st.binary(max_size=600) | mutated((m.XMP,)))
def test_xmp_leaves_only_our_errors(data: bytes) -> None:
    """Any packet is read or refused by our error."""
    try:
        assert facts_of(read_properties(data)).state == "read"
    except EvidenceError as error:
        assert error.code == "media_invalid"  # noqa: PT017


@given(mutated((m.jpeg(m.c2pa_segment()),)) | st.binary(max_size=200))
@settings(max_examples=60)
def test_c2pa_and_image_give_facts(data: bytes) -> None:
    """The C2PA library and the decoders answer any bytes with facts."""
    assert read_c2pa(io.BytesIO(data), "image/jpeg", len(data)).state in {
        "read",
        "present_unreadable",
    }
    assert image.check_image(data, 64, 48).state in {"read", "present_unreadable"}
