"""Any node takes announcements: several web nodes, one leader for each log, faults among them."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from storage.log.leading import LEASE_S
from tests.postgres import PostgresServer, embedded_binaries, running
from tests.service.deployment_maker import ORGANS, PHOTO, bearer
from tests.service.nodes import Nodes, until
from tests.service.retention_maker import give_tokens
from tests.service.server_process import ServerProcess

FIRST, SECOND = ORGANS
pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def nodes(
    postgres: PostgresServer, other_postgres: PostgresServer, tmp_path: Path
) -> Iterator[Nodes]:
    """A deployment of two organs; no node runs yet."""
    with Nodes(postgres, other_postgres, tmp_path) as nodes:
        yield nodes


def urls_of(*processes: ServerProcess) -> list[str]:
    """Their addresses."""
    return [one.url for one in processes]


def test_every_node_takes_announcements_of_every_organ(nodes: Nodes) -> None:
    """Three nodes, two organs: each answer has its proof, and nobody is sent away."""
    first, second, third = nodes.node(), nodes.node(), nodes.node()
    for organ in ORGANS:
        assert nodes.leader(organ, [first, second, third]) is first
        for node in (first, second, third):
            assert nodes.announce(node, organ, nodes.made.parties[organ].capture()) != []
    nodes.load({FIRST: urls_of(second), SECOND: urls_of(third)}, 2)
    nodes.load({FIRST: urls_of(first), SECOND: urls_of(first)}, 1)
    until(lambda: min(map(len, nodes.ledger.by_phone.values())) > 5)
    nodes.quieten()
    nodes.audit()
    assert nodes.ledger.refused == []
    nodes.fsck()


def test_a_repeat_and_a_refusal_are_the_same_bytes_at_every_node(nodes: Nodes) -> None:
    """First receipts, and problems, are answered alike by leader and followers."""
    first, second = nodes.node(), nodes.node()
    party = nodes.made.parties[FIRST]
    good = party.capture()
    revoked = party.enrol(party.device, "device", "device-017")  # it is enrolled already
    unknown = type(party)(organ=FIRST).capture()
    with httpx.Client(timeout=30.0) as http:
        answers = [
            nodes.post(http, node.url, FIRST, good, revoked, unknown).content
            for node in (second, first, second)
        ]
    assert answers[0] == answers[1] == answers[2]
    assert b"key_chain_broken" in answers[0]
    assert b"key_unknown" in answers[0]
    assert b"inclusion_proof" in answers[0]


def test_a_key_that_another_node_logged_is_known(nodes: Nodes) -> None:
    """Enrolled at the follower, used at the follower at once, and at a third node."""
    _, second, third = nodes.node(), nodes.node(), nodes.node()
    party = nodes.made.parties[FIRST]
    device = type(party)(organ=FIRST).device
    enrolled = party.enrol(device, "device", "device-018")
    with httpx.Client(timeout=30.0) as http:
        said = nodes.post(http, second.url, FIRST, enrolled).json()
        assert "inclusion_proof" in said["items"][0]
        for node in (second, third):
            signed = party.capture(signer=device)
            [item] = nodes.post(http, node.url, FIRST, signed).json()["items"]
            assert item["id"] == signed.id


def test_a_follower_shows_what_the_leader_logged(nodes: Nodes) -> None:
    """Announced at one node, shown and proven at the other, with checkpoint and tiles."""
    first, second = nodes.node(), nodes.node()
    signed = nodes.made.parties[FIRST].capture()
    [index] = nodes.announce(first, FIRST, signed)
    with httpx.Client(headers=bearer(nodes.made.tokens[FIRST]), timeout=30.0) as http:
        shown = [http.get(f"{one.url}/v1/captures/{signed.id}") for one in (first, second)]
        assert [one.status_code for one in shown] == [200, 200]
        proofs = [http.get(f"{one.url}/v1/captures/{signed.id}/proof") for one in (first, second)]
        assert proofs[0].content == proofs[1].content
        log = f"/logs/{FIRST}-2026"

        def published(node: ServerProcess) -> bytes:
            """The checkpoint, once it covers the capture."""
            answer = http.get(f"{node.url}{log}/checkpoint")
            covers = answer.status_code == 200 and int(answer.text.split("\n")[1]) > index
            return answer.content if covers else b""

        assert until(lambda: published(first)) == until(lambda: published(second))
        width = index + 1
        tiles = [http.get(f"{one.url}{log}/tile/0/000.p/{width}") for one in (first, second)]
        assert tiles[0].status_code == 200
        assert tiles[0].content == tiles[1].content


def test_a_disposal_is_decided_where_the_log_is_led(nodes: Nodes) -> None:
    """Every step is taken at a node that does not lead; holds and persons count there as well."""
    first, second = nodes.node(), nodes.node()
    assert nodes.leader(FIRST, [first, second]) is first
    give_tokens(nodes.made)
    capture = nodes.made.parties[FIRST].capture(PHOTO)
    nodes.announce(second, FIRST, capture)
    path = f"/v1/captures/{capture.id}"
    with httpx.Client(timeout=30.0) as http:

        def step(who: str, method: str, below: str, **body: Any) -> httpx.Response:  # noqa: ANN401
            """A request of one person at the node that follows."""
            headers = bearer(nodes.made.tokens[f"{who}@{FIRST}"])
            return http.request(method, f"{second.url}{path}{below}", headers=headers, **body)

        def come_to(state: str) -> None:
            """Wait for the content to come so far."""
            until(lambda: step("clerk", "GET", "").json()["content"]["state"] == state)

        held = {"reason": "legal_hold", "reference": "case-7"}
        wish = {"reason": "purpose_met", "authority": "个人信息保护法 第47条"}
        headers = bearer(nodes.made.tokens[FIRST])
        sent = http.put(f"{first.url}{path}/content", content=PHOTO, headers=headers)
        assert sent.status_code == 201
        come_to("stored")
        done = step("jurist", "POST", "/retention", json={**held, "action": "hold"})
        assert (done.status_code, done.json()["holds"]) == (200, ["case-7"])
        refused = step("clerk", "POST", "/disposal", json=wish)
        assert (refused.status_code, refused.json()["code"]) == (409, "on_hold")
        done = step("jurist", "POST", "/retention", json={**held, "action": "release"})
        assert (done.status_code, done.json()["holds"]) == (200, [])
        asked = step("clerk", "POST", "/disposal", json=wish).json()["request"]
        approval = {"request": asked, "reason": "checked"}
        alone = step("clerk", "POST", "/disposal/approvals", json=approval)
        assert (alone.status_code, alone.json()["code"]) == (403, "same_person")
        for who in ("head", "jurist"):
            done = step(who, "POST", "/disposal/approvals", json=approval)
            assert done.status_code == 200, done.text
        come_to("disposed")
        assert step("head", "GET", "/content").json()["code"] == "disposed"
    nodes.fsck()


def test_a_killed_leader_is_followed_within_two_leases(nodes: Nodes) -> None:
    """Under load: nothing acknowledged is lost, nothing is twice, what waits is answered."""
    first, second = nodes.node(), nodes.node()
    nodes.load([urls_of(second, first), urls_of(first, second)], 2)
    until(lambda: len(nodes.ledger.all) > 20)
    first.kill()
    killed_at = time.monotonic()
    until(lambda: len(nodes.ledger.since(killed_at + 1.0)) > 20)
    led_at = min(one.at for one in nodes.ledger.since(killed_at + 1.0))
    nodes.quieten()
    assert led_at - killed_at < 2 * LEASE_S
    assert nodes.leader(FIRST, [second]) is second
    assert nodes.state(second, FIRST)["epoch"] > 1
    nodes.audit()
    nodes.fsck()


def test_a_paused_leader_comes_back_as_a_follower(nodes: Nodes) -> None:
    """Stopped beyond its lease it signs nothing more, and takes announcements for the other."""
    first, second = nodes.node(), nodes.node()
    nodes.load([urls_of(second)], 2)
    until(lambda: len(nodes.ledger.all) > 10)
    os.kill(first.pid, signal.SIGSTOP)
    assert nodes.leader(FIRST, [second]) is second
    os.kill(first.pid, signal.SIGCONT)
    until(lambda: nodes.state(first, FIRST).get("leads") is False)
    until(lambda: str(nodes.state(first, FIRST).get("leader")).startswith("web-2 "))
    nodes.load([urls_of(first)], 2)
    at = time.monotonic()
    until(lambda: len(nodes.ledger.since(at)) > 20)
    nodes.quieten()
    nodes.audit()
    nodes.fsck()


def test_two_nodes_that_start_at_once_agree(nodes: Nodes) -> None:
    """One of them leads each log, the other follows, and both take announcements."""
    both = [nodes.node(start=False), nodes.node(start=False)]
    for one in both:
        one.launch()
    for one in both:
        one.wait()
    for organ in ORGANS:
        until(lambda o=organ: sum(bool(nodes.state(one, o).get("leads")) for one in both) == 1)
        for one in both:
            nodes.announce(one, organ, nodes.made.parties[organ].capture())
    nodes.fsck()


def test_a_killed_follower_takes_nobody_along(nodes: Nodes) -> None:
    """Its clients go to the other node; what it had handed on is logged once or not at all."""
    first, second = nodes.node(), nodes.node()
    nodes.load([urls_of(second, first)], 4)
    until(lambda: len(nodes.ledger.all) > 20)
    second.kill()
    at = time.monotonic()
    until(lambda: len(nodes.ledger.since(at)) > 20)
    nodes.quieten()
    nodes.audit()
    nodes.fsck()


def test_the_database_comes_back(other_postgres: PostgresServer, tmp_path: Path) -> None:
    """A crash of the server under load: both nodes stay, and everything promised is there."""
    with (
        running(embedded_binaries()) as server,
        Nodes(server, other_postgres, tmp_path) as nodes,
    ):
        first, second = nodes.node(), nodes.node()
        nodes.load([urls_of(first), urls_of(second)], 2)
        until(lambda: len(nodes.ledger.all) > 20)
        server.crash()
        at = time.monotonic()
        until(lambda: len(nodes.ledger.since(at)) > 20)
        nodes.quieten()
        for one in (first, second):
            one.require_alive()
        nodes.audit()
        nodes.fsck()
