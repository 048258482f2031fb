"""What a monitor notices that has looked before: forks, rollbacks, edits, silence."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from evidence.tlog.checkpoint import LogSigner, open_checkpoint
from evidence.tlog.tiles import tiles_of
from service.client.failures import Undecided
from service.monitor.findings import Code, Finding
from service.monitor.following import Look
from service.monitor.memory import StateRefused
from service.monitor.source import Unreachable
from tests.monitor.conftest import Watch
from tests.monitor.operator_at_large import NOW_S, ORIGIN, History, Operator, entry, history
from tests.transparency.small_log import Clock

FORK = history(1000, flavour="b", since=300)


def codes(look: Look) -> list[str]:
    """The codes of what was found, in their order."""
    return [one.code.value for one in look.findings]


def proven(finding: Finding, operator: Operator) -> list[tuple[int, bytes]]:
    """What the two notes of a proof say, each verified under the log's real keys."""
    keys = operator.signer.verifier_keys
    trees = [open_checkpoint(note, keys).checkpoint for note in finding.notes]
    return [(tree.size, tree.root) for tree in trees]


# ------------------------------------------------------------------------------- an honest log


def test_a_log_that_grows_is_sound(watch: Watch, operator: Operator) -> None:
    """Each look reads what is new and nothing else; a whole one reads it all."""
    first = watch()
    operator.size = 777
    second = watch(whole=False)
    third = watch(whole=False)
    operator.size = 1000
    fourth = watch()
    looks = (first, second, third, fourth)
    assert [(look.size, look.read, look.witnessed) for look in looks] == [
        (600, 600, True),
        (777, 177, True),
        (777, 0, True),
        (1000, 1000, True),
    ]
    assert [codes(look) for look in looks] == [[], [], [], []]
    assert fourth.root == operator.history.root(1000)


def test_a_look_at_what_is_new_asks_for_little(watch: Watch, operator: Operator) -> None:
    """The files of full groups that were read are not fetched again until a whole look."""
    watch()
    operator.size = 601
    operator.asked.clear()
    watch(whole=False)
    assert sorted(operator.asked) == [
        "checkpoint",
        "tile/0/002.p/89",
        "tile/1/000.p/2",
        "tile/entries/002.p/89",
    ]


def test_an_empty_log_is_sound(watch: Watch, operator: Operator) -> None:
    """A log begins with a signed tree of no entries."""
    operator.size = 0
    assert codes(watch()) == []
    operator.size = 3
    assert codes(watch(whole=False)) == []


def test_a_policy_that_demands_nobody_says_so(watch: Watch) -> None:
    """Without a quorum to meet nothing is witnessed, and nothing is called so."""
    assert watch(witnessed=False).witnessed is None


# ---------------------------------------------------------------------------- a cheating operator


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("size", [600, 601, 1000])
def test_a_second_history_is_proven_by_both_notes(
    watch: Watch, operator: Operator, size: int, *, whole: bool
) -> None:
    """Signed with the log's real keys, tiles and all: two notes exclude each other for ever."""
    watch()
    honest = operator.history
    operator.show(FORK, size)
    look = watch(whole=whole)
    assert codes(look) == ["two_histories"]
    expected = [(600, honest.root(600)), (size, FORK.root(size))]
    assert proven(look.findings[0], operator) == expected
    operator.show(honest, 1000)  # the honest one again: what is proven stays
    assert "two_histories" in codes(watch(whole=whole))


@pytest.mark.parametrize("size", [0, 599])
def test_a_log_that_goes_back_is_proven(watch: Watch, operator: Operator, size: int) -> None:
    """Fewer entries than it had signed; growing again afterwards changes nothing about that."""
    watch()
    honest = operator.history
    operator.size = size
    look = watch(whole=False)
    assert codes(look) == ["rolled_back"]
    assert proven(look.findings[0], operator) == [
        (600, honest.root(600)),
        (size, honest.root(size)),
    ]
    operator.size = 700
    assert codes(watch()) == ["rolled_back"]


def test_what_was_signed_counts_even_where_it_could_not_be_read(
    watch: Watch, operator: Operator
) -> None:
    """A checkpoint whose files were withheld binds the log as any other."""
    watch()
    operator.show(operator.history, 800, gone={"tile/entries/003.p/32"})
    assert codes(watch(whole=False)) == ["tile_missing"]
    operator.show(operator.history, 700)
    assert codes(watch(whole=False)) == ["rolled_back"]


def test_a_rewritten_entry_under_the_signed_root_is_noticed(
    watch: Watch, operator: Operator
) -> None:
    """All files agree with each other, and not with what was signed."""
    watch()
    note = operator.checkpoint()
    rewritten = History(
        [*operator.history.entries[:5], entry("else"), *operator.history.entries[6:]]
    )
    operator.show(rewritten, 600, note=note)
    assert codes(watch()) == ["tree_differs"]
    operator.show(rewritten, 600)
    assert "two_histories" in codes(watch(whole=False))


@pytest.mark.parametrize(
    "path", [name.path() for name in [*tiles_of(600), *tiles_of(600, entries=True)]]
)
def test_an_edited_file_is_named(watch: Watch, operator: Operator, path: str) -> None:
    """One bit in any file: a whole look notices, and names that file."""
    watch()
    data = bytearray(operator.history.file(path) or b"")
    data[len(data) // 2] ^= 1
    operator.edited[path] = bytes(data)
    look = watch()
    assert look.findings
    assert all(one.code in {Code.TILE_DAMAGED, Code.ENTRY_MALFORMED} for one in look.findings)
    assert any(path in one.place for one in look.findings)


@pytest.mark.parametrize(
    "path", [name.path() for name in [*tiles_of(600), *tiles_of(600, entries=True)]]
)
def test_a_missing_or_cut_file_is_named(watch: Watch, operator: Operator, path: str) -> None:
    """A file that is gone, or has another length, is named as such."""
    operator.gone.add(path)
    assert (Code.TILE_MISSING, path) in {(one.code, one.place) for one in watch().findings}
    operator.gone.clear()
    operator.edited[path] = (operator.history.file(path) or b"")[:-1]
    assert (Code.TILE_DAMAGED, path) in {(one.code, one.place) for one in watch().findings}
    operator.edited.clear()
    assert codes(watch()) == []


def test_an_entry_that_is_no_leaf_is_named(watch: Watch, operator: Operator) -> None:
    """A log of ours holds leaves of ours, whatever its operator signs."""
    operator.show(History([*operator.history.entries[:9], b"{}"]), 10)
    [finding] = watch().findings
    assert (finding.code, finding.place) == (Code.ENTRY_MALFORMED, "entry 9")


def test_a_checkpoint_of_other_keys_is_refused(watch: Watch, operator: Operator) -> None:
    """Neither a stranger's signature nor that of one algorithm alone is the log's."""
    watch()
    keys = operator.signer
    operator.signer = LogSigner(ORIGIN, Ed25519PrivateKey.generate(), MLDSA44PrivateKey.generate())
    stranger = operator.checkpoint()
    operator.signer = LogSigner(ORIGIN, keys._ed25519, None)
    half = operator.checkpoint()
    operator.signer = keys
    for note in (stranger, half, b"no note", b""):
        operator.note = note or b"\n"
        assert codes(watch()) == ["checkpoint_invalid"]
    operator.show(operator.history, 600)
    assert codes(watch()) == []


def test_a_log_that_shows_nothing_any_more_is_noticed(watch: Watch, operator: Operator) -> None:
    """Before the first checkpoint nothing can be said; after it, its absence says enough."""
    operator.gone.add("checkpoint")
    with pytest.raises(Undecided):
        watch()
    operator.gone.clear()
    watch()
    operator.gone.add("checkpoint")
    assert codes(watch()) == ["tile_missing"]


# ------------------------------------------------------------------------- witnesses and silence


def test_a_missing_quorum_is_told_after_its_time(
    watch: Watch, operator: Operator, clock: Clock
) -> None:
    """It is shown at once, found after an hour, and gone when somebody cosigns."""
    operator.cosigned = False
    look = watch()
    assert (look.witnessed, codes(look)) == (False, [])
    clock.now = NOW_S + 3601
    operator.size, operator.signed_at_s = 700, NOW_S + 3600
    assert codes(watch(whole=False)) == ["unwitnessed"]
    operator.cosigned = True
    look = watch(whole=False)
    assert (look.witnessed, codes(look)) == (True, [])
    operator.size, operator.cosigned = 800, False
    assert codes(watch(whole=False)) == []


def test_a_forged_cosignature_is_told(watch: Watch, operator: Operator) -> None:
    """A line in a pinned witness's name that does not verify is worse than none."""
    note = operator.checkpoint()
    at = note.rindex(b"witness.example/west ", 0, note.rindex(b"witness.example/west ")) + 60
    other = b"A" if note[at : at + 1] != b"A" else b"B"
    operator.note = note[:at] + other + note[at + 1 :]
    look = watch()
    assert (look.witnessed, codes(look)) == (False, ["cosignature_invalid"])


def test_a_log_that_signs_nothing_is_stale(watch: Watch, clock: Clock) -> None:
    """The log's own second line says when it signed."""
    assert codes(watch()) == []
    clock.now = NOW_S + 86_401
    assert codes(watch()) == ["stale"]


def test_a_silent_server_is_no_finding(watch: Watch, operator: Operator) -> None:
    """No answer is no evidence, and what was seen before is still known afterwards."""
    watch()
    operator.broken = True
    with pytest.raises(Unreachable):
        watch()
    operator.broken = False
    operator.size = 599
    assert codes(watch()) == ["rolled_back"]


# ---------------------------------------------------------------------------- receipts and state


def test_a_dropped_entry_is_found_by_its_receipt(
    watch: Watch, operator: Operator, tmp_path: Path
) -> None:
    """Even by a monitor that sees the log for the first time, after the entry was left out."""
    folder = tmp_path / "receipts"
    folder.mkdir()
    kept = operator.receipt(5, 600)
    (folder / "kept.tlog-proof").write_bytes(kept)
    (folder / "other.tlog-proof").write_bytes(b"not a receipt of this log")
    look = watch(receipts=folder)
    assert (look.receipts, codes(look)) == (2, [])
    (folder / "lost.tlog-proof").write_bytes(operator.receipt(7, 8))
    (folder / "late.tlog-proof").write_bytes(operator.receipt(900, 1000))
    entries = operator.history.entries
    operator.show(History([*entries[:7], *entries[8:900]]), 800)
    (tmp_path / "state").unlink()
    look = watch(receipts=folder)
    dropped = {one.place for one in look.findings if one.code is Code.RECEIPT_DROPPED}
    assert dropped == {"kept.tlog-proof", "lost.tlog-proof", "late.tlog-proof"}


def test_a_state_is_of_one_log(watch: Watch, operator: Operator) -> None:
    """Another log behind the same address is not taken for it, though it is pinned as well."""
    watch()
    operator.signer = LogSigner(
        "log.example/other", Ed25519PrivateKey.generate(), MLDSA44PrivateKey.generate()
    )
    with pytest.raises(StateRefused):
        watch()
