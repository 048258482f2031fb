"""Where a client finds its server, its token, its key and the keys that it trusts.

Does: reads and writes one JSON file, readable by its owner alone because it holds a token.
Search order: the file that was named, then `$FENGNI_CLIENT_CONFIG`, then
`etc/fengni/client.json` under the Python environment, where `fengni demo` puts it. Refuses a
file with unknown members: a misspelt one would be a default that nobody chose.

    {"server": "http://127.0.0.1:8000", "token": "…", "audience": "demo", "organ": "demo-organ",
     "log": "demo-2026", "origin": "fengni.example/logs/demo", "device_key_file": "…/device.pem",
     "known_keys_file": "…/known-keys.json", "journal_folder": "…/journal"}
"""

import sys
from pathlib import Path

import msgspec

from evidence.errors import EvidenceError
from evidence.keys import P256Signer
from evidence.known_keys import KnownKeys, parse_known_keys
from service.client.failures import Misused
from service.private_files import write_private

INSTALLED = Path("etc") / "fengni" / "client.json"
_HINT = "Run `make run` (or `fengni demo`) first, or name a file with --config."


class ClientConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a device must know about its server. Paths are absolute.

    Attributes:
        server: address without a final slash.
        token: bearer token with the scopes that the commands need.
        audience: the deployment's stable id.
        organ: the organ in whose name the device makes statements.
        log: id of the organ's log in addresses.
        origin: the log's name in checkpoints.
        device_key_file: PEM of the device's P-256 key.
        known_keys_file: the trust file.
        journal_folder: where statements and receipts are kept.
        demo_folder: the folder of a local demo instance, for `fengni tamper`.
    """

    server: str
    token: str
    audience: str
    organ: str
    log: str
    origin: str
    device_key_file: str
    known_keys_file: str
    journal_folder: str
    demo_folder: str | None = None

    def device_key(self) -> P256Signer:
        """Read the device's key.

        Raises:
            Misused: the file is missing or holds no P-256 key.
        """
        return read_key(Path(self.device_key_file))

    def known_keys(self) -> KnownKeys:
        """Read the trust file.

        Raises:
            Misused: it is missing or malformed; without it nothing can be confirmed.
        """
        return read_known_keys(Path(self.known_keys_file))


def installed_path() -> Path:
    """Where the Python environment keeps its own client configuration."""
    return Path(sys.prefix) / INSTALLED


def read_config(named: Path | None, environment: Path | None) -> ClientConfig:
    """Read the first configuration of the search order that is there.

    Args:
        named: what the person named on the command line, if anything.
        environment: what `$FENGNI_CLIENT_CONFIG` names, if anything.

    Raises:
        Misused: there is none, or the first one found is malformed.
    """
    path = named or environment or installed_path()
    try:
        return msgspec.json.decode(path.read_bytes(), type=ClientConfig)
    except FileNotFoundError as error:
        raise Misused(f"There is no client configuration at {path}. {_HINT}") from error
    except OSError as error:
        raise Misused(f"The client configuration {path} cannot be read.") from error
    except msgspec.DecodeError as error:
        raise Misused(f"The client configuration {path} is malformed: {error}.") from error


def write_config(path: Path, config: ClientConfig) -> None:
    """Write the configuration in one step, for its owner alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_private(path, msgspec.json.format(msgspec.json.encode(config), indent=2) + b"\n")


def read_key(path: Path) -> P256Signer:
    """Read a P-256 private key.

    Raises:
        Misused: the file is missing or holds no such key.
    """
    try:
        return P256Signer.from_pem(path.read_bytes())
    except OSError as error:
        raise Misused(f"The key file {path} cannot be read.") from error
    except EvidenceError as error:
        raise Misused(f"The key file {path} holds no key of ours: {error.detail}") from error


def read_known_keys(path: Path) -> KnownKeys:
    """Read a trust file.

    Raises:
        Misused: it is missing or malformed; without it nothing can be confirmed.
    """
    try:
        return parse_known_keys(path.read_bytes())
    except OSError as error:
        raise Misused(f"The file of known keys {path} cannot be read.") from error
    except EvidenceError as error:
        raise Misused(f"The file of known keys {path} is not usable: {error.detail}") from error
