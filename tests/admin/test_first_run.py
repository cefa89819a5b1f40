"""What a start finds or makes: whose catalogue it is, and the account of a first run."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from farebox.admin import accounts, first_run
from farebox.admin.catalogue import release
from farebox.admin.catalogue_file import BadCatalogue
from farebox.core.settings import Settings
from farebox.store import Store, open_store

MISSING = "The local model is not installed."
FILE: dict[str, Any] = {
    "channels": [
        {"id": "ds", "vendor": "deepseek", "api_key": "env:MINE"},
        {"id": "l", "vendor": "local"},
    ],
    "models": [
        {
            "id": "pro",
            "channels": [{"channel": "ds", "model": "m"}],
            "price": {"input": "1", "output": "1"},
        }
    ],
}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Of a data folder that is not there yet."""
    return Settings(tmp_path / "data", f"sqlite:///{tmp_path}/data/farebox.db")


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    """A new store."""
    opened = open_store(settings.database, settings.data_dir)
    yield opened
    opened.close()


def _models(prepared: first_run.Prepared) -> set[str]:
    return {model_id.split("-")[0] for model_id in prepared.catalogue.models}


def test_a_folder_is_fresh_until_something_is_kept_in_it(tmp_path: Path) -> None:
    """The lock of a start that found its port taken does not count."""
    folder = tmp_path / "data"
    assert first_run.is_fresh(folder)
    folder.mkdir()
    (folder / "lock").touch()
    assert first_run.is_fresh(folder)
    (folder / "farebox.db").touch()
    assert not first_run.is_fresh(folder)
    assert not first_run.is_fresh(folder / "farebox.db")


def test_without_keys_the_local_model_is_served_alone(store: Store, settings: Settings) -> None:
    """It is the example that a newcomer pastes."""
    prepared = first_run.prepare(store, settings, {}, None, None)
    assert (prepared.run_local, prepared.only_local) == (True, True)
    assert (prepared.example, prepared.notes) == ("smollm2-135m-instruct", ())


def test_keys_are_found_again_at_each_start(store: Store, settings: Settings) -> None:
    """One that is exported later counts, one that is gone does not; the local model stays on."""
    keys = {"DEEPSEEK_API_KEY": "k"}
    first = first_run.prepare(store, settings, {}, None, None)
    second = first_run.prepare(store, settings, keys, None, None)
    third = first_run.prepare(store, settings, {}, None, None)
    assert [_models(each) for each in (first, second, third)] == [
        {"smollm2"},
        {"smollm2", "deepseek"},
        {"smollm2"},
    ]
    assert second.found == ("DeepSeek from DEEPSEEK_API_KEY, channel deepseek",)
    assert (second.only_local, second.example) == (False, "smollm2-135m-instruct")


def test_without_the_local_model_there_is_an_example_of_a_vendor(
    store: Store, settings: Settings
) -> None:
    """Turned off it is no word worth; not installed, a sentence says how to get it."""
    off = replace(settings, local=False)
    keys = {"DEEPSEEK_API_KEY": "k"}
    turned_off = first_run.prepare(store, off, keys, None, MISSING)
    assert (turned_off.run_local, turned_off.example) == (False, "deepseek-flash")
    assert turned_off.notes == ()
    not_there = first_run.prepare(store, settings, keys, None, MISSING)
    assert (not_there.run_local, not_there.notes) == (False, (MISSING,))
    assert _models(not_there) == {"deepseek"}


def test_nothing_to_serve_is_no_error(store: Store, settings: Settings) -> None:
    """There is then no example."""
    prepared = first_run.prepare(store, replace(settings, local=False), {}, None, None)
    assert (prepared.example, prepared.catalogue.models) == (None, {})


def test_a_file_makes_the_catalogue_and_keys_of_the_environment_do_not(
    store: Store, settings: Settings
) -> None:
    """Not at this start, and not at a later one without the file."""
    keys = {"DEEPSEEK_API_KEY": "k", "MINE": "m"}
    with_file = replace(settings, config=Path("/etc/farebox.toml"))
    by_file = first_run.prepare(store, with_file, keys, FILE, None)
    later = first_run.prepare(store, settings, keys, None, None)
    for prepared in (by_file, later):
        assert set(prepared.catalogue.channels) == {"ds", "l"}
        assert (prepared.found, prepared.run_local, prepared.example) == ((), True, "pro")
    stored = store.load_catalogue()
    assert stored is not None
    assert (stored.version, stored.source, stored.origin) == (1, "file", "/etc/farebox.toml")


def test_a_file_that_leaves_the_local_model_out_turns_it_off(
    store: Store, settings: Settings
) -> None:
    """One that has it needs it to be installed."""
    without = {**FILE, "channels": FILE["channels"][:1]}
    assert not first_run.prepare(store, settings, {"MINE": "m"}, without, None).run_local
    prepared = first_run.prepare(store, settings, {"MINE": "m"}, FILE, MISSING)
    assert not prepared.run_local
    assert prepared.notes == (MISSING, "Channel l is closed: the local model is not running.")


def test_a_catalogue_of_the_console_is_left_alone(store: Store, settings: Settings) -> None:
    """Also after a file was released."""
    first_run.prepare(store, settings, {"MINE": "m"}, FILE, None)
    release(store)
    prepared = first_run.prepare(store, settings, {"DEEPSEEK_API_KEY": "k"}, None, None)
    assert set(prepared.catalogue.channels) == {"ds", "l"}


def test_what_is_amiss_is_told_and_stops_nothing(store: Store, settings: Settings) -> None:
    """A key of our own, a reference that is not set, a channel that leads back to us."""
    own = first_run.prepare(store, settings, {"OPENAI_API_KEY": "sk-fb-x"}, None, None)
    assert own.notes[0].startswith("OPENAI_API_KEY is ignored: it holds a key of Farebox itself")
    circle = {"id": "c", "vendor": "openai_compatible", "base_url": "http://localhost:8790/v1"}
    document = {"channels": [FILE["channels"][0], circle], "models": FILE["models"]}
    prepared = first_run.prepare(store, settings, {}, document, None)
    assert [note.split(" (")[0] for note in prepared.notes] == [
        "Channel ds is closed: environment variable MINE is not set.",
        "Channel c leads back to this gateway",
    ]
    assert prepared.example is None


def test_a_wrong_file_changes_nothing(store: Store, settings: Settings) -> None:
    """It is refused as a whole."""
    with pytest.raises(BadCatalogue):
        first_run.prepare(store, settings, {}, {"models": 1}, None)
    assert store.load_catalogue() is None


def test_the_account_of_a_first_run_has_five_credits_and_one_key(store: Store) -> None:
    """It is made once."""
    secret = first_run.make_demo(store, b"p" * 32, with_key=True)
    assert secret is not None
    assert secret.startswith("sk-fb-")
    assert first_run.make_demo(store, b"p" * 32, with_key=True) is None
    assert accounts.show(store, "demo").money()["balance"] == "5"
    assert len(store.keys()) == 1


def test_the_account_may_be_made_without_a_key(store: Store) -> None:
    """Where its secret could not be shown to anybody."""
    assert first_run.make_demo(store, b"p" * 32, with_key=False) is None
    assert accounts.show(store, "demo").money()["balance"] == "5"
    assert store.keys() == []
