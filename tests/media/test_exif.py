"""Exif blocks give facts, or an error with a name; never a guess and never a wait."""

import struct
from fractions import Fraction

import exifread
import pytest

from evidence.errors import EvidenceError, MediaInvalid, TooLarge
from evidence.media.exif import ExifFacts, offset_minutes, read_exif
from evidence.media.window import MeteredReader, Window
from tests.media import material as m


def read(block: bytes) -> ExifFacts:
    """Read bytes as a bare block."""
    return read_exif(Window.of(block))


def nested(
    exif: list[tuple[int, int, int, bytes]], gps: list[tuple[int, int, int, bytes]]
) -> bytes:
    """A block whose IFD0 points at an Exif and a GPS directory."""
    first = m.tiff((0x8769, 4, 1, b"\x00" * 4), (0x8825, 4, 1, b"\x00" * 4))
    exif_at = len(first)
    moved = _moved(m.tiff(*exif), exif_at)
    gps_at = exif_at + len(moved)
    head = m.tiff(
        (0x8769, 4, 1, struct.pack("<I", exif_at)), (0x8825, 4, 1, struct.pack("<I", gps_at))
    )
    return head + moved + _moved(m.tiff(*gps), gps_at)


def _moved(block: bytes, at: int) -> bytes:
    """The directory of a block, with its value offsets moved to another place."""
    body = bytearray(block[8:])
    (count,) = struct.unpack_from("<H", body)
    for row in range(2, 2 + 12 * count, 12):
        kind, number, offset = struct.unpack_from("<HII", body, row + 2)
        if (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8)[kind] * number > 4:
            struct.pack_into("<I", body, row + 8, offset - 8 + at)
    return bytes(body)


def rationals(*pairs: tuple[int, int]) -> bytes:
    """Rational values."""
    return b"".join(struct.pack("<II", *pair) for pair in pairs)


def text(tag: int, value: bytes) -> tuple[int, int, int, bytes]:
    """A text entry."""
    return tag, 2, len(value), value


def test_all_facts_of_a_block_are_read() -> None:
    """Camera, clock, offset, place and size come out as they were written."""
    facts = read(m.EXIF)
    assert (facts.make, facts.model, facts.software) == (
        "Fengni",
        "Rendered demo camera",
        "Fengni demo",
    )
    assert (facts.date_time_original, facts.sub_sec_original) == ("2026:11:23 09:04:05", "678")
    assert (facts.offset_original, facts.offset_digitized, facts.offset_modified) == ("+08:00",) * 3
    assert (facts.utc_offset_min, facts.orientation) == (480, 1)
    assert (facts.lat_e7, facts.lon_e7) == (302_500_000, 1_201_700_000)
    assert (facts.altitude_mm, facts.error_mm) == (9_400, 6_000)
    assert facts.gps_time_utc == "2026-11-23T01:04:05Z"
    assert (facts.width_px, facts.height_px, facts.findings) == (64, 48, ())
    assert facts.position is not None


def test_the_exif_directory_stands_in_for_an_empty_ifd0() -> None:
    """A make that stands in the Exif directory is found when IFD0 names none."""
    facts = read(nested([text(0x010F, b"HTC\x00"), text(0x0110, b"One\x00")], []))
    assert (facts.make, facts.model, facts.position) == ("HTC", "One", None)


def test_no_offset_is_assumed() -> None:
    """Without an offset of the shutter's own time, none is given, whatever else is written."""
    facts = read(
        nested([text(0x9003, b"2020:01:02 03:04:05\x00"), text(0x9010, b"+08:00\x00")], [])
    )
    assert (facts.offset_original, facts.utc_offset_min, facts.offset_modified) == (
        None,
        None,
        "+08:00",
    )


@pytest.mark.parametrize(
    ("written", "minutes"),
    [
        ("+05:30", 330), ("-04:00", -240), ("+06:30", 390), ("+00:00", 0), ("   :  ", None),
        ("Z", None), ("+19:00", None), ("+08:60", None), ("", None),
    ],
)  # fmt: skip
def test_offsets_are_read_or_left(written: str, minutes: int | None) -> None:
    """A well-formed offset becomes minutes; another stays text."""
    assert offset_minutes(written) == minutes


def test_an_unset_clock_is_no_time() -> None:
    """Blanks and zeros are what cameras write whose clock was never set."""
    facts = read(nested([text(0x9003, b"0000:00:00 00:00:00\x00")], []))
    assert facts.date_time_original is None


GPS = [
    text(1, b"S\x00"), (2, 5, 3, rationals((30, 1), (15, 1), (0, 1))),
    text(3, b"W\x00"), (4, 5, 3, rationals((120, 1), (10, 1), (12, 1))),
]  # fmt: skip


def gps(*changes: tuple[int, int, int, bytes]) -> ExifFacts:
    """Facts of a GPS directory in which some entries are replaced."""
    tags = {entry[0]: entry for entry in [*GPS, *changes]}
    return read(nested([], [tags[tag] for tag in sorted(tags)]))


def test_southern_and_western_positions_are_negative() -> None:
    """The hemisphere decides the sign."""
    facts = gps((5, 1, 1, b"\x01"), (6, 5, 1, rationals((8000, 1000))))
    assert (facts.lat_e7, facts.lon_e7, facts.altitude_mm) == (-302_500_000, -1_201_700_000, -8_000)


@pytest.mark.parametrize(
    "change",
    [
        text(1, b"X\x00"),
        text(3, b"\x00"),
        (2, 5, 3, rationals((91, 1), (0, 1), (0, 1))),
        (2, 5, 4, rationals((1, 1), (1, 1), (1, 1), (1, 1))),
        (4, 10, 1, struct.pack("<ii", -5, 1)),
        text(2, b"somewhere\x00"),
    ],
)
def test_positions_that_cannot_be_are_noted(change: tuple[int, int, int, bytes]) -> None:
    """A position without hemisphere, off the globe or of another form is noted, not repaired."""
    facts = gps(change)
    assert (facts.position, [finding.code for finding in facts.findings]) == (
        None,
        ["location_unreadable"],
    )


def test_positions_in_text_are_read_and_noted() -> None:
    """Decimal commas in text are read as such, and the wrong type is noted."""
    facts = gps(text(2, b"52,00000,50,00000,34,01180\x00"), text(4, b"11/1,10/1,58/1\x00"))
    assert (facts.lat_e7, facts.lon_e7) == (-528_427_811, -111_827_778)
    assert [finding.code for finding in facts.findings] == ["exif_inconsistent"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ((6, 5, 1, rationals((5, 0))), 0),
        ((6, 5, 2, rationals((5, 1), (5, 1))), None),
        ((6, 5, 1, rationals((4_000_000_000, 1))), None),
        (text(6, b"high up\x00"), None),
    ],
)
def test_odd_altitudes_are_left_out(
    change: tuple[int, int, int, bytes], expected: int | None
) -> None:
    """An altitude that is no single number or beyond any aircraft is left out."""
    assert gps(change).altitude_mm == expected


@pytest.mark.parametrize(
    "changes",
    [
        [text(0x1D, b"2026:11:23\x00"), (7, 5, 3, rationals((25, 1), (0, 1), (0, 1)))],
        [text(0x1D, b"2026:11:23\x00"), (7, 5, 2, rationals((5, 1), (0, 1)))],
        [text(0x1D, b"2026:11:23\x00"), text(7, b"noon\x00")],
        [text(0x1D, b"today\x00"), (7, 5, 3, rationals((5, 1), (0, 1), (0, 1)))],
    ],
)
def test_odd_satellite_times_are_left_out(changes: list[tuple[int, int, int, bytes]]) -> None:
    """A satellite time that is not a time is left out."""
    assert gps(*changes).gps_time_utc is None


def test_an_impossible_orientation_is_kept_and_noted() -> None:
    """A number that names no orientation is kept as found."""
    facts = read(m.tiff((0x0112, 3, 1, b"\x09\x00")))
    assert (facts.orientation, [finding.code for finding in facts.findings]) == (
        9,
        ["exif_inconsistent"],
    )


def test_a_value_of_another_type_is_no_number() -> None:
    """A fraction where an integer belongs is left out."""
    assert read(m.tiff((0x0112, 5, 1, rationals((1, 2))))).orientation is None


def test_an_empty_directory_is_read_as_empty() -> None:
    """A block without entries has been read and says nothing."""
    assert read(m.tiff()) == ExifFacts(state=read(m.EXIF).state)


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"II*",
        b"no header",
        b"II*\x00\xff\xff\xff\xff",
        m.tiff((1, 99, 1, b"x")),
        m.heic(exif=m.EXIF),
    ],
)
def test_what_is_no_block_is_refused(block: bytes) -> None:
    """Bytes without a header or a readable entry are an error; other containers are not tried."""
    with pytest.raises(MediaInvalid):
        read(block)


def test_exceptions_of_exifread_stay_inside() -> None:
    """What exifread raises becomes our error with the exception's name and none of its text."""
    block = m.tiff((0x0100, 3, 1, b"\x01\x00"), (0x0112, 12, 1, b"\x00" * 8))[:-8]
    with pytest.raises(EvidenceError) as caught:
        read(block[:40])
    assert "exifread" in caught.value.detail or "entry" in caught.value.detail


def test_a_makernote_of_a_billion_elements_costs_nothing() -> None:
    """The 2 KB file that keeps exifread busy for minutes is read at once (exif-py#182)."""
    note = (0x927C, 7, 1_006_641_184, b"\x00" * 1800)
    block = nested([note], []) + b"\x00" * 200
    assert read_exif(Window.of(block)).make is None
    steps = MeteredReader(Window.of(block), max_reads=200)
    assert exifread.process_file(steps.as_binary(), details=False) != {}


def test_directories_in_a_ring_of_thousands_spend_the_budget() -> None:
    """A chain of overlapping directories is stopped after a bounded number of steps."""
    count = 5000
    rows = b"".join(struct.pack("<HHII", 0x9999, 3, 1, 0) for _ in range(count))
    step = 2 + 12 * count + 4
    chain = b""
    for number in range(20):
        following = 8 + step * (number + 1)
        chain += struct.pack("<H", count) + rows + struct.pack("<I", following)
    with pytest.raises(TooLarge):
        read(b"II*\x00\x08\x00\x00\x00" + chain)


def test_the_metered_reader_is_a_file() -> None:
    """Seeking, reading in bounded pieces and telling work as in any file."""
    reader = MeteredReader(Window.of(b"0123456789"), max_reads=4)
    assert (reader.readable(), reader.seekable()) == (True, True)
    assert (reader.seek(-3, 2), reader.read(), reader.tell()) == (7, b"789", 10)
    assert (reader.seek(-9, 1), reader.read(2), reader.seek(99), reader.read(1)) == (
        1,
        b"12",
        99,
        b"",
    )
    assert (reader.seek(-5), reader.read(1)) == (0, b"0")
    with pytest.raises(TooLarge):
        reader.read(1)


def test_windows_are_bounded() -> None:
    """A window gives exactly what is asked for, or refuses; parts stay inside it."""
    window = Window.of(b"0123456789").cut(2, 5)
    assert (window.take(0, 5), window.peek(3, 9), window.peek(-1, 3), window.peek(9, 1)) == (
        b"23456", b"56", b"", b"",
    )  # fmt: skip
    assert (window.cut(-4, 2).take(0, 2), window.cut(9, 9).size, window.read_whole(5)) == (
        b"23", 0, b"23456",
    )  # fmt: skip
    with pytest.raises(MediaInvalid):
        window.take(3, 3)
    with pytest.raises(TooLarge):
        window.read_whole(4)


def test_fractions_are_exact() -> None:
    """Thirds of a second do not become floats on the way."""
    facts = gps((2, 5, 3, rationals((0, 1), (0, 1), (1, 3))))
    assert facts.lat_e7 == round(Fraction(-1, 3 * 3600) * 10**7)
