"""Bad input gets a named problem, keeps what was accepted, and loses nothing."""

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from evidence.keys import P256Signer
from evidence.statement import About, SignedStatement
from service.app import create_app
from tests.service.deployment_maker import PHOTO, Made, bearer, make_deployment, wire
from tests.service.test_captures import announce, custody, get, send, wait_until_stored

Client = TestClient[Any]


def refused(client: Client, made: Made, signed: SignedStatement) -> str:
    """The code with which a statement is refused."""
    return announce(client, made, signed).json()["items"][0]["problem"]["code"]


def resigned(made: Made, change: Callable[[bytes], bytes]) -> SignedStatement:
    """A capture whose bytes were changed before the device signed them."""
    device = made.parties["county-a"].device
    raw = change(made.parties["county-a"].capture().raw)
    return SignedStatement(raw=raw, signature=device.sign(raw), key_id=device.key_id)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (
            lambda raw: raw.replace(b'{"audience"', b'{"audience":"test","audience"'),
            "duplicate_key",
        ),
        (lambda raw: raw.replace(b'"size_bytes":', b'"size_bytes":0.5,"x":'), "number_refused"),
        (lambda raw: raw.replace(b'{"audience"', b'{"aaa":1,"audience"'), "field_unknown"),
        (lambda raw: raw.replace(b"/v1", b"/v2"), "version_unknown"),
        (lambda raw: raw.replace(b"fengni/capture", b"fengni/rumour"), "kind_unknown"),
        (lambda raw: raw.replace(b',"made_at"', b', "made_at"'), "not_canonical"),
        (lambda raw: raw[:-1], "not_canonical"),
        (lambda raw: raw.replace(b"attended", b"staged"), "field_invalid"),
        (lambda raw: raw.replace(b',"mode":"attended"', b""), "field_missing"),
        (lambda raw: raw.replace(b'"organ":"county-a"', b'"organ":"county-b"'), "organ_refused"),
        (lambda raw: raw.replace(b'"audience":"test"', b'"audience":"else"'), "audience_refused"),
        (lambda _raw: b"[" * 5000, "too_large"),
        (lambda _raw: b"\xff\xfe", "not_canonical"),
    ],
    ids=range(13),
)
def test_a_malformed_statement_has_its_own_code(
    client: Client, made: Made, change: Callable[[bytes], bytes], code: str
) -> None:
    """What is wrong with a statement is named, though its signature holds."""
    assert refused(client, made, resigned(made, change)) == code


def test_a_wrong_signature_is_named_before_the_bytes_are_read(client: Client, made: Made) -> None:
    """Garbage under a signature that does not hold is a wrong signature, nothing else."""
    signed = made.parties["county-a"].capture()
    other = made.parties["county-a"].capture(b"other")
    swapped = SignedStatement(raw=signed.raw, signature=other.signature, key_id=signed.key_id)
    assert refused(client, made, swapped) == "signature_invalid"


def test_keys_are_judged_at_their_index(client: Client, made: Made) -> None:
    """Unknown, then enrolled and used in one request, then revoked."""
    party = made.parties["county-a"]
    fresh = P256Signer.generate()
    assert refused(client, made, party.capture(signer=fresh)) == "key_unknown"
    both = announce(
        client, made, party.enrol(fresh, "device", "device-018"), party.capture(signer=fresh)
    )
    assert [one.get("problem") for one in both.json()["items"]] == [None, None]
    first = party.capture(b"before", signer=fresh)
    announce(client, made, first, party.revoke(fresh, "device", "device-018"))
    assert refused(client, made, party.capture(signer=fresh)) == "key_revoked"
    repeated = announce(client, made, first).json()["items"][0]
    assert repeated["id"] == first.id


def test_a_role_signs_its_own_kinds_only(client: Client, made: Made) -> None:
    """An officer's key takes no captures, and nobody hands in the server's statements."""
    party = made.parties["county-a"]
    officer = P256Signer.generate()
    announce(client, made, party.enrol(officer, "officer", "officer-003"))
    assert refused(client, made, party.capture(signer=officer)) == "key_role_refused"
    viewed = party.sign(
        "custody",
        {"event": "viewed", "actor": "officer-003"},
        signer=officer,
        about=About(statement="ab" * 32),
    )
    assert refused(client, made, viewed) == "kind_refused"


def test_a_broken_key_chain_is_refused_and_the_chain_goes_on(client: Client, made: Made) -> None:
    """A gap is named; the statement that fits is taken afterwards."""
    party = made.parties["county-a"]
    skipped = party.enrol(P256Signer.generate(), "device", "device-020")
    ahead = party.enrol(P256Signer.generate(), "device", "device-021")
    assert refused(client, made, ahead) == "key_chain_broken"
    answer = announce(client, made, skipped, ahead).json()
    assert [one.get("problem") for one in answer["items"]] == [None, None]


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"{", {}, 400, "bad_request"),
        (b"\xff", {}, 400, "bad_request"),
        (b'{"statements":[]}', {"content-type": "text/plain"}, 415, "media_type_refused"),
        (b'{"statements":[]}', {"authorization": "Bearer x"}, 401, "unauthenticated"),
        (b" " * (9 * 1024 * 1024), {}, 413, "too_much"),
    ],
)
def test_a_request_that_cannot_be_read_is_a_problem(
    client: Client,
    made: Made,
    body: bytes,
    headers: dict[str, str],
    status: int,
    code: str,
) -> None:
    """Malformed, foreign, unauthenticated and oversized requests are told apart."""
    sent = {**bearer(made.tokens["county-a"]), "content-type": "application/json"}
    lower = {name.lower(): value for name, value in sent.items()}
    answer = client.post("/v1/captures", content=body, headers={**lower, **headers})
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["instance"] == f"urn:uuid:{answer.headers['x-request-id']}"


def test_wrong_addresses_and_methods_are_problems(client: Client, made: Made) -> None:
    """404 and 405 have the same form as everything else."""
    missing = client.get("/v1/nothing")
    method = client.delete("/v1/captures", headers=bearer(made.tokens["county-a"]))
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
    assert (method.status_code, method.json()["code"]) == (405, "method_not_allowed")
    assert "POST" in method.headers["allow"]


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=x",
        "cursor=%21",
        "content=gone",
        "session=1",
        "received_from=1",
        "received_from=-1.5",
        "received_from=",
        "received_until=1e3",
        "received_until=2026-11-23",
        "received_until=2026-11-23T09:00:00",
        "received_until=2026-11-23 09:00:00Z",
        "received_until=2026-13-23T09:00:00Z",
        "received_until=2026-11-23T09:00:60Z",
        "received_from=0001-01-01T00:00:00%2B08:00",
    ],
)
def test_a_query_out_of_bounds_is_named(client: Client, made: Made, query: str) -> None:
    """422 with the parameter's name."""
    answer = get(client, made, f"/v1/captures?{query}")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    assert answer.json()["errors"][0]["parameter"] == query.partition("=")[0]


def test_content_nobody_announced_is_unknown(client: Client, made: Made) -> None:
    """Whatever the id looks like."""
    for capture in ("00" * 32, "..%2F..%2Fetc", "x"):
        assert send(client, made, capture).json()["code"] in {"capture_unknown", "not_found"}


def test_a_name_with_steps_in_it_never_becomes_a_path(client: Client, made: Made) -> None:
    """The claimed name stays inside the statement."""
    party = made.parties["county-a"]
    signed = party.sign(
        "capture",
        {
            "content": {
                "sha256": hashlib.sha256(PHOTO).hexdigest(),
                "size_bytes": len(PHOTO),
                "media_type": "image/jpeg",
                "name": "../../etc/passwd",
            },
            "mode": "import",
            "captured_at": "2026-11-23T01:04:05.678Z",
        },
    )
    announce(client, made, signed)
    assert send(client, made, signed.id).status_code == 201
    assert list(made.settings.folder.rglob("*passwd*")) == []


def test_no_byte_is_taken_below_the_disk_s_reserve(tmp_path: Path) -> None:
    """507 before anything is read, and the reserve shows in the readiness."""
    made = make_deployment(tmp_path / "deployment", disk_reserve_bytes=2**60)
    with TestClient(create_app(made.settings)) as client:
        signed = made.parties["county-a"].capture()
        announce(client, made, signed)
        answer = send(client, made, signed.id)
        ready = client.get("/readyz")
    assert (answer.status_code, answer.json()["code"]) == (507, "disk_reserve_reached")
    assert (ready.status_code, ready.json()["failed"]) == (503, ["disk_reserve"])


@pytest.mark.parametrize("name", ["sha-512", "md5", "SHA-256"])
def test_a_digest_that_nobody_would_check_is_refused(client: Client, made: Made, name: str) -> None:
    """A sender who asks for another algorithm alone is told which one is checked."""
    signed = made.parties["county-a"].capture()
    announce(client, made, signed)
    digest = base64.b64encode(hashlib.sha512(PHOTO).digest()).decode()
    answer = send(client, made, signed.id, digest=f"{name}=:{digest}:")
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
    right = base64.b64encode(hashlib.sha256(PHOTO).digest()).decode()
    both = f"sha-512=:{digest}:, sha-256=:{right}:"
    assert send(client, made, signed.id, digest=both).status_code == 201


@pytest.mark.parametrize("stored", [False, True])
def test_a_repeat_that_says_it_is_another_content_is_refused(
    client: Client, made: Made, stored: bool
) -> None:
    """Once content has arrived, a digest or length that is not its own is told to be wrong."""
    signed = made.parties["county-a"].capture()
    announce(client, made, signed)
    assert send(client, made, signed.id).status_code == 201
    if stored:
        wait_until_stored(client, made, signed.id)
    other = base64.b64encode(hashlib.sha256(b"other").digest()).decode()
    answers = [
        send(client, made, signed.id, digest=f"sha-256=:{other}:"),
        send(client, made, signed.id, PHOTO + b"more"),
        send(client, made, signed.id, PHOTO[:-1]),
    ]
    assert [(one.status_code, one.json()["code"]) for one in answers] == [
        (422, "digest_mismatch"),
        (413, "content_too_large"),
        (422, "content_truncated"),
    ]
    assert custody(client, made, signed.id) == []
    assert send(client, made, signed.id).status_code == 200


def test_what_is_announced_too_large_is_refused_at_once(client: Client, made: Made) -> None:
    """Before the sender begins a transfer that cannot end well."""
    signed = made.parties["county-a"].capture(size_bytes=2**39)
    assert refused(client, made, signed) == "content_refused"
    assert wire(signed)["statements"]
