"""The uploads: the delta of the same run, or the newest one of the shop with a person's approval, is sent and brought to its end.

A change is confirmed only by Shopify's own word for its line, or by reading the level again; whatever else happens, the run does
not report success. It ends red with `sync_verification`, which says what the levels show, or here where that is not in the run."""

from collections import Counter
from typing import Any

import dagster as dg
import duckdb
from pydantic import Field

from hotwax_inventory import tables
from hotwax_inventory.imports.shops import SHOPS, Shop, find_shop, shop_of
from hotwax_inventory.progress import Seconds
from hotwax_inventory.publish.batch import Outcome
from hotwax_inventory.publish.delta import require_written, runs_too
from hotwax_inventory.publish.guards import age_alarm, require_standing
from hotwax_inventory.publish.manifest import DELTAS, HARD_SYNC, RECENT, claim
from hotwax_inventory.publish.resume import interrupted, resume, send
from hotwax_inventory.resources import Shopify, Warehouse, scalar


class NothingToSend(ValueError):
    """There is no delta that could be sent."""


class NotApproved(RuntimeError):
    """A guard has tripped, and nobody has approved the delta."""


class NotConfirmed(RuntimeError):
    """Shopify has not confirmed every change."""


class Approval(dg.Config):
    """What a person may tell an upload."""

    approve: bool = Field(False, description="send the newest delta of the shop although a guard has tripped")
    sync_run_id: int | None = Field(
        None, description="the delta that is meant, by the sync_run_id on its page: no other is sent; empty: the newest"
    )


# What ends a run red where something is not confirmed, once it has told what the levels show.
VERIFICATION = "sync_verification"
CONFIRMED = "changes_confirmed"


def _check_spec(asset: str) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(CONFIRMED, asset=asset, description="Shopify has confirmed every change.")


@dg.asset(
    group_name="publish",
    kinds={"shopify", "graphql"},
    partitions_def=SHOPS,
    deps=["hard_sync_delta"],
    metadata=tables.SYNC_RUN.metadata,
    check_specs=[_check_spec("hard_sync_upload")],
)
def hard_sync_upload(
    context: dg.AssetExecutionContext, config: Approval, shopify: Shopify, warehouse: Warehouse
) -> dg.MaterializeResult:
    """One delta that was sent, with an outcome for each of its changes."""
    return _upload(context, config, HARD_SYNC, shopify, warehouse)


@dg.asset(
    group_name="publish",
    kinds={"shopify", "graphql"},
    partitions_def=SHOPS,
    deps=["recent_change_delta"],
    metadata=tables.SYNC_RUN.metadata,
    check_specs=[_check_spec("recent_change_upload")],
)
def recent_change_upload(
    context: dg.AssetExecutionContext, config: Approval, shopify: Shopify, warehouse: Warehouse
) -> dg.MaterializeResult:
    """One delta of recent changes that was sent, with an outcome for each of its changes."""
    return _upload(context, config, RECENT, shopify, warehouse)


def _upload(
    context: dg.AssetExecutionContext, config: Approval, job: str, shopify: Shopify, warehouse: Warehouse
) -> dg.MaterializeResult:
    shopify.hold_shop(shop_of(context))
    seconds, own = Seconds(), None
    with warehouse.transaction() as connection:
        shop = find_shop(shop_of(context), connection)
        require_written(shop)
        if runs_too(context.run, DELTAS[job]):
            own = _own_delta(shop, job, context.run, connection)
            if own is None:
                return _result({"dagster/partition_row_count": 0, "changes_confirmed": 0}, None)
        unfinished = interrupted(shop.shop_id, connection)
        is_interrupted = own is not None and own == unfinished
        if own is not None and is_interrupted:
            sync_run_id = own
        else:
            sync_run_id = _newest_delta(shop, job, unfinished, own or config.sync_run_id, connection)
            _require_mapped(sync_run_id, connection)
        change_count, alarm = _looked_at(sync_run_id, connection)
    if alarm and not (config.approve or is_interrupted):
        raise NotApproved(f"Delta {sync_run_id} of shop {shop.shop_id} is held: {alarm}")
    with shopify.client(shop.shop_id, shop.shop_domain) as client, seconds.of("sending"):
        if change_count:
            require_standing(client)
        if is_interrupted:
            counts = resume(sync_run_id, context.run.run_id, warehouse, client)
        else:
            with warehouse.transaction() as connection:
                claim(sync_run_id, context.run, bool(alarm), connection)
            counts = send(sync_run_id, warehouse, client)
    complaint = _complaint(shop, sync_run_id, counts, job, warehouse)
    if complaint and not runs_too(context.run, VERIFICATION):
        raise NotConfirmed(complaint)
    metadata = {
        "dagster/partition_row_count": counts.total(),
        "sync_run_id": sync_run_id,
        "changes_confirmed": _confirmed(counts),
        **{f"changes_{outcome}": count for outcome, count in counts.items()},
        **seconds.metadata,
    }
    if alarm and not is_interrupted:
        metadata |= {"approved_by": context.run.tags.get("user", "whoever started the run"), "approved_although": alarm}
    return _result(metadata, complaint)


def _result(metadata: dict[str, Any], complaint: str | None) -> dg.MaterializeResult:
    return dg.MaterializeResult(
        metadata=metadata,
        check_results=[
            dg.AssetCheckResult(
                check_name=CONFIRMED,
                passed=complaint is None,
                severity=dg.AssetCheckSeverity.ERROR,
                description=complaint,
            )
        ],
    )


# The newest delta that a run, or one that it retries, has sent: its own, or where it has made none that of another run.
OF_RUN = """
select r.sync_run_id, r.job, coalesce(c.outcome, 'not_sent') as outcome, count(*)
from sync_run as r
join sync_change as c on c.sync_run_id = r.sync_run_id
where r.sync_run_id = (
    select max(sync_run_id)
    from sync_run
    where shop_id = $shop_id and list_contains($runs, sent_by_run) and (list_contains($runs, run_id) or not $has_made)
)
group by all
"""


def require_confirmed(shop: Shop, run: dg.DagsterRun, warehouse: Warehouse) -> None:
    """Raises NotConfirmed when the run has sent a delta and Shopify has not confirmed every change of it."""
    values = {
        "shop_id": shop.shop_id,
        "runs": own_runs(run),
        "has_made": any(runs_too(run, delta) for delta in DELTAS.values()),
    }
    with warehouse.transaction() as connection:
        rows = connection.execute(OF_RUN, values).fetchall()
    if not rows:
        return
    sync_run_id, job, *_ = rows[0]
    counts = Counter({outcome: count for *_, outcome, count in rows})
    if complaint := _complaint(shop, sync_run_id, counts, job, warehouse):
        raise NotConfirmed(complaint)


def own_runs(run: dg.DagsterRun) -> list[str]:
    """A run, and those that it retries."""
    return [run_id for run_id in (run.run_id, run.parent_run_id, run.root_run_id) if run_id]


def _own_delta(shop: Shop, job: str, run: dg.DagsterRun, connection: duckdb.DuckDBPyConnection) -> int | None:
    """The delta that this run has made, or the run that it retries; None when nothing had moved."""
    found = connection.execute(
        "select max(sync_run_id) from sync_run "
        "where shop_id = $shop_id and job = $job and run_id in (select unnest($runs))",
        {"shop_id": shop.shop_id, "job": job, "runs": own_runs(run)},
    ).fetchall()
    return found[0][0]


IS_OF_JOB = "select exists (from sync_run where sync_run_id = $id and shop_id = $shop_id and job = $job)"


def _newest_delta(
    shop: Shop, job: str, unfinished: int | None, meant: int | None, connection: duckdb.DuckDBPyConnection
) -> int:
    """The newest delta of the shop, if it is this job's, not sent yet, and the one that is meant. Raises NothingToSend."""
    found = connection.execute(
        "select sync_run_id, job, status_id from sync_run where shop_id = $shop_id order by sync_run_id desc limit 1",
        {"shop_id": shop.shop_id},
    ).fetchall()
    if not found:
        raise NothingToSend(f"Shop {shop.shop_id} has no delta. Materialise {DELTAS[job]} for it first.")
    if meant is not None and not scalar(connection, IS_OF_JOB, {"id": meant, "shop_id": shop.shop_id, "job": job}):
        raise NothingToSend(f"Shop {shop.shop_id} has no delta {meant} of {job}. Name one of its page, or none.")
    sync_run_id, made_by, status = found[0]
    named = f"The newest delta of shop {shop.shop_id} ({made_by} {sync_run_id})"
    if made_by != job or meant not in (None, sync_run_id):
        overtaken = f"those of {job}" if meant is None else f"delta {meant}"
        raise NothingToSend(
            f"{named} has overtaken {overtaken}. Materialise {DELTAS[job]} again and read it, then send it."
        )
    if status != "planned":
        raise NothingToSend(
            f"{named} was sent before. Run {job}: it looks at Shopify anew and makes a delta of what is still different."
        )
    if unfinished is not None:
        raise NothingToSend(
            f"{named} was made while delta {unfinished} was interrupted, and may hold changes of it. Run {job}: it brings "
            f"delta {unfinished} to its end first and then makes a new one."
        )
    return sync_run_id


MAPPED_OTHERWISE = """
select c.product_id, c.facility_id
from sync_change as c
left join shopify_shop_product as p
    on p.shop_id = c.shop_id
    and p.shopify_inventory_item_id = c.shopify_inventory_item_id
    and p.product_id = c.product_id
left join shopify_shop_location as l
    on l.shop_id = c.shop_id and l.shopify_location_id = c.shopify_location_id and l.facility_id = c.facility_id
where c.sync_run_id = $id and (p.shop_id is null or l.shop_id is null)
order by all
limit 1
"""


def _require_mapped(sync_run_id: int, connection: duckdb.DuckDBPyConnection) -> None:
    """Raises NothingToSend when a level of a delta is not that of the product at the facility any more."""
    found = connection.execute(MAPPED_OTHERWISE, {"id": sync_run_id}).fetchall()
    if found:
        product, facility = found[0]
        raise NothingToSend(
            f"Since delta {sync_run_id} was made, items or locations have been mapped otherwise, first that of {product} at "
            f"{facility}. Run the job again: it makes a delta by the mapping of now."
        )


def _looked_at(sync_run_id: int, connection: duckdb.DuckDBPyConnection) -> tuple[int, str]:
    """How many changes a delta has, and why a person must approve it: a guard has tripped, or it has become too old since."""
    change_count, guard, shop_id, job, observed_at = connection.execute(
        "select change_count, guard_message, shop_id, job, observed_at from sync_run where sync_run_id = $id",
        {"id": sync_run_id},
    ).fetchall()[0]
    return change_count, guard or age_alarm(shop_id, job, sync_run_id, observed_at)


UNCONFIRMED = """
select product_id, facility_id, outcome, error_code
from sync_change
where sync_run_id = $id and coalesce(outcome, '') not in ('applied', 'no_op')
order by all
limit 5
"""


def _confirmed(counts: Counter[str]) -> int:
    return counts[Outcome.APPLIED] + counts[Outcome.NO_OP]


def _complaint(shop: Shop, sync_run_id: int, counts: Counter[str], job: str, warehouse: Warehouse) -> str | None:
    """What is not confirmed of a delta with these outcomes, and how to go on; None when everything is."""
    if _confirmed(counts) == counts.total():
        return None
    with warehouse.transaction() as connection:
        rows = connection.execute(UNCONFIRMED, {"id": sync_run_id}).fetchall()
    listed = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(counts.items()))
    examples = "; ".join(
        f"{product} at {facility}: {outcome} {error or ''}" for product, facility, outcome, error in rows
    )
    return (
        f"Shop {shop.shop_id}: Shopify has not confirmed every change of delta {sync_run_id} ({listed}). First: {examples}. "
        f"The table sync_change has them all. {_how_on(counts, job)}"
    )


def _how_on(counts: Counter[str], job: str) -> str:
    if counts[Outcome.PERMANENT]:
        return "Mend in Shopify what is refused, then run hard_sync: it looks at every level and sends what is still different."
    return f"Run {job} again: it looks at Shopify anew and sends what is still different."
