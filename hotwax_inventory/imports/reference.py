"""The reference data: products, facilities, groups, stores, shops and their mappings, from CSVs in one directory.

All or nothing: a file that is missing, or has anything wrong with it, leaves the previous reference in force."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import duckdb

from hotwax_inventory import settings, tables
from hotwax_inventory.imports import summary
from hotwax_inventory.imports.identify import MOMENT
from hotwax_inventory.imports.reading import read_text
from hotwax_inventory.imports.rows import fields_relation
from hotwax_inventory.imports.shop_products import AT_FACILITIES, ITEMS_MOVED, match_products
from hotwax_inventory.imports.shops import WRITTEN_BY_OTHERS
from hotwax_inventory.imports.text import BLANKS, NEWLINE, BadFile, Text
from hotwax_inventory.resources import Warehouse, require_free_disk, scalar

# How yes and no are written; the numbers understand all of these.
FLAGS = ("y", "yes", "true", "1", "n", "no", "false", "0")


class BadReference(ValueError):
    """A reference file has something wrong with it; the message says file, line, column and reason."""


@dataclass(frozen=True)
class Rule:
    """Something that must hold of each row of the staged file; `column`'s value is shown when it does not."""

    column: str
    condition: str
    reason: str


@dataclass(frozen=True)
class ReferenceFile:
    """One CSV: the table that it fills, the columns of its header, and how each table column is made of them."""

    table: tables.Table
    columns: tuple[str, ...]
    required: tuple[str, ...]
    values: dict[str, str]
    rules: tuple[Rule, ...] = ()
    is_optional: bool = False
    # whether a file without rows is one that was cut, where there were rows before
    needs_rows: bool = False
    # SQL that lets move what depends on a row that `replaced` does not have
    moved: str | None = None
    # SQL of what stays of the rows in `replaced` that `staged` does not have any more
    kept: str | None = None

    @property
    def name(self) -> str:
        return f"{self.table.name.removesuffix('_mapping')}.csv"


def _known(column: str, table: str, key: str | None = None) -> Rule:
    key = key or column
    return Rule(column, f"{column} is null or {column} in (select {key} from {table})", f"is not in {table}.csv")


def _one_of(column: str, *values: str) -> Rule:
    listed = ", ".join(f"'{value}'" for value in values)
    return Rule(column, f"{column} is null or {column} in ({listed})", f"takes {' or '.join(values)}")


def _flag(column: str) -> Rule:
    values = ", ".join(f"'{value}'" for value in FLAGS)
    return Rule(column, f"{column} is null or lower({column}) in ({values})", "takes Y or N")


def _number(column: str) -> Rule:
    return Rule(column, f"{column} is null or regexp_full_match({column}, '[0-9]{{1,18}}')", "is not a whole number")


def _time(column: str) -> Rule:
    # without the pattern `infinity` and `today` would be dates, too
    iso = f"regexp_full_match({column}, '[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}([T ].*)?')"
    return Rule(
        column,
        f"{column} is null or ({iso} and try_cast({MOMENT.format(column)} as timestamptz) is not null)",
        "is not an ISO 8601 date",
    )


# What has been fulfilled is not open any more, whatever the file still says (design 8.5). A file that says what it said before says
# nothing new. One that states another quantity may know of fulfilments or not: no more than that is open, and no more than they
# leave of what was ever ordered.
FULFILLED_OF = """coalesce(
    (
        select sum(f.quantity)
        from item_fulfillment as f
        join data_manager_log as l on l.log_id = f.log_id and l.status_id in ('finished', 'finished_with_errors')
        where f.order_id = {0}.order_id and f.order_item_seq_id = {0}.order_item_seq_id
    ),
    0
)"""
FULFILLED = FULFILLED_OF.format("staged")
BEFORE = """(
    select q.{}
    from replaced as q
    where q.order_id = staged.order_id and q.order_item_seq_id = staged.order_item_seq_id
)"""
ORDERED = f"""greatest(
    staged.quantity::integer, {BEFORE.format("ordered_quantity")}, {BEFORE.format("quantity")} + {FULFILLED}
)"""
QUEUE_QUANTITY = f"""if(
    staged.quantity::integer = {BEFORE.format("stated_quantity")},
    {BEFORE.format("quantity")},
    greatest(0, least(staged.quantity::integer, {ORDERED} - {FULFILLED}))
)"""
# An order item that is loaded again as it was has not moved.
QUEUE_CHANGED_SEQ = f"""coalesce(
    (
        select q.changed_seq
        from replaced as q
        where (q.order_id, q.order_item_seq_id, q.product_id, q.facility_id, q.quantity, q.product_store_id)
            = (staged.order_id, staged.order_item_seq_id, staged.product_id, staged.facility_id, {QUEUE_QUANTITY},
                staged.product_store_id)
    ),
    (select last_value + 1 from sequence)
)"""

# An order item that has gone from the file is closed: its row is what says that the queue of its product has moved, and names
# the product of a fulfilment that comes later.
QUEUE_CLOSED = f"""
select
    order_id,
    order_item_seq_id,
    product_id,
    facility_id,
    0 as quantity,
    product_store_id,
    0 as stated_quantity,
    coalesce(ordered_quantity, quantity + {FULFILLED_OF.format("replaced")}) as ordered_quantity,
    if(quantity = 0, changed_seq, (select last_value + 1 from sequence)) as changed_seq
from replaced
anti join staged using (order_id, order_item_seq_id)
"""

# An order item that stands elsewhere now, or is of another product, leaves the queue that it was in.
QUEUE_MOVED = ITEMS_MOVED.format(
    products="""
    select r.product_id
    from replaced as r
    join virtual_queue_item as q using (order_id, order_item_seq_id)
    where (q.product_id, q.facility_id, q.product_store_id) <> (r.product_id, r.facility_id, r.product_store_id)
"""
)

# A location that shows another facility's stock now moves all items that have a level there.
LOCATION_MOVED = """
update shopify_shop_product as p
set changed_seq = (select last_value + 1 from sequence)
from (
    select distinct l.shop_id, l.shopify_inventory_item_id
    from shopify_inventory_level as l
    join (from shopify_shop_location except from replaced) as n
        on n.shop_id = l.shop_id and n.shopify_location_id = l.shopify_location_id
) as m
where m.shop_id = p.shop_id and m.shopify_inventory_item_id = p.shopify_inventory_item_id
"""


def _facilities_moved(table: str, columns: str) -> str:
    """SQL that moves all that is counted, ruled or parked at the facilities of rows that are others now, or gone."""
    now, before = f"select {columns} from {table}", f"select {columns} from replaced"
    facilities = (
        f"select facility_id from ({now} except {before}) union all select facility_id from ({before} except {now})"
    )
    return ITEMS_MOVED.format(products=AT_FACILITIES.format(facilities=facilities))


# What decides where and how a facility counts.
FACILITY_MOVED = _facilities_moved(
    "facility", "facility_id, facility_type_id, parent_facility_type_id, product_store_id"
)
GROUP_MOVED = _facilities_moved("facility_group", "*")
# Another store, or another side of its group, is another set of numbers for a shop.
_PUBLISHES = "shop_id, product_store_id, shopify_facility_group_mode"
SHOP_MOVED = f"""
update shopify_shop_product
set changed_seq = (select last_value + 1 from sequence)
where shop_id in (
    select shop_id from (select {_PUBLISHES} from shopify_shop except select {_PUBLISHES} from replaced)
)
"""
# A store's switches say what its parked orders take.
STORE_MOVED = ITEMS_MOVED.format(
    products="""
    select product_id
    from virtual_queue_item
    where product_store_id in (select product_store_id from (from product_store except from replaced))
"""
)

# `_NA_` is the brokering queue; as a location's facility it stands for the aggregate location.
_FACILITY_OR_AGGREGATE = Rule(
    "facility_id", "facility_id = '_NA_' or facility_id in (select facility_id from facility)", "is not in facility.csv"
)

# In the order in which they are loaded: what a file refers to comes before it.
REFERENCE_FILES = (
    ReferenceFile(
        tables.PRODUCT,
        ("product_id", "internal_name", "product_type_id", "netsuite_product_id", "upca", "tags"),
        ("product_id",),
        {},
        needs_rows=True,
    ),
    ReferenceFile(
        tables.PRODUCT_STORE,
        ("product_store_id", "reserve_inventory", "hold_preorder_physical_inventory"),
        ("product_store_id",),
        {},
        (_flag("reserve_inventory"), _flag("hold_preorder_physical_inventory")),
        moved=STORE_MOVED,
    ),
    ReferenceFile(
        tables.FACILITY,
        (
            "facility_id",
            "external_id",
            "facility_name",
            "facility_type_id",
            "parent_facility_type_id",
            "product_store_id",
        ),
        ("facility_id",),
        {},
        (_known("product_store_id", "product_store"),),
        needs_rows=True,
        moved=FACILITY_MOVED,
    ),
    ReferenceFile(
        tables.FACILITY_GROUP,
        ("facility_group_id", "facility_group_type_id", "facility_id", "from_date", "thru_date"),
        ("facility_group_id", "facility_id"),
        {name: f"{MOMENT.format(name)}::timestamptz" for name in ("from_date", "thru_date")},
        (_FACILITY_OR_AGGREGATE, _time("from_date"), _time("thru_date")),
        moved=GROUP_MOVED,
    ),
    ReferenceFile(
        tables.SHOPIFY_SHOP,
        ("shop_id", "shop_domain", "product_store_id", "inventory_master", "shopify_facility_group_mode"),
        ("shop_id", "product_store_id"),
        {
            "inventory_master": "coalesce(inventory_master, 'hotwax')",
            "shopify_facility_group_mode": "coalesce(shopify_facility_group_mode, 'exclude')",
        },
        (
            Rule(
                "shop_id",
                "count(*) over (partition by upper(regexp_replace(shop_id, '[^A-Za-z0-9]', '_', 'g'))) = 1",
                "has the variables SHOPIFY_<SHOP>_… of another shop, too",
            ),
            _known("product_store_id", "product_store"),
            _one_of("inventory_master", "hotwax", "shopify"),
            _one_of("shopify_facility_group_mode", "exclude", "include"),
        ),
        moved=SHOP_MOVED,
    ),
    ReferenceFile(
        tables.SHOPIFY_SHOP_LOCATION,
        ("shop_id", "facility_id", "shopify_location_id"),
        ("shop_id", "facility_id", "shopify_location_id"),
        {"shopify_location_id": "shopify_location_id::bigint"},
        (
            _known("shop_id", "shopify_shop"),
            _FACILITY_OR_AGGREGATE,
            _number("shopify_location_id"),
            Rule(
                "shopify_location_id",
                "count(*) over (partition by shop_id, try_cast(shopify_location_id as bigint)) = 1",
                "is the location of two facilities",
            ),
        ),
        moved=LOCATION_MOVED,
    ),
    ReferenceFile(
        tables.SHOPIFY_SHOP_PRODUCT_MAPPING,
        ("shop_id", "product_id", "shopify_inventory_item_id"),
        ("shop_id", "product_id", "shopify_inventory_item_id"),
        {"shopify_inventory_item_id": "shopify_inventory_item_id::bigint"},
        (
            _known("shop_id", "shopify_shop"),
            _known("product_id", "product"),
            _number("shopify_inventory_item_id"),
            Rule(
                "shopify_inventory_item_id",
                "count(*) over (partition by shop_id, try_cast(shopify_inventory_item_id as bigint)) = 1",
                "is the item of two products",
            ),
        ),
        is_optional=True,
    ),
    ReferenceFile(
        tables.VIRTUAL_QUEUE_ITEM,
        ("order_id", "order_item_seq_id", "product_id", "facility_id", "quantity", "product_store_id"),
        ("order_id", "order_item_seq_id", "product_id", "facility_id", "quantity", "product_store_id"),
        {
            "quantity": QUEUE_QUANTITY,
            "stated_quantity": "quantity::integer",
            "ordered_quantity": ORDERED,
            "changed_seq": QUEUE_CHANGED_SEQ,
        },
        (
            _known("product_id", "product"),
            _known("facility_id", "facility"),
            _known("product_store_id", "product_store"),
            Rule("quantity", "regexp_full_match(quantity, '[0-9]{1,9}')", "is not a whole number of units"),
        ),
        is_optional=True,
        kept=QUEUE_CLOSED,
        moved=QUEUE_MOVED,
    ),
)

ASSETS = (
    "product",
    "facility",
    "facility_group",
    "product_store",
    "shopify_shop",
    "shopify_shop_location",
    "virtual_queue_item",
)

# That a shop or a location is gone stops its syncs without a word; that all are may be an export that has failed.
NOT_EMPTIED = dg.AssetCheckSpec(
    "no_file_is_emptied", asset="shopify_shop", description="Every reference file that had rows has some still."
)


@dg.multi_asset(
    name="reference",
    specs=[
        dg.AssetSpec(
            file.table.name,
            group_name="imports",
            kinds={"duckdb", "csv"},
            deps=["reference_files"],
            description=file.table.description,
            metadata=file.table.metadata,
        )
        for file in REFERENCE_FILES
        if file.table.name in ASSETS
    ],
    check_specs=[NOT_EMPTIED],
    can_subset=True,
)
def reference(
    context: dg.AssetExecutionContext, warehouse: Warehouse
) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
    """Load every reference file in one transaction, match the items of the shops anew, and make each shop a partition; whichever
    of the tables was asked for.

    Raises BadReference, with nothing changed, when a file has anything wrong with it; DiskNearlyFull."""
    require_free_disk()
    state = files_state()
    with warehouse.transaction() as connection, settings.temporary_folder() as scratch:
        emptied = [
            f"{file.name} has no rows now, where {in_force:,} were in force."
            for file in REFERENCE_FILES
            if (in_force := load_file(file, settings.reference_dir(), Path(scratch), connection))
        ]
        _identify(connection)
        for (shop_id,) in connection.execute(READ_SHOPS).fetchall():
            match_products(shop_id, connection)
        for statement in FORGOTTEN:
            connection.execute(statement)
        # which products are kits, and at which facilities stock counts, may be otherwise now
        connection.execute("update sequence set kits_upto = 0")
        counts = {name: scalar(connection, f"select count(*) from {name}") for name in ASSETS}
        shops = connection.execute("select shop_id, inventory_master from shopify_shop order by shop_id").fetchall()
    context.instance.add_dynamic_partitions("shop", [shop_id for shop_id, _ in shops])
    of_shops = {"inventory_master": dg.MetadataValue.json(dict(shops)), "files_state": state}
    check = dg.AssetCheckResult(
        check_name=NOT_EMPTIED.name,
        passed=not emptied,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{' '.join(emptied)} If that is not meant, write it again, whole, and load the reference."
        if emptied
        else None,
    )
    yield from summary.asked_for(
        context,
        (
            dg.MaterializeResult(
                name,
                {"dagster/row_count": counts[name], **(of_shops if name == "shopify_shop" else {})},
                check_results=[check] if name == "shopify_shop" else [],
            )
            for name in ASSETS
        ),
    )


# Shops whose items are known: those are matched with the products anew.
READ_SHOPS = "select shop_id from shopify_shop semi join shopify_bulk_read using (shop_id) order by shop_id"


# Where others write, what we have published is no longer what Shopify last confirmed to us, and what we meant to send is over.
FORGOTTEN = (
    f"delete from published_level where {WRITTEN_BY_OTHERS}",
    f"update sync_run set status_id = 'abandoned' where status_id in ('planned', 'sending', 'unfinished') and {WRITTEN_BY_OTHERS}",
)


def files_state() -> str:
    """A text that is another one when a file of the reference is."""
    paths = [settings.reference_dir() / file.name for file in REFERENCE_FILES]
    found = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in paths if path.exists()]
    return hashlib.sha256(json.dumps(found).encode()).hexdigest() if found else ""


def load_file(file: ReferenceFile, folder: Path, scratch: Path, connection: duckdb.DuckDBPyConnection) -> int:
    """Replace a table by the rows of its CSV; an optional file that is not there has none. Raises BadReference.

    How many rows have been in force where there are none now; that no order item is open any more is nothing odd, but where its
    file is missing."""
    path = folder / file.name
    is_missing = file.is_optional and not path.exists()
    counted = "quantity > 0" if file.kept else "true"
    in_force = scalar(connection, f"select count(*) from {file.table.name} where {counted}")
    if is_missing:
        names = ", ".join(f"null::varchar as {name}" for name in file.columns)
        connection.execute(f"create or replace temp table staged as select 0 as line_number, {names} limit 0")
    else:
        text = _text(file, path, scratch, connection)
        connection.execute(f"create or replace temp table staged as {_staged(file, text)}")
        _check(file, connection)
    connection.execute(f"create or replace temp table replaced as from {file.table.name}")
    values = ", ".join(file.values.get(column.name, column.name) for column in file.table.columns)
    connection.execute(f"delete from {file.table.name}")
    connection.execute(f"insert into {file.table.name} select {values} from staged order by line_number")
    if file.kept:
        connection.execute(f"insert into {file.table.name} by name {file.kept}")
    if file.moved:
        connection.execute(file.moved)
    if file.moved or any(column.name == "changed_seq" for column in file.table.columns):
        connection.execute("update sequence set last_value = last_value + 1")
    is_emptied = is_missing or not (file.kept or scalar(connection, f"select count(*) from {file.table.name}"))
    return in_force if is_emptied else 0


def stated_shops(connection: duckdb.DuckDBPyConnection) -> set[str]:
    """The shops of shopify_shop.csv as it is now, whether it is loaded or not. Raises BadReference."""
    (file,) = (file for file in REFERENCE_FILES if file.table is tables.SHOPIFY_SHOP)
    with settings.temporary_folder() as scratch:
        text = _text(file, settings.reference_dir() / file.name, Path(scratch), connection)
        found = connection.execute(f"select distinct shop_id from ({_staged(file, text)})").fetchall()
    return {shop_id for (shop_id,) in found}


def _text(file: ReferenceFile, path: Path, scratch: Path, connection: duckdb.DuckDBPyConnection) -> Text:
    if not path.exists():
        raise BadReference(f"{path} is missing. The previous reference stays in force.")
    try:
        text = read_text(path, scratch, connection)
    except BadFile as error:
        raise BadReference(f"{path}: {error} The previous reference stays in force.") from error
    missing = [column for column in file.columns if column not in text.header]
    if missing:
        raise BadReference(
            f"{path}, line {text.header_line}: column {', '.join(missing)} is missing (found: {', '.join(text.header)}). "
            "The previous reference stays in force."
        )
    return text


def _staged(file: ReferenceFile, text: Text) -> str:
    width = len(text.header)
    came = f"replace(c{{}}, '{NEWLINE}', chr(10))"
    columns = ", ".join(
        f"nullif(trim({came.format(text.header.index(name))}, {BLANKS}), '') as {name}" for name in file.columns
    )
    return f"""
        select line_number, c{width - 1} is null as is_short, c{width} is not null as is_long, {columns}
        from ({fields_relation({0: text}, extra_fields=1)})"""


def _check(file: ReferenceFile, connection: duckdb.DuckDBPyConnection) -> None:
    staged, in_force = connection.execute(
        f"select (select count(*) from staged), (select count(*) from {file.table.name})"
    ).fetchall()[0]
    if file.needs_rows and in_force and not staged:
        raise BadReference(
            f"{file.name} has a header and no rows, where {in_force:,} are in force. Write it again, whole. The previous reference "
            "stays in force."
        )
    key = ", ".join(file.table.key)
    filled = " and ".join(f"{column} is not null" for column in file.required)
    rules = [
        Rule(file.columns[0], "not is_short", "has fewer fields than the header"),
        Rule(file.columns[0], "not is_long", "has more fields than the header"),
        *(Rule(column, f"{column} is not null", "is empty") for column in file.required),
        Rule(
            file.table.key[-1],
            f"not ({filled}) or row_number() over (partition by {key} order by line_number) = 1",
            f"repeats the key ({key})",
        ),
        *file.rules,
    ]
    for rule in rules:
        found = connection.execute(
            f"select line_number, {rule.column} from staged qualify not ({rule.condition}) order by line_number limit 1"
            if "over (" in rule.condition
            else f"select line_number, {rule.column} from staged where not ({rule.condition}) order by line_number limit 1"
        ).fetchall()
        if found:
            line_number, value = found[0]
            shown = "" if value is None else f" {json.dumps(str(value)[:100], ensure_ascii=False)}"
            raise BadReference(
                f"{file.name}, line {line_number}, column {rule.column}:{shown} {rule.reason}. "
                "The previous reference stays in force."
            )


IDENTIFICATIONS: Sequence[tuple[str, str]] = (
    ("PRODUCTID", "product_id"),
    ("SKU", "internal_name"),
    ("NETSUITEPRODUCTID", "netsuite_product_id"),
    ("UPCA", "upca"),
)


def _identify(connection: duckdb.DuckDBPyConnection) -> None:
    """Make `good_identification` of the products: every value by which a file may name one."""
    connection.execute("delete from good_identification")
    for kind, column in IDENTIFICATIONS:
        connection.execute(
            f"""
            insert into good_identification
            select '{kind}', {column}, min(product_id), arg_min(product_type_id, product_id), count(*)
            from product
            where {column} is not null
            group by {column}
            """
        )
