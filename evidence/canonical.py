"""RFC 8785 canonical JSON, restricted to what a statement may hold.

Does: writes canonical bytes, and reads bytes only if they equal their own
re-canonicalisation. Refuses: floats and integers beyond ±(2^53−1), names outside ASCII,
duplicate names, text with controls, lone surrogates, noncharacters or bidirectional
controls, more than 16 KiB or 8 levels. Text is never normalised: NFC rewrites Chinese
compatibility characters, and evidence is not edited.

    {"body":{"number":3},"organ":"demo-organ","type":"fengni/capture/v1"}
"""

import json
import re
from collections.abc import Sequence
from typing import NoReturn, TypeAlias, cast

import rfc8785

from evidence.errors import DuplicateKey, NotCanonical, NumberRefused, TextRefused, TooLarge

JSONValue: TypeAlias = "bool | int | str | list[JSONValue] | dict[str, JSONValue] | None"
JSONObject: TypeAlias = dict[str, JSONValue]

MAX_BYTES = 16 * 1024
MAX_DEPTH = 8  # the outermost object is level 1
MAX_INTEGER = 2**53 - 1
_MAX_INTEGER_DIGITS = 17  # a sign and 16 digits hold every allowed integer

_canonical = json.JSONEncoder(
    sort_keys=True, ensure_ascii=False, separators=(",", ":"), check_circular=False
).encode

# C0, DEL and C1 controls, bidirectional controls, surrogates, noncharacters.
_REFUSED_TEXT = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufdd0-\ufdef"
    + "".join(chr(plane << 16 | end) for plane in range(17) for end in (0xFFFE, 0xFFFF))
    + "]"
)


def canonicalise(value: object, *, max_bytes: int = MAX_BYTES) -> bytes:
    """Write a value as canonical bytes that `parse_canonical` accepts.

    Args:
        value: nested dicts with ASCII names, lists, strings, integers, booleans, None.
        max_bytes: the longest result allowed, in bytes.

    Returns:
        UTF-8 bytes.

    Raises:
        NotCanonical: the value holds something that a statement may not hold.
        TooLarge: the result passes a limit.

    Source: RFC 8785, with the restrictions of docs/evidence-format.md §1.
    """
    _check(value, MAX_DEPTH)
    raw = rfc8785.dumps(value)  # type: ignore[arg-type]
    if len(raw) > max_bytes:
        msg = f"The document is longer than {max_bytes} bytes."
        raise TooLarge(msg)
    return raw


def parse_canonical(raw: bytes, *, max_bytes: int = MAX_BYTES) -> JSONObject:
    """Read canonical bytes, or refuse them.

    Args:
        raw: the bytes as received.
        max_bytes: the longest input allowed, in bytes.

    Returns:
        The object that the bytes say, and nothing that they do not.

    Raises:
        TooLarge: a limit was passed.
        DuplicateKey: a name stands twice in one object.
        NumberRefused: a float, an exponent, NaN, or an integer out of range.
        TextRefused: refused characters, or a name outside ASCII.
        NotCanonical: no JSON object, no UTF-8, or not its own canonical form.
    """
    if len(raw) > max_bytes:
        msg = f"The document is longer than {max_bytes} bytes."
        raise TooLarge(msg)
    try:
        text = raw.decode("utf-8")
        value: JSONValue = _strict.decode(text)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        msg = "The bytes are not JSON in UTF-8."
        raise NotCanonical(msg) from error
    except RecursionError as error:
        msg = f"The document is nested deeper than {MAX_DEPTH} levels."
        raise TooLarge(msg) from error
    if not isinstance(value, dict):
        msg = "The document is not a JSON object."
        raise NotCanonical(msg)
    if text.isascii() and "\\" not in text and "\x7f" not in text:
        _check_depth(value, MAX_DEPTH)  # such text cannot hold what `_check` looks for
    else:
        _check(value, MAX_DEPTH)
    # Within these restrictions the standard library writes RFC 8785, five times faster than
    # rfc8785 does; a property test holds the two against each other.
    if _canonical(value) != text:
        msg = "The bytes differ from their RFC 8785 canonical form."
        raise NotCanonical(msg)
    return value


def _unique(pairs: Sequence[tuple[str, JSONValue]]) -> JSONObject:
    result = dict(pairs)
    if len(result) != len(pairs):
        msg = "An object names the same member twice."
        raise DuplicateKey(msg)
    return result


def _integer(text: str) -> int:
    if len(text) > _MAX_INTEGER_DIGITS:
        _refuse_number(text)
    number = int(text)
    if not -MAX_INTEGER <= number <= MAX_INTEGER:
        _refuse_number(text)
    return number


def _refuse_number(_text: str) -> NoReturn:
    msg = "Numbers are integers within ±(2^53−1); the document holds another."
    raise NumberRefused(msg)


_strict = json.JSONDecoder(
    object_pairs_hook=_unique,
    parse_int=_integer,
    parse_float=_refuse_number,
    parse_constant=_refuse_number,
)


def _check(value: object, levels: int) -> None:
    """Refuse what no statement may hold. `levels` is how many more may be opened."""
    match value:
        case bool() | None:
            return
        case int():
            if not -MAX_INTEGER <= value <= MAX_INTEGER:
                _refuse_number("")
        case str():
            _check_text(value)
        case dict():
            _check_levels(levels)
            for name, member in cast("dict[object, object]", value).items():
                _check_name(name)
                _check(member, levels - 1)
        case list():
            _check_levels(levels)
            for member in cast("list[object]", value):
                _check(member, levels - 1)
        case float():
            _refuse_number("")
        case _:
            msg = "The value is not JSON."
            raise NotCanonical(msg)


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not name.isascii():
        msg = "A member's name is not ASCII."
        raise TextRefused(msg)
    _check_text(name)


def _check_depth(value: object, levels: int) -> None:
    if isinstance(value, dict):
        _check_levels(levels)
        for member in cast("dict[str, object]", value).values():
            _check_depth(member, levels - 1)
    elif isinstance(value, list):
        _check_levels(levels)
        for member in cast("list[object]", value):
            _check_depth(member, levels - 1)


def _check_levels(levels: int) -> None:
    if levels < 1:
        msg = "The document is nested too deeply."
        raise TooLarge(msg)


def _check_text(text: str) -> None:
    if _REFUSED_TEXT.search(text):
        msg = "Text holds a control, a noncharacter, a surrogate or a bidirectional control."
        raise TextRefused(msg)
