"""Asking witnesses: conflicts are re-proved, lines are verified, a witness ahead stops us."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from evidence.errors import EvidenceError, NoteInvalid, SignatureInvalid
from evidence.tlog.note import NoteSignature, parse_note, signature_line
from service.transparency.cosigning import MAX_BODY_BYTES, Witness
from service.transparency.loopback import Answer, LoopbackServer, Request, plain
from service.transparency.witness import create_witness, open_witness
from service.transparency.witness_client import (
    Cosigned,
    WitnessAddress,
    WitnessAhead,
    WitnessRefusal,
    WitnessUnavailable,
    latest,
    submit,
)
from tests.transparency.running import running
from tests.transparency.small_log import LOG, NAME, NOW, ORIGIN, Clock, SmallLog, forked

KEYS = LOG.signer.verifier_keys


def front(answer: Callable[[Request], Answer]) -> LoopbackServer:
    """Serve a function."""
    return LoopbackServer(answer, 0, max_body_bytes=MAX_BODY_BYTES)


def over_http(witness: Witness) -> LoopbackServer:
    """Serve a witness."""
    return front(lambda request: witness.answer(request.method, request.path, request.body))


def ask(witness: WitnessAddress, size: int, *, old_size: int = 0, log: SmallLog = LOG) -> Cosigned:
    """Submit a checkpoint of a log."""
    note = log.note(size)
    keys = log.signer.verifier_keys
    return submit(witness, note, keys, old_size=old_size, prove=log.prove, timeout_s=10.0)


def test_a_checkpoint_is_cosigned_with_verified_lines(witness: Witness) -> None:
    """The lines of both keys come back with the witness's time."""
    with running(over_http(witness)) as url:
        cosigned = ask(WitnessAddress(url=url, keys=witness.verifier_keys), 5)
    assert cosigned.at_s == NOW
    assert [line.key_id for line in cosigned.lines] == [k.key_id for k in witness.verifier_keys]


def test_a_conflict_is_proved_again_from_the_stated_size(witness: Witness) -> None:
    """Whatever the log believed that the witness knows, one 409 later it is right."""
    with running(over_http(witness)) as url:
        address = WitnessAddress(url=url, keys=witness.verifier_keys)
        for old_size, size in ((3, 5), (0, 9), (9, 9), (2, 30)):
            assert ask(address, size, old_size=old_size).at_s == NOW


def test_a_witness_ahead_stops_us(witness: Witness) -> None:
    """A witness that has seen more than we have means that our state is old."""
    with running(over_http(witness)) as url:
        address = WitnessAddress(url=url, keys=witness.verifier_keys)
        ask(address, 30)
        with pytest.raises(WitnessAhead) as caught:
            ask(address, 9)
        found = latest(address, ORIGIN, KEYS, timeout_s=10.0)
    assert caught.value.size == 30
    assert found is not None
    assert found.checkpoint == LOG.checkpoint(30)


def test_only_our_state_restored_is_found_at_start(witness: Witness) -> None:
    """A log that was set back and grew another way finds its own newer checkpoint outside."""
    with running(over_http(witness)) as url:
        address = WitnessAddress(url=url, keys=witness.verifier_keys)
        ask(address, 30)
        restored = forked(40)
        found = latest(address, ORIGIN, KEYS, timeout_s=10.0)
        with pytest.raises(WitnessRefusal) as caught:
            ask(address, 40, log=restored)
    assert found is not None
    assert found.checkpoint.root != restored.checkpoint(30).root
    assert caught.value.status == 422


def test_a_witness_that_knows_nothing_says_so(witness: Witness, tmp_path: Path) -> None:
    """Never cosigned is None; a log that it does not know is a refusal to cosign."""
    create_witness(tmp_path / "other", NAME, SmallLog(1, origin="other.example").vkeys)
    other = open_witness(tmp_path / "other", Clock())
    with running(over_http(witness)) as url, running(over_http(other)) as url_of_other:
        assert latest(WitnessAddress(url=url, keys=()), ORIGIN, KEYS, timeout_s=10.0) is None
        with pytest.raises(WitnessRefusal) as caught:
            ask(WitnessAddress(url=url_of_other, keys=()), 5)
    assert caught.value.status == 404


def test_lines_of_unknown_keys_are_ignored(witness: Witness) -> None:
    """A witness may have more keys than we know; at least one must be known."""
    ed25519, ml_dsa = witness.verifier_keys
    with running(over_http(witness)) as url:
        for key in (ed25519, ml_dsa):
            cosigned = ask(WitnessAddress(url=url, keys=(key,)), 5)
            assert [line.key_id for line in cosigned.lines] == [key.key_id]
        with pytest.raises(NoteInvalid):
            ask(WitnessAddress(url=url, keys=KEYS), 5)
        with pytest.raises(NoteInvalid):
            latest(WitnessAddress(url=url, keys=()), ORIGIN, KEYS, timeout_s=10.0)


def test_a_bad_line_of_a_known_key_is_refused(witness: Witness) -> None:
    """A known key's line that does not verify is the witness's failure, not half a success."""

    def flipped(request: Request) -> Answer:
        answer = witness.answer(request.method, request.path, request.body)
        note = parse_note(b"x\n\n" + answer.body)
        last = note.signatures[-1]
        value = last.value[:-1] + bytes([last.value[-1] ^ 1])
        bad = NoteSignature(name=last.name, key_id=last.key_id, value=value)
        body = "".join(map(signature_line, (*note.signatures[:-1], bad)))
        return Answer(status=200, body=body.encode())

    with running(front(flipped)) as url, pytest.raises(SignatureInvalid):
        ask(WitnessAddress(url=url, keys=witness.verifier_keys), 5)


@pytest.mark.parametrize("body", [b"", b"\n", b"no line\n", b"\xff\n", b"\xe2\x80\x94 a b"])
def test_an_answer_that_is_no_lines_is_refused(body: bytes) -> None:
    """A 200 whose body is not signature lines is an evidence error."""
    with (
        running(front(lambda _: Answer(status=200, body=body))) as url,
        pytest.raises(EvidenceError),
    ):
        ask(WitnessAddress(url=url, keys=KEYS), 5)


@pytest.mark.parametrize(
    "answer",
    [
        plain(500, "broken"),
        plain(302, "elsewhere"),
        plain(409, "3"),
        Answer(status=409, body=b"03\n", content_type="text/x.tlog.size"),
        Answer(status=409, body=b"3", content_type="text/x.tlog.size"),
        Answer(status=200, body=b"x" * 70_000),
    ],
)
def test_an_answer_that_the_protocol_does_not_know_is_unavailable(answer: Answer) -> None:
    """Server errors, redirects, conflicts without a size and floods: ask later."""
    with running(front(lambda _: answer)) as url, pytest.raises(WitnessUnavailable):
        ask(WitnessAddress(url=url, keys=KEYS), 5)


def test_a_witness_that_states_another_size_each_time_is_given_up() -> None:
    """Re-proving has an end."""
    seen: list[Sequence[str]] = []

    def unsteady(request: Request) -> Answer:
        seen.append(re.findall(r"old (\d+)", request.body.decode()))
        body = f"{len(seen)}\n".encode()
        return Answer(status=409, body=body, content_type="text/x.tlog.size")

    with running(front(unsteady)) as url, pytest.raises(WitnessUnavailable):
        ask(WitnessAddress(url=url, keys=KEYS), 5)
    assert seen == [["0"], ["1"], ["2"]]


@pytest.mark.parametrize("status", [400, 403, 500])
def test_a_refusal_to_tell_the_latest_is_no_none(status: int) -> None:
    """Only 404 means that there is none: anything else must not pass for a new witness."""
    expected = WitnessRefusal if status < 500 else WitnessUnavailable
    with running(front(lambda _: plain(status, ""))) as url, pytest.raises(expected):
        latest(WitnessAddress(url=url, keys=KEYS), ORIGIN, KEYS, timeout_s=10.0)


def test_the_latest_of_another_log_is_refused(tmp_path: Path, clock: Clock) -> None:
    """A witness that serves another log's checkpoint under our hash is not believed."""
    other = SmallLog(3, origin="log.example/county-8")
    create_witness(tmp_path / "w", NAME, other.vkeys)
    witness = open_witness(tmp_path / "w", clock)
    answer = witness.add_checkpoint(other.body(0, 3))
    note = other.note(3) + answer.body
    both = (*KEYS, *other.signer.verifier_keys)
    with (
        running(front(lambda _: Answer(status=200, body=note))) as url,
        pytest.raises(EvidenceError),
    ):
        latest(WitnessAddress(url=url, keys=witness.verifier_keys), ORIGIN, both, timeout_s=10.0)


def test_nobody_there_is_unavailable() -> None:
    """A refused connection is no answer."""
    server = front(lambda _: plain(200, ""))
    server.server_close()
    with pytest.raises(WitnessUnavailable):
        ask(WitnessAddress(url=f"http://127.0.0.1:{server.port}/", keys=KEYS), 5)
