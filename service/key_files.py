"""What a deployment's key and policy files hold.

Does: reads the keys of a log, an organ's witness policy and certificates from the files that the
deployment file names. Refuses a file that holds something else, and says whose it is.
"""

from collections.abc import Generator
from contextlib import contextmanager

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509 import load_der_x509_certificate, load_pem_x509_certificate

from evidence.errors import EvidenceError
from evidence.timestamp import TimestampRoot
from evidence.tlog.checkpoint import LogSigner
from evidence.tlog.policy import Policy, parse_policy
from service.deployment_file import LogSettings, OrganSettings
from service.settings import Settings, SettingsInvalid


def log_signer(settings: Settings, log: LogSettings) -> LogSigner:
    """The keys of one log, from their files.

    Raises:
        SettingsInvalid: a file is missing or holds another kind of key.
    """
    ed25519 = _private_key(settings, log.ed25519_key_file)
    ml_dsa = _private_key(settings, log.ml_dsa_key_file)
    if not isinstance(ed25519, Ed25519PrivateKey) or not isinstance(ml_dsa, MLDSA44PrivateKey):
        raise SettingsInvalid(f"A key file of the log {log.id} holds another kind of key.")
    return LogSigner(log.origin, ed25519, ml_dsa)


def witness_policy(settings: Settings, organ: OrganSettings) -> Policy | None:
    """Which witnesses count for an organ's log, or None where none are named.

    Raises:
        SettingsInvalid: the policy's file is missing or malformed.
    """
    name = organ.witness_policy_file
    with naming(organ):
        return parse_policy(read_key_file(settings, name)) if name else None


def timestamp_roots(settings: Settings, organ: OrganSettings) -> tuple[TimestampRoot, ...]:
    """Roots of the time-stamp authorities that count for an organ.

    Raises:
        SettingsInvalid: a certificate's file is missing or malformed.
    """
    return tuple(
        TimestampRoot(certificate=_certificate(settings, name))
        for authority in organ.authorities
        for name in authority.root_files
    )


def _certificate(settings: Settings, name: str) -> bytes:
    """A certificate as DER; the file may be PEM or DER."""
    data = read_key_file(settings, name)
    try:
        load = load_pem_x509_certificate if data.startswith(b"-----") else load_der_x509_certificate
        return load(data).public_bytes(Encoding.DER)
    except ValueError as error:
        raise SettingsInvalid(f"{name} holds no readable certificate.") from error


def read_key_file(settings: Settings, name: str) -> bytes:
    """The bytes of a file that the deployment file names.

    Raises:
        SettingsInvalid: it cannot be read.
    """
    try:
        return (settings.folder / name).read_bytes()
    except OSError as error:
        raise SettingsInvalid(f"{name} cannot be read.") from error


@contextmanager
def naming(organ: OrganSettings) -> Generator[None]:
    """Say whose key or policy is wrong.

    Raises:
        SettingsInvalid: what is done in the block met an `EvidenceError`.
    """
    try:
        yield
    except EvidenceError as error:
        raise SettingsInvalid(f"The organ {organ.id}: {error.detail}") from error


def _private_key(settings: Settings, name: str) -> object:
    try:
        return load_pem_private_key(read_key_file(settings, name), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SettingsInvalid(f"{name} holds no readable private key.") from error
