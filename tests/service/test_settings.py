"""Settings: what is unknown, malformed or unsafe stops the start."""

from pathlib import Path

import msgspec
import pytest

from service.deployment_file import read_deployment
from service.settings import Settings, SettingsInvalid, read_settings

ORGAN = {
    "id": "county-a",
    "log": {
        "id": "a-2026",
        "origin": "fengni.example/a-2026",
        "ed25519_key_file": "keys/log.pem",
        "ml_dsa_key_file": "keys/log-ml-dsa.pem",
    },
    "server_key_file": "keys/server.pem",
    "registrars": [],
    "witnesses": [{"name": "witness.example/w1", "url": "https://w1.example"}],
    "authorities": [{"name": "tsa", "url": "https://tsa.example", "root_files": []}],
}


def deployment_in(folder: Path, **changes: object) -> None:
    """Write a deployment file of one organ, with some members changed."""
    document = {"audience": "demo", "organs": [ORGAN], **changes}
    (folder / "deployment.json").write_bytes(msgspec.json.encode(document))


def test_variables_are_read_with_their_units(tmp_path: Path) -> None:
    """Values arrive as numbers and paths, everything else keeps its default."""
    settings = read_settings(
        {"FENGNI_FOLDER": str(tmp_path), "FENGNI_PORT": "9000", "HOME": "/elsewhere"}
    )
    assert settings == Settings(folder=tmp_path, port=9000)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FENGNI_PROT", "9000"),
        ("FENGNI_PORT", "many"),
        ("FENGNI_PORT", "0"),
        ("FENGNI_MODE", "test"),
        ("FENGNI_LEASE_S", "-1"),
    ],
)
def test_a_wrong_variable_stops_the_start(tmp_path: Path, name: str, value: str) -> None:
    """A misspelt or malformed variable is named, never ignored."""
    with pytest.raises(SettingsInvalid, match="FENGNI_"):
        read_settings({"FENGNI_FOLDER": str(tmp_path), name: value})


def test_the_folder_must_be_named() -> None:
    """There is no default place for evidence."""
    with pytest.raises(SettingsInvalid, match="FENGNI_FOLDER"):
        read_settings({})


def test_a_missing_deployment_file_names_the_command_that_makes_it(tmp_path: Path) -> None:
    """Nothing is made on the fly."""
    with pytest.raises(SettingsInvalid, match="fengni init"):
        read_deployment(Settings(folder=tmp_path))


@pytest.mark.parametrize(
    "changes",
    [
        {"unknown": 1},
        {"organs": []},
        {"organs": [ORGAN, ORGAN]},
        {"audience": "Not A Slug"},
        {"organs": [{**ORGAN, "log": {"id": "a", "origin": "UPPER/case"}}]},
    ],
)
def test_a_malformed_deployment_is_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    """Unknown members, doubled ids and wrong forms stop the start."""
    deployment_in(tmp_path, **changes)
    with pytest.raises(SettingsInvalid):
        read_deployment(Settings(folder=tmp_path))
