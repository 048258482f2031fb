"""What a device says of a file: no more than it knows."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from evidence.canonical import JSONObject
from evidence.keys import P256Signer
from evidence.statement import open_statement
from service.client.device import (
    Claim,
    Device,
    OpenSession,
    measure_file,
    media_type_of,
    parse_place,
)
from service.client.failures import Misused
from service.context import fresh_salt, system_clock

SIGNER = P256Signer.generate()
DEVICE = Device(
    signer=SIGNER,
    audience="demo",
    organ="demo-organ",
    clock=system_clock,
    fresh_salt=fresh_salt,
)


def capture_of(path: Path, claim: Claim, session: OpenSession | None = None) -> JSONObject:
    """The body of the capture that the device makes of a file."""
    file = measure_file(path, lambda _size: None)
    signed = DEVICE.capture(file, claim, session=session).signed
    return dict(open_statement(signed.raw, signed.signature, SIGNER.public_key).body)


def test_a_file_from_a_disk_is_an_import_with_its_own_time(tmp_path: Path) -> None:
    """Without a better word the time is the file's and the grade is the lowest."""
    path = tmp_path / "a.jpg"
    path.write_bytes(b"four")
    body = capture_of(path, Claim())
    modified = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    assert body["mode"] == "import"
    assert (
        body["captured_at"] == f"{modified:%Y-%m-%dT%H:%M:%S}.{modified.microsecond // 1000:03d}Z"
    )
    assert "number" not in body


def test_a_name_that_no_statement_may_hold_is_left_out(tmp_path: Path) -> None:
    """A file name with a bidirectional control is captured without its name."""
    path = tmp_path / "gpj.\u202ephoto"
    path.write_bytes(b"four")
    content = capture_of(path, Claim())["content"]
    assert isinstance(content, dict)
    assert sorted(content) == ["media_type", "sha256", "size_bytes"]


def test_captures_of_a_session_are_numbered_and_chained(tmp_path: Path) -> None:
    """Each capture names the opening as its subject and the statement before it."""
    path = tmp_path / "a.jpg"
    path.write_bytes(b"four")
    file = measure_file(path, lambda _size: None)
    session = OpenSession(id="ab" * 32, last="ab" * 32)
    first = DEVICE.capture(file, Claim(), session=session)
    session.took(first)
    second = DEVICE.capture(file, Claim(), session=session)
    statement = open_statement(second.signed.raw, second.signed.signature, SIGNER.public_key)
    assert (first.number, second.number) == (1, 2)
    assert statement.previous == first.id
    assert statement.about is not None
    assert statement.about.statement == session.id


def test_a_claim_of_no_form_is_a_wrong_command(tmp_path: Path) -> None:
    """What the format refuses is reported as misuse, naming the member."""
    path = tmp_path / "a.jpg"
    path.write_bytes(b"four")
    with pytest.raises(Misused, match="/body/task"):
        capture_of(path, Claim(task="No Such Form"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.JPG", "image/jpeg"),
        ("a.heic", "image/heic"),
        ("a.dng", "image/x-adobe-dng"),
        ("a.mp4", "video/mp4"),
        ("a", "application/octet-stream"),
        ("a.nosuchthing", "application/octet-stream"),
    ],
)
def test_the_media_type_is_what_the_name_tells(name: str, expected: str) -> None:
    """The type is told from the name; the inspection looks at the bytes."""
    assert media_type_of(Path(name)) == expected


def test_a_place_is_read_in_degrees_and_metres() -> None:
    """Degrees become ten-millionths, metres become millimetres."""
    assert parse_place("30.2741, 120.1551,8") == {
        "lat_e7": 302741000,
        "lon_e7": 1201551000,
        "accuracy_mm": 8000,
        "source": "manual",
    }
    assert parse_place("-1,-2")["accuracy_mm"] == 100_000


@pytest.mark.parametrize("text", ["", "30", "91,0", "0,181", "30;120", "a,b"])
def test_a_place_that_is_none_is_refused(text: str) -> None:
    """Other forms and places off the earth are misuse."""
    with pytest.raises(Misused):
        parse_place(text)
