"""`farebox serve`, as a real process: what it makes, prints and refuses."""

import json
import os
import re
import shlex
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

START_S = 30
FILE = """
[[channels]]
id = "ds"
vendor = "deepseek"
api_key = "env:UNSET"
[[models]]
id = "pro"
channels = [{ channel = "ds", model = "m" }]
price = { input = "1", output = "2" }
"""


def _environ(tmp_path: Path, **more: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **more}


def _command(*arguments: object) -> list[str]:
    start = "from farebox.cli.main import main; main()"
    return [sys.executable, "-c", start, *map(str, arguments)]


@dataclass
class Serving:
    """A gateway that is ready, and what it printed."""

    process: subprocess.Popen[str]
    shown: dict[str, Any]


@contextmanager
def _serving(tmp_path: Path, *arguments: object, **environ: str) -> Iterator[Serving]:
    """Run `serve --json` on a free port until the block is left."""
    with (tmp_path / "stderr").open("w") as stderr:
        process = subprocess.Popen(
            _command("serve", "--port", 0, "--json", *arguments),
            env=_environ(tmp_path, **environ),
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    assert process.stdout is not None
    try:
        text = ""
        for line in process.stdout:
            text += line
            if line == "}\n":
                break
        assert text, (tmp_path / "stderr").read_text()
        yield Serving(process, json.loads(text))
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(START_S) == 0
        process.stdout.close()


def _refused(tmp_path: Path, *arguments: object, **environ: str) -> tuple[int, str]:
    """Run `serve` that must end by itself; its exit code and what it said."""
    done = subprocess.run(
        _command("serve", *arguments),
        env=_environ(tmp_path, **environ),
        capture_output=True,
        text=True,
        timeout=START_S,
        check=False,
    )
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def _farebox(tmp_path: Path, *arguments: object) -> Any:
    done = subprocess.run(
        _command(*arguments, "--json"), env=_environ(tmp_path), capture_output=True, check=True
    )
    return json.loads(done.stdout)


def _get(url: str, key: str | None = None) -> Any:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
        return json.load(answer)


def _as_request(curl: str) -> urllib.request.Request:
    """The request that a pasted curl line makes."""
    program, url, *options = shlex.split(curl)
    pairs = list(zip(options[::2], options[1::2], strict=True))
    headers = dict(value.split(": ", 1) for flag, value in pairs if flag == "-H")
    (body,) = (value for flag, value in pairs if flag == "-d")
    assert program == "curl"
    return urllib.request.Request(url, body.encode(), headers)


def test_a_first_run_leads_to_an_answer_and_a_second_makes_nothing_new(tmp_path: Path) -> None:
    """The pasted line is answered by the local model and charged to the account demo."""
    data = tmp_path / ".local/share/farebox"
    with _serving(tmp_path) as first:
        assert first.shown["model"] == "smollm2-135m-instruct"
        assert (first.shown["channels"], first.shown["notes"]) == (["local"], [])
        with urllib.request.urlopen(_as_request(first.shown["curl"])) as answer:
            assert json.load(answer)["usage"]["completion_tokens"] > 0
        money = _get(f"{first.shown['base_url']}/credits", first.shown["key"])
        assert money["credited_nanocredits"] == 5_000_000_000
        assert money["spent_nanocredits"] > 0
        assert first.shown["pricing_url"] == first.shown["base_url"].replace("/v1", "/pricing")
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    assert stat.S_IMODE((data / "secret").stat().st_mode) == 0o600
    with _serving(tmp_path, "--no-local") as second:
        assert (second.shown["key"], second.shown["curl"]) == (None, None)
        assert [each["name"] for each in _farebox(tmp_path, "accounts", "list")] == ["demo"]
        assert len(_farebox(tmp_path, "keys", "list")) == 1


def test_a_first_run_shows_a_newcomer_all_that_is_needed(tmp_path: Path) -> None:
    """Base URL, key, price page, and a line that works as pasted; the model's loading meanwhile.

    The second start shows no key.
    """
    data = tmp_path / "xdg" / "farebox"
    shown, said = _shown(tmp_path, "curl ", XDG_DATA_HOME=str(tmp_path / "xdg"))
    base_url = re.findall(r"^Base URL  (http://127.0.0.1:\d+/v1)$", shown, re.MULTILINE)[0]
    key = re.findall(r"^API key   (sk-fb-\w+)$", shown, re.MULTILINE)[0]
    assert f"Prices    {base_url.removesuffix('/v1')}/pricing\n" in shown
    assert f"Data      {data}\n" in shown
    assert f"\n\ncurl {base_url}/chat/completions -H 'Authorization: Bearer {key}' " in shown
    assert shown.count(key) == 2
    assert said.startswith("Loading the local model … ready in ")
    assert {path.name for path in data.iterdir()} >= {"farebox.db", "secret", "local-model.log"}
    assert key.encode() not in (data / "farebox.db").read_bytes()
    shown, _ = _shown(
        tmp_path, "farebox keys create", "--no-local", XDG_DATA_HOME=str(tmp_path / "xdg")
    )
    assert "sk-fb-" not in shown


def _shown(tmp_path: Path, last: str, *arguments: object, **environ: str) -> tuple[str, str]:
    """Run `serve` on a free port until a line begins so; what it showed, and what it said."""
    process = subprocess.Popen(
        _command("serve", "--port", 0, *arguments),
        env=_environ(tmp_path, **environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if last in line:
            break
    process.terminate()
    rest, said = process.communicate(timeout=START_S)
    assert process.returncode == 0, said
    return "".join(lines) + rest, said


def test_with_a_file_its_catalogue_is_applied_and_no_account_is_made(tmp_path: Path) -> None:
    """What it leaves out is off; a change by `apply` is seen within two seconds."""
    config = tmp_path / "farebox.toml"
    config.write_text(f'[server]\ndata_dir = "data"\n{FILE}')
    with _serving(tmp_path, "--config", config, OPENAI_API_KEY="sk-test") as serving:
        assert serving.shown["channels"] == ["ds"]
        assert serving.shown["notes"] == [
            "Channel ds is closed: environment variable UNSET is not set."
        ]
        assert _farebox(tmp_path, "accounts", "list", "--config", config) == []
        prices = serving.shown["pricing_url"] + ".json"
        assert [model["id"] for model in _get(prices)["models"]] == ["pro"]
        config.write_text(config.read_text().replace('id = "pro"', 'id = "max"'))
        _farebox(tmp_path, "apply", config)
        until_s = time.monotonic() + 2
        while [model["id"] for model in _get(prices)["models"]] != ["max"]:
            assert time.monotonic() < until_s
            time.sleep(0.05)


def test_keys_of_the_environment_are_told_and_no_secret_is_printed_into_a_log(
    tmp_path: Path,
) -> None:
    """The gateway's own address is left out with a sentence instead of going round in a circle."""
    port = _free_port()
    shown, said = _shown(
        tmp_path,
        "farebox keys create",
        "--no-local",
        "--port",
        port,
        DEEPSEEK_API_KEY="sk-hunter2",
        OPENAI_API_KEY="sk-test",
        OPENAI_BASE_URL=f"http://localhost:{port}/v1",
    )
    assert f"http://127.0.0.1:{port}/v1" in shown
    assert "The account demo has 5 credits." in shown
    (command,) = (line for line in shown.splitlines() if " keys create " in line)
    assert command.startswith("farebox keys create --account demo")
    assert "Found DeepSeek from DEEPSEEK_API_KEY, channel deepseek.\n" in said
    assert "OPENAI_API_KEY is ignored: OPENAI_BASE_URL is the address of this very gateway" in said
    assert "sk-fb-" not in shown + said
    assert "hunter2" not in shown + said


def test_a_wrong_configuration_is_exit_code_2_and_leaves_no_trace(tmp_path: Path) -> None:
    """Settings, catalogue and environment alike."""
    config = tmp_path / "farebox.toml"
    data = ("--data-dir", tmp_path / "data")
    config.write_text("[server]\nprot = 1\n")
    assert _refused(tmp_path, "--config", config, *data) == (
        2,
        f'{config}: [server] prot is not a setting. Did you mean "port"?\n',
    )
    config.write_text(FILE.replace('"1"', '"one"'))
    code, said = _refused(tmp_path, *data, FAREBOX_CONFIG=str(config))
    assert code == 2
    assert said.startswith(f"{config}: models[0].price.input 'one' is not a decimal number")
    assert _refused(tmp_path, "--workers", "many", *data) == (
        2,
        "--workers must be a number from 1 to 256, or \"auto\", not 'many'.\n",
    )
    assert not (tmp_path / "data").exists()


def test_a_port_in_use_is_exit_code_5_and_the_next_start_is_still_the_first(
    tmp_path: Path,
) -> None:
    """The sentence names the address."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, said = _refused(tmp_path, "--port", port)
    assert code == 5
    assert said.startswith(f"127.0.0.1:{port} is in use")
    with _serving(tmp_path, "--no-local") as serving:
        assert serving.shown["key"].startswith("sk-fb-")
        assert "There is nothing to serve yet" in (tmp_path / "stderr").read_text()
        code, said = _refused(tmp_path, "--port", 0)
        assert code == 5
        assert "in use by another farebox serve" in said


def test_a_data_folder_that_cannot_be_made_is_exit_code_2(tmp_path: Path) -> None:
    """One sentence with the folder."""
    (tmp_path / "file").touch()
    code, said = _refused(tmp_path, "--data-dir", tmp_path / "file" / "data")
    assert code == 2
    assert said.startswith(f"Cannot write to the folder {tmp_path}/file/data: ")
    assert len(said.splitlines()) == 1


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]
