"""Text out of files, made safe to put into evidence.

Does: decodes bytes that a camera wrote, removes what canonical JSON refuses, and bounds the
length. Refuses to guess an encoding: what is not UTF-8 is shown with U+FFFD in its place.

    clean("Apple ") == "Apple"
"""

import re
from fractions import Fraction

# Longer makes and models do not exist; a longer text is an attempt to fill the record.
MAX_CHARACTERS = 256
_NUMBER = re.compile(r"[+-]?\d{1,12}(?:\.\d{1,12})?")
# What evidence.canonical refuses: controls, bidirectional controls, surrogates, noncharacters.
_REFUSED = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufdd0-\ufdef"
    + "".join(chr(plane << 16 | end) for plane in range(17) for end in (0xFFFE, 0xFFFF))
    + "]"
)


def clean(value: str | bytes) -> str:
    """Return text that canonical JSON accepts, without outer blanks, at most 256 characters.

    Args:
        value: text, or bytes that should be UTF-8; everything behind a NUL is dropped.
    """
    if isinstance(value, bytes):
        value = value[: MAX_CHARACTERS * 4].decode("utf-8", errors="replace")
    return _REFUSED.sub("\ufffd", value.split("\x00", 1)[0].strip()[:MAX_CHARACTERS])


def thousandths(text: str) -> int | None:
    """Return a decimal number times 1,000, rounded half to even, or None.

    Args:
        text: for example `+39.90` or `-115.300003`, as drones write metres and degrees.
    """
    text = text.strip()
    if not _NUMBER.fullmatch(text):
        return None
    return round(Fraction(text) * 1000)
