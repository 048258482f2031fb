"""The registrar's desk: one unbroken chain, whatever happens between two steps."""

import base64
from collections.abc import Callable
from pathlib import Path

import pytest

from evidence.errors import EvidenceError
from evidence.keyring import Keyring, Registrar
from evidence.keys import P256Signer
from evidence.kinds.members import Role
from evidence.statement import (
    SignedStatement,
    make_statement,
    open_statement,
    parse_statement,
    sign_statement,
)
from service.context import fresh_salt, system_clock
from service.setup.registrar import (
    Desk,
    Rejected,
    RequestRefused,
    create_desk,
    open_desk,
    request_key,
)

AUDIENCE = "demo"
ORGAN = "demo-organ"


class ALog:
    """A log as far as key statements go: the key ring decides what it takes."""

    def __init__(self, desk: Desk) -> None:
        self.key = desk.signer.public_key
        self.ring = Keyring(AUDIENCE, [Registrar(organ=ORGAN, public_key=self.key)])
        self.taken: list[str] = []

    def submit(self, signed: SignedStatement) -> None:
        """Take a statement, once."""
        if signed.id in self.taken:
            return
        statement = open_statement(signed.raw, signed.signature, self.key)
        try:
            self.ring.apply(statement, len(self.taken))
        except EvidenceError as error:
            raise Rejected(error.detail) from error
        self.taken.append(signed.id)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A new desk."""
    return create_desk(
        tmp_path / "registrar",
        audience=AUDIENCE,
        organ=ORGAN,
        clock=system_clock,
        fresh_salt=fresh_salt,
    )


def request(holder: str, *, organ: str = ORGAN, role: Role = Role.DEVICE) -> SignedStatement:
    """A new key's request."""
    return request_key(
        P256Signer.generate(),
        audience=AUDIENCE,
        organ=organ,
        role=role,
        holder=holder,
        at=system_clock(),
        salt=fresh_salt(),
    )


def lost(submit: Callable[[SignedStatement], None]) -> Callable[[SignedStatement], None]:
    """The log takes it and the answer is lost on the way."""

    def lose(signed: SignedStatement) -> None:
        """Take it, and break off."""
        submit(signed)
        raise ConnectionError

    return lose


def test_enrolments_form_one_chain(desk: Desk) -> None:
    """Several keys are enrolled, a holder's second key in its second epoch, one is revoked."""
    log = ALog(desk)
    first = request("device-1")
    for asked in (first, request("device-2"), request("device-1")):
        desk.enrol(asked, log.submit)
    desk.revoke(first.key_id, reason="lost", suspected_since=system_clock(), submit=log.submit)
    assert [item.body["sequence"] for item in desk.chain()] == [1, 2, 3, 4]
    assert [item.body["epoch"] for item in desk.chain()] == [1, 1, 2, 1]
    assert log.ring.keys()[first.key_id].revoked_index == 3


def test_epochs_are_counted_for_each_role(desk: Desk) -> None:
    """One person's first key as a reviewer is his first, whatever else he signs with."""
    log = ALog(desk)
    for role in (Role.OFFICER, Role.REVIEWER, Role.OFFICER):
        desk.enrol(request("person-1", role=role), log.submit)
    assert [item.body["epoch"] for item in desk.chain()] == [1, 1, 2]
    assert len(log.taken) == 3


def test_a_request_for_another_epoch_is_refused(desk: Desk) -> None:
    """The registrar does not sign what the log would refuse for its epoch."""
    log = ALog(desk)
    body = {**parse_statement(request("device-1").raw).body, "epoch": 2}
    signer = P256Signer.generate()
    body |= {
        "key_id": signer.key_id,
        "public_key": base64.b64encode(signer.public_key).decode("ascii"),
    }
    raw = make_statement(
        "key",
        audience=AUDIENCE,
        organ=ORGAN,
        signer=signer.key_id,
        salt=fresh_salt(),
        made_at=system_clock(),
        body=body,
    )
    with pytest.raises(RequestRefused):
        desk.enrol(sign_statement(raw, signer), log.submit)
    assert desk.chain() == []


def test_a_lost_answer_is_repeated_with_the_same_bytes(desk: Desk) -> None:
    """When the log took a statement and nobody heard of it, the next call hands it in again."""
    log = ALog(desk)
    asked = request("device-1")
    with pytest.raises(ConnectionError):
        desk.enrol(asked, lost(log.submit))
    again = open_desk(desk.folder, clock=system_clock, fresh_salt=fresh_salt)
    assert again.enrol(asked, log.submit).id == log.taken[0]
    assert len(log.taken) == 1
    assert len(desk.chain()) == 1


def test_the_same_request_again_gives_the_same_enrolment(desk: Desk) -> None:
    """A repeat signs nothing new."""
    log = ALog(desk)
    asked = request("device-1")
    assert desk.enrol(asked, log.submit) == desk.enrol(asked, log.submit)
    assert len(log.taken) == 1


def test_a_rejected_statement_leaves_no_gap(desk: Desk) -> None:
    """After the log refused one, the next takes its sequence number."""
    log = ALog(desk)
    first = request("device-1")
    desk.enrol(first, log.submit)
    desk.revoke(first.key_id, reason="lost", suspected_since=None, submit=log.submit)
    with pytest.raises(Rejected):
        desk.revoke(first.key_id, reason="lost", suspected_since=None, submit=log.submit)
    desk.enrol(request("device-2"), log.submit)
    assert [item.body["sequence"] for item in desk.chain()] == [1, 2, 3]


def test_only_a_request_of_this_house_is_signed(desk: Desk) -> None:
    """Another organ's request, a forged one, and what is no request are refused."""
    log = ALog(desk)
    good = request("device-1")
    forged = SignedStatement(
        raw=good.raw, signature=request("device-2").signature, key_id=good.key_id
    )
    enrolment = desk.enrol(good, log.submit)
    for asked in (request("device-1", organ="other-organ"), forged, enrolment):
        with pytest.raises(RequestRefused):
            desk.enrol(asked, log.submit)


def test_a_desk_is_never_made_over_another(desk: Desk) -> None:
    """A registrar's key is not overwritten, and a folder without one is no desk."""
    with pytest.raises(FileExistsError):
        create_desk(
            desk.folder, audience=AUDIENCE, organ=ORGAN, clock=system_clock, fresh_salt=fresh_salt
        )
    with pytest.raises(RequestRefused):
        open_desk(desk.folder.parent, clock=system_clock, fresh_salt=fresh_salt)


def test_an_unknown_key_cannot_be_revoked(desk: Desk) -> None:
    """The desk ends only keys that it enrolled."""
    with pytest.raises(RequestRefused):
        desk.revoke("00" * 32, reason="lost", suspected_since=None, submit=ALog(desk).submit)
