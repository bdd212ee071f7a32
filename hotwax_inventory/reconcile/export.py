"""CSVs for people, below HOTWAX_HOME: what a spreadsheet would take for a formula is text in them, and numbers are numbers."""

from collections.abc import Sequence
from pathlib import Path

import duckdb

from hotwax_inventory import settings
from hotwax_inventory.imports.rows import sql_text

# A text that begins so is worked out by spreadsheets (CWE-1236); one that is a number is not.
FORMULA = r"regexp_matches({0}, '^[=+\-@\t\r]') and try_cast({0} as double) is null"


def write_csv(name: str, sql: str, titles: Sequence[str], connection: duckdb.DuckDBPyConnection) -> Path:
    """Write the rows of a query as `reports/<name>.csv`, under these titles; an earlier one is replaced at once."""
    folder = settings.home() / "reports"
    folder.mkdir(parents=True, exist_ok=True)
    path, temporary = folder / f"{name}.csv", folder / f"{name}.writing"
    aliases = [f"c{i}" for i in range(len(titles))]
    types = [str(kind) for _, kind, *_ in connection.execute(f"select * from ({sql}) limit 0").description or []]
    values = [
        f"if({FORMULA.format(alias)}, '''' || {alias}, {alias})" if kind in ("VARCHAR", "STRING") else alias
        for alias, kind in zip(aliases, types, strict=True)
    ]
    columns = ", ".join(f'{value} as "{title}"' for value, title in zip(values, titles, strict=True))
    connection.execute(
        f"copy (select {columns} from ({sql}) as r({', '.join(aliases)})) to {sql_text(str(temporary))} (format csv, header true)"
    )
    temporary.replace(path)
    return path
