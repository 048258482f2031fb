"""Phones and drones at work against a cluster on which things go wrong.

Unlike the clients of tests/crash, these outlive every fault: what was not answered is sent again,
the same bytes, until it is. What they were answered goes into a ledger; nothing here asks the
server what it knows.
"""

import hashlib
import json
import random
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from evidence.keys import P256Signer
from evidence.statement import SignedStatement
from tests.crash.ledger import Announced, Ledger, Sending, content_of
from tests.service.deployment_maker import Party, bearer, wire

PATIENCE_S = 180.0
PAUSE_S = 0.3
TIMEOUT_S = 30.0
AGAIN = frozenset({429, 502, 503, 504, 507})
"""Nothing was promised; the same request may be sent again."""

LARGEST_BYTES = 1_500_000
DRONE_SHOTS = 40
LATE_S = 8.0


@dataclass(kw_only=True)
class FieldParty(Party):
    """The trial's device, in whose deployment statements are made."""

    audience: str

    def sign(self, kind: str, body: Any, **options: Any) -> SignedStatement:  # noqa: ANN401
        """Make and sign a statement for this deployment."""
        options.setdefault("audience", self.audience)
        return super().sign(kind, body, **options)


def party_of(folder: Path) -> tuple[FieldParty, str]:
    """The device that a trial enrolled, and its token."""
    config = json.loads((folder / "client.json").read_text())
    device = P256Signer.from_pem(Path(config["device_key_file"]).read_bytes())
    party = FieldParty(organ=config["organ"], device=device, audience=config["audience"])
    return party, config["token"]


@dataclass
class Answered:
    """When something was answered, after how long, and how often it was sent."""

    at: float
    seconds: float
    sendings: int


@dataclass
class Field:
    """Everybody who works against one address."""

    url: str
    party: FieldParty
    token: str
    seed: str
    ledger: Ledger = field(default_factory=Ledger)
    answered: list[Answered] = field(default_factory=list)
    orders: list[list[int]] = field(default_factory=list)

    def begin(self) -> "Working":
        """Let everybody work until they are told to stop."""
        acts = [phone, phone, phone, drone, late_phone, late_reader]
        return Working([Worker(self, number, act) for number, act in enumerate(acts)])

    def figures(self, since: float = 0.0) -> str:
        """How fast it was answered, and how often something had to be sent again."""
        known = [one for one in self.answered if one.at >= since]
        if not known:
            return "nothing answered"
        seconds = sorted(one.seconds for one in known)
        repeated = sum(one.sendings > 1 for one in known)
        median = statistics.median(seconds)
        times = f"median {median:.2f} s, worst {seconds[-1]:.1f} s"
        return f"{len(known)} answered, {times}, {repeated} repeated"


class Worker:
    """One of them, with a thread, a connection and an order of its own."""

    def __init__(self, whole: Field, number: int, act: Callable[["Worker"], None]) -> None:
        """Work not yet."""
        self.field = whole
        self.chance = random.Random(f"{whole.seed} {number}")
        self.stop = threading.Event()
        self.order: list[int] = []
        self.read_whole = 0
        whole.orders.append(self.order)
        headers = {**bearer(whole.token), "Content-Type": "application/json"}
        self._http = httpx.Client(base_url=whole.url, headers=headers, timeout=TIMEOUT_S)
        self._act = act
        self.thread = threading.Thread(target=self._work, name=f"field {number}", daemon=True)

    def ask(
        self, method: str, path: str, content: Callable[[], bytes | Iterator[bytes]]
    ) -> httpx.Response | None:
        """Send until it is answered; None where that took too long, which is a fault."""
        begun, sendings = time.monotonic(), 0
        while time.monotonic() < begun + PATIENCE_S:
            sendings += 1
            try:
                answer = self._http.request(method, path, content=content())
            except httpx.TransportError:
                time.sleep(PAUSE_S)
                continue
            if answer.status_code not in AGAIN and "retry-after" not in answer.headers:
                now = time.monotonic()
                self.field.answered.append(Answered(now, now - begun, sendings))
                return answer
            time.sleep(PAUSE_S)
        self.field.ledger.faults.append(f"{method} {path}: no answer in {PATIENCE_S:g} s")
        return None

    def announce(self, signed: list[SignedStatement]) -> None:
        """Announce captures; all must be answered for, in the order of the log."""
        ledger = self.field.ledger
        ledger.tried.update(one.id for one in signed)
        request = json.dumps(wire(*signed)).encode()
        answer = self.ask("POST", "/v1/captures", lambda: request)
        if answer is None:
            return
        if answer.status_code != 200 or b'"problem"' in answer.content:
            said = answer.text[:300]
            ledger.faults.append(f"announcement: {answer.status_code} {said}")
            return
        ledger.announced.append(
            Announced(signed=tuple(signed), request=request, answer=answer.content)
        )
        self.order.extend(item["index"] for item in answer.json()["items"])

    def hand_in(self, sending: Sending, pieces: Callable[[], bytes | Iterator[bytes]]) -> None:
        """Send content until it is taken."""
        path = f"/v1/captures/{sending.signed.id}/content"
        answer = self.ask("PUT", path, pieces)
        if answer is None:
            return
        if answer.status_code not in {200, 201}:
            said = answer.text[:300]
            self.field.ledger.faults.append(f"content: {answer.status_code} {said}")
            return
        self.field.ledger.taken[sending.signed.id] = (sending, answer.json())

    def read_late(self, sending: Sending, told: Any) -> None:  # noqa: ANN401  JSON
        """Read a content's first bytes, and its others much later; what came whole is compared.

        An answer that is cut off, because its node ended, promises nothing.
        """
        path = f"/v1/captures/{sending.signed.id}/content"
        read = hashlib.sha256()
        try:
            with self._http.stream("GET", path) as answer:
                if answer.status_code != 200:
                    answer.read()
                    return
                for number, chunk in enumerate(answer.iter_raw(4096)):
                    read.update(chunk)
                    if number == 0:
                        self.stop.wait(LATE_S)
        except httpx.TransportError:
            return
        self.read_whole += 1
        if read.hexdigest() != told["sha256"]:
            self.field.ledger.faults.append(f"GET {path}: other bytes than were taken")

    def fresh(self) -> Sending:
        """A capture with content of any size, most of them small."""
        seed = self.chance.randbytes(8).hex()
        size = int(1000 * (LARGEST_BYTES / 1000) ** (self.chance.random() ** 2))
        signed = self.field.party.capture(content_of(seed, size))
        return Sending(signed=signed, seed=seed, size_bytes=size)

    def _work(self) -> None:
        with self._http:
            while not self.stop.is_set():
                self._act(self)


class Working:
    """Everybody at work."""

    def __init__(self, workers: list[Worker]) -> None:
        """Let them begin."""
        self._workers = workers
        for one in workers:
            one.thread.start()

    def end(self) -> None:
        """Let each finish what it has begun."""
        for one in self._workers:
            one.stop.set()
        for one in self._workers:
            one.thread.join(2 * PATIENCE_S)
            assert not one.thread.is_alive(), one.thread.name


def phone(worker: Worker) -> None:
    """Announce one photo, then send it."""
    sending = worker.fresh()
    worker.announce([sending.signed])
    worker.hand_in(sending, lambda: sending.content)
    time.sleep(0.1)


def drone(worker: Worker) -> None:
    """Announce a sortie's shots at once; their contents come another day."""
    shots = [worker.field.party.capture(worker.chance.randbytes(8)) for _ in range(DRONE_SHOTS)]
    worker.announce(shots)
    time.sleep(0.5)


def late_phone(worker: Worker) -> None:
    """Announce one photo, and stay away in the middle of sending it."""
    sending = worker.fresh()
    worker.announce([sending.signed])
    whole = sending.content

    def pieces() -> Iterator[bytes]:
        """One half, a long pause, the other half."""
        yield whole[: len(whole) // 2]
        worker.stop.wait(LATE_S)
        yield whole[len(whole) // 2 :]

    worker.hand_in(sending, pieces)


def late_reader(worker: Worker) -> None:
    """Ask for what was taken, and stay away before the answer is read to its end."""
    taken = list(worker.field.ledger.taken.values())
    if taken:
        worker.read_late(*worker.chance.choice(taken))
    worker.stop.wait(1)


def digest_of(content: bytes) -> str:
    """SHA-256 of a content, hex."""
    return hashlib.sha256(content).hexdigest()
