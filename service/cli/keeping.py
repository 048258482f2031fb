"""Commands that keep what is there: re-hash a sample, and copy everything to another place.

Does: reads arguments, calls one function, shows the result. Refuses to decide anything itself.
"""

from pathlib import Path
from typing import Annotated

import typer

from service.cli.options import (
    NO,
    OK,
    UNDECIDED,
    ConfigOption,
    FolderArgument,
    JsonOption,
    deployment_of,
)
from service.client.display import open_screen

app = typer.Typer()


@app.command()
def scrub(
    folder: FolderArgument = None,
    size_bytes: Annotated[
        int | None, typer.Option("--bytes", min=1, help="Else $FENGNI_SCRUB_BYTES.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, max=100_000, help="Contents at most.")] = 100_000,
    seconds: Annotated[int | None, typer.Option(min=1, help="Else $FENGNI_SCRUB_S.")] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> int:
    """Re-hash a sample of what is kept, oldest first, mend what can be, and log the result."""
    from service.context import open_context
    from service.scrub import Bounds, scrub_once
    from service.settings import read_environment
    from service.transparency.confirming import ask_witnesses

    settings = read_environment(folder=deployment_of(folder, config))
    bounds = Bounds(
        size_bytes=size_bytes or settings.scrub_bytes,
        count=count,
        seconds=float(seconds or settings.scrub_s),
    )
    context = open_context(settings, witnessed=ask_witnesses)
    try:
        found = scrub_once(context, bounds)
    finally:
        context.close()
    screen = open_screen()
    if as_json:
        screen.json({"organs": [one.document() for one in found]})
    else:
        for one in found:
            told = ", ".join(f"{count} {word}" for word, count in sorted(one.outcomes.items()))
            screen.out.print(
                f"organ {one.organ}: {len(one.looked_at)} of {one.population} contents looked at"
                f" ({told or 'none'}); of the others at most {one.bad_at_most} are bad,"
                " at 95 % confidence"
            )
    if any(one.bad for one in found):
        return NO
    return UNDECIDED if any(one.outcomes["unreadable"] for one in found) else OK


@app.command()
def backup(
    target: Annotated[Path, typer.Argument(help="A folder of this backup, on another disk.")],
    folder: Annotated[
        Path | None, typer.Option(help="The deployment; else $FENGNI_FOLDER, else the demo.")
    ] = None,
    only: Annotated[
        str | None, typer.Option(metavar="log|database|objects", help="One step of it.")
    ] = None,
    config: ConfigOption = None,
) -> int:
    """Copy heads, published files, data keys, database and objects, in the order that restores.

    A server may run meanwhile. A second time only what is new is copied. Data keys on a server
    are not: `fengni keys backup` writes them into an encrypted file.
    """
    from service.client.failures import Misused
    from service.settings import read_environment
    from service.truth.backup import STEPS, copy_deployment

    if only is not None and only not in STEPS:
        raise Misused(f"There is no step {only}: it is one of {', '.join(STEPS)}.")
    settings = read_environment(folder=deployment_of(folder, config))
    steps = STEPS if only is None else (only,)
    copied = copy_deployment(settings, target.absolute(), steps)
    screen = open_screen()
    for name, files in copied.items():
        screen.out.print(f"{name}: {files} files copied")
    if STEPS[0] in steps and "text-keys" not in copied:
        screen.out.print("The data keys lie on a server: back them up with `fengni keys backup`.")
    screen.out.print(
        "Keys and deployment.json are not in it: keep them apart, and the registrar's elsewhere."
    )
    return OK
