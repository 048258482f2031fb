"""The registrar's desk: the one place that says whose keys an organ's keys are.

Does: signs the organ's chain of `key` statements, one after another, and keeps it in a folder of
its own that the server never reads. A statement is kept as pending before it is handed in, so a
lost answer is repeated with the same bytes; the next one is made only when the log has taken it.
Refuses to sign an enrolment for a key that did not ask for it itself.

    registrar.json    audience and organ
    registrar.pem     the registrar's key
    root.pem          the key that signs known-keys.json and its successors
    chain.jsonl       the statements that the log has taken, in their order
    pending.json      the one that was signed and not yet taken, if there is one
    succession-….json, chain-….jsonl   how each later log began, and the chain of the log before it
"""

import base64
import fcntl
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import cast

import msgspec

from evidence.canonical import JSONObject
from evidence.digest import sha256_hex
from evidence.errors import EvidenceError
from evidence.keys import P256Signer, Signer, key_id_of
from evidence.kinds.members import Role
from evidence.schema import decode_base64, format_time
from evidence.statement import (
    SignedStatement,
    Statement,
    from_wire,
    make_statement,
    open_statement,
    parse_statement,
    sign_statement,
    to_wire,
)
from service.private_files import create_private, make_private_folder, sync_folder, write_private

Submit = Callable[[SignedStatement], object]
"""Hands a statement to the log; raises `Rejected` where the log will never take it."""


class Rejected(Exception):
    """The log refused a key statement for good; the chain goes on without it."""


class RequestRefused(Exception):
    """What was handed to the registrar is no request that he may sign."""


class _House(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    audience: str
    organ: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """One organ's registrar with his key in this process's memory.

    Attributes:
        folder: see the module.
        audience: the deployment that he registers keys for.
        organ: the organ.
        signer: his key.
        clock: now, UTC.
        fresh_salt: 32 hex digits from the operating system's randomness.
    """

    folder: Path
    audience: str
    organ: str
    signer: Signer
    clock: Callable[[], datetime]
    fresh_salt: Callable[[], str]

    @property
    def root_signer(self) -> P256Signer:
        """The key that signs known-keys.json."""
        return P256Signer.from_pem((self.folder / "root.pem").read_bytes())

    def chain(self) -> list[Statement]:
        """The statements that the log has taken, in their order."""
        return [parse_statement(signed.raw) for signed in self._taken()]

    def enrol(self, request: SignedStatement, submit: Submit) -> SignedStatement:
        """Enrol the key that signed a request; the same request again repeats the answer.

        Args:
            request: of action `request`, signed by the new key.
            submit: hands the enrolment to the log.

        Returns:
            The enrolment, which the log has taken.

        Raises:
            RequestRefused: it is no request, or for another epoch, organ or deployment.
            Rejected: the log refused the enrolment.
        """
        asked = self._opened(request)
        with self._turn():
            self._finish(submit)
            for signed in self._taken():
                if parse_statement(signed.raw).body["key_id"] == asked.body["key_id"]:
                    return signed
            epoch = 1 + self._epochs_of(asked)
            if asked.body.get("epoch", epoch) != epoch:
                raise RequestRefused("The request is for another epoch than the holder's next one.")
            body: JSONObject = {
                "action": "enrol",
                "key_id": asked.body["key_id"],
                "role": asked.body["role"],
                "holder": asked.body["holder"],
                "public_key": asked.body["public_key"],
                "epoch": epoch,
                "possession": {
                    "statement": base64.b64encode(request.raw).decode("ascii"),
                    "signature": base64.b64encode(request.signature).decode("ascii"),
                },
            }
            return self._hand_in(body, submit)

    def revoke(
        self, key_id: str, *, reason: str, suspected_since: datetime | None, submit: Submit
    ) -> SignedStatement:
        """End a key from the next log index on.

        Args:
            key_id: of a key that this desk enrolled.
            reason: a code, such as `lost`.
            suspected_since: from when misuse is suspected, UTC.
            submit: hands the statement to the log.

        Raises:
            RequestRefused: this desk never enrolled that key.
            Rejected: the log refused it, for instance because the key has ended already.
        """
        with self._turn():
            self._finish(submit)
            enrolled = [item for item in self.chain() if item.body["key_id"] == key_id]
            if not enrolled:
                raise RequestRefused("This registrar never enrolled that key.")
            body: JSONObject = {
                name: enrolled[0].body[name] for name in ("key_id", "role", "holder", "epoch")
            }
            body |= {"action": "revoke", "reason": reason}
            if suspected_since is not None:
                body["suspected_since"] = format_time(suspected_since)
            return self._hand_in(body, submit)

    def succeed(self, body: JSONObject, begin: Submit, submit: Submit) -> SignedStatement:
        """Begin a new log: say which one it continues, and enrol again whoever is enrolled there.

        The chain of the log before is set aside; the same call again goes on where it was killed,
        with the same statements.

        Args:
            body: of a `succession`.
            begin: hands the succession to the new log.
            submit: hands a key statement to it.

        Returns:
            The succession, which is the new log's first entry.

        Raises:
            RequestRefused: a key cannot be enrolled again with the request that it once made.
            Rejected: the log refused a statement.
        """
        former = (
            self.folder / f"chain-{_short(cast('JSONObject', body['predecessor'])['log'])}.jsonl"
        )
        with self._turn():
            signed = self._succession(body)
            begin(signed)
            if not former.exists():
                for name in ("pending.json", "chain.jsonl"):
                    path = self.folder / name
                    if path.exists():
                        path.replace(
                            former if name == "chain.jsonl" else former.with_suffix(".pending")
                        )
                sync_folder(self.folder)
        for request in _requests(_read_chain(former)):
            self.enrol(request, submit)
        return signed

    def _succession(self, body: JSONObject) -> SignedStatement:
        """The statement, made once for each new log."""
        path = self.folder / f"succession-{_short(body['log'])}.json"
        if path.exists():
            return from_wire(msgspec.json.decode(path.read_bytes()))
        raw = make_statement(
            "succession",
            audience=self.audience,
            organ=self.organ,
            signer=self.signer.key_id,
            salt=self.fresh_salt(),
            made_at=self.clock(),
            body=body,
        )
        signed = sign_statement(raw, self.signer)
        write_private(path, msgspec.json.encode(to_wire(signed)))
        return signed

    def _opened(self, request: SignedStatement) -> Statement:
        """The request with its signature verified under the key that it asks for."""
        try:
            public_key = decode_base64(str(parse_statement(request.raw).body.get("public_key")))
            asked = open_statement(request.raw, request.signature, public_key)
        except EvidenceError as error:
            raise RequestRefused(f"This is no request of a key. {error.detail}") from error
        if asked.kind != "key" or asked.body["action"] != "request":
            raise RequestRefused("This is no request of a key.")
        if asked.body["key_id"] != key_id_of(public_key):
            raise RequestRefused("The request names another key than the one that signed it.")
        if (asked.audience, asked.organ) != (self.audience, self.organ):
            raise RequestRefused("The request is for another organ or deployment.")
        return asked

    def _epochs_of(self, asked: Statement) -> int:
        """How many keys this holder has had in this role."""
        return sum(
            item.body["action"] in ("enrol", "rotate")
            and all(item.body[name] == asked.body[name] for name in ("role", "holder"))
            for item in self.chain()
        )

    def _hand_in(self, body: JSONObject, submit: Submit) -> SignedStatement:
        taken = self._taken()
        raw = make_statement(
            "key",
            audience=self.audience,
            organ=self.organ,
            signer=self.signer.key_id,
            salt=self.fresh_salt(),
            made_at=self.clock(),
            body={**body, "sequence": len(taken) + 1},
            previous=taken[-1].id if taken else None,
        )
        signed = sign_statement(raw, self.signer)
        write_private(self.folder / "pending.json", msgspec.json.encode(to_wire(signed)))
        self._finish(submit)
        return signed

    def _finish(self, submit: Submit) -> None:
        """Hand in what is pending, and move it into the chain once the log has taken it."""
        pending = self.folder / "pending.json"
        if not pending.exists():
            return
        signed = from_wire(msgspec.json.decode(pending.read_bytes()))
        try:
            submit(signed)
        except Rejected:
            pending.replace(self.folder / f"rejected-{signed.id[:16]}.json")
            raise
        taken = [*self._taken(), signed] if signed.id not in map(_id, self._taken()) else None
        if taken is not None:
            lines = b"".join(msgspec.json.encode(to_wire(item)) + b"\n" for item in taken)
            write_private(self.folder / "chain.jsonl", lines)
        pending.unlink()
        sync_folder(self.folder)

    def _taken(self) -> list[SignedStatement]:
        return _read_chain(self.folder / "chain.jsonl")

    @contextmanager
    def _turn(self) -> Generator[None]:
        with (self.folder / "lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def create_desk(
    folder: Path,
    *,
    audience: str,
    organ: str,
    clock: Callable[[], datetime],
    fresh_salt: Callable[[], str],
) -> Desk:
    """Make a registrar's folder with two new keys.

    Raises:
        FileExistsError: there is a desk in the folder already.
    """
    make_private_folder(folder)
    create_private(folder / "registrar.pem", P256Signer.generate().to_pem())
    create_private(folder / "root.pem", P256Signer.generate().to_pem())
    house = _House(audience=audience, organ=organ)
    create_private(folder / "registrar.json", msgspec.json.encode(house) + b"\n")
    return open_desk(folder, clock=clock, fresh_salt=fresh_salt)


def open_desk(
    folder: Path, *, clock: Callable[[], datetime], fresh_salt: Callable[[], str]
) -> Desk:
    """Open a registrar's folder.

    Raises:
        RequestRefused: there is no desk in the folder.
    """
    try:
        house = msgspec.json.decode((folder / "registrar.json").read_bytes(), type=_House)
        signer = P256Signer.from_pem((folder / "registrar.pem").read_bytes())
    except (OSError, msgspec.DecodeError, EvidenceError) as error:
        raise RequestRefused(f"{folder} is no registrar's folder.") from error
    return Desk(
        folder=folder,
        audience=house.audience,
        organ=house.organ,
        signer=signer,
        clock=clock,
        fresh_salt=fresh_salt,
    )


def request_key(
    signer: Signer, *, audience: str, organ: str, role: Role, holder: str, at: datetime, salt: str
) -> SignedStatement:
    """Ask for the enrolment of one's own key; the request proves possession of it.

    Raises:
        EvidenceError: a name is not of the form that the format demands.
    """
    body: JSONObject = {
        "action": "request",
        "key_id": signer.key_id,
        "role": role.value,
        "holder": holder,
        "public_key": base64.b64encode(signer.public_key).decode("ascii"),
    }
    raw = make_statement(
        "key",
        audience=audience,
        organ=organ,
        signer=signer.key_id,
        salt=salt,
        made_at=at,
        body=body,
    )
    return sign_statement(raw, signer)


def _read_chain(path: Path) -> list[SignedStatement]:
    lines = path.read_bytes().splitlines() if path.exists() else []
    return [from_wire(msgspec.json.decode(line)) for line in lines]


def _requests(chain: list[SignedStatement]) -> list[SignedStatement]:
    """The requests of the keys that have not ended at the end of a chain, in their order."""
    found: dict[str, SignedStatement] = {}
    for signed in chain:
        body = parse_statement(signed.raw).body
        found.pop(str(body.get("replaces")), None)
        key_id = str(body["key_id"])
        if body["action"] == "revoke":
            found.pop(key_id, None)
            continue
        possession = cast("JSONObject", body["possession"])
        found[key_id] = SignedStatement(
            raw=decode_base64(str(possession["statement"])),
            signature=decode_base64(str(possession["signature"])),
            key_id=key_id,
        )
    return list(found.values())


def _short(origin: object) -> str:
    """An origin as a part of a file's name."""
    return sha256_hex(str(origin).encode())[:16]


def _id(signed: SignedStatement) -> str:
    return signed.id
