"""Where Shopify and we differ: since when, by how much, and by whose doing; and what is sold beyond what there is."""

from datetime import UTC, datetime

import dagster as dg
import duckdb

from hotwax_inventory import settings, tables
from hotwax_inventory.imports.shops import SHOPS, Shop, find_shop, shop_of
from hotwax_inventory.markdown import MOST_LINES, markdown_table
from hotwax_inventory.plots import bar_chart
from hotwax_inventory.publish.manifest import newest_scope
from hotwax_inventory.publish.target import Scope
from hotwax_inventory.reconcile.drifted import report_drift
from hotwax_inventory.reconcile.export import write_csv
from hotwax_inventory.resources import Warehouse, transaction

COUNTS = """
select
    count(*) as levels_found,
    count(*) filter (difference <> 0) as levels_left,
    coalesce(sum(abs(difference)), 0)::bigint as units_left,
    count(*) filter (oversold_quantity > 0) as levels_oversold,
    coalesce(sum(oversold_quantity), 0)::bigint as units_oversold,
    count(*) filter (difference <> 0 and since < current_timestamp - to_hours($hours)) as levels_old
from inventory_drift
where shop_id = $shop_id
"""

BY_CAUSE = """
select
    cause,
    count(*) as levels,
    sum(abs(observed_quantity - target_quantity))::bigint as units,
    count(*) filter (difference <> 0) as levels_left,
    sum(abs(difference))::bigint as units_left,
    min(since) as since
from inventory_drift
where shop_id = $shop_id
group by cause
order by levels desc, cause
"""

LEVELS = """
select coalesce(p.internal_name, d.product_id), d.product_id, d.facility_id, d.target_quantity, d.observed_quantity,
    d.current_quantity, d.difference, d.oversold_quantity, d.since, d.cause, d.error_code
from inventory_drift as d
left join product as p on p.product_id = d.product_id
where d.shop_id = $shop_id
order by d.oversold_quantity desc, abs(d.difference) desc, abs(d.observed_quantity - d.target_quantity) desc, d.product_id
"""
COLUMNS = "SKU, product, facility, we promise, showed, shows now, difference, oversold, since, cause, Shopify's code"

# so many days, where there is one report a day
MOST_REPORTS = 14

CHECKS = {
    "few_levels_differ": "No larger share of the levels is left with another number than DRIFT_MAX_PERCENT.",
    "no_level_differs_for_long": "No level has had another number for longer than DRIFT_MAX_HOURS.",
    "nothing_is_oversold": "No more levels than OVERSOLD_MAX_LEVELS were below zero, or offer more than there is.",
}


@dg.asset(
    group_name="reconcile",
    kinds={"duckdb"},
    partitions_def=SHOPS,
    deps=[
        "shopify_inventory_level",
        "shopify_shop_product",
        "shopify_shop_location",
        "facility_atp",
        "online_atp",
        "hard_sync_upload",
        "recent_change_upload",
    ],
    metadata=tables.INVENTORY_DRIFT.metadata,
    check_specs=[dg.AssetCheckSpec(name, asset="inventory_drift", description=said) for name, said in CHECKS.items()],
)
def inventory_drift(context: dg.AssetExecutionContext, warehouse: Warehouse) -> dg.MaterializeResult:
    """One level that showed another number than ours when its shop was last read: since when and why, and what it shows now."""
    shop = {"shop_id": shop_of(context)}

    def report(connection: duckdb.DuckDBPyConnection) -> tuple[Scope, int]:
        with transaction(connection):
            scope = newest_scope(find_shop(shop_of(context), connection), connection)
            return scope, report_drift(scope, connection)

    scope, compared = warehouse.with_room(report)
    with warehouse.transaction() as connection:
        found = connection.execute(COUNTS, shop | {"hours": settings.drift_max_hours()})
        names = [name for name, *_ in found.description or []]
        counts = {"levels_compared": compared} | dict(zip(names, found.fetchall()[0], strict=True))
        by_cause = connection.execute(BY_CAUSE, shop).fetchall()
        levels = connection.execute(f"{LEVELS} limit {MOST_LINES}", shop).fetchall()
        path = write_csv(f"inventory_drift-{settings.file_name(scope.shop.shop_id)}", LEVELS, COLUMNS, connection, shop)
    return dg.MaterializeResult(
        metadata={
            "dagster/partition_row_count": counts["levels_found"],
            **counts,
            **{f"levels_{cause.replace(' ', '_')}": count for cause, count, *_ in by_cause},
            "by_day": bar_chart(
                "Levels found with another number", [*_earlier(context), ("now", counts["levels_found"])]
            ),
            "by_cause": markdown_table(("cause", "levels", "units", "levels left", "units left", "since"), by_cause),
            "levels": markdown_table(COLUMNS.split(", "), levels),
            "levels_csv": dg.MetadataValue.path(str(path)),
        },
        check_results=_checks(scope.shop, counts),
    )


def _earlier(context: dg.AssetExecutionContext) -> list[tuple[str, int]]:
    """How many levels the last reports of the shop found, each with its time."""
    filters = dg.AssetRecordsFilter(asset_key=context.asset_key, asset_partitions=[shop_of(context)])
    records = context.instance.fetch_materializations(filters, limit=MOST_REPORTS).records
    found = [(record.timestamp, record.asset_materialization) for record in reversed(records)]
    return [
        (f"{datetime.fromtimestamp(at, UTC):%m-%d %H:%M}", count)
        for at, report in found
        if report and isinstance(count := report.metadata["levels_found"].value, int)
    ]


def _checks(shop: Shop, counts: dict[str, int]) -> list[dg.AssetCheckResult]:
    """The alarms; of a shop that is master of its stock they warn only, since nothing is sent to it."""
    percent, hours, most = settings.drift_max_percent(), settings.drift_max_hours(), settings.oversold_max_levels()
    left, compared = counts["levels_left"], counts["levels_compared"]
    where = f"The table inventory_drift has each level of shop {shop.shop_id} with its cause"
    is_ours = shop.inventory_master == "hotwax"
    mended_by = (
        "hard_sync sends what can be sent" if is_ours else "sync_inventory_from_shopify takes what Shopify has on hand"
    )
    alarms: dict[str, str] = {}
    if 100 * left > percent * compared:
        alarms["few_levels_differ"] = (
            f"{left:,} of {compared:,} levels still show another number than ours, more than {percent} % "
            f"(DRIFT_MAX_PERCENT). {where}; {mended_by}."
        )
    if counts["levels_old"]:
        alarms["no_level_differs_for_long"] = (
            f"{counts['levels_old']:,} levels have shown another number than ours for more than {hours} hours "
            f"(DRIFT_MAX_HOURS). {where}; what is refused or contested is to be mended in Shopify."
        )
    if counts["levels_oversold"] > most:
        alarms["nothing_is_oversold"] = (
            f"{counts['levels_oversold']:,} levels were below zero, or offer more than there is: "
            f"{counts['units_oversold']:,} units (OVERSOLD_MAX_LEVELS is {most}). {where}; see whether their orders can be filled."
        )
    error, warning = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN
    return [
        dg.AssetCheckResult(
            asset_key="inventory_drift",
            check_name=name,
            passed=name not in alarms,
            severity=error if is_ours and name != "nothing_is_oversold" else warning,
            description=alarms.get(name),
        )
        for name in CHECKS
    ]
