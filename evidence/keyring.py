"""Which key was whose, for what, at which log index: a fold over `key` statements.

Does: follows each registrar's chain of `key` statements in log order and answers whether a
key may have signed the entry at index i. A key is valid there iff it was enrolled at an
index below i and not revoked below i. Refuses: gaps in a chain, statements of a registrar
that was not pinned from outside, enrolments without proof of possession, a second
enrolment of one key, keys that vouch for themselves, an epoch out of turn, and a rotation or
revocation that names another role or holder than the key that ends.

The registrars are pinned by the caller (`known-keys.json`); nothing inside a log or a
package can add one.

Source: docs/evidence-format.md §5.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import cast

from evidence.errors import (
    EvidenceError,
    KeyChainBroken,
    KeyNotYetValid,
    KeyRevoked,
    KeyRoleRefused,
    KeyUnknown,
)
from evidence.keys import check_public_key, key_id_of
from evidence.kinds import KINDS
from evidence.kinds.members import Role
from evidence.schema import decode_base64, parse_time
from evidence.statement import Statement, open_statement


@dataclass(frozen=True, slots=True, kw_only=True)
class Registrar:
    """An organ's pinned registrar key.

    Attributes:
        organ: the organ whose keys it enrols.
        public_key: DER SubjectPublicKeyInfo.
    """

    organ: str
    public_key: bytes

    @property
    def key_id(self) -> str:
        """Key id of the registrar, 64 hex digits."""
        return key_id_of(self.public_key)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolledKey:
    """One key, as its registrar's statements tell.

    Attributes:
        key_id: 64 hex digits.
        public_key: DER SubjectPublicKeyInfo.
        role: what it was enrolled for.
        holder: pseudonym of the person or device.
        organ: the organ that enrolled it.
        epoch: which of the holder's keys this is, from 1.
        enrolled_index: log index of the enrolment; −1 for a pinned registrar.
        revoked_index: log index of the revocation or rotation, where there is one.
        suspected_since: from when the registrar suspects misuse, where it says so.
    """

    key_id: str
    public_key: bytes
    role: Role
    holder: str
    organ: str
    epoch: int
    enrolled_index: int
    revoked_index: int | None = None
    suspected_since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainHead:
    """Where a registrar's chain stands.

    Attributes:
        sequence: how many key statements the organ's registrar has made.
        statement: id of the newest, or None before the first.
    """

    sequence: int
    statement: str | None


class Keyring:
    """The keys of one log, kept in step by feeding it every `key` statement in order."""

    __slots__ = ("_audience", "_epochs", "_heads", "_keys", "_registrars")

    def __init__(self, audience: str, registrars: Iterable[Registrar]) -> None:
        """Begin with the pinned registrars and nothing else.

        Args:
            audience: the deployment's stable id; statements for another are refused.
            registrars: pinned from outside, at most one for each organ.
        """
        self._audience = audience
        self._registrars: dict[str, Registrar] = {item.organ: item for item in registrars}
        self._heads = {organ: ChainHead(sequence=0, statement=None) for organ in self._registrars}
        self._epochs: dict[tuple[str, Role, str], int] = {}
        self._keys: dict[str, EnrolledKey] = {
            item.key_id: EnrolledKey(
                key_id=item.key_id,
                public_key=item.public_key,
                role=Role.REGISTRAR,
                holder="registrar",
                organ=item.organ,
                epoch=1,
                enrolled_index=-1,
            )
            for item in self._registrars.values()
        }

    def head(self, organ: str) -> ChainHead:
        """Where the organ's chain stands.

        Raises:
            KeyUnknown: no registrar is pinned for the organ.
        """
        if organ not in self._heads:
            msg = "No registrar is known for this organ."
            raise KeyUnknown(msg, pointer="/organ")
        return self._heads[organ]

    def keys(self) -> Mapping[str, EnrolledKey]:
        """Every key by its id, registrars included."""
        return dict(self._keys)

    def public_key(self, key_id: str) -> bytes:
        """The public key behind a key id, valid or not.

        Raises:
            KeyUnknown: no registrar enrolled it.
        """
        return self._known(key_id).public_key

    def require(self, statement: Statement, index: int) -> EnrolledKey:
        """Demand that the statement's signer was allowed to sign it at this index.

        Args:
            statement: whose signature was verified.
            index: its zero-based log index.

        Returns:
            The signer's key.

        Raises:
            KeyUnknown: no registrar enrolled the key.
            KeyNotYetValid: it was enrolled at or after the index.
            KeyRevoked: it was revoked before the index.
            KeyRoleRefused: its role may not sign the kind, or it belongs to another organ
                or deployment.
        """
        key = self._known(statement.signer)
        if statement.audience != self._audience:
            msg = "The statement is made for another deployment."
            raise KeyRoleRefused(msg, pointer="/audience")
        if key.organ != statement.organ:
            msg = "The signer's key belongs to another organ."
            raise KeyRoleRefused(msg, pointer="/organ")
        if key.role not in KINDS[statement.kind].signers:
            msg = f"A key enrolled as {key.role} may not sign a statement of kind {statement.kind}."
            raise KeyRoleRefused(msg, pointer="/signer")
        if key.enrolled_index >= index:
            msg = "The signer's key was not yet enrolled at this log index."
            raise KeyNotYetValid(msg, pointer="/signer")
        if key.revoked_index is not None and key.revoked_index < index:
            msg = "The signer's key was revoked before this log index."
            raise KeyRevoked(msg, pointer="/signer")
        return key

    def apply(self, statement: Statement, index: int) -> None:
        """Take the next `key` statement of the log. All or nothing.

        Args:
            statement: of kind `key`, its signature verified.
            index: its zero-based log index, above every index applied before.

        Raises:
            KeyChainBroken: sequence or predecessor do not continue the registrar's chain,
                possession is not proven, the key is enrolled or revoked already, the epoch is
                not the holder's next, or role or holder are not those of the key that ends.
            EvidenceError: the signer may not sign it (see `require`).
        """
        self.check(statement, index)
        body = statement.body
        key_id = str(body["key_id"])
        if body["action"] == "revoke":
            self._keys[key_id] = self._ended(key_id, statement, index)
        else:
            if body["action"] == "rotate":
                replaced = str(body["replaces"])
                self._keys[replaced] = self._ended(replaced, statement, index)
            key = _enrolled(statement, index)
            self._keys[key_id] = key
            self._epochs[key.organ, key.role, key.holder] = key.epoch
        self._heads[statement.organ] = ChainHead(
            sequence=int(cast("int", body["sequence"])), statement=statement.id
        )

    def check(self, statement: Statement, index: int) -> None:
        """Raise what `apply` would raise, and change nothing."""
        self.require(statement, index)
        body = statement.body
        if body["action"] == "request":
            msg = "A key request is carried inside an enrolment; it is never logged itself."
            raise KeyChainBroken(msg, pointer="/body/action")
        head = self._heads[statement.organ]
        if body["sequence"] != head.sequence + 1 or statement.previous != head.statement:
            msg = "The key statement does not continue its registrar's chain."
            raise KeyChainBroken(msg, pointer="/body/sequence")
        if body["action"] == "revoke":
            ending = self._require_current(str(body["key_id"]), statement)
            if ending.epoch != body["epoch"]:
                msg = "The revocation names another epoch than that of the key."
                raise KeyChainBroken(msg, pointer="/body/epoch")
            return
        if str(body["key_id"]) in self._keys:
            msg = "The key is enrolled already."
            raise KeyChainBroken(msg, pointer="/body/key_id")
        if body["action"] == "rotate":
            self._require_current(str(body["replaces"]), statement)
        self._require_next_epoch(statement)
        _check_possession(statement)

    def _known(self, key_id: str) -> EnrolledKey:
        if key_id not in self._keys:
            msg = "No registrar enrolled the signer's key."
            raise KeyUnknown(msg, pointer="/signer")
        return self._keys[key_id]

    def _require_current(self, key_id: str, statement: Statement) -> EnrolledKey:
        """The key that a statement ends: enrolled here, not ended, of this role and holder."""
        key = self._keys.get(key_id)
        if key is None or key.organ != statement.organ or key.role is Role.REGISTRAR:
            msg = "The key that should end was not enrolled by this registrar."
            raise KeyChainBroken(msg, pointer="/body/key_id")
        if key.revoked_index is not None:
            msg = "The key has ended already."
            raise KeyChainBroken(msg, pointer="/body/key_id")
        if (key.role, key.holder) != (statement.body["role"], statement.body["holder"]):
            msg = "The key that should end has another role or holder."
            raise KeyChainBroken(msg, pointer="/body/holder")
        return key

    def _require_next_epoch(self, statement: Statement) -> None:
        """A holder's keys are counted: a key between two of his would otherwise go unnoticed."""
        body = statement.body
        place = (statement.organ, Role(str(body["role"])), str(body["holder"]))
        if body["epoch"] != self._epochs.get(place, 0) + 1:
            msg = "The epoch is not the next one of this holder in this role."
            raise KeyChainBroken(msg, pointer="/body/epoch")

    def _ended(self, key_id: str, statement: Statement, index: int) -> EnrolledKey:
        since = statement.body.get("suspected_since")
        return replace(
            self._keys[key_id],
            revoked_index=index,
            suspected_since=parse_time(since) if isinstance(since, str) else None,
        )


def _enrolled(statement: Statement, index: int) -> EnrolledKey:
    body = statement.body
    return EnrolledKey(
        key_id=str(body["key_id"]),
        public_key=decode_base64(str(body["public_key"])),
        role=Role(str(body["role"])),
        holder=str(body["holder"]),
        organ=statement.organ,
        epoch=int(cast("int", body["epoch"])),
        enrolled_index=index,
    )


def _check_possession(statement: Statement) -> None:
    """The new key itself must have asked: else a registrar could enrol somebody else's key."""
    body = statement.body
    public_key = decode_base64(str(body["public_key"]), "/body/public_key")
    check_public_key(public_key)
    possession = cast("Mapping[str, str]", body["possession"])
    try:
        request = open_statement(
            decode_base64(possession["statement"]),
            decode_base64(possession["signature"]),
            public_key,
        )
    except EvidenceError as error:
        msg = "The new key does not prove its possession."
        raise KeyChainBroken(msg, pointer="/body/possession") from error
    same = all(request.body.get(name) == body[name] for name in ("key_id", "role", "public_key"))
    if (
        not same
        or request.kind != "key"
        or request.body["action"] != "request"
        or request.body["holder"] != body["holder"]
        or request.body.get("epoch", body["epoch"]) != body["epoch"]
        or request.body["key_id"] != key_id_of(public_key)
        or (request.organ, request.audience) != (statement.organ, statement.audience)
    ):
        msg = (
            "The proof of possession is for another key, role, holder, epoch, organ or deployment."
        )
        raise KeyChainBroken(msg, pointer="/body/possession")
