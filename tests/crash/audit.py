"""Everything that was promised, looked for in what lies on the disk once nobody serves it.

Nothing here asks the service: rows, tiles, objects and files are read as they lie, and proofs are
checked under the log's public keys.
"""

import base64
import io
import json
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select

from evidence.leaf import leaf_of
from evidence.merkle import consistency_proof, hash_leaf, verify_consistency, verify_inclusion
from evidence.report import Outcome
from evidence.tlog.checkpoint import Checkpoint, open_checkpoint
from evidence.tlog.tiles import TileReader
from evidence.verify import verify_package
from service.deployment_file import Places, database_url
from service.doctor import examine
from service.doctor.diagnosis import Answer
from service.fsck import check_logs
from service.key_files import log_signer
from storage.db.engine import Database
from storage.db.tables import records, texts
from storage.log.serving import published_tile
from storage.objects.local import LocalObjects
from storage.staging.folder import StagingFolder
from storage.tiles import LocalTiles
from tests.crash.ledger import Announced, Ledger
from tests.service.attested_maker import Attested
from tests.service.test_exports import known_keys


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """One row of the log and what its text says."""

    index: int
    id: str
    kind: str
    key_id: str
    subject: str | None
    body: dict[str, Any]


class Audit:
    """One deployment's folder against the ledger of its first organ."""

    def __init__(self, attested: Attested, ledger: Ledger) -> None:
        """Read every row of the log.

        Args:
            attested: the deployment, which nobody serves now.
            ledger: what was promised.
        """
        self.attested = attested
        self.ledger = ledger
        self.settings = attested.made.settings
        self.deployment = attested.made.deployment
        self.organ = self.deployment.organs[0]
        self.party = attested.made.parties[self.organ.id]
        self.places = Places(self.settings.folder)
        self.keys = log_signer(self.settings, self.organ.log).verifier_keys
        self.leaves = self._read_leaves()
        self.by_id = {leaf.id: leaf for leaf in self.leaves}
        self._trees: dict[str, Checkpoint] = {}

    def check_leaves(self) -> None:
        """No statement has two leaves, no index is free, and nobody's statement slipped in."""
        assert [leaf.index for leaf in self.leaves] == list(range(len(self.leaves)))
        assert len(self.by_id) == len(self.leaves)
        assert {leaf.id for leaf in self.leaves if leaf.kind == "capture"} <= self.ledger.tried

    def check_receipts(self) -> None:
        """Every receipt that was ever given names its leaf and proves it; indices are distinct."""
        given: dict[str, int] = {}
        for one in self.ledger.announced:
            for statement_id, index in self._verified(one):
                assert given.setdefault(statement_id, index) == index
        assert {id_: self.by_id[id_].index for id_ in given} == given
        assert len(set(given.values())) == len(given)

    def check_history(self) -> None:
        """Every tree that a receipt names is a beginning of the one that is published."""
        tiles = LocalTiles(self.places.tiles(self.organ.log.id))
        final = open_checkpoint(tiles.checkpoint() or b"", self.keys).checkpoint
        reader = TileReader(lambda name: published_tile(tiles, name.path()), final.size)
        assert final.size == len(self.leaves)
        for old in self._trees.values():
            proof = consistency_proof(old.size, final.size, reader)
            verify_consistency(old.size, old.root, final.size, final.root, proof)

    def check_contents(self) -> None:
        """What was taken is stored and inspected, once; no object is there without its leaf."""
        stored = self._about("stored")
        assert set(stored) == set(self.ledger.taken)
        assert self._repeated("stored") == self._repeated("inspected") == {}
        assert set(self._about("inspected")) == set(stored)
        objects = LocalObjects(self.places.objects)
        named = {leaf.body["content"]["sha256"] for leaf in stored.values()}
        for capture, (sending, told) in self.ledger.taken.items():
            content = stored[capture].body["content"]
            assert content["sha256"] == told["sha256"]
            assert content["size_bytes"] == sending.size_bytes
            assert objects.stat(content["sha256"]).size_bytes == sending.size_bytes
        for leaf in self._about("inspected").values():
            if "output" in leaf.body:
                named.add(leaf.body["output"]["sha256"])
        assert set(objects.names()) == named
        assert list(objects.strangers()) == []

    def check_staging(self) -> None:
        """Nothing waits that nobody waits for, and only wrong bytes are kept aside, each stated."""
        staging = StagingFolder(self.places.staging, reserve_bytes=0)
        assert [path.name for path in (self.places.staging / "waiting").iterdir()] == []
        kept = {(one.key, one.sha256) for one in staging.quarantined()}
        assert self.ledger.aside <= kept <= self.ledger.wrong
        assert {one.reason for one in staging.quarantined()} <= {"digest_mismatch"}
        stated = {
            (leaf.subject, leaf.body["content"]["sha256"]) for leaf in self._custody("quarantined")
        }
        assert stated == kept

    def check_custody(self) -> None:
        """Every reading and every export stands in the log, once."""
        viewed = Counter(leaf.subject for leaf in self._custody("viewed"))
        assert self.ledger.viewed <= set(viewed)
        assert max(viewed.values()) == 1
        exported = Counter(
            (leaf.body["reference"], leaf.subject) for leaf in self._custody("exported")
        )
        promised = {
            (export, capture)
            for export, captures in self.ledger.exported.items()
            for capture in captures
        }
        assert promised <= set(exported)
        assert set(exported.values()) == {1}

    def check_packages(self) -> None:
        """Every export that was promised is a package that a stranger accepts."""
        pinned = self.attested.pinned(known_keys(self.attested.made))
        for export in self.ledger.exported:
            package = (self.places.exports / f"{export}.zip").read_bytes()
            report = verify_package(io.BytesIO(package), pinned, datetime.now(UTC))
            assert report.outcome in {Outcome.PASS, Outcome.UNCONFIRMED}
        assert list(self.places.exports.glob("*.part")) == []

    def check_commands(self) -> None:
        """`fsck` and `doctor` find nothing."""
        assert [finding for log in check_logs(self.settings) for finding in log.findings] == []
        found = examine(self.settings, datetime.now(UTC))
        wrong = [one for one in found if one.answer in {Answer.FAIL, Answer.UNKNOWN}]
        assert wrong == []

    def _verified(self, one: Announced) -> list[tuple[str, int]]:
        """The statements of an announcement with the indices that their proofs hold for."""
        answer = json.loads(one.answer)
        trees = {size: self._tree(note) for size, note in answer["checkpoints"].items()}
        found: list[tuple[str, int]] = []
        for signed, item in zip(one.signed, answer["items"], strict=True):
            tree = trees[str(item["tree_size"])]
            leaf = leaf_of(signed.id, signed.signature, self.party.device.public_key)
            proof = [base64.b64decode(line) for line in item["inclusion_proof"]]
            verify_inclusion(hash_leaf(leaf), item["index"], tree.size, proof, tree.root)
            assert item["id"] == signed.id
            found.append((signed.id, item["index"]))
        return found

    def _tree(self, note: str) -> Checkpoint:
        """The tree of a signed note; each note is verified once."""
        if note not in self._trees:
            self._trees[note] = open_checkpoint(note.encode(), self.keys).checkpoint
        return self._trees[note]

    def _about(self, kind: str) -> dict[str, Leaf]:
        """The statements of one kind, by the capture that they are about."""
        return {str(leaf.subject): leaf for leaf in self.leaves if leaf.kind == kind}

    def _repeated(self, kind: str) -> dict[str, int]:
        """Captures about which there is more than one statement of a kind."""
        counts = Counter(str(leaf.subject) for leaf in self.leaves if leaf.kind == kind)
        return {capture: count for capture, count in counts.items() if count > 1}

    def _custody(self, event: str) -> list[Leaf]:
        return [
            leaf for leaf in self.leaves if leaf.kind == "custody" and leaf.body["event"] == event
        ]

    def _read_leaves(self) -> list[Leaf]:
        same = (texts.c.log == records.c.log) & (texts.c.idx == records.c.idx)
        query = (
            select(records, texts.c.statement)
            .join(texts, same)
            .where(records.c.log == self.organ.log.id)
            .order_by(records.c.idx)
        )
        db = Database(database_url(self.settings, self.deployment))
        with db.read() as connection:
            rows = connection.execute(query).all()
        db.close()
        return [
            Leaf(
                index=row.idx,
                id=row.statement_id,
                kind=row.kind,
                key_id=row.key_id,
                subject=row.subject,
                body=json.loads(row.statement)["body"],
            )
            for row in rows
        ]
