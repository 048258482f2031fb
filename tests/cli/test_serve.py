"""`fengni serve` that cannot: one sentence says why, and the status is a firm no."""

import os
import subprocess
from pathlib import Path

from tests.service.deployment_maker import make_deployment
from tests.service.server_process import free_port
from tests.tools import VENV_BIN


def test_a_start_that_fails_says_why(tmp_path: Path) -> None:
    """A log whose leaves are gone is refused with the reason, and not with the server's insides."""
    made = make_deployment(tmp_path / "deployment")
    folder = made.settings.folder
    for name in ("fengni.db-wal", "fengni.db-shm"):
        (folder / "db" / name).unlink(missing_ok=True)
    head = next((folder / "heads" / "county-a-2026").iterdir())
    size, _, rest = head.read_text().partition("\n")
    head.chmod(0o600)
    head.write_text(f"{int(size) + 1}\n{rest}")
    command = [VENV_BIN / "fengni", "serve", folder, "--port", free_port()]
    ran = subprocess.run(
        [str(word) for word in command],
        env={k: v for k, v in os.environ.items() if not k.startswith("FENGNI_")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 1
    assert "head file is damaged" in ran.stderr
    assert "Traceback" not in ran.stderr
