"""The export package: a BagIt bag in a ZIP, written and read over streams handed in.

Does: writes members in one fixed order, originals stored and small members deflated; reads
a package as an attacker's. Refuses: encrypted or oddly compressed members, names that are
not plain, two members of one name (also in another case), local headers that disagree with
the central directory, members outside the one top folder, sums that pass the limits.
Opens nothing by name and trusts nothing inside.

    fengni-package/bagit.txt
    fengni-package/manifest-sha256.txt
    fengni-package/data/index.json
    fengni-package/data/statements/<statement id>.json     canonical bytes, as signed
    fengni-package/data/leaves/<statement id>.json         the log entry, as hashed
    fengni-package/data/proofs/<statement id>.tlog-proof   c2sp.org/tlog-proof@v1
    fengni-package/data/timestamps/<sha256 of the covered bytes>/<n>.tsr
    fengni-package/data/originals/<capture id>.<extension>

Source: RFC 8493 (BagIt 1.0), APPNOTE 6.3.9 (ZIP); docs/evidence-format.md §8.
"""

import re
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from evidence.errors import DigestMismatch, PackageInvalid, TooLarge

MAX_MEMBERS = 100_000
MAX_DIRECTORY_BYTES = 32 * 1024 * 1024  # about 300 bytes for each member
MAX_SMALL_BYTES = 4 * 1024 * 1024  # any member that is not an original
MAX_SMALL_TOTAL_BYTES = 1024 * 1024 * 1024
MAX_EXPANSION = 200  # deflate reaches 1,032; no JSON or note of ours comes near this
PIECE_BYTES = 1024 * 1024
ORIGINALS = "data/originals/"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}(?:/[A-Za-z0-9][A-Za-z0-9._-]{0,127}){1,5}")
_MANIFEST_LINE = re.compile(r"([0-9a-f]{64}) {1,2}([!-~]+)")
_LOCAL_HEADER = struct.Struct("<4s5H3L2H")
_END = struct.Struct("<4s4H2LH")
_END_BYTES = 22
_ZIP64_LOCATOR = struct.Struct("<4sLQL")
_ZIP64_END = struct.Struct("<4sQ2H2L4Q")
_SENTINELS = (0xFFFF, 0xFFFFFFFF)
_ENCRYPTED = 0x1
_DESCRIPTOR = 0x8


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    info: zipfile.ZipInfo
    offset: int  # of the member's first data byte


class Package:
    """A package opened for reading; every answer is about bytes, none about trust."""

    __slots__ = ("_members", "_stream", "folder")

    def __init__(self, stream: BinaryIO) -> None:
        """Read the directory and refuse what no package of ours holds.

        Args:
            stream: seekable; stays the caller's to close.

        Raises:
            PackageInvalid: no ZIP, or a hostile one.
            TooLarge: a limit is passed.
        """
        self._stream = stream
        size_bytes = stream.seek(0, 2)
        _check_end(stream, size_bytes)
        try:
            with zipfile.ZipFile(stream) as archive:
                infos, directory = archive.infolist(), archive.start_dir
        except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error) as error:
            raise PackageInvalid("The package is no readable ZIP file.") from error
        self.folder = _top_folder(infos)
        self._members = self._places(infos, size_bytes)
        _check_apart(self._members.values(), directory)

    def names(self) -> tuple[str, ...]:
        """Every member without the top folder, sorted."""
        return tuple(sorted(self._members))

    def size_bytes(self, name: str) -> int:
        """How long a member is when read.

        Raises:
            PackageInvalid: there is no such member.
        """
        return self._place(name).info.file_size

    def read(self, name: str) -> bytes:
        """Read a small member whole.

        Raises:
            PackageInvalid: there is none, or its compressed bytes are damaged.
            TooLarge: it passes the limit for small members.
        """
        place = self._place(name)
        if place.info.file_size > MAX_SMALL_BYTES:
            raise TooLarge("A member that should be small is not.", pointer=name)
        self._stream.seek(place.offset)
        data = self._stream.read(place.info.compress_size)
        if place.info.compress_type == zipfile.ZIP_DEFLATED:
            data = _inflate(data, place.info.file_size)
        if len(data) != place.info.file_size:
            raise PackageInvalid("A member is shorter than it says.", pointer=name)
        return data

    def pieces(self, name: str) -> Iterator[memoryview]:
        """Read a stored member piece by piece, up to 1 MiB each, into one buffer.

        A piece is valid until the next is asked for.

        Raises:
            PackageInvalid: there is no such member, it is compressed, or it ends early.
        """
        place = self._place(name)
        if place.info.compress_type != zipfile.ZIP_STORED:
            raise PackageInvalid("An original is compressed; originals are stored.", pointer=name)
        buffer = memoryview(bytearray(PIECE_BYTES))
        self._stream.seek(place.offset)
        left = place.info.file_size
        while left:
            wanted = buffer[: min(left, PIECE_BYTES)]
            got = int(self._stream.readinto(wanted))  # type: ignore[attr-defined]
            if not got:
                raise PackageInvalid("A member is shorter than it says.", pointer=name)
            left -= got
            yield wanted[:got]

    def _place(self, name: str) -> _Place:
        if name not in self._members:
            raise PackageInvalid("A member that the package needs is missing.", pointer=name)
        return self._members[name]

    def _places(self, infos: list[zipfile.ZipInfo], size_bytes: int) -> dict[str, _Place]:
        places: dict[str, _Place] = {}
        folded: set[str] = set()
        small = 0
        for info in infos:
            _check_info(info)
            name = info.filename.removeprefix(f"{self.folder}/")
            if name.lower() in folded:
                raise PackageInvalid("Two members of the package have one name.")
            folded.add(name.lower())
            small += 0 if name.startswith(ORIGINALS) else info.file_size
            places[name] = _Place(info=info, offset=self._data_offset(info, size_bytes))
        if small > MAX_SMALL_TOTAL_BYTES:
            raise TooLarge("The package's small members are too large together.")
        return places

    def _data_offset(self, info: zipfile.ZipInfo, size_bytes: int) -> int:
        """Where the data begin; two readers must not see two different packages."""
        if not 0 <= info.header_offset < size_bytes:  # negative where a prefix was claimed
            raise PackageInvalid("A member's header lies outside the package.")
        self._stream.seek(info.header_offset)
        head = self._stream.read(_LOCAL_HEADER.size)
        if len(head) != _LOCAL_HEADER.size:
            raise PackageInvalid("A member's header lies outside the package.")
        fields = _LOCAL_HEADER.unpack(head)
        name = self._stream.read(fields[9])
        if (
            fields[0] != b"PK\x03\x04"
            or name != info.orig_filename.encode("ascii", "replace")
            or fields[3] != info.compress_type
            or fields[2] != info.flag_bits
            or fields[6] != info.CRC
            or fields[7] not in (info.compress_size, _SENTINELS[1])
            or fields[8] not in (info.file_size, _SENTINELS[1])
        ):
            raise PackageInvalid("A member's two headers disagree.")
        offset: int = info.header_offset + _LOCAL_HEADER.size + fields[9] + fields[10]
        return offset


def parse_manifest(data: bytes) -> dict[str, str]:
    """Read a BagIt `manifest-sha256.txt` or `tagmanifest-sha256.txt`.

    Args:
        data: UTF-8 lines of 64 hex digits, one or two spaces, a plain path.

    Returns:
        SHA-256 by member name.

    Raises:
        PackageInvalid: another form, or a name that stands twice.
    """
    found: dict[str, str] = {}
    lines = data.decode("ascii", "replace").split("\n")
    if lines[-1] or len(lines) > MAX_MEMBERS:
        raise PackageInvalid("A manifest does not end in a line feed, or is too long.")
    for line in lines[:-1]:
        match = _MANIFEST_LINE.fullmatch(line)
        if not match or match[2] in found:
            raise PackageInvalid("A manifest's line is malformed, or names a file twice.")
        found[match[2]] = match[1]
    return found


def check_listed(package: Package, manifest: Mapping[str, str], tags: Mapping[str, str]) -> None:
    """Demand that every member is listed exactly where BagIt says, and none is missing.

    Raises:
        DigestMismatch: a member is not listed, or a listed one is not there.
    """
    names = set(package.names())
    payload = {name for name in names if name.startswith("data/")}
    loose = names - payload - {"tagmanifest-sha256.txt"}
    if payload != set(manifest) or loose != set(tags):
        raise DigestMismatch("A file is in the package but not in its list, or the reverse.")


def _check_end(stream: BinaryIO, size_bytes: int) -> None:
    """Look at the directory's declared size before anything reads it into memory."""
    tail_bytes = min(size_bytes, _END_BYTES + 65_535)
    stream.seek(size_bytes - tail_bytes)
    tail = stream.read(tail_bytes)
    found = tail.rfind(b"PK\x05\x06")
    if found < 0 or len(tail) - found < _END_BYTES:
        raise PackageInvalid("The package is no ZIP file.")
    fields = _END.unpack_from(tail, found)
    count, directory_bytes = fields[4], fields[5]
    if fields[1] or fields[2] or fields[3] != count or fields[7] != len(tail) - found - _END_BYTES:
        raise PackageInvalid("The package's end record does not describe this file.")
    if count in _SENTINELS or directory_bytes in _SENTINELS:
        count, directory_bytes = _zip64_counts(stream, tail[:found])
    if count > MAX_MEMBERS or directory_bytes > MAX_DIRECTORY_BYTES:
        raise TooLarge("The package has more members than a reader takes.")


def _zip64_counts(stream: BinaryIO, before: bytes) -> tuple[int, int]:
    if len(before) < _ZIP64_LOCATOR.size:
        raise PackageInvalid("The package's directory is malformed.")
    signature, _, offset, _ = _ZIP64_LOCATOR.unpack(before[-_ZIP64_LOCATOR.size :])
    if signature != b"PK\x06\x07" or offset >= 2**63:
        raise PackageInvalid("The package's directory is malformed.")
    stream.seek(offset)
    head = stream.read(_ZIP64_END.size)
    if len(head) != _ZIP64_END.size or not head.startswith(b"PK\x06\x06"):
        raise PackageInvalid("The package's directory is malformed.")
    fields = _ZIP64_END.unpack(head)
    return int(fields[7]), int(fields[8])


def _top_folder(infos: Iterable[zipfile.ZipInfo]) -> str:
    folders = {info.filename.split("/", 1)[0] for info in infos}
    if len(folders) != 1:
        raise PackageInvalid("The package does not have exactly one top folder.")
    return folders.pop()


def _check_info(info: zipfile.ZipInfo) -> None:
    if not _NAME.fullmatch(info.filename) or info.filename != info.orig_filename:
        raise PackageInvalid("A member's name is not a plain path inside the top folder.")
    if info.flag_bits & _ENCRYPTED:
        raise PackageInvalid("A member is encrypted.")
    if info.flag_bits & _DESCRIPTOR:
        raise PackageInvalid("A member's sizes stand behind it.")
    if info.compress_type == zipfile.ZIP_STORED:
        if info.compress_size != info.file_size:
            raise PackageInvalid("A stored member has two sizes.")
    elif info.compress_type != zipfile.ZIP_DEFLATED:
        raise PackageInvalid("A member is compressed in a way that packages do not use.")
    elif info.file_size > MAX_EXPANSION * info.compress_size:
        raise TooLarge("A member would expand beyond any of ours.")


def _check_apart(places: Iterable[_Place], directory: int) -> None:
    """Each member ends before the next begins, and the last before the directory."""
    spans = sorted(
        (place.info.header_offset, place.offset + place.info.compress_size) for place in places
    )
    begins = [*(begin for begin, _ in spans[1:]), directory]
    if any(end > following for (_, end), following in zip(spans, begins, strict=True)):
        raise PackageInvalid("Members of the package overlap, or lie in its directory.")


def _inflate(data: bytes, size_bytes: int) -> bytes:
    inflater = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
    try:
        plain = inflater.decompress(data, size_bytes + 1)
    except zlib.error as error:
        raise PackageInvalid("A member's compressed bytes are damaged.") from error
    if not inflater.eof or inflater.unused_data:
        raise PackageInvalid("A member's compressed bytes do not end where they should.")
    return plain
