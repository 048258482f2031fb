"""Commands over a deployment's database as an index of its log: verify it, make it anew.

Does: reads arguments, calls one function, shows the result. Refuses to decide anything itself.
"""

from typing import Annotated

import typer

from service.cli.options import NO, OK, ConfigOption, FolderArgument, JsonOption, deployment_of
from service.client.display import open_screen

app = typer.Typer(help="The database, which is an index of log and store.")


@app.command()
def verify(
    folder: FolderArgument = None,
    organ: Annotated[str | None, typer.Option(help="Only the logs of this organ.")] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> int:
    """Recompute the database from log and store, beside a server or without; name what differs.

    `fengni log fsck` asks whether the log is sound in itself, `fengni doctor` whether the
    deployment does what it must; this one, whether each row is what the log says.
    """
    from service.settings import read_environment
    from service.truth.verify import verify_database

    found = verify_database(read_environment(folder=deployment_of(folder, config)), organ)
    differs = any(one.differences for one in found)
    screen = open_screen()
    if as_json:
        screen.json({"logs": [one.document() for one in found]})
        return NO if differs else OK
    for one in found:
        verdict = "[bold red]differs[/]" if one.differences else "[green]agrees[/]"
        whole = f"log {one.log} ({one.origin}), {one.published} published entries"
        if one.unpublished:
            whole += f" and {one.unpublished} that only the database has"
        screen.out.print(f"{verdict}  {whole if one.origin else 'rows of no log'}")
        for each in one.differences:
            place = f"{each.table} {each.key}" + (f" {each.column}" if each.column else "")
            screen.out.print(f"  {each.kind:<8} {place}  believed: {each.believed}; {each.why}")
        rest = sum(one.counts.values()) - len(one.differences)
        if rest:
            screen.out.print(f"  {rest} more differences are not listed.")
        alone = ", ".join(f"{count} {table}" for table, count in one.alone.items() if count)
        if alone:
            screen.out.print(f"  Only the database has: {alone}.")
    return NO if differs else OK


@app.command()
def rebuild(
    folder: FolderArgument = None,
    database_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="The new database; else where the deployment has its own."
        ),
    ] = None,
    owner_url: Annotated[
        str | None, typer.Option(metavar="URL", help="The same for the role that owns its tables.")
    ] = None,
    salvage: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="A damaged or old database of this deployment: what proves itself is taken over.",
        ),
    ] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> int:
    """Make a new database of log and store; never over one that is there. The server is stopped."""
    from service.context import system_clock
    from service.settings import read_environment
    from service.truth.rebuild import rebuild_database

    made = rebuild_database(
        read_environment(folder=deployment_of(folder, config)),
        system_clock(),
        url=database_url,
        owner_url=owner_url,
        salvage=salvage,
    )
    lost = any(one.lost for one in made)
    screen = open_screen()
    if as_json:
        screen.json({"logs": [one.document() for one in made]})
        return NO if lost else OK
    for one in made:
        screen.out.print(
            f"log {one.log}: {one.entries} entries ({one.salvaged} from the other database),"
            f" {one.captures} captures, {one.cosignatures} cosignatures,"
            f" {one.timestamps} time-stamps."
        )
        if one.lost:
            screen.out.print(
                f"  [bold red]{one.lost} entries that were answered for are nowhere:[/] the log"
                " must not sign again; continue it: fengni log succeed --reason rolled_back"
            )
    screen.out.print(
        "Not carried over: tokens (issue them anew: fengni token issue), exports (ask again),"
        " readers' windows. Witnesses and authorities are asked again when the server runs."
    )
    return NO if lost else OK
