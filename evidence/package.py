"""The export package: a BagIt bag in a ZIP, read over a stream handed in.

Does: reads a package as an attacker's: names, limits, lists; `evidence.archive` has seen to it
that every reader finds the same members. Refuses: names that are not plain, two members of one
name (also in another case, or as file and folder), a folder in two spellings, members outside the
one top folder, sums that pass the limits, damaged bytes. Opens nothing by name and trusts nothing
inside.

    fengni-package/bagit.txt
    fengni-package/manifest-sha256.txt
    fengni-package/data/index.json
    fengni-package/data/statements/<statement id>.json     canonical bytes, as signed
    fengni-package/data/leaves/<statement id>.json         the log entry, as hashed
    fengni-package/data/proofs/<statement id>.tlog-proof   c2sp.org/tlog-proof@v1
    fengni-package/data/timestamps/<sha256 of the covered bytes>/<n>.tsr
    fengni-package/data/originals/<capture id>.<extension>

Source: RFC 8493 (BagIt 1.0); docs/evidence-format.md §8.
"""

import re
import zlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from typing import BinaryIO

from evidence.archive import DEFLATED, MAX_MEMBERS, STORED, Member, read_members
from evidence.digest import sha256_hex
from evidence.errors import DigestMismatch, PackageInvalid, TooLarge

MAX_SMALL_BYTES = 4 * 1024 * 1024  # any member that is not an original
MAX_SMALL_TOTAL_BYTES = 1024 * 1024 * 1024
MAX_EXPANSION = 200  # deflate reaches 1,032; no JSON or note of ours comes near this
PIECE_BYTES = 1024 * 1024
FORMAT = "fengni/package/v1"
INDEX = "data/index.json"
STATEMENTS, LEAVES, PROOFS = "data/statements/", "data/leaves/", "data/proofs/"
ORIGINALS = "data/originals/"
BAGIT = b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"
_PART = "[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
_NAME = re.compile(f"{_PART}(?:/{_PART}){{0,4}}")
_MANIFEST_LINE = re.compile(r"([0-9a-f]{64}) {1,2}([!-~]+)")


class Package:
    """A package opened for reading; every answer is about bytes, none about trust."""

    __slots__ = ("_members", "_names", "_stream", "folder")

    def __init__(self, stream: BinaryIO) -> None:
        """Read the directory and refuse what no package of ours holds.

        Args:
            stream: seekable; stays the caller's to close.

        Raises:
            PackageInvalid: no ZIP, or a hostile one.
            TooLarge: a limit is passed.
        """
        self._stream = stream
        members = read_members(stream)
        self.folder = _top_folder(members)
        self._members = _named(members)
        self._names = tuple(sorted(self._members))

    def names(self, prefix: str = "") -> tuple[str, ...]:
        """Every member without the top folder whose name begins so, sorted."""
        start = bisect_left(self._names, prefix)
        end = start
        while end < len(self._names) and self._names[end].startswith(prefix):
            end += 1
        return self._names[start:end]

    def size_bytes(self, name: str) -> int:
        """How long a member is when read.

        Raises:
            PackageInvalid: there is no such member.
        """
        return self._member(name).size_bytes

    def read(self, name: str) -> bytes:
        """Read a small member whole.

        Raises:
            PackageInvalid: there is none, or its compressed bytes are damaged.
            TooLarge: it passes the limit for small members.
        """
        member = self._member(name)
        if member.size_bytes > MAX_SMALL_BYTES:
            raise TooLarge("A member that should be small is not.", pointer=name)
        self._stream.seek(member.offset)
        data = self._stream.read(member.packed_bytes)
        if member.method == DEFLATED:
            data = _inflate(data, member.size_bytes)
        if len(data) != member.size_bytes:
            raise PackageInvalid("A member is shorter than it says.", pointer=name)
        if zlib.crc32(data) != member.crc:
            raise PackageInvalid("A member does not have the CRC that its headers state.")
        return data

    def pieces(self, name: str) -> Iterator[memoryview]:
        """Read a stored member piece by piece, up to 1 MiB each, into one buffer.

        A piece is valid until the next is asked for.

        Raises:
            PackageInvalid: there is no such member, it is compressed, or it ends early.
        """
        member = self._member(name)
        if member.method != STORED:
            raise PackageInvalid("An original is compressed; originals are stored.", pointer=name)
        buffer = memoryview(bytearray(PIECE_BYTES))
        self._stream.seek(member.offset)
        left = member.size_bytes
        while left:
            wanted = buffer[: min(left, PIECE_BYTES)]
            got = int(self._stream.readinto(wanted))  # type: ignore[attr-defined]
            if not got:
                raise PackageInvalid("A member is shorter than it says.", pointer=name)
            left -= got
            yield wanted[:got]

    def _member(self, name: str) -> Member:
        if name not in self._members:
            raise PackageInvalid("A member that the package needs is missing.", pointer=name)
        return self._members[name]


class Names:
    """The names below the top folder: plain, and apart also for a reader who ignores their case."""

    __slots__ = ("_files", "_folders")

    def __init__(self) -> None:
        """Begin with none."""
        self._files: set[str] = set()
        self._folders: dict[str, str] = {}  # how each is spelt, by its lowercase name

    def take(self, name: str) -> None:
        """Add a member's name.

        Raises:
            PackageInvalid: it is not plain, or another file or folder has it, in any case.
        """
        if not _NAME.fullmatch(name):
            raise PackageInvalid("A member's name is not a plain path inside the top folder.")
        folded = name.lower()
        if folded in self._files:
            raise PackageInvalid("Two members of the package have one name.")
        self._files.add(folded)
        folders = [name[:at] for at, letter in enumerate(name) if letter == "/"]
        if any(self._folders.setdefault(one.lower(), one) != one for one in folders):
            raise PackageInvalid("A folder of the package is spelt in two ways.")
        if folded in self._folders or any(one.lower() in self._files for one in folders):
            raise PackageInvalid("A file and a folder of the package have one name.")


def members_of(statement_id: str) -> tuple[str, str, str]:
    """Names of the members that hold a statement's bytes, its leaf and its proof."""
    return (
        f"{STATEMENTS}{statement_id}.json",
        f"{LEAVES}{statement_id}.json",
        f"{PROOFS}{statement_id}.tlog-proof",
    )


def timestamps_over(message: bytes) -> str:
    """Where the tokens over these bytes are: their names begin so."""
    return f"data/timestamps/{sha256_hex(message)}/"


def original_of(capture: str) -> str:
    """How the name of a capture's original begins; an extension follows."""
    return f"{ORIGINALS}{capture}."


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
        PackageInvalid: no bag of this version, or one whose files are to be fetched elsewhere.
    """
    names = set(package.names())
    if package.read("bagit.txt") != BAGIT or "fetch.txt" in names:
        raise PackageInvalid("The package is no complete BagIt 1.0 bag.")
    payload = {name for name in names if name.startswith("data/")}
    loose = names - payload - {"tagmanifest-sha256.txt"}
    if payload != set(manifest) or loose != set(tags):
        raise DigestMismatch("A file is in the package but not in its list, or the reverse.")


def _top_folder(members: Iterable[Member]) -> str:
    folders = {member.name.split("/", 1)[0] for member in members}
    if len(folders) != 1:
        raise PackageInvalid("The package does not have exactly one top folder.")
    return folders.pop()


def _named(members: Iterable[Member]) -> dict[str, Member]:
    """The members by their names below the top folder, once names and sums are in order."""
    named: dict[str, Member] = {}
    names = Names()
    small_bytes = 0
    for member in members:
        _check(member)
        name = member.name.partition("/")[2]
        names.take(name)
        small_bytes += 0 if name.startswith(ORIGINALS) else member.size_bytes
        named[name] = member
    if small_bytes > MAX_SMALL_TOTAL_BYTES:
        raise TooLarge("The package's small members are too large together.")
    return named


def _check(member: Member) -> None:
    if not re.fullmatch(_PART, member.name.partition("/")[0]):
        raise PackageInvalid("The package's top folder has no plain name.")
    if member.method == STORED:
        if member.packed_bytes != member.size_bytes:
            raise PackageInvalid("A stored member has two sizes.")
    elif member.size_bytes > MAX_EXPANSION * member.packed_bytes:
        raise TooLarge("A member would expand beyond any of ours.")


def _inflate(data: bytes, size_bytes: int) -> bytes:
    inflater = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
    try:
        plain = inflater.decompress(data, size_bytes + 1)
    except zlib.error as error:
        raise PackageInvalid("A member's compressed bytes are damaged.") from error
    if not inflater.eof or inflater.unused_data:
        raise PackageInvalid("A member's compressed bytes do not end where they should.")
    return plain
