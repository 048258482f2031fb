"""Positions become integers exactly, and text becomes fit for evidence."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence.canonical import canonicalise
from evidence.errors import EvidenceError, MediaInvalid
from evidence.media.containers.found import MovieHeader
from evidence.media.findings import FACETS, FINDINGS, Finding, State
from evidence.media.position import (
    Position,
    degrees_e7,
    fixed_point,
    iso6709,
    metres_mm,
    rationals,
    xmp_coordinate,
)
from evidence.media.sniff import is_active, other_readings, same_type, sniff
from evidence.media.text import clean, thousandths
from evidence.media.video import VideoFacts, read_video
from evidence.media.window import Window
from tests.media import material as m


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("+27.2939+112.6932/", (272_939_000, 1_126_932_000, None)),
        ("+35.7143+139.7963+007.400/", (357_143_000, 1_397_963_000, 7_400)),
        ("-3518.30-05802.15", (-353_050_000, -580_358_333, None)),
        ("+401213.1-0750015.1-2.5CRSWGS_84/", (402_036_389, -750_041_944, -2_500)),
    ],
)
def test_iso_6709_is_read_in_its_forms(text: str, expected: tuple[int, int, int | None]) -> None:
    """Degrees, degrees with minutes, and with seconds are read."""
    place = iso6709(text)
    assert (place.lat_e7, place.lon_e7, place.altitude_mm) == expected


@pytest.mark.parametrize(
    "text", ["", "here", "+91+000", "+271+112/", "+27.1+181.0/", "+01+002+999999/", "+1234567+000"]
)
def test_iso_6709_of_another_form_is_refused(text: str) -> None:
    """A text that names no place on the globe is an error."""
    with pytest.raises(MediaInvalid):
        iso6709(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("38,24.311687S", -384_051_948), ("0,4,13N", 702_778), ("144,11.33748E", 1_441_889_580)],
)
def test_xmp_coordinates_are_read(text: str, expected: int) -> None:
    """Both forms of an XMP coordinate are read."""
    assert xmp_coordinate(text) == expected


@pytest.mark.parametrize("text", ["", "38.5", "38,24.3", "38,24,11,1N", "x,yN"])
def test_xmp_coordinates_of_another_form_are_refused(text: str) -> None:
    """A coordinate without hemisphere or minutes is an error."""
    with pytest.raises(MediaInvalid):
        xmp_coordinate(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("9.4", 9_400), ("-0.5", -500), ("1361690/1000", 1_361_690), ("5/0", None), ("5m", None)],
)
def test_metres_are_read(text: str, expected: int | None) -> None:
    """Decimals and rationals become millimetres; anything else is left."""
    assert metres_mm(text) == expected


def test_text_rationals_are_read() -> None:
    """Rationals in text are read; a denominator of zero is an unset value."""
    assert rationals("52/1, 0/1,49999/1000") == [Fraction(52), Fraction(0), Fraction(49999, 1000)]
    assert rationals("5/0") == [Fraction(0)]
    with pytest.raises(MediaInvalid):
        rationals("north")


def test_coordinates_need_parts_and_a_hemisphere() -> None:
    """No parts, too many, negative ones, or no hemisphere are errors."""
    for parts, letter in (
        ([], "N"),
        ([Fraction(1)] * 4, "N"),
        ([Fraction(-1)], "N"),
        ([Fraction(1)], ""),
    ):
        with pytest.raises(MediaInvalid):
            degrees_e7(parts, letter)


def test_fixed_point_places_are_read_or_refused() -> None:
    """3GPP places are read exactly; one off the globe is an error."""
    assert fixed_point(30 << 16, -120 << 16, 1 << 15) == Position(
        lat_e7=300_000_000, lon_e7=-1_200_000_000, altitude_mm=500
    )
    with pytest.raises(MediaInvalid):
        fixed_point(200 << 16, 0, 0)


@given(st.text(max_size=600) | st.binary(max_size=2000))
def test_cleaned_text_is_always_canonical(value: str | bytes) -> None:
    """Whatever a file holds, cleaned text may stand in evidence."""
    cleaned = clean(value)
    assert len(cleaned) <= 256
    assert canonicalise({"text": cleaned})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("+39.90", 39_900),
        ("-115.300003", -115_300),
        ("0", 0),
        (" 1.5 ", 1_500),
        ("1e9", None),
        ("", None),
    ],
)
def test_thousandths_are_exact(text: str, expected: int | None) -> None:
    """A drone's signed decimals become integers; other text does not."""
    assert thousandths(text) == expected


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (m.jpeg(), "image/jpeg"),
        (m.png(), "image/png"),
        (m.webp(), "image/webp"),
        (m.EXIF, "image/tiff"),
        (m.heic(), "image/heic"),
        (m.heic(brand=b"avif"), "image/avif"),
        (m.heic(brand=b"mif1"), "image/heif"),
        (m.movie(), "video/mp4"),
        (m.movie(brand=b"qt  "), "video/quicktime"),
        (m.movie(brand=b"3gp5"), "video/3gpp"),
        (m.movie(brand=b"zzzz"), "video/mp4"),
        (m.box(b"moov", b""), "video/quicktime"),
        (b"GIF89a", "image/gif"),
        (b"8BPS\x00\x01", "image/vnd.adobe.photoshop"),
        (b"%PDF-1.7", "application/pdf"),
        (b"PK\x03\x04", "application/zip"),
        (b"\xef\xbb\xbf <?xml?><!-- a --><!DOCTYPE svg><svg width='1'>", "image/svg+xml"),
        (b"<!doctype html><p>", "text/html"),
        (b"<!-- x --> <script>", "text/html"),
        (b"<?xml version='1.0'?><rss>", "application/xml"),
        (b"1\n00:00:00,000 --> 00:00:01,000\n", "text/plain"),
        (b"\x00\x01\x02\x03", "application/octet-stream"),
        (b"", "application/octet-stream"),
    ],
)  # fmt: skip
def test_bytes_decide_the_media_type(head: bytes, expected: str) -> None:
    """The first bytes name the type, whatever a file is called."""
    assert sniff(head) == expected


def test_a_row_of_comments_is_sniffed_at_once() -> None:
    """Markup made to try every partition of its comments is sniffed in linear time."""
    assert sniff(b"<!---->" * 580) == "text/plain"


def test_types_of_one_format_are_the_same() -> None:
    """Parameters, case and names of sub-formats make no difference."""
    assert same_type("image/JPEG; charset=x", "image/jpeg")
    assert same_type("image/x-adobe-dng", "image/tiff")
    assert not same_type("image/png", "image/jpeg")
    assert is_active("text/html")


@pytest.mark.parametrize(
    ("data", "media_type", "end", "expected"),
    [
        (m.jpeg(), "image/jpeg", None, (False, False)),
        (m.jpeg(m.segment(0xFE, b"<script >alert(1)</script>")), "image/jpeg", None, (True, False)),
        (m.jpeg(tail=b"<svg onload=x>"), "image/jpeg", len(m.jpeg()), (True, False)),
        (m.jpeg(tail=b"PK\x03\x04"), "image/jpeg", len(m.jpeg()), (False, True)),
        (m.jpeg(tail=b"x" * 99 + b"PK\x05\x06" + b"\x00" * 18), "image/jpeg", None, (False, True)),
        (m.jpeg(m.segment(0xFE, b"%PDF-1.4")), "image/jpeg", None, (False, True)),
        (b"<svg >", "image/svg+xml", None, (True, False)),
    ],
)
def test_second_readings_are_seen(
    data: bytes, media_type: str, end: int | None, expected: tuple[bool, bool]
) -> None:
    """Markup, archives and documents inside an image file are hinted at."""
    assert other_readings(Window.of(data), media_type, end) == expected


def test_film_facts_are_read() -> None:
    """A film's header becomes facts; the first of several texts counts."""
    facts = read_video(
        MovieHeader(
            created_s=3_789_783_938,
            iso6709=(b"nonsense", b"+27.2939+112.6932/"),
            texts=(
                ("make", b"Fengni"),
                ("make", b"Other"),
                ("creationdate", b"2024-02-03T15:05:38+0800"),
            ),
        )
    )
    assert (facts.created_utc, facts.make) == ("2024-02-03T05:45:38Z", "Fengni")
    assert facts.position == Position(lat_e7=272_939_000, lon_e7=1_126_932_000)
    assert [finding.code for finding in facts.findings] == ["location_unreadable"]


@pytest.mark.parametrize(
    ("header", "state", "codes"),
    [
        (MovieHeader(), State.READ, []),
        (MovieHeader(damaged=True), State.PRESENT_UNREADABLE, ["video_unreadable"]),
        (MovieHeader(damaged=True, created_s=5), State.READ, ["video_unreadable"]),
        (MovieHeader(created_s=2**63), State.READ, ["video_unreadable"]),
        (MovieHeader(loci=(30 << 16, 120 << 16, 0)), State.READ, []),
        (MovieHeader(loci=(300 << 16, 120 << 16, 0)), State.READ, ["location_unreadable"]),
    ],
)
def test_odd_film_headers_are_noted(header: MovieHeader, state: State, codes: list[str]) -> None:
    """Damage, impossible times and places are findings; what was read stays."""
    facts = read_video(header)
    assert (facts.state, [finding.code for finding in facts.findings]) == (state, codes)


def test_video_facts_without_a_place_have_no_position() -> None:
    """No position is made up."""
    assert VideoFacts(state=State.READ).position is None


def test_findings_come_from_the_registry() -> None:
    """A finding carries the registry's sentence; unknown codes and facets are mistakes."""
    assert Finding(code="empty_file").to_json() == {
        "code": "empty_file",
        "detail": FINDINGS["empty_file"],
    }
    assert Finding(code="xmp_extended", facet="xmp", detail="x").to_json()["facet"] == "xmp"
    with pytest.raises(ValueError, match="No such finding"):
        Finding(code="nonsense")
    with pytest.raises(ValueError, match="No such facet"):
        Finding(code="empty_file", facet="nonsense")
    assert FACETS[0] == "container"


@given(st.binary(max_size=64))
def test_iso_6709_never_fails_otherwise(data: bytes) -> None:
    """Any text gives a position or a named error."""
    try:
        assert abs(iso6709(clean(data)).lat_e7) <= 90 * 10**7
    except EvidenceError as error:
        assert error.code == "media_invalid"  # noqa: PT017  both ends are right
