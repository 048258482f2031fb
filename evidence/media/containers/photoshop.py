"""Walk a Photoshop document: its image resources, where Exif and XMP lie.

Does: reads the header's size and the resources 1058 (Exif) and 1060 (XMP). Cameras do not
write this format, but edited photos are handed in as it. Refuses layers and image data.

    "8BPS" 00 01 … height width … | colour data | ( "8BIM" id name size data )* | …

Source: Adobe Photoshop File Formats Specification (2019), “Image Resources Section”.
"""

from evidence.media.containers.boxes import Cursor
from evidence.media.containers.found import Found
from evidence.media.window import Window

# A document has some 40 resources.
MAX_RESOURCES = 1024
_EXIF, _XMP = 1058, 1060


def walk(window: Window) -> Found:
    """Return what the image resources of a Photoshop document hold.

    Args:
        window: the file, beginning with 8BPS.

    Returns:
        The finds; `complete` once the section was read to its end.

    Raises:
        MediaInvalid: the fixed header is not whole.
    """
    found = Found()
    header = Cursor(window.take(14, 8))
    found.height_px, found.width_px = header.number(4), header.number(4)
    start = 30 + int.from_bytes(window.take(26, 4), "big")
    size = int.from_bytes(window.take(start, 4), "big")
    section = window.cut(start + 4, size)
    if section.size < size:
        found.note("container_truncated")
    offset = 0
    for _ in range(MAX_RESOURCES):
        if offset >= section.size:
            found.complete = not found.notes
            return found
        head = section.peek(offset, 7)
        name = offset + 6 + (head[6] + 2 & ~1 if len(head) == 7 else 0)
        length = int.from_bytes(section.peek(name, 4), "big")
        if head[:4] != b"8BIM":
            break
        body = section.cut(name + 4, length)
        if body.size < length:
            found.note("container_truncated")
        _keep(int.from_bytes(head[4:6], "big"), body, found)
        offset = name + 4 + length + (length & 1)
    found.note("container_damaged")
    return found


def _keep(resource: int, body: Window, found: Found) -> None:
    if resource == _EXIF:
        found.add_exif(body)
    elif resource == _XMP:
        found.add_xmp(body)
