"""Logging: structured events with static names and ids, nothing personal.

Does: sets structlog up once. Refuses: bodies, headers, coordinates, plates, names, tokens, and
events whose name is put together at run time. Logs help an operator; they are not evidence: what
a court may ask for is a statement.

    {"event":"request","request":"…","route":"/v1/captures/{capture}","status":200,…}
"""

import logging
import sys
from typing import Literal

import msgspec
import structlog

Logger = structlog.typing.FilteringBoundLogger


def set_up_logs(form: Literal["console", "json"]) -> None:
    """Send every event to standard error, one line each.

    Args:
        form: `console` for people, `json` for machines.
    """
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        if form == "console"
        else structlog.processors.JSONRenderer(_line)
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.ExceptionRenderer(),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=_StandardError,
        cache_logger_on_first_use=False,
    )


def get_logger(part: str) -> Logger:
    """A logger that names its part of the program in every event."""
    logger: Logger = structlog.get_logger(part=part)  # lazy: configured later
    return logger


def _line(event: object, **_: object) -> str:
    """One event as JSON, its members in order."""
    return msgspec.json.encode(event, order="sorted", enc_hook=repr).decode()


class _StandardError:
    """Standard error as it is when a line is written, not as it was when the logger was made."""

    def __init__(self, *_: object) -> None:
        """Take what structlog hands to every logger, and need none of it."""

    def msg(self, line: str) -> None:
        """Write one line."""
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()

    debug = info = warning = error = critical = msg
