"""Shopify's webhooks: a level's `available`, which resets the ATP of a facility whose stock Shopify is master of (design 8.10).

The receiver has put them into `files.inbox`; here a batch of them becomes rows, each with what became of it. They take effect at
Shopify's `updated_at`, whenever they come; of equal times `X-Shopify-Triggered-At` decides, then the smaller quantity."""

from collections.abc import Iterator, Sequence

import dagster as dg
import duckdb

from hotwax_inventory import settings, tables
from hotwax_inventory.files import inbox
from hotwax_inventory.files.landing import NoReference
from hotwax_inventory.files.names import MOST_AHEAD
from hotwax_inventory.imports.identify import MOMENT, MOST_UNITS, UNITS
from hotwax_inventory.imports.reference import stated_shops
from hotwax_inventory.markdown import MOST_LINES, markdown_table
from hotwax_inventory.resources import Warehouse, require_free_disk, scalar

CHECK = dg.AssetCheckSpec("rows_accepted", asset="shopify_webhook_update", description="No update was refused.")


def _time(expression: str) -> str:
    """SQL of a time with its zone; null where it is none."""
    is_time = f"regexp_full_match({expression}, '[0-9]{{4}}-[0-9-]+T[0-9:.]+(Z|[+-][0-9:]+)')"
    return f"case when {is_time} then try_cast({MOMENT.format(expression)} as timestamptz) end"


# The events that are not known yet. What is not what it should be is null; of `available_type`, a JSON null is 'NULL'.
ARRIVED = f"""
create or replace temp table arrived as
with event as (
    select
        shop_id,
        webhook_id,
        triggered_at,
        received_at,
        body,
        case when json_valid(body) then body::json end as content
    from read_json(
        $landed,
        format = 'newline_delimited',
        columns = {{
            'shop_id': 'varchar', 'webhook_id': 'varchar', 'triggered_at': 'varchar', 'received_at': 'timestamptz',
            'body': 'varchar'
        }}
    )
),
stated as (
    select
        * exclude (content, triggered_at),
        {_time("triggered_at")} as triggered_at,
        content ->> '$.inventory_item_id' as item,
        content ->> '$.location_id' as location,
        content ->> '$.available' as units_stated,
        json_type(content, '$.available') as available_type,
        {_time("content ->> '$.updated_at'")} as updated
    from event
)
select
    * exclude (item, location, updated),
    case when regexp_full_match(item, '[0-9]+') then try_cast(item as bigint) end as shopify_inventory_item_id,
    case when regexp_full_match(location, '[0-9]+') then try_cast(location as bigint) end as shopify_location_id,
    {UNITS.format("units_stated")} as units,
    if(updated > received_at + {MOST_AHEAD}, received_at + {MOST_AHEAD}, updated) as updated_at
from stated as s
anti join shopify_webhook_update as u on u.shop_id = s.shop_id and u.webhook_id = s.webhook_id
qualify row_number() over (partition by s.shop_id, s.webhook_id order by s.received_at) = 1
"""

# Each event with its facility and product, and what is wrong with it. A mapping of the CSV keeps its product and its item out of
# the match by SKU.
JUDGED = f"""
create or replace temp table judged as
with mapping as (
    from shopify_shop_product_mapping
),
matched as (
    select p.shop_id, p.shopify_inventory_item_id, p.product_id
    from shopify_shop_product as p
    semi join arrived as a on a.shop_id = p.shop_id and a.shopify_inventory_item_id = p.shopify_inventory_item_id
    anti join mapping as m on m.shop_id = p.shop_id and m.product_id = p.product_id
    anti join mapping as n on n.shop_id = p.shop_id and n.shopify_inventory_item_id = p.shopify_inventory_item_id
    union all
    select shop_id, shopify_inventory_item_id, product_id
    from mapping
)
select
    a.*,
    s.inventory_master,
    l.facility_id,
    m.product_id,
    p.product_type_id,
    case
        when s.shop_id is null
            then {{'column_name': null, 'reason': 'Shop ' || a.shop_id || ' is not in shopify_shop.csv'}}
        when not json_valid(a.body) then {{'column_name': null, 'reason': 'the body is not JSON'}}
        when a.shopify_inventory_item_id is null
            then {{'column_name': 'inventory_item_id', 'reason': 'the update names no inventory item by a number'}}
        when a.shopify_location_id is null
            then {{'column_name': 'location_id', 'reason': 'the update names no location by a number'}}
        when a.updated_at is null
            then {{'column_name': 'updated_at', 'reason': 'updated_at is not a time with its zone'}}
        when a.available_type is distinct from 'NULL' and coalesce(a.units not between -{MOST_UNITS} and {MOST_UNITS}, true)
            then {{'column_name': 'available', 'reason': 'available is not a whole number up to {MOST_UNITS:,}'}}
        when s.inventory_master = 'hotwax' or a.available_type = 'NULL' then null
        when l.facility_id is null then {{
            'column_name': 'location_id', 'reason': 'Could not find location ' || a.shopify_location_id || ' of shop ' || a.shop_id
        }}
        when l.facility_id = '_NA_' or f.parent_facility_type_id = 'VIRTUAL_FACILITY'
            then {{'column_name': 'location_id', 'reason': 'Facility [ID: ' || l.facility_id || '] is virtual facility.'}}
        when m.product_id is null then {{
            'column_name': 'inventory_item_id',
            'reason': 'Could not find a product of inventory item ' || a.shopify_inventory_item_id || ' of shop ' || a.shop_id
        }}
    end as refusal
from arrived as a
left join shopify_shop as s on s.shop_id = a.shop_id
left join shopify_shop_location as l on l.shop_id = a.shop_id and l.shopify_location_id = a.shopify_location_id
left join facility as f on f.facility_id = l.facility_id
left join matched as m on m.shop_id = a.shop_id and m.shopify_inventory_item_id = a.shopify_inventory_item_id
left join product as p on p.product_id = m.product_id
"""

LEVEL = "shop_id, shopify_inventory_item_id, shopify_location_id"
# A bulk mutation may take Shopify a day (Shopify reference 4.3); clocks may differ by so much, and Shopify's has whole seconds.
LONGEST_WRITE, SKEW = "interval 24 hours", "interval 60 seconds"

# What we have written to the levels, and when its echo may have come about.
WRITTEN = f"""
create or replace temp table written as
select
    {LEVEL},
    c.observed_quantity,
    c.observed_quantity + c.delta as quantity,
    f.sent_at - {SKEW} as first_at,
    if(c.outcome = 'applied', c.decided_at, f.sent_at + {LONGEST_WRITE}) + {SKEW} as last_at
from sync_change as c
join sync_file as f on f.sync_run_id = c.sync_run_id and f.file_name = c.file_name
semi join judged as j using ({LEVEL})
where f.sent_at is not null and coalesce(c.outcome, 'unknown') in ('applied', 'unknown', 'retryable')
"""

# The updates that our own writes have caused, of this batch and of what was taken for such before: they show what we wrote, at the
# time of its writing, and nobody else moved the level in between. What it showed before the write, or by an earlier write of ours,
# may come within the time that clocks differ; what it showed before, once more after it showed what we wrote, is somebody's.
ECHOED = f"""
create or replace temp table echoed as
with shown as (
    select {LEVEL}, webhook_id, updated_at, units as available, true as may_echo
    from judged
    where refusal is null
    union all
    select {LEVEL}, webhook_id, updated_at, available, disposition = 'echo'
    from shopify_webhook_update
    semi join written using ({LEVEL})
    where disposition <> 'refused'
),
seen as (
    select {LEVEL}, w.quantity, w.observed_quantity, w.first_at, w.last_at, min(s.updated_at) as shown_at
    from written as w
    join shown as s using ({LEVEL})
    where s.available = w.quantity and s.updated_at between w.first_at and w.last_at
    group by all
),
like_ours as (
    select {LEVEL}, s.webhook_id, s.may_echo, s.updated_at, c.* exclude ({LEVEL})
    from shown as s
    join seen as c using ({LEVEL})
    where s.available = c.quantity and s.updated_at between c.first_at and c.last_at
),
moved as (
    select s.*, o.first_at as written_from
    from shown as s
    left join (select {LEVEL}, webhook_id, min(first_at) as first_at from like_ours group by all) as o
        using ({LEVEL}, webhook_id)
)
select distinct c.shop_id, c.webhook_id
from like_ours as c
where c.may_echo and not exists (
    select 1
    from moved as s
    where s.shop_id = c.shop_id
        and s.shopify_inventory_item_id = c.shopify_inventory_item_id
        and s.shopify_location_id = c.shopify_location_id
        and s.updated_at >= c.first_at
        and s.updated_at < c.updated_at
        and s.available <> c.quantity
        and coalesce(s.written_from >= c.first_at, true)
        and (s.available <> c.observed_quantity or s.updated_at > c.shown_at)
)
"""

POSITION = """{{
    'updated_at': {0}.updated_at, 'triggered_at': coalesce({0}.triggered_at, {0}.updated_at), 'fewer': -{1}
}}"""

DECIDED = f"""
insert into shopify_webhook_update by name
with latest as (
    -- more than one shop may show the stock of a facility
    select product_id, facility_id, max({POSITION.format("u", "u.available::bigint")}) as position
    from shopify_webhook_update as u
    semi join judged as j using (product_id, facility_id)
    where u.disposition = 'applied'
    group by product_id, facility_id
),
judged_alone as (
    select
        j.*,
        {POSITION.format("j", "j.units")} as position,
        case
            when j.refusal is not null then 'refused'
            when j.inventory_master = 'hotwax' then 'not_applied'
            when j.available_type = 'NULL' then 'null'
            when $kits_are_derived and j.product_type_id = 'MARKETING_PKG_PICK' then 'kit'
            when e.webhook_id is not null then 'echo'
        end as without_effect
    from judged as j
    left join echoed as e on e.shop_id = j.shop_id and e.webhook_id = j.webhook_id
),
placed as (
    select
        *,
        row_number() over (
            partition by product_id, facility_id, position.updated_at, position.triggered_at, without_effect is null
            order by units, shop_id, webhook_id
        ) as nth
    from judged_alone
)
select
    $log_id as log_id,
    row_number() over (
        order by p.updated_at nulls first, p.position.triggered_at, p.shop_id, p.webhook_id
    ) as line_number,
    {LEVEL},
    p.webhook_id,
    case when p.refusal is null then p.units end as available,
    p.updated_at,
    p.triggered_at,
    p.received_at,
    p.product_id,
    p.facility_id,
    coalesce(p.without_effect, if(p.position <= l.position or p.nth > 1, 'older', 'applied')) as disposition
from placed as p
left join latest as l using (product_id, facility_id)
"""

# Echoes of earlier batches that are none, as something else has come between the write and them after all.
NO_ECHO = f"""
create or replace temp table no_echo as
select distinct u.shop_id, u.webhook_id, u.log_id, {POSITION.format("u", "u.available::bigint")} as position
from shopify_webhook_update as u
join written as w using ({LEVEL})
anti join echoed as e using (shop_id, webhook_id)
where u.disposition = 'echo'
    and u.log_id <> $log_id
    and u.available = w.quantity
    and u.updated_at between w.first_at and w.last_at
    and not exists (
        select 1
        from shopify_webhook_update as n
        where n.disposition = 'applied'
            and n.product_id = u.product_id
            and n.facility_id = u.facility_id
            and {POSITION.format("n", "n.available::bigint")} >= {POSITION.format("u", "u.available::bigint")}
    )
"""
# They are updates of this batch now.
REJUDGED = (
    """
    update data_manager_log as l
    set total_record_count = l.total_record_count - n.updates, ignored_record_count = l.ignored_record_count - n.updates
    from (select log_id, count(*) as updates from no_echo group by log_id) as n
    where l.log_id = n.log_id
    """,
    """
    update shopify_webhook_update as u
    set
        log_id = $log_id,
        line_number = n.nth + (select max(line_number) from shopify_webhook_update where log_id = $log_id),
        disposition = 'applied'
    from (select *, row_number() over (order by position, shop_id, webhook_id) as nth from no_echo) as n
    where u.shop_id = n.shop_id and u.webhook_id = n.webhook_id
    """,
)

REFUSED = """
insert into data_manager_error
select u.log_id, u.line_number, j.refusal.column_name, j.refusal.reason, j.body
from judged as j
join shopify_webhook_update as u on u.shop_id = j.shop_id and u.webhook_id = j.webhook_id
where j.refusal is not null
"""

# Of two batches the later one's name counts for more, so that what won over an applied update of the same time wins in the ledger.
REGISTERED = """
insert into data_manager_log by name
select
    $log_id as log_id,
    $config_id as config_id,
    'webhook_inbox/webhooks-' || lpad($log_id::varchar, 12, '0') as remote_path,
    'webhooks-' || lpad($log_id::varchar, 12, '0') as file_name,
    max(received_at) as remote_modified_at,
    $size_bytes as size_bytes,
    $sha256 as sha256,
    $landed_path as landed_path,
    'imported' as status_id,
    count(*) as total_record_count,
    count(*) filter (disposition = 'refused') as failed_record_count,
    count(*) filter (disposition not in ('applied', 'refused')) as ignored_record_count,
    coalesce(max(updated_at), max(received_at)) as effective_at,
    current_timestamp as registered_at,
    current_timestamp as archived_at,
    current_timestamp as started_at,
    $run_id as run_id,
    'SHOPIFY' as property_resource,
    '{}' as parameters
from shopify_webhook_update
where log_id = $log_id
"""


UNKNOWN_SHOPS = "select distinct a.shop_id from arrived as a anti join shopify_shop as s on s.shop_id = a.shop_id"


def import_batch(batch: inbox.Batch, run_id: str, connection: duckdb.DuckDBPyConnection) -> int | None:
    """Make the events of a batch that are not known yet rows of `shopify_webhook_update`; its log_id, None when all are known.

    Raises NoReference where the receiver knows a shop that is not loaded yet; BadReference."""
    connection.execute(ARRIVED, {"landed": str(batch.landed)})
    if scalar(connection, "select count(*) from arrived") == 0:
        return None
    unknown = {shop_id for (shop_id,) in connection.execute(UNKNOWN_SHOPS).fetchall()}
    if not_loaded := unknown and unknown & stated_shops(connection):
        raise NoReference(
            f"There are webhooks of shop {', '.join(sorted(not_loaded))}, which is in shopify_shop.csv and not loaded yet. "
            "They stay in the inbox. Run load_reference, then this again."
        )
    log_id = scalar(connection, "select coalesce(max(log_id), 0) + 1 from data_manager_log")
    connection.execute(JUDGED)
    connection.execute(WRITTEN)
    connection.execute(ECHOED)
    connection.execute(DECIDED, {"log_id": log_id, "kits_are_derived": settings.kits_from_components()})
    connection.execute(REFUSED)
    connection.execute(NO_ECHO, {"log_id": log_id})
    if scalar(connection, "select count(*) from no_echo") != 0:
        connection.execute(REJUDGED[0])
        connection.execute(REJUDGED[1], {"log_id": log_id})
    connection.execute(
        REGISTERED,
        {
            "log_id": log_id,
            "config_id": inbox.CONFIG_ID,
            "size_bytes": batch.size_bytes,
            "sha256": batch.sha256,
            "landed_path": str(batch.landed.relative_to(settings.home())),
            "run_id": run_id,
        },
    )
    return log_id


BY_DISPOSITION = """
select disposition, count(*)
from shopify_webhook_update
where log_id in (select unnest($log_ids))
group by disposition
order by disposition
"""


@dg.asset(
    group_name="imports",
    kinds={"shopify", "duckdb"},
    deps=["webhook_inbox", "shopify_shop", "shopify_shop_location", "shopify_shop_product", "product", "facility"],
    metadata=tables.SHOPIFY_WEBHOOK_UPDATE.metadata,
    check_specs=[CHECK],
)
def shopify_webhook_update(context: dg.AssetExecutionContext, warehouse: Warehouse) -> dg.MaterializeResult:
    """One update of a level that Shopify has sent by webhook, and what became of it: applied or, for a reason, not."""
    log_ids: list[int] = []
    damaged: list[str] = []
    require_free_disk()
    for batch in inbox.batches():
        with warehouse.transaction() as connection:
            log_id = import_batch(batch, context.run.run_id, connection)
        inbox.remove(batch)
        damaged += [path.with_suffix(".damaged").name for path in batch.damaged]
        log_ids += [] if log_id is None else [log_id]
    inbox.remove_leftovers()
    with warehouse.transaction() as connection:
        rows = scalar(connection, "select count(*) from shopify_webhook_update")
        counts = dict(connection.execute(BY_DISPOSITION, {"log_ids": log_ids}).fetchall())
        refused = connection.execute(
            "select column_name, reason, raw_row from data_manager_error where log_id in (select unnest($log_ids)) "
            f"order by log_id, line_number limit {MOST_LINES}",
            {"log_ids": log_ids},
        ).fetchall()
    metadata = {"dagster/row_count": rows, "updates": sum(counts.values())} | counts
    if refused:
        metadata["first_refused_rows"] = markdown_table(("column", "reason", "update"), refused)
    return dg.MaterializeResult(
        metadata=metadata,
        check_results=[
            dg.AssetCheckResult(
                check_name=CHECK.name,
                passed="refused" not in counts and not damaged,
                severity=dg.AssetCheckSeverity.WARN,
                description=" ".join(_complaints(counts.get("refused", 0), damaged)) or None,
                metadata={"rows_refused": counts.get("refused", 0)},
            )
        ],
    )


def _complaints(refused: int, damaged: Sequence[str]) -> Iterator[str]:
    if refused:
        yield f"{refused} updates were refused; see data_manager_error."
    if damaged:
        yield (
            f"Files of the inbox were damaged on disk, and stay there as {', '.join(damaged[:MOST_LINES])}: they have lines that "
            "are no events. All other lines are imported; run sync_inventory_from_shopify for what these have told."
        )
