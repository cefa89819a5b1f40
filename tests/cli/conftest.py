"""The command line on a data folder of its own."""

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from farebox.cli.main import app
from farebox.core.ports import Settlement
from farebox.store import open_store
from tests import charging

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs a verb on the test's own data folder; `--database` and so on may be given too."""

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(
            app,
            [*arguments, "--data-dir", str(tmp_path / "data")],
            env={"HOME": str(tmp_path), "FAREBOX_CONFIG": "", "FAREBOX_DATABASE": ""},
            catch_exceptions=False,
        )

    return invoke


def settle_in(folder: Path, call: Settlement) -> None:
    """Charge a call in the store of a data folder, as a ledger process would."""
    store = open_store(f"sqlite:///{folder}/farebox.db", folder)
    charging.settle(store, call)
    store.close()
