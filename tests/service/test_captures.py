"""From announcement to stored content: the routes of captures, end to end."""

import base64
import hashlib
import json
import time
from datetime import datetime, timedelta, timezone
from typing import Any

import httpx
import pytest
from litestar.testing import TestClient

from evidence.keys import P256Signer
from evidence.leaf import leaf_of
from evidence.merkle import hash_leaf, verify_inclusion
from evidence.statement import SignedStatement
from evidence.tlog.checkpoint import open_checkpoint
from evidence.tlog.proof import parse_tlog_proof
from service.key_files import log_signer
from tests.service.deployment_maker import PHOTO, Made, bearer, wire

Client = TestClient[Any]


def announce(
    client: Client, made: Made, *signed: SignedStatement, organ: str = "county-a"
) -> httpx.Response:
    """Announce as an organ's officer."""
    return client.post("/v1/captures", json=wire(*signed), headers=bearer(made.tokens[organ]))


def send(
    client: Client,
    made: Made,
    capture: str,
    content: bytes = PHOTO,
    digest: str | None = None,
) -> httpx.Response:
    """Send content as county-a's officer."""
    return client.put(
        f"/v1/captures/{capture}/content",
        content=content,
        headers=bearer(made.tokens["county-a"]) | ({"Content-Digest": digest} if digest else {}),
    )


def get(client: Client, made: Made, path: str, organ: str = "county-a") -> httpx.Response:
    """GET as an organ's officer."""
    return client.get(path, headers=bearer(made.tokens[organ]))


def wait_until_stored(client: Client, made: Made, capture: str) -> None:
    """Wait for the ingest of a capture."""
    for _ in range(200):
        state = get(client, made, f"/v1/captures/{capture}").json()["content"]["state"]
        if state == "stored":
            return
        time.sleep(0.05)
    raise AssertionError("the content was not stored in ten seconds")


def seal(client: Client, made: Made, content: bytes = PHOTO, media_type: str = "image/jpeg") -> str:
    """Announce, send and wait; returns the capture's id."""
    signed = made.parties["county-a"].capture(content, media_type=media_type)
    assert announce(client, made, signed).status_code == 200
    assert send(client, made, signed.id, content).status_code == 201
    wait_until_stored(client, made, signed.id)
    return signed.id


def test_a_receipt_leads_from_the_statement_to_a_signed_checkpoint(
    client: Client, made: Made
) -> None:
    """Index, proof and checkpoint of the answer prove the leaf under the log's own keys."""
    signed = made.parties["county-a"].capture()
    answer = announce(client, made, signed).json()
    [item] = answer["items"]
    note = answer["checkpoints"][str(item["tree_size"])].encode()
    keys = log_signer(made.settings, made.deployment.organs[0].log).verifier_keys
    tree = open_checkpoint(note, keys).checkpoint
    leaf = hash_leaf(
        leaf_of(signed.id, signed.signature, made.parties["county-a"].device.public_key)
    )
    proof = [base64.b64decode(one) for one in item["inclusion_proof"]]
    verify_inclusion(leaf, item["index"], tree.size, proof, tree.root)
    assert (item["id"], item["log"]) == (signed.id, "fengni.example/county-a-2026")


def test_the_same_request_gives_the_same_bytes(client: Client, made: Made) -> None:
    """Also after the log has grown, and after a batch that repeats an item."""
    party = made.parties["county-a"]
    first = [party.capture(b"one"), party.capture(b"two")]
    answer = announce(client, made, *first).content
    announce(client, made, party.capture(b"three"))
    assert announce(client, made, *first).content == answer


def test_one_bad_item_does_not_sink_the_rest(client: Client, made: Made) -> None:
    """Each item gets its own receipt or problem, in request order."""
    party = made.parties["county-a"]
    good, stranger = party.capture(), party.capture(signer=P256Signer.generate())
    body = wire(good, stranger, party.capture(b"other"))
    body["statements"].insert(1, {"statement": "QQ=="})  # type: ignore[attr-defined]
    answer = client.post("/v1/captures", json=body, headers=bearer(made.tokens["county-a"]))
    codes = [one.get("problem", {}).get("code", "logged") for one in answer.json()["items"]]
    assert codes == ["logged", "field_missing", "key_unknown", "logged"]


def test_content_is_sealed(client: Client, made: Made) -> None:
    """Announced, received and stored content is an object, and the server stated it."""
    capture = seal(client, made)
    view = get(client, made, f"/v1/captures/{capture}").json()
    outcomes = {rung["rung"]: rung["outcome"] for rung in view["ladder"]}
    assert outcomes == {
        "claimed": "pass",
        "signed": "pass",
        "received": "pass",
        "logged": "pass",
        "witnessed": "cannot_confirm",
        "time_stamped": "cannot_confirm",
        "stored": "pass",
        "reviewed": "not_checked",
    }


def test_content_comes_back_as_it_was_sent(client: Client, made: Made) -> None:
    """As an attachment under a name of ours, with its digest, and nothing to guess."""
    capture = seal(client, made)
    answer = get(client, made, f"/v1/captures/{capture}/content")
    digest = base64.b64encode(hashlib.sha256(PHOTO).digest()).decode()
    assert answer.content == PHOTO
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["content-disposition"] == (
        f'attachment; filename="capture-{capture[:16]}.jpg"'
    )
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.headers["repr-digest"] == f"sha-256=:{digest}:"


def test_a_type_that_browsers_run_is_served_as_octets(client: Client, made: Made) -> None:
    """What calls itself SVG or HTML is never served under that name."""
    capture = seal(client, made, b"<svg onload='x'/>", media_type="image/svg+xml")
    answer = get(client, made, f"/v1/captures/{capture}/content")
    assert answer.headers["content-type"] == "application/octet-stream"


def test_a_range_is_a_part(client: Client, made: Made) -> None:
    """First bytes, last bytes, and a range beyond the end."""
    capture = seal(client, made)
    path, headers = f"/v1/captures/{capture}/content", bearer(made.tokens["county-a"])
    head = client.get(path, headers={**headers, "Range": "bytes=0-3"})
    tail = client.get(path, headers={**headers, "Range": "bytes=-2"})
    beyond = client.get(path, headers={**headers, "Range": "bytes=9999-"})
    assert (head.status_code, head.content) == (206, PHOTO[:4])
    assert head.headers["content-range"] == f"bytes 0-3/{len(PHOTO)}"
    assert (tail.status_code, tail.content) == (206, PHOTO[-2:])
    assert (beyond.status_code, beyond.json()["code"]) == (416, "range_refused")
    assert beyond.headers["content-range"] == f"bytes */{len(PHOTO)}"


def custody(client: Client, made: Made, capture: str) -> list[str]:
    """The custody events about a capture, in the order of the log."""
    items = get(client, made, f"/v1/captures/{capture}/statements").json()["items"]
    texts = [base64.b64decode(one["statement"]) for one in items if one["kind"] == "custody"]

    return [json.loads(text)["body"]["event"] for text in texts]


def test_a_reading_is_logged_once_for_each_quarter_of_an_hour(client: Client, made: Made) -> None:
    """Three readings by one officer are one statement."""
    capture = seal(client, made)
    for _ in range(3):
        get(client, made, f"/v1/captures/{capture}/content")
    assert custody(client, made, capture) == ["viewed"]


def test_a_second_transfer_of_stored_content_changes_nothing(client: Client, made: Made) -> None:
    """It is answered 200 with the first arrival's facts."""
    signed = made.parties["county-a"].capture()
    announce(client, made, signed)
    first = send(client, made, signed.id)
    wait_until_stored(client, made, signed.id)
    again = send(client, made, signed.id)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()


def test_an_answer_before_the_body_ends_the_connection(client: Client, made: Made) -> None:
    """Bytes that nobody reads stay in the connection: the sender is told not to use it again."""
    signed = made.parties["county-a"].capture()
    announce(client, made, signed)
    first = send(client, made, signed.id)
    again = send(client, made, signed.id)
    unknown = send(client, made, made.parties["county-a"].capture().id)
    assert [one.headers.get("connection") for one in (first, again, unknown)] == [
        None,
        "close",
        "close",
    ]


def test_zero_bytes_are_content(client: Client, made: Made) -> None:
    """An empty file is stored like any other."""
    capture = seal(client, made, b"")
    assert get(client, made, f"/v1/captures/{capture}/content").content == b""


def test_wrong_bytes_are_kept_aside_and_told(client: Client, made: Made) -> None:
    """The sender learns it, the log says it, the right bytes are still taken."""
    signed = made.parties["county-a"].capture()
    announce(client, made, signed)
    wrong = send(client, made, signed.id, PHOTO[:-1] + b"?")
    short = send(client, made, signed.id, PHOTO[:-1])
    assert (wrong.status_code, wrong.json()["code"]) == (422, "digest_mismatch")
    assert (short.status_code, short.json()["code"]) == (422, "content_truncated")
    assert custody(client, made, signed.id) == ["quarantined", "quarantined"]
    kept = (made.settings.folder / "staging" / "quarantine").iterdir()
    assert sorted(path.name.rpartition(".")[2] for path in kept) == [
        "content_truncated",
        "digest_mismatch",
    ]
    assert send(client, made, signed.id).status_code == 201


def test_more_bytes_than_announced_are_refused(client: Client, made: Made) -> None:
    """By Content-Length before a byte is taken; without one once they pass the size."""
    signed = made.parties["county-a"].capture()
    announce(client, made, signed)
    told = send(client, made, signed.id, PHOTO + b"more")
    streamed = client.put(
        f"/v1/captures/{signed.id}/content",
        content=iter([PHOTO, b"more"]),
        headers=bearer(made.tokens["county-a"]),
    )
    assert (told.status_code, told.json()["code"]) == (413, "content_too_large")
    assert (streamed.status_code, streamed.json()["code"]) == (413, "content_too_large")


def test_content_digest_is_honoured(client: Client, made: Made) -> None:
    """A header that the bytes do not fit is a mismatch, a malformed one a bad request."""
    signed = made.parties["county-a"].capture()
    announce(client, made, signed)
    other = base64.b64encode(hashlib.sha256(b"other").digest()).decode()
    mismatch = send(client, made, signed.id, digest=f"sha-256=:{other}:")
    malformed = send(client, made, signed.id, digest="sha-256=:AAAA:")
    right = base64.b64encode(hashlib.sha256(PHOTO).digest()).decode()
    assert mismatch.json()["code"] == "digest_mismatch"
    assert malformed.json()["code"] == "bad_request"
    taken = send(client, made, signed.id, digest=f"sha-256=:{right}:")
    assert taken.status_code == 201


def test_wrong_bytes_fill_no_disk_and_shut_nothing_out(client: Client, made: Made) -> None:
    """Eight failed transfers are kept, later ones are not; the right bytes are always taken."""
    signed = made.parties["county-a"].capture()
    announce(client, made, signed)
    codes = [send(client, made, signed.id, b"%d" % n).json()["code"] for n in range(11)]
    aside = made.settings.folder / "staging" / "quarantine"
    assert codes == ["content_truncated"] * 11
    assert len(list(aside.iterdir())) == 8
    assert send(client, made, signed.id).status_code == 201


@pytest.mark.parametrize("body", [b"[" * 200_000, b'{"statements":[' + b"[" * 9_000])
def test_a_body_that_is_nested_too_deeply_is_named(client: Client, made: Made, body: bytes) -> None:
    """The JSON reader's own limit is the sender's fault, not ours."""
    headers = bearer(made.tokens["county-a"]) | {"Content-Type": "application/json"}
    answer = client.post("/v1/captures", content=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")


def test_another_organ_s_capture_is_not_there(client: Client, made: Made) -> None:
    """Nothing tells a stranger that it exists."""
    capture = seal(client, made)
    answers = [
        get(client, made, f"/v1/captures/{capture}{part}", "county-b")
        for part in ("", "/content", "/proof", "/bundle", "/statements")
    ]
    answers.append(
        client.put(
            f"/v1/captures/{capture}/content",
            content=PHOTO,
            headers=bearer(made.tokens["county-b"]),
        )
    )
    assert {(one.status_code, one.json()["code"]) for one in answers} == {(404, "capture_unknown")}
    assert get(client, made, "/v1/captures", "county-b").json()["items"] == []


def test_a_statement_of_another_organ_is_refused(client: Client, made: Made) -> None:
    """County B's token does not log in county A's name, nor with county A's device."""
    answer = announce(client, made, made.parties["county-a"].capture(), organ="county-b")
    assert answer.json()["items"][0]["problem"]["code"] == "key_unknown"


def test_the_proof_file_is_the_receipt(client: Client, made: Made) -> None:
    """`.tlog-proof` is the receipt; a witnessed one is not there yet."""
    signed = made.parties["county-a"].capture()
    answer = announce(client, made, signed).json()
    proof = parse_tlog_proof(get(client, made, f"/v1/captures/{signed.id}/proof").content)
    [item] = answer["items"]
    assert proof.index == item["index"]
    assert proof.checkpoint.decode() == answer["checkpoints"][str(item["tree_size"])]
    pending = get(client, made, f"/v1/captures/{signed.id}/proof?min=witnessed")
    assert (pending.status_code, pending.json()["code"]) == (409, "proof_pending")
    assert int(pending.headers["retry-after"]) > 0


def test_a_bundle_waits_for_its_token(client: Client, made: Made) -> None:
    """409 with Retry-After before the time-stamp is there."""
    capture = seal(client, made)
    pending = get(client, made, f"/v1/captures/{capture}/bundle")
    assert (pending.status_code, pending.json()["code"]) == (409, "bundle_pending")
    assert int(pending.headers["retry-after"]) > 0


def test_lists_are_paged(client: Client, made: Made) -> None:
    """Every capture comes once, newest first, over as many pages as it takes."""
    party = made.parties["county-a"]
    signed = [party.capture(b"%d" % number) for number in range(5)]
    announce(client, made, *signed)
    seen: list[str] = []
    cursor = ""
    while cursor is not None:
        query = f"?limit=2&cursor={cursor}" if cursor else "?limit=2"
        page = get(client, made, f"/v1/captures{query}").json()
        seen += [one["id"] for one in page["items"]]
        cursor = page["next"]
    assert seen == [one.id for one in reversed(signed)]


def test_a_list_is_bounded_by_times_of_any_zone(client: Client, made: Made) -> None:
    """From is inclusive, and 09:00+08:00 is the same instant as 01:00Z."""
    signed = made.parties["county-a"].capture()
    announce(client, made, signed)
    [item] = get(client, made, "/v1/captures").json()["items"]
    at = datetime.fromisoformat(item["received_at"])
    there = at.astimezone(timezone(timedelta(hours=8))).isoformat().replace("+", "%2B")
    later = (at + timedelta(days=1)).isoformat().replace("+00:00", "Z")
    found = [
        [one["id"] for one in get(client, made, f"/v1/captures?{query}").json()["items"]]
        for query in (f"received_from={there}", f"received_from={later}", f"received_until={later}")
    ]
    assert found == [[signed.id], [], [signed.id]]
