"""What several commands share: exit statuses, options, and which deployment is meant.

Does: describes each option once, and finds the deployment's folder. Refuses to guess one where
neither the command, the environment nor the client's configuration names it.
"""

from pathlib import Path
from typing import Annotated

import typer

from service.client.failures import Misused

OK, NO, UNDECIDED, USAGE = 0, 1, 2, 64
INTERRUPTED = 130

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Client configuration; else $FENGNI_CLIENT_CONFIG, else what `fengni demo` wrote.",
    ),
]
FolderArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="[FOLDER]",
        help="The deployment; else $FENGNI_FOLDER, else the demo that the client knows.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Write the result as JSON.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
KnownKeysOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="The trust file; else the one that the client knows."),
]


def deployment_of(folder: Path | None, config: Path | None) -> Path | None:
    """The folder that was named, or None for $FENGNI_FOLDER, or the demo that the client knows."""
    from service.client.config import read_config
    from service.settings import SettingsInvalid, client_config_file, read_environment

    if folder is not None:
        return folder
    try:
        read_environment()
    except SettingsInvalid:  # the environment names no deployment
        pass
    else:
        return None
    demo_folder = read_config(config, client_config_file()).demo_folder
    if demo_folder is None:
        raise Misused("Name the deployment's folder; the client knows no demo.")
    return Path(demo_folder) / "server"
