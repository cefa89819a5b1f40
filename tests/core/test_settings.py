"""Where users reach a gateway with these Settings."""

from pathlib import Path

import pytest

from farebox.core.settings import Settings


@pytest.mark.parametrize(
    ("given", "origin"),
    [
        ({}, "http://127.0.0.1:8790"),
        ({"host": "10.0.0.7", "port": 80}, "http://10.0.0.7:80"),
        ({"host": "gateway.lan"}, "http://gateway.lan:8790"),
        ({"host": "0.0.0.0"}, "http://127.0.0.1:8790"),
        ({"host": "::"}, "http://127.0.0.1:8790"),
        ({"host": "::1"}, "http://[::1]:8790"),
        ({"host": "0.0.0.0", "public_url": "https://ai.example/"}, "https://ai.example"),
        ({"public_url": "https://ai.example/farebox/"}, "https://ai.example/farebox"),
    ],
)
def test_the_address_that_users_are_told(given: dict[str, object], origin: str) -> None:
    """The public URL if there is one; else host and port, with an address that can be called."""
    settings = Settings(Path("/data"), "sqlite:///", **given)  # pyright: ignore[reportArgumentType]
    assert (settings.origin, settings.base_url) == (origin, f"{origin}/v1")
