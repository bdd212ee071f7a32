"""What shipments have brought is published to every shop that carries it (design 8.7).

In the run that receives a restock at its moment the lines have left by now, and their answers are waited for here; whatever was not
published so is published now. Materialised alone, that is what a failed run has received. The receipt is never taken back."""

from concurrent.futures import Future, ThreadPoolExecutor

import dagster as dg

from hotwax_inventory import tables
from hotwax_inventory.markdown import markdown_table
from hotwax_inventory.publish.launch import UPLOAD, Launcher, restock_scopes
from hotwax_inventory.publish.manifest import RESTOCK
from hotwax_inventory.publish.target import RestockPublication, Scope
from hotwax_inventory.resources import Warehouse

# What a run has sent of restocks to each shop, by the last change of each level: changes, those that Shopify has not confirmed, an
# example, the last answer.
SENT = """
select
    shop_id,
    count(*) as changes,
    count(*) filter (not is_confirmed) as unconfirmed,
    min(concat_ws(' ', product_id, 'at', facility_id || ':', coalesce(outcome, 'not sent'), error_code)) filter (not is_confirmed)
        as example,
    max(decided_at) as answered_at
from (
    select c.*, coalesce(c.outcome in ('applied', 'no_op'), false) as is_confirmed
    from sync_run as r
    join sync_change as c on c.sync_run_id = r.sync_run_id
    where r.sent_by_run = $run_id and r.job = $restock
    qualify row_number() over (
        partition by c.shop_id, c.shopify_inventory_item_id, c.shopify_location_id order by c.sync_run_id desc
    ) = 1
)
group by shop_id
order by shop_id
"""


class RestockNotPublished(RuntimeError):
    """A shop does not show everything that was received."""


@dg.asset(
    name=UPLOAD,
    group_name="publish",
    kinds={"shopify", "graphql"},
    # it reads ATP, too; but its moment does not wait until the views of it have been defined again
    deps=["shipment_receipt", "shopify_shop_product", "shopify_shop_location"],
    metadata=tables.SYNC_RUN.metadata,
    # before all that else comes after a receipt
    op_tags={"dagster/priority": "1"},
)
def restock_upload(
    context: dg.AssetExecutionContext,
    config: RestockPublication,  # what a person may say; what they have said is in the run
    receiver: Launcher,
    warehouse: Warehouse,
) -> dg.MaterializeResult:
    """One delta of what shipments have brought to a shop, with an outcome for each of its changes.

    A shop is published as its newest sync has published it, but for what the config says."""
    scopes = restock_scopes(context.run, warehouse)
    with ThreadPoolExecutor(max(1, len(scopes))) as threads:
        published = [threads.submit(_publish, scope, receiver, context.run, warehouse) for scope in scopes]
    with warehouse.transaction() as connection:
        sent = connection.execute(SENT, {"run_id": context.run.run_id, "restock": RESTOCK}).fetchall()
    _require_all(published, sent)
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": len(sent),
            "changes_confirmed": sum(changes for _, changes, *_ in sent),
            "shops": markdown_table(
                ("shop", "changes", "the last one was answered at"),
                [(shop_id, changes, answered_at) for shop_id, changes, *_, answered_at in sent],
            ),
        }
    )


def _publish(scope: Scope, launcher: Launcher, run: dg.DagsterRun, warehouse: Warehouse) -> None:
    """Bring to its end what was launched, and send what was not. Raises ShopifyUnavailable, ShopifyRefused, UnknownGroup."""
    try:
        launcher.ended(scope.shop.shop_id)
        launcher.publish(scope, run, warehouse)
    finally:
        launcher.give_back(scope.shop.shop_id)


def _require_all(published: list[Future[None]], sent: list[tuple]) -> None:
    """Raises RestockNotPublished with a sentence for each shop that lacks something."""
    errors = [error for future in published if (error := future.exception()) is not None]
    refused = [
        f"Shop {shop_id}: Shopify has not confirmed {unconfirmed:,} of {changes:,} changes, such as product {example}."
        for shop_id, changes, unconfirmed, example, _ in sent
        if unconfirmed
    ]
    if errors or refused:
        raise RestockNotPublished(
            f"{' '.join([*map(str, errors), *refused])} What was received stays so. Materialise {UPLOAD} alone to publish what "
            "could not be sent; hard_sync sends what was refused, once it is mended in Shopify."
        ) from next(iter(errors), None)
