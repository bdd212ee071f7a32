"""The deltas: levels of a shop whose number is not the one that we promise, as files of GraphQL variables.

The hard sync compares everything that the shop showed in its bulk read, the recent job what has moved since the shop's watermark.
Materialised alone a delta is the dry run: the files, the manifest and the preview are there, and nothing is sent. In a run that
sends, an upload that was interrupted is brought to its end first."""

from datetime import UTC, datetime
from typing import Any

import dagster as dg
import duckdb

from hotwax_inventory import tables
from hotwax_inventory.imports.shop_products import match_products
from hotwax_inventory.imports.shopify_levels import read_shop, was_read
from hotwax_inventory.imports.shops import SHOPS, Shop, find_shop, shop_of
from hotwax_inventory.markdown import markdown_table
from hotwax_inventory.plots import bar_chart
from hotwax_inventory.progress import Seconds
from hotwax_inventory.publish.compare import ToRead, keep_delta, levels_to_read, make_delta, outbox_folder, read_live
from hotwax_inventory.publish.guards import check_results, check_specs, ledger_alarms, percents, standing_alarms
from hotwax_inventory.publish.manifest import HARD_SYNC, RECENT, UPLOADS, Delta
from hotwax_inventory.publish.resume import interrupted, resume
from hotwax_inventory.publish.target import Publication, RecentPublication, Scope
from hotwax_inventory.resources import Shopify, Warehouse, require_free_disk, transaction
from hotwax_inventory.shopify import ShopifyClient


class WrongMaster(ValueError):
    """A shop whose numbers are read, not written."""


@dg.asset(
    group_name="publish",
    kinds={"duckdb", "graphql"},
    partitions_def=SHOPS,
    deps=["shopify_inventory_level", "shopify_shop_product", "shopify_shop_location", "facility_atp", "online_atp"],
    metadata=tables.SYNC_CHANGE.metadata,
    check_specs=check_specs("hard_sync_delta"),
)
def hard_sync_delta(
    context: dg.AssetExecutionContext, config: Publication, shopify: Shopify, warehouse: Warehouse
) -> dg.MaterializeResult:
    """One change of a level that differs from what we promise."""
    return _plan(context, config, HARD_SYNC, shopify, warehouse)


@dg.asset(
    group_name="publish",
    kinds={"duckdb", "graphql"},
    partitions_def=SHOPS,
    deps=[
        *("shopify_levels", "shopify_inventory_level", "shopify_shop_product", "shopify_shop_location"),
        *("facility_atp", "online_atp"),
    ],
    metadata=tables.SYNC_CHANGE.metadata,
    check_specs=check_specs("recent_change_delta"),
)
def recent_change_delta(
    context: dg.AssetExecutionContext, config: RecentPublication, shopify: Shopify, warehouse: Warehouse
) -> dg.MaterializeResult:
    """One change of a level whose number has moved since the shop's watermark."""
    return _plan(context, config, RECENT, shopify, warehouse)


PREVIEW = """
select coalesce(p.internal_name, c.product_id), c.facility_id, c.observed_quantity, c.target_quantity, c.delta
from change as c
left join product as p on p.product_id = c.product_id
order by abs(c.delta) desc, c.product_id, c.facility_id
limit 10
"""

BY_FACILITY = """
select facility_id, count(*), sum(delta)
from change
group by facility_id
order by 2 desc
limit 20
"""

# Changes by how many units they are: the least of each size, and how it is named.
SIZES = {
    -(2**63): "≤ -100",
    -99: "-99 … -10",
    -9: "-9 … -2",
    -1: "-1",
    1: "+1",
    2: "+2 … +9",
    10: "+10 … +99",
    100: "≥ +100",
}
BY_SIZE = """
select list_max(list_filter($sizes, lambda least: least <= delta)) as size, count(*)
from change
group by size
"""


def _plan(
    context: dg.AssetExecutionContext, publication: Publication, job: str, shopify: Shopify, warehouse: Warehouse
) -> dg.MaterializeResult:
    """Make a delta of the shop, once no other run publishes to it.

    Raises WrongMaster, NothingRead, UnknownGroup, DiskNearlyFull."""
    asset, seconds = context.asset_key.to_user_string(), Seconds()
    require_free_disk()
    shopify.hold_shop(shop_of(context))
    with warehouse.transaction() as connection:
        shop = find_shop(shop_of(context), connection)
        require_written(shop)
        if job == HARD_SYNC and (alarms := ledger_alarms(connection)):
            return _nothing_made(asset, alarms)
        is_sent = runs_too(context.run, UPLOADS[job])
        unfinished = interrupted(shop.shop_id, connection) if is_sent else None
        scope = Scope(shop, publication)
        is_first = job == RECENT and not was_read(shop.shop_id, connection)
        asked = ToRead([], 0, datetime.now(UTC)) if is_first else levels_to_read(scope, job, connection)
    if job == RECENT and not (asked.levels or is_first) and unfinished is None:
        return _nothing_moved(asset, asked)
    with shopify.client(shop.shop_id, shop.shop_domain) as client:
        alarms = standing_alarms(client)
        if unfinished is not None and not alarms:
            resume(unfinished, context.run.run_id, warehouse, client)
            with warehouse.transaction() as connection:
                asked = levels_to_read(scope, job, connection)
            if job == RECENT and not (asked.levels or is_first):
                return _nothing_moved(asset, asked)
        if "api_version_is_as_asked" in alarms:
            return _nothing_made(asset, alarms)
        if is_first:
            _read_first(shop.shop_id, client, warehouse, seconds)
        with seconds.of("reading_shopify"):
            live = None if is_first else read_live(client, asked)

    def compare(connection: duckdb.DuckDBPyConnection) -> tuple[Delta, dict[str, Any]]:
        delta = make_delta(scope, job, context.run.run_id, connection, live)
        with transaction(connection):
            keep_delta(delta, scope, context.run.run_id, connection, is_sent=is_sent and not alarms)
        return delta, _metadata(delta) | _preview(connection)

    with seconds.of("comparing"):
        delta, metadata = warehouse.with_room(compare)
    metadata |= seconds.metadata
    return dg.MaterializeResult(
        metadata=metadata, check_results=check_results(asset, delta.alarms | alarms, percents(delta))
    )


def _read_first(shop_id: str, client: ShopifyClient, warehouse: Warehouse, seconds: Seconds) -> None:
    """Read a shop that was never read: without a watermark everything counts as moved (design 8.9).

    Raises IncompleteRead, ShopifyUnavailable, ShopifyRefused, DiskNearlyFull."""
    dg.get_dagster_logger().info(f"Shop {shop_id} was never read: all its levels are read and compared.")
    read_shop(shop_id, client, warehouse, seconds)
    with warehouse.transaction() as connection:
        match_products(shop_id, connection)


def require_written(shop: Shop) -> None:
    """Raises WrongMaster when the shop's numbers are read, not written."""
    if shop.inventory_master != "hotwax":
        raise WrongMaster(
            f"Shop {shop.shop_id} has inventory_master {shop.inventory_master}: its numbers are read, not written. "
            "Run sync_inventory_from_shopify for it, or change shopify_shop.csv."
        )


def runs_too(run: dg.DagsterRun, asset: str) -> bool:
    """Whether a run materialises an asset of its job, or that which it retries has done so: without a selection, each."""
    selected = run.asset_selection
    return dg.AssetKey(asset) in selected if selected else True


def _nothing_moved(asset: str, asked: ToRead) -> dg.MaterializeResult:
    left_out = "Nothing has moved since the last run."
    if asked.left_out:
        left_out = markdown_table(("reason", "count"), list(asked.left_out.items()))
    return dg.MaterializeResult(
        metadata={"dagster/partition_row_count": 0, "changes": 0, "left_out": left_out},
        check_results=check_results(asset, {}, {}),
    )


def _nothing_made(asset: str, alarms: dict[str, str]) -> dg.MaterializeResult:
    counts = {"dagster/partition_row_count": 0, "changes": 0}
    return dg.MaterializeResult(metadata=counts, check_results=check_results(asset, alarms, {}))


def _preview(connection: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    """What the temporary table `change` would do, in tables and a picture."""
    biggest, by_facility = (connection.execute(sql).fetchall() for sql in (PREVIEW, BY_FACILITY))
    if not biggest:
        return {}
    by_size = dict(connection.execute(BY_SIZE, {"sizes": list(SIZES)}).fetchall())
    return {
        "by_size": bar_chart("Changes by units", [(name, by_size.get(size, 0)) for size, name in SIZES.items()]),
        "biggest_changes": markdown_table(("SKU", "facility", "Shopify shows", "we promise", "change"), biggest),
        "by_facility": markdown_table(("facility", "changes", "net units"), by_facility),
    }


def _metadata(delta: Delta) -> dict[str, Any]:
    folder = outbox_folder(delta)
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
        **({"folder": dg.MetadataValue.path(folder)} if folder else {}),
        **({"held": " ".join(delta.alarms.values())} if delta.alarms else {}),
    }
