"""The parties outside: time-stamp authorities and witnesses, as an operator names them.

Does: says what is pinned of each of them, reads them from the command line, and writes the
witness policy. Refuses to fetch a root or a key from the party's own address: what is pinned
comes from the operator's hands.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from evidence.errors import EvidenceError
from evidence.kinds.members import NAME
from evidence.tlog.note import VerifierKey, parse_vkey
from evidence.tlog.policy import Group, LogLine, Policy

_QUORUM = "quorum-of-witnesses"
_NOBODY = "none"


class PartyMalformed(Exception):
    """A party is not named in the form that the option takes; the message says which form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """A time-stamp authority with its root.

    Attributes:
        name: who runs it, one word.
        url: where it takes requests.
        root: certificate, DER.
        development: whether it proves nothing.
    """

    name: str
    url: str
    root: bytes
    development: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """A witness with its keys.

    Attributes:
        name: its name, one word.
        url: where it takes checkpoints.
        keys: its verifier keys.
        development: whether it proves nothing.
    """

    name: str
    url: str
    keys: tuple[VerifierKey, ...]
    development: bool = False


def parse_authority(text: str) -> Authority:
    """Read `NAME,URL,ROOT_FILE`; the file holds the root certificate, PEM or DER.

    Raises:
        PartyMalformed: another form, or no certificate.
    """
    parts = text.split(",")
    if len(parts) != 3:
        raise PartyMalformed("An authority is NAME,URL,ROOT_FILE.")
    name, url, file = parts
    try:
        raw = Path(file).read_bytes()
        pem = raw.lstrip().startswith(b"-----BEGIN")
        read = x509.load_pem_x509_certificate if pem else x509.load_der_x509_certificate
        root = read(raw).public_bytes(Encoding.DER)
    except OSError as error:
        raise PartyMalformed(f"The root certificate {file} cannot be read.") from error
    except ValueError as error:
        raise PartyMalformed(f"{file} holds no certificate.") from error
    return Authority(name=_checked(name), url=url, root=root)


def parse_witness(text: str) -> Witness:
    """Read `NAME,URL,VKEY[,VKEY]`; the keys are verifier keys of C2SP signed-note.

    Raises:
        PartyMalformed: another form, or no such key.
    """
    parts = text.split(",")
    if len(parts) < 3:
        raise PartyMalformed("A witness is NAME,URL,VKEY or NAME,URL,VKEY,VKEY.")
    try:
        keys = tuple(parse_vkey(part) for part in parts[2:])
    except EvidenceError as error:
        raise PartyMalformed(f"A witness's key is malformed: {error.detail}.") from error
    return Witness(name=_checked(parts[0]), url=parts[1], keys=keys)


def witness_policy(log_keys: Sequence[VerifierKey], witnesses: Sequence[Witness]) -> Policy:
    """The policy that more than half of the witnesses must have cosigned, with any of their keys.

    Source: C2SP tlog-policy; k of n with 2k > n, so that two histories cannot both be witnessed.
    """
    keys: dict[str, VerifierKey] = {}
    groups: list[Group] = []
    for witness in witnesses:
        names = tuple(f"{witness.name}-{number}" for number in range(1, len(witness.keys) + 1))
        keys |= zip(names, witness.keys, strict=True)
        groups.append(Group(name=witness.name, threshold=1, members=names))
    if witnesses:
        groups.append(
            Group(
                name=_QUORUM,
                threshold=len(witnesses) // 2 + 1,
                members=tuple(witness.name for witness in witnesses),
            )
        )
    return Policy(
        logs=tuple(LogLine(key=key) for key in log_keys),
        witnesses=keys,
        groups=tuple(groups),
        quorum=_QUORUM if witnesses else _NOBODY,
    )


def _checked(name: str) -> str:
    try:
        NAME.check(name, "")
    except EvidenceError as error:
        raise PartyMalformed("A party's name is one word of a-z, 0-9, '.', '_', '-'.") from error
    return name
