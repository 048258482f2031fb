"""A node as a process of its own: leads the log when it can, appends, and reports what it was told.

Run by `test_log_leading` in a child of a fork server. Tiles and text keys lie in a folder that all
nodes share; database and head lie on servers.
"""

import time
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

from evidence.keys import P256Signer
from storage.db.engine import Database
from storage.errors import StorageError
from storage.log import Candidate, Log, LogStores, Receipt, Submission
from storage.log.shared_heads import SharedHead
from tests.crash.appender import place_of
from tests.storage.log_material import ORIGIN, Place, captures, now

Told = tuple[str, str, object]


def node_stores(place: Place, url: str, heads_url: str) -> LogStores:
    """The stores of one node."""
    heads = SharedHead(Database(heads_url), ORIGIN)
    return replace(place.stores(), db=Database(url), heads=heads)


def run(
    node: str, folder: Path, seeds: tuple[bytes, bytes], urls: tuple[str, str], told: Connection
) -> None:
    """Wait for the log, then append one statement after the other until something stops it."""
    place = place_of(folder, seeds)
    stores = node_stores(place, *urls)
    while True:
        try:
            log = Log.open(
                stores,
                signer=place.signer,
                clock=now,
                period_s=0.05,
                candidate=Candidate(node=node, wait_s=60.0),
            )
        except StorageError as error:  # a head that moved while it was looked at, for one
            told.send((node, "not yet", error.code))
            continue
        told.send((node, "leads", time.monotonic()))
        _append_until_halted(node, log, told)


def _append_until_halted(node: str, log: Log, told: Connection) -> None:
    signer = P256Signer.generate()
    while True:
        items = captures(signer, 3)
        try:
            outcomes = log.submit(Submission(items=tuple(items))).result()
        except StorageError as error:
            told.send((node, "halted", error.code))
            _close(log)
            return
        receipts = [one for one in outcomes if isinstance(one, Receipt)]
        told.send((node, "logged", [(one.statement_id, one.index, one.size) for one in receipts]))


def _close(log: Log) -> None:
    try:
        log.close()
    except StorageError:
        return
