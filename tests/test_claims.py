"""What one `serve` takes for itself, and the sentence for who comes second."""

import os
import socket
from pathlib import Path

import pytest

from farebox.claims import Refused, claim
from farebox.core.settings import Settings
from farebox.store import open_store


def settings(folder: Path, **changes: object) -> Settings:
    """Of a gateway in that folder, on any free port."""
    values = {"database": f"sqlite:///{folder / 'farebox.db'}", "port": 0, **changes}
    return Settings(data_dir=folder, **values)  # type: ignore[arg-type]


def refusal(wanted: Settings) -> Refused:
    """How that claim is refused."""
    with pytest.raises(Refused) as caught:
        claim(wanted)
    return caught.value


def test_every_slot_has_a_socket_on_one_port(tmp_path: Path) -> None:
    """Port 0 becomes one real port, which the settings then name, shared by all slots."""
    with claim(settings(tmp_path, workers=3)) as claims:
        ports = {listener.getsockname()[1] for listener in claims.sockets}
        assert ports == {claims.settings.port}
        assert len(claims.sockets) == 3
        socket.create_connection(("127.0.0.1", claims.settings.port)).close()


def test_what_is_given_back_can_be_claimed_again(tmp_path: Path) -> None:
    """After the `with` block folder and port are free at once."""
    with claim(settings(tmp_path)) as claims:
        port = claims.settings.port
    with claim(settings(tmp_path, port=port)) as claims:
        assert claims.settings.port == port


def test_a_folder_is_claimed_once(tmp_path: Path) -> None:
    """The second is refused with exit code 5, and told by whom."""
    with claim(settings(tmp_path)):
        refused = refusal(settings(tmp_path))
    assert refused.exit_code == 5
    assert refused.message == (
        f"The data folder {tmp_path} is in use by another farebox serve (process {os.getpid()}). "
        "Stop that one, or give this one a folder and a store of its own with --data-dir."
    )


def test_a_store_is_claimed_once_whatever_the_folder(tmp_path: Path) -> None:
    """Two data folders with one SQLite file between them: the second is refused."""
    store = f"sqlite:///{tmp_path / 'one.db'}"
    with claim(settings(tmp_path / "a", database=store)):
        refused = refusal(settings(tmp_path / "b", database=store))
        assert refused.exit_code == 5
        assert store in refused.message
        relative = settings(tmp_path / "c", database="sqlite:///../one.db")
        assert refusal(relative).exit_code == 5
        # What the refused one had locked already is free again.
        claim(settings(tmp_path / "b")).close()


def test_a_claimed_store_can_be_opened(tmp_path: Path) -> None:
    """The claim is no lock on the store itself: `serve` opens it, and so does every other verb."""
    url = f"sqlite:///{tmp_path / 'elsewhere.db'}"
    with claim(settings(tmp_path / "a", database=url)):
        open_store(url, tmp_path / "a").close()


def test_a_port_that_somebody_listens_on_is_refused(tmp_path: Path) -> None:
    """Exit code 5, with the address and the flag; the folder's lock is given back."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        refused = refusal(settings(tmp_path, port=port))
    assert refused.exit_code == 5
    assert refused.message == (
        f"127.0.0.1:{port} is in use by another program. Stop that one, or choose another port "
        "with --port."
    )
    claim(settings(tmp_path)).close()


@pytest.mark.parametrize("host", ["no..host", "192.0.2.1"])
def test_a_host_that_is_not_ours_is_refused(tmp_path: Path, host: str) -> None:
    """A name that has no address, or one of another machine: exit code 2, and the flag."""
    refused = refusal(settings(tmp_path, host=host))
    assert refused.exit_code == 2
    assert host in refused.message
    assert "--host" in refused.message


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    """A file where the data folder should be: exit code 2, with folder, reason and flag."""
    (tmp_path / "file").touch()
    refused = refusal(settings(tmp_path / "file" / "data"))
    assert refused.exit_code == 2
    assert str(tmp_path / "file" / "data") in refused.message
    assert "--data-dir" in refused.message


def test_a_name_and_ipv6_may_be_hosts(tmp_path: Path) -> None:
    """`localhost` means its IPv4 address; an IPv6 address is taken as it is."""
    with claim(settings(tmp_path, host="localhost")) as claims:
        assert claims.sockets[0].family == socket.AF_INET
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return  # a machine without IPv6 has no more to show
    with claim(settings(tmp_path, host="::1")) as claims:
        assert claims.sockets[0].family == socket.AF_INET6
