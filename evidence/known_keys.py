"""`known-keys.json`: the only file that a verification trusts, never taken from a package.

Does: reads and writes the pinned registrars, log keys, witness policies and time-stamping
roots. Every file is signed by a threshold of its own root keys, so that nobody can be given
one with keys that no one holds; a successor also by a threshold of its predecessor's.
Refuses: unknown members, a lower version, another deployment, a signature that does not
verify, one key twice, a signature of a key that is in neither set, and a root certificate
that cannot be read (else every token under it would look damaged). Expiry is the caller's
question: it needs a clock.

    {"signatures":[{"key_id":"<hex>","signature":"<base64>"}],
     "signed":{"audience":"demo","expires":"2027-11-23T00:00:00.000Z","format":
     "fengni/known-keys/v1","logs":[…],"registrars":[…],"root":{"keys":[…],"threshold":1},
     "tsa_roots":[…],"version":1}}

Source: docs/evidence-format.md §6; the succession rule is that of TUF's root role.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from cryptography import x509

from evidence.canonical import JSONObject, JSONValue, canonicalise, parse_canonical
from evidence.digest import sha256_hex
from evidence.errors import EvidenceError, KnownKeysInvalid
from evidence.keyring import Registrar
from evidence.keys import Signer, check_public_key, key_id_of, verify_signature
from evidence.kinds.members import KEY_ID, NAME, ORIGIN
from evidence.schema import (
    Base64,
    Choice,
    Integer,
    Record,
    Sequence,
    Text,
    Time,
    decode_base64,
    encode_base64,
    format_time,
    parse_time,
)
from evidence.timestamp.reading import CERTIFICATE_ERRORS
from evidence.tlog.note import VerifierKey, parse_vkey
from evidence.tlog.policy import LOG_KINDS, Policy, parse_policy

FORMAT = "fengni/known-keys/v1"
MAX_BYTES = 1024 * 1024
_VKEY = Text(2400)  # an ML-DSA-44 key is 1,312 bytes, 1,752 characters of base64
_SIGNED = Record(
    {
        "format": Choice((FORMAT,)),
        "version": Integer(1),
        "audience": NAME,
        "expires": Time(),
        "root": Record({"threshold": Integer(1, 16), "keys": Sequence(Base64(91), 16)}),
        "registrars": Sequence(Record({"organ": NAME, "public_key": Base64(91)}), 1000),
        "logs": Sequence(
            Record(
                {
                    "origin": ORIGIN,
                    "keys": Sequence(_VKEY, 16),
                    "ml_dsa_from?": Time(),
                    "witness_policy": Sequence(_VKEY, 256),
                }
            ),
            100,
        ),
        "tsa_roots": Sequence(
            Record(
                {
                    "name": Text(200),
                    "certificate": Base64(16 * 1024),
                    "compromised_since?": Time(),
                }
            ),
            32,
        ),
    }
)
_FILE = Record(
    {
        "signed": _SIGNED,
        "signatures": Sequence(Record({"key_id": KEY_ID, "signature": Base64(72)}), 32),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownLog:
    """A pinned log.

    Attributes:
        origin: the origin line; also the name of its keys.
        keys: the log's verifier keys, Ed25519 (0x01) and ML-DSA-44 (0x06).
        ml_dsa_from: from when both algorithms are demanded together, where stated.
        policy: which witnesses must have cosigned.
    """

    origin: str
    keys: tuple[VerifierKey, ...]
    ml_dsa_from: datetime | None
    policy: Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedRoot:
    """A pinned root of a time-stamping authority.

    Attributes:
        name: who runs it, for people.
        certificate: DER.
        compromised_since: from when its tokens are no longer believed, where known.
    """

    name: str
    certificate: bytes
    compromised_since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownKeys:
    """Everything that a verification trusts.

    Attributes:
        sha256: digest of the whole file, as printed in every report, 64 hex digits.
        version: grows by one with each successor.
        audience: the deployment that it is for.
        expires: when it stops being trusted, UTC.
        root_threshold: how many root keys must sign a successor.
        root_keys: DER SubjectPublicKeyInfo of the keys that sign a successor.
        registrars: the pinned registrars, one for each organ.
        logs: the pinned logs by origin.
        tsa_roots: the pinned time-stamping roots.
    """

    sha256: str
    version: int
    audience: str
    expires: datetime
    root_threshold: int
    root_keys: tuple[bytes, ...]
    registrars: tuple[Registrar, ...]
    logs: Mapping[str, KnownLog]
    tsa_roots: tuple[PinnedRoot, ...]


def parse_known_keys(raw: bytes) -> KnownKeys:
    """Read the file that the verifying person trusts, from wherever he got it.

    Of a successor the predecessor's signatures cannot be judged here: they are not counted. A
    first file has no predecessor, so every signature must be of its own root keys.

    Raises:
        KnownKeysInvalid: it is malformed, names something twice, or is not signed by a
            threshold of its own root keys.
    """
    return _opened(raw, None)


def check_successor(predecessor: KnownKeys, raw: bytes) -> KnownKeys:
    """Accept a newer file only if the one that is trusted already vouches for it.

    Args:
        predecessor: the file trusted so far.
        raw: the newer file's bytes.

    Returns:
        The newer known keys.

    Raises:
        KnownKeysInvalid: malformed, not exactly the next version, for another deployment,
            signed by fewer of the predecessor's or of its own root keys than the threshold
            of each, or by a key that is in neither set.
    """
    newer = _opened(raw, predecessor)
    if newer.audience != predecessor.audience:
        raise KnownKeysInvalid("The newer file is for another deployment.")
    if newer.version != predecessor.version + 1:
        raise KnownKeysInvalid("The newer file is not the next version of the trusted one.")
    return newer


def write_known_keys(content: KnownKeys, signers: Iterable[Signer]) -> bytes:
    """Write and sign the file.

    Args:
        content: what it should say; its `sha256` is not looked at.
        signers: its own root keys, and for a successor the predecessor's; each key once.

    Returns:
        Canonical bytes.

    Raises:
        KnownKeysInvalid: a reader would refuse it.
    """
    signed: JSONObject = {
        "format": FORMAT,
        "version": content.version,
        "audience": content.audience,
        "expires": format_time(content.expires),
        "root": {
            "threshold": content.root_threshold,
            "keys": [encode_base64(key) for key in content.root_keys],
        },
        "registrars": [
            {"organ": item.organ, "public_key": encode_base64(item.public_key)}
            for item in content.registrars
        ],
        "logs": [_log_members(item) for item in content.logs.values()],
        "tsa_roots": [_root_members(item) for item in content.tsa_roots],
    }
    message = canonicalise(signed, max_bytes=MAX_BYTES)
    signatures: list[JSONValue] = [
        {"key_id": signer.key_id, "signature": encode_base64(signer.sign(message))}
        for signer in signers
    ]
    raw = canonicalise({"signed": signed, "signatures": signatures}, max_bytes=MAX_BYTES)
    parse_known_keys(raw)
    return raw


def _opened(raw: bytes, predecessor: KnownKeys | None) -> KnownKeys:
    """Read a file and judge its signatures, as far as the predecessor is at hand."""
    try:
        document = parse_canonical(raw, max_bytes=MAX_BYTES)
        _FILE.check(document, "")
        found = _read(document, sha256_hex(raw))
        _check_signatures(document, found, predecessor)
    except KnownKeysInvalid:
        raise
    except EvidenceError as error:
        raise KnownKeysInvalid(
            f"The file of known keys is malformed. {error.detail}", pointer=error.pointer
        ) from error
    return found


def _check_signatures(
    document: JSONObject, found: KnownKeys, predecessor: KnownKeys | None
) -> None:
    """Demand a threshold of the file's own root keys, and one of the predecessor's.

    1. No key signs twice: one key must not count as two.
    2. Every signature of a known root key verifies.
    3. A key in neither set is refused; without the predecessor that can be said of a first
       file only.
    4. Both thresholds are met.
    """
    message = canonicalise(document["signed"], max_bytes=MAX_BYTES)
    signatures = cast("list[dict[str, str]]", document["signatures"])
    signed_by = {item["key_id"] for item in signatures}
    if len(signed_by) != len(signatures):  # 1
        raise KnownKeysInvalid("A root key has signed twice.", pointer="/signatures")
    own = {key_id_of(key): key for key in found.root_keys}
    before = {key_id_of(key): key for key in (predecessor.root_keys if predecessor else ())}
    for item in signatures:
        key = own.get(item["key_id"]) or before.get(item["key_id"])
        if key is not None:  # 2
            verify_signature(key, decode_base64(item["signature"]), message)
        elif predecessor is not None or found.version == 1:  # 3
            raise KnownKeysInvalid("A key signed that is no root key.", pointer="/signatures")
    if len(signed_by & own.keys()) < found.root_threshold:  # 4
        raise KnownKeysInvalid("Too few of the file's own root keys signed it.")
    if predecessor is not None and len(signed_by & before.keys()) < predecessor.root_threshold:
        raise KnownKeysInvalid("Too few of the trusted root keys signed the newer file.")


def _read(document: JSONObject, digest: str) -> KnownKeys:
    signed = cast("dict[str, JSONValue]", document["signed"])
    root = cast("dict[str, JSONValue]", signed["root"])
    root_keys = tuple(decode_base64(text) for text in cast("list[str]", root["keys"]))
    for key in root_keys:
        check_public_key(key)
    threshold = cast("int", root["threshold"])
    if len(set(root_keys)) < max(threshold, len(root_keys)):
        raise KnownKeysInvalid("The root keys are too few or not distinct.", pointer="/signed/root")
    return KnownKeys(
        sha256=digest,
        version=cast("int", signed["version"]),
        audience=str(signed["audience"]),
        expires=parse_time(str(signed["expires"])),
        root_threshold=threshold,
        root_keys=root_keys,
        registrars=_registrars(cast("list[dict[str, str]]", signed["registrars"])),
        logs=_logs(cast("list[dict[str, JSONValue]]", signed["logs"])),
        tsa_roots=tuple(map(_tsa_root, cast("list[dict[str, str]]", signed["tsa_roots"]))),
    )


def _tsa_root(item: dict[str, str]) -> PinnedRoot:
    der = decode_base64(item["certificate"])
    try:
        certificate = x509.load_der_x509_certificate(der)
        _ = certificate.subject, certificate.public_key()  # these are read late
    except CERTIFICATE_ERRORS as error:
        raise KnownKeysInvalid(
            "The certificate of a time-stamping authority cannot be read.",
            pointer="/signed/tsa_roots",
        ) from error
    return PinnedRoot(
        name=item["name"],
        certificate=der,
        compromised_since=_optional_time(item, "compromised_since"),
    )


def _registrars(items: list[dict[str, str]]) -> tuple[Registrar, ...]:
    found = tuple(
        Registrar(organ=item["organ"], public_key=decode_base64(item["public_key"]))
        for item in items
    )
    for item in found:
        check_public_key(item.public_key)
    if len({item.organ for item in found}) != len(found) or len(
        {item.key_id for item in found}
    ) != len(found):
        raise KnownKeysInvalid("An organ or a registrar key stands twice.")
    return found


def _logs(items: list[dict[str, JSONValue]]) -> dict[str, KnownLog]:
    found: dict[str, KnownLog] = {}
    for item in items:
        origin = str(item["origin"])
        keys = tuple(parse_vkey(text) for text in cast("list[str]", item["keys"]))
        if origin in found or not keys:
            raise KnownKeysInvalid("A log stands twice, or has no key.")
        if any(key.name != origin or key.kind not in LOG_KINDS for key in keys):
            raise KnownKeysInvalid("A log's key has another name, or a type that no log has.")
        lines = cast("list[str]", item["witness_policy"])
        found[origin] = KnownLog(
            origin=origin,
            keys=keys,
            ml_dsa_from=_optional_time(item, "ml_dsa_from"),
            policy=parse_policy("".join(f"{line}\n" for line in lines).encode()),
        )
    return found


def _optional_time(item: Mapping[str, JSONValue], name: str) -> datetime | None:
    text = item.get(name)
    return parse_time(text) if isinstance(text, str) else None


def _log_members(log: KnownLog) -> JSONObject:
    members: JSONObject = {
        "origin": log.origin,
        "keys": [key.encode() for key in log.keys],
        "witness_policy": [*log.policy.encode().decode("ascii").splitlines()],
    }
    if log.ml_dsa_from is not None:
        members["ml_dsa_from"] = format_time(log.ml_dsa_from)
    return members


def _root_members(root: PinnedRoot) -> JSONObject:
    members: JSONObject = {"name": root.name, "certificate": encode_base64(root.certificate)}
    if root.compromised_since is not None:
        members["compromised_since"] = format_time(root.compromised_since)
    return members
