"""Walk an MP4, MOV or 3GP: the film header in `moov`.

Does: reads creation time, place (`©xyz`, `loci`, the Keys of Apple and Android), make and
model texts, the picture size of the first video track, XMP and C2PA boxes. Descends only
along named paths, so that deep nesting costs nothing. Refuses to look at samples: GoPro and
DJI telemetry tracks are not read.

    "ftyp" … | "moov" ( "mvhd" "trak"("tkhd"…) "udta"("©xyz" "loci") "meta"("keys" "ilst") )

Source: ISO/IEC 14496-12 §8.2, §8.10; QuickTime File Format (2016), “Metadata”; 3GPP TS
26.244 §8.4; ISO 6709; Adobe XMP part 3 §1.1.
"""

from evidence.errors import MediaInvalid
from evidence.media.containers.boxes import Box, Cursor, boxes, find
from evidence.media.containers.found import Found, MovieHeader
from evidence.media.containers.heif import C2PA_UUID
from evidence.media.window import Window

XMP_UUID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
# Phones write some 20 keys; editors a few more.
MAX_KEYS = 256
# A text atom longer than this is no place, time or model.
MAX_TEXT_BYTES = 1024
MAX_TRACKS = 64

_KEYS = {
    b"com.apple.quicktime.location.ISO6709": "iso6709",
    b"com.apple.quicktime.make": "make",
    b"com.apple.quicktime.model": "model",
    b"com.apple.quicktime.software": "software",
    b"com.apple.quicktime.creationdate": "creationdate",
    b"com.android.manufacturer": "make",
    b"com.android.model": "model",
}
_ATOMS = {
    b"\xa9xyz": "iso6709",
    b"\xa9mak": "make",
    b"\xa9mod": "model",
    b"\xa9swr": "software",
    b"\xa9day": "creationdate",
}


def walk(window: Window) -> Found:
    """Return what the film header holds.

    Args:
        window: the file; its boxes may stand in any order.

    Returns:
        The finds; `complete` once `moov` was met and the last box was reached.
    """
    found = Found()
    try:
        for box in boxes(window):
            _keep_box(box, found)
            if box.cut_short:
                found.note("container_truncated")
            found.end = min(box.end, window.size)
    except MediaInvalid:
        found.note("container_damaged")
    found.complete = found.movie is not None and not found.movie.damaged and not found.notes
    return found


def _keep_box(box: Box, found: Found) -> None:
    """Note one box of the outermost level."""
    if box.kind == b"moov" and found.movie is None:
        found.movie = _read_header(box.body, found)
    elif box.kind == b"uuid":
        uuid = box.body.peek(0, 16)
        found.c2pa = found.c2pa or uuid == C2PA_UUID
        if uuid == XMP_UUID:
            found.add_xmp(box.body.cut(16, box.body.size))


def _read_header(moov: Window, found: Found) -> MovieHeader:
    """Read the parts of `moov` one by one, so that a bad one does not hide the others."""
    created: int | None = None
    texts: list[tuple[str, bytes]] = []
    loci: tuple[int, int, int] | None = None
    tracks = 0
    listed, damaged = _listed(moov)
    for box in listed:
        try:
            if box.kind == b"mvhd":
                created = _created(box)
            elif box.kind == b"meta":
                texts[:0] = _keys(box)
            elif box.kind == b"udta":
                more, loci = _user_data(box, found)
                texts.extend(more)
            elif box.kind == b"trak" and tracks < MAX_TRACKS:
                tracks += 1
                _keep_size(box, found)
        except MediaInvalid:
            damaged = True
    return MovieHeader(
        created_s=created,
        iso6709=tuple(text for name, text in texts if name == "iso6709"),
        loci=loci,
        texts=tuple((name, text) for name, text in texts if name != "iso6709"),
        damaged=damaged,
    )


def _listed(window: Window) -> tuple[list[Box], bool]:
    """Return the boxes of a level as far as it can be read, and whether it broke off."""
    listed: list[Box] = []
    try:
        for box in boxes(window):
            listed.append(box)  # noqa: PERF402  what was read before the damage is kept
    except MediaInvalid:
        return listed, True
    return listed, any(box.cut_short for box in listed)


def _created(mvhd: Box) -> int | None:
    """Return the creation time in seconds since 1904; 0 means that none was set."""
    version, _, rest = mvhd.full()
    return int.from_bytes(rest.take(0, 8 if version else 4), "big") or None


def _keep_size(trak: Box, found: Found) -> None:
    """Read the picture size of the first track that has one (16.16 fixed point)."""
    tkhd = find(trak.body, b"tkhd")
    if tkhd is None or found.width_px is not None:
        return
    version, _, rest = tkhd.full()
    cursor = Cursor(rest.take(84 if version else 72, 8))
    width, height = cursor.number(4) >> 16, cursor.number(4) >> 16
    if width and height:
        found.width_px, found.height_px = width, height


def _user_data(
    udta: Box, found: Found
) -> tuple[list[tuple[str, bytes]], tuple[int, int, int] | None]:
    """Read the text atoms, the 3GPP place and an XMP atom."""
    texts: list[tuple[str, bytes]] = []
    loci: tuple[int, int, int] | None = None
    for box in boxes(udta.body):
        if box.kind in _ATOMS:
            texts.append((_ATOMS[box.kind], _atom_text(box)))
        elif box.kind == b"loci":
            loci = _loci(box)
        elif box.kind == b"XMP_":
            found.add_xmp(box.body)
        elif box.kind == b"meta":
            texts.extend(_keys(box))
    return texts, loci


def _atom_text(box: Box) -> bytes:
    """Return the first text of a QuickTime text atom: length, language, bytes."""
    cursor = Cursor(box.body.peek(0, MAX_TEXT_BYTES))
    length = cursor.number(2)
    cursor.take(2)
    return cursor.take(length)


def _loci(box: Box) -> tuple[int, int, int]:
    """Return latitude, longitude and altitude of a 3GPP place, 16.16 fixed point."""
    _, _, rest = box.full()
    cursor = Cursor(rest.peek(0, MAX_TEXT_BYTES))
    cursor.take(2)  # language
    cursor.text()  # name of the place
    cursor.take(1)  # role
    longitude, latitude, altitude = cursor.signed(4), cursor.signed(4), cursor.signed(4)
    return latitude, longitude, altitude


def _keys(meta: Box) -> list[tuple[str, bytes]]:
    """Return the known keys of a `meta` box with their texts."""
    level = meta.body
    if level.peek(4, 4) != b"hdlr":  # MP4 makes it a full box, QuickTime does not
        level = level.cut(4, level.size)
    keys, items = find(level, b"keys"), find(level, b"ilst")
    if keys is None or items is None:
        return []
    _, _, rest = keys.full()
    names = [box.body.peek(0, MAX_TEXT_BYTES) for box in boxes(rest.cut(4, rest.size))][:MAX_KEYS]
    texts: list[tuple[str, bytes]] = []
    for item in boxes(items.body):
        index = int.from_bytes(item.kind, "big")
        name = _KEYS.get(names[index - 1]) if 0 < index <= len(names) else None
        value = find(item.body, b"data") if name else None
        if name and value:
            texts.append((name, value.body.cut(8, MAX_TEXT_BYTES).peek(0, MAX_TEXT_BYTES)))
    return texts
