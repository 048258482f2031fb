"""Signed notes and verifier keys: the specification's examples and every refusal."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from evidence.errors import KeyInvalid, NoteInvalid, SignatureInvalid, TooLarge
from evidence.tlog.note import (
    ED25519,
    ML_DSA_44,
    Note,
    NoteSignature,
    VerifierKey,
    parse_note,
    parse_vkey,
    signature_line,
    verify_ed25519,
)

SALVATORE = (
    "Ognuno sta solo sul cuor della terra\n"
    "trafitto da un raggio di sole:\n"
    "\n"
    "ed è subito sera.\n"
    "\n"
    "— quasimodo.example/salvatore NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFS"
    "QU0xMcXxj99ihAQwaqP3ZekRwNtIc=\n"
).encode()
EXAMPLE_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
EXAMPLE_NOTE = (
    "This is an example message.\n"
    "\n"
    "— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRK"
    "uwHjG1Yu72IneyaQM=\n"
).encode()


def test_the_first_example_of_the_specification_is_read_and_written() -> None:
    """A text with blank lines of its own keeps them; the last blank line ends it."""
    note = parse_note(SALVATORE)
    assert note.text.endswith("sole:\n\ned è subito sera.\n")
    assert [signature.name for signature in note.signatures] == ["quasimodo.example/salvatore"]
    assert len(note.signatures[0].value) == 64
    assert note.encode() == SALVATORE


def test_the_key_of_the_specification_verifies_its_note() -> None:
    """signed-note, “Example”."""
    key, note = parse_vkey(EXAMPLE_KEY), parse_note(EXAMPLE_NOTE)
    (signature,) = note.signatures
    assert key.encode() == EXAMPLE_KEY
    assert key.kind == ED25519
    assert key.made(signature)
    verify_ed25519(key.public_key, signature.value, note.text.encode())


def test_a_note_of_another_text_is_refused_under_that_key() -> None:
    """One letter changed, and the signature no longer holds."""
    key, note = parse_vkey(EXAMPLE_KEY), parse_note(EXAMPLE_NOTE.replace(b"This", b"Thus"))
    with pytest.raises(SignatureInvalid):
        verify_ed25519(key.public_key, note.signatures[0].value, note.text.encode())


@pytest.mark.parametrize("length", [0, 1, 63, 65])
def test_a_signature_of_another_length_does_not_hold(length: int) -> None:
    """Only 64 bytes can be an Ed25519 signature."""
    with pytest.raises(SignatureInvalid):
        verify_ed25519(parse_vkey(EXAMPLE_KEY).public_key, bytes(length), b"text")


LINE = b"\xe2\x80\x94 name AQIDBAU=\n"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"\n\n",
        b"text\n",
        b"text\n\n",
        b"text\n" + LINE,
        b"text\n\n" + LINE[:-1],
        b"text\n\n" + LINE + b"\n",
        b"text\n\n- name AQIDBAU=\n",
        b"text\n\n\xe2\x80\x94name AQIDBAU=\n",
        b"text\n\n\xe2\x80\x94\n",
        b"text\n\n\xe2\x80\x94 name\n",
        b"text\n\n\xe2\x80\x94 name \n",
        b"text\n\n\xe2\x80\x94 name AQIDBAU\n",
        b"text\n\n\xe2\x80\x94 name AQIDBAV=\n",
        b"text\n\n\xe2\x80\x94 name AQIDBA==\n",
        b"text\n\n\xe2\x80\x94 name AQID\n",
        b"text\n\n\xe2\x80\x94 name AQID_AU=\n",
        b"text\n\n\xe2\x80\x94 name AQID BAU=\n",
        b"text\n\n\xe2\x80\x94  name AQIDBAU=\n",
        b"text\n\n\xe2\x80\x94 na+me AQIDBAU=\n",
        b"text\n\n\xe2\x80\x94 na\xc2\xa0me AQIDBAU=\n",
        b"text\n\n\xe2\x80\x94 na\xe2\x80\xa8me AQIDBAU=\n",
        "text\n\n— näme AQIDBAÜ=\n".encode(),
        b"te\txt\n\n" + LINE,
        b"te\rxt\n\n" + LINE,
        b"te\x00xt\n\n" + LINE,
        b"te\xffxt\n\n" + LINE,
        b"te\xed\xa0\x80xt\n\n" + LINE,
        b"text\n\n\xe2\x80\x94 na\x01me AQIDBAU=\n",
        b"text\r\n\r\n" + LINE,
    ],
)
def test_what_is_not_exactly_a_note_is_refused(data: bytes) -> None:
    """Missing parts, loose base64, control characters and foreign spaces."""
    with pytest.raises(NoteInvalid):
        parse_note(data)


def test_sixteen_signatures_are_read_and_the_limit_is_kept() -> None:
    """Verifiers must accept at least 16 lines; beyond the limit nothing is interpreted."""
    assert len(parse_note(b"text\n\n" + lines(16)).signatures) == 16
    assert len(parse_note(b"text\n\n" + lines(64)).signatures) == 64
    with pytest.raises(TooLarge):
        parse_note(b"text\n\n" + lines(65))
    with pytest.raises(TooLarge):
        parse_note(b"text\n\n" + lines(3), max_signatures=2)
    with pytest.raises(TooLarge):
        parse_note(b"t" * (256 * 1024 + 1))


def lines(count: int) -> bytes:
    """Signature lines of that many keys of one name."""
    made = (NoteSignature(name="name", key_id=n.to_bytes(4), value=b"s") for n in range(count))
    return "".join(map(signature_line, made)).encode()


def test_a_line_that_is_repeated_is_refused() -> None:
    """It would cost a verification each time; another one of the same key is another line."""
    with pytest.raises(NoteInvalid):
        parse_note(b"text\n\n" + LINE * 2)
    again = NoteSignature(name="name", key_id=bytes([1, 2, 3, 4]), value=b"other")
    both = parse_note(b"text\n\n" + LINE + f"{signature_line(again)}".encode())
    assert len(both.signatures) == 2


def test_a_line_is_written_as_the_specification_shows_it() -> None:
    """Em dash, space, name, space, base64, newline."""
    signature = NoteSignature(name="name", key_id=bytes([1, 2, 3, 4]), value=bytes([5]))
    assert signature_line(signature).encode() == LINE


@pytest.mark.parametrize(
    ("name", "key_id", "value"),
    [("", b"abcd", b"s"), ("a b", b"abcd", b"s"), ("a", b"abc", b"s"), ("a", b"abcd", b"")],
)
def test_a_line_that_could_not_be_read_back_is_not_made(
    name: str, key_id: bytes, value: bytes
) -> None:
    """The same rules hold for what we write."""
    with pytest.raises(NoteInvalid):
        NoteSignature(name=name, key_id=key_id, value=value)


def test_a_note_that_could_not_be_read_back_is_not_made() -> None:
    """No final newline, a control character, or nobody who signed."""
    line = NoteSignature(name="name", key_id=b"abcd", value=b"s")
    for text, signatures in (
        ("text", (line,)),
        ("te\x07xt\n", (line,)),
        ("\udfff\n", (line,)),
        ("text\n", ()),
    ):
        with pytest.raises(NoteInvalid):
            Note(text=text, signatures=signatures)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "example.com/foo",
        "example.com/foo+530d903a",
        "example.com/foo+530d903a+",
        "example.com/foo+530d903+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com/foo+530D903A+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com/foo+530d903b+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com/fop+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2",
        "example.com/foo+530d903a+AukyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com/foo+530d903a+BOkyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3Q==",
        "example .com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com/fo\ud800+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k\n",
        "example.com/foo+530d903a+" + "A" * 5000,
    ],
)
def test_what_is_not_exactly_a_verifier_key_is_refused(text: str) -> None:
    """Form, type, length and the key id itself."""
    with pytest.raises(KeyInvalid):
        parse_vkey(text)


def test_the_same_key_under_another_type_has_another_id() -> None:
    """Type and name are part of the id, so lines of one role cannot pass for another's."""
    public_key = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    ids = {
        VerifierKey(name=name, kind=kind, public_key=public_key).key_id
        for name in ("a.example", "b.example")
        for kind in (0x01, 0x04)
    }
    assert len(ids) == 4


def test_a_key_of_the_wrong_length_is_refused() -> None:
    """An ML-DSA-44 key has 1,312 bytes."""
    assert VerifierKey(name="a", kind=ML_DSA_44, public_key=bytes(1312)).encode().startswith("a+")
    for kind, length in ((ML_DSA_44, 1311), (ED25519, 31), (0x02, 32), (0xFF, 32)):
        with pytest.raises(KeyInvalid):
            VerifierKey(name="a", kind=kind, public_key=bytes(length))
