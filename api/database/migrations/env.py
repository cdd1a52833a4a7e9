"""Runs the migrations on the connection that `api.database.connection` holds open.

A new one, after a change of `api/database/tables.py`, in a Python prompt at the repository's root:

    from pathlib import Path
    from alembic import command
    from api.database.connection import migrations, open_database
    with open_database(None, Path("/tmp/home")).engine.connect() as connection:
        command.revision(migrations(connection), "what changes", autogenerate=True)
"""

from typing import Any, Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext

from api.database.tables import Table, UtcDateTime


def render(kind: str, item: Any, _: AutogenContext) -> str | Literal[False]:
    """A migration names no type of ours: it must mean the same for ever."""
    return "sa.DateTime(timezone=True)" if isinstance(item, UtcDateTime) else False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Table.metadata,
    render_as_batch=True,  # SQLite changes a column by copying its table
    transactional_ddl=True,
    render_item=render,
)
context.run_migrations()
