"""The format of sealed content: what opens, what is refused, and how little is read and held."""

import hashlib
import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from storage import sealing
from storage.errors import IntegrityAlarm
from storage.sealing import HEADER_BYTES, SEGMENT_BYTES, TAG_BYTES, SealedStream, seal, sealed_size
from tests.tools import ROOT

KEY = bytes(range(32))
VECTORS: list[dict[str, Any]] = json.loads(
    (ROOT / "tests" / "vectors" / "sealed" / "vectors.json").read_text()
)
STORED_SEGMENT = SEGMENT_BYTES + TAG_BYTES


def name_of(content: bytes) -> str:
    """A content's digest."""
    return hashlib.sha256(content).hexdigest()


def sealed(content: bytes, key: bytes = KEY) -> bytes:
    """A content's stored bytes."""
    out = io.BytesIO()
    seal(key, name_of(content), len(content), io.BytesIO(content), out.write)
    return out.getvalue()


def opened(stored: bytes, content: bytes, key: bytes = KEY) -> bytes:
    """What a reader of the whole gets."""
    with SealedStream(io.BytesIO(stored), key, name_of(content), len(content)) as stream:
        return stream.read()


def decrypt_from_the_page(stored: bytes, key: bytes, content_sha256: str) -> bytes:
    """A stranger's reader, written from docs/stored-content.md alone."""
    header = stored[:32]
    assert header[:16] == b"fengni-sealed/1\n"
    size, segment = int.from_bytes(header[16:24], "big"), int.from_bytes(header[24:32], "big")
    count = max(1, (size + segment - 1) // segment)
    out, place = b"", 32
    for i in range(count):
        end = place + min(segment, size - i * segment) + 16
        bound = header + bytes.fromhex(content_sha256) + i.to_bytes(8, "big")
        bound += count.to_bytes(8, "big")
        out += AESGCM(key).decrypt(i.to_bytes(12, "big"), stored[place:end], bound)
        place = end
    assert place == len(stored)
    assert hashlib.sha256(out).hexdigest() == content_sha256
    return out


@pytest.fixture(scope="module")
def long() -> bytes:
    """Content of two whole segments and a piece."""
    return hashlib.shake_256(b"long").digest(2 * SEGMENT_BYTES + 12345)


def test_a_stranger_opens_it_from_the_page_alone(long: bytes) -> None:
    """An implementation of a few lines gives the content back, of every number of segments."""
    for content in (b"", b"x", long[:SEGMENT_BYTES], long[: SEGMENT_BYTES + 1], long):
        stored = sealed(content)
        assert len(stored) == sealed_size(len(content))
        assert decrypt_from_the_page(stored, KEY, name_of(content)) == content
        assert opened(stored, content) == content


@pytest.mark.parametrize("vector", VECTORS, ids=[str(one["name"]) for one in VECTORS])
def test_the_stored_bytes_are_those_of_the_vectors(vector: dict[str, Any]) -> None:
    """What is sealed today has the digest that it had when the format was fixed."""
    content = hashlib.shake_256(vector["content_shake_256_of"].encode()).digest(
        vector["size_bytes"]
    )
    stored = sealed(content, bytes.fromhex(vector["key"]))
    assert name_of(content) == vector["content_sha256"]
    assert name_of(stored) == vector["stored_sha256"]
    if vector["stored"] is not None:
        assert stored.hex() == vector["stored"]


def test_two_captures_of_the_same_content_share_nothing(long: bytes) -> None:
    """Under two keys no block of the one is in the other."""
    content = long[:4096] * 64
    one, other = sealed(content), sealed(content, bytes(32))
    blocks = {one[at : at + 16] for at in range(HEADER_BYTES, len(one) - 16, 16)}
    others = {other[at : at + 16] for at in range(HEADER_BYTES, len(other) - 16, 16)}
    assert blocks & others == set()
    assert name_of(one) != name_of(other)


def test_sealing_again_gives_the_same_bytes(long: bytes) -> None:
    """A repeat after a crash finds the object that it left."""
    assert sealed(long) == sealed(long)


@given(st.integers(0, HEADER_BYTES + 3000 + TAG_BYTES - 1), st.integers(1, 255))
def test_any_changed_byte_is_refused(at: int, flip: int) -> None:
    """Wherever it lies: header, ciphertext or tag."""
    content = bytes(3000)
    stored = bytearray(sealed(content))
    stored[at] ^= flip
    with pytest.raises(IntegrityAlarm):
        opened(bytes(stored), content)


def test_what_is_cut_added_swapped_or_mixed_is_refused(long: bytes) -> None:
    """Each segment opens at its own place of its own content only."""
    stored = sealed(long)
    other = bytearray(long)
    other[5] ^= 1
    foreign = sealed(bytes(other))
    head, rest = stored[:HEADER_BYTES], stored[HEADER_BYTES:]
    first, second, last = rest[:STORED_SEGMENT], rest[STORED_SEGMENT:-12361], rest[-12361:]
    damaged = {
        "cut": stored[:-1],
        "a segment less": head + first + last,
        "the last one less": stored[: HEADER_BYTES + 2 * STORED_SEGMENT],
        "added": stored + b"\0",
        "swapped": head + second + first + last,
        "twice": head + first + first + last,
        "of another content": foreign[: HEADER_BYTES + STORED_SEGMENT] + second + last,
        "another header": b"fengni-sealed/2\n" + stored[16:],
        "empty": b"",
    }
    for what, data in damaged.items():
        with pytest.raises(IntegrityAlarm):
            assert not opened(data, long), what
    with pytest.raises(IntegrityAlarm):
        opened(stored, long, bytes(32))
    with pytest.raises(IntegrityAlarm):
        opened(stored, bytes(other))
    shorter = long[: 2 * SEGMENT_BYTES]  # a truncation that is told with a truncated length
    with pytest.raises(IntegrityAlarm):
        opened(stored[: HEADER_BYTES + 2 * STORED_SEGMENT], shorter)


@pytest.mark.parametrize("content", [b"shorter", b"right len!", b"one byte longer"])
def test_other_bytes_than_those_of_the_digest_are_not_sealed(content: bytes) -> None:
    """Fewer, as many, or more: the last piece never comes."""
    right = b"right leng"
    with pytest.raises(IntegrityAlarm):
        seal(KEY, name_of(right), len(right), io.BytesIO(content), io.BytesIO().write)


class Watched(io.BytesIO):
    """Stored bytes that note what is read of them."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.read_of: list[tuple[int, int]] = []

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401  of io
        """Note the range."""
        start = self.tell()
        count = super().readinto(buffer)
        self.read_of.append((start, start + count))
        return count


@given(st.data())
def test_any_range_is_what_a_plain_file_gives(long: bytes, data: st.DataObject) -> None:
    """Seeking and reading, in any order, within and across segments."""
    plain = io.BytesIO(long)
    with SealedStream(io.BytesIO(STORED[0]), KEY, name_of(long), len(long)) as stream:
        for _ in range(4):
            at = data.draw(st.integers(0, len(long) + 10))
            count = data.draw(st.integers(0, 5000))
            stream.seek(at)
            plain.seek(at)
            got = b""
            while len(got) < count and (piece := stream.read(count - len(got))):
                got += piece
            assert got == plain.read(count)


STORED: list[bytes] = []


@pytest.fixture(scope="module", autouse=True)
def _sealed_once(long: bytes) -> None:
    """Seal the long content once for the property."""
    STORED[:] = [sealed(long)]


def test_a_range_reads_the_segments_that_it_needs(long: bytes) -> None:
    """A player that jumps to the middle has one segment read, exactly."""
    watched = Watched(STORED[0])
    stream = SealedStream(watched, KEY, name_of(long), len(long))
    stream.seek(SEGMENT_BYTES + 100)
    assert stream.read(1000) == long[SEGMENT_BYTES + 100 : SEGMENT_BYTES + 1100]
    assert stream.read(1000) == long[SEGMENT_BYTES + 1100 : SEGMENT_BYTES + 2100]
    start = HEADER_BYTES + STORED_SEGMENT
    assert watched.read_of == [(start, start + STORED_SEGMENT)]
    stream.seek(-1, io.SEEK_END)
    assert stream.read(10) == long[-1:]
    assert watched.read_of[1:] == [(len(STORED[0]) - 12345 - TAG_BYTES, len(STORED[0]))]


def test_two_segments_are_in_memory_at_most(tmp_path: Path) -> None:
    """Sealing and opening six segments takes the room of two, and a little."""
    path, stored = tmp_path / "content", tmp_path / "stored"
    size, digest = 6 * SEGMENT_BYTES, hashlib.sha256()
    with path.open("wb") as out:
        for _ in range(6):
            out.write(bytes(SEGMENT_BYTES))
            digest.update(bytes(SEGMENT_BYTES))
    tracemalloc.start()
    try:
        with path.open("rb") as content, stored.open("wb") as out:
            seal(KEY, digest.hexdigest(), size, content, out.write)
        sealing_peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        again = hashlib.sha256()
        with SealedStream(stored.open("rb"), KEY, digest.hexdigest(), size) as stream:
            while got := stream.read(1 << 20):
                again.update(got)
        opening_peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert again.digest() == digest.digest()
    assert max(sealing_peak, opening_peak) < 2 * SEGMENT_BYTES + (4 << 20)


def test_the_segment_is_what_the_page_says() -> None:
    """The page's figures are the code's."""
    page = (ROOT / "docs" / "stored-content.md").read_text("utf-8")
    for said in (f"{SEGMENT_BYTES:,}", sealing.FORMAT, f"{HEADER_BYTES} bytes"):
        assert said in page
