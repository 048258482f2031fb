"""The witness against the text of C2SP tlog-witness: every status."""

from base64 import b64encode
from hashlib import sha256
from pathlib import Path

import pytest

from evidence.tlog.checkpoint import open_checkpoint
from evidence.tlog.cosignature import verify_cosignature
from evidence.tlog.note import ED25519, Note, NoteSignature, parse_note
from evidence.tlog.policy import parse_policy
from service.transparency.cosigning import SIZE_TYPE, Witness
from service.transparency.witness import (
    create_witness,
    open_witness,
)
from tests.transparency.small_log import (
    HASH,
    LOG,
    NAME,
    NOW,
    ORIGIN,
    Clock,
    SmallLog,
    forked,
    lines_of,
    request,
)

# ---------------------------------------------------------------------------------- 200 and GET


def test_it_cosigns_a_first_checkpoint_with_both_keys(witness: Witness) -> None:
    """The answer is one Ed25519 and one ML-DSA-44 cosignature with the time of the clock."""
    lines = lines_of(witness.add_checkpoint(LOG.body(0, 5)))
    times = [
        verify_cosignature(LOG.checkpoint(5), line, key)
        for line, key in zip(lines, witness.verifier_keys, strict=True)
    ]
    assert times == [NOW, NOW]


@pytest.mark.parametrize(("first", "second"), [(0, 0), (0, 7), (1, 2), (8, 64), (33, 70), (7, 7)])
def test_it_follows_a_growing_tree(witness: Witness, first: int, second: int) -> None:
    """A checkpoint that extends the last one, or repeats it, is cosigned."""
    assert witness.add_checkpoint(LOG.body(0, first)).status == 200
    assert witness.add_checkpoint(LOG.body(first, second)).status == 200


def test_it_serves_what_it_cosigned(witness: Witness) -> None:
    """The monitor's checkpoint carries the log's verified lines and the cosignatures returned."""
    assert witness.checkpoint(HASH).status == 404
    lines = lines_of(witness.add_checkpoint(LOG.body(0, 5)))
    answer = witness.answer("GET", f"/{HASH}/checkpoint", b"")
    sent = parse_note(LOG.note(5))
    served = parse_note(answer.body)
    assert (answer.status, served.text) == (200, sent.text)
    assert served.signatures[0] == sent.signatures[0]
    assert list(served.signatures[2:]) == lines
    opened = open_checkpoint(
        answer.body, LOG.signer.verifier_keys, require=frozenset({ED25519, 0x06})
    )
    assert opened.checkpoint == LOG.checkpoint(5)


def test_unknown_signatures_are_ignored_and_not_served(witness: Witness) -> None:
    """A note may carry lines of others; they change nothing and are not passed on."""
    note = parse_note(LOG.note(3))
    stranger = NoteSignature(name="stranger.example", key_id=b"1234", value=b"x" * 64)
    carried = Note(text=note.text, signatures=(stranger, *note.signatures)).encode()
    assert witness.add_checkpoint(request(0, [], carried)).status == 200
    names = [line.name for line in parse_note(witness.checkpoint(HASH).body).signatures]
    assert names == [ORIGIN, ORIGIN, NAME, NAME]


def test_one_of_the_log_s_keys_is_enough(tmp_path: Path, clock: Clock) -> None:
    """A witness that knows one of the log's two keys verifies that one and ignores the other."""
    for number, vkey in enumerate(LOG.vkeys):
        folder = tmp_path / str(number)
        create_witness(folder, NAME, [vkey])
        assert open_witness(folder, clock).add_checkpoint(LOG.body(0, 5)).status == 200


def test_two_logs_are_kept_apart(tmp_path: Path, clock: Clock) -> None:
    """The size of one log says nothing about another."""
    other = SmallLog(9, origin="log.example/county-8")
    create_witness(tmp_path / "both", NAME, LOG.vkeys + other.vkeys)
    witness = open_witness(tmp_path / "both", clock)
    assert witness.add_checkpoint(LOG.body(0, 5)).status == 200
    assert witness.add_checkpoint(other.body(0, 9)).status == 200
    assert witness.add_checkpoint(LOG.body(5, 6)).status == 200


def test_a_quorum_of_two_witnesses_satisfies_our_policy(tmp_path: Path, clock: Clock) -> None:
    """Notes with the lines of two witnesses meet a policy that asks for both."""
    note = parse_note(LOG.note(5))
    lines: list[NoteSignature] = []
    text = ""
    for place in ("east", "west"):
        vkeys = create_witness(tmp_path / place, f"witness.example/{place}", LOG.vkeys)
        text += f"witness {place}-1 {vkeys[0]}\nwitness {place}-2 {vkeys[1]}\n"
        text += f"group {place} any {place}-1 {place}-2\n"
        lines += lines_of(open_witness(tmp_path / place, clock).add_checkpoint(LOG.body(0, 5)))
    policy = parse_policy((text + "group both all east west\nquorum both\n").encode())

    def judged(signatures: list[NoteSignature]) -> bool:
        data = Note(text=note.text, signatures=(*note.signatures, *signatures)).encode()
        return policy.judge(open_checkpoint(data, LOG.signer.verifier_keys)).satisfied

    assert [judged(lines), judged(lines[:2]), judged(lines[1:3]), judged([])] == [
        True,
        False,
        True,
        False,
    ]


# ------------------------------------------------------------------------------------------ 400


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"old 0",
        b"old 0\n",
        b"old 0\n\n",
        b"\n" + LOG.body(0, 5),
        request("00", [], LOG.note(5)),
        request("-1", [], LOG.note(5)),
        request("+1", [], LOG.note(5)),
        request(" 1", [], LOG.note(5)),
        request("9223372036854775808", [], LOG.note(5)),
        request("1\r", [], LOG.note(5)),
        b"OLD 0\n\n" + LOG.note(5),
        b"old 0\nnot base64\n\n" + LOG.note(5),
        b"old 0\n" + b64encode(b"x" * 31) + b"\n\n" + LOG.note(5),
        b"old 3\n" + b64encode(b"x" * 32).rstrip(b"=") + b"\n\n" + LOG.note(5),
        request(3, [b"x" * 32] * 64, LOG.note(5)),
        request(0, [], LOG.note(5)[:-1]),
        request(0, [], b"\xff" + LOG.note(5)),
        request(0, [], LOG.note(5).replace(b"\n5\n", b"\n05\n")),
        request(0, [], LOG.note(5) + b"x" * 140_000),
        "old ٣\n\n".encode() + LOG.note(5),
    ],
)
def test_a_malformed_request_is_400(witness: Witness, body: bytes) -> None:
    """What is not the form of an add-checkpoint request is a bad request."""
    assert witness.add_checkpoint(body).status == 400


def test_an_old_size_above_the_checkpoint_s_is_400(witness: Witness) -> None:
    """The old size must be equal to or lower than the checkpoint's, whatever we know."""
    assert witness.add_checkpoint(LOG.body(0, 5)).status == 200
    assert witness.add_checkpoint(request(5, [], LOG.note(4))).status == 400
    assert witness.add_checkpoint(request(9, [], LOG.note(4))).status == 400


# ----------------------------------------------------------------------------------- 403 and 404


def test_an_unknown_log_is_404(witness: Witness) -> None:
    """A log whose origin is not configured is unknown, even if its signature holds."""
    other = SmallLog(5, origin="log.example/other")
    assert witness.add_checkpoint(other.body(0, 5)).status == 404


def test_a_checkpoint_without_a_known_signature_is_403(witness: Witness) -> None:
    """The origin alone is not enough: a key that we know must have signed."""
    stranger = SmallLog(5)
    assert witness.add_checkpoint(stranger.body(0, 5)).status == 403
    assert witness.checkpoint(HASH).status == 404


@pytest.mark.parametrize("line", [0, 1])
def test_a_known_key_s_line_that_fails_is_403(witness: Witness, line: int) -> None:
    """One good line does not heal a bad one: the note is malformed as a whole."""
    note = parse_note(LOG.note(5))
    bad = note.signatures[line]
    value = bad.value[:-1] + bytes([bad.value[-1] ^ 1])
    lines = list(note.signatures)
    lines[line] = NoteSignature(name=bad.name, key_id=bad.key_id, value=value)
    data = Note(text=note.text, signatures=tuple(lines)).encode()
    assert witness.add_checkpoint(request(0, [], data)).status == 403


# ------------------------------------------------------------------------------------------ 409


def test_another_old_size_is_409_and_states_ours(witness: Witness) -> None:
    """A conflict names the size of the latest cosigned checkpoint, as text/x.tlog.size."""
    first = witness.add_checkpoint(LOG.body(3, 5))
    assert (first.status, first.content_type, first.body) == (409, "text/x.tlog.size", b"0\n")
    assert witness.add_checkpoint(LOG.body(0, 5)).status == 200
    second = witness.add_checkpoint(LOG.body(4, 7))
    assert (second.status, second.content_type, second.body) == (409, SIZE_TYPE, b"5\n")


def test_a_smaller_tree_is_never_cosigned(witness: Witness) -> None:
    """Nothing that the log can send brings the witness back to a smaller size."""
    assert witness.add_checkpoint(LOG.body(0, 9)).status == 200
    statuses = [witness.add_checkpoint(LOG.body(old, 5)).status for old in (0, 3, 5)]
    assert statuses == [409, 409, 409]
    assert open_checkpoint(witness.checkpoint(HASH).body, LOG.signer.verifier_keys).checkpoint == (
        LOG.checkpoint(9)
    )


# ------------------------------------------------------------------------------------------ 422


def test_another_root_at_the_same_size_is_422(witness: Witness) -> None:
    """Two roots for one size: the split view that a witness is there to prevent."""
    assert witness.add_checkpoint(LOG.body(0, 5)).status == 200
    assert witness.add_checkpoint(forked(9).body(5, 5)).status == 422


def test_a_fork_is_422(witness: Witness) -> None:
    """A larger tree that does not contain the one that we cosigned is refused."""
    assert witness.add_checkpoint(LOG.body(0, 5)).status == 200
    assert witness.add_checkpoint(forked(9).body(5, 9)).status == 422


@pytest.mark.parametrize(
    ("old", "proof"),
    [
        (0, [b"x" * 32]),
        (5, []),
        (5, [b"x" * 32] * 3),
        (5, [*LOG.prove(5, 9), b"x" * 32]),
        (5, LOG.prove(5, 9)[:-1]),
        (5, LOG.prove(5, 9)[::-1]),
    ],
)
def test_a_proof_that_does_not_hold_is_422(witness: Witness, old: int, proof: list[bytes]) -> None:
    """A proof that is not empty from zero, or does not lead to both roots, is refused."""
    if old:
        assert witness.add_checkpoint(LOG.body(0, old)).status == 200
    assert witness.add_checkpoint(request(old, proof, LOG.note(9))).status == 422


def test_a_proof_for_the_same_size_must_be_empty(witness: Witness) -> None:
    """Between equal trees there is nothing to prove."""
    assert witness.add_checkpoint(LOG.body(0, 5)).status == 200
    assert witness.add_checkpoint(request(5, [b"x" * 32], LOG.note(5))).status == 422


def test_an_empty_tree_with_another_root_is_422(witness: Witness) -> None:
    """A checkpoint of size zero must have the root of the empty tree."""
    note = LOG.note(0).replace(b64encode(sha256(b"").digest()), b64encode(b"x" * 32))
    assert witness.add_checkpoint(request(0, [], note)).status == 422
    short = LOG.note(0).replace(b64encode(sha256(b"").digest()), b64encode(b"x" * 31))
    assert witness.add_checkpoint(request(0, [], short)).status == 400
