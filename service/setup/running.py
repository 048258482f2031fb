"""Running the demo: start what it needs, hand photos in, stay until somebody ends it.

Does: keeps the processes together, shows where to go, and takes everything down with it, also
when it is killed. Refuses to go on without its server.
"""

import signal
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from service.client.config import installed_path
from service.client.device import Claim
from service.client.display import Screen, show_sent, show_upload
from service.client.opening import open_uploader
from service.client.upload import Wish
from service.context import fresh_salt, system_clock
from service.serving import require_free_port
from service.settings import client_config_file
from service.setup.children import Children
from service.setup.demo import (
    DEVICE,
    OFFICER,
    SERVER,
    TASK,
    Demo,
    hold_demo,
    make_demo,
    provide_photos,
    provide_token,
    start_demo,
    write_client_config,
)
from service.setup.tending import Tending

_WATCH_S = 0.5


class _Ended(BaseException):
    """Somebody asked the demo to end."""


def run_demo(folder: Path, port: int, screen: Screen) -> None:
    """Make the demo if it is not there, run it, and return when it is asked to end.

    Args:
        folder: where it lies.
        port: where its server listens, on 127.0.0.1.
        screen: where to show things.

    Raises:
        DemoBusy, AlreadyServed: the folder or the port is taken.
        ChildFailed: its server ended, or another of its processes during the start.
        SetupRefused, StorageError: it could not be made.
    """
    demo = Demo(folder=folder.absolute(), port=port)
    require_free_port("127.0.0.1", port)
    with ending_on_signals():
        make_demo(demo)
        with hold_demo(demo.folder), Children(demo.folder / "logs") as children:
            token = provide_token(demo, DEVICE)
            path = client_config_file() or installed_path()
            write_client_config(demo, path, token)
            parties = start_demo(demo, children)
            _hand_in_photos(demo, path, screen)
            _show_banner(demo, path, token, screen)
            _stay(children, parties, screen)


def _hand_in_photos(demo: Demo, config: Path, screen: Screen) -> None:
    """As the demo's device, through the front door; what was handed in before stays as it is."""
    claims = provide_photos(demo.photos)
    wish = Wish(
        files=tuple(claims),
        claim=Claim(task=TASK, officer=OFFICER),
        own=claims,
        session="visit",
    )
    with (
        show_upload(screen, wish.files) as watcher,
        open_uploader(config, None, watcher, clock=system_clock, fresh_salt=fresh_salt) as uploader,
    ):
        show_sent(screen, uploader.upload(wish))


def _show_banner(demo: Demo, config: Path, token: str, screen: Screen) -> None:
    screen.out.print(f"\nFengni 封泥: the demo is ready on {demo.address}", style="bold")
    for unsafe in (
        "DEVELOPMENT ONLY: keys, time-stamps and witnesses lie on this machine, in one hand.",
        "What they sign shows how it works and proves nothing to a stranger.",
    ):
        screen.out.print(unsafe, style="yellow")
    screen.out.print(f"  the API, for reading      {demo.address}/docs")
    screen.out.print("  seal a photo              fengni upload PHOTO.jpg --wait time_stamped")
    screen.out.print(
        "  export and check it       fengni export ID --out it.zip; fengni verify it.zip"
    )
    screen.out.print("  play the forger           fengni tamper object ID")
    screen.out.print(f"  the client knows          {config}")
    screen.out.print(f"  with curl                 -H 'Authorization: Bearer {token}'")
    screen.out.print(f"  everything lies in        {demo.folder}; end it with Ctrl-C\n")


def _stay(children: Children, parties: Sequence[str], screen: Screen) -> None:
    tending = Tending(children, parties, screen.fail, time.monotonic())
    while True:
        children.require_alive(SERVER)
        tending.look(time.monotonic())
        time.sleep(_WATCH_S)


@contextmanager
def ending_on_signals() -> Generator[None]:
    """End in order on SIGTERM and Ctrl-C."""

    def end(_number: int, _frame: FrameType | None) -> None:
        """Leave the main thread's work where it stands."""
        raise _Ended

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    except _Ended:
        return
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
