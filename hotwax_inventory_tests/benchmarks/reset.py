"""Reset files: a landed CSV becomes typed rows, refused rows, ledger and stock; against bare DuckDB, and against pandas.

The first day meets an empty warehouse. On the second, 3 % of the quantities differ and 0.1 % of the rows are bad."""

from datetime import UTC, datetime
from pathlib import Path

import duckdb

from hotwax_inventory import tables
from hotwax_inventory.imports import queue, reset
from hotwax_inventory.ledger import entries
from hotwax_inventory.resources import Warehouse
from hotwax_inventory_tests.benchmarks import measure
from hotwax_inventory_tests.benchmarks.catalogue import (
    FACILITIES,
    QUANTITY,
    load_dimensions,
    load_reference,
    register,
    write_reference,
)

REPETITIONS = 2
MOST_PANDAS_ROWS = 1_000_000
TABLES = (tables.INVENTORY_RESET, tables.INVENTORY_ITEM_DETAIL, tables.INVENTORY_ITEM)

# On day 1 no row is changed or bad.
FILE = f"""
copy (
    select
        'SKU-' || n // {FACILITIES} as "Item",
        case when is_bad and n % 3 = 0 then 999 else 100 + n % {FACILITIES} end as "externalFacilityId",
        case when is_bad and n % 3 = 1 then '12.5' else (quantity + is_changed::bigint)::varchar end as "availableQty",
        case when is_bad and n % 3 = 2 then 'GONE' else (5000000 + n // {FACILITIES})::varchar end as "idValue"
    from (
        select
            n,
            {QUANTITY.format(n="n")} as quantity,
            $day > 1 and hash(n + 1) % 1000 < 30 as is_changed,
            $day > 1 and hash(n + 2) % 1000 = 0 as is_bad
        from range($rows) as row(n)
    )
) to '{{path}}' (format csv, header)
"""


def prepare(folder: Path, size: int) -> None:
    """Both files, the floor's database with its dimension tables, and the warehouse with its reference."""
    landing = folder / "home" / "landing"
    landing.mkdir(parents=True)
    for day in (1, 2):
        duckdb.execute(FILE.format(path=landing / f"{day}.csv"), {"rows": size, "day": day})
    write_reference(folder / "reference", size // FACILITIES)
    load_reference()
    with duckdb.connect(str(folder / "floor.duckdb")) as connection:
        load_dimensions(folder / "reference", connection)
        for table in TABLES:
            connection.execute(table.ddl())


def register_day(folder: Path, day: int) -> None:
    """Register the file of a day."""
    config = reset.ResetFiles.model_validate({})
    register(folder, reset.FEED, config, {f"{day}.csv": datetime(2026, 11, day, 5, tzinfo=UTC)})


def ours() -> None:
    """Import and post the pending file."""
    imported = queue.import_pending((reset.IMPORT,), "RESET_INVENTORY", "bench", Warehouse())
    posted = entries.post_imported(Warehouse())
    assert [file.failure for file in imported] == [None]
    assert [batch.rows for batch in posted] == [imported[0].rows - imported[0].refused]


TYPED = """
insert into inventory_reset
select $day, line_number, product_id, facility_id, "availableQty", 'ATP', null, null
from (
    select *, row_number() over () + 1 as line_number
    from read_csv(
        '{path}',
        auto_detect = false,
        header = true,
        ignore_errors = true,
        columns = {{
            'Item': 'varchar', 'externalFacilityId': 'varchar', 'availableQty': 'integer', 'idValue': 'varchar'
        }}
    )
)
join product on netsuite_product_id = "idValue"
join facility on external_id = "externalFacilityId"
"""

LEDGER = """
insert into inventory_item_detail by name
select
    $day * 1000000000 + r.line_number as seq,
    r.product_id,
    r.facility_id,
    r.quantity - coalesce(i.available_to_promise_total, 0) as quantity_on_hand_diff,
    r.quantity - coalesce(i.available_to_promise_total, 0) as available_to_promise_diff,
    r.quantity as last_quantity_on_hand,
    r.quantity as last_available_to_promise,
    r.quantity,
    'VAR_EXT_RESET' as reason_enum_id,
    $at as effective_at,
    r.log_id,
    r.line_number
from inventory_reset as r
left join inventory_item as i on i.product_id = r.product_id and i.facility_id = r.facility_id
where r.log_id = $day and r.quantity <> coalesce(i.available_to_promise_total, 0)
"""

STATE = """
insert into inventory_item_next by name
select
    coalesce(r.product_id, i.product_id) as product_id,
    coalesce(r.facility_id, i.facility_id) as facility_id,
    coalesce(r.quantity, i.quantity_on_hand_total) as quantity_on_hand_total,
    coalesce(r.quantity, i.available_to_promise_total) as available_to_promise_total,
    if(r.quantity is null or r.quantity = i.available_to_promise_total, i.changed_seq, $day * 1000000000 + r.line_number)
        as changed_seq,
    if(r.quantity is null, i.reset_at, $at) as reset_at,
    if(r.quantity is null, i.reset_file_name, $name) as reset_file_name,
    if(r.quantity is null, i.reset_modified_at, $at) as reset_modified_at,
    coalesce(r.line_number, i.reset_line_number) as reset_line_number,
    coalesce(r.log_id, i.reset_log_id) as reset_log_id,
    coalesce(r.reset_by, i.reset_by) as reset_by,
    coalesce(r.quantity, i.reset_quantity) as reset_quantity
from (select * from inventory_reset where log_id = $day) as r
full join inventory_item as i on i.product_id = r.product_id and i.facility_id = r.facility_id
"""


def floor(folder: Path, day: int) -> None:
    """The same three tables by a bare script, which knows the one header and believes every row that it can read."""
    path = folder / "home" / "landing" / f"{day}.csv"
    at = datetime(2026, 11, day, 5, tzinfo=UTC)
    with duckdb.connect(str(folder / "floor.duckdb")) as connection:
        connection.begin()
        connection.execute(TYPED.format(path=path), {"day": day})
        connection.execute(LEDGER, {"day": day, "at": at})
        connection.execute(tables.INVENTORY_ITEM.ddl("inventory_item_next"))
        connection.execute(STATE, {"day": day, "at": at, "name": path.name})
        connection.execute("drop table inventory_item")
        connection.execute("alter table inventory_item_next rename to inventory_item")
        connection.commit()


def pandas_first(folder: Path, size: int) -> None:
    """The first day of as many rows in pandas, up to MOST_PANDAS_ROWS; the three results go to a DuckDB file."""
    # here, since its memory is not to count as ours; only `make bench` installs it
    import pandas as pd  # pyright: ignore[reportMissingImports]

    count = min(size, MOST_PANDAS_ROWS)
    product = pd.read_csv(folder / "reference" / "product.csv", dtype=str, nrows=count // FACILITIES)
    facility = pd.read_csv(folder / "reference" / "facility.csv", dtype=str, keep_default_na=False)
    names = {"externalFacilityId": "external_id", "availableQty": "quantity", "idValue": "netsuite_product_id"}
    rows = pd.read_csv(
        folder / "home" / "landing" / "1.csv", dtype={"externalFacilityId": "str", "idValue": "str"}, nrows=count
    )
    rows = rows.rename(columns=names)
    rows["line_number"] = rows.index + 2
    rows = rows.merge(product[["product_id", "netsuite_product_id"]], on="netsuite_product_id")
    rows = rows.merge(facility[["facility_id", "external_id"]], on="external_id")
    typed = rows[["line_number", "product_id", "facility_id", "quantity"]].assign(log_id=1, reset_by="ATP")
    ledger = typed[typed["quantity"] != 0].assign(
        quantity_on_hand_diff=lambda entry: entry["quantity"],
        available_to_promise_diff=lambda entry: entry["quantity"],
        reason_enum_id="VAR_EXT_RESET",
    )
    state = typed.rename(columns={"quantity": "available_to_promise_total", "line_number": "changed_seq"})
    with duckdb.connect(str(folder / "pandas.duckdb")) as connection:
        for name, frame in (("typed", typed), ("ledger", ledger), ("state", state)):
            connection.register("frame", frame)
            connection.execute(f"create or replace table {name} as select * from frame")


# In the order of a repetition: a file is registered only when the one before it is posted.
STEPS = {
    "prepare": prepare,
    "register_first": lambda folder, size: register_day(folder, 1),
    "floor_first": lambda folder, size: floor(folder, 1),
    "ours_first": lambda folder, size: ours(),
    "pandas_first": pandas_first,
    "register_second": lambda folder, size: register_day(folder, 2),
    "floor_second": lambda folder, size: floor(folder, 2),
    "ours_second": lambda folder, size: ours(),
}


def benchmark(folder: Path, size: int) -> list[measure.Line]:
    """Best of the repetitions."""
    databases = (folder / "floor.duckdb", folder / "home" / "warehouse.duckdb")
    found = measure.repeat(__name__, STEPS, folder, size, REPETITIONS, databases)
    best = {step: measure.best(times) for step, times in found.items()}
    lines = [
        measure.Line(
            f"reset of {size:,} rows, {day} day",
            best[f"floor_{day}"],
            best[f"ours_{day}"],
            measure.peak(found[f"ours_{day}"]),
            goal=2,
        )
        for day in ("first", "second")
    ]
    rows = min(size, MOST_PANDAS_ROWS)
    work = f"  first day against pandas ({rows:,} rows, scaled)"
    return [*lines, measure.Line(work, best["pandas_first"] * size / rows, lines[0].ours, lines[0].peak_mib, goal=0.05)]


if __name__ == "__main__":
    measure.main(STEPS)
