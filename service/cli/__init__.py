"""The command line: `fengni COMMAND`.

Does: reads arguments, calls one function, shows the result, gives an exit status. Refuses to
decide anything itself; what a command means stands in the module that it calls.

Exit status everywhere: 0 done or passed, 1 a firm no, 2 could not be decided (no network, no key:
the same command may be given again), 64 wrong usage.
"""

import sys
from collections.abc import Mapping, Sequence

import typer

from service.cli import captures, deployments, device, monitor, tokens, witness
from service.cli.options import INTERRUPTED, NO, OK, UNDECIDED, USAGE
from service.client.display import open_screen
from service.client.failures import ClientFailure

app = typer.Typer(
    name="fengni",
    help="Fengni 封泥: field captures that a stranger can check without trusting the operator.",
    no_args_is_help=False,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(deployments.app)
app.add_typer(captures.app)
app.add_typer(monitor.app)
app.add_typer(device.app, name="device")
app.add_typer(deployments.log_app, name="log")
app.add_typer(tokens.app, name="token")
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
    screen = open_screen()
    try:
        status = app(args=list(arguments), prog_name="fengni", standalone_mode=False)
    except typer.Abort:
        return INTERRUPTED
    except KeyboardInterrupt:
        return INTERRUPTED
    except typer.TyperException as error:
        told = error.format_message() if isinstance(error, typer.BadParameter) else str(error)
        screen.fail(f"{told} See `fengni --help`.")
        return USAGE
    except ClientFailure as failure:
        screen.fail(failure.detail)
        return failure.exit_code
    except tuple(_statuses()) as error:  # asked for where something failed, and not before
        screen.fail(str(error))
        return next(number for kind, number in _statuses().items() if isinstance(error, kind))
    return status if isinstance(status, int) else OK


def _statuses() -> Mapping[type[Exception], int]:
    """The exit status of each error of ours, the first that fits; others are shown whole."""
    from evidence.errors import EvidenceError
    from service.law.refusals import Refusal
    from service.monitor.memory import StateRefused
    from service.monitor.promises import PromisesUnreadable
    from service.serving import AlreadyServed
    from service.settings import SettingsInvalid
    from service.setup.children import ChildFailed
    from service.setup.demo import DemoBusy
    from service.setup.deployment import SetupRefused
    from service.setup.parties import PartyMalformed
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
        **dict.fromkeys((OpensslMissing, Unavailable), UNDECIDED),
        **dict.fromkeys((EvidenceError, Refusal, StorageError), NO),
    }
