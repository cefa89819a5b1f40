"""Which proxy is used for what, and that its password stays hidden."""

import pytest

from farebox.upstream.proxy import Proxies, Proxy
from farebox.upstream.target import Origin

PLAIN = Origin("http", "a.example", 80)
SECURE = Origin("https", "a.example", 443)
BOTH = {"http": "http://p.example:3128", "https": "http://q.example:3129"}


def test_without_proxies_everything_goes_straight():
    """Nothing set, nothing done."""
    assert Proxies({}).choose(PLAIN) is None


def test_each_scheme_has_its_proxy():
    """HTTP_PROXY for http, HTTPS_PROXY for https."""
    proxies = Proxies(BOTH)
    assert proxies.choose(PLAIN) == Proxy("p.example", 3128)
    assert proxies.choose(SECURE) == Proxy("q.example", 3129)


def test_a_proxy_may_be_written_without_a_scheme():
    """As curl allows."""
    assert Proxies({"http": "p.example:3128"}).choose(PLAIN) == Proxy("p.example", 3128)


@pytest.mark.parametrize(
    ("no_proxy", "is_straight"),
    [
        ("a.example", True),
        (".example", True),
        ("b.example, a.example", True),
        ("*", True),
        ("a.example:443", True),
        ("b.example", False),
        ("a.example:444", False),
    ],
)
def test_no_proxy_is_honoured(no_proxy, is_straight):
    """Names, suffixes, a star, and ports."""
    origin = Origin("https", "a.example", 443)
    assert (Proxies({**BOTH, "no": no_proxy}).choose(origin) is None) == is_straight


@pytest.mark.parametrize("host", ["localhost", "x.localhost", "127.0.0.1", "127.9.9.9", "::1"])
def test_this_machine_is_never_reached_through_a_proxy(host):
    """Whatever NO_PROXY says: the local model's key must not leave the machine."""
    assert Proxies(BOTH).choose(Origin("http", host, 8080)) is None


def test_credentials_of_a_proxy_are_sent_but_not_shown():
    """Percent-encoding is undone (RFC 7617 for the header)."""
    proxy = Proxies({"http": "http://us%40er:p%3Aw@p.example:1"}).choose(PLAIN)
    assert proxy is not None
    assert proxy.headers == ((b"proxy-authorization", b"Basic dXNAZXI6cDp3"),)
    assert "dXN" not in repr(proxy)


@pytest.mark.parametrize("url", ["socks5://u:secret@p:1", "https://p.example", "http://"])
def test_a_proxy_that_cannot_be_used_is_refused_without_being_repeated(url):
    """At the start, not at the first call."""
    with pytest.raises(ValueError, match="HTTP_PROXY") as caught:
        Proxies({"https": url})
    assert "secret" not in str(caught.value)


def test_the_environment_is_read_in_either_case(monkeypatch):
    """HTTPS_PROXY and https_proxy, once."""
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://p.example:3128")
    monkeypatch.setenv("no_proxy", "b.example")
    proxies = Proxies()
    monkeypatch.delenv("HTTPS_PROXY")
    assert proxies.choose(SECURE) == Proxy("p.example", 3128)
    assert proxies.choose(Origin("https", "b.example", 443)) is None
