"""The daily read of a shop that is master of its stock: units on hand reset QOH, as one snapshot at the time of the read.

The levels themselves are read by `imports.shopify_levels`. A read is registered like a landed file, once, whatever becomes of the
run; that of another shop is registered as finished without a row, for the drift report alone (design 8.10)."""

import json
from typing import Any, ClassVar

import dagster as dg
import duckdb
from pydantic import Field

from hotwax_inventory import settings, tables
from hotwax_inventory.files import inbox
from hotwax_inventory.imports.shopify_levels import Read, last_read
from hotwax_inventory.imports.shops import SHOPS, Shop, find_shop, shop_of
from hotwax_inventory.markdown import markdown_table
from hotwax_inventory.resources import Warehouse, scalar
from hotwax_inventory.run_config import HotwaxConfig

CONFIG_ID = "SYNC_SHOPIFY_INV"


class SyncInventory(HotwaxConfig):
    """Parameters of HotWax's job `Sync Inventory from Shopify`. HotWax's own spellings are understood beside ours."""

    spellings: ClassVar[dict[str, str]] = {"includeAll": "include_all", "scheduleNow": "schedule_now"}

    include_all: bool = Field(
        True, description="false: only levels that Shopify has changed since the shop's last read that was applied"
    )
    schedule_now: bool = Field(
        True, description="false: register the read only, process_bulk_imported_files does the rest"
    )
    approve: bool = Field(
        False, description="apply the read although it looks wrong, as an earlier one did that is held"
    )
    includeAll: bool | None = Field(None, description="HotWax's spelling of include_all")
    scheduleNow: bool | None = Field(None, description="HotWax's spelling of schedule_now")


# Which facility's stock a location shows, and which product an item is.
MAPPINGS = """
with place as (
    select
        o.shopify_location_id,
        f.facility_id,
        f.facility_id is null or f.parent_facility_type_id is not distinct from 'VIRTUAL_FACILITY' as is_without_stock
    from shopify_shop_location as o
    left join facility as f on f.facility_id = o.facility_id
    where o.shop_id = $shop_id
),
item as (
    select
        m.shopify_inventory_item_id,
        m.product_id,
        $kits_are_derived and p.product_type_id is not distinct from 'MARKETING_PKG_PICK' as is_kit
    from shopify_shop_product as m
    left join product as p on p.product_id = m.product_id
    where m.shop_id = $shop_id
)
"""
# A read is not of one moment, hence the five minutes, which are HotWax's `buffertime` (HotWax reference 3.10). Stock that Shopify
# has reset last, but to another number, is of a level that was not there to be read then, or mapped otherwise; where it was by the
# read of another shop, that one's number stands. By one number a key takes little room.
COUNTED = """
left join (
    select
        hash(c.product_id, c.facility_id) as key,
        c.reset_by = 'QOH' as is_on_hand,
        c.reset_quantity,
        coalesce(json_extract_string(f.parameters, '$.shop_id') <> $shop_id, false) as is_of_other
    from inventory_item as c
    join data_manager_log as f on f.log_id = c.reset_log_id and list_contains($of_shopify, f.config_id)
) as c on c.key = hash(i.product_id, p.facility_id)
"""
IS_UNCHANGED = """
coalesce(
    l.updated_at < $since::timestamptz - interval 5 minutes
    and (c.is_of_other or c.reset_quantity = if(c.is_on_hand, l.on_hand, l.available)),
    false
)
"""

ACCEPTED = f"""
insert into shopify_inventory_reset by name
{MAPPINGS}
select
    $log_id as log_id,
    l.rowid + 1 as line_number,
    l.shop_id,
    l.shopify_inventory_item_id,
    l.shopify_location_id,
    i.product_id,
    p.facility_id,
    l.on_hand as quantity
from shopify_inventory_level as l
join place as p on p.shopify_location_id = l.shopify_location_id and not p.is_without_stock
join item as i on i.shopify_inventory_item_id = l.shopify_inventory_item_id and not i.is_kit
{{counted}}
where l.shop_id = $shop_id and l.tracked and l.on_hand is not null and not ({{is_unchanged}})
"""

SKIPPED = f"""
{MAPPINGS}
select
    case
        when not l.tracked or l.on_hand is null then 'not_tracked'
        when p.shopify_location_id is null then 'location_not_mapped'
        when p.is_without_stock then 'location_without_stock'
        when i.product_id is null then 'item_not_matched'
        when i.is_kit then 'kit'
        when {{is_unchanged}} then 'not_changed'
    end as reason,
    count(*)
from shopify_inventory_level as l
left join place as p on p.shopify_location_id = l.shopify_location_id
left join item as i on i.shopify_inventory_item_id = l.shopify_inventory_item_id
{{counted}}
where l.shop_id = $shop_id
group by reason
having reason is not null
order by reason
"""

# The last read whose rows went to the ledger.
SINCE = """
select max(effective_at)
from data_manager_log
where config_id = $config_id
    and json_extract_string(parameters, '$.shop_id') = $shop_id
    and status_id in ('imported', 'finished', 'finished_with_errors')
    and ignored_record_count < total_record_count
"""

# `levels` comes before `webhooks`, so that of a read and a webhook of one second the webhook counts: it cannot be too old.
REGISTERED = """
insert into data_manager_log by name
select
    $log_id as log_id,
    $config_id as config_id,
    $operation_id as remote_path,
    -- of two reads that Shopify began within a second the later one counts
    'levels-' || $shop_id || '-' || lpad(split_part($operation_id, '/', -1), 20, '0') as file_name,
    $completed_at as remote_modified_at,
    $size_bytes as size_bytes,
    '' as sha256,
    '' as landed_path,
    'pending' as status_id,
    $levels::bigint as total_record_count,
    0 as failed_record_count,
    $levels - (select count(*) from shopify_inventory_reset where log_id = $log_id) as ignored_record_count,
    $started_at as effective_at,
    current_timestamp as registered_at,
    $run_id as run_id,
    'SHOPIFY' as property_resource,
    $parameters as parameters
"""


def register_read(
    shop: Shop, read: Read, config: SyncInventory, run_id: str, connection: duckdb.DuckDBPyConnection
) -> tuple[int, dict[str, int]]:
    """Register the shop's last read, with its levels as rows where the shop is master; its log_id, and levels skipped by reason.

    A read that is registered already stays as it is."""
    known = connection.execute(
        "select log_id from data_manager_log where config_id = $config_id and remote_path = $operation_id "
        "and effective_at = $started_at and json_extract_string(parameters, '$.shop_id') = $shop_id",
        {
            "config_id": CONFIG_ID,
            "operation_id": read.operation_id,
            "started_at": read.started_at,
            "shop_id": shop.shop_id,
        },
    ).fetchall()
    if known:
        return known[0][0], {}
    log_id = scalar(connection, "select coalesce(max(log_id), 0) + 1 from data_manager_log")
    skipped: dict[str, int] = {}
    if shop.inventory_master == "shopify":
        skipped = _accept(shop.shop_id, read, config, log_id, connection)
    approve = "true" if config.approve else None
    connection.execute(
        REGISTERED,
        {
            "log_id": log_id,
            "config_id": CONFIG_ID,
            "shop_id": shop.shop_id,
            "operation_id": read.operation_id,
            "started_at": read.started_at,
            "completed_at": read.completed_at,
            "size_bytes": read.size_bytes,
            "levels": read.level_count,
            "run_id": run_id,
            "parameters": json.dumps(
                {"shop_id": shop.shop_id, "inventory_master": shop.inventory_master, "approve": approve}
            ),
        },
    )
    return log_id, skipped


def _accept(
    shop_id: str, read: Read, config: SyncInventory, log_id: int, connection: duckdb.DuckDBPyConnection
) -> dict[str, int]:
    """Make the levels of the snapshot rows; those skipped by reason, which are not looked for when there are none."""
    connection.execute("set preserve_insertion_order = false")
    since = scalar(connection, SINCE, {"config_id": CONFIG_ID, "shop_id": shop_id})
    values: dict[str, Any] = {"shop_id": shop_id, "kits_are_derived": settings.kits_from_components()}
    asked = {"counted": "", "is_unchanged": "false"}
    if not config.include_all:
        values |= {"since": since, "of_shopify": [CONFIG_ID, inbox.CONFIG_ID]}
        asked = {"counted": COUNTED, "is_unchanged": IS_UNCHANGED}
    connection.execute(ACCEPTED.format(**asked), values | {"log_id": log_id})
    rows = scalar(connection, "select count(*) from shopify_inventory_reset where log_id = $log_id", {"log_id": log_id})
    return {} if rows == read.level_count else dict(connection.execute(SKIPPED.format(**asked), values).fetchall())


# Whether a shop is master is asked when its read is worked, which may be later than its registration; a read that was registered
# when it was not has no rows.
WORKED = """
update data_manager_log as l
set
    status_id = if(w.is_master, 'imported', 'finished'),
    ignored_record_count = if(w.is_master, l.ignored_record_count, l.total_record_count),
    started_at = current_timestamp,
    finished_at = if(w.is_master, null, current_timestamp),
    run_id = $run_id,
    message = if(w.is_master, null, 'Recorded only: Shopify ' || w.was || ' the master of this shop (inventory_master).')
from (
    select
        p.log_id,
        coalesce(s.inventory_master = 'shopify', false)
            and coalesce(json_extract_string(p.parameters, '$.inventory_master'), 'shopify') = 'shopify' as is_master,
        if(s.inventory_master = 'shopify', 'was not yet', 'is not') as was
    from data_manager_log as p
    left join shopify_shop as s on s.shop_id = json_extract_string(p.parameters, '$.shop_id')
    where p.config_id = $config_id and p.status_id = 'pending'
) as w
where l.log_id = w.log_id and l.log_id = coalesce($log_id, l.log_id)
"""


def work_reads(run_id: str, connection: duckdb.DuckDBPyConnection, log_id: int | None = None) -> None:
    """Hand registered reads to the ledger, all or one; those of shops that are not master end here."""
    connection.execute(WORKED, {"config_id": CONFIG_ID, "run_id": run_id, "log_id": log_id})


@dg.asset(
    group_name="imports",
    kinds={"duckdb"},
    partitions_def=SHOPS,
    deps=[
        "shopify_inventory_level",
        "shopify_shop_product",
        "shopify_shop",
        "shopify_shop_location",
        "product",
        "facility",
    ],
    metadata=tables.SHOPIFY_INVENTORY_RESET.metadata,
)
def shopify_inventory_reset(
    context: dg.AssetExecutionContext, config: SyncInventory, warehouse: Warehouse
) -> dg.MaterializeResult:
    """One level of a shop that is master of its stock: the units on hand that a whole read has found, which reset QOH."""
    with warehouse.transaction() as connection:
        shop = find_shop(shop_of(context), connection)
        read = last_read(shop.shop_id, connection)
        log_id, skipped = register_read(shop, read, config, context.run.run_id, connection)
        if config.schedule_now:
            work_reads(context.run.run_id, connection, log_id)
        rows, status = connection.execute(
            "select total_record_count - ignored_record_count, status_id from data_manager_log where log_id = $log_id",
            {"log_id": log_id},
        ).fetchall()[0]
    return dg.MaterializeResult(
        metadata={
            "dagster/partition_row_count": rows,
            "levels": read.level_count,
            "status": status,
            "bulk_operation": read.operation_id,
            "left_out": markdown_table(("reason", "levels"), list(skipped.items())),
        }
    )
