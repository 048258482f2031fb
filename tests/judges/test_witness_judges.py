"""aics-tlog judges notes that our witnesses cosigned; our policy has to agree with it.

It reads Ed25519 cosignatures; the ML-DSA-44 lines of our witnesses go to Go's `crypto/mldsa`.
"""

from collections.abc import Sequence
from pathlib import Path

import pytest

from evidence.tlog.checkpoint import open_checkpoint
from evidence.tlog.note import Note, NoteSignature, VerifierKey, parse_note, parse_signature_line
from evidence.tlog.policy import parse_policy
from service.transparency.witness import create_witness, open_witness
from tests.judges.tlog_judges import Accused, ask_aics, ask_mldsa
from tests.tools import require_tool
from tests.transparency.small_log import LOG, Clock, SmallLog

SIZE = 37


class Witnessed:
    """A checkpoint of LOG with the lines of two witnesses, and who must have cosigned."""

    def __init__(self, folder: Path) -> None:
        """Ask two new witnesses over their core."""
        self.folder = folder
        tile = folder / "tile" / "0" / "000.p" / str(SIZE)  # aics-tlog also recomputes the root
        tile.parent.mkdir(parents=True)
        tile.write_bytes(b"".join(LOG.node(0, index) for index in range(SIZE)))
        self.keys: list[VerifierKey] = []
        self.lines: list[NoteSignature] = []
        for place in ("east", "west"):
            create_witness(folder / place, f"witness.example/{place}", LOG.vkeys)
            witness = open_witness(folder / place, Clock())
            answer = witness.add_checkpoint(LOG.body(0, SIZE))
            self.keys += witness.verifier_keys
            self.lines += map(parse_signature_line, answer.body.decode()[:-1].split("\n"))

    def note(self, lines: Sequence[NoteSignature]) -> bytes:
        """Return the checkpoint with some of the witnesses' lines."""
        own = parse_note(LOG.note(SIZE))
        return Note(text=own.text, signatures=(*own.signatures, *lines)).encode()

    def accused(self, note: bytes) -> Accused:
        """Bring a note before the judge as the checkpoint of a folder of tiles."""
        path = self.folder / "checkpoint"
        path.write_bytes(note)
        return Accused(
            place=str(self.folder),
            checkpoint=path,
            log_keys=LOG.signer.verifier_keys,
            witness_keys=self.keys,
        )

    def ours(self, note: bytes) -> bool:
        """Ask our own policy: both witnesses, by their Ed25519 keys."""
        east, _, west, _ = (key.encode() for key in self.keys)
        policy = f"witness e {east}\nwitness w {west}\ngroup both all e w\nquorum both\n"
        signed = open_checkpoint(note, LOG.signer.verifier_keys)
        return parse_policy(policy.encode()).judge(signed).satisfied


@pytest.fixture(scope="module")
def witnessed(tmp_path_factory: pytest.TempPathFactory) -> Witnessed:
    """Return a witnessed checkpoint."""
    require_tool("aics-tlog")
    return Witnessed(tmp_path_factory.mktemp("witnessed"))


def refused(accused: Accused) -> str:
    """Return aics-tlog's words for a refusal, which must be about signatures."""
    verdict = ask_aics(accused, "verify-checkpoint")
    assert not verdict.accepted
    assert "Tile" not in verdict.words
    return verdict.words


def test_a_cosigned_note_is_accepted_by_the_quorum(witnessed: Witnessed) -> None:
    """Two cosignatures, quorum 2: accepted by aics-tlog and by our policy."""
    note = witnessed.note(witnessed.lines)
    verdict = ask_aics(witnessed.accused(note), "verify-checkpoint")
    assert verdict.accepted, verdict.words
    assert verdict.report["cosignatures"] == 2
    assert witnessed.ours(note)


def test_the_second_algorithm_is_accepted_by_go(witnessed: Witnessed) -> None:
    """The ML-DSA-44 lines of log and witnesses verify with Go's crypto/mldsa."""
    verdict = ask_mldsa(witnessed.accused(witnessed.note(witnessed.lines)))
    assert verdict.accepted, verdict.words


def test_one_witness_is_no_quorum_of_two(witnessed: Witnessed) -> None:
    """With one witness's lines both refuse."""
    note = witnessed.note(witnessed.lines[:2])
    assert refused(witnessed.accused(note))
    assert not witnessed.ours(note)


def test_a_line_made_for_another_tree_is_refused(witnessed: Witnessed, tmp_path: Path) -> None:
    """A cosignature taken from another size does not count for this one."""
    create_witness(tmp_path / "north", "witness.example/north", LOG.vkeys)
    witness = open_witness(tmp_path / "north", Clock())
    answer = witness.add_checkpoint(LOG.body(0, 36))
    other = parse_signature_line(answer.body.decode().split("\n")[0])
    accused = witnessed.accused(witnessed.note([other]))
    foreign = Accused(
        place=accused.place,
        checkpoint=accused.checkpoint,
        log_keys=accused.log_keys,
        witness_keys=witness.verifier_keys,
    )
    assert refused(foreign)


@pytest.mark.parametrize("place", [0, 4, 11, 12, 40, 71])
def test_a_flipped_bit_in_a_cosignature_is_refused(witnessed: Witnessed, place: int) -> None:
    """Key id, time and signature: no bit of an Ed25519 line can change."""
    first, *rest = witnessed.lines
    raw = bytearray(first.key_id + first.value)
    raw[place] ^= 1
    bad = NoteSignature(name=first.name, key_id=bytes(raw[:4]), value=bytes(raw[4:]))
    note = witnessed.note([bad, *rest])
    assert refused(witnessed.accused(note))


def test_a_stranger_s_log_is_refused(witnessed: Witnessed) -> None:
    """The same lines under a checkpoint of other keys are worth nothing."""
    stranger = SmallLog(SIZE)
    own = parse_note(stranger.note(SIZE))
    note = Note(text=own.text, signatures=(*own.signatures, *witnessed.lines)).encode()
    assert refused(witnessed.accused(note))
