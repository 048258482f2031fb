"""The development time-stamp authority and the client that asks it."""

import shutil
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID

from evidence.errors import EvidenceError, TimestampInvalid
from evidence.timestamp import make_request, read_response, verify_timestamp
from service.transparency.loopback import Answer, LoopbackServer, plain
from service.transparency.tsa import (
    QUERY,
    REPLY,
    SUBJECT,
    OpensslMissing,
    answer_query,
    create_tsa,
    read_root,
    tsa_server,
)
from service.transparency.tsa_client import AuthorityUnavailable, request_timestamp
from tests.tools import ROOT, require_tool
from tests.transparency.running import running

SHA256 = bytes.fromhex("0609608648016503040201")
SHA512 = bytes.fromhex("0609608648016503040203")


@pytest.fixture(scope="session")
def new_tsa(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an authority that was made and never asked; copy it."""
    require_tool("openssl")
    folder = tmp_path_factory.mktemp("tsa") / "new"
    create_tsa(folder)
    return folder


@pytest.fixture
def folder(tmp_path: Path, new_tsa: Path) -> Path:
    """Return the folder of a new authority."""
    shutil.copytree(new_tsa, tmp_path / "tsa")
    return tmp_path / "tsa"


def test_a_token_over_http_verifies_under_its_root(folder: Path) -> None:
    """What the client gets verifies under the authority's root, now and by its warning name."""
    with running(tsa_server(folder, 0)) as url:
        response = request_timestamp(url, b"a checkpoint", 42, 10.0)
    stamp = verify_timestamp(response, b"a checkpoint", [read_root(folder)], nonce=42)
    assert abs(stamp.gen_time - datetime.now(UTC)) < timedelta(minutes=1)
    assert stamp.gen_time.microsecond == 0  # Sigstore's verifier refuses fractions
    assert (stamp.tsa, stamp.accuracy_ms) == (f"CN={SUBJECT}", 1000)
    assert "NOT A TRUSTED TIME" in stamp.tsa


def test_two_authorities_do_not_vouch_for_each_other(folder: Path, tmp_path: Path) -> None:
    """Each authority has a root of its own, whose key nobody has."""
    other = create_tsa(tmp_path / "other")
    response = answer_query(folder, make_request(b"x", 1))
    with pytest.raises(TimestampInvalid):
        verify_timestamp(response, b"x", [other])


def test_its_certificate_may_stamp_time_and_nothing_else(folder: Path) -> None:
    """The leaf has the critical purpose of RFC 3161 §2.3 alone, and is no authority itself."""
    leaf = x509.load_pem_x509_certificate((folder / "tsa.pem").read_bytes())
    purpose = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    basic = leaf.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (purpose.critical, list(purpose.value)) == (True, [ExtendedKeyUsageOID.TIME_STAMPING])
    assert basic.value.ca is False


def test_a_folder_is_private_and_never_overwritten(folder: Path) -> None:
    """The key is its owner's alone, and a second authority in the folder is refused."""
    assert stat.S_IMODE((folder / "tsa.key").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(FileExistsError):
        create_tsa(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_serials_are_unique_among_threads_and_after_a_restart(folder: Path) -> None:
    """No two tokens of an authority share a serial number."""
    with ThreadPoolExecutor(4) as pool:
        responses = list(pool.map(lambda n: answer_query(folder, make_request(b"x", n)), range(12)))
    responses.append(answer_query(Path(str(folder)), make_request(b"x", 99)))
    assert sorted(read_response(r).serial for r in responses) == list(range(1, 14))


@pytest.mark.parametrize(
    "query",
    [
        b"",
        b"junk",
        make_request(b"x", 1)[:-1],
        make_request(b"x", 1).replace(
            b"\x04\x02\x01\x05\x00\x04\x20", b"\x04\x02\x03\x05\x00\x04\x20"
        ),
    ],
)
def test_a_bad_query_gets_a_refusal_in_rfc_3161_s_form(folder: Path, query: bytes) -> None:
    """Malformed queries and other digests are answered with a status, not with a token."""
    with pytest.raises(TimestampInvalid) as caught:
        read_response(answer_query(folder, query))
    assert caught.value.detail == "The time-stamp authority did not grant a token."


def test_http_answers_are_named(folder: Path) -> None:
    """Query and reply have the content types of RFC 3161 §3.4; the rest says what this is."""
    query = make_request(b"x", 1)
    with running(tsa_server(folder, 0)) as url, httpx.Client(base_url=url, trust_env=False) as http:
        good = http.post("", content=query, headers={"Content-Type": QUERY})
        other = http.post("", content=query, headers={"Content-Type": "text/plain"})
        large = http.post("", content=b"x" * 5000, headers={"Content-Type": QUERY})
        pages = [http.get(path) for path in ("", "root.der", "nothing")]
    assert (good.status_code, good.headers["Content-Type"]) == (200, REPLY)
    assert (other.status_code, large.status_code) == (415, 413)
    assert [page.status_code for page in pages] == [200, 200, 404]
    assert (pages[0].text, pages[1].content) == (f"{SUBJECT}\n", read_root(folder))


def test_without_openssl_it_does_not_start_and_later_says_503(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing command is named at the start; when it goes later, the answer is 503."""
    with running(tsa_server(folder, 0)) as url:
        monkeypatch.setenv("PATH", "/nonexistent")
        answer = httpx.post(
            url, content=make_request(b"x", 1), headers={"Content-Type": QUERY}, trust_env=False
        )
        assert answer.status_code == 503
        with pytest.raises(OpensslMissing):
            tsa_server(folder, 0)


def test_a_broken_key_is_no_answer(folder: Path) -> None:
    """When openssl fails for no fault of the query, nothing is answered in its name."""
    shutil.copy(folder / "root.pem", folder / "tsa.key")
    with pytest.raises(OpensslMissing):
        answer_query(folder, make_request(b"x", 1))


def test_it_listens_on_loopback_only_and_needs_its_folder(folder: Path, tmp_path: Path) -> None:
    """Neither another address nor an empty folder is served."""
    with pytest.raises(ValueError, match="loopback"):
        tsa_server(folder, 0, host="0.0.0.0")  # noqa: S104 -- refused is what is tested
    with pytest.raises(FileNotFoundError):
        tsa_server(tmp_path / "nothing", 0)


def test_it_is_a_process_of_its_own(tmp_path: Path) -> None:
    """The command makes an authority, prints the root's digest, and serves it."""
    require_tool("openssl")
    command = [sys.executable, "-m", "service.transparency.tsa", str(tmp_path / "tsa")]
    made = subprocess.run(
        [*command, "--create"], cwd=ROOT, check=True, capture_output=True, text=True, timeout=60
    )
    root = x509.load_der_x509_certificate(read_root(tmp_path / "tsa"))
    assert made.stdout.startswith(root.fingerprint(hashes.SHA256()).hex())
    process = subprocess.Popen(
        [*command, "--port", "0"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith(SUBJECT)
        response = request_timestamp(line.rsplit("ready on ", 1)[1].strip(), b"x", 5, 10.0)
        assert verify_timestamp(response, b"x", [read_root(tmp_path / "tsa")], nonce=5).serial == 1
    finally:
        process.terminate()
        process.communicate(timeout=30)


# ------------------------------------------------------------------------------------ the client


def answering(answer: Answer) -> LoopbackServer:
    """Make an authority that always sends the same."""
    return LoopbackServer(lambda _: answer, 0, max_body_bytes=5000)


def test_an_answer_to_another_request_is_refused(folder: Path) -> None:
    """A replayed token, for other bytes or another nonce, is not taken."""
    old = Answer(status=200, body=answer_query(folder, make_request(b"x", 1)), content_type=REPLY)
    with running(answering(old)) as url:
        assert request_timestamp(url, b"x", 1, 10.0) == old.body
        for message, nonce in ((b"x", 2), (b"y", 1)):
            with pytest.raises(TimestampInvalid):
                request_timestamp(url, message, nonce, 10.0)


@pytest.mark.parametrize(
    "answer",
    [
        plain(200, "hello"),
        plain(503, "later"),
        Answer(status=500, body=b"", content_type=REPLY),
        Answer(status=302, body=b"", content_type=REPLY),
        Answer(status=200, body=b"x" * 70_000, content_type=REPLY),
    ],
)
def test_what_is_no_reply_is_unavailable(answer: Answer) -> None:
    """Other statuses, types and sizes are an authority that does not work now."""
    with running(answering(answer)) as url, pytest.raises(AuthorityUnavailable):
        request_timestamp(url, b"x", 1, 10.0)


def test_a_malformed_reply_is_the_authority_s_fault() -> None:
    """A reply that cannot be read is an evidence error."""
    junk = Answer(status=200, body=b"junk", content_type=REPLY)
    with running(answering(junk)) as url, pytest.raises(EvidenceError):
        request_timestamp(url, b"x", 1, 10.0)


def test_nobody_there_is_unavailable() -> None:
    """A refused connection and an address that is none are no answer."""
    empty = answering(plain(200, ""))
    url = f"http://127.0.0.1:{empty.port}/"
    empty.server_close()
    for wrong in (url, "http://[", "ftp://127.0.0.1/"):
        with pytest.raises(AuthorityUnavailable):
            request_timestamp(wrong, b"x", 1, 2.0)
