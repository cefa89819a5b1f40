"""`farebox serve`, as a real process: what it makes, prints and refuses."""

import json
import re
import signal
import socket
import stat
import subprocess
from pathlib import Path

from tests.e2e.serving import FAREBOX, Serving, clean_environ, until

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


def _refused(tmp_path: Path, *arguments: object, **environ: str) -> tuple[int, str]:
    """Run `serve` that must end by itself; its exit code and what it said."""
    done = Serving(tmp_path, environ=environ).run("serve", *map(str, arguments))
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def test_a_first_run_leads_to_an_answer_and_a_second_makes_nothing_new(tmp_path: Path) -> None:
    """The pasted line is answered by the local model and charged to the account demo."""
    data = tmp_path / "xdg" / "farebox"
    with Serving(tmp_path) as first:
        assert first.said["model"] == "smollm2-135m-instruct"
        assert (first.said["channels"], first.said["notes"]) == (["local"], [])
        pasted = subprocess.run(
            ["/bin/sh", "-c", first.said["curl"]], capture_output=True, check=True
        )
        assert json.loads(pasted.stdout)["usage"]["completion_tokens"] > 0
        money = first.account()
        assert money["credited_nanocredits"] == 5_000_000_000
        assert money["spent_nanocredits"] > 0
        assert first.said["pricing_url"] == f"{first.origin}/pricing"
        first.process.send_signal(signal.SIGINT)
        assert first.process.wait(START_S) == 0
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    assert stat.S_IMODE((data / "secret").stat().st_mode) == 0o600
    with Serving(tmp_path, ("--no-local",)) as second:
        assert (second.said["key"], second.said["curl"]) == (None, None)
        assert [each["name"] for each in second.cli("accounts", "list")] == ["demo"]
        assert len(second.cli("keys", "list")) == 1


def test_a_first_run_shows_a_newcomer_all_that_is_needed(tmp_path: Path) -> None:
    """Base URL, key, price page, and a line that works as pasted; the model's loading meanwhile.

    The second start shows no key.
    """
    data = tmp_path / "xdg" / "farebox"
    shown, said = _shown(tmp_path, "curl ")
    base_url = re.findall(r"^Base URL  (http://127.0.0.1:\d+/v1)$", shown, re.MULTILINE)[0]
    key = re.findall(r"^API key   (sk-fb-\w+)$", shown, re.MULTILINE)[0]
    assert f"Prices    {base_url.removesuffix('/v1')}/pricing\n" in shown
    assert f"Data      {data}\n" in shown
    assert f"\n\ncurl {base_url}/chat/completions -H 'Authorization: Bearer {key}' " in shown
    assert shown.count(key) == 2
    assert said.startswith("Loading the local model … ready in ")
    assert {path.name for path in data.iterdir()} >= {"farebox.db", "secret", "local-model.log"}
    assert key.encode() not in (data / "farebox.db").read_bytes()
    shown, _ = _shown(tmp_path, "farebox keys create", "--no-local")
    assert "sk-fb-" not in shown


def _shown(tmp_path: Path, last: str, *arguments: object, **environ: str) -> tuple[str, str]:
    """Run `serve` on a free port until a line begins so; what it showed, and what it said."""
    process = subprocess.Popen(
        [*FAREBOX, "serve", "--port", "0", *map(str, arguments)],
        env=clean_environ(XDG_DATA_HOME=str(tmp_path / "xdg"), **environ),
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
    environ = {"OPENAI_API_KEY": "sk-test"}
    with Serving(tmp_path, ("--config", str(config)), environ) as serving:
        assert serving.said["channels"] == ["ds"]
        assert serving.said["notes"] == [
            "Channel ds is closed: environment variable UNSET is not set."
        ]
        assert serving.cli("accounts", "list", "--config", str(config)) == []

        def sold() -> list[str]:
            return [row["id"] for row in serving.get("/pricing.json", "").json["models"]]

        assert sold() == ["pro"]
        config.write_text(config.read_text().replace('id = "pro"', 'id = "max"'))
        serving.cli("apply", str(config))
        until(lambda: sold() == ["max"], 2, "the new catalogue")


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
    assert command.startswith(f"{FAREBOX[0]} keys create --account demo")
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
    with Serving(tmp_path, ("--no-local",)) as serving:
        assert serving.said["key"].startswith("sk-fb-")
        assert "There is nothing to serve yet" in serving.log.read_text()
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
