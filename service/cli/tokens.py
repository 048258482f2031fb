"""Commands about bearer tokens of a deployment: issue one, list them, end one.

Does: reads arguments, calls one function, shows the result. Refuses to show a secret twice.
"""

from typing import Annotated

import typer

from service.cli.options import FolderArgument, deployment_of
from service.client.display import open_screen

app = typer.Typer(help="Bearer tokens of a deployment: issue one, list them, end one.")


@app.command("issue")
def token_issue(
    holder: Annotated[str, typer.Argument(help="Pseudonym, as custody statements will name it.")],
    folder: FolderArgument = None,
    organ: Annotated[str | None, typer.Option(help="Where there are several.")] = None,
    scope: Annotated[list[str] | None, typer.Option(help="May be repeated; else all.")] = None,
    days: Annotated[int, typer.Option(min=1, max=3660, help="Until it expires.")] = 90,
) -> None:
    """Issue a bearer token; its secret is shown this once and kept nowhere."""
    from service.context import system_clock
    from service.settings import read_environment
    from service.setup.tokens import issue

    issued = issue(
        read_environment(folder=deployment_of(folder, None)),
        organ=organ,
        holder=holder,
        scopes=scope or (),
        days=days,
        at=system_clock(),
    )
    screen = open_screen()
    screen.out.print(issued.secret, soft_wrap=True, highlight=False)
    screen.err.print(f"Token {issued.id} of {holder}, until {issued.expires_at:%Y-%m-%d}.")


@app.command("list")
def token_list(folder: FolderArgument = None) -> None:
    """List the tokens, oldest first, without their secrets."""
    from service.settings import read_environment
    from service.setup.tokens import describe, listed

    screen = open_screen()
    for token in listed(read_environment(folder=deployment_of(folder, None))):
        screen.out.print(describe(token), soft_wrap=True, highlight=False)


@app.command("revoke")
def token_revoke(
    token: Annotated[str, typer.Argument(help="Its id, as `fengni token list` shows it.")],
    folder: FolderArgument = None,
) -> None:
    """End a token now."""
    from service.context import system_clock
    from service.settings import read_environment
    from service.setup.tokens import revoke

    revoke(read_environment(folder=deployment_of(folder, None)), token, system_clock())
