"""Sending a delta: by bulk mutation or by direct ones, reading back what Shopify made of every line, and settling the rest.

The manifest (`sync_change`) is committed before the first byte is sent. A change is confirmed only by Shopify's own word for its
line, or by reading the level again; whatever else happens, the run does not report success."""

import json
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import dagster as dg
from pydantic import Field

from hotwax_inventory import settings, shopify_documents, tables
from hotwax_inventory.imports.reference import SHOPS
from hotwax_inventory.imports.shopify_levels import Shop, find_shop
from hotwax_inventory.publish.batch import (
    APPLIED,
    NO_OP,
    PERMANENT,
    UNKNOWN,
    LineOutcome,
    classify,
    render_lines,
    results,
)
from hotwax_inventory.resources import Shopify, Warehouse
from hotwax_inventory.shopify import BulkOperation, ShopifyClient, ShopifyRefused, ShopifyUnavailable, TooManyOperations

# An outcome that another round may still change.
OPEN = ("stale", "retryable", "unknown")
ROUNDS = 3
OPERATIONS_AT_ONCE = 5
SLOT_PAUSE_SECONDS = 5.0
SLOT_PATIENCE_SECONDS = 3600.0


class NothingToSend(ValueError):
    """There is no delta that could be sent."""


class NotApproved(RuntimeError):
    """A guard has tripped, and nobody has approved the delta."""


class NotConfirmed(RuntimeError):
    """Shopify has not confirmed every change."""


class Approval(dg.Config):
    """What a person may tell an upload."""

    approve: bool = Field(False, description="send the newest delta of the shop although a guard has tripped")


@dg.asset(
    group_name="publish",
    kinds={"shopify", "graphql"},
    partitions_def=SHOPS,
    deps=["hard_sync_delta"],
    metadata=tables.SYNC_RUN.metadata,
)
def hard_sync_upload(
    context: dg.AssetExecutionContext, config: Approval, shopify: Shopify, warehouse: Warehouse
) -> dg.MaterializeResult:
    """One delta that was sent, with an outcome for each of its changes."""
    shop = find_shop(context.partition_key, warehouse)
    shopify.hold_shop(shop.shop_id)
    upload = Upload(shop, warehouse, _open_delta(shop, config.approve, context.run.run_id, warehouse))
    started = time.monotonic()
    try:
        with shopify.client(shop.shop_id, shop.shop_domain) as client:
            upload.send(client)
    finally:
        counts = upload.finish()
    confirmed = counts[APPLIED] + counts[NO_OP]
    if confirmed != counts.total():
        raise NotConfirmed(_complaint(shop, upload, counts))
    return dg.MaterializeResult(
        metadata={
            "dagster/partition_row_count": counts.total(),
            "sync_run_id": upload.sync_run_id,
            "changes_confirmed": confirmed,
            "seconds": round(time.monotonic() - started, 1),
            **{f"changes_{outcome}": count for outcome, count in counts.items()},
        }
    )


def _open_delta(shop: Shop, approve: bool, run_id: str, warehouse: Warehouse) -> int:
    """The newest delta of the shop, if it may be sent now. Raises NothingToSend, NotApproved."""
    with warehouse.transaction() as connection:
        found = connection.execute(
            "select sync_run_id, job, status_id, guard_message, approved_by_run from sync_run "
            "where shop_id = $shop_id order by sync_run_id desc limit 1",
            {"shop_id": shop.shop_id},
        ).fetchall()
        if not found:
            raise NothingToSend(f"Shop {shop.shop_id} has no delta. Materialise hard_sync_delta for it first.")
        sync_run_id, job, status, guard, approved_by = found[0]
        if job != "hard_sync" or status != "planned":
            raise NothingToSend(
                f"The newest delta of shop {shop.shop_id} ({job} {sync_run_id}) was sent before. Run hard_sync: it reads Shopify "
                "anew and makes a delta of what is still different."
            )
        if guard and not approve:
            raise NotApproved(f"Delta {sync_run_id} of shop {shop.shop_id} is held: {guard}")
        connection.execute(
            "update sync_run set status_id = 'sending', approved_by_run = $approved_by where sync_run_id = $sync_run_id",
            {"sync_run_id": sync_run_id, "approved_by": run_id if guard else approved_by},
        )
    return sync_run_id


OUTCOMES = """
update sync_change as c
set
    outcome = case when len(o.faulty) = 0 or list_contains(o.faulty, c.line_position) then o.outcome else 'retryable' end,
    error_code = o.code,
    decided_at = current_timestamp
from (
    select
        unnest($line_numbers) as line_number,
        unnest($outcomes) as outcome,
        unnest($codes) as code,
        unnest($faulty) as faulty
) as o
where c.sync_run_id = $sync_run_id and c.file_name = $file_name and c.line_number = o.line_number
"""


class Upload:
    """The sending of one delta to one shop."""

    def __init__(self, shop: Shop, warehouse: Warehouse, sync_run_id: int) -> None:
        self.sync_run_id = sync_run_id
        self._shop = shop
        self._warehouse = warehouse
        self._log = dg.get_dagster_logger()
        self._total = self._count("true")

    def send(self, client: ShopifyClient) -> None:
        """Send every line, then settle what was refused or is not known. Raises ShopifyUnavailable, ShopifyRefused."""
        with self._warehouse.transaction() as connection:
            files = connection.execute(
                "select file_name from sync_file where sync_run_id = $id order by file_name", {"id": self.sync_run_id}
            ).fetchall()
        names = [name for (name,) in files]
        if self._total > settings.direct_push_limit():
            self._send_bulk(names, client)
        else:
            for name in names:
                self._send_directly(name, _outbox() / name, client)
        for round_number in range(1, ROUNDS + 1):
            if not self._settle(round_number, client):
                return
        with self._warehouse.transaction() as connection:
            connection.execute(
                "update sync_change set outcome = 'contested' where sync_run_id = $id and outcome = 'stale'",
                {"id": self.sync_run_id},
            )

    def finish(self) -> Counter[str]:
        """Count the outcomes, and close the delta if every change has one; the watermark moves only then."""
        with self._warehouse.transaction() as connection:
            rows = connection.execute(
                "select coalesce(outcome, 'not_sent'), count(*) from sync_change where sync_run_id = $id group by all",
                {"id": self.sync_run_id},
            ).fetchall()
            counts = Counter(dict(rows))
            final = not any(counts[outcome] for outcome in ("not_sent", *OPEN))
            connection.execute(
                "update sync_run set status_id = $status, finished_at = case when $final then current_timestamp end "
                "where sync_run_id = $id",
                {"id": self.sync_run_id, "status": "finished" if final else "unfinished", "final": final},
            )
            connection.execute(PUBLISHED, {"id": self.sync_run_id})
            if final:
                connection.execute(
                    "insert into sync_watermark select shop_id, sync_run_id, upto_seq, current_timestamp "
                    "from sync_run where sync_run_id = $id",
                    {"id": self.sync_run_id},
                )
        return counts

    def examples(self) -> list[tuple[object, ...]]:
        """The first changes that are not confirmed."""
        with self._warehouse.transaction() as connection:
            return connection.execute(
                "select product_id, facility_id, observed_quantity, target_quantity, outcome, error_code from sync_change "
                "where sync_run_id = $id and coalesce(outcome, '') not in ('applied', 'no_op') order by all limit 20",
                {"id": self.sync_run_id},
            ).fetchall()

    def _send_bulk(self, names: Sequence[str], client: ShopifyClient) -> None:
        """Up to five files at once; each operation's id is stored before it is waited for."""
        for start in range(0, len(names), OPERATIONS_AT_ONCE):
            started = {name: self._start(name, client) for name in names[start : start + OPERATIONS_AT_ONCE]}
            for name, operation_id in started.items():
                self._collect(name, operation_id, client)

    def _start(self, name: str, client: ShopifyClient) -> str:
        path = client.stage(_outbox() / name)
        deadline = time.monotonic() + SLOT_PATIENCE_SECONDS
        while True:
            try:
                operation_id = client.run_mutation(shopify_documents.ADJUST, path)
                break
            except TooManyOperations as busy:
                if time.monotonic() > deadline:
                    raise ShopifyUnavailable(f"{busy} No slot came free for an hour.") from busy
                self._log.info(f"Waiting for a free bulk operation: {busy}")
                time.sleep(SLOT_PAUSE_SECONDS)
        with self._warehouse.transaction() as connection:
            connection.execute(
                "update sync_file set bulk_operation_id = $operation where sync_run_id = $id and file_name = $name",
                {"operation": operation_id, "id": self.sync_run_id, "name": name},
            )
        self._log.info(f"{name} was sent: {operation_id}.")
        return operation_id

    def _collect(self, name: str, operation_id: str, client: ShopifyClient) -> None:
        """Wait for an operation and record what its result says; a line that it does not speak of is unknown."""

        def report(operation: BulkOperation) -> None:
            self._log.info(f"{name}: {operation.status.lower()}, {operation.object_count:,} lines worked.")

        operation = client.wait(operation_id, report)
        found: list[LineOutcome] = []
        if operation.url is not None:
            result = _outbox() / f"{name.removesuffix('.jsonl')}.result.jsonl"
            try:
                client.download(operation.url, result)
                found = list(results(result))
            except (ShopifyUnavailable, ShopifyRefused) as error:
                self._log.warning(f"The result of {name} cannot be read, the levels are read again instead: {error}")
        self._record(name, found)
        with self._warehouse.transaction() as connection:
            connection.execute(
                "update sync_change set outcome = 'unknown', error_code = $code, decided_at = current_timestamp "
                "where sync_run_id = $id and file_name = $name and outcome is null",
                {"id": self.sync_run_id, "name": name, "code": f"NO_RESULT_{operation.status}"},
            )

    def _send_directly(self, name: str, path: Path, client: ShopifyClient) -> None:
        """Send the lines of a file one by one; an answer that does not come leaves its line unknown and ends the sending."""
        with path.open(encoding="utf-8") as lines:
            for line_number, line in enumerate(lines):
                try:
                    answer = {"data": client.call(shopify_documents.ADJUST, json.loads(line))}
                except ShopifyUnavailable:
                    self._record(name, [LineOutcome(line_number, UNKNOWN, "NO_ANSWER")])
                    raise
                self._record(name, [classify(line_number, answer)])

    def _record(self, name: str, found: Iterable[LineOutcome]) -> None:
        outcomes = list({outcome.line_number: outcome for outcome in found}.values())
        if not outcomes:
            return
        with self._warehouse.transaction() as connection:
            connection.execute(
                OUTCOMES,
                {
                    "sync_run_id": self.sync_run_id,
                    "file_name": name,
                    "line_numbers": [outcome.line_number for outcome in outcomes],
                    "outcomes": [outcome.outcome for outcome in outcomes],
                    "codes": [outcome.code for outcome in outcomes],
                    "faulty": [list(outcome.rows) if outcome.outcome == PERMANENT else [] for outcome in outcomes],
                },
            )

    def _settle(self, round_number: int, client: ShopifyClient) -> bool:
        """Read the levels of open changes again, and send what is still different. False when nothing is open."""
        with self._warehouse.transaction() as connection:
            open_levels = connection.execute(OPEN_LEVELS, {"id": self.sync_run_id, "open": list(OPEN)}).fetchall()
        if not open_levels:
            return False
        self._log.info(f"Round {round_number}: {len(open_levels):,} changes are open; their levels are read again.")
        shown = client.levels([(level, item) for item, _, level in open_levels if level])
        name = f"{settings.file_name(self._shop.shop_id)}/{self.sync_run_id:06}/round-{round_number}.jsonl"
        with self._warehouse.transaction() as connection:
            connection.execute(
                REREAD,
                {
                    "items": [item for item, _, _ in open_levels],
                    "locations": [location for _, location, _ in open_levels],
                    "available": [shown.get((item, location)) for item, location, _ in open_levels],
                },
            )
            values = {"id": self.sync_run_id}
            connection.execute(SETTLED, values)
            connection.execute(AGAIN, values | {"open": list(OPEN)})
            render_lines(
                f"{self.sync_run_id} {name}", f"gid://hotwax-inventory/SyncRun/{self.sync_run_id}", 250, connection
            )
            lines = [
                content for (content,) in connection.execute("select content from line order by line_number").fetchall()
            ]
            connection.execute(REPLANNED, values | {"name": name})
        path = _outbox() / name
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        self._send_directly(name, path, client)
        return True

    def _count(self, condition: str) -> int:
        with self._warehouse.transaction() as connection:
            return connection.execute(
                f"select count(*) from sync_change where sync_run_id = $id and {condition}", {"id": self.sync_run_id}
            ).fetchall()[0][0]


OPEN_LEVELS = """
select c.shopify_inventory_item_id, c.shopify_location_id, l.shopify_inventory_level_id
from sync_change as c
left join shopify_inventory_level as l
    on l.shop_id = c.shop_id
    and l.shopify_inventory_item_id = c.shopify_inventory_item_id
    and l.shopify_location_id = c.shopify_location_id
where c.sync_run_id = $id and c.outcome in (select unnest($open))
"""

REREAD = """
create or replace temp table reread as
select
    unnest($items) as shopify_inventory_item_id,
    unnest($locations) as shopify_location_id,
    unnest($available)::integer as available
"""

# What was not known and shows the target was applied; what was refused and shows it needs nothing.
SETTLED = """
update sync_change as c
set
    outcome = case
        when r.available is null then 'permanent'
        when r.available = c.target_quantity and c.outcome = 'unknown' then 'applied'
        when r.available = c.target_quantity then 'no_op'
        else c.outcome
    end,
    error_code = case when r.available is null then 'LEVEL_NOT_FOUND' else c.error_code end,
    decided_at = current_timestamp
from reread as r
where c.sync_run_id = $id
    and c.shopify_inventory_item_id = r.shopify_inventory_item_id
    and c.shopify_location_id = r.shopify_location_id
"""

AGAIN = """
create or replace temp table change as
select c.product_id, c.facility_id, c.shopify_inventory_item_id, c.shopify_location_id, c.target_quantity,
    r.available as observed_quantity
from sync_change as c
join reread as r using (shopify_inventory_item_id, shopify_location_id)
where c.sync_run_id = $id and c.outcome in (select unnest($open))
"""

REPLANNED = """
update sync_change as c
set
    observed_quantity = n.observed_quantity,
    delta = n.target_quantity - n.observed_quantity,
    idempotency_key = l.idempotency_key,
    file_name = $name,
    line_number = l.line_number,
    line_position = l.line_position
from (
    select line_number, idempotency_key, unnest(pairs) as pair, unnest(range(len(pairs))) as line_position
    from line
) as l
join change as n on n.shopify_inventory_item_id = l.pair.item and n.shopify_location_id = l.pair.location
where c.sync_run_id = $id
    and c.shopify_inventory_item_id = l.pair.item
    and c.shopify_location_id = l.pair.location
"""

PUBLISHED = """
merge into published_level as p
using (
    select shop_id, shopify_inventory_item_id, shopify_location_id, target_quantity as quantity, sync_run_id,
        decided_at as published_at
    from sync_change
    where sync_run_id = $id and outcome in ('applied', 'no_op')
) as n
on p.shop_id = n.shop_id
    and p.shopify_inventory_item_id = n.shopify_inventory_item_id
    and p.shopify_location_id = n.shopify_location_id
when matched then update
when not matched then insert
"""


def _complaint(shop: Shop, upload: Upload, counts: Counter[str]) -> str:
    listed = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(counts.items()))
    examples = "; ".join(
        f"{product} at {facility}: {error or 'no answer'}"
        for product, facility, _, _, _, error in upload.examples()[:5]
    )
    return (
        f"Shop {shop.shop_id}: Shopify has not confirmed every change of delta {upload.sync_run_id} ({listed}). First: {examples}. "
        "The table sync_change has them all. Run hard_sync again: it reads Shopify anew and sends what is still different."
    )


def _outbox() -> Path:
    return settings.home() / "outbox"
