"""Commands about how long content stays: show, admit, hold, release, request and approve its end.

Does: reads arguments, calls the server with the token of the client's configuration, shows where
the content stands then. Refuses to decide: the server does, and logs each step under the token's
holder.
"""

from typing import Annotated

import typer

from service.cli.options import ConfigOption, JsonOption
from service.client.display import open_screen

app = typer.Typer(help="How long content stays, what holds it, and how it ends.")
CaptureArgument = Annotated[str, typer.Argument(metavar="ID", help="The capture's id, 64 digits.")]
ReasonOption = Annotated[str, typer.Option(help="A code, such as case_opened or purpose_met.")]
ReferenceOption = Annotated[str, typer.Option(help="Of the case, or of the hold.")]
AuthorityOption = Annotated[str | None, typer.Option(help="The article or order acted under.")]


@app.command()
def show(
    capture: CaptureArgument, as_json: JsonOption = False, config: ConfigOption = None
) -> None:
    """Show class, locks, holds and disposal of a capture's content."""
    _tell(capture, "", None, as_json=as_json, config=config)


@app.command()
def admit(
    capture: CaptureArgument,
    reference: ReferenceOption,
    reason: ReasonOption = "case_opened",
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="Until when; else what its class says.")
    ] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Admit content to a case: it is locked for longer, in the store too."""
    step = {"action": "admit", "reason": reason, "reference": reference}
    _tell(capture, "", step | _given(until=until), as_json=as_json, config=config)


@app.command()
def hold(
    capture: CaptureArgument,
    reference: ReferenceOption,
    reason: ReasonOption = "legal_hold",
    authority: AuthorityOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Put a legal hold on content; nothing disposes of it until its own reference releases it."""
    step = {"action": "hold", "reason": reason, "reference": reference}
    _tell(capture, "", step | _given(authority=authority), as_json=as_json, config=config)


@app.command()
def release(
    capture: CaptureArgument,
    reference: ReferenceOption,
    reason: ReasonOption = "hold_ended",
    authority: AuthorityOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Lift the legal hold of a reference."""
    step = {"action": "release", "reason": reason, "reference": reference}
    _tell(capture, "", step | _given(authority=authority), as_json=as_json, config=config)


@app.command()
def request(
    capture: CaptureArgument,
    reason: ReasonOption = "purpose_met",
    authority: AuthorityOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Request the disposal of content whose periods have ended."""
    step = {"reason": reason} | _given(authority=authority)
    _tell(capture, "disposal", step, as_json=as_json, config=config)


@app.command()
def approve(
    capture: CaptureArgument,
    disposal: Annotated[str, typer.Argument(metavar="REQUEST", help="Id of the request.")],
    reason: ReasonOption = "checked",
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Approve a request that two others did not make: the second approval releases the disposal."""
    step = {"request": disposal, "reason": reason}
    _tell(capture, "disposal/approvals", step, as_json=as_json, config=config)


def _given(**values: str | None) -> dict[str, str]:
    return {name: value for name, value in values.items() if value is not None}


def _tell(
    capture: str,
    address: str,
    step: dict[str, str] | None,
    *,
    as_json: bool,
    config: "ConfigOption",
) -> None:
    """Take a step, or none, and show where the content stands then."""
    from service.client.api import Api
    from service.client.config import read_config
    from service.settings import client_config_file

    found = read_config(config, client_config_file())
    path = f"/v1/captures/{capture.lower()}/{address or 'retention'}"
    with Api(found.server, found.token) as api:
        form = dict[str, object]
        standing = api.get(path, form) if step is None else api.post(path, step, form)
    screen = open_screen()
    if as_json:
        screen.json(standing)
        return
    for name, value in standing.items():
        if value not in (None, []):
            screen.out.print(f"{name:<16} {value}", soft_wrap=True, highlight=False)
