"""The command line: `fengni COMMAND`.

Does: reads arguments, calls one function, shows the result, gives an exit status. Refuses to
decide anything itself; what a command means stands in the module that it calls.

Exit status everywhere: 0 done or passed, 1 a firm no, 2 could not be decided (no network, no key:
the same command may be given again), 64 wrong usage, 70 a defect of this program, 74 what came of
it, or a file, could not be written or read. 1 is never the status of an accident. With `--json`, a
command that fails writes `{"error": {"code": …, "detail": …}}` to standard output.
"""

import re
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

import typer

from service.cli import (
    captures,
    database,
    deployments,
    device,
    keeping,
    keys,
    monitor,
    retention,
    tokens,
    webhooks,
    witness,
)
from service.cli.options import DEFECT, INTERRUPTED, NO, OK, UNDECIDED, UNWRITTEN, USAGE
from service.cli.output import watched_streams
from service.client.display import open_screen
from service.client.failures import ClientFailure, Unwritten

app = typer.Typer(
    name="fengni",
    help="Fengni 封泥: field captures that a stranger can check without trusting the operator.",
    no_args_is_help=False,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(deployments.app)
app.add_typer(keeping.app)
app.add_typer(captures.app)
app.add_typer(monitor.app)
app.add_typer(device.app, name="device")
app.add_typer(deployments.log_app, name="log")
app.add_typer(database.app, name="db")
app.add_typer(keys.app, name="keys")
app.add_typer(retention.app, name="retention")
app.add_typer(tokens.app, name="token")
app.add_typer(webhooks.app, name="webhook")
app.add_typer(witness.app, name="witness")


def main() -> None:
    """Run the command line and end the process with its exit status."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command.

    Args:
        arguments: without the program's name.

    Returns:
        The exit status.
    """
    with watched_streams():
        ended = _end_of(arguments)
        if isinstance(ended, int):
            return ended
        screen = open_screen()
        if ended.status != INTERRUPTED:
            screen.fail(ended.detail)
        if "--json" in takewhile(lambda word: word != "--", arguments):
            try:
                screen.json({"error": {"code": ended.code, "detail": ended.detail}})
            except Unwritten:
                return UNWRITTEN
        return ended.status


@dataclass(frozen=True, slots=True, kw_only=True)
class _Failed:
    """A command that could not do what it was asked."""

    status: int
    code: str
    detail: str


def _end_of(arguments: Sequence[str]) -> int | _Failed:
    """The exit status of a command, or what kept it from having one of its own."""
    try:
        status = app(args=list(arguments), prog_name="fengni", standalone_mode=False)
        sys.stdout.flush()
    except (typer.Abort, KeyboardInterrupt):
        return _Failed(status=INTERRUPTED, code="interrupted", detail="It was interrupted.")
    except typer.TyperException as error:
        told = error.format_message() if isinstance(error, typer.BadParameter) else str(error)
        return _Failed(status=USAGE, code="misused", detail=f"{told} See `fengni --help`.")
    except ClientFailure as failure:
        return _Failed(status=failure.exit_code, code=failure.code, detail=failure.detail)
    except Exception as error:  # noqa: BLE001  whatever it is, it is no verdict
        return _failed(error)
    return status if isinstance(status, int) else OK


def _failed(error: Exception) -> _Failed:
    """What an error of ours means; a file that fails is named, and a defect is shown whole."""
    for kind, status in _statuses().items():  # asked for where something failed, and not before
        if isinstance(error, kind):
            name = re.sub(r"(?<!^)(?=[A-Z])", "_", type(error).__name__).lower()
            code = str(getattr(error, "code", name))
            return _Failed(status=status, code=code, detail=str(error))
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        return _Failed(
            status=UNWRITTEN,
            code="unwritten",
            detail=f"{place}{error.strerror or 'it cannot be read or written'}.",
        )
    traceback.print_exception(error)
    detail = "This is a defect of the program and says nothing about what it was given."
    return _Failed(status=DEFECT, code="defect", detail=detail)


def _statuses() -> Mapping[type[Exception], int]:
    """The exit status of each error of ours, the first that fits."""
    from evidence.errors import EvidenceError
    from service.law.refusals import Refusal
    from service.monitor.memory import StateRefused
    from service.monitor.promises import PromisesUnreadable
    from service.objects import StoreUnproven
    from service.serving import AlreadyServed
    from service.settings import SettingsInvalid
    from service.setup.children import ChildFailed
    from service.setup.databases import SetupRefused
    from service.setup.demo import DemoBusy
    from service.setup.parties import PartyMalformed
    from service.setup.postgres import ServerMissing
    from service.setup.registrar import Rejected, RequestRefused
    from service.tamper import TamperRefused
    from service.transparency.cosigning import WitnessRefused
    from service.transparency.tsa import OpensslMissing
    from storage.errors import IntegrityAlarm, StorageError, Unavailable

    no = (AlreadyServed, ChildFailed, DemoBusy, IntegrityAlarm, Rejected, TamperRefused)
    return {
        **dict.fromkeys(
            (PartyMalformed, RequestRefused, SettingsInvalid, SetupRefused, WitnessRefused), USAGE
        ),
        **dict.fromkeys((PromisesUnreadable, StateRefused), USAGE),
        **dict.fromkeys(no, NO),
        **dict.fromkeys((OpensslMissing, ServerMissing, Unavailable), UNDECIDED),
        **dict.fromkeys((EvidenceError, Refusal, StorageError, StoreUnproven), NO),
    }
