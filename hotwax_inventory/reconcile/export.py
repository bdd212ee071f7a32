"""CSVs for people, below HOTWAX_HOME: what a spreadsheet would take for a formula is text in them, and numbers are numbers."""

from collections.abc import Mapping
from pathlib import Path

import duckdb

from hotwax_inventory import settings
from hotwax_inventory.imports.quoting import sql_text, without_formula


def write_csv(
    name: str,
    sql: str,
    columns: str,
    connection: duckdb.DuckDBPyConnection,
    values: Mapping[str, object] | None = None,
) -> Path:
    """Write the rows of a query as `reports/<name>.csv`, in place of an earlier one: its path.

    `columns` are the titles, divided by commas; `values` the query's parameters."""
    titles = columns.split(", ")
    folder = settings.home() / "reports"
    folder.mkdir(parents=True, exist_ok=True)
    path, temporary = folder / f"{name}.csv", folder / f"{name}.writing"
    aliases = [f"c{i}" for i in range(len(titles))]
    types = [
        str(kind)
        for _, kind, *_ in connection.execute(f"select * from ({sql}) limit 0", values or {}).description or []
    ]
    cells = [
        without_formula(alias) if kind in ("VARCHAR", "STRING") else alias
        for alias, kind in zip(aliases, types, strict=True)
    ]
    shown = ", ".join(f'{value} as "{title}"' for value, title in zip(cells, titles, strict=True))
    connection.execute(
        f"copy (select {shown} from ({sql}) as r({', '.join(aliases)})) to {sql_text(str(temporary))} (format csv, header true)",
        values or {},
    )
    temporary.replace(path)
    return path
