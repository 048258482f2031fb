"""Walk a HEIC, HEIF or AVIF: the item tables of its `meta` box.

Does: finds the items of type `Exif` and the XMP items, wherever `iloc` puts them, and the
size of the primary image from its properties. Reading the boxes ourselves spares the image
decoder, which is not needed for metadata. Refuses: items made of other items, items in
other files, and tables beyond the limits.

    "ftyp" heic … | "meta" ( "pitm" "iinf"(infe…) "iloc" "idat" "iprp"("ipco" "ipma") ) | "mdat"

Source: ISO/IEC 14496-12 §8.11, ISO/IEC 23008-12 §A.2.1; AVIF 1.1; C2PA 2.x §A.5.
"""

from dataclasses import dataclass

from evidence.errors import MediaInvalid
from evidence.media.containers.boxes import Box, Cursor, boxes, find
from evidence.media.containers.found import MAX_EXIF_BYTES, Found
from evidence.media.containers.tiff import HEADERS, is_block
from evidence.media.window import Window

C2PA_UUID = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
# A 48-megapixel image of 512-pixel tiles has some 200 items; the format allows 2^32.
MAX_ITEMS = 8192
# An item in more pieces than this is not metadata; all items together are in fewer than these.
# Threat: extents of zero-length fields, whose count the file names and no byte limits.
MAX_EXTENTS = 64
MAX_EXTENTS_TOTAL = 65_536
# The TIFF header stands right behind the 4-byte offset; some writers leave a few bytes more.
MAX_HEADER_OFFSET = 64

_XMP_TYPE = b"application/rdf+xml"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where an item lies: construction method and its extents (offset, length)."""

    method: int
    extents: tuple[tuple[int, int], ...]


def walk(window: Window) -> Found:
    """Return what the item tables hold.

    Args:
        window: the file, beginning with an `ftyp` box.

    Returns:
        The finds; `complete` once the whole `meta` box was understood.
    """
    found = Found()
    meta: Box | None = None
    try:
        for box in boxes(window):
            if box.kind == b"meta" and meta is None:
                meta = box
            elif box.kind == b"uuid" and box.body.peek(0, 16) == C2PA_UUID:
                found.c2pa = True
            if box.cut_short:
                found.note("container_truncated")
            found.end = min(box.end, window.size)
    except MediaInvalid:
        found.note("container_damaged")
    if meta is not None:
        try:
            _walk_meta(window, meta, found)
            found.complete = True
        except MediaInvalid:
            found.note("container_damaged")
    return found


def _walk_meta(file: Window, meta: Box, found: Found) -> None:
    """Note the Exif and XMP items and the size of the primary image."""
    _, _, level = meta.full()
    _keep_size(level, found)
    kinds = _item_kinds(find(level, b"iinf"))
    wanted = {item for item, kind in kinds.items() if kind in {b"Exif", _XMP_TYPE}}
    found.exif_marked = sum(kind == b"Exif" for kind in kinds.values())
    found.xmp_marked = sum(kind == _XMP_TYPE for kind in kinds.values())
    places = _item_places(find(level, b"iloc"), wanted)
    idat = find(level, b"idat")
    for item in sorted(places):
        source = file if places[item].method == 0 else idat.body if idat else Window.of(b"")
        data = _item_data(source, places[item])
        if kinds[item] == b"Exif":
            found.exif_marked -= 1
            found.add_exif(_bare_block(data))
        else:
            found.xmp_marked -= 1
            found.add_xmp(data)


def _item_kinds(iinf: Box | None) -> dict[int, bytes]:
    """Return each item's type; for MIME items the content type."""
    if iinf is None:
        return {}
    version, _, rest = iinf.full()
    kinds: dict[int, bytes] = {}
    for box in boxes(rest.cut(2 if version == 0 else 4, rest.size)):
        if box.kind != b"infe" or len(kinds) >= MAX_ITEMS:
            continue
        version, _, entry = box.full()
        if version < 2:  # the older form has no item type; metadata was never written so
            continue
        cursor = Cursor(entry.peek(0, 512))
        item = cursor.number(2 if version == 2 else 4)
        cursor.take(2)
        kind = cursor.take(4)
        if kind == b"mime":
            cursor.text()
            kind = cursor.text()
        kinds[item] = kind
    return kinds


def _item_places(iloc: Box | None, wanted: set[int]) -> dict[int, _Place]:
    """Return where the wanted items lie."""
    if iloc is None:
        return {}
    version, _, rest = iloc.full()
    cursor = Cursor(rest.peek(0, 16 * 1024 * 1024))
    sizes = cursor.number(2)
    widths = [sizes >> shift & 15 for shift in (12, 8, 4, 0)]  # bytes of each field
    places: dict[int, _Place] = {}
    extents_left = MAX_EXTENTS_TOTAL
    for _ in range(min(cursor.number(2 if version < 2 else 4), MAX_ITEMS)):
        item = cursor.number(2 if version < 2 else 4)
        method = cursor.number(2) & 15 if version else 0
        elsewhere = cursor.number(2)
        base = cursor.number(widths[2])
        extents: list[tuple[int, int]] = []
        count = cursor.number(2)
        extents_left -= count
        if extents_left < 0:
            raise MediaInvalid("The item table names more extents than any real file.")
        for _ in range(count):
            cursor.take(widths[3] if version else 0)
            extents.append((base + cursor.number(widths[0]), cursor.number(widths[1])))
        if item in wanted and not elsewhere and method < 2 and len(extents) <= MAX_EXTENTS:
            places[item] = _Place(method=method, extents=tuple(extents))
    return places


def _item_data(source: Window, place: _Place) -> Window:
    """Return an item's bytes; one extent stays where it lies, several are joined."""
    parts = [source.cut(offset, length or source.size) for offset, length in place.extents]
    if len(parts) == 1:
        return parts[0]
    if sum(part.size for part in parts) > MAX_EXIF_BYTES:
        raise MediaInvalid("A metadata item is larger than any real one.")
    return Window.of(b"".join(part.peek(0, part.size) for part in parts))


def _bare_block(item: Window) -> Window:
    """Return the TIFF block of an Exif item: behind its offset field, or near it."""
    at = 4 + int.from_bytes(item.peek(0, 4), "big")
    if is_block(item.cut(at, item.size)):
        return item.cut(at, item.size)
    near = item.peek(0, MAX_HEADER_OFFSET)
    starts = [near.find(header) for header in HEADERS if header in near]
    return item.cut(min(starts, default=at), item.size)


def _keep_size(level: Window, found: Found) -> None:
    """Find the `ispe` property of the primary item."""
    pitm, ipma = find(level, b"pitm"), find(level, b"iprp", b"ipma")
    properties = find(level, b"iprp", b"ipco")
    if pitm is None or ipma is None or properties is None:
        return
    version, _, rest = pitm.full()
    primary = int.from_bytes(rest.take(0, 4 if version else 2), "big")
    listed = list(boxes(properties.body))
    for index in _properties_of(ipma, primary):
        if 0 < index <= len(listed) and listed[index - 1].kind == b"ispe":
            cursor = Cursor(listed[index - 1].body.peek(0, 12))
            cursor.take(4)
            found.width_px, found.height_px = cursor.number(4), cursor.number(4)


def _properties_of(ipma: Box, item: int) -> list[int]:
    """Return the 1-based property indices that `ipma` gives an item."""
    version, flags, rest = ipma.full()
    cursor = Cursor(rest.peek(0, 1024 * 1024))
    wide = bool(flags & 1)
    for _ in range(min(cursor.number(4), MAX_ITEMS)):
        listed = cursor.number(4 if version else 2)
        entries = [cursor.number(2 if wide else 1) for _ in range(cursor.number(1))]
        if listed == item:
            return [entry & (0x7FFF if wide else 0x7F) for entry in entries]
    return []
