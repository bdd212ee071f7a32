"""The manifest of a delta: the row of `sync_run`, its files, and every change with its place in them.

It is committed before the first byte is sent."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import dagster as dg
import duckdb

from hotwax_inventory import settings
from hotwax_inventory.imports.shops import Shop, find_shop
from hotwax_inventory.publish.batch import DeltaFile, write_files
from hotwax_inventory.publish.target import Publication, Scope
from hotwax_inventory.resources import scalar

HARD_SYNC, RECENT, RESTOCK = "hard_sync", "upload_recent_inventory_changes", "schedule_restock"
# The assets of each job: what makes its delta, and what sends it; a restock's is made and sent at once.
DELTAS = {HARD_SYNC: "hard_sync_delta", RECENT: "recent_change_delta"}
UPLOADS = {HARD_SYNC: "hard_sync_upload", RECENT: "recent_change_upload", RESTOCK: "restock_upload"}

# In order, since two processors would leave parts of row groups, which are written once more when the file is closed.
CHANGES = """
insert into sync_change by name
select
    $sync_run_id as sync_run_id,
    $shop_id as shop_id,
    c.product_id,
    c.facility_id,
    c.shopify_inventory_item_id,
    c.shopify_location_id,
    c.target_quantity,
    c.observed_quantity,
    c.delta,
    l.idempotency_key,
    l.file_name,
    l.line_number,
    c.line_position,
    0 as attempts
from change as c
join line as l on l.batch = c.batch and l.part = c.part
order by l.file_number, l.line_number, c.line_position
"""

RUN = """
insert into sync_run by name
select
    $sync_run_id as sync_run_id,
    $shop_id as shop_id,
    $job as job,
    $run_id as run_id,
    $parameters as parameters,
    $operation as bulk_operation_id,
    $observed_at as observed_at,
    $upto_seq as upto_seq,
    current_timestamp as created_at,
    $levels as level_count,
    $changes as change_count,
    $skipped as skipped,
    $guard as guard_message,
    'planned' as status_id
"""


@dataclass(frozen=True)
class Observation:
    """What a delta compares with: the read, how far our own numbers are in it, and the levels that a share is a share of."""

    bulk_operation_id: str | None
    observed_at: datetime
    upto_seq: int
    mapped_count: int


@dataclass(frozen=True)
class Delta:
    """What making a delta found."""

    sync_run_id: int
    job: str
    observed: Observation
    level_count: int
    compared_count: int
    change_count: int
    units: int
    zeroed_count: int
    below_zero_count: int
    is_first: bool
    skipped: dict[str, int]
    files: list[DeltaFile] = field(default_factory=list)
    alarms: dict[str, str] = field(default_factory=dict)


# Rows that are updated where they stand cost the whole columns of their row groups at the next checkpoint.
PUBLISHED = (
    """
    delete from published_level as p
    using ({levels}) as n
    where p.shop_id = n.shop_id
        and p.shopify_inventory_item_id = n.shopify_inventory_item_id
        and p.shopify_location_id = n.shopify_location_id
    """,
    "insert into published_level by name {levels}",
)


def note_published(levels: str, values: dict[str, Any], connection: duckdb.DuckDBPyConnection) -> None:
    """Note what Shopify has confirmed: `levels` is SQL of rows of published_level, with parameters `values`."""
    for statement in PUBLISHED:
        connection.execute(statement.format(levels=levels), values)


def store(delta: Delta, scope: Scope, run_id: str, connection: duckdb.DuckDBPyConnection) -> None:
    """Write the manifest of the temporary tables `change` and `line`, whose files are written."""
    shared, observed = {"sync_run_id": delta.sync_run_id, "shop_id": scope.shop.shop_id}, delta.observed
    register_files(delta.sync_run_id, delta.files, connection)
    connection.execute(CHANGES, shared)
    connection.execute(
        RUN,
        shared
        | {
            "job": delta.job,
            "run_id": run_id,
            "parameters": json.dumps(scope.publication.model_dump(mode="json")),
            "operation": observed.bulk_operation_id,
            "observed_at": observed.observed_at,
            "upto_seq": observed.upto_seq,
            "levels": observed.mapped_count,
            "changes": delta.change_count,
            "skipped": json.dumps(delta.skipped),
            "guard": " ".join(delta.alarms.values()) or None,
        },
    )


def write_lines(sync_run_id: int, run_id: str, prefix: str, connection: duckdb.DuckDBPyConnection) -> list[DeltaFile]:
    """Write `change` as files of lines below the outbox. Leaves the temporary table `line`.

    The lines' keys come from the Dagster run that made the delta, the prefix (shop and delta), and their content."""
    document = f"gid://hotwax-inventory/SyncRun/{sync_run_id}"
    return write_files(run_id, prefix, document, settings.outbox(), connection)


def register_files(sync_run_id: int, files: Sequence[DeltaFile], connection: duckdb.DuckDBPyConnection) -> None:
    """Note files of a delta, none of them sent."""
    for file in files:
        connection.execute(
            "insert into sync_file by name "
            "select $sync_run_id as sync_run_id, $name as file_name, $lines as line_count, $bytes as size_bytes",
            {"sync_run_id": sync_run_id, "name": file.name, "lines": file.line_count, "bytes": file.size_bytes},
        )


# From here on nobody sends the delta a second time.
CLAIMED = """
update sync_run
set
    status_id = 'sending',
    sent_by_run = $run_id,
    approved_by_run = case when $is_approved then $run_id end,
    approved_by = case when $is_approved then $person end,
    approved_at = case when $is_approved then current_timestamp end
where sync_run_id = $sync_run_id
"""


def claim(sync_run_id: int, run: dg.DagsterRun, is_approved: bool, connection: duckdb.DuckDBPyConnection) -> None:
    """Note who sends a delta, and who has approved it where that was needed."""
    values = {
        "sync_run_id": sync_run_id,
        "run_id": run.run_id,
        "person": run.tags.get("user"),
        "is_approved": is_approved,
    }
    connection.execute(CLAIMED, values)


def sync_folder(shop_id: str, sync_run_id: int) -> str:
    """The folder of a delta below the outbox."""
    return f"{settings.file_name(shop_id)}/{sync_run_id:06}"


def newest_scope(shop: Shop, connection: duckdb.DuckDBPyConnection) -> Scope:
    """What is published to the shop: by the parameters of its newest sync, or by those that a sync has without any."""
    newest = scalar(
        connection,
        "select max(sync_run_id) from sync_run where shop_id = $shop_id and status_id <> 'planned' and job <> $restock",
        {"shop_id": shop.shop_id, "restock": RESTOCK},
    )
    return Scope(shop, Publication.model_validate({})) if newest is None else scope_of(newest, connection)


def scope_of(sync_run_id: int, connection: duckdb.DuckDBPyConnection) -> Scope:
    """What a stored delta publishes, with the shop as it is now. Raises UnknownShop."""
    shop_id, parameters = connection.execute(
        "select shop_id, parameters from sync_run where sync_run_id = $id", {"id": sync_run_id}
    ).fetchall()[0]
    stored = {name: value for name, value in json.loads(parameters).items() if name in Publication.model_fields}
    return Scope(find_shop(shop_id, connection), Publication.model_validate(stored))
