"""Settings come from flags, environment, file and default; a bad one is named by its place."""

from dataclasses import fields
from pathlib import Path

import pytest
import tomli_w

from farebox.core.settings import MIB, Settings
from farebox.settings import ConfigError, Loaded, check_server, load, parse_config
from farebox.settings_rules import PLACES

HOME = {"HOME": "/home/ada"}


def _file(folder: Path, text: str) -> Path:
    path = folder / "farebox.toml"
    path.write_text(text, encoding="utf-8")
    return path


def _refusal(
    config: Path | None = None, environ: dict[str, str] | None = None, **flags: object
) -> str:
    with pytest.raises(ConfigError) as caught:
        load(config, flags, environ or {})
    return str(caught.value)


def test_without_anything_every_setting_has_its_default() -> None:
    """Only data folder and database depend on the machine."""
    data_dir = Path("/home/ada/.local/share/farebox")
    assert load(None, {}, HOME) == Loaded(
        Settings(data_dir, f"sqlite:///{data_dir}/farebox.db"), document=None, notes=()
    )


@pytest.mark.parametrize(
    ("flag", "variable", "in_file", "port"),
    [
        (1, "2", 3, 1),
        (None, "2", 3, 2),
        (None, None, 3, 3),
        (None, None, None, 8790),
        (1, None, 3, 1),
        (None, "", 3, 3),
        (0, "2", 3, 0),
    ],
)
def test_a_flag_wins_over_the_environment_over_the_file_over_the_default(
    tmp_path: Path, flag: int | None, variable: str | None, in_file: int | None, port: int
) -> None:
    """An empty variable and a flag of None are not given; 0 is."""
    config = _file(tmp_path, "[server]\n" + (f"port = {in_file}\n" if in_file is not None else ""))
    environ = HOME if variable is None else {**HOME, "FAREBOX_PORT": variable}
    assert load(config, {"port": flag}, environ).settings.port == port


def test_every_field_can_be_set_by_file_and_by_environment(tmp_path: Path) -> None:
    """A field of Settings that is neither a flag's nor the file's would be unreachable."""
    values = {
        "data_dir": "/srv/d",
        "database": "sqlite:////srv/x.db",
        "host": "::1",
        "secret_file": "/srv/secret",
        "local": False,
        "public_url": "https://llm.example.org",
        "trusted_proxies": ["10.0.0.0/8", "::1"],
        "log_level": "debug",
        "out_of_credit_status": 402,
        "responses_store": False,
        "responses_websocket": False,
        "spool": False,
        "lease_idle_s": 2,
    }
    names = [field.name for field in fields(Settings) if field.name != "config"]
    wanted = {name: values.get(name, 7) for name in names}
    document: dict[str, dict[str, object]] = {}
    for name, value in wanted.items():
        table, key = PLACES[name]
        document.setdefault(table, {})[key] = value
    by_file = load(_file(tmp_path, tomli_w.dumps(document)), {}, {}).settings
    by_environment = load(
        None,
        {},
        {
            f"FAREBOX_{name.upper()}": ",".join(value) if isinstance(value, list) else str(value)
            for name, value in wanted.items()
        },
    ).settings
    for name, value in wanted.items():
        expected = tuple(value) if isinstance(value, list) else value
        for settings in (by_file, by_environment):
            shown = getattr(settings, name)
            assert (str(shown) if isinstance(shown, Path) else shown) == expected, name


def test_the_data_folder_follows_xdg(tmp_path: Path) -> None:
    """$XDG_DATA_HOME counts if it is absolute; ~/.local/share is its default."""
    assert load(None, {}, {"XDG_DATA_HOME": "/x", **HOME}).settings.data_dir == Path("/x/farebox")
    relative = load(None, {}, {"XDG_DATA_HOME": "x", **HOME}).settings.data_dir
    assert relative == Path("/home/ada/.local/share/farebox")


def test_the_database_lies_in_the_data_folder_unless_named(tmp_path: Path) -> None:
    """--data-dir moves it; --database wins."""
    moved = load(None, {"data_dir": tmp_path}, HOME).settings
    assert (moved.data_dir, moved.database) == (tmp_path, f"sqlite:///{tmp_path}/farebox.db")
    named = load(None, {"data_dir": tmp_path, "database": "sqlite:////srv/a.db"}, HOME).settings
    assert named.database == "sqlite:////srv/a.db"


def test_relative_paths_start_where_they_are_written(tmp_path: Path) -> None:
    """In a file: its folder. In a flag or variable: the current folder."""
    config = _file(
        tmp_path, '[server]\ndata_dir = "data"\nsecret_file = "../s"\ndatabase = "sqlite:///a.db"'
    )
    settings = load(config, {}, HOME).settings
    assert settings.data_dir == tmp_path / "data"
    assert settings.secret_file == tmp_path.parent / "s"
    assert settings.database == f"sqlite:///{tmp_path}/a.db"
    flagged = load(config, {"data_dir": "here"}, {**HOME, "FAREBOX_SECRET_FILE": "k"}).settings
    assert flagged.data_dir == Path.cwd() / "here"
    assert flagged.secret_file == Path.cwd() / "k"


def test_a_file_in_the_current_folder_is_not_picked_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts only by --config or FAREBOX_CONFIG."""
    _file(tmp_path, "[server]\nport = 1234\n")
    monkeypatch.chdir(tmp_path)
    assert load(None, {}, HOME).settings.port == 8790
    by_variable = load(None, {}, {**HOME, "FAREBOX_CONFIG": "farebox.toml"})
    assert by_variable.settings.port == 1234
    assert by_variable.settings.config == tmp_path / "farebox.toml"


def test_the_catalogue_tables_are_handed_on(tmp_path: Path) -> None:
    """Tables of settings are not among them; a file with only such has none."""
    text = '[server]\nport = 1\n[responses]\nstore = false\n[[groups]]\nid = "g"\nrate = "1"\n'
    assert load(_file(tmp_path, text), {}, HOME).document == {"groups": [{"id": "g", "rate": "1"}]}
    assert load(_file(tmp_path, "[server]\n[responses]\n"), {}, HOME).document is None


def test_a_port_that_kubernetes_injects_is_ignored_with_a_note() -> None:
    """The other variables of a Service called farebox are ignored without one."""
    environ = {
        **HOME,
        "FAREBOX_PORT": "tcp://10.0.0.7:80",
        "FAREBOX_SERVICE_HOST": "10.0.0.7",
        "FAREBOX_PORT_80_TCP_ADDR": "10.0.0.7",
    }
    loaded = load(None, {}, environ)
    assert loaded.settings.port == 8790
    assert [note.split(" is ignored")[0] for note in loaded.notes] == [
        "FAREBOX_PORT=tcp://10.0.0.7:80"
    ]


def test_an_unknown_variable_is_a_note_with_a_near_name() -> None:
    """It may be somebody else's, so it is no error."""
    notes = load(None, {}, {**HOME, "FAREBOX_PROT": "1", "FAREBOX_DEBUG": "1"}).notes
    assert notes == ('FAREBOX_PROT is not a setting and is ignored. Did you mean "FAREBOX_PORT"?',)
    notes = load(None, {}, {**HOME, "FAREBOX_FOO": "1"}).notes
    assert notes == ("FAREBOX_FOO is not a setting and is ignored.",)


def test_all_bad_values_are_named_at_once_by_their_sources(tmp_path: Path) -> None:
    """One flag, one variable, one line of the file."""
    config = _file(tmp_path, "[server]\nlocal = 7\n")
    text = _refusal(config, {"FAREBOX_HOST": "a b"}, drain_timeout_s="x")
    assert sorted(line.split(" must ")[0] for line in text.splitlines()) == [
        "--drain-timeout-s",
        f"{config}: [server] local",
        "FAREBOX_HOST",
    ]


def test_unknown_keys_and_bad_values_are_named_at_once(tmp_path: Path) -> None:
    """Of all tables, so that a file is mended in one go."""
    config = _file(tmp_path, "[responses]\nstor = 1\nkeep_days = 0\n[server]\nlocal = 7\nzzz = 1")
    assert sorted(
        line.split(": ")[1].split(" is ")[0] for line in _refusal(config).splitlines()
    ) == [
        "[responses] keep_days must be a whole number of days from 1 to 3650, not '0'.",
        "[responses] stor",
        "[server] local must be true or false, not '7'.",
        "[server] zzz",
    ]


def test_a_variable_wins_over_the_responses_table_and_is_named_by_itself(tmp_path: Path) -> None:
    """As with [server]: the variable is FAREBOX_ and the setting's whole name."""
    config = _file(tmp_path, "[responses]\nkeep_days = 3\nwebsocket = false\n")
    settings = load(config, {}, {**HOME, "FAREBOX_RESPONSES_KEEP_DAYS": "9"}).settings
    assert (settings.responses_keep_days, settings.responses_websocket) == (9, False)
    assert _refusal(config, {"FAREBOX_RESPONSES_KEEP_DAYS": "x"}) == (
        "FAREBOX_RESPONSES_KEEP_DAYS must be a whole number of days from 1 to 3650, not 'x'."
    )
    notes = load(None, {}, {**HOME, "FAREBOX_RESPONSES_STOR": "1"}).notes
    assert notes == (
        (
            "FAREBOX_RESPONSES_STOR is not a setting and is ignored. "
            'Did you mean "FAREBOX_RESPONSES_STORE"?'
        ),
    )


def test_postgresql_needs_a_secret_that_is_given() -> None:
    """Every host of one store needs the same secret, so none makes its own."""
    environ = {**HOME, "FAREBOX_DATABASE": "postgresql://u:hunter2@h/d"}
    assert "FAREBOX_SECRET_FILE" in _refusal(None, environ)
    given = load(None, {}, {**environ, "FAREBOX_SECRET_FILE": "/run/secret"}).settings
    assert given.secret_file == Path("/run/secret")


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"[server", "is not valid TOML: "),
        (b"a = 1\nb = \n", "(at line 2, column 5)"),
        (b"\xff", "is not UTF-8 text (byte 1). Save it as UTF-8."),
        (b"[servr]", '"servr" is not a table of it. Did you mean "server"?'),
        (
            b"[zzz]",
            (
                '"zzz" is not a table of it. '
                "Known: server, responses, billing, channels, models, groups."
            ),
        ),
        (b"server = 1", "server must be a table, written [server]."),
        (b"[[responses]]\nstore = true", "responses must be a table, written [responses]."),
        (b"a = " + b"[" * 100_000, "is not valid TOML: it is nested too deeply."),
        (b"#" * (17 * MIB), "is larger than 16 MiB, which no configuration is."),
    ],
)
def test_a_file_that_cannot_be_parsed_is_named_with_the_place(
    tmp_path: Path, data: bytes, sentence: str
) -> None:
    """Line and column come from the parser."""
    config = tmp_path / "farebox.toml"
    config.write_bytes(data)
    text = _refusal(config)
    assert text.startswith(str(config))
    assert sentence in text


@pytest.mark.parametrize("name", ["missing.toml", "."])
def test_a_file_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path, name: str) -> None:
    """No such file, or a folder."""
    text = _refusal(tmp_path / name)
    assert text.startswith(f"The configuration file {tmp_path / name} cannot be read: ")
    assert text.endswith("Check --config or FAREBOX_CONFIG, and the file's permissions.")


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    """Some editors of Windows write one."""
    config = tmp_path / "farebox.toml"
    config.write_bytes(b"\xef\xbb\xbf[server]\nport = 5\n")
    assert load(config, {}, HOME).settings.port == 5


def test_the_settings_of_a_file_that_is_only_applied_are_checked_too() -> None:
    """A file is right as a whole or refused as a whole."""
    with pytest.raises(ConfigError, match="port must be"):
        check_server(parse_config(b"[server]\nport = -1\n", "-", Path.cwd()))
    with pytest.raises(ConfigError, match=r"^-: \[responses\] keep_days must be"):
        check_server(parse_config(b"[responses]\nkeep_days = -1\n", "-", Path.cwd()))
    check_server(parse_config(b"[server]\nport = 1\n[responses]\n", "-", Path.cwd()))
