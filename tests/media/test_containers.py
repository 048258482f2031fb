"""Walkers find metadata wherever it lies, and say how far they got."""

import struct
import zlib
from collections.abc import Callable

import pytest

from evidence.errors import EvidenceError, MediaInvalid
from evidence.media.containers import boxes, heif, jpeg, movie, photoshop, png, tiff, webp
from evidence.media.containers.found import MAX_BLOCKS, MAX_XMP_BYTES, Found
from evidence.media.window import Window
from tests.media import material as m


def codes(found: Found) -> list[str]:
    """Codes of a walk's findings."""
    return [note.code for note in found.notes]


def blocks(found: Found) -> list[bytes]:
    """The Exif blocks that were found."""
    return [block.peek(0, block.size) for block in found.exif]


# ---------------------------------------------------------------------------- JPEG


def walk_jpeg(data: bytes) -> Found:
    """Walk bytes as a JPEG."""
    return jpeg.walk(Window.of(data))


def test_jpeg_segments_count_in_any_order() -> None:
    """Exif and XMP behind vendor, C2PA and multi-picture segments are found."""
    data = m.jpeg(
        m.segment(0xE7, b"HUAWEI"),
        m.c2pa_segment(),
        m.segment(0xE2, b"MPF\x00II*\x00"),
        m.exif_segment(),
        m.xmp_segment(),
        m.segment(0xE1, b"http://ns.adobe.com/xmp/extension/\x00" + b"0" * 40),
        m.segment(0xE1, b"something else"),
        m.segment(0xE2, b"ICC_PROFILE\x00"),
        m.segment(0xEB, b"another use of APP11"),
    )
    found = walk_jpeg(data)
    seen = (blocks(found), found.xmp, found.xmp_extended, found.c2pa, found.further_images)
    assert seen == ([m.EXIF], [m.XMP], True, True, True)
    assert (found.width_px, found.height_px, found.complete, found.end) == (64, 48, True, len(data))
    assert codes(found) == []


def test_jpeg_trailing_bytes_lie_behind_the_end() -> None:
    """The end is that of the image, not of the file, also behind several scans."""
    data = m.jpeg(tail=b"PK\x03\x04 appended")
    assert walk_jpeg(data).end == len(data) - len(b"PK\x03\x04 appended")


def test_jpeg_junk_between_segments_is_stepped_over() -> None:
    """Junk and fill bytes before a marker lose nothing and are noted."""
    data = m.jpeg(b"junk 7!", b"\xff\xff\xff", b"\xff\x01", b"\xff\xd0", m.exif_segment())
    found = walk_jpeg(data)
    assert (blocks(found), codes(found)) == ([m.EXIF], ["container_damaged"])


@pytest.mark.parametrize("data", [b"\xff\xd8\xff", b"\xff\xd8\xff\xe1", b"\xff\xd8" + b"\x00" * 99])
def test_jpeg_without_image_is_unfinished(data: bytes) -> None:
    """A file that ends before its first scan cannot rule metadata out."""
    found = walk_jpeg(data)
    assert (found.complete, codes(found)) == (False, ["container_truncated"])


def test_jpeg_cut_inside_exif_keeps_the_rest() -> None:
    """What is left of a segment that the end of the file cuts off is kept."""
    data = (b"\xff\xd8" + m.exif_segment())[:200]
    found = walk_jpeg(data)
    assert (blocks(found), found.complete) == ([m.EXIF[: 200 - 12]], False)


def test_jpeg_cut_inside_the_scan_has_no_end() -> None:
    """A cut scan leaves the metadata complete and the end unknown."""
    found = walk_jpeg(m.jpeg(m.exif_segment())[:-40])
    assert (found.complete, found.end, codes(found)) == (True, None, ["container_truncated"])


def test_jpeg_marks_are_counted_even_where_they_are_broken() -> None:
    """A broken Exif mark, a frame without a size and too many blocks are no silence."""
    data = m.jpeg(m.segment(0xE1, b"Exif?"), m.segment(0xC0, b"\x08"), *[m.exif_segment(b"x")] * 20)
    found = walk_jpeg(data)
    assert (found.exif_marked, len(found.exif), found.width_px) == (21, MAX_BLOCKS, 64)


def test_jpeg_with_endless_segments_is_left() -> None:
    """More segments than any real file has end the walk."""
    found = walk_jpeg(b"\xff\xd8" + m.segment(0xE0, b"") * (jpeg.MAX_SEGMENTS + 1))
    assert (found.complete, codes(found)) == (False, ["container_truncated"])


def test_jpeg_of_nothing_but_gaps_is_left() -> None:
    """More gaps than any editor leaves end the walk."""
    found = walk_jpeg(m.jpeg(*[b"junk" + m.segment(0xE0, b"")] * (jpeg.MAX_GAPS + 1)))
    assert (found.complete, codes(found)) == (False, ["container_damaged", "container_truncated"])


def test_jpeg_too_long_to_search_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit the end stays unknown, and that is noted."""
    monkeypatch.setattr(jpeg, "MAX_SCAN_BYTES", 700)
    found = walk_jpeg(m.jpeg(m.exif_segment()))
    assert (found.complete, found.end, codes(found)) == (True, None, ["container_unsearched"])


def test_jpeg_scan_over_a_step_border_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end is found when its two bytes lie in two steps of the search."""
    for step in (2, 3, 4, 5, 7):
        monkeypatch.setattr(jpeg, "SCAN_STEP_BYTES", step)
        data = m.jpeg(tail=b"tail")
        assert walk_jpeg(data).end == len(data) - 4


# ---------------------------------------------------------------------------- PNG


def walk_png(data: bytes) -> Found:
    """Walk bytes as a PNG."""
    return png.walk(Window.of(data))


def text_chunk(kind: bytes, keyword: bytes, text: bytes, *, packed: bool = False) -> bytes:
    """A text chunk in one of the three forms."""
    body = zlib.compress(text) if packed else text
    if kind == b"zTXt":
        return m.chunk(kind, keyword + b"\x00\x00" + body)
    if kind == b"iTXt":
        return m.chunk(kind, keyword + b"\x00" + bytes((packed, 0)) + b"\x00\x00" + body)
    return m.chunk(kind, keyword + b"\x00" + body)


EXIF_HEX = m.raw_profile(b"exif", b"Exif\x00\x00" + m.EXIF)


@pytest.mark.parametrize(
    "chunk",
    [
        m.chunk(b"eXIf", m.EXIF),
        m.chunk(b"eXIf", b"Exif\x00\x00" + m.EXIF),
        text_chunk(b"tEXt", b"Raw profile type exif", EXIF_HEX),
        text_chunk(b"zTXt", b"Raw profile type APP1", EXIF_HEX, packed=True),
        text_chunk(b"iTXt", b"Raw profile type exif", EXIF_HEX, packed=True),
        text_chunk(b"iTXt", b"Raw profile type exif", EXIF_HEX),
    ],
)
def test_png_exif_is_found_in_each_form(chunk: bytes) -> None:
    """Exif in its own chunk and in each of the older text forms is found."""
    found = walk_png(m.png(chunk))
    assert (blocks(found), found.complete, found.width_px) == ([m.EXIF], True, 64)


@pytest.mark.parametrize(
    "chunk",
    [
        text_chunk(b"iTXt", b"XML:com.adobe.xmp", m.XMP),
        text_chunk(b"iTXt", b"XML:com.adobe.xmp", m.XMP, packed=True),
        text_chunk(b"zTXt", b"XML:com.adobe.xmp", m.XMP, packed=True),
        text_chunk(b"tEXt", b"Raw profile type xmp", m.raw_profile(b"xmp", m.XMP)),
        text_chunk(b"tEXt", b"Raw profile type APP1", m.raw_profile(b"APP1", m.XMP_MARK + m.XMP)),
    ],
)
def test_png_xmp_is_found_in_each_form(chunk: bytes) -> None:
    """XMP in its own chunk and in each of the older text forms is found."""
    assert walk_png(m.png(chunk)).xmp == [m.XMP]


@pytest.mark.parametrize(
    ("chunk", "marks"),
    [
        (text_chunk(b"tEXt", b"Raw profile type exif", b"\nexif\n 4\nnot hex"), (1, 0)),
        (text_chunk(b"tEXt", b"Raw profile type xmp", b"\nxmp\n 0\n"), (0, 1)),
        (text_chunk(b"zTXt", b"Raw profile type exif", b"not packed"), (1, 0)),
        (text_chunk(b"zTXt", b"XML:com.adobe.xmp", b"not packed"), (0, 1)),
        (m.chunk(b"iTXt", b"XML:com.adobe.xmp\x00\x01"), (0, 1)),
        (text_chunk(b"tEXt", b"Raw profile type exif", b"0" * (png.MAX_TEXT_BYTES + 1)), (1, 0)),
        (text_chunk(b"zTXt", b"XML:com.adobe.xmp", b"0" * 9_000_000, packed=True), (0, 1)),
    ],
)
def test_png_marks_are_counted_even_where_they_are_broken(
    chunk: bytes, marks: tuple[int, int]
) -> None:
    """A text chunk that should hold metadata and cannot be unpacked is no silence."""
    found = walk_png(m.png(chunk))
    assert ((found.exif_marked, found.xmp_marked), found.exif, found.xmp) == (marks, [], [])


def test_png_notes_c2pa_and_what_follows_the_end() -> None:
    """A C2PA chunk is seen, other texts are passed over, bytes behind IEND are outside."""
    data = m.png(
        m.chunk(b"caBX", b"\x00"),
        text_chunk(b"tEXt", b"Title", b"x"),
        m.chunk(b"tEXt", b"nothing"),
        m.chunk(b"IHDR", b""),
        m.chunk(b"gAMA", b"\x00" * 4),
        tail=b"tail",
    )
    found = walk_png(data)
    assert (found.c2pa, found.end, codes(found)) == (True, len(data) - 4, [])


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (m.png()[:40], "container_truncated"),
        (m.png()[:33], "container_truncated"),
        (m.png()[:33] + b"\x00\x00\x00\x01\x00\x01\x02\x03\x00", "container_damaged"),
    ],
)
def test_png_that_breaks_off_is_unfinished(data: bytes, code: str) -> None:
    """A file that ends before IEND cannot rule metadata out."""
    found = walk_png(data)
    assert (found.complete, codes(found)) == (False, [code])


def test_png_with_endless_chunks_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """More chunks than any real file has end the walk."""
    monkeypatch.setattr(png, "MAX_CHUNKS", 10)
    found = walk_png(m.png(*[m.chunk(b"tEXt", b"")] * 20))
    assert (found.complete, codes(found)) == (False, ["container_damaged"])


# ---------------------------------------------------------------------------- WebP


def walk_webp(data: bytes) -> Found:
    """Walk bytes as a WebP."""
    return webp.walk(Window.of(data))


@pytest.mark.parametrize("mark", [b"", b"Exif\x00\x00"])
def test_webp_chunks_are_found(mark: bytes) -> None:
    """Exif with and without its mark, XMP under both names, and C2PA are found."""
    data = m.webp(
        (b"EXIF", mark + m.EXIF), (b"XMP ", m.XMP), (b"XMP\x00", m.XMP), (b"C2PA", b"x"), tail=b"t"
    )
    found = walk_webp(data)
    assert (blocks(found), found.xmp, found.c2pa) == ([m.EXIF], [m.XMP, m.XMP], True)
    assert (found.complete, found.end, found.width_px) == (True, len(data) - 1, 64)


@pytest.mark.parametrize(
    ("kind", "head", "size"),
    [
        (b"VP8 ", b"\x00\x00\x00\x9d\x01\x2a\x40\x00\x30\x00", (64, 48)),
        (b"VP8 ", b"\x00" * 10, (None, None)),
        (b"VP8L", b"\x2f" + (63 | 47 << 14).to_bytes(4, "little") + b"\x00" * 5, (64, 48)),
        (b"VP8L", b"\x00" * 10, (None, None)),
        (b"ALPH", b"\x00" * 4, (None, None)),
    ],
)
def test_webp_sizes_are_read_from_each_form(
    kind: bytes, head: bytes, size: tuple[int | None, int | None]
) -> None:
    """The lossy and the lossless form name their size; other chunks do not."""
    body = kind + struct.pack("<I", len(head)) + head
    found = walk_webp(b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body)
    assert (found.width_px, found.height_px) == size


def test_webp_cut_short_is_unfinished() -> None:
    """A file shorter than RIFF says, or whose last chunk is, cannot rule metadata out."""
    whole = m.webp((b"EXIF", m.EXIF))
    short = walk_webp(whole[:-60])
    lying = walk_webp(b"RIFF\x10\x00\x00\x00WEBPEXIF\xff\x00\x00\x00" + b"\x00" * 4)
    assert (short.complete, codes(short)) == (False, ["container_truncated"])
    assert (lying.complete, codes(lying)) == (False, ["container_truncated"])


def test_webp_with_endless_chunks_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """More chunks than any real file has end the walk."""
    monkeypatch.setattr(webp, "MAX_CHUNKS", 3)
    assert codes(walk_webp(m.webp(*[(b"ANMF", b"")] * 9))) == ["container_damaged"]


# ---------------------------------------------------------------------------- TIFF


@pytest.mark.parametrize("order", ["<", ">"])
def test_tiff_directory_is_read_in_both_orders(order: str) -> None:
    """Size, XMP, C2PA and camera tags of the first directory are found."""
    data = m.tiff(
        (256, 3, 1, struct.pack(order + "H", 64)),
        (257, 4, 1, struct.pack(order + "I", 48)),
        (271, 2, 7, b"Fengni\x00"),
        (700, 1, len(m.XMP), m.XMP),
        (52545, 7, 4, b"c2pa"),
        (9999, 99, 1, b"x"),
        order=order,
    )
    found = tiff.walk(Window.of(data))
    assert (found.width_px, found.height_px, found.xmp, found.c2pa) == (64, 48, [m.XMP], True)
    assert (len(found.exif), found.complete) == (1, True)


def test_tiff_without_camera_tags_has_no_exif() -> None:
    """A scan that names only its size and an empty packet carries no camera metadata."""
    found = tiff.walk(Window.of(m.tiff((256, 3, 1, b"\x40\x00"), (700, 1, 0, b""))))
    assert (found.exif, found.xmp_marked, found.complete) == ([], 0, True)


@pytest.mark.parametrize(
    "data", [b"II*\x00", b"II*\x00\xff\xff\xff\xff", b"II*\x00\x08\x00\x00\x00"]
)
def test_tiff_directory_outside_the_file_is_refused(data: bytes) -> None:
    """A first directory that is not there is an error, not an empty one."""
    with pytest.raises(MediaInvalid):
        tiff.walk(Window.of(data))


# ---------------------------------------------------------------------------- HEIF


def walk_heif(data: bytes) -> Found:
    """Walk bytes as a HEIF."""
    return heif.walk(Window.of(data))


@pytest.mark.parametrize("in_idat", [False, True])
@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("version", [2, 3])
def test_heif_items_are_found(*, in_idat: bool, split: bool, version: int) -> None:
    """Exif and XMP items are found in the file and in idat, whole and in pieces."""
    data = m.heic(exif=m.EXIF, xmp=m.XMP, in_idat=in_idat, split=split, version=version)
    found = walk_heif(data)
    assert (blocks(found), found.xmp, found.complete) == ([m.EXIF], [m.XMP], True)
    assert (found.width_px, found.height_px, found.end) == (64, 48, len(data))
    assert (found.exif_marked, found.xmp_marked, codes(found)) == (1, 1, [])


def test_heif_exif_is_found_where_its_offset_is_wrong() -> None:
    """A header near the item's start is found although the offset field names another place."""
    for filler in (b"Exif\x00\x00", b"\x00\x00"):
        assert blocks(walk_heif(m.heic(exif=filler + m.EXIF))) == [m.EXIF]


def test_heif_c2pa_and_trailing_boxes_are_seen() -> None:
    """A C2PA box behind the image is seen, and another uuid box is not one."""
    tail = (
        m.box(b"uuid", m.C2PA_UUID, large=True) + m.box(b"uuid", m.XMP_UUID) + m.full(b"meta", b"")
    )
    assert walk_heif(m.heic(tail=tail)).c2pa is True


@pytest.mark.parametrize(
    "data",
    [
        m.heic(exif=m.EXIF).replace(b"iloc", b"free"),
        m.heic(exif=m.EXIF).replace(
            b"\x00\x02\x00\x00\x00\x00\x00\x01", b"\x00\x02\x00\x00\x00\x01\x00\x01"
        ),
        m.heic(exif=m.EXIF, in_idat=True).replace(b"idat", b"free"),
    ],
)
def test_heif_items_that_lie_elsewhere_are_marked(data: bytes) -> None:
    """An Exif item without a place, in another file or without its box is no silence."""
    found = walk_heif(data)
    assert (found.exif_marked, [block for block in blocks(found) if block]) == (1, [])


def test_heif_without_tables_is_unfinished() -> None:
    """Without a meta box, or with a cut one, metadata cannot be ruled out."""
    none = walk_heif(m.box(b"ftyp", b"heic\x00\x00\x00\x00"))
    cut = walk_heif(m.heic(exif=m.EXIF)[:150])
    tiny = walk_heif(m.box(b"ftyp", b"heic") + b"\x00\x00\x00\x02meta")
    assert [(found.complete, codes(found)) for found in (none, cut, tiny)] == [
        (False, []),
        (False, ["container_truncated", "container_damaged"]),
        (False, ["container_damaged"]),
    ]


def iloc_bomb(rows: bytes, sizes: int = 0x0000, count: int = 0xFFFF) -> bytes:
    """A HEIC whose item table is made to keep a reader busy."""
    iinf = m.full(b"iinf", b"\x00\x01" + m.full(b"infe", b"\x00\x02\x00\x00Exif\x00", version=2))
    iloc = m.full(b"iloc", struct.pack(">HH", sizes, count) + rows)
    return m.box(b"ftyp", b"heic") + m.full(b"meta", iinf + iloc)


def test_heif_extents_without_length_are_refused() -> None:
    """Item tables whose zero-length fields promise millions of extents are left at once."""
    found = walk_heif(iloc_bomb(struct.pack(">HHH", 1, 0, 0xFFFF) * 400))
    assert (found.complete, codes(found)) == (False, ["container_damaged"])


def test_heif_item_larger_than_metadata_is_refused() -> None:
    """Several extents that together are larger than any Exif block are not joined."""
    row = struct.pack(">HHH", 2, 0, 2) + struct.pack(">II", 0, 0) * 2
    data = iloc_bomb(row, sizes=0x4400, count=1) + b"\x00" * (heif.MAX_EXIF_BYTES + 1)
    found = walk_heif(data)
    assert (found.complete, found.exif) == (False, [])


def test_heif_older_item_entries_and_odd_sizes_are_passed_over() -> None:
    """Version 1 entries, foreign boxes and properties of other items change nothing."""
    infe = m.full(b"infe", b"\x00\x02\x00\x00Exif\x00", version=1) + m.box(b"free", b"")
    iinf = m.full(b"iinf", b"\x00\x00\x00\x01" + infe, version=1)
    wide = (
        struct.pack(">I", 2) + struct.pack(">IBH", 7, 1, 0x8001) + struct.pack(">IBH", 1, 1, 0x8009)
    )
    ipma = m.full(b"ipma", wide, version=1, flags=1)
    iprp = m.box(b"iprp", m.box(b"ipco", m.box(b"free", b"")) + ipma)
    meta = m.full(b"meta", m.full(b"pitm", b"\x00\x00\x00\x01", version=1) + iinf + iprp)
    found = walk_heif(m.box(b"ftyp", b"heic") + meta)
    other = walk_heif(
        m.box(b"ftyp", b"heic")
        + meta.replace(b"\x00\x00\x00\x01\x00\x00", b"\x00\x00\x00\x05\x00\x00")
    )
    assert [(seen.complete, seen.exif_marked, seen.width_px) for seen in (found, other)] == [
        (True, 0, None),
        (True, 0, None),
    ]


# ---------------------------------------------------------------------------- film


def walk_movie(data: bytes) -> Found:
    """Walk bytes as a film."""
    return movie.walk(Window.of(data))


LOCI = b"\x00\x00" + b"here\x00" + b"\x00" + struct.pack(">iii", 120 << 16, 30 << 16, 9 << 16)
PLACE = b"+30.2500+120.1700+009.400/"


@pytest.mark.parametrize("quicktime", [False, True])
def test_movie_header_is_read(*, quicktime: bool) -> None:
    """Time, places, camera, size, XMP and C2PA of a film are found."""
    pairs = (
        (b"com.apple.quicktime.location.ISO6709", PLACE),
        (b"com.apple.quicktime.make", b"Fengni"),
        (b"com.example.other", b"x"),
    )
    atoms = m.atom(b"\xa9xyz", b"+01+002/") + m.full(b"loci", LOCI) + m.box(b"free", b"")
    user = m.box(b"udta", atoms + b"\x00" * 4)
    data = m.movie(
        m.mvhd(3_800_000_000),
        m.trak(0, 0),
        m.trak(),
        m.trak(1, 1),
        user,
        m.keys(*pairs, quicktime=quicktime),
        outer=m.box(b"uuid", m.XMP_UUID + m.XMP)
        + m.box(b"uuid", m.C2PA_UUID)
        + m.box(b"free", b""),
    )
    found = walk_movie(data)
    header = found.movie
    assert header is not None
    assert (header.created_s, header.iso6709) == (3_800_000_000, (PLACE, b"+01+002/"))
    assert (header.loci, header.texts) == ((30 << 16, 120 << 16, 9 << 16), (("make", b"Fengni"),))
    assert (found.width_px, found.height_px, found.xmp, found.c2pa) == (640, 360, [m.XMP], True)
    assert (found.complete, header.damaged, found.end) == (True, False, len(data))


def test_movie_of_64_bit_times_and_inner_keys_is_read() -> None:
    """Version 1 headers, XMP and keys inside udta, and an unset time are read."""
    inner = m.box(b"udta", m.box(b"XMP_", m.XMP) + m.keys((b"com.android.model", b"Demo")))
    found = walk_movie(m.movie(m.mvhd(0, version=1), m.trak(version=1), inner))
    assert found.movie is not None
    assert (found.movie.created_s, found.movie.texts) == (None, (("model", b"Demo"),))
    assert (found.width_px, found.xmp) == (640, [m.XMP])


@pytest.mark.parametrize(
    "part",
    [
        m.box(b"udta", m.box(b"\xa9xyz", b"\x00\xff\x00\x00short")),
        m.full(b"mvhd", b"")[:-1] + b"",
        m.box(b"trak", m.full(b"tkhd", b"")),
        b"\x00\x00\x00\x04moov",
        struct.pack(">I4s", 999, b"trak"),
    ],
)
def test_movie_damage_does_not_hide_the_rest(part: bytes) -> None:
    """One bad box inside the header leaves the others read, and the damage noted."""
    found = walk_movie(m.movie(m.mvhd(3_800_000_000), part))
    assert found.movie is not None
    assert (found.movie.created_s, found.movie.damaged, found.complete) == (
        3_800_000_000,
        True,
        False,
    )


def test_movie_without_known_keys_is_read_as_empty() -> None:
    """A meta box without keys, an item without data and one out of range give nothing."""
    lists = m.box(b"ilst", m.box(b"\x00\x00\x00\x01", b"") + m.box(b"\x00\x00\x00\x09", b""))
    names = m.full(b"keys", b"\x00\x00\x00\x01" + m.box(b"mdta", b"com.android.model"))
    for inner in (b"", names + lists):
        found = walk_movie(
            m.movie(m.mvhd(5), m.full(b"meta", m.full(b"hdlr", b"\x00" * 8) + inner))
        )
        assert found.movie is not None
        assert (found.movie.texts, found.movie.damaged) == ((), False)


def test_movie_cut_short_is_unfinished() -> None:
    """Without moov, with a cut last box, or with an impossible one, nothing is ruled out."""
    whole = m.movie(m.mvhd(5), outer=m.box(b"mdat", b"x" * 99))
    cut = walk_movie(whole[:-50])
    bad = walk_movie(whole + b"\x00\x00\x00\x01free")
    none = walk_movie(m.box(b"ftyp", b"isom") + m.box(b"mdat", b""))
    assert [found.complete for found in (cut, bad, none)] == [False, False, False]
    assert (codes(cut), codes(bad)) == (["container_truncated"], ["container_damaged"])


def test_movie_nested_without_end_costs_nothing() -> None:
    """A thousand nested boxes are not descended into."""
    nested = b""
    for _ in range(1000):
        nested = m.box(b"moov", nested)
    found = walk_movie(m.box(b"ftyp", b"isom\x00\x00\x00\x00") + nested)
    assert found.movie is not None
    assert found.movie.created_s is None


def test_boxes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """More boxes on one level than any real file has, or a longer body, are refused."""
    monkeypatch.setattr(boxes, "MAX_BOXES", 5)
    with pytest.raises(MediaInvalid):
        list(boxes.boxes(Window.of(m.box(b"free", b"") * 9)))
    to_end = list(boxes.boxes(Window.of(b"\x00\x00\x00\x00free" + b"x" * 10)))
    assert [(one.body.size, one.cut_short) for one in to_end] == [(10, False)]
    assert boxes.find(Window.of(b""), b"moov") is None


# ---------------------------------------------------------------------------- Photoshop


def psd(*resources: tuple[int, bytes], section: int | None = None, mark: bytes = b"8BIM") -> bytes:
    """A Photoshop document with image resources."""
    body = b"".join(
        mark + struct.pack(">H", number) + b"\x00\x00" + struct.pack(">I", len(data)) + data
        + b"\x00" * (len(data) % 2)
        for number, data in resources
    )  # fmt: skip
    head = b"8BPS\x00\x01" + b"\x00" * 6 + struct.pack(">HIIHH", 3, 48, 64, 8, 3)
    return head + struct.pack(">II", 0, len(body) if section is None else section) + body


def test_photoshop_resources_are_found() -> None:
    """Exif and XMP resources and the size of an edited photo are found."""
    found = photoshop.walk(Window.of(psd((1005, b"x"), (1058, m.EXIF), (1060, m.XMP))))
    assert (blocks(found), found.xmp, found.complete) == ([m.EXIF], [m.XMP], True)
    assert (found.width_px, found.height_px) == (64, 48)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (psd((1058, m.EXIF), section=9999), "container_truncated"),
        (psd((1058, m.EXIF), mark=b"????"), "container_damaged"),
        (psd((1058, m.EXIF))[:-9], "container_truncated"),
        (psd((1005, b"xx\x00\x00\x00\x00")).replace(b"\x06xx", b"\x99xx"), "container_truncated"),
    ],
)
def test_photoshop_damage_leaves_it_unfinished(data: bytes, code: str) -> None:
    """A cut or foreign resource section cannot rule metadata out."""
    found = photoshop.walk(Window.of(data))
    assert (found.complete, code in codes(found)) == (False, True)


def test_photoshop_with_endless_resources_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """More resources than any real document has end the walk."""
    monkeypatch.setattr(photoshop, "MAX_RESOURCES", 2)
    found = photoshop.walk(Window.of(psd(*[(1005, b"xx")] * 5)))
    assert codes(found) == ["container_damaged"]


# ---------------------------------------------------------------------------- all


def test_packets_beyond_the_limit_are_counted_and_not_read() -> None:
    """All packets together are read up to a limit; what lies beyond is no silence."""
    found = Found()
    found.add_xmp(Window.of(b"x" * MAX_XMP_BYTES))
    found.add_xmp(Window.of(b"y"))
    assert (found.xmp_marked, len(found.xmp)) == (2, 1)


WALKS: list[tuple[Callable[[Window], Found], bytes]] = [
    (jpeg.walk, m.jpeg(m.c2pa_segment(), m.exif_segment(), m.xmp_segment())),
    (png.walk, m.png(m.chunk(b"eXIf", m.EXIF), text_chunk(b"iTXt", b"XML:com.adobe.xmp", m.XMP))),
    (webp.walk, m.webp((b"EXIF", m.EXIF), (b"XMP ", m.XMP))),
    (tiff.walk, m.EXIF),
    (heif.walk, m.heic(exif=m.EXIF, xmp=m.XMP)),
    (movie.walk, m.movie(m.mvhd(5), m.trak(), m.keys((b"com.android.model", b"Demo")))),
    (photoshop.walk, psd((1058, m.EXIF), (1060, m.XMP))),
]


@pytest.mark.parametrize(("walk", "data"), WALKS)
def test_every_cut_is_walked_or_refused(walk: Callable[[Window], Found], data: bytes) -> None:
    """A file cut at any byte is walked as far as it goes or refused, never anything else."""
    seen: set[str] = set()
    for length in range(len(data)):
        try:
            seen.add(type(walk(Window.of(data[:length]))).__name__)
        except EvidenceError as error:
            seen.add(error.code)
    assert seen <= {"Found", "media_invalid"}
