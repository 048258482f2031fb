"""The local development time-stamp authority: RFC 3161 over HTTP, and no proof of time.

Does: makes an authority with its own root, key and folder, and answers time-stamp queries on
loopback with `openssl ts -reply`, so that every demo receipt has a token that other tools can
check. Refuses: to listen beyond loopback, to be taken for more than it is (its name says in
every token that it is none), to overwrite an authority, and every digest but SHA-256.

It runs as a process of its own, so that its key is not in the service:

    python -m service.transparency.tsa FOLDER --create      # once; prints the root's fingerprint
    python -m service.transparency.tsa FOLDER --port 8100

Its time is this machine's clock, set by whoever runs the service: a token of it proves that
the plumbing works. Production takes two authorities of different owners.

Sources: RFC 3161, RFC 5816; openssl-ts(1).
"""

import argparse
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from service.private_files import create_private, make_private_folder, write_private
from service.transparency.loopback import Answer, LoopbackServer, Request, plain

SUBJECT: Final = "Fengni LOCAL DEVELOPMENT TSA - NOT A TRUSTED TIME"
ROOT_SUBJECT: Final = "Fengni LOCAL DEVELOPMENT TSA ROOT - NOT A TRUSTED TIME"
QUERY: Final = "application/timestamp-query"
REPLY: Final = "application/timestamp-reply"
MAX_QUERY_BYTES: Final = 4096
_LIFE: Final = timedelta(days=5 * 365)
_OPENSSL_TIMEOUT_S: Final = 10
_ROOT, _CERTIFICATE, _KEY, _SERIAL = "root.pem", "tsa.pem", "tsa.key", "serial"

# The policy's OID lies under the number that IANA keeps for examples (RFC 5612). Times are whole
# seconds, cut off, because Sigstore's verifier refuses fractions; the accuracy covers the cut.
_CONFIG: Final = b"""\
[ tsa ]
default_tsa = development
[ development ]
serial = serial
crypto_device = builtin
default_policy = 1.3.6.1.4.1.32473.3161.1
signer_digest = sha256
digests = sha256
accuracy = secs:1
ordering = no
tsa_name = yes
ess_cert_id_chain = no
ess_cert_id_alg = sha256
"""


class OpensslMissing(Exception):
    """The command `openssl` is not installed, or it failed for no fault of the query."""


def create_tsa(folder: Path, *, at: datetime | None = None) -> bytes:
    """Make an authority: a root, whose key is thrown away, and the one key that it vouched for.

    Args:
        folder: is made with mode 0700; keys in it with mode 0600.
        at: start of validity (UTC), the present where nothing is said.

    Returns:
        The root certificate, DER: what `known-keys.json` pins, as a development root.

    Raises:
        FileExistsError: there is an authority in this folder already.
    """
    start = (at or datetime.now(UTC)) - timedelta(minutes=5)  # noqa: TID251 -- its own clock
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = _root(root_key, start)
    certificate = _leaf(key, root_key, start)
    make_private_folder(folder)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    create_private(folder / _KEY, pem)
    create_private(folder / _CERTIFICATE, certificate.public_bytes(Encoding.PEM))
    create_private(folder / _SERIAL, b"0")
    create_private(folder / _ROOT, root.public_bytes(Encoding.PEM))
    return root.public_bytes(Encoding.DER)


def read_root(folder: Path) -> bytes:
    """Return the root certificate of an authority, DER.

    Raises:
        FileNotFoundError: there is no authority in this folder.
    """
    pem = (folder / _ROOT).read_bytes()
    return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)


def answer_query(folder: Path, query: bytes) -> bytes:
    """Stamp one query with this machine's clock.

    1. Take the next serial number; it is durable before anything is signed with it.
    2. Let `openssl ts -reply` answer, in a folder of its own.

    Args:
        folder: of an authority that `create_tsa` made.
        query: DER `TimeStampReq`; any other bytes get a DER response that refuses them.

    Returns:
        DER `TimeStampResp`.

    Raises:
        OpensslMissing: the command is not there or failed.
    """
    serial = _next_serial(folder)  # 1
    with tempfile.TemporaryDirectory(prefix="fengni-tsa-") as place:  # 2
        work = Path(place)
        (work / "openssl.cnf").write_bytes(_CONFIG)
        (work / "query.tsq").write_bytes(query)
        (work / "serial").write_text(f"{serial - 1:040x}")  # openssl adds one
        _run_openssl(folder.resolve(), work)
        return (work / "reply.tsr").read_bytes()


def tsa_server(folder: Path, port: int, *, host: str = "127.0.0.1") -> LoopbackServer:
    """Bind an authority to a port (0: any free one); the caller lets it `run`.

    Raises:
        FileNotFoundError: there is no authority in this folder.
        OpensslMissing: the command is not installed.
        ValueError: the host is not a loopback address.
    """
    root = read_root(folder)
    _openssl()

    def handle(request: Request) -> Answer:
        """Answer a query, or say what this is."""
        if request.method == "GET":
            return _show(request.path, root)
        if request.content_type.partition(";")[0].strip().lower() != QUERY:
            return plain(415, f"A time-stamp query has the content type {QUERY}.")
        try:
            return Answer(status=200, body=answer_query(folder, request.body), content_type=REPLY)
        except OpensslMissing:
            return plain(503, "The time-stamp authority cannot answer now.")

    return LoopbackServer(handle, port, max_body_bytes=MAX_QUERY_BYTES, host=host)


def serve_tsa(folder: Path, port: int, *, host: str = "127.0.0.1") -> None:
    """Serve an authority until the process ends; see `tsa_server`."""
    with tsa_server(folder, port, host=host) as server:
        sys.stdout.write(f"{SUBJECT}: ready on http://{host}:{server.port}/\n")
        sys.stdout.flush()
        server.run()


def main(arguments: Sequence[str] | None = None) -> None:
    """Create or serve an authority from the command line."""
    parser = argparse.ArgumentParser(prog="python -m service.transparency.tsa", description=SUBJECT)
    parser.add_argument("folder", type=Path, help="where key and certificates lie")
    parser.add_argument("--create", action="store_true", help="make the authority, then end")
    parser.add_argument("--port", type=int, default=8100, help="on 127.0.0.1; 0 takes a free one")
    chosen = parser.parse_args(arguments)
    if chosen.create:
        digest = hashes.Hash(hashes.SHA256())
        digest.update(create_tsa(chosen.folder))
        sys.stdout.write(f"{digest.finalize().hex()}  SHA-256 of {chosen.folder / _ROOT} (DER)\n")
    else:
        serve_tsa(chosen.folder, chosen.port)


def _show(path: str, root: bytes) -> Answer:
    if path == "/root.der":
        return Answer(status=200, body=root, content_type="application/pkix-cert")
    if path == "/":
        return plain(200, SUBJECT)
    return plain(404, "There is nothing here.")


def _openssl() -> str:
    found = shutil.which("openssl")
    if found is None:
        raise OpensslMissing("The development time-stamp authority needs the command openssl.")
    return found


def _run_openssl(folder: Path, work: Path) -> None:
    files = ("-signer", str(folder / _CERTIFICATE), "-inkey", str(folder / _KEY))
    names = ("-config", "openssl.cnf", "-queryfile", "query.tsq", "-out", "reply.tsr")
    try:
        subprocess.run(  # noqa: S603 -- fixed arguments; the query is a file
            (_openssl(), "ts", "-reply", *names, *files),
            cwd=work,
            check=True,
            capture_output=True,
            timeout=_OPENSSL_TIMEOUT_S,
        )
    except (OSError, subprocess.SubprocessError) as exc:
        raise OpensslMissing("The command openssl did not answer the query.") from exc


def _next_serial(folder: Path) -> int:
    """Return a serial number that this authority never used, durable on return."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # other threads open it anew, and wait
        serial = int((folder / _SERIAL).read_text()) + 1
        write_private(folder / _SERIAL, str(serial).encode())
        return serial
    finally:
        os.close(descriptor)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: str, key: ec.EllipticCurvePublicKey, start: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(ROOT_SUBJECT))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + _LIFE)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _root(key: ec.EllipticCurvePrivateKey, start: datetime) -> x509.Certificate:
    builder = _builder(ROOT_SUBJECT, key.public_key(), start)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    return builder.add_extension(_key_usage(leaf=False), critical=True).sign(key, hashes.SHA256())


def _leaf(
    key: ec.EllipticCurvePrivateKey,
    root_key: ec.EllipticCurvePrivateKey,
    start: datetime,
) -> x509.Certificate:
    above = x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key())
    purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING])
    return (
        _builder(SUBJECT, key.public_key(), start)
        .add_extension(above, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(leaf=True), critical=True)
        .add_extension(purpose, critical=True)  # RFC 3161 §2.3: critical, and the only one
        .sign(root_key, hashes.SHA256())
    )


def _key_usage(*, leaf: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=leaf,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=not leaf,
        crl_sign=not leaf,
        encipher_only=False,
        decipher_only=False,
    )


if __name__ == "__main__":
    main()
