"""Two archives in one file: each reader finds one of them, and not every reader the same one.

`regenerate.py` writes each as a package vector. Both archives are whole bags with manifests that
fit; the second one has another photo. `tests/judges/test_package_layouts.py` shows what stock
tools extract. `edges.py` writes one archive whose numbers are all ZIP64's.
"""

import io
import struct
import zipfile

_END = struct.Struct("<4s4H2LH")
_CENTRAL_BYTES = 46
_LOCAL_BYTES = 30
_WORD = 0xFFFFFFFF


def archive_in_front(good: bytes, other: bytes) -> bytes:
    """The other archive whole, then the good one: who reads from the beginning sees the other."""
    data, directory = taken_apart(good)
    at = len(other)
    moved = shifted(directory, at)
    return other + data + moved + end_record(moved, at + len(data))


def two_directories(plain: bytes, zip64: bytes) -> bytes:
    """A plain directory of one archive, and a ZIP64 directory of another beside it."""
    data, directory = taken_apart(plain)
    more, listed = taken_apart(zip64)
    before = data + directory + more  # the members between: who counts stops at the right place
    second = shifted(listed, len(data) + len(directory))
    count, at, at64 = entries(second), len(before), len(before) + len(second)
    end64 = struct.pack(
        "<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, len(second), at
    )
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, at64, 1)
    return before + second + end64 + locator + end_record(directory, len(data))


def taken_apart(archive: bytes) -> tuple[bytes, bytes]:
    """A small archive's members and its directory."""
    *_, size_bytes, offset, _ = _END.unpack(archive[-_END.size :])
    return archive[:offset], archive[offset : offset + size_bytes]


def shifted(directory: bytes, by: int) -> bytes:
    """The directory of members that lie so many bytes further on."""
    moved, at = bytearray(directory), 0
    while at < len(moved):
        [offset] = struct.unpack_from("<L", moved, at + 42)
        struct.pack_into("<L", moved, at + 42, offset + by)
        at += _CENTRAL_BYTES + sum(struct.unpack_from("<3H", moved, at + 28))
    return bytes(moved)


def entries(directory: bytes) -> int:
    """How many members a directory lists."""
    return directory.count(b"PK\x01\x02")


def end_record(directory: bytes, offset: int) -> bytes:
    """The end record of a directory, plain."""
    count = entries(directory)
    return _END.pack(b"PK\x05\x06", 0, 0, count, count, len(directory), offset, 0)


def zip64_throughout(archive: bytes) -> bytes:
    """A small archive with a sentinel in each place that may have one."""
    data = directory = b""
    with zipfile.ZipFile(io.BytesIO(archive)) as old:
        members = old.infolist()
    for info in members:
        name = info.filename.encode()
        start = info.header_offset + _LOCAL_BYTES + len(name)
        sizes = struct.pack("<2Q", info.file_size, info.compress_size)
        common = (45, 0, info.compress_type, 0, 33, info.CRC, _WORD, _WORD, len(name))
        offset = struct.pack("<Q", len(data))
        data += struct.pack("<4s5H3L2H", b"PK\x03\x04", *common, 20)
        data += name + struct.pack("<2H", 1, 16) + sizes
        data += archive[start : start + info.compress_size]
        more = (28, 0, 0, 0, info.external_attr, _WORD)
        directory += struct.pack("<4s6H3L5H2L", b"PK\x01\x02", 3 << 8 | 45, *common, *more)
        directory += name + struct.pack("<2H", 1, 24) + sizes + offset
    at, count = len(data) + len(directory), len(members)
    numbers = (44, 45, 45, 0, 0, count, count, len(directory), len(data))
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", *numbers)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, at, 1)
    end = _END.pack(b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, _WORD, _WORD, 0)
    return data + directory + end64 + locator + end
