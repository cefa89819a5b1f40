"""What scripts/test-clients installs: pinned clients, by a lock that names no host."""

import json

from tests.shape.tree import ROOT

CLIENTS = ROOT / "tests" / "clients"
WANTED = json.loads((CLIENTS / "package.json").read_text(encoding="utf-8"))["dependencies"]
LOCK = (CLIENTS / "package-lock.json").read_text(encoding="utf-8")
LOCKED = json.loads(LOCK)["packages"]


def test_the_clients_are_locked_at_one_version() -> None:
    """Each is named by an exact version, which the lock has with a checksum."""
    assert set(WANTED) == {"@anthropic-ai/claude-code", "@openai/codex", "opencode-ai"}
    for name, version in WANTED.items():
        locked = LOCKED[f"node_modules/{name}"]
        assert locked["version"] == version
        assert locked["integrity"].startswith("sha512-")


def test_the_lock_has_what_each_machine_needs() -> None:
    """The programs of every platform, without which npm would call the lock incomplete."""
    for name in WANTED:
        needed = LOCKED[f"node_modules/{name}"]["optionalDependencies"]
        assert {f"node_modules/{each}" for each in needed} <= set(LOCKED)


def test_the_lock_names_no_address() -> None:
    """Where packages come from is for each machine's npm to know."""
    assert "://" not in LOCK
    assert "resolved" not in LOCK


def test_clients_are_tested_by_ci_and_apart_from_the_rest() -> None:
    """The plain test command needs no Node."""
    commands = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert commands.index("scripts/test") < commands.index("scripts/test-clients")
    pytest_options = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert 'norecursedirs = ["clients"' in pytest_options
