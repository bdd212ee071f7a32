"""Everything but resets, over a retailer whose keys are all known: signed quantities against a bare MERGE, kits against a bare
aggregate, many small files against one, and a late file over a long ledger against the same over a short one."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb

from hotwax_inventory import tables
from hotwax_inventory.imports import deltas, queue
from hotwax_inventory.ledger import entries
from hotwax_inventory.ledger.kits import compute_kits
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
DAY = datetime(2026, 11, 2, 5, tzinfo=UTC)
SMALL_FILES, SMALL_ROWS = 200, 500
LATE_KEYS = 1000
FULFILLMENTS = 200_000

STOCK = f"""
insert into inventory_item by name
select
    (10000000 + n // {FACILITIES})::varchar as product_id,
    'STORE_' || n % {FACILITIES} as facility_id,
    {QUANTITY.format(n="n")} as quantity_on_hand_total,
    {QUANTITY.format(n="n")} as available_to_promise_total,
    n + 1 as changed_seq,
    $at as reset_at,
    'first.csv' as reset_file_name,
    $at as reset_modified_at,
    n + 2 as reset_line_number,
    0 as reset_log_id,
    'ATP' as reset_by,
    {QUANTITY.format(n="n")} as reset_quantity
from range($rows) as row(n)
"""

LEDGER = """
insert into inventory_item_detail by name
select
    changed_seq as seq,
    product_id,
    facility_id,
    quantity_on_hand_total as quantity_on_hand_diff,
    quantity_on_hand_total as available_to_promise_diff,
    quantity_on_hand_total as last_quantity_on_hand,
    quantity_on_hand_total as last_available_to_promise,
    reset_quantity as quantity,
    'VAR_EXT_RESET' as reason_enum_id,
    reset_at as effective_at,
    0 as log_id,
    reset_line_number as line_number,
    'reset' as effect
from inventory_item
limit $rows
"""

KITS = """
insert into kit_component
select
    0 as log_id, n as line_number, 'KIT-' || n // 3 as product_id, (10000000 + hash(n) % $products)::varchar as product_id_to,
    1 + n % 2 as quantity, $at as from_date, null as thru_date, 0 as changed_seq
from range($rows) as row(n)
"""

DELTAS = f"""
copy (
    select
        100 + n % {FACILITIES} as "externalFacilityId",
        5000000 + n // {FACILITIES} as "idValue",
        'NETSUITE_PRODUCT_ID' as "idType",
        (hash(n + 5) % 40)::bigint - 20 as "availableDelta",
        'Inventory Adjusted from ItemReceipt # ' || n || ' in NetSuite ' as "comments"
    from (select (hash(m + $salt) % $size)::bigint as n from range($rows) as row(m))
) to '{{path}}' (format csv, header)
"""


def prepare(folder: Path, size: int) -> None:
    """Files, the floor's database, and a warehouse whose keys are all known."""
    landing = folder / "home" / "landing"
    landing.mkdir(parents=True)
    products = size // FACILITIES
    files = {"deltas.csv": size // 10, "late.csv": LATE_KEYS, "one.csv": SMALL_FILES * SMALL_ROWS}
    files |= {f"small-{i:03}.csv": SMALL_ROWS for i in range(SMALL_FILES)}
    for salt, (name, rows) in enumerate(files.items()):
        duckdb.execute(DELTAS.format(path=landing / name), {"rows": rows, "salt": salt, "size": size})
    orders = [
        {
            "orderMap": {
                "orderId": f"O{n}",
                "items": [{"orderItemSeqId": "1", "externalFacilityId": "100", "quantity": "1"}],
            }
        }
        for n in range(FULFILLMENTS)
    ]
    (landing / "fulfilled.json").write_text(json.dumps(orders, indent=2))
    write_reference(folder / "reference", products)
    load_reference()
    with Warehouse().transaction() as connection:
        connection.execute(STOCK, {"rows": size, "at": DAY})
        connection.execute(LEDGER, {"rows": size})
        connection.execute(KITS, {"rows": 3 * (size // 100), "products": products, "at": DAY})
        connection.execute(
            "insert into product by name select distinct product_id, 'MARKETING_PKG_PICK' as product_type_id from kit_component"
        )
        connection.execute(
            "insert into virtual_queue_item select 'O' || n, '1', '10000000', 'STORE_0', 1, 'STORE', 1, 1, 0 "
            f"from range({FULFILLMENTS}) as row(n)"
        )
        connection.execute("update sequence set last_value = $last, kits_upto = $last", {"last": size})
    with duckdb.connect(str(folder / "floor.duckdb")) as connection:
        load_dimensions(folder / "reference", connection)
        for table in (tables.INVENTORY_ITEM, tables.INVENTORY_ITEM_DETAIL, tables.KIT_COMPONENT, tables.ITEM_RECEIPT):
            connection.execute(table.ddl())
        connection.execute(STOCK, {"rows": size, "at": DAY})
        connection.execute(KITS, {"rows": 3 * (size // 100), "products": products, "at": DAY})


def ours(folder: Path, *names: str, hour: int) -> None:
    """Register the files, import and post them."""
    config = deltas.ReceiptFiles.model_validate({})
    times = {name: DAY + timedelta(hours=hour, seconds=i) for i, name in enumerate(names)}
    register(folder, deltas.ITEM_RECEIPT, config, times)
    imported = queue.import_pending((deltas.RECEIPT, deltas.FULFILLMENT), config.config_id, "bench", Warehouse())
    posted = entries.post_imported(Warehouse())
    assert [(file.failure, file.refused) for file in imported] == [(None, 0)] * len(names)
    assert sum(file.entries for file in posted) == sum(file.rows for file in imported)


FLOOR = (
    """
insert into item_receipt
select 1, row_number() over () + 1, product_id, facility_id, "availableDelta", null, "comments"
from read_csv('{path}', auto_detect = false, header = true, columns = {{
    'externalFacilityId': 'varchar', 'idValue': 'varchar', 'idType': 'varchar', 'availableDelta': 'integer', 'comments': 'varchar'
}})
join product on netsuite_product_id = "idValue"
join facility on external_id = "externalFacilityId"
""",
    """
insert into inventory_item_detail by name
select
    line_number as seq, r.product_id, r.facility_id, quantity as quantity_on_hand_diff, quantity as available_to_promise_diff,
    i.quantity_on_hand_total + quantity as last_quantity_on_hand,
    i.available_to_promise_total + quantity as last_available_to_promise,
    quantity, 'VAR_INTEGR' as reason_enum_id, current_timestamp as effective_at, 1 as log_id, line_number, comments as description
from item_receipt as r
join inventory_item as i on i.product_id = r.product_id and i.facility_id = r.facility_id
""",
    """
merge into inventory_item as i
using (
    select product_id, facility_id, sum(quantity) as quantity, max(line_number) as seq from item_receipt group by all
) as n
on i.product_id = n.product_id and i.facility_id = n.facility_id
when matched then update set
    quantity_on_hand_total = quantity_on_hand_total + n.quantity,
    available_to_promise_total = available_to_promise_total + n.quantity,
    changed_seq = n.seq
""",
)


def floor_deltas(folder: Path, size: int) -> None:
    """The same rows by a bare script: it sums up and cuts nothing."""
    with duckdb.connect(str(folder / "floor.duckdb")) as connection:
        connection.begin()
        for statement in FLOOR:
            connection.execute(statement.format(path=folder / "home" / "landing" / "deltas.csv"))
        connection.commit()


def floor_kits(folder: Path, size: int) -> None:
    """The bare aggregate."""
    with duckdb.connect(str(folder / "floor.duckdb")) as connection:
        connection.execute(
            """
            create or replace table kit as
            select c.product_id, i.facility_id, min(i.available_to_promise_total // c.quantity) as kits
            from kit_component as c
            join inventory_item as i on i.product_id = c.product_id_to
            group by all
            """
        )


def ours_kits(folder: Path, size: int) -> None:
    with Warehouse().transaction() as connection:
        compute_kits(connection, include_all=True)
        made = connection.execute("select count(*) from kit_inventory").fetchall()
    assert made == [(size // 100 * FACILITIES,)]


def shorten(folder: Path, size: int) -> None:
    """Leave a hundredth of the ledger."""
    with Warehouse().connect() as connection:
        connection.execute(f"delete from inventory_item_detail where seq > {size // 100}")


STEPS = {
    "prepare": prepare,
    "floor_deltas": floor_deltas,
    "ours_deltas": lambda folder, size: ours(folder, "deltas.csv", hour=10),
    "ours_late": lambda folder, size: ours(folder, "late.csv", hour=5),
    "ours_one": lambda folder, size: ours(folder, "one.csv", hour=11),
    "ours_small": lambda folder, size: ours(folder, *(f"small-{i:03}.csv" for i in range(SMALL_FILES)), hour=12),
    "floor_kits": floor_kits,
    "ours_kits": ours_kits,
    "ours_json": lambda folder, size: ours(folder, "fulfilled.json", hour=13),
    "shorten": shorten,
    "ours_late_short": lambda folder, size: ours(folder, "late.csv", hour=6),
}


def benchmark(folder: Path, size: int) -> list[measure.Line]:
    """Best of the repetitions."""
    databases = (folder / "floor.duckdb", folder / "home" / "warehouse.duckdb")
    found = measure.repeat(__name__, STEPS, folder, size, REPETITIONS, databases)

    def line(work: str, floor: str, step: str, goal: float) -> measure.Line:
        return measure.Line(
            work, measure.best(found[floor]), measure.best(found[step]), measure.peak(found[step]), goal
        )

    return [
        line(f"{size // 10:,} deltas over {size:,} keys", "floor_deltas", "ours_deltas", 3),
        line(f"{SMALL_FILES} files of {SMALL_ROWS} deltas, against one", "ours_one", "ours_small", 2),
        line(f"{LATE_KEYS:,} late deltas, ledger of {size:,} or a hundredth", "ours_late_short", "ours_late", 3),
        line(f"{size // 100:,} kits x {FACILITIES} facilities x 3", "floor_kits", "ours_kits", 3),
        line(f"{FULFILLMENTS:,} fulfilments in JSON (no floor: peak)", "ours_json", "ours_json", 1),
    ]


if __name__ == "__main__":
    measure.main(STEPS)
