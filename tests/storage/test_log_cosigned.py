"""Cosignatures: kept only if they verify, shown under the log's own lines, counted by policy."""

from contextlib import closing
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from evidence.errors import SignatureInvalid
from evidence.keys import P256Signer
from evidence.tlog.checkpoint import open_checkpoint
from evidence.tlog.cosignature import Cosigner
from evidence.tlog.note import NoteSignature, VerifierKey
from evidence.tlog.policy import Group, Policy
from storage import records
from storage.db.engine import Database
from storage.errors import NotFound
from storage.log import Log
from tests.storage.log_material import LOG_ID, RECEIVED, Place, append, captures

pytestmark = pytest.mark.usefixtures("both_databases")
SIGNER = P256Signer.generate()
ITEMS = captures(SIGNER, 60)
EAST = Cosigner("east.example", Ed25519PrivateKey.generate(), MLDSA44PrivateKey.generate())
WEST = Cosigner("west.example", Ed25519PrivateKey.generate(), MLDSA44PrivateKey.generate())
KEYS = (*EAST.verifier_keys, *WEST.verifier_keys)
POLICY = Policy(
    logs=(),
    witnesses={f"{key.name}-{key.kind}": key for key in KEYS},
    groups=(
        Group(name="east", threshold=1, members=("east.example-4", "east.example-6")),
        Group(name="west", threshold=1, members=("west.example-4", "west.example-6")),
        Group(name="both", threshold=2, members=("east", "west")),
    ),
    quorum="both",
)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Return a new, empty log."""
    return Place(tmp_path / "log").make()


def cosign(log: Log, place: Place, witness: Cosigner, size: int, at_s: int = 1000) -> int:
    """Let a witness cosign our checkpoint of a size; returns how many lines were kept."""
    note = log.cosignatures.note(size)
    checkpoint = open_checkpoint(note, place.signer.verifier_keys).checkpoint
    return log.cosignatures.add(size, witness.cosign(checkpoint, at_s), KEYS, RECEIVED)


def test_the_newest_that_enough_have_cosigned(place: Place) -> None:
    """A quorum counts, fewer do not, and it must cover the leaf that is asked for."""
    with place.open() as log:
        for size in (10, 20, 30):
            append(log, ITEMS[size - 10 : size])
        assert log.newest_cosigned(0, POLICY) is None
        assert cosign(log, place, EAST, 10) == 2
        assert log.newest_cosigned(0, POLICY) is None
        assert cosign(log, place, WEST, 10, at_s=1005) == 2
        found = log.newest_cosigned(0, POLICY)
        assert found is not None
        assert found.size == 10
        assert dict(found.witnessing.seen) == {
            "east.example-4": 1000,
            "east.example-6": 1000,
            "west.example-4": 1005,
            "west.example-6": 1005,
        }
        cosign(log, place, EAST, 30)
        assert log.newest_cosigned(0, POLICY) == found
        assert log.newest_cosigned(9, POLICY) == found
        assert log.newest_cosigned(10, POLICY) is None
        cosign(log, place, WEST, 20)
        cosign(log, place, EAST, 20)
        later = log.newest_cosigned(0, POLICY)
        assert later is not None
        assert later.size == 20


def test_the_note_keeps_its_own_bytes(place: Place) -> None:
    """Cosignature lines follow the committed note, which stays as it was, after a restart too."""
    with place.open() as log:
        [*_, last] = append(log, ITEMS[:10])
        log.publish()
        cosign(log, place, EAST, 10)
        cosign(log, place, WEST, 10)
        note = log.checkpoint()
        assert note.startswith(last.checkpoint)
        assert note[len(last.checkpoint) :].count("— ".encode()) == 4
        signed = open_checkpoint(note, place.signer.verifier_keys)
        assert POLICY.judge(signed).satisfied
        assert log.receipt(last.statement_id, last.key_id) == last
    with place.open() as log:
        assert log.checkpoint() == note
    assert place.fsck() == []


def test_the_first_line_of_a_key_stays(place: Place) -> None:
    """A witness that answers twice adds nothing the second time."""
    with place.open() as log:
        append(log, ITEMS[:10])
        cosign(log, place, EAST, 10, at_s=1000)
        note = log.cosignatures.note(10)
        cosign(log, place, EAST, 10, at_s=2000)
        assert log.cosignatures.note(10) == note


def test_what_does_not_verify_is_not_kept(place: Place) -> None:
    """A line over another tree, a flipped one, and an unknown witness's leave nothing."""
    with place.open() as log:
        append(log, ITEMS[:10])
        append(log, ITEMS[10:20])
        note = log.cosignatures.note(10)
        other = open_checkpoint(log.cosignatures.note(20), place.signer.verifier_keys).checkpoint
        with pytest.raises(SignatureInvalid):
            log.cosignatures.add(10, EAST.cosign(other, 1000), KEYS, RECEIVED)
        ours = open_checkpoint(note, place.signer.verifier_keys).checkpoint
        good, second = EAST.cosign(ours, 1000)
        value = bytes([*good.value[:-1], good.value[-1] ^ 1])
        bad = NoteSignature(name=good.name, key_id=good.key_id, value=value)
        with pytest.raises(SignatureInvalid):
            log.cosignatures.add(10, [second, bad], KEYS, RECEIVED)
        assert log.cosignatures.add(10, WEST.cosign(ours, 1000), EAST.verifier_keys, RECEIVED) == 0
        assert log.cosignatures.note(10) == note


def test_a_size_that_was_never_signed(place: Place) -> None:
    """There is nothing to show or to cosign between two checkpoints."""
    with place.open() as log:
        append(log, ITEMS[:10])
        with pytest.raises(NotFound):
            log.cosignatures.note(5)
        with pytest.raises(NotFound):
            log.cosignatures.add(5, [], KEYS, RECEIVED)


def test_a_changed_line_in_the_database_is_found(place: Place) -> None:
    """It counts as missing when it is needed, and fsck sees a row that differs from its line."""
    with place.open() as log:
        append(log, ITEMS[:10])
        log.publish()
        cosign(log, place, EAST, 10)
        cosign(log, place, WEST, 10)
    place.edit("UPDATE cosignatures SET at_s = 5 WHERE witness = 'east.example'")
    assert {finding.code for finding in place.fsck()} == {"cosignature_differs"}
    place.edit("UPDATE cosignatures SET line = replace(line, 'A', 'B')")
    with place.open() as log:
        assert log.newest_cosigned(0, POLICY) is None
    place.edit("UPDATE cosignatures SET line = 'no line'")
    assert {finding.code for finding in place.fsck()} == {"cosignature_differs"}


def spoil(place: Place, size: int, key: VerifierKey) -> None:
    """Change one character in the middle of a kept signature; row and line still agree."""
    place.edit(
        "UPDATE cosignatures SET line = substr(line, 1, 60) ||"
        " CASE substr(line, 61, 1) WHEN 'A' THEN 'B' ELSE 'A' END || substr(line, 62)"
        " WHERE size = ? AND witness_key = ?",
        size,
        key.key_id.hex(),
    )


@pytest.mark.parametrize("which", range(4))
def test_a_forged_signature_is_found_with_the_witnesses_keys(place: Place, which: int) -> None:
    """One wrong character: fsck that knows the pinned keys names the checkpoint and the witness."""
    with place.open() as log:
        append(log, ITEMS[:10])
        log.publish()
        cosign(log, place, EAST, 10)
        cosign(log, place, WEST, 10)
    assert place.fsck(KEYS) == []
    spoil(place, 10, KEYS[which])
    [finding] = place.fsck(KEYS)
    assert (finding.code, finding.place) == ("cosignature_differs", "checkpoint 10")
    assert KEYS[which].name in finding.detail


def test_a_bad_line_counts_as_missing_and_an_older_checkpoint_serves(place: Place) -> None:
    """It is told once, left out of the note, and forgiven as soon as the right byte is back."""
    told: list[tuple[int, str]] = []
    with place.open() as log:
        append(log, ITEMS[:10])
        append(log, ITEMS[10:20])
        for size in (10, 20):
            cosign(log, place, EAST, size)
            cosign(log, place, WEST, size)
        [whole] = kept_lines(place, 20, EAST.verifier_keys[0])
        for key in EAST.verifier_keys:
            spoil(place, 20, key)
        log.cosignatures.expect(KEYS, lambda row: told.append((row.size, row.witness)))
        for _ in range(2):
            found = log.newest_cosigned(3, POLICY)
            assert found is not None
            assert found.size == 10
            assert log.newest_cosigned(10, POLICY) is None
        note = log.cosignatures.note(20)
        assert note.count("— ".encode()) == 4  # the log's own two, and the other witness's two
        assert POLICY.judge(open_checkpoint(note, place.signer.verifier_keys)).satisfied is False
        assert told == [(20, "east.example")] * 2
        place.edit(
            "UPDATE cosignatures SET line = ? WHERE size = 20 AND witness_key = ?",
            whole,
            EAST.verifier_keys[0].key_id.hex(),
        )
        mended = log.newest_cosigned(0, POLICY)
        assert mended is not None
        assert mended.size == 20


def kept_lines(place: Place, size: int, key: VerifierKey) -> list[str]:
    """The kept lines of a key, as they are."""
    with closing(Database(place.url)) as db, db.read() as connection:
        kept = records.cosignatures_of(connection, LOG_ID, size)
    return [row.line for row in kept if row.witness_key == key.key_id.hex()]


def test_what_was_too_few_is_judged_again_when_more_came(place: Place) -> None:
    """Remembering that a checkpoint lacked cosignatures does not hide later ones."""
    with place.open() as log:
        append(log, ITEMS[:10])
        for witness, expected in ((EAST, None), (WEST, 10)):
            cosign(log, place, witness, 10)
            for _ in range(2):
                found = log.newest_cosigned(3, POLICY)
                assert (None if found is None else found.size) == expected
