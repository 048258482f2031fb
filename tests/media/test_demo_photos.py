"""Demo photos are real JPEGs with real structures, and say plainly that they are rendered."""

import io
import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from evidence.media.claims import compare
from evidence.media.inspection import inspect
from service.demo_photos import DemoPhoto, render_photos
from tests.tools import require_tool

AT = datetime(2026, 11, 23, 1, 4, 5, 678000, tzinfo=UTC)


@pytest.fixture(scope="module")
def photos() -> tuple[DemoPhoto, ...]:
    """The demo's photos."""
    return render_photos(AT)


def test_the_same_seed_gives_the_same_bytes(photos: tuple[DemoPhoto, ...]) -> None:
    """Seed and time decide every byte; another seed gives other pictures."""
    again, other = render_photos(AT), render_photos(AT, seed=40)
    assert [photo.data for photo in again] == [photo.data for photo in photos]
    assert all(one.data != two.data for one, two in zip(photos, other, strict=True))


def test_they_are_read_as_they_claim(photos: tuple[DemoPhoto, ...]) -> None:
    """Our own reading of each photo has no difference from what its device would claim."""
    for photo in photos:
        facts = inspect(io.BytesIO(photo.data), len(photo.data), photo.media_type)
        claim: dict[str, object] = {
            "captured_at": photo.captured_at.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z",
            "content": {"media_type": photo.media_type},
            "make": "Fengni",
            "place": {
                "accuracy_mm": photo.accuracy_mm,
                "height_mm": photo.height_mm,
                "lat_e7": photo.lat_e7,
                "lon_e7": photo.lon_e7,
            },
            "utc_offset_min": photo.utc_offset_min,
        }
        assert (compare(claim, json.loads(facts.to_json())), facts.findings) == ([], ())


def test_exiftool_finds_nothing_wrong(photos: tuple[DemoPhoto, ...], tmp_path: Path) -> None:
    """ExifTool validates the structures and reads the origin, the place and the attitude."""
    exiftool = require_tool("exiftool")
    for photo in photos:
        (tmp_path / photo.name).write_bytes(photo.data)
    command = [str(exiftool), "-json", "-n", "-G1", "-validate", "-all", str(tmp_path)]
    listed = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    read = {Path(row["SourceFile"]).name: row for row in listed}
    for photo in photos:
        row = read[photo.name]
        assert row["ExifTool:Validate"] == "0 0 0"
        assert row["IFD0:ImageDescription"] == "rendered by the Fengni project, shows no real place"
        assert row["XMP-iptcExt:DigitalSourceType"].endswith("algorithmicMedia")
        assert abs(row["Composite:GPSLatitude"] * 1e7 - photo.lat_e7) < 1
    drone = read["roof-from-drone.jpg"]
    assert (
        drone["XMP-drone-dji:GimbalPitchDegree"],
        float(drone["XMP-drone-dji:RelativeAltitude"]),
    ) == (
        -90.0,
        60.3,
    )


def test_places_south_and_west_are_written() -> None:
    """Negative coordinates, offsets and altitudes are written with their references."""
    photo = render_photos(AT, lat_e7=-335_000_000, lon_e7=-706_000_000, utc_offset_min=-210)[0]
    facts = inspect(io.BytesIO(photo.data), len(photo.data), photo.media_type)
    assert (facts.location.lat_e7, facts.location.lon_e7) == (-335_000_000, -706_000_000)
    assert (facts.exif.offset_original, facts.exif.utc_offset_min) == ("-03:30", -210)
