"""A value that a setting does not take is refused in words, with the key as it was written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from farebox.settings import ConfigError, load
from farebox.settings_rules import usable_cores


def _refusal(config: Path | None, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load(config, {}, environ or {})
    return str(caught.value)


def _file(folder: Path, text: str) -> Path:
    path = folder / "farebox.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_workers_auto_is_the_number_of_usable_cores() -> None:
    """It is resolved before anybody sees it: where one core is allowed, to one worker."""
    workers = load(None, {"workers": "auto"}, {"HOME": "/home/ada"}).settings.workers
    assert workers == usable_cores()
    script = (
        "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]);"
        "from farebox.settings import load;"
        "print(load(None, {'workers': 'auto'}, {'HOME': '/home/ada'}).settings.workers)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "1\n"


@pytest.mark.parametrize("quota", ["150000 100000", "20000 100000"])
def test_a_quota_is_worth_its_whole_cores(tmp_path: Path, quota: str) -> None:
    """A container that may use one and a half cores, or a fifth of one, has one worker."""
    (tmp_path / "cpu.max").write_text(f"{quota}\n")
    assert usable_cores(tmp_path / "cpu.max") == 1


@pytest.mark.parametrize("quota", ["max 100000", "99900000 100000", "what?", None])
def test_without_a_quota_all_cores_count(tmp_path: Path, quota: str | None) -> None:
    """Also where there is no such file, or one that says something else."""
    if quota is not None:
        (tmp_path / "cpu.max").write_text(f"{quota}\n")
    assert usable_cores(tmp_path / "cpu.max") == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("prot = 1", 'prot is not a setting. Did you mean "port"?'),
        (
            'port = "http"',
            "port must be a port from 1 to 65535 (0 takes any free one), not 'http'.",
        ),
        (
            "port = 65536",
            "port must be a port from 1 to 65535 (0 takes any free one), not '65536'.",
        ),
        ("port = true", "port must be a port from 1 to 65535 (0 takes any free one), not 'True'."),
        ("host = 5", "host must be a host name or an IP address, not '5'."),
        ("workers = 0", "workers must be a number from 1 to 256, or \"auto\", not '0'."),
        ('local = "maybe"', "local must be true or false, not 'maybe'."),
        ('data_dir = ""', "data_dir must be a path, not ''."),
        ("secret_file = 3", "secret_file must be a path, not '3'."),
        ("max_body_bytes = -1", "max_body_bytes must be a whole number, 1 or more, not '-1'."),
        (
            "idle_timeout_s = 0",
            "idle_timeout_s must be a number of seconds from 0.001 to 86400, not '0'.",
        ),
        (
            "idle_timeout_s = nan",
            "idle_timeout_s must be a number of seconds from 0.001 to 86400, not 'nan'.",
        ),
        (
            "drain_timeout_s = -1",
            "drain_timeout_s must be a number of seconds from 0 to 86400, not '-1'.",
        ),
        ('log_level = "loud"', "log_level must be debug, info, warning or error, not 'loud'."),
        ("out_of_credit_status = 403", "out_of_credit_status must be 429 or 402, not '403'."),
        (
            'trusted_proxies = ["proxy"]',
            (
                "trusted_proxies must be a list of IP addresses or networks such as "
                '"10.0.0.0/8", not "[\'proxy\']".'
            ),
        ),
        (
            'public_url = "llm.example.org"',
            (
                "public_url must be an address such as https://llm.example.org, without user, "
                "query or fragment, not 'llm.example.org'."
            ),
        ),
    ],
)
def test_a_bad_value_is_named_with_what_it_must_be(
    tmp_path: Path, text: str, sentence: str
) -> None:
    """File, table and key come first, then the remedy, then what stands there."""
    config = _file(tmp_path, f"[server]\n{text}\n")
    assert _refusal(config) == f"{config}: [server] {sentence}"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("keep_day = 1", 'keep_day is not a setting. Did you mean "keep_days"?'),
        (
            "zzz = 1",
            (
                "zzz is not a setting. "
                "Known: keep_days, max_kept_bytes, store, websocket, websocket_limit_s."
            ),
        ),
        (
            "responses_store = true",
            'responses_store is not a setting. Did you mean "store" under [responses]?',
        ),
        ("port = 1", 'port is not a setting. Did you mean "port" under [server]?'),
        ('store = "maybe"', "store must be true or false, not 'maybe'."),
        ("keep_days = 0", "keep_days must be a whole number of days from 1 to 3650, not '0'."),
        (
            "keep_days = 3651",
            "keep_days must be a whole number of days from 1 to 3650, not '3651'.",
        ),
        (
            "keep_days = true",
            "keep_days must be a whole number of days from 1 to 3650, not 'True'.",
        ),
        (
            "max_kept_bytes = 536870913",
            "max_kept_bytes must be a whole number from 1 to 536870912, not '536870913'.",
        ),
        ("websocket = 2", "websocket must be true or false, not '2'."),
        (
            "websocket_limit_s = 0",
            "websocket_limit_s must be a number of seconds from 0.001 to 86400, not '0'.",
        ),
    ],
)
def test_a_bad_value_of_responses_is_named_as_it_was_written(
    tmp_path: Path, text: str, sentence: str
) -> None:
    """By the table and its own key, not by the longer name of the setting."""
    config = _file(tmp_path, f"[server]\nport = 1\n[responses]\n{text}\n")
    assert _refusal(config) == f"{config}: [responses] {sentence}"


def test_a_key_of_responses_under_server_is_refused_with_its_place(tmp_path: Path) -> None:
    """It would be a setting that seems to be set and is not."""
    config = _file(tmp_path, "[server]\nresponses_store = false\nkeep_days = 3\n")
    assert _refusal(config).splitlines() == [
        (
            f"{config}: [server] responses_store is not a setting. "
            'Did you mean "store" under [responses]?'
        ),
        (
            f"{config}: [server] keep_days is not a setting. "
            'Did you mean "keep_days" under [responses]?'
        ),
    ]


@pytest.mark.parametrize(
    "url", ["mysql://u:hunter2@h/d", "farebox.db", "sqlite://", "sqlite:///:memory:"]
)
def test_a_database_that_cannot_be_used_is_refused_without_repeating_it(url: str) -> None:
    """It may hold a password."""
    text = _refusal(None, {"FAREBOX_DATABASE": url})
    assert text == "FAREBOX_DATABASE must be sqlite:///PATH or postgresql://USER@HOST/NAME."
