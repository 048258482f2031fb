"""verify_package accepts a whole package and names the broken link of a tampered one."""

import io
import zipfile
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from evidence.errors import DigestMismatch, EvidenceError
from evidence.keys import P256Signer
from evidence.kinds import KINDS
from evidence.known_keys import KnownKeys
from evidence.packing import FOLDER, write_package
from evidence.report import CHECKS, Outcome, Report
from evidence.schema import format_time
from evidence.tlog.checkpoint import Checkpoint
from evidence.verify import verify_package
from tests.evidence.package_maker import (
    AT,
    ORIGIN,
    PHOTO,
    World,
    original,
    pinned,
    plain_file,
    stamped,
    world_with_photo,
    written,
)
from tests.evidence.timestamp_maker import NOW as TOKEN_TIME
from tests.evidence.timestamp_maker import Authority, Making
from tests.vectors.packages.regenerate import edited

if TYPE_CHECKING:
    from evidence.statement import SignedStatement

NOW = AT + timedelta(days=1)
WITHOUT_SESSION = {"session.completeness", "time.not_before"}
WITHOUT_TOKENS = {"time.checkpoint", "time.signature", *WITHOUT_SESSION}


def outcomes(report: Report, outcome: Outcome) -> set[str]:
    """Names of the checks with this outcome."""
    return {check.name for check in report.checks if check.outcome is outcome}


def verify(data: bytes, known: KnownKeys) -> Report:
    """Verify bytes at the tests' time."""
    return verify_package(io.BytesIO(data), known, NOW)


def rewritten(data: bytes, change: dict[str, bytes | None]) -> bytes:
    """Rebuild a package with members replaced (or dropped), manifests left as they were."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        for info in old.infolist():
            name = info.filename.removeprefix(f"{FOLDER}/")
            body = change.get(name, old.read(info))
            if body is not None:
                new.writestr(info, body, compress_type=info.compress_type)
    return out.getvalue()


def test_a_whole_package_passes_every_check_but_the_absent_time_stamp() -> None:
    """Everything that this package proves passes; what it lacks is named, not hidden."""
    world, capture = world_with_photo()
    report = verify(written(world.contents([capture])).getvalue(), world.known())
    assert set() == outcomes(report, Outcome.CHANGED)
    assert outcomes(report, Outcome.UNCONFIRMED) == WITHOUT_TOKENS
    assert Outcome.UNCONFIRMED is report.outcome
    assert [capture.id] == [item.id for item in report.captures]
    rungs = {rung.name: rung.outcome for rung in report.captures[0].rungs}
    assert {name for name, outcome in rungs.items() if outcome is Outcome.PASS} == {
        "claimed",
        "signed",
        "received",
        "logged",
        "witnessed",
        "stored",
    }


def test_a_stamped_and_witnessed_package_passes() -> None:
    """With tokens of a pinned authority every check that decides passes."""
    world, capture = world_with_photo()
    authority = Authority.new()
    data = written(stamped(world, capture, authority)).getvalue()
    report = verify(data, world.known(tsa_roots=(pinned(authority),)))
    assert outcomes(report, Outcome.UNCONFIRMED) == WITHOUT_SESSION
    assert outcomes(report, Outcome.PASS) == set(CHECKS) - WITHOUT_SESSION
    assert Outcome.PASS is report.outcome
    report.require()
    assert report.captures[0].not_after is not None


def test_a_token_of_another_authority_is_not_believed() -> None:
    """A root that came with the token is no root; a compromised one is none any more."""
    world, capture = world_with_photo()
    authority = Authority.new()
    data = written(stamped(world, capture, authority)).getvalue()
    ended = replace(pinned(authority), compromised_since=TOKEN_TIME.replace(microsecond=0))
    for roots in ((pinned(Authority.new()),), (ended,), ()):
        report = verify(data, world.known(tsa_roots=roots))
        assert outcomes(report, Outcome.CHANGED) == set()
        assert {"time.checkpoint", "time.signature"} <= outcomes(report, Outcome.UNCONFIRMED)
        with pytest.raises(EvidenceError):
            report.require()


def test_a_token_that_is_not_believed_takes_nothing_from_one_that_is() -> None:
    """Anybody can add a token of his own to a package: it is mentioned and decides nothing."""
    world, capture = world_with_photo()
    ours, theirs = Authority.new(), Authority.new()
    contents = stamped(world, capture, ours)
    added = stamped(world, capture, theirs).timestamps[capture.signature]
    both = {
        **contents.timestamps,
        capture.signature: [*added, *contents.timestamps[capture.signature]],
    }
    note = next(message for message in contents.timestamps if message != capture.signature)
    more = Making(authority=theirs, message=note, gen_time=TOKEN_TIME).response()
    both[note] = [more, *contents.timestamps[note]]
    data = written(replace(contents, timestamps=both)).getvalue()
    report = verify(data, world.known(tsa_roots=(pinned(ours),)))
    assert Outcome.PASS is report.outcome
    report.require()
    told = [check for check in report.checks if check.mentioned]
    assert {check.name for check in told} == {"time.checkpoint", "time.signature"}
    assert {check.code for check in told} == {"timestamp_not_believed"}
    assert {"time.checkpoint", "time.signature"} <= outcomes(report, Outcome.PASS)


def test_a_complete_session_is_shown_and_an_incomplete_one_is_not() -> None:
    """Two numbered shots in a session opened and closed in the log; then one is left out."""
    world = World()
    world.key("enrol", world.server, "server")
    world.key("enrol", world.device, "device")
    opening = world.say(world.device, "session", {"phase": "open", "session": "visit"})
    shots: list[SignedStatement] = []
    for number in (1, 2):
        shots.append(
            world.photo(number=number, about=opening.id, previous=(shots or [opening])[-1].id)
        )
    closing = {"phase": "close", "session": "visit", "count": 2}
    world.say(world.device, "session", closing, about=opening.id)  # type: ignore[arg-type]
    world.status()
    contents = world.contents(shots)
    report = verify(written(contents).getvalue(), world.known())
    assert "session.completeness" in outcomes(report, Outcome.PASS)
    left = [item for item in contents.statements if item.signed.id != shots[0].id]
    fewer = replace(
        contents,
        statements=left,
        captures=[shots[1].id],
        originals=contents.originals[1:],
    )
    report = verify(written(fewer).getvalue(), world.known())
    assert "session.completeness" in outcomes(report, Outcome.UNCONFIRMED)


def test_a_report_is_no_truth_value() -> None:
    """`if report:` is an error, so that nobody mistakes a report for a pass."""
    world, capture = world_with_photo()
    report = verify(written(world.contents([capture])).getvalue(), world.known())
    with pytest.raises(TypeError):
        bool(report)


def test_every_flipped_bit_is_noticed() -> None:
    """No bit can change without a check that fails, in the members or in what ZIP says of them."""
    world, capture = world_with_photo()
    data = written(world.contents([capture])).getvalue()
    known = world.known()
    end = data.rindex(b"PK\x05\x06")
    local, central = data.index(b"PK\x03\x04", 4), data.rindex(b"PK\x01\x02")
    headers = (*range(local, local + 64), *range(central, end + 22))
    bits = [
        *range(0, 8 * len(data), 1689),
        *(8 * place + bit for place in headers for bit in range(8)),
    ]
    for bit in bits:
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        assert verify(bytes(flipped), known).outcome is Outcome.CHANGED, bit


def test_a_replaced_original_is_changed_content() -> None:
    """Another photo under the same name fails content.digest, even with lists made anew."""
    world, capture = world_with_photo()
    contents = world.contents([capture])
    other = original(capture.id, PHOTO + b"!")
    report = verify(written(replace(contents, originals=[other])).getvalue(), world.known())
    assert "content.digest" in outcomes(report, Outcome.CHANGED)


def test_a_packer_refuses_an_original_that_was_not_announced() -> None:
    """A package never leaves with a broken link inside."""
    world, capture = world_with_photo()
    wrong = replace(original(capture.id), pieces=lambda: [b"other"])
    with pytest.raises(DigestMismatch):
        write_package(replace(world.contents([capture]), originals=[wrong]), io.BytesIO())


def test_an_unlisted_member_is_noticed() -> None:
    """A file that was slipped in fails package.manifest."""
    world, capture = world_with_photo()
    data = io.BytesIO(written(world.contents([capture])).getvalue())
    with zipfile.ZipFile(data, "a") as archive:
        archive.writestr(plain_file(f"{FOLDER}/data/extra.txt"), b"x")
    assert {"package.manifest"} == outcomes(verify(data.getvalue(), world.known()), Outcome.CHANGED)


@pytest.mark.parametrize(
    "name", ["statements/{}", "statements/x/{}.json", "leaves/{}.txt", "proofs/{}.json"]
)
def test_a_second_file_for_a_statement_is_noticed(name: str) -> None:
    """Nobody signed it, and it must not make one custody event two."""
    world, capture = world_with_photo()
    custody = KINDS["custody"]
    event = world.say(world.server, custody.name, custody.example, about=capture.id)
    package = written(world.contents([capture])).getvalue()
    report = verify(edited(package, {f"data/{name.format(event.id)}": b"x"}), world.known())
    assert outcomes(report, Outcome.CHANGED) == {"statement.signature"}
    said = [check.detail for check in report.checks if check.name == "custody.trail"]
    assert [detail[:1] for detail in said] == ["1"]


def test_a_dropped_statement_is_noticed() -> None:
    """A removed statement fails package.manifest."""
    world, capture = world_with_photo()
    data = written(world.contents([capture])).getvalue()
    broken = rewritten(data, {f"data/statements/{world.logged[-2][0].id}.json": None})
    assert {"package.manifest"} == outcomes(verify(broken, world.known()), Outcome.CHANGED)


def test_too_few_witnesses_cannot_be_confirmed() -> None:
    """Without cosignatures the answer is unwitnessed, shown and never hidden."""
    world, capture = world_with_photo()
    report = verify(written(world.contents([capture], cosigned=False)).getvalue(), world.known())
    assert "log.witnesses" in outcomes(report, Outcome.UNCONFIRMED)


def test_a_foreign_log_cannot_be_confirmed() -> None:
    """A log that is not pinned proves nothing, whatever it signed."""
    world, capture = world_with_photo()
    stranger = World()
    report = verify(written(world.contents([capture])).getvalue(), stranger.known(logs={}))
    assert "log.checkpoint" in outcomes(report, Outcome.UNCONFIRMED)


def test_another_log_key_is_changed_content() -> None:
    """A checkpoint under the pinned origin but another key is a forgery."""
    world, capture = world_with_photo()
    report = verify(written(world.contents([capture])).getvalue(), World().known())
    assert "log.checkpoint" in outcomes(report, Outcome.CHANGED)


def test_a_key_that_vouches_for_itself_is_refused() -> None:
    """A registrar inside the package that nobody pinned enrols nobody."""
    world, capture = world_with_photo()
    known = world.known(registrars=World().known().registrars)
    report = verify(written(world.contents([capture])).getvalue(), known)
    assert "key.chain" in outcomes(report, Outcome.CHANGED)
    assert Outcome.CHANGED is report.outcome


def test_an_organ_without_a_pinned_registrar_cannot_be_confirmed() -> None:
    """An older trust file that does not know the organ yet accuses nobody of a forgery."""
    world, capture = world_with_photo()
    report = verify(written(world.contents([capture])).getvalue(), world.known(registrars=()))
    assert outcomes(report, Outcome.CHANGED) == set()
    assert {"key.chain", "key.validity"} <= outcomes(report, Outcome.UNCONFIRMED)


def test_a_revoked_key_signs_nothing_more() -> None:
    """A capture logged after its key's revocation fails key.validity."""
    world = World()
    world.key("enrol", world.server, "server")
    world.key("enrol", world.device, "device")
    world.key("revoke", world.device, "device", reason="lost")
    capture = world.photo()
    world.status()
    report = verify(written(world.contents([capture])).getvalue(), world.known())
    codes = {check.code for check in report.checks if check.name == "key.validity"}
    assert {"key_revoked"} == codes


def test_a_revocation_that_was_left_out_is_noticed() -> None:
    """The server's signed status names a longer chain than the package shows."""
    world = World()
    world.key("enrol", world.server, "server")
    world.key("enrol", world.device, "device")
    capture = world.photo()
    world.key("revoke", world.device, "device", reason="lost")
    world.status()
    contents = world.contents([capture])
    hidden = [item for item in contents.statements if item.signed.id != world.head]
    report = verify(written(replace(contents, statements=hidden)).getvalue(), world.known())
    assert "key.status" in outcomes(report, Outcome.UNCONFIRMED)


@pytest.mark.parametrize("outcome", ["fail", "degraded"])
def test_a_check_that_failed_confirms_no_chain(outcome: str) -> None:
    """The server's word that something is wrong with the key chain is no word that it is whole."""
    world = World()
    world.key("enrol", world.server, "server")
    world.key("enrol", world.device, "device")
    capture = world.photo()
    world.status(outcome)
    report = verify(written(world.contents([capture])).getvalue(), world.known())
    assert "key.status" in outcomes(report, Outcome.UNCONFIRMED)


def test_an_unenrolled_device_is_refused() -> None:
    """A capture signed by a key that no registrar enrolled fails key.validity."""
    world, _ = world_with_photo()
    world.device = P256Signer.generate()
    capture = world.photo()
    world.status()
    report = verify(written(world.contents([capture])).getvalue(), world.known())
    assert "key.validity" in outcomes(report, Outcome.CHANGED)


def test_stored_bytes_that_differ_from_the_announced_are_noticed() -> None:
    """A server that stored something else says so itself."""
    world, capture = world_with_photo()
    body = {
        "content": {"sha256": "0" * 64, "size_bytes": 3, "media_type": "image/jpeg"},
        "object": {"store": "local", "name": "0" * 64, "size_bytes": 3},
        "assurance": "directory-mode-bits",
        "received_at": "2026-11-23T01:04:09.120Z",
    }
    world.say(world.server, "stored", body, about=capture.id)  # type: ignore[arg-type]
    world.status()
    report = verify(written(world.contents([capture])).getvalue(), world.known())
    assert "content.stored" in outcomes(report, Outcome.CHANGED)


@pytest.mark.parametrize(
    ("days", "rung"), [(-1, Outcome.UNCONFIRMED), (0, Outcome.UNCONFIRMED), (1, Outcome.PASS)]
)
def test_a_key_that_may_have_been_stolen_is_no_signature_of_its_holder(
    days: int, rung: Outcome
) -> None:
    """Only what others saw before the suspicion counts as the holder's, and the ladder says so."""
    world, authority = World(), Authority.new()
    world.key("enrol", world.server, "server")
    world.key("enrol", world.device, "device")
    capture = world.photo()
    world.status()
    seen_at = TOKEN_TIME.replace(microsecond=0)
    since = format_time(seen_at + timedelta(days=days))
    world.key("revoke", world.device, "device", reason="stolen", suspected_since=since)
    known = world.known(tsa_roots=(pinned(authority),))
    report = verify(written(stamped(world, capture, authority)).getvalue(), known)
    signed = next(one for one in report.captures[0].rungs if one.name == "signed")
    told = {check.code for check in report.checks if check.name == "key.suspicion"}
    assert (rung, rung) == (signed.outcome, report.outcome)
    assert ({""} if rung is Outcome.PASS else {"key_suspected"}) == told


def test_a_suspected_key_without_any_independent_time_is_not_confirmed() -> None:
    """Nobody but the operator says when it was used."""
    world, capture = world_with_photo()
    world.key("revoke", world.device, "device", reason="stolen", suspected_since=format_time(NOW))
    contents = world.contents([capture], cosigned=False)
    report = verify(written(contents).getvalue(), world.known())
    assert "key.suspicion" in outcomes(report, Outcome.UNCONFIRMED)


def test_nothing_is_attested_by_a_time_that_has_not_come() -> None:
    """Judged as of a moment before, neither token nor witness has said anything."""
    world, capture = world_with_photo()
    authority = Authority.new()
    known = world.known(tsa_roots=(pinned(authority),))
    package = written(stamped(world, capture, authority))
    report = verify_package(package, known, TOKEN_TIME - timedelta(minutes=6))
    attested = {"time.checkpoint", "time.signature", "log.witnesses"}
    assert attested <= outcomes(report, Outcome.UNCONFIRMED)
    behind = verify_package(package, known, AT - timedelta(minutes=3))
    assert not attested & outcomes(behind, Outcome.UNCONFIRMED)


def test_expired_known_keys_cannot_confirm() -> None:
    """An old trust file must be replaced by its successor."""
    world, capture = world_with_photo()
    report = verify(written(world.contents([capture])).getvalue(), world.known(expires=AT))
    assert "known_keys.valid" in outcomes(report, Outcome.UNCONFIRMED)


def test_of_two_checkpoints_the_larger_counts() -> None:
    """Whatever their order in the package, what leads into the smaller one is not proven."""
    world, capture = world_with_photo()
    size = len(world.logged)
    smaller = world.packed(world.checkpoint(size=size - 1), size - 1)
    contents = world.contents([capture])
    mixed = replace(contents, statements=[*smaller[:1], *contents.statements[1:]])
    report = verify(written(mixed).getvalue(), world.known())
    assert {"log.checkpoint", "log.inclusion"} <= outcomes(report, Outcome.UNCONFIRMED)
    assert "log.checkpoint" not in outcomes(report, Outcome.CHANGED)
    told = [check.subject for check in report.checks if check.name == "log.inclusion"]
    assert told == [smaller[0].signed.id]


def test_two_roots_of_one_size_are_two_histories() -> None:
    """A log that signs two trees of one size has proven its own fraud."""
    world, capture = world_with_photo()
    other = Checkpoint(origin=ORIGIN, size=len(world.logged), root=bytes(32))
    contents = world.contents([capture])
    forked = world.packed(world.signed(other))
    mixed = replace(contents, statements=[*forked[:1], *contents.statements[1:]])
    report = verify(written(mixed).getvalue(), world.known())
    told = {check.code: check.detail for check in report.checks if check.name == "log.checkpoint"}
    assert told["two_histories"] == "The log has signed two histories."
    assert Outcome.CHANGED is report.outcome


def test_a_missing_ml_dsa_line_is_refused_after_the_pinned_date() -> None:
    """From the pinned date on, Ed25519 alone is not enough."""
    world, capture = world_with_photo()
    contents = world.contents([capture])
    lines = world.checkpoint().decode().splitlines(keepends=True)
    note = "".join(line for line in lines if len(line) < 1000 or "witness" in line).encode()
    report = verify(
        written(replace(contents, statements=world.packed(note))).getvalue(), world.known()
    )
    assert "log.checkpoint" in outcomes(report, Outcome.CHANGED)


@pytest.mark.parametrize("data", [b"", b"PK", b"PK\x05\x06" + bytes(18), b"x" * 100])
def test_bytes_that_are_no_package_are_refused(data: bytes) -> None:
    """Anything that is no ZIP of ours fails package.container."""
    report = verify(data, World().known())
    assert {"package.container"} == outcomes(report, Outcome.CHANGED)
    assert "package.container" in CHECKS
