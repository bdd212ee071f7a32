"""What has moved since a shop's watermark, found in the base tables by `changed_seq`, and the tables narrowed down to it.

Temporary tables stand before those of the same name while the connection is open, so that comparing costs what has moved and not
what there is."""

from datetime import datetime

import duckdb

from hotwax_inventory.imports.shop_products import AT_FACILITIES, ITEMS_MOVED
from hotwax_inventory.publish.manifest import HARD_SYNC, RECENT, RESTOCK
from hotwax_inventory.publish.target import RecentPublication, Scope, narrow, widen
from hotwax_inventory.resources import scalar

# Whose watermarks count for a job.
MARKED_BY = {HARD_SYNC: [HARD_SYNC], RECENT: [HARD_SYNC, RECENT], RESTOCK: [HARD_SYNC, RECENT, RESTOCK]}

# The newest watermark of the shop for the same numbers and locations, looking back `buffer` minutes from it; none before a run that
# has put other numbers there. A restock publishes the products of shipments alone, so that how far it has come is a mark for
# restocks and no watermark of the shop.
SINCE = """
with told as (
    select
        *,
        json_extract_string(parameters, 'shopify_facility_group_id') as publication_group,
        json_extract_string(parameters, 'facility_group_id') = $facility_group_id
            and json_extract_string(parameters, 'use_valid_atp')::boolean = $use_valid_atp as has_same_numbers
    from sync_run
    where shop_id = $shop_id and status_id <> 'planned'
),
run as (
    select sync_run_id, job, status_id, upto_seq, finished_at
    from told
    where list_contains($jobs, job)
        and has_same_numbers
        and publication_group is not distinct from $shopify_facility_group_id
        and sync_run_id > (select coalesce(max(sync_run_id) filter (not has_same_numbers), 0) from told)
),
mark as (
    select w.seq, w.at_time
    from sync_watermark as w
    join run using (sync_run_id)
    union all
    select upto_seq, finished_at
    from run
    where job = 'schedule_restock' and status_id = 'finished'
)
select coalesce(max(seq), -1)
from mark
where at_time <= (select max(at_time) from mark) - to_minutes($buffer_minutes)
"""

# Products whose stock, kits, rules, parked orders or mapping have moved: those that the shop has, and how many it has not.
ANY_SHOP = """
    select product_id from inventory_item where changed_seq > $since
    union
    select product_id from kit_inventory where changed_seq > $since
    union
    select product_id from product_facility where changed_seq > $since
    union
    select product_id from virtual_queue_item where changed_seq > $since
    union
    select product_id from shopify_shop_product where shop_id = $shop_id and changed_seq > $since
"""
MOVED_ANYWHERE = f"create or replace temp table moved_anywhere as {ANY_SHOP}"
MOVED = """
create or replace temp table moved as
select product_id
from moved_anywhere
where product_id in (select product_id from shopify_shop_product where shop_id = $shop_id)
"""
# The products of levels that were read live, which is what moved when they were asked for.
READ = """
create or replace temp table moved as
select product_id
from shopify_shop_product
where shop_id = $shop_id and shopify_inventory_item_id in (select shopify_inventory_item_id from live)
"""

# Products of the shop that shipments have brought, and those that a restock has left contested since.
RECEIVED = """
create or replace temp table moved as
select product_id
from inventory_item_detail
where seq > $since
    and shipment_id is not null
    and product_id in (select product_id from shopify_shop_product where shop_id = $shop_id)
union
select p.product_id
from shopify_shop_product as p
where p.shop_id = $shop_id
    and p.changed_seq > $since
    and p.product_id in (
        select c.product_id
        from sync_change as c
        join sync_run as r on r.sync_run_id = c.sync_run_id
        where r.shop_id = $shop_id and r.job = 'schedule_restock' and c.outcome = 'contested'
    )
"""

# What of the shop belongs to these products.
PRODUCTS_NARROWED = """
create temp table shopify_shop_product as
select p.* from shopify_shop_product as p where shop_id = $shop_id and product_id in (select product_id from moved)
"""
PUBLISHED_NARROWED = """
create temp table published_level as
select shop_id, shopify_inventory_item_id, shopify_location_id, quantity, sync_run_id
from published_level
where shop_id = $shop_id
    and shopify_inventory_item_id in (select shopify_inventory_item_id from shopify_shop_product)
"""
LEVELS_NARROWED = """
create temp table shopify_inventory_level as
select shop_id, shopify_inventory_item_id, shopify_location_id, shopify_inventory_level_id, tracked, available
from shopify_inventory_level
where shop_id = $shop_id
    and shopify_inventory_item_id in (select shopify_inventory_item_id from shopify_shop_product)
"""
# Only levels that are tracked are read live.
LEVELS_READ = """
create temp table shopify_inventory_level as
select $shop_id as shop_id, shopify_inventory_item_id, shopify_location_id, true as tracked, available
from live
"""

# Levels that a delta has touched since the snapshot was begun (Shopify's clock may differ from ours by minutes).
TOUCHED_SINCE = """
select distinct l.shopify_inventory_level_id, l.shopify_inventory_item_id, l.shopify_location_id
from sync_change as c
join sync_run as r on r.sync_run_id = c.sync_run_id
join shopify_bulk_read as b on b.shop_id = r.shop_id
join shopify_inventory_level as l
    on l.shop_id = c.shop_id
    and l.shopify_inventory_item_id = c.shopify_inventory_item_id
    and l.shopify_location_id = c.shopify_location_id
where r.shop_id = $shop_id
    and r.status_id <> 'planned'
    and coalesce(r.finished_at, current_timestamp) > b.started_at - to_minutes(5)
    and c.decided_at > b.started_at - to_minutes(5)
"""


# Memberships that have begun or ended since the newest delta whose watermark the shop has.
BEGUN_OR_ENDED = """
    select facility_id
    from facility_group
    cross join (
        select max_by(r.observed_at, r.sync_run_id) as marked_at
        from sync_watermark as w
        join sync_run as r on r.sync_run_id = w.sync_run_id
        where w.shop_id = $shop_id
    )
    where from_date between marked_at and $now or thru_date between marked_at and $now
"""
MEMBERSHIPS_MOVED = (
    f"{ITEMS_MOVED.format(products=AT_FACILITIES.format(facilities=BEGUN_OR_ENDED))}and shop_id = $shop_id"
)


def note_memberships(shop_id: str, now: datetime, connection: duckdb.DuckDBPyConnection) -> None:
    """Let what is at facilities count as moved whose membership of a group has begun or ended by the clock alone. A delta that is
    observed at `now` or later marks that it was."""
    values = {"shop_id": shop_id, "now": now}
    if scalar(connection, f"select exists ({BEGUN_OR_ENDED})", values):
        connection.execute(MEMBERSHIPS_MOVED, values)
        connection.execute("update sequence set last_value = last_value + 1")


def since_seq(scope: Scope, job: str, connection: duckdb.DuckDBPyConnection) -> int:
    """The sequence from which a product counts as moved; below every number when all are to be compared."""
    publication = scope.publication
    if publication.include_all:
        return -1
    return scalar(
        connection,
        SINCE,
        {
            "shop_id": scope.shop.shop_id,
            "jobs": MARKED_BY[job],
            "facility_group_id": publication.facility_group_id,
            "shopify_facility_group_id": publication.shopify_facility_group_id,
            "use_valid_atp": publication.use_valid_atp,
            "buffer_minutes": publication.buffer_minutes if isinstance(publication, RecentPublication) else 0,
        },
    )


def narrow_to_moved(shop_id: str, job: str, since: int, connection: duckdb.DuckDBPyConnection) -> tuple[int, int]:
    """Make the temporary table `moved` and let all that is compared be of its products alone; how many they are, and how many have
    moved that the shop does not have."""
    widen(connection)
    values, not_matched = {"shop_id": shop_id, "since": since}, 0
    if job == RESTOCK:
        connection.execute(RECEIVED, values)
    else:
        connection.execute(MOVED_ANYWHERE, values)
        connection.execute(MOVED, {"shop_id": shop_id})
        not_matched = scalar(connection, "select (select count(*) from moved_anywhere) - (select count(*) from moved)")
    count = scalar(connection, "select count(*) from moved")
    _narrow_shop(shop_id, LEVELS_NARROWED, connection)
    return count, not_matched


def narrow_to_read(shop_id: str, connection: duckdb.DuckDBPyConnection) -> None:
    """Make the temporary table `moved` of the products whose levels are in the temporary table `live`, and let all that is compared
    be of these levels alone."""
    widen(connection)
    connection.execute(READ, {"shop_id": shop_id})
    _narrow_shop(shop_id, LEVELS_READ, connection)


def _narrow_shop(shop_id: str, levels: str, connection: duckdb.DuckDBPyConnection) -> None:
    narrow(connection)
    for statement in (PRODUCTS_NARROWED, PUBLISHED_NARROWED, levels):
        connection.execute(statement, {"shop_id": shop_id})
