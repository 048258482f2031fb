"""The commands that make a deployment and bring it to a newer version: `init` and `migrate`.

Does: reads arguments and shows what was made. Refuses to decide anything itself; what is made, and
what is refused, stands in `service.setup.deployment` and `service.setup.databases`.
"""

from pathlib import Path
from typing import Annotated

import typer

from service.client.display import open_screen

DatabaseOption = Annotated[
    str | None,
    typer.Option(metavar="URL", help="PostgreSQL, for the service's role; else a SQLite file."),
]
OwnerOption = Annotated[
    str | None,
    typer.Option(metavar="URL", help="The same database for the role that owns its tables."),
]
HeadsOption = Annotated[
    str | None,
    typer.Option(metavar="URL", help="The heads, on another PostgreSQL server; else files."),
]
HeadsOwnerOption = Annotated[
    str | None,
    typer.Option(metavar="URL", help="The same for the role that owns the heads' table."),
]


def init(  # noqa: PLR0913, PLR0917  the parameters are the options
    folder: Annotated[Path, typer.Argument(help="A new folder.")],
    organ: Annotated[str, typer.Option(help="The organ's id, such as `county-bureau`.")],
    origin: Annotated[
        str, typer.Option(help="The log's name for ever, such as `example.org/logs/2026`.")
    ],
    audience: Annotated[str | None, typer.Option(help="The deployment's id.")] = None,
    log: Annotated[str, typer.Option(help="The log's id in addresses.")] = "main",
    registrar: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the registrar's keys go.")
    ] = None,
    authority: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME,URL,ROOT_FILE", help="A time-stamp authority; repeatable."),
    ] = None,
    witness: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME,URL,VKEY[,VKEY]", help="A witness; repeatable."),
    ] = None,
    valid_days: Annotated[
        int, typer.Option(min=1, max=3650, help="How long known-keys.json is trusted.")
    ] = 730,
    database_url: DatabaseOption = None,
    owner_url: OwnerOption = None,
    heads_url: HeadsOption = None,
    heads_owner_url: HeadsOwnerOption = None,
) -> None:
    """Make a deployment: keys, stores, an empty log, the trust file, the first entry."""
    from service.setup.databases import Databases
    from service.setup.deployment import Plan, create_deployment
    from service.setup.parties import parse_authority, parse_witness

    place = folder.absolute()
    witnesses = tuple(parse_witness(one) for one in witness or ())
    desk = (registrar or place / "registrar").absolute()
    create_deployment(
        Plan(
            folder=place,
            registrar_folder=desk,
            audience=audience or organ,
            organ=organ,
            log_id=log,
            origin=origin,
            authorities=tuple(parse_authority(one) for one in authority or ()),
            witnesses=lambda _log_keys: witnesses,
            valid_days=valid_days,
            databases=Databases(
                url=database_url,
                owner_url=owner_url,
                heads_url=heads_url,
                heads_owner_url=heads_owner_url,
            ),
        )
    )
    screen = open_screen()
    screen.out.print(f"The deployment lies in {place}. Serve it: fengni serve {folder}")
    screen.out.print(
        f"The registrar's keys lie in {desk}: take that folder to another machine before anything"
        " counts. Give known-keys.json to those who will verify, by a way that is not this server."
    )


def migrate(
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="[FOLDER]", help="The deployment; else $FENGNI_FOLDER."),
    ] = None,
    owner_url: OwnerOption = None,
    heads_owner_url: HeadsOwnerOption = None,
) -> None:
    """Bring a deployment's databases to the schema of this version; evidence rows stay."""
    from service.settings import Places, read_deployment, read_environment
    from service.setup.databases import databases_of, prepare_databases

    settings = read_environment(folder=folder)
    deployment = read_deployment(settings)
    databases = databases_of(settings, deployment, owner_url, heads_owner_url)
    prepare_databases(databases, Places(settings.folder))
    open_screen().out.print("The databases have the schema of this version.")
