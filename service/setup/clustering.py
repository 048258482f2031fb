"""Running a cluster on one machine: start every part, keep it at work, end it as a whole.

Does: starts databases and store, then parties, nodes, workers and proxy; says how long that took
and where everything is; starts again what died, later each time. Ends on SIGINT, SIGTERM, or when
the pipe that it reads from is closed; when it is killed, the kernel ends its children.
"""

import os
import select
import stat
import sys
import time
from pathlib import Path

from service.client.config import write_config
from service.client.display import Screen
from service.deployment_file import Places, read_deployment
from service.settings import read_environment
from service.setup.children import Children
from service.setup.cluster import (
    FIRST,
    PROXY,
    STORE,
    Cluster,
    find_nginx,
    lay_out,
    make_cluster,
    open_cluster,
    owner_urls,
    parties_of,
    provide_node,
    proxy_program,
    tell_addresses,
)
from service.setup.databases import databases_of, prepare_databases
from service.setup.demo import DEVICE, client_config, hold_demo, provide_photos, token_of
from service.setup.proxy import AUTHORITY
from service.setup.running import ending_on_signals
from service.setup.tending import Tending

_WATCH_S = 0.2
CLIENT_FILE = "client.json"


def run_cluster(folder: Path, *, web: int, workers: int, screen: Screen) -> None:
    """Make the cluster if it is not there, run it, and return when it is asked to end.

    Args:
        folder: where it lies.
        web: how many web nodes, ≥ 1.
        workers: how many worker processes, ≥ 0.
        screen: where to show things.

    Raises:
        DemoBusy: the folder is taken.
        ServerMissing, SetupRefused, StorageError: it could not be made.
        ChildFailed: a part ended during the start.
    """
    begun = time.monotonic()
    with ending_on_signals():
        cluster = open_cluster(folder.absolute(), web, workers)
        with hold_demo(cluster.folder):
            lay_out(cluster)
            with Children(cluster.folder / "logs") as children:
                names = _start(cluster, children)
                token = _tell_client(cluster, proxied=PROXY in names)
                _show_banner(cluster, names, token, time.monotonic() - begun, screen)
                _stay(children, names, screen)


def _start(cluster: Cluster, children: Children) -> list[str]:
    """Start every part in the order in which they need each other; returns their names."""
    servers = cluster.servers()
    for name, program in servers.items():
        (cluster.folder / "logs" / f"{name}.log").unlink(missing_ok=True)
        children.start_program(name, program)
    for name in servers:
        if name != STORE or cluster.made:
            children.wait_ready(name)
    if cluster.made:
        _migrate(cluster)
    else:
        make_cluster(cluster, children)
    parties = _start_parties(cluster, children)
    nodes = list(cluster.web_ports)
    for name in nodes:
        arguments = ["serve", provide_node(cluster, name), "--host", "127.0.0.1"]
        port = cluster.web_ports[name]
        variables = cluster.variables(name)
        children.start(name, "service.cli", arguments, port=port, environment=variables)
        if name == FIRST:
            children.wait_ready(name)
    working = list(cluster.worker_ports)
    for name, port in cluster.worker_ports.items():
        arguments = ["worker", provide_node(cluster, name), "--host", "127.0.0.1"]
        variables = cluster.variables(name)
        children.start(name, "service.cli", arguments, port=port, environment=variables)
    for name in (*nodes, *working):
        children.wait_ready(name)
    nginx = find_nginx()
    if nginx is not None:
        (cluster.folder / PROXY / "nginx.pid").unlink(missing_ok=True)
        children.start_program(PROXY, proxy_program(cluster, nginx))
        children.wait_ready(PROXY)
    return [*servers, *parties, *nodes, *working, *([] if nginx is None else [PROXY])]


def _start_parties(cluster: Cluster, children: Children) -> list[str]:
    """Start authorities and witness, and write down where they listen."""
    deployment = read_deployment(read_environment(folder=cluster.first))
    parties = parties_of(deployment.organs[0])
    for name, (module, words) in parties.items():
        children.start(name, module, [*words, cluster.folder / name])
    tell_addresses(cluster, {name: children.address(name) for name in parties})
    return list(parties)


def _migrate(cluster: Cluster) -> None:
    """Bring the databases of a cluster that an older version made to this version's schema."""
    settings = read_environment(folder=cluster.first, variables=cluster.variables(FIRST))
    databases = databases_of(settings, read_deployment(settings), *owner_urls(cluster))
    prepare_databases(databases, Places(cluster.first))


def _tell_client(cluster: Cluster, *, proxied: bool) -> str:
    """Write the client's configuration; returns the device's token."""
    deployment = read_deployment(read_environment(folder=cluster.first))
    url, organ = deployment.database_url or "", deployment.organs[0].id
    token = token_of(cluster.folder / "people", url, organ, DEVICE)
    address = entrance(cluster, proxied=proxied)
    config = client_config(cluster.folder, FIRST, address, token)
    write_config(cluster.folder / CLIENT_FILE, config)
    provide_photos(cluster.folder / "photos")
    return token


def entrance(cluster: Cluster, *, proxied: bool) -> str:
    """Where this machine's command line goes: the proxy, or the first node."""
    port = cluster.proxy_ports[1] if proxied else cluster.web_ports[FIRST]
    return f"http://127.0.0.1:{port}"


def _show_banner(
    cluster: Cluster, names: list[str], token: str, seconds: float, screen: Screen
) -> None:
    say = screen.out.print
    say(f"\nFengni 封泥: the cluster is ready after {seconds:.1f} s", style="bold")
    for unsafe in (
        "FOR TRIAL ONLY: keys, time-stamps, witness, databases and store lie on this machine, in",
        "one hand. What they sign shows how it works and proves nothing to a stranger.",
    ):
        say(unsafe, style="yellow")
    folder = cluster.folder
    if PROXY in names:
        say(f"  with TLS                  https://127.0.0.1:{cluster.proxy_ports[0]}")
        say(f"  trust for it              {folder / PROXY / AUTHORITY}", soft_wrap=True)
    else:
        say("  no TLS proxy: nginx is not installed; requests go to the first node")
    say(f"  this machine's commands   {entrance(cluster, proxied=PROXY in names)}")
    for node, port in cluster.web_ports.items():
        say(f"  {node:<25} http://127.0.0.1:{port}/docs")
    for name, place in (("evidence", cluster.evidence), ("heads", cluster.heads)):
        say(f"  database of {name:<13} 127.0.0.1:{place.port}")
    say(f"  object store              http://127.0.0.1:{cluster.weed.ports['s3']}")
    say(f"  processes                 {' '.join(names)}", soft_wrap=True)
    say(
        f"  seal a photo              fengni upload PHOTO.jpg --config {folder / CLIENT_FILE}",
        soft_wrap=True,
    )
    say(f"  with curl                 -H 'Authorization: Bearer {token}'", soft_wrap=True)
    say(f"  everything lies in        {folder}; end it with Ctrl-C\n", soft_wrap=True)


def _stay(children: Children, names: list[str], screen: Screen) -> None:
    """Keep every part at work until somebody ends it."""
    tending = Tending(children, names, screen.fail, time.monotonic(), others="the others go on")
    while not _closed():
        tending.look(time.monotonic())
        time.sleep(_WATCH_S)


def _closed() -> bool:
    """Whether standard input is a pipe whose other end is closed."""
    try:
        piped = stat.S_ISFIFO(os.fstat(sys.stdin.fileno()).st_mode)
    except (OSError, ValueError):
        return False
    readable, _, _ = select.select([sys.stdin], [], [], 0) if piped else ([], [], [])
    return bool(readable) and not os.read(sys.stdin.fileno(), 4096)
