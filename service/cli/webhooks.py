"""Commands about webhooks: what subscribers were told, and telling them again.

Does: reads arguments, calls one function, shows the result. Refuses to decide anything itself.
"""

from typing import Annotated

import typer

from service.cli.options import NO, OK, ConfigOption, FolderArgument, JsonOption, deployment_of
from service.client.display import open_screen

app = typer.Typer(help="What subscribers of a deployment are told.")


@app.command("list")
def show(
    folder: FolderArgument = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, newest first.")] = 20,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Show deliveries, what became of them, and what was answered last."""
    from service.settings import read_environment
    from service.setup.telling import show_deliveries

    told = show_deliveries(read_environment(folder=deployment_of(folder, config)), limit)
    screen = open_screen()
    if as_json:
        screen.json({"deliveries": told})
        return
    for one in told:
        screen.out.print(
            f"{one['id']}  {one['state']:<9} {one['answer'] or '-':<4} {one['event']:<20}"
            f" {one['webhook']}  {one['problem']}"
        )


@app.command()
def replay(
    delivery: Annotated[str, typer.Argument(help="Its id.")],
    folder: FolderArgument = None,
    config: ConfigOption = None,
) -> int:
    """Tell a subscriber again, under the same id, what he was told or did not take."""
    from service.context import system_clock
    from service.settings import read_environment
    from service.setup.telling import tell_again

    settings = read_environment(folder=deployment_of(folder, config))
    found = tell_again(settings, delivery.lower(), system_clock())
    screen = open_screen()
    screen.out.print("It will be sent again." if found else "There is no such delivery.")
    return OK if found else NO
