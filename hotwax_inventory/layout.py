"""The tables of a warehouse and their version: made in a new one, brought up in one that an earlier version of this project wrote.

What differs is found by comparison with `tables`: a change there, and its LAYOUT raised, is all that a change takes. A table that
differs is written anew in one piece, as DuckDB adds columns at the end only, and none that must have a value."""

import duckdb

from hotwax_inventory import tables
from hotwax_inventory.tables import Column, Table

# Layout 1 was in use by nobody, and its tables say too little to become today's.
OLDEST = 2
# What a column that must have a value is given in rows that were there before it.
VALUES = {
    "varchar": "''",
    "bigint": "0",
    "integer": "0",
    "boolean": "false",
    tables.TIME: "timestamptz '1970-01-01 00:00:00Z'",
}


OTHERS = "select count(*) from duckdb_tables() where database_name = current_database() and not internal"


class WarehouseTooNew(RuntimeError):
    """The warehouse was written by a newer version of this project."""


class WarehouseTooOld(RuntimeError):
    """The warehouse was written by a version that nobody can have used."""


class WarehouseUnusable(RuntimeError):
    """The file of the warehouse cannot be opened, or is no warehouse."""


def version_of(connection: duckdb.DuckDBPyConnection) -> int | None:
    """The layout of an open warehouse; None when it is empty. Raises WarehouseTooNew, WarehouseTooOld, WarehouseUnusable."""
    try:
        version = connection.execute("select max(version) from warehouse_version").fetchall()[0][0]
    except duckdb.CatalogException:
        (others,) = connection.execute(OTHERS).fetchall()[0]
        if others:
            raise WarehouseUnusable(
                f"The warehouse has {others} tables, and no version: it is another program's. Set HOTWAX_HOME to a folder of our "
                "own. Nothing was changed."
            ) from None
        return None
    if version > tables.LAYOUT:
        raise WarehouseTooNew(
            f"The warehouse has layout {version}, this version of hotwax_inventory knows layouts up to {tables.LAYOUT}. Install "
            "the version that wrote it, or one that is newer. Nothing was changed."
        )
    if version < OLDEST:
        raise WarehouseTooOld(
            f"The warehouse has layout {version}; the oldest that can be brought up is {OLDEST}. Move the file away: a new one "
            "is made, and takes the files of SFTP's archive directories when they are put back. Nothing was changed."
        )
    return version


def create(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the tables of a new warehouse, in the caller's transaction."""
    for table in _tables():
        connection.execute(table.ddl())
    connection.execute("insert into sequence values (0, 0)")
    connection.execute("insert into warehouse_version values ($layout)", {"layout": tables.LAYOUT})


COLUMNS = """
select table_name, column_name, lower(data_type), is_nullable
from duckdb_columns()
where database_name = current_database() and not internal
order by table_name, column_index
"""


def bring_up(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Make every table what `tables` declares, in the caller's transaction; the names of those that were changed."""
    found: dict[str, list[Column]] = {}
    for name, column, kind, is_nullable in connection.execute(COLUMNS).fetchall():
        found.setdefault(name, []).append(Column(column, kind, "", is_nullable))
    changed = []
    for table in _tables():
        columns = found.get(table.name, [])
        if [_shape(column) for column in columns] == [_shape(column) for column in table.columns]:
            continue
        changed.append(table.name)
        if not columns:
            connection.execute(table.ddl())
            continue
        old = {column.name: column for column in columns}
        values = ", ".join(_value(column, old.get(column.name)) for column in table.columns)
        connection.execute(table.ddl(f"{table.name}_next"))
        connection.execute(f"insert into {table.name}_next select {values} from {table.name}")
        connection.execute(f"drop table {table.name}")
        connection.execute(f"alter table {table.name}_next rename to {table.name}")
    connection.execute("update warehouse_version set version = $layout", {"layout": tables.LAYOUT})
    return changed


def _value(column: Column, old: Column | None) -> str:
    """SQL of what a column has in a row of the earlier layout."""
    if old is None:
        return f"null::{column.type}" if column.optional else VALUES[column.type]
    value = column.name if old.type == column.type else f"{column.name}::{column.type}"
    return f"coalesce({value}, {VALUES[column.type]})" if old.optional and not column.optional else value


def _shape(column: Column) -> tuple[str, str, bool]:
    return column.name, column.type, column.optional


def _tables() -> list[Table]:
    return [table for table in tables.TABLES if table not in tables.VIEWS]
