"""`openssl ts -verify` and our verifier judge the same tokens and agree on every one."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from evidence.errors import EvidenceError
from evidence.timestamp import make_request, verify_timestamp
from evidence.tlog.checkpoint import timestamped_message
from service.transparency.tsa import answer_query, create_tsa
from tests.evidence import timestamp_maker as maker
from tests.tools import require_tool
from tests.transparency.small_log import LOG, ORIGIN

MESSAGE = timestamped_message(LOG.note(9), ORIGIN)
OTHER = timestamped_message(LOG.note(10), ORIGIN)


class Token:
    """A response with the bytes, root and time under which it is judged."""

    def __init__(self, folder: Path, response: bytes, root: bytes, at_s: int | None = None) -> None:
        """Lay the files out for openssl."""
        self.folder = folder
        self.response = response
        self.root = root
        self.at_s = at_s

    def openssl(self, message: bytes) -> bool:
        """Ask `openssl ts -verify`, at the token's time where it is not the present."""
        pem = x509.load_der_x509_certificate(self.root).public_bytes(Encoding.PEM)
        for name, data in (("root", pem), ("message", message), ("token", self.response)):
            (self.folder / name).write_bytes(data)
        at = [] if self.at_s is None else ["-attime", str(self.at_s)]
        files = ["-data", "message", "-in", "token", "-CAfile", "root"]
        ended = subprocess.run(
            ["openssl", "ts", "-verify", *files, *at],
            cwd=self.folder,
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert ended.returncode in (0, 1), ended.stderr
        assert (ended.returncode == 0) == (b"Verification: OK" in ended.stdout + ended.stderr)
        return ended.returncode == 0

    def ours(self, message: bytes) -> bool:
        """Ask our own verifier."""
        try:
            verify_timestamp(self.response, message, [self.root])
        except EvidenceError:
            return False
        return True

    def verdicts(self, message: bytes = MESSAGE) -> tuple[bool, bool]:
        """Ask both."""
        return self.openssl(message), self.ours(message)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """Return folder and root of a development authority."""
    require_tool("openssl")
    folder = tmp_path_factory.mktemp("tsa") / "tsa"
    return folder, create_tsa(folder)


@pytest.fixture(scope="module")
def response(authority: tuple[Path, bytes]) -> bytes:
    """Return its token for a checkpoint."""
    return answer_query(authority[0], make_request(MESSAGE, 77))


def test_the_development_authority_s_token_is_accepted(
    tmp_path: Path, authority: tuple[Path, bytes], response: bytes
) -> None:
    """A token over a checkpoint's body, blank line and log lines is accepted by both."""
    assert Token(tmp_path, response, authority[1]).verdicts() == (True, True)


def test_other_data_is_refused(
    tmp_path: Path, authority: tuple[Path, bytes], response: bytes
) -> None:
    """The same token for another checkpoint, or for one byte more, is refused by both."""
    token = Token(tmp_path, response, authority[1])
    assert [token.verdicts(m) for m in (OTHER, MESSAGE + b"\n", MESSAGE[:-1], b"")] == (
        [(False, False)] * 4
    )


def test_another_root_is_refused(tmp_path: Path, response: bytes) -> None:
    """A root of the same name with another key is refused by both."""
    other = create_tsa(tmp_path / "other")
    assert Token(tmp_path, response, other).verdicts() == (False, False)


def test_flipped_bits_are_refused_alike(
    tmp_path: Path, authority: tuple[Path, bytes], response: bytes
) -> None:
    """Where openssl refuses a changed token we do, and what we accept it accepts."""
    refused = 0
    for place in range(3, len(response), 23):
        changed = response[:place] + bytes([response[place] ^ 1]) + response[place + 1 :]
        openssl, ours = Token(tmp_path, changed, authority[1]).verdicts()
        assert openssl or not ours, f"byte {place}: we accept what openssl refuses"
        refused += not openssl
    assert refused > 30


def by_maker(**changes: object) -> Callable[[maker.Authority], bytes]:
    """Make a token with `tests/evidence/timestamp_maker.py`, over our message."""
    return lambda authority: (
        maker.Making(authority=authority, message=MESSAGE).but(**changes).response()
    )


STAMPING = ExtendedKeyUsageOID.TIME_STAMPING
AT_S = int(maker.NOW.timestamp())


@pytest.mark.parametrize(
    ("authority", "make", "holds"),
    [
        (maker.Authority.new(), by_maker(), True),
        (maker.Authority.new(), by_maker(nonce=None), True),
        (maker.Authority.new(), by_maker(info={"accuracy": None}), True),
        (maker.Authority.new(), by_maker(signers=2), False),
        (maker.Authority.new(), by_maker(status=2), False),
        (maker.Authority.new(), by_maker(tamper=lambda s: s[:-1] + bytes([s[-1] ^ 1])), False),
        (
            maker.Authority.new(),
            by_maker(attributes={maker.structures.SIGNING_CERTIFICATE_V2: None}),
            False,
        ),
        (
            maker.Authority.new(),
            by_maker(
                attributes={
                    maker.structures.SIGNING_CERTIFICATE_V2: maker.attribute(
                        maker.structures.SIGNING_CERTIFICATE_V2, maker.cert_v2(b"\0" * 32)
                    )
                }
            ),
            False,
        ),
        (maker.Authority.new(purposes=()), by_maker(), False),
        (maker.Authority.new(critical=False), by_maker(), False),
        (
            maker.Authority.new(purposes=(STAMPING, ExtendedKeyUsageOID.CODE_SIGNING)),
            by_maker(),
            False,
        ),
    ],
)
def test_made_tokens_are_judged_alike(
    *,
    tmp_path: Path,
    authority: maker.Authority,
    make: Callable[[maker.Authority], bytes],
    holds: bool,
) -> None:
    """The tokens of our tests are good to openssl where they are good to us, and bad likewise."""
    require_tool("openssl")
    token = Token(tmp_path, make(authority), authority.root.der, AT_S)
    assert token.verdicts() == (holds, holds)
