"""Commands about keys of devices and people: make one, have it enrolled, end it.

Does: reads arguments, calls one function, shows the result. Refuses to enrol anything without the
registrar's folder.
"""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.options import ConfigOption
from service.client.display import open_screen

if TYPE_CHECKING:
    from service.setup.enrolling import Post

app = typer.Typer(help="Keys of devices and people: make one, have it enrolled, end it.")


@app.command()
def keygen(
    holder: Annotated[str, typer.Option(help="Pseudonym of the device or person.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where the private key goes.")],
    request: Annotated[Path, typer.Option(metavar="FILE", help="Where the request goes.")],
    role: Annotated[str, typer.Option(help="device, patrol, officer, reviewer, …")] = "device",
    audience: Annotated[str | None, typer.Option(help="Else the client's.")] = None,
    organ: Annotated[str | None, typer.Option(help="Else the client's.")] = None,
    config: ConfigOption = None,
) -> None:
    """Make a key and the request with which its registrar can enrol it."""
    from service.client.config import read_config
    from service.context import fresh_salt, system_clock
    from service.settings import client_config_file
    from service.setup.enrolling import make_key

    if audience is None or organ is None:
        known = read_config(config, client_config_file())
        audience, organ = audience or known.audience, organ or known.organ
    key_id = make_key(
        out,
        request,
        audience=audience,
        organ=organ,
        role=role,
        holder=holder,
        at=system_clock(),
        salt=fresh_salt(),
    )
    screen = open_screen()
    screen.out.print(f"Key {key_id} lies in {out}, its request in {request}.")
    screen.out.print(f"Have it enrolled: fengni device enrol {request} --registrar DIR")


@app.command()
def enrol(
    request: Annotated[Path, typer.Argument(help="What `fengni device keygen` wrote.")],
    registrar: Annotated[Path, typer.Option(metavar="DIR", help="The registrar's folder.")],
    config: ConfigOption = None,
) -> None:
    """As the registrar: sign the enrolment of a key and have the log take it."""
    from service.setup.enrolling import enrol_key

    with _post(registrar, config) as post:
        enrolled = enrol_key(post, request)
    open_screen().out.print(f"The key {enrolled} is enrolled from the next entry on.")


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(help="64 hex digits, as keygen printed them.")],
    registrar: Annotated[Path, typer.Option(metavar="DIR", help="The registrar's folder.")],
    reason: Annotated[str, typer.Option(help="A code, such as lost, stolen, retired.")] = "lost",
    suspected_since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Such as 2026-11-23T09:00:00.000Z.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """As the registrar: end a key from the next entry on."""
    from service.client.opening import read_moment

    since = None if suspected_since is None else read_moment(suspected_since)
    with _post(registrar, config) as post:
        post.desk.revoke(key_id, reason=reason, suspected_since=since, submit=post.submit)
    open_screen().out.print(f"The key {key_id} has ended from the next entry on.")


def _post(registrar: Path, config: Path | None) -> AbstractContextManager["Post"]:
    from service.context import fresh_salt, system_clock
    from service.settings import client_config_file
    from service.setup.enrolling import open_post

    environment = client_config_file()
    return open_post(registrar, config, environment, clock=system_clock, fresh_salt=fresh_salt)
