"""Files made to hurt: each gives a finding within two seconds and a gibibyte."""

import socket
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from service.captures.sandbox import InspectionResult, Sandbox
from tests.media import material as m

# The alarm rings after 1.9 s; a busy machine may be late in burying what it killed.
WALL_MS = 3000
PEAK_KIB = 1024 * 1024


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """A running sandbox."""
    with Sandbox() as running:
        running.tools()
        yield running


def makernote_bomb() -> bytes:
    """Two kilobytes whose MakerNote claims a billion elements (exif-py#182)."""
    note = (0x927C, 7, 1_006_641_184, b"\x00" * 1500)
    inner = bytearray(m.tiff(note)[8:])
    head = m.tiff((0x8769, 4, 1, b"\x00" * 4))
    struct.pack_into("<I", inner, 2 + 8, len(head) + 20)
    head = m.tiff((0x8769, 4, 1, struct.pack("<I", len(head))))
    return m.jpeg(m.exif_segment(head + bytes(inner)))


def ifd_ring() -> bytes:
    """Directories that overlap and follow each other through a whole segment."""
    rows = struct.pack("<HHII", 0x9999, 3, 1, 0) * 5000
    step = 2 + len(rows) + 4
    chain = struct.pack("<H", 5000) + rows + struct.pack("<I", 10)
    return m.jpeg(m.exif_segment((b"II*\x00\x08\x00\x00\x00" + chain + b"\x00" * step)[:65_000]))


def big_jpeg() -> bytes:
    """A real JPEG of 20,000 × 14,000 pixels: cheap to make, dear to decode."""
    encoded = cv2.imencode(".jpg", np.zeros((14_000, 20_000), np.uint8))[1]
    return encoded.tobytes()


def progressive_jpeg() -> bytes:
    """A progressive JPEG just below the limit, whose decoder buffers all coefficients."""
    flags = [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]
    return cv2.imencode(".jpg", np.zeros((14_000, 14_000), np.uint8), flags)[1].tobytes()


def png_bomb() -> bytes:
    """A PNG just below the limit of pixels that unpacks to hundreds of megabytes."""
    width, height = 7_700, 7_700
    header = struct.pack(">IIBBBBB", width, height, 16, 6, 0, 0, 0)
    packer = zlib.compressobj(9)
    row = b"\x00" * (1 + 8 * width)
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    body = m.chunk(b"IHDR", header) + m.chunk(b"IDAT", data) + m.chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def webp_header() -> bytes:
    """A WebP whose canvas is as large as the format allows."""
    head = b"\x00" * 4 + (16_383).to_bytes(3, "little") * 2
    body = b"VP8X" + struct.pack("<I", 10) + head + m.encoded(".webp")[12:]
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def tiff_header() -> bytes:
    """A TIFF whose directory names a gigantic strip."""
    side = struct.pack("<I", 60_000)
    return m.tiff(
        (256, 4, 1, side), (257, 4, 1, side), (258, 3, 1, b"\x08\x00"), (259, 3, 1, b"\x01\x00"),
        (262, 3, 1, b"\x01\x00"), (273, 4, 1, b"\x08\x00\x00\x00"), (278, 4, 1, side),
        (279, 4, 1, b"\xff\xff\xff\x7f"),
    )  # fmt: skip


def nested_boxes() -> bytes:
    """A film of a thousand nested boxes."""
    nested = b""
    for _ in range(1000):
        nested = m.box(b"moov", nested)
    return m.box(b"ftyp", b"isom\x00\x00\x00\x00isom") + nested


def laughs() -> bytes:
    """A JPEG whose XMP is an entity bomb."""
    entities = b"".join(
        b'<!ENTITY l%d "%s">' % (level, b"&l%d;" % (level - 1) * 10 if level else b"lol")
        for level in range(10)
    )
    return m.jpeg(m.xmp_segment(b"<!DOCTYPE x [" + entities + b"]><x>&l9;</x>"))


def deep_xml() -> bytes:
    """A PNG whose packed XMP unpacks to three million nested brackets."""
    deep = zlib.compress(b"<a>" * 600_000 + b"</a>" * 400_000)
    return m.png(m.chunk(b"zTXt", b"XML:com.adobe.xmp\x00\x00" + deep))


def iloc_bomb() -> bytes:
    """A HEIC whose item table promises half a billion extents."""
    iinf = m.full(b"iinf", b"\x00\x01" + m.full(b"infe", b"\x00\x02\x00\x00Exif\x00", version=2))
    rows = struct.pack(">HHH", 1, 0, 0xFFFF) * 9000
    iloc = m.full(b"iloc", struct.pack(">HH", 0, 0xFFFF) + rows)
    return m.box(b"ftyp", b"heic\x00\x00\x00\x00heic") + m.full(b"meta", iinf + iloc)


def junk_jpeg() -> bytes:
    """A JPEG of 180 million bytes in which a marker follows junk again and again."""
    return b"\xff\xd8\xff\x01" + (b"\x00" * 60_000 + b"\xff\x01") * 3000 + m.jpeg()[2:]


def flood_of_markers() -> bytes:
    """A scan of eight million restart markers and stuffed bytes."""
    base = m.jpeg(m.exif_segment())
    return base[:-2] + b"\xff\x00\xff\xd0" * 4_000_000 + base[-2:]


HOSTILE: dict[str, tuple[Callable[[], bytes], str, set[str]]] = {
    "makernote": (makernote_bomb, "image/jpeg", set()),
    "ifd_ring": (ifd_ring, "image/jpeg", set()),
    "jpeg_280_megapixels": (big_jpeg, "image/jpeg", {"image_too_many_pixels"}),
    "jpeg_progressive": (progressive_jpeg, "image/jpeg", set()),
    "png_giant_header": (
        lambda: m.png_header(60_000, 60_000),
        "image/png",
        {"image_too_many_pixels"},
    ),
    "png_bomb": (png_bomb, "image/png", set()),
    "webp_giant_header": (webp_header, "image/webp", {"image_too_many_pixels"}),
    "tiff_giant_header": (tiff_header, "image/tiff", {"image_too_many_pixels"}),
    "gif_giant_header": (lambda: b"GIF89a" + b"\xff" * 60, "image/gif", {"format_unsupported"}),
    "nested_boxes": (nested_boxes, "video/mp4", set()),
    "billion_laughs": (laughs, "image/jpeg", {"xmp_unreadable"}),
    "deep_xml": (deep_xml, "image/png", {"xmp_unreadable"}),
    "iloc_bomb": (iloc_bomb, "image/heic", {"container_damaged"}),
    "junk_jpeg": (junk_jpeg, "image/jpeg", {"container_damaged"}),
    "markers": (flood_of_markers, "image/jpeg", set()),
    "svg": (
        lambda: b"<svg onload='alert(1)'/>",
        "image/jpeg",
        {"active_content", "media_type_differs"},
    ),
    "html": (
        lambda: b"<!DOCTYPE html><html><script>alert(1)</script>",
        "image/jpeg",
        {"active_content", "media_type_differs"},
    ),
    "polyglot_zip": (
        lambda: m.jpeg(tail=b"PK\x03\x04" + b"x" * 40 + b"PK\x05\x06" + b"\x00" * 18),
        "image/jpeg",
        {"polyglot", "trailing_bytes"},
    ),
    "polyglot_pdf": (lambda: m.jpeg(m.segment(0xFE, b"%PDF-1.7\n")), "image/jpeg", {"polyglot"}),
    "polyglot_html": (
        lambda: m.jpeg(tail=b"<html><script>1</script>"),
        "image/jpeg",
        {"active_content", "trailing_bytes"},
    ),
    "empty": (lambda: b"", "image/jpeg", {"empty_file"}),
    "c2pa_mark_only": (lambda: m.jpeg(m.c2pa_segment()), "image/jpeg", {"c2pa_unreadable"}),
}


def look(sandbox: Sandbox, path: Path, data: bytes, announced: str) -> InspectionResult:
    """Inspect bytes inside."""
    path.write_bytes(data)
    return sandbox.inspect(path, len(data), announced)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_give_findings(sandbox: Sandbox, tmp_path: Path, name: str) -> None:
    """Each file is answered within the limits, with the findings that name its trouble."""
    make, announced, expected = HOSTILE[name]
    data = make()
    result = look(sandbox, tmp_path / "file", data, announced)
    codes = {finding.code for finding in result.findings}
    assert (expected - codes, result.wall_ms < WALL_MS, result.peak_kib < PEAK_KIB) == (
        set(),
        True,
        True,
    )
    assert result.outcome == "ok" or "inspection_cut_short" in codes


def test_facts_read_before_a_decoder_dies_stay(tmp_path: Path) -> None:
    """What kills the image decoder does not take the Exif facts with it."""
    from service.captures.confine import Limits  # noqa: PLC0415

    data = progressive_jpeg()
    marked = data[:2] + m.exif_segment() + data[2:]
    with Sandbox(limits=Limits(cpu_s=0.15)) as running:
        result = look(running, tmp_path / "file", marked, "image/jpeg")
    states = {name: str(state) for name, state in result.states.items()}
    assert (result.outcome, states["exif"], states["image"]) == (
        "killed_cpu",
        "read",
        "present_unreadable",
    )
    assert [finding.code for finding in result.findings][:1] == ["inspection_cut_short"]


def test_a_remote_manifest_is_not_fetched_from_inside(sandbox: Sandbox, tmp_path: Path) -> None:
    """A listener named in a photo's XMP hears nothing."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(1.0)

        def serve() -> None:
            try:
                connection, _ = server.accept()
            except TimeoutError:
                return
            with connection:
                heard.append(connection.recv(100))

        thread = threading.Thread(target=serve)
        thread.start()
        address = b"http://127.0.0.1:%d/secret" % server.getsockname()[1]
        packet = m.XMP.replace(
            b" rdf:about=",
            b' xmlns:dcterms="http://purl.org/dc/terms/" dcterms:provenance="'
            + address
            + b'" rdf:about=',
        )
        result = look(sandbox, tmp_path / "file", m.jpeg(m.xmp_segment(packet)), "image/jpeg")
        thread.join()
    codes = {finding.code for finding in result.findings}
    assert (heard, "c2pa_held_elsewhere" in codes) == ([], True)


def test_real_broken_files_stay_within_the_limits(sandbox: Sandbox, shared: Path) -> None:
    """Every capture, sound or broken, ends by itself within the limits."""
    captures = shared / "captures"
    worst = [
        (path.name, result.outcome, result.wall_ms, result.peak_kib)
        for path in sorted(captures.rglob("*"))
        if path.is_file()
        for result in [sandbox.inspect(path, path.stat().st_size, "image/jpeg")]
        if result.outcome != "ok" or result.wall_ms > WALL_MS or result.peak_kib > PEAK_KIB
    ]
    assert worst == []
