"""Clients that work against a server until it is gone, and write down what they were answered.

Each is one thread with one connection: some announce, one statement or many at a time, some send
contents (and repeat, resume, or get them wrong), one reads and exports. A connection that breaks
ends a client; only a kill may break one.
"""

import hashlib
import json
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import httpx

from evidence.statement import SignedStatement
from tests.crash.ledger import Announced, Ledger, Sending, content_of
from tests.service.deployment_maker import Party, bearer, wire

TIMEOUT_S = 120.0
IDLE_S = 5.0
"""A server may close a connection on which it heard nothing for longer (10 s here)."""

PAUSE_S = 0.005
SMALLEST_BYTES = 1024
LARGEST_BYTES = 3 * 1024 * 1024
MOST_IN_BATCH = 60


@dataclass(frozen=True, kw_only=True)
class Load:
    """Where clients send to, as whom, and where they write down what they hear."""

    url: str
    token: str
    party: Party
    ledger: Ledger

    def finish(self) -> None:
        """Announce and send, one after the other, what nobody was answered for yet."""
        client = Client(self, "finish", _send)
        with client.http:
            for sending in self.ledger.unsent:
                client.announce([sending.signed])
                client.hand_in(sending)
        self.ledger.unsent.clear()

    def begin(self, seed: str) -> "Running":
        """Let all clients work at once.

        Args:
            seed: of everything that they choose.
        """
        acts = [_announce_one, _announce_one, _announce_many, _send, _send, _send, _read]
        return Running([Client(self, f"{seed} {number}", act) for number, act in enumerate(acts)])


class Connection:
    """A connection that no server may break, unless it was left idle: then it is opened anew."""

    def __init__(self, url: str, token: str) -> None:
        """Connect to nothing yet."""
        headers = {**bearer(token), "Content-Type": "application/json"}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT_S)
        self._used_at = time.monotonic()

    def __enter__(self) -> Self:
        """Leaving closes it."""
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        document: dict[str, Any] | None = None,
    ) -> httpx.Response:
        """Ask, and wait for the whole answer.

        Raises:
            httpx.TransportError: the connection broke, or nobody listens.
        """
        try:
            answer = self._http.request(method, path, content=content, json=document)
        except httpx.TransportError:
            if time.monotonic() - self._used_at < IDLE_S:
                raise
            answer = self._http.request(method, path, content=content, json=document)
        self._used_at = time.monotonic()
        return answer


class Client:
    """One thread with one connection."""

    def __init__(self, load: Load, seed: str, act: Callable[["Client"], None]) -> None:
        """Connect to nothing yet."""
        self.ledger = load.ledger
        self.party = load.party
        self.chance = random.Random(seed)
        self.http = Connection(load.url, load.token)
        self._act = act
        self.gone = threading.Event()
        self.thread = threading.Thread(target=self._work, name=seed)

    def fault(self, what: str, answer: httpx.Response) -> None:
        """Write down an answer that no server may give here."""
        self.ledger.faults.append(f"{what}: {answer.status_code} {answer.text[:500]}")

    def announce(self, signed: list[SignedStatement]) -> None:
        """Announce captures; all must be answered for."""
        self.ledger.tried.update(one.id for one in signed)
        request = json.dumps(wire(*signed)).encode()
        answer = self.http.request("POST", "/v1/captures", content=request)
        if answer.status_code != 200 or b'"problem"' in answer.content:
            self.fault("announcement", answer)
            return
        self.ledger.announced.append(
            Announced(signed=tuple(signed), request=request, answer=answer.content)
        )

    def put(self, sending: Sending, content: bytes) -> httpx.Response:
        """Send content."""
        path = f"/v1/captures/{sending.signed.id}/content"
        return self.http.request("PUT", path, content=content)

    def hand_in(self, sending: Sending) -> None:
        """Send content that must be taken; if it was taken before, the answer is the same."""
        capture = sending.signed.id
        answer = self.put(sending, sending.content)
        if answer.status_code not in {200, 201}:
            self.fault("content", answer)
            return
        known = self.ledger.taken.setdefault(capture, (sending, answer.json()))
        if known[1] != answer.json():
            self.fault("content sent again", answer)

    def _work(self) -> None:
        with self.http:
            try:
                while not self.gone.is_set():
                    self._act(self)
            except httpx.TransportError as error:
                if not self.gone.wait(5):  # whoever kills says so right after
                    self.ledger.faults.append(f"a connection broke: {error!r}")


class Running:
    """Clients at work."""

    def __init__(self, clients: list[Client]) -> None:
        """Let them begin."""
        self._clients = clients
        for client in clients:
            client.thread.start()

    def end(self) -> None:
        """The server was just killed: return when every client has noticed."""
        for client in self._clients:
            client.gone.set()
        for client in self._clients:
            client.thread.join()


def _announce_one(client: Client) -> None:
    client.announce([_bare(client)])
    time.sleep(PAUSE_S)


def _announce_many(client: Client) -> None:
    """New ones, and among them some that were answered for before."""
    signed = [_bare(client) for _ in range(client.chance.randrange(2, MOST_IN_BATCH))]
    earlier = client.ledger.announced[-1].signed if client.ledger.announced else ()
    signed[1:1] = earlier[:2]
    client.announce(signed)
    time.sleep(PAUSE_S)


def _send(client: Client) -> None:
    """Resume what another client could not finish, or begin anew."""
    ledger, chance = client.ledger, client.chance
    try:
        sending = ledger.unsent.pop()
    except IndexError:
        sending = _fresh(client)
    try:
        client.announce([sending.signed])
        if chance.random() < 0.1:
            _send_wrong(client, sending)
        client.hand_in(sending)
        if chance.random() < 0.2:
            client.hand_in(sending)
    except httpx.TransportError:
        ledger.unsent.append(sending)
        raise


def _send_wrong(client: Client, sending: Sending) -> None:
    """As many bytes, but others: they are kept aside."""
    wrong = content_of(f"{sending.seed} {client.chance.random()}", sending.size_bytes)
    name = (sending.signed.id, hashlib.sha256(wrong).hexdigest())
    client.ledger.wrong.add(name)
    answer = client.put(sending, wrong)
    if answer.status_code == 422:
        client.ledger.aside.add(name)
    elif answer.status_code != 200:  # the right ones came before the kill: nothing is read
        client.fault("wrong content", answer)


def _read(client: Client) -> None:
    """Read a content that was taken, now and then export some."""
    ledger, chance = client.ledger, client.chance
    time.sleep(PAUSE_S * 4)
    if not ledger.taken:
        return
    known = list(ledger.taken)
    capture = chance.choice(known[-40:])
    answer = client.http.request("GET", f"/v1/captures/{capture}/content")
    if answer.status_code == 200:
        ledger.viewed.add(capture)
        if hashlib.sha256(answer.content).hexdigest() != ledger.taken[capture][1]["sha256"]:
            ledger.faults.append(f"other bytes were read of {capture}")
    elif answer.status_code != 409:  # not stored yet
        client.fault("reading", answer)
    if chance.random() < 0.1 or not ledger.exported:  # one at least, in however few rounds
        _export(client, chance.sample(known, min(len(known), 2)))


def _export(client: Client, captures: list[str]) -> None:
    answer = client.http.request("POST", "/v1/exports", document={"captures": captures})
    if answer.status_code == 201:
        client.ledger.exported[answer.json()["id"]] = captures
    elif answer.status_code != 409:
        client.fault("export", answer)


def _bare(client: Client) -> SignedStatement:
    """A capture whose content will never be sent."""
    return client.party.capture(client.chance.randbytes(8))


def _fresh(client: Client) -> Sending:
    """A capture with content of any size, most of them small; some have the same content."""
    seed = client.chance.randbytes(8).hex()
    share = client.chance.random() ** 2
    if client.chance.random() < 0.1:
        seed, share = "twins", 0.5
    size_bytes = int(SMALLEST_BYTES * (LARGEST_BYTES / SMALLEST_BYTES) ** share)
    return Sending(
        signed=client.party.capture(content_of(seed, size_bytes)), seed=seed, size_bytes=size_bytes
    )
