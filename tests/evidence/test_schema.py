"""Each kind of field refuses what it should, and its JSON Schema says the same."""

import json
from base64 import b64encode
from collections.abc import Callable

import jsonschema
import pytest

from evidence.errors import (
    CheckpointInvalid,
    EvidenceError,
    FieldInvalid,
    FieldMissing,
    FieldUnknown,
    KeyInvalid,
    LeafInvalid,
    NoteInvalid,
    ProofFileInvalid,
)
from evidence.kinds import ALL
from evidence.kinds.members import Kind
from evidence.leaf import leaf_of, parse_leaf
from evidence.report import Findings, Outcome
from evidence.schema import (
    Base64,
    Choice,
    Field,
    Flag,
    Hex,
    Integer,
    Record,
    Sequence,
    Text,
    Time,
    decode_base64,
)
from evidence.tlog.checkpoint import parse_checkpoint_body
from evidence.tlog.note import parse_signature_line, parse_vkey
from evidence.tlog.proof import parse_tlog_proof


@pytest.mark.parametrize(
    ("field", "good", "wrong"),
    [
        (Text(3), "abc", ["", "abcd", 1]),
        (Text(3, "[a-z]+"), "abc", ["ABC"]),
        (Hex(2), "00ff", ["00FF", "00", 1]),
        (Base64(2), "AAA=", ["AAAA", "AA", "", 1, "AAB=", "!!!!"]),
        (Integer(0, 5), 5, [6, -1, True, "1"]),
        (Flag(), True, [1, "true"]),
        (Choice(("a", "b")), "a", ["c", 1]),
        (Time(), "2026-02-28T23:59:59.999Z", ["2026-02-30T00:00:00.000Z", 1, "now"]),
        (Sequence(Integer(), 2), [1, 2], [[1, 2, 3], ["a"], {}]),
        (Record({"a": Integer(), "b?": Integer()}), {"a": 1}, [{}, {"a": 1, "c": 1}, []]),
    ],
)
def test_a_field_takes_what_it_says_and_nothing_else(
    field: Field, good: object, wrong: list[object]
) -> None:
    """The good value passes, every wrong one raises."""
    field.check(good, "/x")  # type: ignore[arg-type]
    for value in wrong:
        with pytest.raises((FieldInvalid, FieldMissing, FieldUnknown)):
            field.check(value, "/x")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.name)
def test_every_kind_is_a_json_schema_that_accepts_its_example(kind: Kind) -> None:
    """An independent validator agrees about the example, and about a member too many."""
    schema = json.loads(json.dumps(kind.body.json_schema()))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(kind.example, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**kind.example, "extra_member": 1}, schema)


def test_findings_keep_the_worst_and_know_their_checks() -> None:
    """A pass is concluded only where nothing else was noted; unknown names are a mistake."""
    findings = Findings()
    assert findings.worst("key.chain") is Outcome.UNCHECKED
    findings.conclude("key.chain")
    assert findings.worst("key.chain") is Outcome.PASS
    findings.add("key.chain", Outcome.UNCONFIRMED, "Missing.", subject="x")
    assert findings.worst("key.chain", ["x"]) is Outcome.UNCONFIRMED
    findings.error("key.chain", EvidenceError("Broken."))
    findings.conclude("key.chain")
    assert findings.worst("key.chain") is Outcome.CHANGED
    with pytest.raises(ValueError, match="registry"):
        findings.add("no.such.check", Outcome.PASS, "x")


@pytest.mark.parametrize(
    "text", ["QQ", "QQ=", "QR==", "QQ==\n", "Q Q==", "QQ==QQ==", "-_-_", "é==="]
)
def test_base64_has_one_reader_behind_every_format(text: str) -> None:
    """What one format refuses as loose base64, each of the others refuses under its own name."""
    leaf = leaf_of("ab" * 32, b"signature", b"key").decode()
    doors: list[tuple[Callable[[], object], type[EvidenceError]]] = [
        (lambda: decode_base64(text), FieldInvalid),
        (
            lambda: parse_leaf(leaf.replace(b64encode(b"key").decode(), text).encode()),
            LeafInvalid,
        ),
        (lambda: parse_signature_line(f"— name {text}"), NoteInvalid),
        (lambda: parse_vkey(f"name+00000000+{text}"), KeyInvalid),
        (lambda: parse_checkpoint_body(f"log.example\n1\n{text}\n"), CheckpointInvalid),
        (
            lambda: parse_tlog_proof(f"c2sp.org/tlog-proof@v1\nextra {text}\n".encode()),
            ProofFileInvalid,
        ),
    ]
    for door, error in doors:
        with pytest.raises(error):
            door()
