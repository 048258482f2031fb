"""What somebody with full rights changes or removes is noticed, and named."""

import hashlib
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from evidence.tlog.checkpoint import open_checkpoint
from evidence.tlog.proof import parse_tlog_proof
from service.app import create_app
from service.key_files import log_signer
from service.tamper import Target, tamper
from tests.service.attested_maker import Attested
from tests.service.deployment_maker import bearer
from tests.service.kept_deployment import LOG, Kept


def test_a_sound_deployment_is_clean(original: Kept) -> None:
    """Neither fsck nor doctor finds anything, and doctor knows everything it asks for."""
    assert original.fsck() == []
    assert [one for one in original.doctor() if one.answer not in {"pass", "note"}] == []


def test_one_wrong_character_in_a_cosignature_is_named(kept: Kept) -> None:
    """Row and line agree, the signature does not hold: both commands say so."""
    tamper(kept.settings, Target.COSIGNATURE, kept.captures[0])
    assert [line.split()[0] for line in kept.fsck()] == ["cosignature_differs"]


def test_proofs_go_on_over_a_damaged_cosignature(kept: Kept, attested: Attested) -> None:
    """The newest checkpoint lost its quorum: an older sound one proves, and exports go on."""
    [(size,)] = kept.rows("SELECT max(size) FROM cosignatures WHERE log = ?", LOG)
    changed = kept.edit(
        "UPDATE cosignatures SET line = replace(line, substr(line, 70, 1),"
        " CASE substr(line, 70, 1) WHEN 'A' THEN 'B' ELSE 'A' END) WHERE log = ? AND size = ?",
        LOG,
        size,
    )
    assert changed == 2
    keys = log_signer(kept.settings, attested.made.deployment.organs[0].log).verifier_keys
    with TestClient(create_app(kept.settings)) as client:
        headers = bearer(attested.made.tokens["county-a"])
        path = f"/v1/captures/{kept.captures[0]}/proof?min=witnessed"
        answer = client.get(path, headers=headers)
        metrics = client.get("/metrics").text
        checkpoint = client.get(f"/logs/{LOG}/checkpoint").content
    proof = parse_tlog_proof(answer.content)
    signed = open_checkpoint(proof.checkpoint, keys)
    assert attested.policy.judge(signed).satisfied is True
    assert signed.checkpoint.size != size
    attested.policy.judge(open_checkpoint(checkpoint, keys))
    assert "fengni_damaged_cosignatures_total 2.0" in metrics


@pytest.mark.parametrize("number", range(3))
def test_tamper_flips_the_named_captures_own_text(kept: Kept, number: int) -> None:
    """The one text that no longer opens is that of the capture, and not a neighbour's."""
    capture = kept.captures[number]
    [(index,)] = kept.rows("SELECT idx FROM records WHERE statement_id = ?", capture)
    tamper(kept.settings, Target.TEXT, capture)
    [finding] = kept.fsck()
    assert finding.startswith("text_unreadable texts/000")
    assert f"text {index}:" in finding
    tamper(kept.settings, Target.TEXT, capture)
    assert kept.fsck() == []


# ------------------------------------------------------------------------------ objects


def body_of(kept: Kept, kind: str) -> tuple[str, dict[str, Any]]:
    """Subject and body of the last statement of a kind."""
    query = (
        "SELECT records.subject, statement FROM texts JOIN records USING (log, idx)"
        " WHERE kind = ? AND subject IS NOT NULL ORDER BY idx"
    )
    subject, raw = kept.rows(query, kind)[-1]
    assert isinstance(raw, bytes)
    return str(subject), json.loads(raw)["body"]


def object_path(kept: Kept, name: str) -> Path:
    """Where an object lies."""
    return kept.places.objects / "sha256" / name[:2] / name[2:4] / name


def test_a_deleted_object_is_named(kept: Kept) -> None:
    """Its capture, its digest and what it was: the store alone cannot tell that it was there."""
    subject, body = body_of(kept, "stored")
    name = body["object"]["name"]
    object_path(kept, name).unlink()
    [wrong] = kept.wrong()
    assert wrong.startswith("objects.present ")
    assert name in wrong
    assert subject in wrong


def test_an_object_of_another_length_is_named(kept: Kept) -> None:
    """Its length is the statement's, whatever lies there now."""
    subject, body = body_of(kept, "stored")
    path = object_path(kept, body["object"]["name"])
    path.chmod(0o600)
    path.write_bytes(b"longer than it was")
    wrong = kept.wrong()
    assert [one.split()[0] for one in wrong] == ["objects.present", "objects.bytes"]
    assert subject in wrong[0]


def test_quarantined_bytes_are_missed_and_compared(kept: Kept) -> None:
    """What was taken aside is named by its custody statement, and is there."""
    [path] = (kept.places.staging / "quarantine").iterdir()
    path.chmod(0o600)
    path.write_bytes(b"3our")
    [changed] = kept.wrong()
    path.unlink()
    [gone] = kept.wrong()
    assert changed.startswith("objects.present The quarantined bytes")
    assert "are others now" in changed
    assert "are gone" in gone
    assert kept.captures[-1] in gone


def test_what_nobody_names_is_reported(kept: Kept) -> None:
    """An object without a statement is noted, and what is no object is wrong."""
    data = b"planted"
    name = hashlib.sha256(data).hexdigest()
    path = object_path(kept, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    [note] = [one for one in kept.doctor() if one.name == "objects.unnamed"]
    assert name in note.detail
    assert kept.wrong() == []
    (path.parent / "notes.txt").write_text("hello")
    [wrong] = kept.wrong()
    assert wrong.startswith("objects.strangers ")
    assert "notes.txt" in wrong


# ------------------------------------------------------------------- witnesses and time

LATER = timedelta(minutes=20)


def test_later_it_is_still_sound(original: Kept) -> None:
    """What was attested is covered, however long ago that was."""
    assert original.wrong(later=LATER) == []


def test_lost_cosignatures_are_missed(kept: Kept) -> None:
    """The witness remembers what it cosigned; later the coverage is missing as well."""
    assert kept.edit("DELETE FROM cosignatures") > 0
    at_once = kept.wrong(later=timedelta(minutes=1))
    assert [one.split()[0] for one in at_once] == ["witness.west"] * 2
    assert "not kept here" in at_once[0]
    later = {one.split()[0] for one in kept.wrong(later=LATER)}
    assert later == {"witness.west", "witness.coverage"}


def test_lost_newest_cosignatures_are_missed(kept: Kept) -> None:
    """Those of the newest checkpoint are gone, older ones remain."""
    kept.edit(
        "DELETE FROM cosignatures WHERE log = ? AND size ="
        " (SELECT max(size) FROM cosignatures WHERE log = ?)",
        LOG,
        LOG,
    )
    names = [one.split()[0] for one in kept.wrong(later=LATER)]
    assert names == ["witness.west", "witness.coverage"]


def test_lost_tokens_are_missed_or_said_to_be_unknown(kept: Kept) -> None:
    """No token at all may be a young log, so it is unknown at first, and wrong when it is old."""
    assert kept.edit("DELETE FROM timestamps") > 0
    young = {one.name for one in kept.doctor() if one.answer == "unknown"}
    assert young == {"time.coverage.tsa", "time.captures.tsa"}
    old = {one.split()[0] for one in kept.wrong(later=LATER)}
    assert old == {"time.coverage.tsa"}


def test_a_lost_token_of_a_capture_is_missed(kept: Kept) -> None:
    """Its stamping is done, an earlier capture has one: it had one."""
    [(index,)] = kept.rows("SELECT idx FROM records WHERE statement_id = ?", kept.captures[2])
    kept.edit(
        "DELETE FROM timestamps WHERE log = ? AND subject_kind = 'signature' AND position = ?",
        LOG,
        index,
    )
    [wrong] = kept.wrong()
    assert wrong.startswith(f"time.captures.tsa Capture {kept.captures[2]}")


@pytest.mark.parametrize(
    "change",
    [
        "gen_time = gen_time + 1000",
        "tsa = 'another'",
        "subject_kind = 'chec0point'",
        "position = position + 1000",
        "received_at = received_at - 86400000",
        "gen_time = 9000000000000000000",
        "received_at = 9000000000000000000",
    ],
)
def test_a_changed_row_of_a_token_is_named(kept: Kept, change: str) -> None:
    """Its time, authority and subject are the token's; the other checks go on."""
    where = "WHERE rowid = (SELECT max(rowid) FROM timestamps)"
    assert kept.edit(f"UPDATE timestamps SET {change} {where}") == 1  # noqa: S608
    found = kept.doctor()
    wrong = [one for one in found if one.answer == "fail"]
    assert wrong[0].name == "time.tokens"
    assert {one.name.split(".")[0] for one in found} >= {"disk", "keys", "clock", "objects"}


# ------------------------------------------------------------------ rows of the captures


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ("DELETE FROM uploads WHERE id = ?", "row of its content is missing"),
        ("UPDATE uploads SET state = 'received' WHERE id = ?", "the log says that it is stored"),
        ("UPDATE uploads SET state = 'gone' WHERE id = ?", "state that does not exist"),
        ("UPDATE uploads SET size_bytes = 7 WHERE id = ?", "another size_bytes"),
        ("UPDATE uploads SET received_at = received_at + 1 WHERE id = ?", "time of arrival"),
    ],
)
def test_a_capture_and_its_row_are_reconciled(kept: Kept, change: str, word: str) -> None:
    """The log says how far each capture has come; a row that says otherwise, or is gone, fails."""
    capture = kept.captures[1]
    assert kept.edit(change, capture) == 1
    wrong = kept.wrong()
    assert {one.split()[0] for one in wrong} == {"captures.content"}
    assert any(word in one and capture in one for one in wrong)


def test_a_row_that_says_stored_needs_its_statement(kept: Kept) -> None:
    """The one that never came did not come because its row says so."""
    capture = kept.captures[-1]
    kept.edit("UPDATE uploads SET state = 'stored', received_at = 1 WHERE id = ?", capture)
    assert "its row says stored, and no statement says so." in kept.wrong()[0]


def test_a_row_without_a_capture_is_named(kept: Kept) -> None:
    """Nobody announced it."""
    query = "INSERT INTO uploads SELECT log, ?, organ, state, sha256, size_bytes, media_type,"
    kept.edit(
        f"{query} staging_key, received_at, problem, updated_at FROM uploads LIMIT 1", "0" * 64
    )
    [wrong] = kept.wrong()
    assert wrong.startswith("captures.content ")
    assert "0" * 64 in wrong


# ----------------------------------------------------------------------- two histories


def put_back(kept: Kept, entries: int) -> None:
    """Take the newest entries from database and tiles, as an old copy of both lacks them."""
    [(last,)] = kept.rows("SELECT max(size) FROM checkpoints WHERE log = ?", LOG)
    sizes = kept.rows("SELECT size FROM checkpoints WHERE log = ? ORDER BY size DESC", LOG)
    old = next(int(str(size)) for (size,) in sizes if int(str(size)) <= int(str(last)) - entries)
    for table, column in (
        ("records", "idx >="),
        ("texts", "idx >="),
        ("checkpoints", "size >"),
        ("cosignatures", "size >"),
    ):
        kept.edit(f"DELETE FROM {table} WHERE log = ? AND {column} ?", LOG, old)  # noqa: S608


def test_an_old_copy_is_called_behind_and_not_forked(kept: Kept) -> None:
    """The witness knows more: that says which of the two is old, and accuses nobody of a fork."""
    put_back(kept, 3)
    [witness] = [one for one in kept.wrong() if one.startswith("witness.west")]
    assert "We are behind: the witness saw" in witness
    assert "put back" in witness
    assert "not ours" not in witness


def test_two_roots_of_one_size_are_called_two_histories(kept: Kept) -> None:
    """Of the very size that the witness saw we have another root."""
    kept.edit(
        "UPDATE checkpoints SET root = zeroblob(32) WHERE log = ? AND size ="
        " (SELECT max(size) FROM checkpoints WHERE log = ?)",
        LOG,
        LOG,
    )
    [witness] = [one for one in kept.wrong() if one.startswith("witness.west")]
    assert "under a root that is not ours" in witness


def test_a_checkpoint_that_is_gone_is_computed_again(kept: Kept) -> None:
    """The leaves still lead to what the witness saw: the row is missing, the history is one."""
    kept.edit(
        "INSERT INTO checkpoints SELECT log, organ, size + 1, root, note, committed_at"
        " FROM checkpoints WHERE log = ? ORDER BY size DESC LIMIT 1",
        LOG,
    )
    kept.edit(
        "DELETE FROM checkpoints WHERE log = ? AND size ="
        " (SELECT max(size) FROM cosignatures WHERE log = ?)",
        LOG,
        LOG,
    )
    [witness] = [one for one in kept.wrong() if one.startswith("witness.west")]
    assert "that checkpoint of ours is gone" in witness
