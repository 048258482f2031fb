"""`fengni doctor`: does this deployment do what it must, as far as can be seen from here?

Does: looks at a deployment's folder beside a running server or without one, changes nothing that
counts, and answers each question with pass, fail, note (true and worth knowing) or unknown (and
what is missing). Refuses to call something good that it could not try: a store that only promises
is tried on a scratch copy, a witness that does not answer is unknown.

1. settings and deployment file, what is for development only
2. database: schema, integrity, and evidence rows that refuse to be changed
3. each log: database, head store, published tiles and witnesses agree on size and root; what
   witnesses gave holds, and covers whatever is old enough; what a bucket of tiles compares
4. the object store: creates once, what really protects an object; a bucket's self-test, and the
   last one that the server stated in its log; every content that the log names is there, what is
   there is re-hashed, and what nobody names is reported; the rows of contents, and those of work,
   fit what is logged; retention that ended, holds that run, and the last scrub are told
5. each time-stamp authority: stamps under the pinned root; what it stamped before still holds,
   and covers whatever is old enough; what it owes
6. disk: space above the reserve
7. keys: the server's is enrolled, the trust file is this deployment's and has not expired
8. clock: against the last commit and the authorities
"""

from collections.abc import Callable
from datetime import datetime

from sqlalchemy.exc import SQLAlchemyError

from evidence.errors import EvidenceError
from evidence.timestamp import Timestamp
from service.context import log_stores, open_heads
from service.data_keys import open_keys
from service.deployment_file import (
    AuthoritySettings,
    Deployment,
    OrganSettings,
    Places,
    database_url,
    read_deployment,
)
from service.doctor.attested import check_cosignatures, check_tokens
from service.doctor.captures import check_captures
from service.doctor.diagnosis import Answer, Diagnosis, Findings, failed, noted, passed
from service.doctor.keeping import check_keeping
from service.doctor.objects import check_kept
from service.doctor.outside import (
    check_authority,
    check_clock,
    check_keys,
    check_known_keys,
    check_owed,
    check_witnesses,
)
from service.doctor.stores import (
    check_database,
    check_disk,
    check_heads,
    check_objects,
    check_stated,
    check_tiles,
)
from service.doctor.work import check_work
from service.production import find_unsafe
from service.settings import Settings, SettingsInvalid
from storage.db.engine import Database
from storage.errors import StorageError

DAMAGE = (ValueError, TypeError, LookupError, ArithmeticError, SQLAlchemyError)
"""What rows and files raise whose content no program of ours wrote."""


def examine(settings: Settings, at: datetime) -> list[Diagnosis]:
    """Do all the checks of the module, in their order.

    Args:
        settings: of the deployment.
        at: now, UTC.

    Returns:
        At least one answer to each question that could be asked.
    """
    try:
        deployment = read_deployment(settings)
    except SettingsInvalid as error:
        return [failed("settings", str(error))]
    found = [*_check_settings(settings, deployment)]  # 1
    places = Places(settings.folder)
    db = Database(database_url(settings, deployment))
    try:
        found += _asked("database", lambda: check_database(db))  # 2
        for organ in deployment.organs:
            found += _check_log(settings, deployment, organ, db, at)  # 3
        found += _asked("objects", lambda: check_objects(settings, lambda: at))  # 4
        found += _asked("objects", lambda: check_kept(settings, deployment.organs, db, at))
        found += _asked("captures", lambda: check_captures(settings, deployment.organs, db, at))
        found += _asked("work", lambda: check_work(settings, deployment, db, at))
        found += _asked("retention", lambda: check_keeping(settings, deployment, db, at))
        stamps: list[Timestamp] = []
        for organ in deployment.organs:
            for one in organ.authorities:
                found += _check_authority(settings, one, at, stamps)  # 5
            found += _check_tokens(settings, organ, db, at)
            found += _check_stated(settings, organ, db)
        found += _asked("disk", lambda: check_disk(settings, places))  # 6
        for organ in deployment.organs:
            found += _check_keys(settings, deployment, organ, db)  # 7
        found += _asked("keys", lambda: check_known_keys(settings, deployment, at))
        found += _asked("clock", lambda: check_clock(deployment, db, at, stamps))  # 8
    finally:
        db.close()
    return found


def exit_code(found: list[Diagnosis]) -> int:
    """0 where nothing is wrong, 1 where something is, 2 where something could not be asked."""
    answers = {one.answer for one in found}
    if Answer.FAIL in answers:
        return 1
    return 2 if Answer.UNKNOWN in answers else 0


def _check_settings(settings: Settings, deployment: Deployment) -> Findings:
    yield passed("settings", f"The deployment {deployment.audience} is complete and well formed.")
    answer = failed if settings.mode == "production" else noted
    for unsafe in find_unsafe(settings, deployment):
        yield answer("settings.development", f"For development only: {unsafe} [{unsafe.code}].")


def _check_log(
    settings: Settings, deployment: Deployment, organ: OrganSettings, db: Database, at: datetime
) -> list[Diagnosis]:
    """The log's own memories, then what the witnesses remember of it."""
    with open_keys(settings, deployment, db) as keys, open_heads(settings, deployment) as heads:
        stores = log_stores(settings, organ.log, db, keys, heads)
        found = _asked("log", lambda: check_heads(settings, organ, stores))
        found += _asked("tiles", lambda: check_tiles(stores))
        found += _asked("witness", lambda: check_witnesses(settings, organ, stores, at))
    return found + _asked("witness", lambda: check_cosignatures(settings, organ, db, at))


def _check_authority(
    settings: Settings, authority: AuthoritySettings, at: datetime, stamps: list[Timestamp]
) -> list[Diagnosis]:
    return _asked("time", lambda: check_authority(settings, authority, at, stamps))


def _check_tokens(
    settings: Settings, organ: OrganSettings, db: Database, at: datetime
) -> list[Diagnosis]:
    found = _asked("time", lambda: check_tokens(settings, organ, db, at))
    return found + _asked("time", lambda: check_owed(organ, db))


def _check_stated(settings: Settings, organ: OrganSettings, db: Database) -> list[Diagnosis]:
    return _asked("objects", lambda: check_stated(settings, organ, db))


def _check_keys(
    settings: Settings, deployment: Deployment, organ: OrganSettings, db: Database
) -> list[Diagnosis]:
    return _asked("keys", lambda: check_keys(settings, deployment, organ, db))


def _asked(name: str, check: Callable[[], Findings]) -> list[Diagnosis]:
    """The answers to a check; what breaks it off is an answer too."""
    found: list[Diagnosis] = []
    try:
        found.extend(check())
    except (StorageError, EvidenceError) as error:
        found.append(failed(f"{name}.{error.code}", error.detail))
    except (OSError, SettingsInvalid) as error:
        found.append(failed(name, str(error)))
    except DAMAGE as error:
        told = f"The check broke off, so what it reads is damaged ({type(error).__name__})."
        found.append(failed(f"{name}.damaged", told))
    return found
