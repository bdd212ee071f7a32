"""The hard sync's delta: every level of a shop whose number is not the one that we promise, as files of GraphQL variables.

Materialised alone it is the dry run: the files, the manifest and the preview are there, and nothing is sent."""

import json
from dataclasses import dataclass
from typing import Any

import dagster as dg
import duckdb

from hotwax_inventory import settings, tables
from hotwax_inventory.imports.reference import SHOPS
from hotwax_inventory.imports.shopify_levels import find_shop
from hotwax_inventory.imports.summary import markdown_table
from hotwax_inventory.ledger.atp import create_views
from hotwax_inventory.publish.batch import DeltaFile, render_lines, write_files
from hotwax_inventory.publish.target import TARGET, Publication, Scope, choose_locations
from hotwax_inventory.resources import Shopify, Warehouse

# Below so many levels a large share is nothing unusual.
GUARDED_LEVELS = 1000
# What Shopify takes as a quantity of a level (Shopify reference, section 10).
MOST_UNITS = 1_000_000_000


class WrongMaster(ValueError):
    """A shop whose numbers are read, not written."""


class NothingRead(RuntimeError):
    """There is no complete read of the shop's levels to compare with."""


@dataclass(frozen=True)
class Delta:
    """What making a delta found."""

    sync_run_id: int
    level_count: int
    compared_count: int
    change_count: int
    units: int
    zeroed_count: int
    is_first: bool
    skipped: dict[str, int]
    files: list[DeltaFile]

    def changing_percent(self) -> float:
        return 100 * self.change_count / self.compared_count if self.compared_count else 0.0

    def zeroed_percent(self) -> float:
        return 100 * self.zeroed_count / self.compared_count if self.compared_count else 0.0

    def alarms(self) -> dict[str, str]:
        """The guards that tripped, with a sentence each (design section 9)."""
        found: dict[str, str] = {}
        if self.compared_count < GUARDED_LEVELS:
            return found
        how = "Read the delta; if it is right, materialise hard_sync_upload alone with approve = true."
        changed, zeroed = settings.sync_max_changed_percent(), settings.sync_max_zeroed_percent()
        if self.changing_percent() > changed and not self.is_first:
            found["few_levels_change"] = (
                f"{self.change_count:,} of {self.compared_count:,} levels would change, more than {changed} % "
                f"(SYNC_MAX_CHANGED_PERCENT). {how}"
            )
        if self.zeroed_percent() > zeroed:
            found["few_levels_go_to_zero"] = (
                f"{self.zeroed_count:,} of {self.compared_count:,} levels would go to zero, more than {zeroed} % "
                f"(SYNC_MAX_ZEROED_PERCENT). {how}"
            )
        return found


GUARDS = (
    dg.AssetCheckSpec(
        "few_levels_change",
        asset="hard_sync_delta",
        blocking=True,
        description="No larger share of the levels changes than SYNC_MAX_CHANGED_PERCENT.",
    ),
    dg.AssetCheckSpec(
        "few_levels_go_to_zero",
        asset="hard_sync_delta",
        blocking=True,
        description="No larger share of the levels goes to zero than SYNC_MAX_ZEROED_PERCENT.",
    ),
)


@dg.asset(
    group_name="publish",
    kinds={"duckdb", "graphql"},
    partitions_def=SHOPS,
    deps=["shopify_inventory_level", "shopify_shop_product", "shopify_shop_location", "facility_atp", "online_atp"],
    metadata=tables.SYNC_CHANGE.metadata,
    check_specs=GUARDS,
)
def hard_sync_delta(
    context: dg.AssetExecutionContext, config: Publication, shopify: Shopify, warehouse: Warehouse
) -> dg.MaterializeResult:
    """One change of a level that differs from what we promise."""
    shop = find_shop(context.partition_key, warehouse)
    if shop.inventory_master != "hotwax":
        raise WrongMaster(
            f"Shop {shop.shop_id} has inventory_master {shop.inventory_master}: its numbers are read, not written. "
            "Run sync_inventory_from_shopify for it, or change shopify_shop.csv."
        )
    shopify.hold_shop(shop.shop_id)
    with warehouse.transaction() as connection:
        delta = make_delta(Scope(shop, config), "hard_sync", context.run.run_id, connection)
        preview = markdown_table(
            ("product", "facility", "Shopify shows", "we promise", "change"), connection.execute(PREVIEW).fetchall()
        )
        by_facility = markdown_table(("facility", "changes", "units"), connection.execute(BY_FACILITY).fetchall())
    return dg.MaterializeResult(
        metadata=_metadata(delta) | {"biggest_changes": preview, "by_facility": by_facility},
        check_results=_checks(delta, "hard_sync_delta"),
    )


# Every level that has a target, as numbers only: it is the largest thing made here.
COMPARED = f"""
create or replace temp table compared as
with target as ({TARGET})
select
    l.shopify_inventory_item_id,
    l.shopify_location_id,
    t.target_quantity,
    l.available as observed_quantity,
    t.changed_seq > $since or p.changed_seq > $since as has_moved
from shopify_inventory_level as l
join shopify_shop_product as p
    on p.shop_id = $shop_id and p.shopify_inventory_item_id = l.shopify_inventory_item_id
join target as t
    on t.product_id = p.product_id and t.shopify_location_id = l.shopify_location_id
where l.shop_id = $shop_id and l.tracked and l.available is not null
"""

CHANGE = f"""
create or replace temp table change as
select
    p.product_id,
    l.facility_id,
    c.shopify_inventory_item_id,
    c.shopify_location_id,
    c.target_quantity,
    c.observed_quantity
from compared as c
join shopify_shop_product as p
    on p.shop_id = $shop_id and p.shopify_inventory_item_id = c.shopify_inventory_item_id
join published_location as l on l.shopify_location_id = c.shopify_location_id
where c.has_moved
    and c.target_quantity <> c.observed_quantity
    and c.target_quantity between -{MOST_UNITS} and {MOST_UNITS}
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

MANIFEST = """
insert into sync_change
select
    $sync_run_id,
    $shop_id,
    c.product_id,
    c.facility_id,
    c.shopify_inventory_item_id,
    c.shopify_location_id,
    c.target_quantity,
    c.observed_quantity,
    c.target_quantity - c.observed_quantity as delta,
    l.idempotency_key,
    $folder || '/delta-' || lpad((l.file_number + 1)::varchar, 4, '0') || '.jsonl' as file_name,
    l.line_number,
    l.line_position,
    null as outcome,
    null as error_code,
    null as decided_at
from (
    select file_number, line_number, idempotency_key, unnest(pairs) as pair, unnest(range(len(pairs))) as line_position
    from line
) as l
join change as c on c.shopify_inventory_item_id = l.pair.item and c.shopify_location_id = l.pair.location
"""

PREVIEW = """
select product_id, facility_id, observed_quantity, target_quantity, target_quantity - observed_quantity as delta
from change
order by abs(delta) desc, product_id, facility_id
limit 10
"""

BY_FACILITY = """
select facility_id, count(*), sum(target_quantity - observed_quantity)
from change
group by facility_id
order by 2 desc
limit 20
"""


def make_delta(scope: Scope, job: str, run_id: str, connection: duckdb.DuckDBPyConnection) -> Delta:
    """Compare the shop's last complete read with what we promise; write delta files and manifest.

    Leaves the temporary table `change`. Raises NothingRead, UnknownGroup."""
    shop_id = scope.shop.shop_id
    read = connection.execute(
        "select bulk_operation_id, started_at from shopify_bulk_read where shop_id = $shop_id", {"shop_id": shop_id}
    ).fetchall()
    if not read:
        raise NothingRead(
            f"Shop {shop_id} was never read. Materialise shopify_inventory_level for it first, or run hard_sync."
        )
    connection.execute("set preserve_insertion_order = false")
    create_views(connection)
    choose_locations(scope, connection)
    values = scope.values() | {"shop_id": shop_id}
    since = _since(scope, job, connection)
    connection.execute(COMPARED, values | {"since": since})
    connection.execute(CHANGE, {"shop_id": shop_id})
    level_count, skipped, compared = _counts(shop_id, connection)
    connection.execute("set preserve_insertion_order = true")  # from here on lines have numbers
    change_count, units, zeroed = connection.execute(
        "select count(*), coalesce(sum(abs(target_quantity - observed_quantity)), 0)::bigint, "
        "count(*) filter (target_quantity = 0 and observed_quantity > 0) from change"
    ).fetchall()[0]
    sync_run_id, is_first = connection.execute(
        "select coalesce(max(sync_run_id), 0) + 1, count(*) filter (shop_id = $shop_id and status_id = 'finished') = 0 "
        "from sync_run",
        {"shop_id": shop_id},
    ).fetchall()[0]
    folder = f"{settings.file_name(shop_id)}/{sync_run_id:06}"
    outbox = settings.home() / "outbox"
    document = f"gid://hotwax-inventory/SyncRun/{sync_run_id}"
    render_lines(f"{run_id} {shop_id}", document, scope.publication.changes_per_line, connection)
    files = write_files(outbox / folder, outbox, connection)
    connection.execute(MANIFEST, {"sync_run_id": sync_run_id, "shop_id": shop_id, "folder": folder})
    for file in files:
        connection.execute(
            "insert into sync_file values ($sync_run_id, $name, $lines, $bytes, null)",
            {"sync_run_id": sync_run_id, "name": file.name, "lines": file.line_count, "bytes": file.size_bytes},
        )
    delta = Delta(sync_run_id, level_count, compared, change_count, units, zeroed, is_first, skipped, files)
    _record(delta, scope, job, run_id, read[0], connection)
    return delta


def _since(scope: Scope, job: str, connection: duckdb.DuckDBPyConnection) -> int:
    """The sequence from which a product counts as moved; below every number when all are to be compared."""
    if scope.publication.include_all:
        return -1
    return connection.execute(
        "select coalesce(max(w.seq), -1) from sync_watermark as w join sync_run as r using (sync_run_id) "
        "where w.shop_id = $shop_id and r.job = $job",
        {"shop_id": scope.shop.shop_id, "job": job},
    ).fetchall()[0][0]


def _counts(shop_id: str, connection: duckdb.DuckDBPyConnection) -> tuple[int, dict[str, int], int]:
    """Levels of the shop, those that were not compared by reason, and how many were."""
    levels, not_published, not_tracked = connection.execute(LEVELS, {"shop_id": shop_id}).fetchall()[0]
    compared, out_of_range = connection.execute(
        f"select count(*), count(*) filter (target_quantity not between -{MOST_UNITS} and {MOST_UNITS}) from compared"
    ).fetchall()[0]
    skipped = {
        "location_not_published": not_published,
        "not_tracked": not_tracked,
        "nothing_promised": levels - not_published - not_tracked - compared,
        "out_of_range": out_of_range,
    }
    return levels, {reason: count for reason, count in skipped.items() if count}, compared


def _record(
    delta: Delta, scope: Scope, job: str, run_id: str, read: tuple[Any, ...], connection: duckdb.DuckDBPyConnection
) -> None:
    connection.execute(
        """
        insert into sync_run
        select $sync_run_id, $shop_id, $job, $run_id, $parameters, $operation, $observed_at, last_value, current_timestamp,
            $levels, $changes, $skipped, $guard, null, 'planned', null
        from sequence
        """,
        {
            "sync_run_id": delta.sync_run_id,
            "shop_id": scope.shop.shop_id,
            "job": job,
            "run_id": run_id,
            "parameters": json.dumps(scope.publication.model_dump(), default=str),
            "operation": read[0],
            "observed_at": read[1],
            "levels": delta.compared_count,
            "changes": delta.change_count,
            "skipped": json.dumps(delta.skipped),
            "guard": " ".join(delta.alarms().values()) or None,
        },
    )


def _metadata(delta: Delta) -> dict[str, Any]:
    return {
        "dagster/partition_row_count": delta.change_count,
        "changes": delta.change_count,
        "units": delta.units,
        "levels": delta.level_count,
        "levels_compared": delta.compared_count,
        "levels_going_to_zero": delta.zeroed_count,
        "delta_files": len(delta.files),
        "delta_lines": sum(file.line_count for file in delta.files),
        "sync_run_id": delta.sync_run_id,
        "left_out": markdown_table(("reason", "count"), list(delta.skipped.items())),
        **({"folder": dg.MetadataValue.path(str(delta.files[0].path.parent))} if delta.files else {}),
    }


def _checks(delta: Delta, asset: str) -> list[dg.AssetCheckResult]:
    alarms = delta.alarms()
    shares = {"few_levels_change": delta.changing_percent(), "few_levels_go_to_zero": delta.zeroed_percent()}
    return [
        dg.AssetCheckResult(
            asset_key=asset,
            check_name=name,
            passed=name not in alarms,
            description=alarms.get(name),
            metadata={"percent": share},
        )
        for name, share in shares.items()
    ]
