"""Which store a URL names. Nothing is opened here."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from farebox.store.errors import BadStoreUrl

_SQLITE = ("sqlite", "sqlite+pysqlite")
_POSTGRESQL = ("postgresql", "postgresql+psycopg", "postgres")  # the last is what some hosts print
_SECRETS = ("password", "sslpassword")  # libpq takes them as options too


def parse_url(text: str) -> URL:
    """The URL of a SQLite file or a PostgreSQL database. Raises BadStoreUrl with a sentence."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):  # the second: a port that is no number
        # What cannot be parsed may hold a password anywhere.
        named = "The database URL" if "://" in text or "@" in text else repr(text)
        raise BadStoreUrl(
            f"{named} is not a database URL. Use sqlite:///PATH, such as "
            "sqlite:////var/lib/farebox/farebox.db, or postgresql://USER@HOST/NAME."
        ) from None
    if url.drivername in _SQLITE:
        return _checked_sqlite(url)
    if url.drivername in _POSTGRESQL:
        return _checked_postgresql(url.set(drivername="postgresql+psycopg"))
    raise BadStoreUrl(
        f"{shown(url)} is no store that Farebox knows. Use sqlite:///PATH or "
        "postgresql://USER@HOST/NAME."
    )


def _checked_sqlite(url: URL) -> URL:
    if not url.database or url.database == ":memory:" or url.query:
        raise BadStoreUrl(
            f"{shown(url)} names no file. Use sqlite:///PATH: several processes share the store."
        )
    return url


def _checked_postgresql(url: URL) -> URL:
    if not url.database and "dbname" not in url.query:
        raise BadStoreUrl(
            f"{shown(url)} names no database. Use postgresql://USER@HOST/NAME, where NAME is a "
            "database that was made for Farebox."
        )
    return url


def is_postgresql(url: URL) -> bool:
    """Whether it names a PostgreSQL database; else it names a SQLite file."""
    return url.drivername not in _SQLITE


def sqlite_path(url: URL) -> Path:
    """The file that a SQLite URL names."""
    assert url.database is not None
    return Path(url.database)


def shown(url: URL) -> str:
    """The URL for sentences: as people write it, without anything secret."""
    plain = url.drivername.removesuffix("+psycopg").removesuffix("+pysqlite")
    text = (
        url.set(drivername=plain, password=url.password or None)
        .difference_update_query(_SECRETS)
        .render_as_string(hide_password=True)
    )
    return text.replace("%2F", "/")  # of a socket's folder
