"""Checks that look at whole tables, and the one that ends a run red when a file of it could not be read."""

from collections.abc import Iterator, Sequence

import dagster as dg

from hotwax_inventory import tables
from hotwax_inventory.ledger.sums import offenders
from hotwax_inventory.markdown import markdown_table
from hotwax_inventory.resources import Warehouse


class FilesFailed(Exception):
    """A file of the run could not be read at all. Everything else of the run has been done."""


@dg.asset_check(
    asset="inventory_item",
    blocking=True,
    description="The stock of every product and facility is the sum of its ledger entries. hard_sync looks at it, too.",
)
def ledger_sums(warehouse: Warehouse) -> dg.AssetCheckResult:
    with warehouse.transaction() as connection:
        found = offenders(connection)
    return dg.AssetCheckResult(
        passed=not found,
        metadata={
            "offenders": markdown_table(("product", "facility", "QOH", "its sum", "ATP", "its sum"), found),
        },
    )


@dg.multi_asset_check(
    name="every_file_was_read",
    specs=[
        dg.AssetCheckSpec(
            "every_file_was_read",
            asset="online_atp",
            blocking=True,
            description="Every file of this run could be taken, read and archived; last, when all others are in the numbers.",
        )
    ],
)
def every_file_was_read(context: dg.AssetCheckExecutionContext, warehouse: Warehouse) -> Iterator[dg.AssetCheckResult]:
    """Says why the run ends red where it is looked at, and in the error of its step. Raises FilesFailed."""
    run_id = context.run.run_id
    with warehouse.transaction() as connection:
        failed = connection.execute(
            "select message from data_manager_log where run_id = $run_id and status_id = 'failed' order by log_id",
            {"run_id": run_id},
        ).fetchall()
    messages = [message for (message,) in failed] + list(_forbidden(run_id, context.instance))
    said = " ".join(messages)[:4000]
    yield dg.AssetCheckResult(passed=not said, description=said or None)
    if said:
        raise FilesFailed(said)


def _forbidden(run_id: str, instance: dg.DagsterInstance) -> Iterator[str]:
    """What the SFTP server has not let this run list, read or archive, as its own checks say."""
    evaluated = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION).records
    for event in (record.event_log_entry.get_dagster_event() for record in evaluated):
        told = event.asset_check_evaluation_data.metadata.get("forbidden")
        if isinstance(told, dg.JsonMetadataValue):
            yield from map(str, told.value or ())


def key_check(table: tables.Table) -> dg.AssetChecksDefinition:
    """A check that no two rows of a table have the key that its declaration says is unique."""
    key = ", ".join(table.key)

    @dg.asset_check(asset=table.name, name="key_is_unique", description=f"No two rows have the same {key}.")
    def key_is_unique(warehouse: Warehouse) -> dg.AssetCheckResult:
        with warehouse.transaction() as connection:
            repeated = connection.execute(
                f"select {key}, count(*) from {table.name} group by {key} having count(*) > 1 order by all limit 20"
            ).fetchall()
        return dg.AssetCheckResult(passed=not repeated, metadata={"repeated": [str(row) for row in repeated]})

    return key_is_unique


# By hand, since they look at whole tables; a job has those checks only that it names.
KEY_CHECKS = tuple(
    key_check(table)
    for table in (
        tables.PRODUCT,
        tables.FACILITY,
        tables.FACILITY_GROUP,
        tables.PRODUCT_STORE,
        tables.SHOPIFY_SHOP,
        tables.SHOPIFY_SHOP_LOCATION,
        tables.VIRTUAL_QUEUE_ITEM,
        tables.INVENTORY_RESET,
        tables.SHOPIFY_INVENTORY_RESET,
        tables.SHOPIFY_WEBHOOK_UPDATE,
        tables.INVENTORY_ITEM_DETAIL,
        tables.INVENTORY_ITEM,
        tables.FACILITY_ATP,
        tables.ONLINE_ATP,
        tables.SHOPIFY_INVENTORY_LEVEL,
        tables.SHOPIFY_SHOP_PRODUCT,
    )
)
CHECKS: Sequence[dg.AssetChecksDefinition] = (ledger_sums, every_file_was_read, *KEY_CHECKS)
