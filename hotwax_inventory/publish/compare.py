"""Which levels differ from what we promise, and by how much: over the whole shop, or over what has moved."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import duckdb

from hotwax_inventory import settings
from hotwax_inventory.imports.shopify_levels import last_read
from hotwax_inventory.ledger.atp import create_views
from hotwax_inventory.ledger.kits import KITS
from hotwax_inventory.publish.batch import PLACED, load_shown
from hotwax_inventory.publish.guards import age_alarm, number_alarms, share_alarms, whole_alarms
from hotwax_inventory.publish.manifest import (
    HARD_SYNC,
    RESTOCK,
    Delta,
    Observation,
    note_published,
    store,
    sync_folder,
    write_lines,
)
from hotwax_inventory.publish.moved import (
    TOUCHED_SINCE,
    narrow_to_moved,
    narrow_to_read,
    note_memberships,
    since_seq,
)
from hotwax_inventory.publish.target import MOST_UNITS, TARGET, Scope, choose_locations, widen
from hotwax_inventory.resources import scalar
from hotwax_inventory.shopify import ShopifyClient

# (level, item, location)
Levels = list[tuple[int, int, int]]


@dataclass(frozen=True)
class ToRead:
    """What must be read live before comparing, the sequence up to which our numbers are in it, since when we know so, and what of
    them no level shows."""

    levels: Levels
    upto_seq: int
    asked_at: datetime
    left_out: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Live:
    """Levels read from Shopify just now, which count for more than the snapshot: what was asked for, and what was answered."""

    asked: list[tuple[int, int]]
    shown: dict[tuple[int, int], int]
    upto_seq: int
    asked_at: datetime
    left_out: dict[str, int]


# The levels that have a target: a row for each that is {kept}, and one row, of nothing but their number `levels`, for all others.
# What was read `live` stands in place of the snapshot. `has_moved`: our own number, or the mapping, is newer than the watermark.
# `may_be_withdrawn`: what we have put on sale there may have no target any more one day.
COMPARED = f"""
create or replace temp table compared as
with target as ({TARGET}),
shown as (
    select
        l.shopify_inventory_item_id,
        l.shopify_location_id,
        if(v.shopify_inventory_item_id is null, l.available, v.available) as available
    from shopify_inventory_level as l
    left join live as v
        on v.shopify_inventory_item_id = l.shopify_inventory_item_id and v.shopify_location_id = l.shopify_location_id
    where l.shop_id = $shop_id and l.tracked
),
published as (
    select
        shopify_inventory_item_id,
        shopify_location_id,
        quantity,
        sync_run_id in (
            select sync_run_id
            from sync_run
            where json_extract_string(parameters, 'facility_group_id') = $facility_group_id
        ) as is_of_channel
    from published_level
    where shop_id = $shop_id
),
level as (
    select
        l.shopify_inventory_item_id,
        l.shopify_location_id,
        t.target_quantity,
        l.available as observed_quantity,
        b.quantity as published_quantity,
        t.target_quantity - if($is_from_published, coalesce(b.quantity, l.available), l.available) as delta,
        t.changed_seq > $since or p.changed_seq > $since as has_moved,
        p.is_kit
            or l.shopify_location_id = (select shopify_location_id from published_location where facility_id = '_NA_')
            as may_be_withdrawn,
        coalesce(b.is_of_channel, false) as is_of_channel
    from shown as l
    join (
        select *, coalesce($kits_are_derived and product_id in ({KITS}), false) as is_kit
        from shopify_shop_product
    ) as p
        on p.shop_id = $shop_id and p.shopify_inventory_item_id = l.shopify_inventory_item_id
    join target as t
        on t.product_id = p.product_id and t.shopify_location_id = l.shopify_location_id
    left join published as b
        on b.shopify_inventory_item_id = l.shopify_inventory_item_id and b.shopify_location_id = l.shopify_location_id
    where l.available is not null
)
select
    if(is_kept, shopify_inventory_item_id, null) as shopify_inventory_item_id,
    if(is_kept, shopify_location_id, null) as shopify_location_id,
    if(is_kept, target_quantity, null) as target_quantity,
    if(is_kept, observed_quantity, null) as observed_quantity,
    if(is_kept, delta, null) as delta,
    count(*) as levels
from (select *, coalesce({{kept}}, false) as is_kept from level)
group by all
"""

# What is to be changed, and what Shopify confirms by showing it: with `shopify` where something else was published last, with
# `last_published` where nothing was, and what may have to be withdrawn from this channel. Of the one the delta is not 0, of the
# other it is.
IS_NEWS = """(
    (has_moved and delta <> 0)
    or (
        target_quantity = observed_quantity
        and delta = 0
        and (
            if($is_from_published, published_quantity is null, published_quantity <> target_quantity)
            or (may_be_withdrawn and target_quantity > 0 and not is_of_channel)
        )
    )
)"""

# What Shopify takes as a quantity, and as a change of one.
IS_IN_RANGE = f"target_quantity between -{MOST_UNITS} and {MOST_UNITS} and abs(delta) <= {2 * MOST_UNITS}"

DIFFERENT = f"select * exclude (levels), 0 as batch from compared where delta <> 0 and {IS_IN_RANGE}"
CHANGE = f"""
create or replace temp table change as
select p.product_id, l.facility_id, c.*
from ({PLACED.format(changes=DIFFERENT)}) as c
join shopify_shop_product as p
    on p.shop_id = $shop_id and p.shopify_inventory_item_id = c.shopify_inventory_item_id
join published_location as l on l.shopify_location_id = c.shopify_location_id
"""

CONFIRMED = """
    select $shop_id as shop_id, shopify_inventory_item_id, shopify_location_id, target_quantity as quantity,
        $sync_run_id as sync_run_id, current_timestamp as published_at
    from compared
    where delta = 0
"""

# Levels by what keeps them from being compared; the rest has a target, or `nothing_promised` counts it: its item is matched
# to no product, or no file has named the product at the facility.
LEVELS = """
select
    count(*) as levels,
    count(*) filter (location.shopify_location_id is null) as location_not_published,
    count(*) filter (location.shopify_location_id is not null and not (tracked and available is not null)) as not_tracked
from shopify_inventory_level as l
left join published_location as location on location.shopify_location_id = l.shopify_location_id
where l.shop_id = $shop_id
"""


# Levels whose number has moved; without an id those that the shop's last bulk read does not show.
MOVED_LEVELS = f"""
select l.shopify_inventory_level_id, p.shopify_inventory_item_id, t.shopify_location_id
from ({TARGET}) as t
join shopify_shop_product as p on p.shop_id = $shop_id and p.product_id = t.product_id
left join shopify_inventory_level as l
    on l.shop_id = $shop_id
    and l.shopify_inventory_item_id = p.shopify_inventory_item_id
    and l.shopify_location_id = t.shopify_location_id
where (t.changed_seq > $since or p.changed_seq > $since)
    and (l.shopify_inventory_level_id is null or (l.tracked and l.available is not null))
"""


def levels_to_read(scope: Scope, job: str, connection: duckdb.DuckDBPyConnection) -> ToRead:
    """What must be read live before a delta of the job is made; memberships that have begun or ended are noted first.

    Raises NothingRead, UnknownGroup."""
    now = datetime.now(UTC)
    last_read(scope.shop.shop_id, connection)
    if job != RESTOCK:
        note_memberships(scope.shop.shop_id, now, connection)
    upto_seq = scalar(connection, "select last_value from sequence")
    values = {"shop_id": scope.shop.shop_id}
    if job == HARD_SYNC:
        return ToRead(connection.execute(TOUCHED_SINCE, values).fetchall(), upto_seq, now)
    since = since_seq(scope, job, connection)
    moved, not_matched = narrow_to_moved(scope.shop.shop_id, job, since, connection)
    if not moved:
        return ToRead([], upto_seq, now, _named({"product_not_matched": not_matched}))
    choose_locations(scope, connection)
    found = connection.execute(MOVED_LEVELS, scope.values() | {"since": since}).fetchall()
    levels = [level for level in found if level[0] is not None]
    left_out = {"level_not_known": len(found) - len(levels), "product_not_matched": not_matched}
    return ToRead(levels, upto_seq, now, _named(left_out))


def read_live(client: ShopifyClient, asked: ToRead) -> Live:
    """What levels show now. Raises ShopifyUnavailable, ShopifyRefused."""
    shown = client.levels([(level, item) for level, item, _ in asked.levels])
    return Live(
        [(item, location) for _, item, location in asked.levels],
        shown,
        asked.upto_seq,
        asked.asked_at,
        asked.left_out,
    )


def make_delta(
    scope: Scope,
    job: str,
    run_id: str,
    connection: duckdb.DuckDBPyConnection,
    live: Live | None = None,
) -> Delta:
    """Compare what the shop shows with what we promise; write delta files. `keep_delta`, before anything else is written to the
    warehouse, makes it the shop's newest: the two are apart since DuckDB reads with one processor what its transaction has made.

    A hard sync compares the whole snapshot, with `live` in place of what it says of the same levels; the recent job compares only
    what is in `live`, or the snapshot where there is none. Leaves the temporary tables `compared`, `change` and `line`.

    Raises NothingRead, UnknownGroup."""
    shop_id = scope.shop.shop_id
    read = last_read(shop_id, connection)
    is_recent = job != HARD_SYNC
    read_now = live if is_recent else None
    # of the whole tables, before they are narrowed
    alarms = whole_alarms(shop_id, read.object_count, connection) if read_now is None else {}
    connection.execute("set preserve_insertion_order = false")
    since = since_seq(scope, job, connection)
    load_shown("live", live.asked if live else [], live.shown if live else {}, connection)
    if read_now is not None:
        narrow_to_read(shop_id, connection)
    elif is_recent:
        narrow_to_moved(shop_id, job, since, connection)
    last_value = scalar(connection, "select last_value from sequence")
    compare_levels(scope, since, IS_NEWS, connection)
    connection.execute(CHANGE, {"shop_id": shop_id, "changes_per_line": scope.publication.changes_per_line})
    connection.execute("set preserve_insertion_order = true")  # from here on lines have numbers
    if read_now is not None:
        observed = Observation(None, read_now.asked_at, read_now.upto_seq, read.mapped_count)
    else:
        observed = Observation(read.operation_id, read.started_at, last_value, read.mapped_count)
    delta = _counted(scope, job, live, observed, connection)
    alarms |= share_alarms(delta) | number_alarms(delta, scope.publication.use_valid_atp)
    if read_now is None and (too_old := age_alarm(shop_id, job, delta.sync_run_id, observed.observed_at)):
        alarms["snapshot_is_recent"] = too_old
    if job == RESTOCK:  # which is a person's word for named products at a moment
        alarms = {}
    prefix = f"{sync_folder(shop_id, delta.sync_run_id)}/delta"
    files = write_lines(delta.sync_run_id, run_id, prefix, connection)
    return replace(delta, alarms=alarms, files=files)


def keep_delta(
    delta: Delta, scope: Scope, run_id: str, connection: duckdb.DuckDBPyConnection, *, is_sent: bool = True
) -> None:
    """Write the manifest of what `make_delta` has made, in the caller's transaction.

    Levels that show our number are noted as published where the run goes on to send (`is_sent`) and nothing holds it: a dry run
    changes nothing."""
    widen(connection)
    store(delta, scope, run_id, connection)
    if is_sent and not delta.alarms:
        values = {"shop_id": scope.shop.shop_id, "sync_run_id": delta.sync_run_id}
        note_published(CONFIRMED, values, connection)


def compare_levels(
    scope: Scope, since: int, kept: str, connection: duckdb.DuckDBPyConnection, *, must_have_groups: bool = True
) -> None:
    """Make the temporary tables `published_location` and `compared`: of the levels that have a target those that `kept`, a
    condition, names. What the temporary table `live` shows counts for more than the snapshot. Raises UnknownGroup, where the scope
    `must_have_groups`."""
    create_views(connection)
    choose_locations(scope, connection, must_have_groups=must_have_groups)
    connection.execute(
        COMPARED.format(kept=kept), scope.values() | {"since": since, "is_from_published": scope.is_from_published}
    )


def _named(counts: dict[str, int]) -> dict[str, int]:
    """The reasons that there are."""
    return {reason: count for reason, count in counts.items() if count}


def _counted(
    scope: Scope, job: str, live: Live | None, observed: Observation, connection: duckdb.DuckDBPyConnection
) -> Delta:
    """The numbers of `compared` and `change`."""
    shop_id = scope.shop.shop_id
    compared, out_of_range = connection.execute(
        f"select coalesce(sum(levels), 0)::bigint, count(*) filter (not ({IS_IN_RANGE})) from compared"
    ).fetchall()[0]
    changes, units, zeroed, below_zero = connection.execute(
        "select count(*), coalesce(sum(abs(delta)), 0)::bigint, "
        "count(*) filter (observed_quantity + delta <= 0 and observed_quantity > 0), "
        "count(*) filter (target_quantity < 0) from change"
    ).fetchall()[0]
    sync_run_id, is_first = connection.execute(
        "select coalesce(max(sync_run_id), 0) + 1, "
        "count(*) filter (shop_id = $shop_id and status_id = 'finished' and job <> $restock) = 0 from sync_run",
        {"shop_id": shop_id, "restock": RESTOCK},
    ).fetchall()[0]
    if live is None or job == HARD_SYNC:
        levels, not_published, not_tracked = connection.execute(LEVELS, {"shop_id": shop_id}).fetchall()[0]
        skipped = {
            "location_not_published": not_published,
            "not_tracked": not_tracked,
            "nothing_promised": levels - not_published - not_tracked - compared,
        }
    else:
        levels = len(live.asked)
        skipped = live.left_out | {"not_counted_by_shopify": levels - compared}
    skipped = _named(skipped | {"out_of_range": out_of_range})
    return Delta(sync_run_id, job, observed, levels, compared, changes, units, zeroed, below_zero, is_first, skipped)


def outbox_folder(delta: Delta) -> str | None:
    """Where the files of a delta are; None when it has none."""
    return str((settings.outbox() / delta.files[0].name).parent) if delta.files else None
