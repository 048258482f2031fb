"""A package is read as an attacker's: every trick is refused within limits, by name."""

import io
import struct
import time
import zipfile
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence.digest import Measured, check_sha256_hex
from evidence.errors import DigestMismatch, EvidenceError, FieldInvalid, PackageInvalid, TooLarge
from evidence.package import (
    BAGIT,
    MAX_EXPANSION,
    MAX_SMALL_BYTES,
    MAX_SMALL_TOTAL_BYTES,
    Package,
    check_listed,
    parse_manifest,
)
from evidence.verify import verify_package
from tests.evidence.package_maker import AT, World, plain_file, world_with_photo, written

TOP = "fengni-package"


def zipped(
    *members: tuple[str, bytes], method: int = zipfile.ZIP_STORED, change: bytes = b""
) -> bytes:
    """A ZIP of these members."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in members:
            archive.writestr(plain_file(name), data, compress_type=method)
    return out.getvalue() + change


def opened(data: bytes) -> Package:
    """The package behind these bytes."""
    return Package(io.BytesIO(data))


def patched(data: bytes, signature: bytes, offset: int, value: bytes) -> bytes:
    """Overwrite bytes at an offset from the last place where a signature stands."""
    changed = bytearray(data)
    place = data.rindex(signature) + offset
    changed[place : place + len(value)] = value
    return bytes(changed)


GOOD = zipped((f"{TOP}/a.txt", b"hello"), (f"{TOP}/data/b.txt", b"world"))
END = b"PK\x05\x06"
CENTRAL = b"PK\x01\x02"


@pytest.mark.parametrize(
    "name",
    [
        f"{TOP}/../x",
        f"{TOP}//x",
        "/etc/passwd",
        f"{TOP}/a\\b",
        f"{TOP}/.hidden",
        f"{TOP}/a/b/c/d/e/f/g",
        f"{TOP}/" + "x" * 200,
        "x",
        f"{TOP}/é",
        f"{TOP}/dir/",
    ],
)
def test_names_that_are_not_plain_are_refused(name: str) -> None:
    """No name can leave the folder, hide, or be read in two ways."""
    with pytest.raises(PackageInvalid):
        opened(zipped((name, b"x")))


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (zipped((f"{TOP}/a", b"x"), (f"{TOP}/A", b"y")), PackageInvalid),
        (zipped((f"{TOP}/a", b"x"), ("other/a", b"y")), PackageInvalid),
        (zipped((f"{TOP}/a", bytes(10**6)), method=zipfile.ZIP_DEFLATED), TooLarge),
        (zipped((f"{TOP}/a", b"x" * 99), method=zipfile.ZIP_BZIP2), PackageInvalid),
        (patched(GOOD, END, 12, b"\x00\x00\x00\x7f"), TooLarge),
        (patched(GOOD, END, 8, b"\xff\xff\xff\xff"), PackageInvalid),
        (patched(GOOD, CENTRAL, 8, b"\x01\x00"), PackageInvalid),
        (patched(GOOD, CENTRAL, 16, b"\x00\x00\x00\x00"), PackageInvalid),
        (patched(GOOD, CENTRAL, 20, b"\x04\x00\x00\x00"), PackageInvalid),
        (patched(GOOD, CENTRAL, 42, b"\xff\xff\x00\x00"), PackageInvalid),
        (patched(GOOD, CENTRAL, 20, b"\xff\xff\x00\x00\xff\xff\x00\x00"), PackageInvalid),
        (GOOD[:-10], PackageInvalid),
        (patched(GOOD, CENTRAL, 0, b"XXXX"), PackageInvalid),
    ],
)
def test_a_hostile_directory_is_refused(data: bytes, error: type[EvidenceError]) -> None:
    """Bombs, overlaps, second folders, encrypted or doubly described members."""
    with pytest.raises(error):
        opened(data)


@pytest.mark.parametrize(
    ("offset", "value"),
    [(4, b"\x01\x00"), (6, b"\x01\x00"), (8, b"\x01\x00"), (10, b"\x01\x00"), (20, b"\x01\x00")],
    ids=["disk", "disk of the directory", "members here", "members", "comment"],
)
def test_an_end_record_of_another_file_is_refused(offset: int, value: bytes) -> None:
    """Disks, counts and the comment's length leave no reader two places to begin."""
    with pytest.raises(PackageInvalid, match="end record"):
        opened(patched(GOOD, END, offset, value))


def test_a_directory_of_millions_is_refused_before_it_is_read() -> None:
    """A ZIP64 end record that claims ten million members costs no memory."""
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 10**7, 10**7, 10**9, 0)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, 0, 1)
    end = struct.pack("<4s4H2LH", END, 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    with pytest.raises(TooLarge):
        opened(end64 + locator + end)
    for broken in (locator + end, b"x" * 60 + locator + end, end):
        with pytest.raises(PackageInvalid):
            opened(broken)


def nested(count: int, body: bytes) -> bytes:
    """A ZIP whose members lie in each other: each one's data are the next one whole."""
    data, entries = body, list[bytes]()
    for number in range(count):
        archive = zipped((f"{TOP}/{number}", data))
        place, end = archive.rindex(CENTRAL), archive.rindex(END)
        offset = (count - 1 - number) * (place - len(data))
        data, entry = archive[:place], archive[place:end]
        entries.append(entry[:42] + struct.pack("<L", offset) + entry[46:])
    folder = b"".join(entries)
    end = struct.pack("<4s4H2LH", END, 0, 0, count, count, len(folder), len(data), 0)
    return data + folder + end


@pytest.mark.parametrize("size_bytes", [0, 1, 5000])
def test_members_that_lie_in_each_other_are_refused(size_bytes: int) -> None:
    """However small, members over the same bytes are a bomb without compression."""
    assert opened(nested(1, bytes(size_bytes))).read("0") == bytes(size_bytes)
    with pytest.raises(PackageInvalid, match="overlap"):
        opened(nested(2, bytes(size_bytes)))


def claimed(data: bytes, *, packed: int, size: int, method: int = 0) -> bytes:
    """A ZIP of one member whose two headers agree on other sizes and another method."""
    for signature, place in ((b"PK\x03\x04", 8), (CENTRAL, 10)):
        data = patched(data, signature, place, struct.pack("<H", method))
        data = patched(data, signature, place + 10, struct.pack("<2L", packed, size))
    return data


def test_data_that_reach_behind_the_members_are_refused() -> None:
    """A member cannot take the directory, or what is behind the file, for its data."""
    data = zipped((f"{TOP}/a", b"hello"))
    assert opened(claimed(data, packed=5, size=5)).read("a") == b"hello"
    for size_bytes in (6, len(data), 2**29):
        with pytest.raises(PackageInvalid, match="directory"):
            opened(claimed(data, packed=size_bytes, size=size_bytes))


def test_sizes_that_stand_behind_a_member_are_refused() -> None:
    """A reader in one pass would see another member than one that reads the directory first."""
    data = zipped((f"{TOP}/a", b"hello"))
    streamed = patched(patched(data, b"PK\x03\x04", 6, b"\x08\x00"), CENTRAL, 8, b"\x08\x00")
    with pytest.raises(PackageInvalid, match="do not use"):
        opened(streamed)


def test_a_header_that_is_cut_by_the_end_of_the_file_is_refused() -> None:
    """A member that begins in the last bytes has no room for its header."""
    data = patched(GOOD, CENTRAL, 42, struct.pack("<L", len(GOOD) - 8))
    with pytest.raises(PackageInvalid, match="room"):
        opened(data)


def test_a_member_expands_by_a_limit_of_its_own() -> None:
    """The limit holds for the smallest members too, as the format says."""
    data = zipped((f"{TOP}/a", b"hello"))
    assert opened(claimed(data, packed=5, size=1000, method=8)).size_bytes("a") == 1000
    with pytest.raises(TooLarge):
        opened(claimed(data, packed=5, size=1001, method=8))


def test_small_members_have_a_limit_together() -> None:
    """A few MiB that claim to be more than 1 GiB of statements are refused unread."""
    packed = MAX_SMALL_TOTAL_BYTES // MAX_EXPANSION + 1
    for name, refused in ((f"{TOP}/data/originals/a", False), (f"{TOP}/data/a", True)):
        data = claimed(
            zipped((name, bytes(packed))), packed=packed, size=MAX_SMALL_TOTAL_BYTES + 1, method=8
        )
        if refused:
            with pytest.raises(TooLarge, match="together"):
                opened(data)
        else:
            assert opened(data).names() == ("data/originals/a",)


def test_members_are_read_within_their_limits() -> None:
    """Small members are read whole, originals piece by piece, nothing else at all."""
    package = opened(
        zipped((f"{TOP}/small", b"x" * 10), (f"{TOP}/large", bytes(MAX_SMALL_BYTES + 1)))
    )
    assert package.read("small") == b"x" * 10
    assert package.size_bytes("large") == MAX_SMALL_BYTES + 1
    assert sum(len(piece) for piece in package.pieces("large")) == MAX_SMALL_BYTES + 1
    with pytest.raises(TooLarge):
        package.read("large")
    with pytest.raises(PackageInvalid):
        package.read("absent")
    deflated = opened(zipped((f"{TOP}/a", b"abc" * 50), method=zipfile.ZIP_DEFLATED))
    assert deflated.read("a") == b"abc" * 50
    with pytest.raises(PackageInvalid):
        list(deflated.pieces("a"))


def test_what_compresses_too_well_is_stored() -> None:
    """A tool's output of blanks is no bomb: the writer keeps within what a reader takes."""
    world, capture = world_with_photo()
    blanks = b" " * 100_000
    contents = replace(world.contents([capture]), attachments={"output.txt": blanks})
    package = Package(written(contents))
    assert package.read("data/attachments/output.txt") == blanks


@pytest.mark.parametrize(
    "name",
    [
        "Report 1.txt",
        "../x",
        "a/b/c/d.txt",
        "OUTPUT.txt",
        "output.txt/x",
        "报告.txt",
    ],
)
def test_a_writer_refuses_the_names_that_a_reader_refuses(name: str) -> None:
    """Nobody is handed a package that no verifier opens."""
    world, capture = world_with_photo()
    contents = world.contents([capture])
    with pytest.raises(PackageInvalid):
        written(replace(contents, attachments={"output.txt": b"x", name: b"x"}))


def test_damaged_compression_is_refused() -> None:
    """Garbage in place of a deflated member's bytes."""
    data = zipped((f"{TOP}/a", b"abcdefgh" * 50), method=zipfile.ZIP_DEFLATED)
    begin = data.index(b"a", 30) + 1
    broken = bytearray(data)
    broken[begin : begin + 4] = b"\xff\xff\xff\xff"
    with pytest.raises(PackageInvalid):
        opened(bytes(broken)).read("a")


def test_a_stream_that_ends_early_is_noticed() -> None:
    """A file cut while it is read does not look like a shorter original."""

    class Cut(io.BytesIO):
        def readinto(self, _buffer: object) -> int:
            return 0

    package = Package(Cut(GOOD))
    with pytest.raises(PackageInvalid):
        list(package.pieces("a.txt"))


@pytest.mark.parametrize(
    "data",
    [b"", b"x\n", b"0" * 64 + b"  a", b"0" * 64 + b"  a\n" + b"0" * 64 + b"  a\n", b"\xff\n"],
)
def test_a_malformed_manifest_is_refused(data: bytes) -> None:
    """A manifest names each file once, in one form; an empty one has no line at all."""
    if data == b"":
        assert parse_manifest(data) == {}
        return
    with pytest.raises(PackageInvalid):
        parse_manifest(data)


def test_every_member_must_be_listed() -> None:
    """Neither a file without a line nor a line without a file."""
    package = opened(zipped((f"{TOP}/bagit.txt", BAGIT), (f"{TOP}/data/b.txt", b"b")))
    digest = "0" * 64
    check_listed(package, {"data/b.txt": digest}, {"bagit.txt": digest})
    for manifest, tags in (({}, {"bagit.txt": digest}), ({"data/b.txt": digest}, {})):
        with pytest.raises(DigestMismatch):
            check_listed(package, manifest, tags)


def test_ten_million_proof_lines_are_refused_quickly() -> None:
    """A proof file that would take for ever is refused by its size, within the time."""
    world, capture = world_with_photo()
    data = written(world.contents([capture]))
    name = f"{TOP}/data/proofs/{capture.id}.tlog-proof"
    out = io.BytesIO()
    with zipfile.ZipFile(data) as old, zipfile.ZipFile(out, "w") as new:
        for info in old.infolist():
            body = old.read(info)
            if info.filename == name:
                body = b"c2sp.org/tlog-proof@v1\nindex 0\n" + b"A" * 43 + b"=\n"
                body += (b"A" * 43 + b"=\n") * 60_000
            new.writestr(plain_file(info.filename), body)
    begun = time.monotonic()
    report = verify_package(out, world.known(), AT)
    assert time.monotonic() - begun < 10
    assert report.outcome.value == "content_changed"


@given(st.binary(max_size=300))
def test_arbitrary_bytes_never_make_verification_raise(data: bytes) -> None:
    """Whatever a package holds, the answer is a report."""
    report = verify_package(io.BytesIO(data), KNOWN, AT)
    assert report.outcome.value == "content_changed"


@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_a_changed_byte_leaves_only_our_errors(place: int, mask: int) -> None:
    """A damaged ZIP is refused or read; no library's exception gets out."""
    changed = bytearray(GOOD)
    changed[place] ^= mask
    try:
        package = opened(bytes(changed))
        for name in package.names():
            package.read(name)
    except EvidenceError:
        return


def test_digests_and_sizes_are_compared_by_name() -> None:
    """A digest has one spelling, and a measured stream must match in size and digest."""
    digest = "0" * 64
    assert check_sha256_hex(digest) == digest
    with pytest.raises(FieldInvalid):
        check_sha256_hex("0" * 63 + "G")
    measured = Measured(sha256=digest, size_bytes=1)
    measured.require(sha256=digest, size_bytes=1)
    for wrong in ({"sha256": digest, "size_bytes": 2}, {"sha256": "1" * 64, "size_bytes": 1}):
        with pytest.raises(DigestMismatch):
            measured.require(**wrong)  # type: ignore[arg-type]


KNOWN = World().known()


def test_a_bag_of_another_kind_is_refused() -> None:
    """Another version, no declaration, or files to be fetched elsewhere: not what we list."""
    for bagit, more in ((None, {}), (b"BagIt-Version: 0.97\n", {}), (BAGIT, {"fetch.txt": b"x"})):
        members = {"data/a": b"hello", **more, **({"bagit.txt": bagit} if bagit else {})}
        package = opened(zipped(*((f"{TOP}/{name}", data) for name, data in members.items())))
        tags = {name: "" for name in members if not name.startswith("data/")}
        with pytest.raises(PackageInvalid):
            check_listed(package, {"data/a": ""}, tags)


def test_a_member_with_a_wrong_crc_is_refused() -> None:
    """Stock tools refuse it too; an original's SHA-256 is compared instead."""
    data = zipped((f"{TOP}/a", b"hello"))
    for signature, place in ((b"PK\x03\x04", 14), (CENTRAL, 16)):
        data = patched(data, signature, place, bytes(4))
    with pytest.raises(PackageInvalid, match="CRC"):
        opened(data).read("a")


def test_a_file_is_no_folder_as_well() -> None:
    """Two extractors would make different things of it."""
    with pytest.raises(PackageInvalid, match="folder"):
        opened(zipped((f"{TOP}/data", b"x"), (f"{TOP}/data/a", b"y")))


def test_a_folder_is_spelt_in_one_way() -> None:
    """On a disk that ignores case the two would be one, with more in it than was listed."""
    opened(zipped((f"{TOP}/data/a", b"x"), (f"{TOP}/data/b/c", b"y")))
    with pytest.raises(PackageInvalid, match="two ways"):
        opened(zipped((f"{TOP}/data/a", b"x"), (f"{TOP}/Data/b", b"y")))


def test_no_second_archive_finds_room() -> None:
    """Before, between, behind and beside: wherever another reader could find another directory."""
    good = zipped((f"{TOP}/a", b"hello"), (f"{TOP}/b", b"world"))
    evil = zipped((f"{TOP}/a", b"forgd"), (f"{TOP}/b", b"world"))
    end = good.rindex(b"PK\x05\x06")
    directory = good.index(CENTRAL)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, directory, 1)
    for data in (
        evil + good,
        b"junk" + good,
        good[:end] + locator + good[end:],
        good[:directory] + b"room" + good[directory:],
        good + b"\x00",
        patched(good, b"PK\x05\x06", 20, b"\x04\x00") + evil[:4],
    ):
        with pytest.raises(PackageInvalid):
            opened(data)
