"""Opening a log as the one process that leads it, or as one of several that may.

Does: asks the log's witnesses first, names this process, and tells nobody more than it must.
Refuses nothing by itself: `storage.log` does.
"""

import os
import socket
from collections.abc import Callable
from datetime import datetime
from hashlib import sha256

from evidence.tlog.note import VerifierKey
from evidence.tlog.policy import Policy
from service.admission import Admission
from service.deployment_file import OrganSettings
from service.key_files import log_signer, witness_policy
from service.settings import Settings
from storage.db.engine import Database
from storage.db.notices import Notices
from storage.log import Candidate, CommittedHead, Courier, Log, LogStores, OpenLog
from storage.log.joined import JoinedLog
from storage.log.leading import LEASE_S
from storage.log.part import Heard, Part

Witnessed = Callable[[OrganSettings, tuple[VerifierKey, ...], Policy | None, Database], Heard]
Published = Callable[[str, CommittedHead], None]
Relay = Callable[[Admission], Courier]
_LEADER_WAIT_S = 3 * LEASE_S
"""A start waits so long for the leader before it, which may have been killed a moment ago."""


def node_of(settings: Settings) -> str:
    """This process, for people who ask who leads a log."""
    return f"{settings.node or socket.gethostname()[:63]} pid {os.getpid()}"


def place_of(settings: Settings) -> str:
    """This node, the same at every start: one process at a time serves or works over a folder."""
    return sha256(f"{socket.gethostname()} {settings.folder.resolve()}".encode()).hexdigest()[:16]


def candidate_of(settings: Settings) -> Candidate:
    """This process, as one that would lead a log alone."""
    return Candidate(node=node_of(settings), wait_s=_LEADER_WAIT_S)


def nobody_asked(
    _organ: OrganSettings,
    _log_keys: tuple[VerifierKey, ...],
    _policy: Policy | None,
    _db: Database,
) -> Heard:
    """No witness is asked: for a deployment that is being made, and whose log is new."""
    return Heard(answers=(), enough=True)


def nobody_told(_log: str, _head: CommittedHead) -> None:
    """Nobody waits for a publication."""


def open_log(
    stores: LogStores,
    organ: OrganSettings,
    settings: Settings,
    witnessed: Witnessed,
    published: Published,
    clock: Callable[[], datetime],
    notices: Notices | None,
) -> OpenLog:
    """Open a log alone, or prepare to join it where there are notices."""
    log_id = organ.log.id
    signer = log_signer(settings, organ.log)
    policy = witness_policy(settings, organ)

    def hear() -> Heard:
        """Ask the log's witnesses."""
        return witnessed(organ, signer.verifier_keys, policy, stores.db)

    if notices is not None:
        return JoinedLog(
            Part(
                stores=stores,
                signer=signer,
                clock=clock,
                node=node_of(settings),
                notices=notices,
                witnessed=hear,
                published=lambda head: published(log_id, head),
            )
        )
    heard = hear()
    return Log.open(
        stores,
        signer=signer,
        clock=clock,
        witnessed=heard.answers,
        confirmed=heard.enough,
        published=lambda head: published(log_id, head),
        candidate=candidate_of(settings),
    )
