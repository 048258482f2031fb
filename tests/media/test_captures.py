"""Real files: what we read equals what ExifTool reads, and nothing is silently missed."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from evidence.media.inspection import inspect
from service.captures.sandbox import Sandbox

Row = dict[str, Any]
Expectation = tuple[str, object, object]

EXCEPTIONS = {
    ("goexif/exif/samples/geodegrees_as_string.jpg", "location"): (
        "The phone wrote decimal commas into text (52,00000,50,00000,34,01180). ExifTool takes"
        " each comma for a separator and reads 52° 0′ 50″; 52° 50′ 34.0118″ is what it says."
    ),
}
"""What differs from ExifTool, by file and facet, and why."""


@pytest.fixture(scope="module")
def rows(shared: Path) -> dict[str, Row]:
    """What ExifTool reads from each file, by path."""
    listed = json.loads((shared / "captures" / "exiftool.json").read_text("utf-8"))
    return {row["SourceFile"]: row for row in listed}


@pytest.fixture(scope="module")
def facts(shared: Path, rows: dict[str, Row]) -> dict[str, Row]:
    """What we read from each file inside the sandbox, by path."""
    read: dict[str, Row] = {}
    with Sandbox() as sandbox:
        for name, row in rows.items():
            path = shared / "captures" / name
            media_type = row.get("File:MIMEType", "application/octet-stream")
            result = sandbox.inspect(path, path.stat().st_size, media_type)
            assert (name, result.outcome) == (name, "ok")
            read[name] = json.loads(result.facts_json)
    return read


def first(row: Row, *names: str) -> str | None:
    """The first tag that has a value, as text."""
    values = (row.get(name) for name in names)
    return next((str(value).strip() for value in values if value not in {None, ""}), None)


def scaled(row: Row, name: str, factor: int) -> int | None:
    """A decimal tag times a factor, rounded."""
    return None if name not in row else round(float(row[name]) * factor)


def camera(row: Row, got: Row) -> Iterator[Expectation]:
    """Make, model, time, offsets and orientation of the Exif block."""
    exif = got["exif"]
    yield "make", first(row, "IFD0:Make", "ExifIFD:Make"), exif.get("make")
    yield "model", first(row, "IFD0:Model", "ExifIFD:Model"), exif.get("model")
    yield "time", first(row, "ExifIFD:DateTimeOriginal"), exif.get("date_time_original")
    yield "sub_sec", first(row, "ExifIFD:SubSecTimeOriginal"), exif.get("sub_sec_original")
    yield "offset", first(row, "ExifIFD:OffsetTimeOriginal"), exif.get("offset_original")
    yield "offset", first(row, "ExifIFD:OffsetTimeDigitized"), exif.get("offset_digitized")
    yield "offset", first(row, "ExifIFD:OffsetTime"), exif.get("offset_modified")
    yield "orientation", row.get("IFD0:Orientation"), exif.get("orientation")


def packet(row: Row, got: Row) -> Iterator[Expectation]:
    """Make, model and orientation of the XMP packet."""
    xmp = got["xmp"]
    yield "make", first(row, "XMP-tiff:Make"), xmp.get("make")
    yield "model", first(row, "XMP-tiff:Model"), xmp.get("model")
    yield "orientation", row.get("XMP-tiff:Orientation"), xmp.get("orientation")


def drone(row: Row, got: Row) -> Iterator[Expectation]:
    """Attitude and altitudes of a drone."""
    for name in ("Gimbal", "Flight"):
        for angle in ("Yaw", "Pitch", "Roll"):
            tag = f"XMP-drone-dji:{name}{angle}Degree"
            member = f"{name.lower()}_{angle.lower()}_mdeg"
            yield member, scaled(row, tag, 1000), got["xmp"].get(member)
    for name in ("Relative", "Absolute"):
        member = f"{name.lower()}_altitude_mm"
        yield member, scaled(row, f"XMP-drone-dji:{name}Altitude", 1000), got["xmp"].get(member)


def location(row: Row, got: Row) -> Iterator[Expectation]:
    """Position, to one ten-millionth of a degree (a centimetre), and altitude."""
    for tag, member, factor in (
        ("Composite:GPSLatitude", "lat_e7", 10**7),
        ("Composite:GPSLongitude", "lon_e7", 10**7),
        ("Composite:GPSAltitude", "altitude_mm", 1000),
    ):
        expected = scaled(row, tag, factor)
        read = got["location"].get(member, got["exif"].get(member))
        close = expected is not None and read is not None and abs(read - expected) <= 1
        yield member, expected, expected if close else read


def film(row: Row, got: Row) -> Iterator[Expectation]:
    """Creation time, make and model of a film."""
    created = str(row.get("QuickTime:CreateDate", "0000"))
    text = None
    if not created.startswith("0000"):
        text = created.replace(":", "-", 2).replace(" ", "T") + "Z"
    yield "created", text, got["video"].get("created_utc")
    yield "make", first(row, "Keys:Make"), got["video"].get("make")
    yield "model", first(row, "Keys:Model"), got["video"].get("model")


@pytest.mark.parametrize(
    ("what", "fewest"),
    [(camera, 350), (packet, 15), (drone, 40), (location, 120), (film, 9)],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_facts_equal_exiftool(
    what: Callable[[Row, Row], Iterator[Expectation]],
    fewest: int,
    rows: dict[str, Row],
    facts: dict[str, Row],
) -> None:
    """Each fact that ExifTool reads from the captures is read with the same value."""
    compared = [
        (name, member, expected, read)
        for name, row in rows.items()
        if (name, what.__name__) not in EXCEPTIONS
        for member, expected, read in what(row, facts[name])
        if expected is not None
    ]
    differing = [entry for entry in compared if str(entry[2]) != str(entry[3])]
    assert (differing, len(compared) >= fewest) == ([], True)


def test_decimal_commas_are_read_as_such(facts: dict[str, Row]) -> None:
    """The one excepted file is read as 52° 50′ 34.0118″ N, 11° 10′ 58.2836″ E, and noted."""
    read = facts["goexif/exif/samples/geodegrees_as_string.jpg"]
    place = (read["location"]["lat_e7"], read["location"]["lon_e7"])
    noted = "exif_inconsistent" in {finding["code"] for finding in read["findings"]}
    assert (place, noted) == ((528427811, 111828566), True)


CAMERA_TAGS = ("IFD0:Make", "IFD0:Model", "IFD0:Orientation", "IFD0:Software", "ExifIFD:", "GPS:")


def test_silence_never_passes_for_absence(rows: dict[str, Row], facts: dict[str, Row]) -> None:
    """Where ExifTool sees Exif, XMP or C2PA, no facet says absent."""
    marks = {"exif": CAMERA_TAGS, "xmp": ("XMP-",), "c2pa": ("JUMBF:", "C2PA:", "CBOR:")}
    silent = [
        (name, facet)
        for name, row in rows.items()
        for facet, prefixes in marks.items()
        if any(tag.startswith(prefixes) for tag in row) and facts[name][facet]["state"] == "absent"
    ]
    assert silent == []


def test_what_is_not_read_is_excluded_by_name(rows: dict[str, Row], facts: dict[str, Row]) -> None:
    """Only formats that no camera here writes are unsupported."""
    unsupported = {
        facts[name]["sniffed_media_type"]
        for name in rows
        if facts[name]["container"]["state"] == "unsupported"
    }
    assert unsupported == {
        "application/octet-stream",
        "application/x-7z-compressed",
        "image/gif",
        "image/svg+xml",
        "text/plain",
        "video/x-matroska",
    }


def test_the_sandbox_reads_what_the_library_reads(shared: Path, facts: dict[str, Row]) -> None:
    """The confined process gives the same facts as a call without walls."""
    names = [name for name in facts if name.endswith((".jpg", ".heic", ".mp4", ".png"))][::9]
    for name in names:
        path = shared / "captures" / name
        announced = facts[name]["announced_media_type"]
        with path.open("rb") as file:
            direct = inspect(file, path.stat().st_size, announced)
        assert (name, json.loads(direct.to_json())) == (name, facts[name])


def test_a_valid_manifest_is_not_called_trusted(facts: dict[str, Row]) -> None:
    """Valid, invalid and held elsewhere stay apart, and no signer is trusted without an anchor."""
    base = "c2pa-python-fixtures/tests/fixtures/files-for-reading-tests/"
    remote = facts["c2pa-python-fixtures/tests/fixtures/cloud.jpg"]["c2pa"]
    verdicts = {read["c2pa"].get("validation") for read in facts.values()}
    seen = (
        facts["c2pa-rs-fixtures/cli/sample/C.jpg"]["c2pa"]["validation"],
        facts[base + "XCA.jpg"]["c2pa"]["validation"],
        remote["held_elsewhere"],
        verdicts,
    )
    assert seen == ("valid", "invalid", "named", {None, "valid", "invalid"})
