"""A small language for what a statement's members may be.

Does: describes members as values (`Text`, `Integer`, `Hex` …), checks parsed JSON against
them, and writes the same description as JSON Schema for the reference pages. Refuses
unknown members always: a member that nobody reads is a place to hide something.

    Record({"count": Integer(0, 10**6), "inventory?": CONTENT})      # "?" marks optional
"""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from evidence.canonical import MAX_INTEGER, JSONObject, JSONValue
from evidence.errors import FieldInvalid, FieldMissing, FieldUnknown

_HEX = re.compile(r"[0-9a-f]*")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
_TIME_PATTERN = "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}Z$"


class Field(Protocol):
    """One rule for one JSON value."""

    def check(self, value: JSONValue, pointer: str) -> None:
        """Raise `FieldInvalid` (or a sibling) naming `pointer` unless the value fits."""
        ...

    def json_schema(self) -> JSONObject:
        """The same rule as JSON Schema 2020-12."""
        ...


def _invalid(pointer: str, expected: str) -> FieldInvalid:
    return FieldInvalid(f"The member must be {expected}.", pointer=pointer)


@dataclass(frozen=True, slots=True)
class Text:
    """A string of 1 to `longest` characters, where given matching `pattern` whole."""

    longest: int
    pattern: str | None = None
    _form: re.Pattern[str] | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Compile the pattern once: statements are checked by the thousand."""
        object.__setattr__(self, "_form", re.compile(self.pattern) if self.pattern else None)

    def check(self, value: JSONValue, pointer: str) -> None:
        """See `Field.check`."""
        if not isinstance(value, str) or not 1 <= len(value) <= self.longest:
            raise _invalid(pointer, f"text of 1 to {self.longest} characters")
        if self._form and not self._form.fullmatch(value):
            raise _invalid(pointer, f"text of the form {self.pattern}")

    def json_schema(self) -> JSONObject:
        """See `Field.json_schema`."""
        schema: JSONObject = {"type": "string", "minLength": 1, "maxLength": self.longest}
        if self.pattern:
            schema["pattern"] = f"^(?:{self.pattern})$"
        return schema


@dataclass(frozen=True, slots=True)
class Hex:
    """Lowercase hexadecimal of exactly `size_bytes` bytes."""

    size_bytes: int

    def check(self, value: JSONValue, pointer: str) -> None:
        """See `Field.check`."""
        digits = 2 * self.size_bytes
        if not isinstance(value, str) or len(value) != digits or not _HEX.fullmatch(value):
            raise _invalid(pointer, f"{digits} lowercase hexadecimal digits")

    def json_schema(self) -> JSONObject:
        """See `Field.json_schema`."""
        return {"type": "string", "pattern": f"^[0-9a-f]{{{2 * self.size_bytes}}}$"}


@dataclass(frozen=True, slots=True)
class Base64:
    """Standard padded base64 of 1 to `longest_bytes` bytes, in its one canonical form."""

    longest_bytes: int

    def check(self, value: JSONValue, pointer: str) -> None:
        """See `Field.check`."""
        self.read(value, pointer)

    def read(self, value: JSONValue, pointer: str) -> bytes:
        """The bytes that a value stands for; raises as `check`."""
        data = decode_base64(value, pointer) if isinstance(value, str) else b""
        if not 1 <= len(data) <= self.longest_bytes:
            raise _invalid(pointer, f"base64 of 1 to {self.longest_bytes} bytes")
        return data

    def json_schema(self) -> JSONObject:
        """See `Field.json_schema`."""
        longest = 4 * ((self.longest_bytes + 2) // 3)
        return {"type": "string", "contentEncoding": "base64", "maxLength": longest}


@dataclass(frozen=True, slots=True)
class Integer:
    """An integer, both bounds included."""

    lowest: int = 0
    highest: int = MAX_INTEGER

    def check(self, value: JSONValue, pointer: str) -> None:
        """See `Field.check`."""
        if isinstance(value, bool) or not isinstance(value, int):
            raise _invalid(pointer, "an integer")
        if not self.lowest <= value <= self.highest:
            raise _invalid(pointer, f"an integer from {self.lowest} to {self.highest}")

    def json_schema(self) -> JSONObject:
        """See `Field.json_schema`."""
        return {"type": "integer", "minimum": self.lowest, "maximum": self.highest}


@dataclass(frozen=True, slots=True)
class Flag:
    """True or false."""

    def check(self, value: JSONValue, pointer: str) -> None:
        """See `Field.check`."""
        if not isinstance(value, bool):
            raise _invalid(pointer, "true or false")

    def json_schema(self) -> JSONObject:
        """See `Field.json_schema`."""
        return {"type": "boolean"}


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a closed set of words."""

    words: tuple[str, ...]

    def check(self, value: JSONValue, pointer: str) -> None:
        """See `Field.check`."""
        if value not in self.words:
            raise _invalid(pointer, "one of " + ", ".join(self.words))

    def json_schema(self) -> JSONObject:
        """See `Field.json_schema`."""
        return {"enum": list(self.words)}


@dataclass(frozen=True, slots=True)
class Time:
    """RFC 3339 UTC with exactly milliseconds and `Z`; no leap second."""

    def check(self, value: JSONValue, pointer: str) -> None:
        """See `Field.check`."""
        if not isinstance(value, str):
            raise _invalid(pointer, "a time in UTC such as 2026-11-23T09:00:00.000Z")
        parse_time(value, pointer)

    def json_schema(self) -> JSONObject:
        """See `Field.json_schema`."""
        return {"type": "string", "format": "date-time", "pattern": _TIME_PATTERN}


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list of up to `longest` members of one form."""

    member: Field
    longest: int

    def check(self, value: JSONValue, pointer: str) -> None:
        """See `Field.check`."""
        if not isinstance(value, list) or len(value) > self.longest:
            raise _invalid(pointer, f"a list of up to {self.longest} members")
        for number, member in enumerate(value):
            self.member.check(member, f"{pointer}/{number}")

    def json_schema(self) -> JSONObject:
        """See `Field.json_schema`."""
        return {"type": "array", "maxItems": self.longest, "items": self.member.json_schema()}


@dataclass(frozen=True, slots=True)
class Record:
    """An object with named members; a name that ends in `?` is optional."""

    members: Mapping[str, Field]
    _rules: Mapping[str, Field] = field(init=False, repr=False, compare=False)
    _demanded: Mapping[str, Field] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Take the names apart once: statements are checked by the thousand."""
        rules = {name.removesuffix("?"): rule for name, rule in self.members.items()}
        demanded = {name: rule for name, rule in self.members.items() if not name.endswith("?")}
        object.__setattr__(self, "_rules", rules)
        object.__setattr__(self, "_demanded", demanded)

    def check(self, value: JSONValue, pointer: str) -> None:
        """See `Field.check`; also FieldUnknown and FieldMissing."""
        members = self.check_names(value, pointer)
        for name, rule in self._rules.items():
            if name in members:
                rule.check(members[name], f"{pointer}/{name}")

    def check_names(self, value: JSONValue, pointer: str) -> JSONObject:
        """The value as an object with the right names, whatever they hold.

        Raises:
            FieldInvalid: it is no object.
            FieldUnknown: it has a member that this format does not name.
            FieldMissing: it lacks one that this format demands.
        """
        if not isinstance(value, dict):
            raise _invalid(pointer, "an object")
        if not value.keys() <= self._rules.keys():
            unknown = next(name for name in value if name not in self._rules)
            msg = "The member is not part of this format."
            raise FieldUnknown(msg, pointer=f"{pointer}/{_escape(unknown)}")
        if not self._demanded.keys() <= value.keys():
            missing = next(name for name in self._demanded if name not in value)
            msg = "A member that this format demands is missing."
            raise FieldMissing(msg, pointer=f"{pointer}/{missing}")
        return value

    def json_schema(self) -> JSONObject:
        """See `Field.json_schema`."""
        return {
            "type": "object",
            "additionalProperties": False,
            "required": [name for name in self.members if not name.endswith("?")],
            "properties": {
                name.removesuffix("?"): rule.json_schema() for name, rule in self.members.items()
            },
        }


def _escape(name: str) -> str:
    """RFC 6901 escaping, cut short: the name is the sender's text."""
    return name[:40].replace("~", "~0").replace("/", "~1")


def encode_base64(data: bytes) -> str:
    """Write standard base64 in its one canonical form, which `decode_base64` reads."""
    return base64.b64encode(data).decode("ascii")


def decode_base64(text: str, pointer: str = "") -> bytes:
    """Read standard base64 in its one canonical form.

    Raises:
        FieldInvalid: other characters, missing padding, or stray bits.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _invalid(pointer, "standard base64") from error
    if encode_base64(data) != text:
        raise _invalid(pointer, "base64 in its canonical form")
    return data


def parse_time(text: str, pointer: str = "") -> datetime:
    """Read a statement's time.

    Args:
        text: such as `2026-11-23T09:00:00.000Z`.
        pointer: where it stands, for the error.

    Returns:
        An aware datetime in UTC.

    Raises:
        FieldInvalid: another form, an impossible date, or a leap second.
    """
    if not _TIME.fullmatch(text) or not text.isascii():
        raise _invalid(pointer, "a time in UTC such as 2026-11-23T09:00:00.000Z")
    try:
        return datetime.fromisoformat(text[:-1]).replace(tzinfo=UTC)
    except ValueError as error:
        raise _invalid(pointer, "a time that exists") from error


def format_time(at: datetime) -> str:
    """Write a statement's time, cut to whole milliseconds.

    Raises:
        ValueError: the time has no zone.
    """
    if at.tzinfo is None:
        msg = "a statement's time needs a zone"
        raise ValueError(msg)
    # `strftime` would write the year 1 with one digit, which nobody could read back.
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
