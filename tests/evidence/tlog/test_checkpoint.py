"""Checkpoints: the specification's example, both signatures, and every refusal."""

import base64
import dataclasses
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

from evidence.errors import CheckpointInvalid, EvidenceError, NoteInvalid, SignatureInvalid
from evidence.merkle import EMPTY_ROOT
from evidence.tlog.checkpoint import (
    Checkpoint,
    LogSigner,
    check_origin,
    open_checkpoint,
    parse_checkpoint_body,
    timestamped_message,
)
from evidence.tlog.cosignature import Cosigner
from evidence.tlog.note import ED25519, ML_DSA_44, Note, VerifierKey, parse_note, signature_line

BODY = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
ORIGIN = "log.example/a"
BOTH = frozenset({ED25519, ML_DSA_44})
AT_S = 1_790_000_000


def signer(origin: str = ORIGIN, *, second: bool = True) -> LogSigner:
    """A log's signer with fresh keys."""
    return LogSigner(
        origin, Ed25519PrivateKey.generate(), MLDSA44PrivateKey.generate() if second else None
    )


LOG = signer()
CHECKPOINT = Checkpoint(origin=ORIGIN, size=7, root=bytes(range(32)))
NOTE = LOG.sign(CHECKPOINT, AT_S)


def test_the_example_of_the_specification_is_read_and_written() -> None:
    """tlog-checkpoint: origin, size, root."""
    checkpoint = parse_checkpoint_body(BODY)
    assert checkpoint.origin == "example.com/behind-the-sofa"
    assert checkpoint.size == 20852163
    assert checkpoint.root.hex().startswith("0ac5186a91863e8e")
    assert checkpoint.extensions == ()
    assert checkpoint.body() == BODY


def test_extension_lines_are_kept() -> None:
    """Others may add opaque lines."""
    body = BODY + "something else\nand more\n"
    checkpoint = parse_checkpoint_body(body)
    assert checkpoint.extensions == ("something else", "and more")
    assert checkpoint.body() == body


ROOT = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I="


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "origin\n",
        "origin\n7\n",
        f"origin\n7\n{ROOT}",
        f"\n7\n{ROOT}\n",
        f"7\n{ROOT}\n",
        f"origin\n{ROOT}\n",
        f"origin\n\n{ROOT}\n",
        f"origin\n07\n{ROOT}\n",
        f"origin\n+7\n{ROOT}\n",
        f"origin\n-7\n{ROOT}\n",
        f"origin\n 7\n{ROOT}\n",
        f"origin\n7_0\n{ROOT}\n",
        f"origin\n٧\n{ROOT}\n",
        f"origin\n0x7\n{ROOT}\n",
        f"origin\n9223372036854775808\n{ROOT}\n",
        f"origin\n{'9' * 5000}\n{ROOT}\n",
        f"origin\n0\n{ROOT}\n",
        "origin\n7\n\n",
        f"origin\n7\n{ROOT[:-1]}\n",
        f"origin\n7\n{ROOT}=\n",
        f"origin\n7\n{ROOT[:-2]}J=\n",
        "origin\n7\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxqw==\n",
        "origin\n7\nÜsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n",
        f"origin\n7\n{ROOT}\n\n",
        f"origin\n7\n{ROOT}\n\nmore\n",
        f"ori\tgin\n7\n{ROOT}\n",
        f"ori\ud800gin\n7\n{ROOT}\n",
        f"origin\n7\n{ROOT}\nmo\x00re\n",
    ],
)
def test_what_is_not_exactly_a_checkpoint_is_refused(text: str) -> None:
    """Each number and each hash has one form only."""
    with pytest.raises(CheckpointInvalid):
        parse_checkpoint_body(text)


@pytest.mark.parametrize("size", [0, 1, 2**63 - 1])
def test_sizes_from_nothing_to_the_limit_are_read(size: int) -> None:
    """The empty tree has its own root."""
    root = EMPTY_ROOT if size == 0 else bytes(32)
    checkpoint = Checkpoint(origin="o", size=size, root=root)
    assert parse_checkpoint_body(checkpoint.body()) == checkpoint


def test_a_log_signs_twice_and_both_signatures_open() -> None:
    """Ed25519 first, ML-DSA-44 second, both under the origin."""
    opened = open_checkpoint(NOTE, LOG.verifier_keys, require=BOTH)
    assert opened.checkpoint == CHECKPOINT
    assert opened.log_keys == LOG.verifier_keys
    assert [key.kind for key in opened.log_keys] == [ED25519, ML_DSA_44]
    assert [line.name for line in opened.note.signatures] == [ORIGIN, ORIGIN]
    assert opened.note.encode() == NOTE


def test_a_log_without_the_second_key_signs_once() -> None:
    """Then a caller who demands both refuses it."""
    log = signer(second=False)
    note = log.sign(CHECKPOINT, AT_S)
    assert open_checkpoint(note, log.verifier_keys).log_keys == log.verifier_keys
    with pytest.raises(SignatureInvalid, match="lacks"):
        open_checkpoint(note, log.verifier_keys, require=BOTH)


def test_a_note_stripped_of_one_algorithm_is_refused_where_both_are_demanded() -> None:
    """A forger who broke one algorithm gains nothing by leaving out the other."""
    note = parse_note(NOTE)
    for place in (0, 1):
        stripped = dataclasses.replace(note, signatures=(note.signatures[place],)).encode()
        with pytest.raises(SignatureInvalid, match="lacks"):
            open_checkpoint(stripped, LOG.verifier_keys, require=BOTH)
    only_second = dataclasses.replace(note, signatures=note.signatures[1:]).encode()
    second_key = LOG.verifier_keys[1]
    opened = open_checkpoint(only_second, LOG.verifier_keys, require=frozenset({ML_DSA_44}))
    assert opened.log_keys == (second_key,)


def test_one_flipped_bit_in_any_line_of_the_log_is_refused() -> None:
    """Even where only the other line is demanded: a known key's bad line spoils the note."""
    note = parse_note(NOTE)
    for place, line in enumerate(note.signatures):
        for position in (0, 8, len(line.value) - 1):
            value = bytearray(line.value)
            value[position] ^= 1
            lines = list(note.signatures)
            lines[place] = dataclasses.replace(line, value=bytes(value))
            data = Note(text=note.text, signatures=tuple(lines)).encode()
            for require in (frozenset({ED25519}), frozenset({ML_DSA_44}), frozenset[int]()):
                with pytest.raises(SignatureInvalid):
                    open_checkpoint(data, LOG.verifier_keys, require=require)


def test_another_size_or_root_is_refused() -> None:
    """The text is what is signed."""
    for altered in (
        NOTE.replace(b"\n7\n", b"\n8\n", 1),
        NOTE.replace(b"AAECAwQF", b"BAECAwQF", 1),
    ):
        assert altered != NOTE
        with pytest.raises(SignatureInvalid):
            open_checkpoint(altered, LOG.verifier_keys)


def test_lines_of_unknown_keys_are_ignored() -> None:
    """Before or after the log's own, and even under its name."""
    stranger = signer().sign(CHECKPOINT, AT_S).partition(b"\n\n")[2]
    text, blank, own = NOTE.partition(b"\n\n")
    for lines in (stranger + own, own + stranger):
        opened = open_checkpoint(text + blank + lines, LOG.verifier_keys, require=BOTH)
        assert opened.log_keys == LOG.verifier_keys
        assert len(opened.note.signatures) == 4


def test_a_note_without_a_line_of_a_known_key_is_refused() -> None:
    """Whatever is demanded, at least one key must have signed."""
    for require in (frozenset({ED25519}), frozenset[int]()):
        with pytest.raises(SignatureInvalid, match="lacks"):
            open_checkpoint(NOTE, signer().verifier_keys, require=require)


def test_a_checkpoint_of_another_origin_is_refused() -> None:
    """A key signs for the origin that is its name, and for no other."""
    with pytest.raises(CheckpointInvalid, match="not from a log"):
        open_checkpoint(NOTE, signer("log.example/b").verifier_keys)
    with pytest.raises(CheckpointInvalid, match="not from a log"):
        open_checkpoint(NOTE, ())
    (key, _) = LOG.verifier_keys
    renamed = VerifierKey(name="log.example/b", kind=ED25519, public_key=key.public_key)
    moved = parse_note(NOTE).signatures[0]
    line = dataclasses.replace(moved, name=renamed.name, key_id=renamed.key_id)
    data = Note(text=CHECKPOINT.body(), signatures=(line,)).encode()
    with pytest.raises(CheckpointInvalid, match="not from a log"):
        open_checkpoint(data, (renamed,))


def test_extension_lines_need_a_signature_that_covers_them() -> None:
    """ML-DSA-44 does not sign them, so a stranger could have added them."""
    extended = dataclasses.replace(CHECKPOINT, extensions=("note well",))
    note = parse_note(LOG.sign(extended, AT_S))
    assert open_checkpoint(note.encode(), LOG.verifier_keys).checkpoint == extended
    only_second = dataclasses.replace(note, signatures=note.signatures[1:])
    with pytest.raises(SignatureInvalid, match="extension"):
        open_checkpoint(only_second.encode(), LOG.verifier_keys, require=frozenset({ML_DSA_44}))


def test_a_signer_refuses_another_logs_checkpoint() -> None:
    """The caller's mistake."""
    with pytest.raises(ValueError, match="origin"):
        LOG.sign(dataclasses.replace(CHECKPOINT, origin="log.example/b"), AT_S)


@pytest.mark.parametrize("origin", ["a", "log.example", "log.example/2026/a-b", "9.example/x"])
def test_plain_origins_are_given(origin: str) -> None:
    """Lowercase letters, digits, dots, slashes, hyphens."""
    check_origin(origin)


@pytest.mark.parametrize(
    "origin",
    [
        "",
        "Log.example",
        "log.example/",
        "/log",
        "log example",
        "log+a",
        "https://log",
        "日志",
        "a\n",
        "log_a",
        "-log",
        "a" * 256,
    ],
)
def test_other_origins_are_not_given(origin: str) -> None:
    """They could not also be a path, a key name and a file."""
    with pytest.raises(CheckpointInvalid):
        check_origin(origin)
    with pytest.raises(CheckpointInvalid):
        signer(origin)


def test_a_time_stamp_covers_the_logs_own_lines_only() -> None:
    """Cosignatures that come later do not change the stamped bytes."""
    witness = Cosigner("witness.example", Ed25519PrivateKey.generate(), None)
    lines = "".join(map(signature_line, witness.cosign(CHECKPOINT, AT_S)))
    assert timestamped_message(NOTE, ORIGIN) == NOTE
    assert timestamped_message(NOTE + lines.encode(), ORIGIN) == NOTE
    head, blank, own = NOTE.partition(b"\n\n")
    assert timestamped_message(head + blank + lines.encode() + own, ORIGIN) == NOTE


def test_a_time_stamp_covers_no_checkpoint_of_another_log() -> None:
    """Neither another origin nor a note that the log did not sign."""
    note = parse_note(NOTE)
    (foreign,) = Cosigner("w.example", Ed25519PrivateKey.generate(), None).cosign(CHECKPOINT, 1)
    unsigned = Note(text=note.text, signatures=(foreign,)).encode()
    for data, origin in ((NOTE, "log.example/b"), (unsigned, ORIGIN)):
        with pytest.raises(CheckpointInvalid, match="this origin"):
            timestamped_message(data, origin)
    with pytest.raises(NoteInvalid):
        timestamped_message(note.text.encode(), ORIGIN)


def test_sigstore_checkpoints_are_accepted_or_refused_as_they_are_named(shared: Path) -> None:
    """sigstore-conformance: five good notes, five bad ones, under the log's Ed25519 key."""
    outcomes: dict[str, bool] = {}
    for folder in sorted((shared / "vectors" / "sigstore-checkpoints").glob("rekor2-checkpoint-*")):
        bundle = json.loads((folder / "bundle.sigstore.json").read_text())
        (entry,) = bundle["verificationMaterial"]["tlogEntries"]
        proof = entry["inclusionProof"]
        try:
            opened = open_checkpoint(
                proof["checkpoint"]["envelope"].encode(), trusted_log_keys(folder)
            )
        except EvidenceError:
            outcomes[folder.name] = False
        else:
            outcomes[folder.name] = True
            assert opened.checkpoint.size == int(proof["treeSize"])
            assert opened.checkpoint.root == base64.b64decode(proof["rootHash"])
    assert outcomes == {name: not name.endswith("_fail") for name in outcomes}
    assert sorted(outcomes.values()) == [False] * 5 + [True] * 5


def trusted_log_keys(folder: Path) -> list[VerifierKey]:
    """The Ed25519 logs of a Sigstore trusted root, each named after the host of its address."""
    keys: list[VerifierKey] = []
    for log in json.loads((folder / "trusted_root.json").read_text())["tlogs"]:
        if log["publicKey"]["keyDetails"] == "PKIX_ED25519":
            public = load_der_public_key(base64.b64decode(log["publicKey"]["rawBytes"]))
            name = log["baseUrl"].removeprefix("https://")
            raw = public.public_bytes_raw()  # pyright: ignore[reportAttributeAccessIssue]
            keys.append(VerifierKey(name=name, kind=ED25519, public_key=raw))
    return keys
