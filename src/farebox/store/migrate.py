"""Brings a store to the schema that the code knows, or refuses one from the future."""

from pathlib import Path

import sqlalchemy as sa

from farebox import __version__
from farebox.store.errors import StoreError
from farebox.store.schema import KNOWN_VERSIONS, SCHEMA_VERSION, VERSION_TABLE

_MIGRATIONS = Path(__file__).parent / "migrations"


def version_of(connection: sa.Connection) -> str | None:
    """The schema's version; None for a store with nothing in it yet. Raises StoreError."""
    tables = sa.inspect(connection).get_table_names()
    if not tables:
        return None
    if VERSION_TABLE not in tables:
        raise StoreError(
            f"The database holds other tables ({', '.join(tables[:3])}) and no Farebox store. "
            "Name a file or database that is Farebox's own."
        )
    return connection.execute(sa.text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()


def is_current(connection: sa.Connection) -> bool:
    """Whether nothing is to be done. Raises StoreError for a version from the future."""
    version = version_of(connection)
    if version is not None and version not in KNOWN_VERSIONS:
        raise StoreError(
            f"The store has schema {version}, written by a newer Farebox; this is {__version__}, "
            f"which knows schemas up to {SCHEMA_VERSION}. Install the newer version to use it."
        )
    return version == SCHEMA_VERSION


def migrate(connection: sa.Connection) -> None:
    """Run every migration that is missing, within the connection's transaction."""
    # Imported only when there is work to do: alembic takes longer to load than the store to open.
    from alembic import command
    from alembic.config import Config

    config = Config()
    # Alembic reads this through ConfigParser, to which a percent sign is special.
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
