"""Several web nodes over one deployment: real processes, one database, one heads' server.

Each node has a folder of its own with its own staging; tiles, objects and text keys lie where all
reach them. What every answer promises is written into a ledger and looked for in the end.
"""

import base64
import contextlib
import shutil
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx
import msgspec

from evidence.leaf import leaf_of
from evidence.merkle import hash_leaf, verify_inclusion
from evidence.statement import SignedStatement
from evidence.tlog.checkpoint import open_checkpoint
from service.deployment_file import Places
from service.fsck import check_logs
from service.key_files import log_signer
from storage.db.engine import Database
from storage.log.heads import FileHead
from storage.log.shared_heads import SharedHead, prepare_heads
from storage.staging.folder import StagingFolder
from tests.postgres import OWNER, SERVICE, PostgresServer
from tests.service.deployment_maker import Made, bearer, make_deployment, wire
from tests.service.server_process import ServerProcess

SHARED = ("tiles", "text-keys", "objects")
PATIENCE_S = 60.0
T = TypeVar("T")
_AGAIN = frozenset({502, 503})


@dataclass(frozen=True, kw_only=True)
class Acknowledged:
    """What a node has promised of one statement."""

    organ: str
    id: str
    index: int
    seconds: float
    at: float


@dataclass
class Ledger:
    """Every promise, in the order in which each phone got it."""

    by_phone: dict[int, list[Acknowledged]] = field(default_factory=dict[int, Any])
    faults: list[str] = field(default_factory=list[str])
    refused: list[int] = field(default_factory=list[int])

    @property
    def all(self) -> list[Acknowledged]:
        """All of them."""
        return [one for mine in list(self.by_phone.values()) for one in list(mine)]

    def since(self, at: float) -> list[Acknowledged]:
        """Those that came later than a moment."""
        return [one for one in self.all if one.at > at]


class Phone(threading.Thread):
    """A sender that announces one statement after the other, and repeats what was not answered."""

    def __init__(self, nodes: "Nodes", organ: str, urls: Sequence[str], number: int) -> None:
        """Prepare.

        Args:
            nodes: knows keys and tokens.
            organ: for which it acts.
            urls: of the nodes that it uses, the first while it answers.
            number: in the ledger.
        """
        super().__init__(name=f"phone-{number}", daemon=True)
        self._nodes, self._organ, self._urls, self._number = nodes, organ, list(urls), number
        nodes.ledger.by_phone[number] = []
        self.ended = threading.Event()

    def run(self) -> None:
        """Announce until told to end; whatever a test should see is a fault in the ledger."""
        try:
            with httpx.Client(timeout=30.0) as http:
                while not self.ended.is_set():
                    self._announce(http, self._nodes.made.parties[self._organ].capture())
        except Exception as error:  # noqa: BLE001 - shown by the test
            self._nodes.ledger.faults.append(f"{type(error).__name__}: {error}")

    def _announce(self, http: httpx.Client, signed: SignedStatement) -> None:
        while not self.ended.is_set():
            begun = time.monotonic()
            try:
                answer = self._nodes.post(http, self._urls[0], self._organ, signed)
            except httpx.TransportError:  # the node was killed or is paused: another one is asked
                self._urls.append(self._urls.pop(0))
                time.sleep(0.05)
                continue
            if answer.status_code in _AGAIN:
                self._nodes.ledger.refused.append(answer.status_code)
                time.sleep(0.1)
                continue
            [index] = self._nodes.check(self._organ, answer, [signed])
            now = time.monotonic()
            self._nodes.ledger.by_phone[self._number].append(
                Acknowledged(
                    organ=self._organ, id=signed.id, index=index, seconds=now - begun, at=now
                )
            )
            return


class Nodes:
    """A deployment and its nodes. Leaving kills what still runs."""

    def __init__(self, server: PostgresServer, heads: PostgresServer, folder: Path) -> None:
        """Make the deployment; no node runs yet."""
        self.server = server
        self.database = server.copy()
        self._heads, self._heads_database = heads, heads.empty()
        owner = Database(heads.url(self._heads_database, OWNER))
        prepare_heads(owner, service_role=SERVICE)
        owner.close()
        self.heads_url = heads.url(self._heads_database)
        self.folder = folder / "first"
        self.made: Made = make_deployment(self.folder, database_url=server.url(self.database))
        self._move_heads()
        self.processes: list[ServerProcess] = []
        self.phones: list[Phone] = []
        self.ledger = Ledger()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.quieten()
        for process in self.processes:
            if process.started and process.process.poll() is None:
                process.process.send_signal(signal.SIGCONT)
                process.kill()
        self.server.drop(self.database)
        self._heads.drop(self._heads_database)

    def node(self, *, start: bool = True) -> ServerProcess:
        """One more node; it is ready when this returns, if it is started."""
        number = len(self.processes) + 1
        folder = self.folder.parent / f"node-{number}"
        folder.mkdir()
        shutil.copytree(self.folder / "keys", folder / "keys")
        shutil.copy(self.folder / "deployment.json", folder / "deployment.json")
        for name in SHARED:
            (folder / name).symlink_to(self.folder / name)
        (folder / "exports").mkdir()
        StagingFolder.create(Places(folder).staging, reserve_bytes=0)
        process = ServerProcess(
            folder,
            heads_url=self.heads_url,
            node=f"web-{number}",
            inspect_workers=1,
            work="elsewhere" if self.processes else "here",  # uploads lie on the first one's disk
        )
        self.processes.append(process)
        if start:
            process.start()
        return process

    def post(
        self, http: httpx.Client, url: str, organ: str, *signed: SignedStatement
    ) -> httpx.Response:
        """Announce."""
        headers = bearer(self.made.tokens[organ])
        return http.post(f"{url}/v1/captures", json=wire(*signed), headers=headers)

    def announce(self, process: ServerProcess, organ: str, *signed: SignedStatement) -> list[int]:
        """Announce at a node and check its answer; the indices."""
        with httpx.Client(timeout=30.0) as http:
            return self.check(organ, self.post(http, process.url, organ, *signed), signed)

    def check(
        self, organ: str, answer: httpx.Response, signed: Sequence[SignedStatement]
    ) -> list[int]:
        """Demand that every statement is answered with a proof under the log's keys."""
        assert answer.status_code == 200, answer.text
        document = answer.json()
        keys = {one.key_id: one.public_key for one in (self.made.parties[organ].device,)}
        settings = next(one for one in self.made.deployment.organs if one.id == organ)
        log_keys = log_signer(self.made.settings, settings.log).verifier_keys
        indices: list[int] = []
        for one, item in zip(signed, document["items"], strict=True):
            assert item.get("id") == one.id, item
            note = document["checkpoints"][str(item["tree_size"])].encode()
            tree = open_checkpoint(note, log_keys, require=frozenset({0x01, 0x06})).checkpoint
            leaf = hash_leaf(leaf_of(one.id, one.signature, keys[one.key_id]))
            path = [base64.b64decode(part) for part in item["inclusion_proof"]]
            verify_inclusion(leaf, item["index"], tree.size, path, tree.root)
            indices.append(item["index"])
        return indices

    def load(self, urls: Mapping[str, Sequence[str]] | Sequence[Sequence[str]], each: int) -> None:
        """Let phones announce until `quieten`.

        Args:
            urls: for each organ, or of the first organ for each sort of phone, the nodes' addresses
                in the order in which they are tried.
            each: how many phones of each.
        """
        sorts = (
            list(urls.items())
            if isinstance(urls, Mapping)
            else [(next(iter(self.made.parties)), one) for one in urls]
        )
        for organ, mine in sorts:
            for _ in range(each):
                self.phones.append(Phone(self, organ, mine, len(self.phones)))
                self.phones[-1].start()

    def quieten(self) -> None:
        """Let every phone get the answer that it waits for, and end."""
        for phone in self.phones:
            phone.ended.set()
        for phone in self.phones:
            phone.join(PATIENCE_S)
            assert not phone.is_alive()
        self.phones = []

    def state(self, process: ServerProcess, organ: str) -> dict[str, Any]:
        """What a node says of who leads an organ's log."""
        with contextlib.suppress(httpx.TransportError):
            logs = httpx.get(f"{process.url}/readyz", timeout=5.0).json().get("logs", [])
            return next((one for one in logs if one["log"] == f"{organ}-2026"), {})
        return {}

    def leader(self, organ: str, among: Sequence[ServerProcess]) -> ServerProcess:
        """The node that leads an organ's log."""
        return until(
            lambda: next((one for one in among if self.state(one, organ).get("leads")), None)
        )

    def audit(self) -> None:
        """Demand that everything promised is in the log, where it was promised, and once."""
        assert self.ledger.faults == []
        database = Database(self.server.url(self.database))
        with database.read() as connection:
            rows = connection.exec_driver_sql("SELECT log, statement_id, idx FROM records").all()
        database.close()
        found = {(log, statement): index for log, statement, index in rows}
        assert len(found) == len(rows)
        lost = [
            one for one in self.ledger.all if found.get((f"{one.organ}-2026", one.id)) != one.index
        ]
        assert lost == []
        for mine in self.ledger.by_phone.values():
            assert [one.index for one in mine] == sorted(one.index for one in mine)

    def fsck(self) -> None:
        """Demand that every log is whole, once no node runs."""
        for process in self.processes:
            if process.process.poll() is None:
                process.stop()
        settings = msgspec.structs.replace(self.made.settings, heads_url=self.heads_url)
        assert [one.findings for one in check_logs(settings)] == [()] * len(self.made.parties)

    def _move_heads(self) -> None:
        heads = Database(self.heads_url)
        for organ in self.made.deployment.organs:
            head = FileHead(Places(self.folder).head(organ.log.id)).read()
            SharedHead(heads, organ.log.origin).make(head)
        heads.close()


def until(look: Callable[[], T | None], seconds: float = PATIENCE_S) -> T:
    """What a look gives once it gives something.

    Raises:
        TimeoutError: it never did.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.05)
    raise TimeoutError("it did not come")
