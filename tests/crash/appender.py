"""The process that is killed: it appends from several threads and reports what it was answered.

Run by `test_log_kill` in a child of a fork server, so that a round costs no imports.
"""

import hashlib
import os
import random
import threading
from multiprocessing.connection import Connection
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from evidence.keys import P256Signer
from evidence.tlog.checkpoint import LogSigner
from storage.log import Log, Receipt
from tests.storage.log_material import ORIGIN, Place, append, captures

THREADS = 4
PUBLISH_PERIOD_S = 0.03


def place_of(folder: Path, seeds: tuple[bytes, bytes]) -> Place:
    """Return the log in a folder, with the keys that its seeds make."""
    ed25519 = Ed25519PrivateKey.from_private_bytes(seeds[0])
    ml_dsa = MLDSA44PrivateKey.from_seed_bytes(seeds[1])
    return Place(folder, signer=LogSigner(ORIGIN, ed25519, ml_dsa))


def digest(receipt: Receipt) -> str:
    """Return a digest of everything that a receipt says."""
    return hashlib.sha256(repr(receipt).encode()).hexdigest()


def run(folder: Path, seeds: tuple[bytes, bytes], answers: Connection) -> None:
    """Open the log and append until killed; each answered batch is reported at once."""
    turn = threading.Lock()

    def report(receipts: list[Receipt]) -> None:
        said = [(r.statement_id, r.key_id, r.index, r.size, digest(r)) for r in receipts]
        with turn:
            answers.send(said)

    with place_of(folder, seeds).open(period_s=PUBLISH_PERIOD_S) as log:
        answers.send([])
        threads = [
            threading.Thread(target=_append_for_ever, args=(log, number, report))
            for number in range(THREADS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def _append_for_ever(log: Log, number: int, report: object) -> None:
    assert callable(report)
    chance = random.Random(f"{os.getpid()} {number}")
    signer = P256Signer.generate()
    earlier = captures(signer, 1)
    while True:
        fresh = captures(signer, chance.choice((1, 1, 2, 10, 40)))
        report(append(log, [*fresh, chance.choice(earlier)]))
        earlier = fresh
