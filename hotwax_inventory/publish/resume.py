"""Bringing a delta to its end: the first time, and when the run that sent it has died or given up.

What is known of an interrupted one is in the manifest: what was sent has a time, what Shopify accepted has an operation's id."""

from collections import Counter
from datetime import timedelta

import dagster as dg
import duckdb

from hotwax_inventory.imports.shops import WRITTEN_BY_OTHERS
from hotwax_inventory.publish.batch import IS_OPEN, OPEN, Outcome
from hotwax_inventory.publish.manifest import RESTOCK, Delta, note_published, scope_of
from hotwax_inventory.publish.sending import Sender, bulk_document, store_operation
from hotwax_inventory.publish.settling import settle
from hotwax_inventory.publish.target import Scope
from hotwax_inventory.resources import Warehouse, scalar
from hotwax_inventory.shopify import ShopifyClient

INTERRUPTED = """
select sync_run_id
from sync_run
where shop_id = $shop_id and status_id in ('sending', 'unfinished')
order by sync_run_id desc
limit 1
"""

# Files that were sent and have lines without an answer.
UNANSWERED = """
select f.file_name, f.bulk_operation_id, f.sent_at
from sync_file as f
where f.sync_run_id = $sync_run_id
    and f.sent_at is not null
    and exists (
        select 1
        from sync_change as c
        where c.sync_run_id = f.sync_run_id and c.file_name = f.file_name and c.outcome = 'unknown'
    )
order by f.file_name
"""

# Whether nobody else has begun to write to the shop of a delta meanwhile.
IS_OURS = f"""
select status_id <> 'abandoned' and not {WRITTEN_BY_OTHERS}
from sync_run
where sync_run_id = $sync_run_id
"""
CONFIRMED = """
    select shop_id, shopify_inventory_item_id, shopify_location_id, target_quantity as quantity, sync_run_id,
        decided_at as published_at
    from sync_change
    where sync_run_id = $sync_run_id and outcome in ('applied', 'no_op')
"""

# Where nobody will learn any more whether a change was made, units that it may have put on sale are taken as put there, and units
# that it may have taken away as not taken: so what is sent next is too little where the guess is wrong, and never puts on sale what
# strangers have bought. The drift report shows what is left.
GUESSED = """
merge into published_level as p
using (
    select *
    from sync_change
    where sync_run_id = $sync_run_id
        and (
            error_code = 'MOVED_WHILE_UNKNOWN'
            or ($is_given_up and (outcome = 'unknown' or error_code = 'IDEMPOTENCY_CONCURRENT_REQUEST'))
        )
) as n
on p.shop_id = n.shop_id
    and p.shopify_inventory_item_id = n.shopify_inventory_item_id
    and p.shopify_location_id = n.shopify_location_id
when matched and n.delta > 0 then update set
    quantity = n.target_quantity,
    sync_run_id = n.sync_run_id,
    published_at = n.decided_at
when not matched then insert
    (shop_id, shopify_inventory_item_id, shopify_location_id, quantity, sync_run_id, published_at)
    values (
        n.shop_id,
        n.shopify_inventory_item_id,
        n.shopify_location_id,
        if(n.delta > 0, n.target_quantity, n.observed_quantity),
        n.sync_run_id,
        n.decided_at
    )
"""


# What others have moved in every round is looked at again by the next sync, and what Shopify refuses of a delta that was resumed
# by the one that follows in the same run, which tells of it.
CONTESTED = """
update shopify_shop_product as p
set changed_seq = (select last_value + 1 from sequence)
from sync_change as c
where c.sync_run_id = $sync_run_id
    and (c.outcome = 'contested' or (c.outcome = 'permanent' and $is_resumed))
    and c.shop_id = p.shop_id
    and c.shopify_inventory_item_id = p.shopify_inventory_item_id
"""


def interrupted(shop_id: str, connection: duckdb.DuckDBPyConnection) -> int | None:
    """The delta of a shop whose sending was begun and not ended; to be asked by whoever holds the shop."""
    found = connection.execute(INTERRUPTED, {"shop_id": shop_id}).fetchall()
    return found[0][0] if found else None


def send(sync_run_id: int, warehouse: Warehouse, client: ShopifyClient) -> Counter[str]:
    """Send a planned delta; its changes by outcome. Raises ShopifyUnavailable, ShopifyRefused; what is open then is resumed."""
    sender = Sender(sync_run_id, warehouse, client)
    with warehouse.transaction() as connection:
        scope = scope_of(sync_run_id, connection)
        rows = connection.execute(
            "select file_name, (select count(*) from sync_change where sync_run_id = $id) from sync_file "
            "where sync_run_id = $id order by file_name",
            {"id": sync_run_id},
        ).fetchall()
    try:
        if rows:
            sender.deliver([name for name, _ in rows], rows[0][1])
        settle(sync_run_id, scope, sender, warehouse, client)
    finally:
        counts = _close(sync_run_id, "unfinished", warehouse)
    return counts


def send_begun(delta: Delta, scope: Scope, warehouse: Warehouse, client: ShopifyClient) -> Counter[str]:
    """Send a delta whose sending was noted with its manifest: its first lines leave at once; its changes by outcome.

    Raises ShopifyUnavailable, ShopifyRefused; what is open then is resumed."""
    sender = Sender(delta.sync_run_id, warehouse, client)
    try:
        if delta.files:
            sender.deliver_begun([file.name for file in delta.files], delta.change_count, is_first=False)
        settle(delta.sync_run_id, scope, sender, warehouse, client)
    finally:
        counts = _close(delta.sync_run_id, "unfinished", warehouse)
    return counts


def resume(sync_run_id: int, run_id: str, warehouse: Warehouse, client: ShopifyClient) -> Counter[str]:
    """Bring an interrupted delta to its end, as far as Shopify lets it; its changes by outcome. Then later deltas take over.

    Raises ShopifyUnavailable, ShopifyRefused; then it is resumed again."""
    log = dg.get_dagster_logger()
    log.info(f"Delta {sync_run_id} was interrupted; it is brought to its end first.")
    sender = Sender(sync_run_id, warehouse, client)
    with warehouse.transaction() as connection:
        scope = scope_of(sync_run_id, connection)
        connection.execute(
            "update sync_run set status_id = 'sending', sent_by_run = $run_id where sync_run_id = $id",
            {"id": sync_run_id, "run_id": run_id},
        )
        connection.execute(
            f"update sync_change as c set attempts = 0 where sync_run_id = $id and {IS_OPEN}",
            {"id": sync_run_id},
        )
    for name, operation_id in _operations(sync_run_id, warehouse, client).items():
        sender.collect(name, operation_id)
    settle(sync_run_id, scope, sender, warehouse, client, is_resumed=True)
    counts = _close(sync_run_id, "abandoned", warehouse)
    log.info(f"Delta {sync_run_id} came to its end: {dict(counts)}.")
    return counts


def _operations(sync_run_id: int, warehouse: Warehouse, client: ShopifyClient) -> dict[str, str]:
    """The bulk operations of files without an answer, also of one that was started and whose id could not be stored."""
    with warehouse.transaction() as connection:
        files = connection.execute(UNANSWERED, {"sync_run_id": sync_run_id}).fetchall()
    operations = {name: operation for name, operation, _ in files if operation}
    lost = {bulk_document(name): name for name, operation, _ in files if not operation}
    if lost:
        since = min(sent_at for _, operation, sent_at in files if not operation) - timedelta(minutes=5)
        for operation, mutation in client.bulk_mutations(since):
            name = lost.pop(mutation, None)
            if name is not None:
                store_operation(sync_run_id, name, operation, warehouse)
                operations[name] = operation
    return operations


def _close(sync_run_id: int, status_if_open: str, warehouse: Warehouse) -> Counter[str]:
    """Count the outcomes, and finish the delta if every change has one; the watermark moves only then. Of a shop that others write
    to by now nothing is kept as published, and nothing is resumed."""
    with warehouse.transaction() as connection:
        is_ours = scalar(connection, IS_OURS, {"sync_run_id": sync_run_id})
        rows = connection.execute(
            "select coalesce(outcome, 'not_sent'), count(*) from sync_change where sync_run_id = $id group by all",
            {"id": sync_run_id},
        ).fetchall()
        counts = Counter(dict(rows))
        is_final = not any(counts[outcome] for outcome in ("not_sent", *OPEN))
        connection.execute(
            "update sync_run set status_id = $status, finished_at = case when $final then current_timestamp end "
            "where sync_run_id = $id",
            {
                "id": sync_run_id,
                "status": "finished" if is_final else status_if_open if is_ours else "abandoned",
                "final": is_final,
            },
        )
        is_resumed = status_if_open == "abandoned"
        if is_ours:
            note_published(CONFIRMED, {"sync_run_id": sync_run_id}, connection)
            connection.execute(GUESSED, {"sync_run_id": sync_run_id, "is_given_up": not is_final and is_resumed})
        if counts[Outcome.CONTESTED] or (is_resumed and counts[Outcome.PERMANENT]):
            connection.execute(CONTESTED, {"sync_run_id": sync_run_id, "is_resumed": is_resumed})
            connection.execute("update sequence set last_value = last_value + 1")
        if is_final:
            connection.execute(
                "insert into sync_watermark select shop_id, sync_run_id, upto_seq, current_timestamp "
                "from sync_run where sync_run_id = $id and job <> $restock",
                {"id": sync_run_id, "restock": RESTOCK},
            )
    return counts
