"""The ZIP layer of a package: one directory that every reader sees alike.

ZIP leaves room: bytes before the first member, gaps and overlaps between members, comments, a
ZIP64 directory beside the plain one. Whoever writes a package for two readers hides the second
one's files in that room. So a package has none:

    local header, name, data     of the first member, at offset 0
    …                            each next one begins where the one before ends
    central directory            in the same order, begins where the last member ends
    [ZIP64 end record, locator]  iff a field of the end record is a sentinel
    end record                   without a comment, the last 22 bytes

Does: reads the directory under fixed limits and demands this layout. Refuses everything else; it
decides nothing about names and contents.

Source: APPNOTE 6.3.9, sections 4.3 and 4.5.3; docs/evidence-format.md §8.
"""

import struct
from dataclasses import dataclass, replace
from typing import BinaryIO

from evidence.errors import PackageInvalid, TooLarge

MAX_MEMBERS = 100_000
MAX_DIRECTORY_BYTES = 32 * 1024 * 1024  # about 300 bytes for each member
STORED, DEFLATED = 0, 8
_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_SIZES = struct.Struct("<2H2Q")  # the ZIP64 extra field of a local header
_HALF, _WORD = 0xFFFF, 0xFFFFFFFF
_ZIP64 = 1
_VERSIONS = (20, 45)  # that a reader needs: deflated members, and numbers beyond 32 bits
_MADE_BY = tuple(3 << 8 | version for version in _VERSIONS)  # on Unix
_TIME, _DATE = 0, 1 << 5 | 1  # 1980-01-01 00:00: when a package was made, it says inside
_ATTRIBUTES = 0o100644 << 16  # a regular file that its owner may write and everybody read


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One file of the archive.

    Attributes:
        name: as its bytes are, ASCII.
        method: `STORED` or `DEFLATED`.
        crc: CRC-32 of the plain bytes, as both headers state it.
        packed_bytes: length of the data in the archive.
        size_bytes: length of the plain bytes.
        offset: of the first data byte.
    """

    name: str
    method: int
    crc: int
    packed_bytes: int
    size_bytes: int
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Directory:
    count: int
    size_bytes: int
    offset: int
    end: int


def read_members(stream: BinaryIO) -> list[Member]:
    """Read the archive's directory.

    Args:
        stream: seekable; the attacker's.

    Returns:
        The members in their order.

    Raises:
        PackageInvalid: no ZIP file, or not of the one layout.
        TooLarge: more members, or a longer directory, than a reader takes.
    """
    try:
        return _read(stream)
    except struct.error as error:
        raise PackageInvalid("The package's directory is cut off.") from error


def _read(stream: BinaryIO) -> list[Member]:
    directory = _directory(stream, stream.seek(0, 2))
    stream.seek(directory.offset)
    raw = stream.read(directory.size_bytes)
    members: list[Member] = []
    at = next_local = 0
    for _ in range(directory.count):
        member, header, length = _entry(raw, at)
        at += length
        if header != next_local:
            raise PackageInvalid("The package has room between its members, or they overlap.")
        member = replace(member, offset=_data_offset(stream, member, header))
        next_local = member.offset + member.packed_bytes
        members.append(member)
    if at != len(raw) or next_local != directory.offset:
        raise PackageInvalid("The package's directory does not describe this file.")
    return members


def _directory(stream: BinaryIO, file_bytes: int) -> _Directory:
    """Find the directory, and look at its declared size before it is read into memory."""
    end = file_bytes - _END.size
    if end < 0:
        raise PackageInvalid("The package is no ZIP file.")
    signature, disk, first, here, count, size, offset, comment = _END.unpack(
        _at(stream, end, _END.size)
    )
    if signature != b"PK\x05\x06":
        raise PackageInvalid("The package is no ZIP file, or something follows its end record.")
    if disk or first or here != count or comment:
        raise PackageInvalid("The package's end record does not describe this file.")
    if count == _HALF or _WORD in (size, offset):
        count, size, offset, end = _end64(stream, end, (count, size, offset))
    elif _at(stream, max(0, end - _LOCATOR.size), 4) == b"PK\x06\x07":
        raise PackageInvalid("The package has a second directory.")
    if count > MAX_MEMBERS or size > MAX_DIRECTORY_BYTES:
        raise TooLarge("The package has more members than a reader takes.")
    if offset + size != end:
        raise PackageInvalid("The package's directory does not end where it should.")
    return _Directory(count=count, size_bytes=size, offset=offset, end=end)


def _end64(stream: BinaryIO, end: int, plain: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """(count, size, offset, where the end structures begin) as ZIP64 states them."""
    start = end - _LOCATOR.size - _END64.size
    if start < 0:
        raise PackageInvalid("The package's directory is malformed.")
    signature, disk, at, disks = _LOCATOR.unpack(_at(stream, end - _LOCATOR.size, _LOCATOR.size))
    if signature != b"PK\x06\x07" or disk or disks != 1 or at != start:
        raise PackageInvalid("The package's directory is malformed.")
    signature, length, made_by, version, disk, first, here, count, size, offset = _END64.unpack(
        _at(stream, start, _END64.size)
    )
    stated = (count, size, offset)
    same = all(
        small in (large, sentinel)
        for small, large, sentinel in zip(plain, stated, (_HALF, _WORD, _WORD), strict=True)
    )
    form = (signature, length, made_by, version)
    well_formed = form == (b"PK\x06\x06", _END64.size - 12, _VERSIONS[1], _VERSIONS[1])
    if not well_formed or disk or first or here != count or not same:
        raise PackageInvalid("The package's directory is malformed.")
    return count, size, offset, start


def _entry(raw: bytes, at: int) -> tuple[Member, int, int]:
    """One entry of the directory: the member, where its local header is, the entry's length."""
    fields = _CENTRAL.unpack_from(raw, at)
    signature, made_by, version, flags, method, time, date, crc, packed, size = fields[:10]
    name_bytes, extra_bytes, comment_bytes, disk, internal, attributes, header = fields[10:]
    start = at + _CENTRAL.size
    name = raw[start : start + name_bytes]
    extra = raw[start + name_bytes : start + name_bytes + extra_bytes]
    if signature != b"PK\x01\x02" or len(name) + len(extra) != name_bytes + extra_bytes:
        raise PackageInvalid("The package's directory is malformed.")
    if flags or comment_bytes or disk or internal or method not in (STORED, DEFLATED):
        raise PackageInvalid("A member has a form that packages do not use.")
    if made_by not in _MADE_BY or version not in _VERSIONS or (time, date) != (_TIME, _DATE):
        raise PackageInvalid("A member states another version or time than packages do.")
    if attributes != _ATTRIBUTES:
        raise PackageInvalid("A member is no plain file.")
    size, packed, header = _large(extra, (size, packed, header))
    member = Member(
        name=_ascii(name), method=method, crc=crc, packed_bytes=packed, size_bytes=size, offset=0
    )
    return member, header, _CENTRAL.size + name_bytes + extra_bytes


def _large(extra: bytes, values: tuple[int, int, int]) -> tuple[int, int, int]:
    """Put the ZIP64 extra field's numbers in the place of sentinels; it has no other extra."""
    wanted = [number for number, value in enumerate(values) if value == _WORD]
    expected = struct.pack("<2H", _ZIP64, 8 * len(wanted)) if wanted else b""
    if extra[: len(expected)] != expected or len(extra) != len(expected) + 8 * len(wanted):
        raise PackageInvalid("A member has an extra field that packages do not use.")
    found = list(values)
    for place, number in enumerate(wanted):
        [found[number]] = struct.unpack_from("<Q", extra, 4 + 8 * place)
    return found[0], found[1], found[2]


def _data_offset(stream: BinaryIO, member: Member, header: int) -> int:
    """Where the data begin, once the local header says exactly what the directory says."""
    fields = _LOCAL.unpack(_at(stream, header, _LOCAL.size))
    signature, version, flags, method, time, date, crc, packed, size = fields[:9]
    name_bytes, extra_bytes = fields[9:]
    rest = stream.read(name_bytes + extra_bytes)
    extra = rest[name_bytes:]
    sizes = (packed, size)
    if sizes == (_WORD, _WORD):
        expected = _SIZES.pack(_ZIP64, 16, member.size_bytes, member.packed_bytes)
    else:
        expected = b""
    plain = _WORD not in sizes and sizes == (member.packed_bytes, member.size_bytes)
    agrees = plain or sizes == (_WORD, _WORD)
    if (
        signature != b"PK\x03\x04"
        or version not in _VERSIONS
        or (flags, method, time, date) != (0, member.method, _TIME, _DATE)
        or crc != member.crc
        or rest[:name_bytes] != member.name.encode("ascii")
        or not agrees
        or extra != expected
    ):
        raise PackageInvalid("A member's two headers disagree.")
    return header + _LOCAL.size + len(rest)


def _ascii(name: bytes) -> str:
    try:
        return name.decode("ascii")
    except UnicodeDecodeError as error:
        raise PackageInvalid("A member's name is not a plain path.") from error


def _at(stream: BinaryIO, offset: int, length: int) -> bytes:
    """Exactly these bytes; fewer are a `struct.error` where they are unpacked."""
    if offset >= 2**63:
        raise PackageInvalid("The package's directory is malformed.")
    stream.seek(offset)
    return stream.read(length)
