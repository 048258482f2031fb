"""The one layout of a package's ZIP: ZIP64 where it is needed, and no room for anything else."""

import io
import struct
import zipfile
from collections.abc import Callable

import pytest

from evidence.archive import read_members
from evidence.errors import EvidenceError, PackageInvalid
from evidence.package import Package
from tests.evidence.package_maker import plain_file

CENTRAL, END = b"PK\x01\x02", b"PK\x05\x06"
NAME = "fengni-package/a"
WORD = 0xFFFFFFFF
MADE, MODE = 3 << 8 | 45, 0o100644 << 16


def zipped(*, zip64: bool = False) -> bytes:
    """A ZIP of one stored member; with `zip64` its local header states the sizes as ZIP64 does."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        info = plain_file(NAME)
        info.file_size = 5
        with archive.open(info, "w", force_zip64=zip64) as member:
            member.write(b"hello")
    return out.getvalue()


def changed(data: bytes, at: int, form: str, *values: int) -> bytes:
    """Overwrite numbers at a place."""
    out = bytearray(data)
    struct.pack_into(form, out, at, *values)
    return bytes(out)


def entry(*, extra: bytes = b"", **fields: int) -> bytes:
    """The archive with another entry in its directory, and an end record that fits."""
    places = {"size": (24, "<L"), "packed": (20, "<L"), "header": (42, "<L"), "mode": (38, "<L")}
    data = zipped()
    at, end = data.rindex(CENTRAL), data.rindex(END)
    for name, value in fields.items():
        place, form = places[name]
        data = changed(data, at + place, form, value)
    data = changed(data, at + 30, "<H", len(extra))
    data = changed(data, end + 12, "<L", end - at + len(extra))
    return data[:end] + extra + data[end:]


def end64(
    data: bytes, *, count: int = 0xFFFF, size: int = WORD, offset: int = WORD, **more: int
) -> bytes:
    """The archive with a ZIP64 end record; `more` says what it states instead of the truth."""
    at, end = data.rindex(CENTRAL), data.rindex(END)
    stated = {"length": 44, "disk": 0, "count": 1, "size": end - at, "offset": at, **more}
    record = struct.pack(
        "<4sQ2H2L4Q",
        b"PK\x06\x06",
        stated["length"],
        45,
        45,
        stated["disk"],
        0,
        stated["count"],
        stated["count"],
        stated["size"],
        stated["offset"],
    )
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, stated.get("record", end), 1)
    plain = struct.pack("<4s4H2LH", END, 0, 0, count, count, size, offset, 0)
    return data[:end] + record + locator + plain


def zip64_extra(*numbers: int) -> bytes:
    """The extra field that holds the sentinels' numbers."""
    return struct.pack(f"<2H{len(numbers)}Q", 1, 8 * len(numbers), *numbers)


@pytest.mark.parametrize(
    "data",
    [
        zipped(),
        zipped(zip64=True),
        entry(size=WORD, extra=zip64_extra(5)),
        entry(size=WORD, packed=WORD, header=WORD, extra=zip64_extra(5, 5, 0)),
        end64(zipped()),
        end64(zipped(), count=1, size=WORD),
    ],
)
def test_zip64_is_read_where_it_is_needed(data: bytes) -> None:
    """Numbers that do not fit stand in the ZIP64 structures, and only those."""
    assert Package(io.BytesIO(data)).read("a") == b"hello"


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (entry(size=WORD, extra=zip64_extra(5, 5)), "extra field"),
        (entry(size=WORD), "extra field"),
        (entry(extra=zip64_extra(5)), "extra field"),
        (entry(extra=b"UT\x01\x00x"), "extra field"),
        (entry(mode=0o120777 << 16), "plain file"),
        (entry(mode=0x10), "plain file"),
        (entry(mode=0o100600 << 16), "plain file"),
        (changed(zipped(zip64=True), 46, "<H", 2), "headers disagree"),
        (changed(entry(size=WORD, extra=zip64_extra(WORD)), 22, "<L", WORD), "headers disagree"),
        (end64(zipped(), length=45), "malformed"),
        (end64(zipped(), disk=1), "malformed"),
        (end64(zipped(), record=1), "malformed"),
        (end64(zipped(), offset=7), "malformed"),
        (end64(zipped(), count=1, size=99, offset=WORD), "malformed"),
        (end64(zipped(), count=1, size=zipped().rindex(END), offset=0), "second directory"),
    ],
)
def test_what_zip64_has_no_room_for_is_refused(data: bytes, told: str) -> None:
    """Nothing is repeated, left over, or stated in two ways."""
    with pytest.raises(PackageInvalid, match=told):
        Package(io.BytesIO(data))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda data, at, _: changed(data, at + 28, "<H", 9999), "malformed"),
        (lambda data, _, end: changed(data, end + 8, "<2H", 2, 2), "cut off"),
        (lambda data, at, _: changed(changed(data, at + 24, "<L", 4), 22, "<L", 4), "two sizes"),
    ],
    ids=["a name without its end", "an entry that is not there", "two sizes"],
)
def test_a_directory_that_describes_another_file_is_refused(
    change: Callable[[bytes, int, int], bytes], told: str
) -> None:
    """Lengths, counts and offsets that lead out of the file are refused as what they are."""
    data = zipped()
    with pytest.raises(EvidenceError, match=told):
        Package(io.BytesIO(change(data, data.rindex(CENTRAL), data.rindex(END))))


def test_a_member_behind_every_file_is_refused() -> None:
    """A first member that claims 2^63 bytes puts the second where no file can be read."""
    name, huge = NAME.encode(), 2**63
    local = struct.pack("<4s5H3L2H", b"PK\x03\x04", 45, 0, 0, 0, 33, 0, WORD, WORD, len(name), 20)
    local += name + zip64_extra(huge, huge)
    first = central(name, WORD, WORD, 0, zip64_extra(huge, huge))
    second = central(name[:-1] + b"b", 5, 5, WORD, zip64_extra(len(local) + huge))
    folder = first + second
    end = struct.pack("<4s4H2LH", END, 0, 0, 2, 2, len(folder), len(local), 0)
    with pytest.raises(PackageInvalid, match="malformed"):
        read_members(io.BytesIO(local + folder + end))


def central(name: bytes, packed: int, size: int, header: int, extra: bytes) -> bytes:
    """An entry of a directory."""
    numbers = (MADE, 45, 0, 0, 0, 33, 0, packed, size, len(name), len(extra), 0, 0, 0, MODE, header)
    return struct.pack("<4s6H3L5H2L", CENTRAL, *numbers) + name + extra
