"""From a configuration to something that can upload or export.

Does: reads the configuration, checks that keys and server belong together, and opens journal and
connection. Refuses to begin an upload whose receipts it could not verify: without known keys
nothing could ever be called received.
"""

import re
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from evidence.errors import EvidenceError
from evidence.kinds.capture import KIND as CAPTURE
from evidence.kinds.session import KIND as SESSION
from evidence.schema import Choice, parse_time
from service.client.api import Api
from service.client.config import read_config
from service.client.device import Claim, Device, parse_place
from service.client.download import Exporter
from service.client.failures import Misused
from service.client.following import Follower
from service.client.journal import open_journal
from service.client.receipts import known_log
from service.client.upload import Stage, Uploader, Watcher, Wish

SHORTEST_BEGINNING = 8
_ID_DIGITS = 64
_HEX = re.compile(f"[0-9a-f]{{1,{_ID_DIGITS}}}")
_WAITABLE = (Stage.RECEIVED, Stage.STORED, Stage.WITNESSED, Stage.TIME_STAMPED)


def claim_of(
    mode: str,
    *,
    task: str | None,
    officer: str | None,
    captured_at: str | None,
    place: str | None,
) -> Claim:
    """Read what a person says of his files.

    Raises:
        Misused: a word is none of those that its option takes.
    """
    _require_word("--mode", mode, _words(CAPTURE.body.members["mode"]))
    return Claim(
        mode=mode,
        task=task,
        officer=officer,
        captured_at=None if captured_at is None else read_moment(captured_at),
        place=None if place is None else parse_place(place),
    )


def wish_of(
    files: Sequence[Path],
    claim: Claim,
    *,
    session: str | None,
    again: bool,
    wait: str,
    wait_s: float,
) -> Wish:
    """Read what a person wants done.

    Raises:
        Misused: a word is none of those that its option takes.
    """
    if session is not None:
        _require_word("--session", session, _words(SESSION.body.members["session"]))
    _require_word("--wait", wait, tuple(stage.value for stage in _WAITABLE))
    return Wish(
        files=tuple(files),
        claim=claim,
        session=session,
        again=again,
        wait_for=Stage(wait),
        wait_s=wait_s,
    )


def read_moment(text: str) -> datetime:
    """Read a time that a person wrote.

    Raises:
        Misused: it is not of the one form that statements have.
    """
    try:
        return parse_time(text)
    except EvidenceError as error:
        raise Misused("A time is written like 2026-11-23T09:00:00.000Z, in UTC.") from error


@contextmanager
def open_uploader(
    named: Path | None,
    environment: Path | None,
    watcher: Watcher,
    *,
    clock: Callable[[], datetime],
    fresh_salt: Callable[[], str],
) -> Generator[Uploader]:
    """Open everything that an upload needs, for as long as the block runs.

    Args:
        named: a configuration that the person named, or None.
        environment: one that the environment names, or None.
        watcher: shows how it goes.
        clock: now, UTC.
        fresh_salt: 32 hex digits from the operating system's randomness.

    Raises:
        ClientFailure: the configuration, a key file or the trust file is not usable, or another
            upload is using the journal.
    """
    config = read_config(named, environment)
    signer = config.device_key()
    log = known_log(config.known_keys(), config.origin, clock())
    with (
        open_journal(Path(config.journal_folder)) as journal,
        Api(config.server, config.token) as api,
    ):
        yield Uploader(
            device=Device(
                signer=signer,
                audience=config.audience,
                organ=config.organ,
                clock=clock,
                fresh_salt=fresh_salt,
            ),
            api=api,
            journal=journal,
            log=log,
            follower=Follower(
                api=api,
                journal=journal,
                public_key=signer.public_key,
                log=log,
                log_id=config.log,
                clock=clock,
            ),
            clock=clock,
            watcher=watcher,
        )


@contextmanager
def open_exporter(
    named: Path | None,
    environment: Path | None,
    *,
    wait_s: float,
    fetched: Callable[[int], object],
) -> Generator[tuple[Exporter, Path]]:
    """Open everything that an export needs; also where this device's journal lies.

    Raises:
        Misused: the configuration is not usable.
    """
    config = read_config(named, environment)
    with Api(config.server, config.token) as api:
        yield Exporter(api=api, wait_s=wait_s, fetched=fetched), Path(config.journal_folder)


def whole_ids(journal_folder: Path, beginnings: Sequence[str]) -> list[str]:
    """Complete the beginnings of ids with the captures that this device made.

    Args:
        journal_folder: where its journal lies.
        beginnings: 64 hex digits, or at least eight of a capture of this device; capitals mean the
            same digits.

    Raises:
        Misused: a beginning is no hexadecimal number, too short, or fits none or several of its
            captures.
    """
    wanted = [one.lower() for one in beginnings]
    for one in wanted:
        if not _HEX.fullmatch(one):
            raise Misused(f"{one} is no id: an id has {_ID_DIGITS} hexadecimal digits.")
    short = [one for one in wanted if len(one) != _ID_DIGITS]
    if not short:
        return wanted
    if any(len(one) < SHORTEST_BEGINNING for one in short):
        raise Misused(f"At least {SHORTEST_BEGINNING} digits of an id are needed.")
    with open_journal(journal_folder) as journal:
        return [
            one if len(one) == _ID_DIGITS else _only(one, journal.captures_from(one))
            for one in wanted
        ]


def _only(beginning: str, found: Sequence[str]) -> str:
    if len(found) != 1:
        how_many = "several captures begin" if found else "no capture of this device begins"
        raise Misused(f"{how_many.capitalize()} with {beginning}; give all 64 digits.")
    return found[0]


def _require_word(option: str, word: str, words: Sequence[str]) -> None:
    if word not in words:
        raise Misused(f"{option} is one of {', '.join(words)}.")


def _words(field: object) -> tuple[str, ...]:
    if not isinstance(field, Choice):
        raise TypeError("the schema no longer lists these words")
    return field.words
