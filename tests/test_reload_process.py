"""What a reload finds on the disk: settings for the workers, what cannot change, what is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from farebox import __version__
from farebox.core.bus import PROTOCOL, plain_settings
from farebox.core.settings import Settings
from farebox.reload import Given, question
from farebox.reload_process import Refused, find
from farebox.settings import ConfigError
from farebox.store import open_store
from farebox.store.schema import KNOWN_VERSIONS, VERSION_TABLE

PRICED = """
[[channels]]
id = "one"
vendor = "openai"
api_key = "env:NO_SUCH_KEY"

[[models]]
id = "m"
channels = [{ channel = "one", model = "m" }]
price = { input = "%s", output = "2" }
"""


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FAREBOX_CONFIG", "FAREBOX_PORT", "FAREBOX_SECRET_FILE"):
        monkeypatch.delenv(name, raising=False)


def running(folder: Path, **settings: Any) -> Settings:
    """The settings of a gateway that was started in this folder, whose store is there."""
    data_dir = folder / "data"
    open_store(f"sqlite:///{data_dir / 'farebox.db'}", data_dir).close()
    database = f"sqlite:///{data_dir / 'farebox.db'}"
    return Settings(data_dir, database, config=folder / "farebox.toml", **settings)


def found(start: Settings, text: str, **overrides: object) -> tuple[Settings, tuple[str, ...]]:
    """What a reload finds when its file says this."""
    assert start.config is not None
    start.config.write_text(text)
    flags = {"data_dir": str(start.data_dir), **overrides}
    got = find(str(start.config), flags, plain_settings(start))
    return got.settings, got.notes


def test_what_the_file_says_now_counts(tmp_path: Path) -> None:
    """Also what it does not say any more; a flag still wins over it."""
    start = running(tmp_path, log_level="debug", keepalive_s=3.0, port=8123, local=False)
    text = "[server]\nkeepalive_s = 7\nlocal = true\nport = 8123"
    settings, notes = found(start, text, local=False)
    assert (settings.keepalive_s, settings.log_level, settings.port) == (7.0, "info", 8123)
    assert settings.config == start.config
    assert notes == ()


def test_what_cannot_change_is_named_and_stays(tmp_path: Path) -> None:
    """Address, workers, store, secret and the local model are those of the start."""
    start = running(tmp_path, workers=2, port=8123)
    text = '[server]\nport = 9000\nworkers = 3\nlocal = false\nhost = "::1"\nlog_level = "error"'
    settings, notes = found(start, text)
    assert (settings.host, settings.port, settings.workers) == ("127.0.0.1", 8123, 2)
    assert (settings.local, settings.log_level) == (True, "error")
    (note,) = notes
    assert note == (
        "[server] host, [server] port, [server] workers, [server] local cannot change while the "
        "gateway runs, and stay as before. Stop it and start it for that."
    )


def test_port_0_is_the_port_that_was_got(tmp_path: Path) -> None:
    """Nothing has changed, and nothing is said."""
    settings, notes = found(running(tmp_path, port=41234), "[server]\nport = 0")
    assert (settings.port, notes) == (41234, ())


def test_a_store_of_another_schema_is_refused(tmp_path: Path) -> None:
    """It is not brought up to date while older processes use it."""
    start = running(tmp_path)
    store = open_store(start.database, start.data_dir)
    with store._writing() as connection:
        older = min(KNOWN_VERSIONS)
        connection.exec_driver_sql(f"UPDATE {VERSION_TABLE} SET version_num = '{older}'")
    store.close()
    with pytest.raises(Refused, match=r"has another schema of the store\. Stop the gateway"):
        found(start, "")


def test_a_wrong_setting_is_a_sentence(tmp_path: Path) -> None:
    """As at the start: where it stands, and what it must be."""
    with pytest.raises(ConfigError, match="keepalive_s must be a number of seconds"):
        found(running(tmp_path), "[server]\nkeepalive_s = 0")


def _ask(start: Settings, text: str, then: str) -> list[dict[str, Any]]:
    """The answers of the real process to a question, and to what is said then."""
    assert start.config is not None
    start.config.write_text(text)
    given = Given(start.config, {"data_dir": start.data_dir})
    done = subprocess.run(
        [sys.executable, "-P", "-m", "farebox.reload_process"],
        input=question(given, plain_settings(start)) + then.encode(),
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == b""
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_catalogue_is_changed_only_when_it_is_told_to(tmp_path: Path) -> None:
    """A wrong one is refused at once; a right one waits for the word."""
    start = running(tmp_path)
    about = {"protocol": PROTOCOL, "version": __version__}
    (wrong,) = _ask(start, PRICED % "dear", "apply\n")
    assert {name: wrong[name] for name in about} == about
    assert "models[0].price.input 'dear' is not a decimal number" in wrong["problems"][0]
    (right,) = _ask(start, PRICED % "1", "")
    assert right == {**about, "problems": [], "settings": plain_settings(start), "notes": []}
    assert _catalogue(start) is None
    _, applied = _ask(start, PRICED % "1", "apply\n")
    assert applied["problems"] == []
    assert "NO_SUCH_KEY" in applied["notes"][0]
    assert _catalogue(start) is not None


def _catalogue(start: Settings) -> object:
    store = open_store(start.database, start.data_dir)
    try:
        return store.load_catalogue()
    finally:
        store.close()
