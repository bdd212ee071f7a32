"""Shipments are received: their units become stock at that moment, once (design 8.6, 8.7).

A restock is received at its time, by the run that `schedule_restock_due` starts a little before; an inbound shipment when somebody
says so. Publishing is a later stage's matter, and its failure never takes anything back."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import partial
from typing import ClassVar
from zoneinfo import ZoneInfo

import dagster as dg
import duckdb
from pydantic import Field

from hotwax_inventory import settings, tables
from hotwax_inventory.imports.restock import FIRST_YEAR, LAST_YEAR
from hotwax_inventory.ledger.fold import apply_events
from hotwax_inventory.markdown import MOST_LINES, markdown_table
from hotwax_inventory.resources import Warehouse, scalar
from hotwax_inventory.run_config import HotwaxConfig, choice

LONGEST_SLEEP_SECONDS = 1.0
# A moment is prepared for so long before it; until then a run looks every so often for one that comes before.
PREPARE_SECONDS, LOOK_SECONDS = 30.0, 5.0


class ReceivingRefused(ValueError):
    """The run asked for something that cannot be done with the shipment; the message says why. Nothing was changed."""


@choice
class Action(Enum):
    """What is to be done with a shipment."""

    receive = "receive"
    cancel = "cancel"
    reschedule = "reschedule"
    rename = "rename"


# What receives in the caller's transaction, and says how many items; done again, it finds nothing left to receive.
Receipt = Callable[[duckdb.DuckDBPyConnection], int]


class Receiver(dg.ConfigurableResource):
    """How a receipt meets its moment. Publishing at the same moment is a later stage's matter, which has a receiver of its own."""

    def receive_at(self, moment: datetime, receipt: Receipt, run: dg.DagsterRun, warehouse: Warehouse) -> int:
        """Receive at the moment, neither before nor, unless it has passed, after; waits without any lock."""
        wait_until(moment)
        with warehouse.transaction() as connection:
            return receipt(connection)


def wait_until(moment: datetime) -> None:
    """Wait, by the clock that moments are stated in, which may be set while this waits."""
    while (seconds := seconds_until(moment)) > 0:
        time.sleep(min(seconds, LONGEST_SLEEP_SECONDS))


def seconds_until(moment: datetime) -> float:
    return (moment - datetime.now(UTC)).total_seconds()


class ScheduleRestock(HotwaxConfig):
    """Parameters of HotWax's job `Scheduled restock`."""

    spellings: ClassVar[dict[str, str]] = {"shipmentId": "shipment_id", "facilityId": "facility_id"}

    shipment_id: str | None = Field(None, description="the shipment; absent: every restock that is due")
    shipmentId: str | None = Field(None, description="HotWax's spelling of shipment_id")
    limit: int | None = Field(None, description="receive at most so many items in this run", ge=1)
    action: Action = Field(
        Action.receive, description="receive, cancel, reschedule (with scheduled_at) or rename (with name)"
    )
    scheduled_at: str | None = Field(
        None, description="reschedule: the new time, ISO 8601; without a zone by RESTOCK_TIME_ZONE"
    )
    name: str | None = Field(None, description="rename: the new name")
    facility_id: str | None = Field(None, description="where a shipment is received that names no destination")
    facilityId: str | None = Field(None, description="HotWax's spelling of facility_id")


def _meaningless(config: ScheduleRestock) -> list[str]:
    """What the run was told in vain."""
    receives_one = config.action is Action.receive and config.shipment_id is not None
    told = {
        "facility_id means nothing unless one shipment is received": config.facility_id and not receives_one,
        "limit means nothing unless something is received": config.limit and config.action is not Action.receive,
        "name means nothing without action = rename": config.name and config.action is not Action.rename,
        "scheduled_at means nothing without action = reschedule": (
            config.scheduled_at and config.action is not Action.reschedule
        ),
    }
    return [sentence for sentence, is_so in told.items() if is_so]


DUE = """
select shipment_id, scheduled_at
from shipment
where status_id = 'PURCH_SHIP_CREATED' and scheduled_at <= $until
order by scheduled_at, shipment_id
"""


def lead_ends_at() -> datetime:
    """Up to when what is due counts as due now: RESTOCK_LEAD_SECONDS from now."""
    return datetime.now(UTC) + timedelta(seconds=settings.restock_lead_seconds())


def due_shipments(warehouse: Warehouse, until: datetime) -> list[tuple[str, datetime]]:
    """The restocks that are to be received by then, with their times."""
    with warehouse.transaction() as connection:
        return connection.execute(DUE, {"until": until}).fetchall()


# What is to be received: the items of these shipments that have no receipt, up to the limit.
RECEIVED = """
create or replace temp table received as
select
    i.shipment_id,
    i.shipment_item_seq_id,
    i.product_id,
    s.destination_facility_id as facility_id,
    i.quantity as quantity_accepted,
    $received_at::timestamptz as received_at,
    s.scheduled_at is not null as is_restock,
    coalesce(i.log_id, s.log_id) as log_id,
    i.line_number,
    row_number() over (order by s.scheduled_at, s.shipment_id, i.shipment_item_seq_id) as nth
from shipment_item as i
join shipment as s on s.shipment_id = i.shipment_id
anti join shipment_receipt as r on r.shipment_id = i.shipment_id and r.shipment_item_seq_id = i.shipment_item_seq_id
where i.shipment_id in (select unnest($shipment_ids))
qualify nth <= $most
"""

# What is received acts after all that is known of its key, a count by a clock that is ahead of ours included.
EVENTS = """
select
    q.last_value + r.nth as seq,
    r.product_id,
    r.facility_id,
    'movement' as effect,
    r.quantity_accepted as quantity,
    null::varchar as reset_by,
    if(r.is_restock, 'VAR_SCH_SHIP_RECV', 'VAR_SHIP_RECV') as reason_enum_id,
    greatest(r.received_at, i.reset_at + interval 1 microsecond) as effective_at,
    r.log_id,
    r.line_number,
    r.shipment_id,
    null::varchar as order_id,
    null::varchar as comments
from received as r
cross join sequence as q
left join inventory_item as i on i.product_id = r.product_id and i.facility_id = r.facility_id
"""

COMPLETE = """
update shipment as s
set status_id = 'PURCH_SHIP_RECEIVED'
where s.shipment_id in (select unnest($shipment_ids))
    and not exists (
        from shipment_item as i
        anti join shipment_receipt as r on r.shipment_id = i.shipment_id and r.shipment_item_seq_id = i.shipment_item_seq_id
        where i.shipment_id = s.shipment_id
    )
"""


def receive(
    shipment_ids: list[str], received_at: datetime, limit: int | None, connection: duckdb.DuckDBPyConnection
) -> int:
    """Receive what these shipments have not been received of, in the caller's transaction; the number of items.

    Writes shipment_receipt, the ledger and the shipments' status. Raises ReceivingRefused where no destination is known."""
    nowhere = connection.execute(
        "select shipment_id from shipment where shipment_id in (select unnest($shipment_ids)) and destination_facility_id is null",
        {"shipment_ids": shipment_ids},
    ).fetchall()
    if nowhere:
        raise ReceivingRefused(
            f"Shipment {nowhere[0][0]} names no destination. Run this again with its shipment_id and a facility_id."
        )
    connection.execute(
        RECEIVED, {"shipment_ids": shipment_ids, "received_at": received_at, "most": limit or 2_000_000_000}
    )
    items = scalar(connection, "select count(*) from received")
    if items:
        apply_events(EVENTS, connection)
        connection.execute(f"insert into shipment_receipt select {tables.SHIPMENT_RECEIPT.column_list()} from received")
        connection.execute("update sequence set last_value = last_value + $items", {"items": items})
    connection.execute(COMPLETE, {"shipment_ids": shipment_ids})
    connection.execute("drop table received")
    return items


def _receive_one(config: ScheduleRestock, named: str, warehouse: Warehouse) -> int:
    """Receive one shipment now, whatever its time."""
    with warehouse.transaction() as connection:
        shipment_id, status = _find(named, connection)
        if status == "SHIPMENT_CANCELLED":
            raise ReceivingRefused(f"Shipment {shipment_id} was cancelled; it is not received.")
        if config.facility_id:
            _set_destination(shipment_id, config.facility_id, connection)
        items = receive([shipment_id], datetime.now(UTC), config.limit, connection)
    if not items:
        dg.get_dagster_logger().warning(f"Nothing of shipment {shipment_id} was left to receive.")
    return items


def _find(named: str, connection: duckdb.DuckDBPyConnection) -> tuple[str, str]:
    """Id and status of the shipment with this id, else external id. Raises ReceivingRefused where none has it, or several."""
    found = connection.execute(
        "select shipment_id, status_id from shipment where $named in (shipment_id, external_id) order by shipment_id <> $named",
        {"named": named},
    ).fetchall()
    if not found:
        raise ReceivingRefused(f"There is no shipment {named}. See the table shipment for those that there are.")
    if len(found) > 1 and found[0][0] != named:
        raise ReceivingRefused(
            f"{named} is the external id of several shipments. Say which: {', '.join(one for one, _ in found[:20])}."
        )
    return found[0]


def _set_destination(shipment_id: str, facility_id: str, connection: duckdb.DuckDBPyConnection) -> None:
    known = connection.execute(
        "select facility_id from facility where $facility_id in (facility_id, external_id) "
        "and parent_facility_type_id is distinct from 'VIRTUAL_FACILITY' order by facility_id <> $facility_id",
        {"facility_id": facility_id},
    ).fetchall()
    if not known:
        raise ReceivingRefused(f"There is no facility {facility_id} that holds stock. See facility.csv.")
    connection.execute(
        "update shipment set destination_facility_id = coalesce(destination_facility_id, $facility_id) "
        "where shipment_id = $shipment_id",
        {"facility_id": known[0][0], "shipment_id": shipment_id},
    )
    destination = scalar(
        connection,
        "select destination_facility_id from shipment where shipment_id = $shipment_id",
        {"shipment_id": shipment_id},
    )
    if destination != known[0][0]:
        dg.get_dagster_logger().warning(f"Shipment {shipment_id} names {destination}, and is received there.")


def _receive_due(config: ScheduleRestock, run: dg.DagsterRun, receiver: Receiver, warehouse: Warehouse) -> int:
    """Receive each restock that is due, or will be within RESTOCK_LEAD_SECONDS, at its time."""
    items = 0
    left = config.limit
    for moment in _moments(warehouse):
        received = receiver.receive_at(moment, partial(_receive_until, moment, left), run, warehouse)
        items += received
        if left is not None:
            left -= received
            if left <= 0:
                break
    return items


def _moments(warehouse: Warehouse) -> Iterator[datetime]:
    """The times at which restocks are due now or within RESTOCK_LEAD_SECONDS, each when it is time to prepare for it: one that is
    stated, or put forward, while this waits has its turn."""
    until, had = lead_ends_at(), set[datetime]()
    while due := {scheduled_at for _, scheduled_at in due_shipments(warehouse, until)} - had:
        moment = min(due)
        if seconds_until(moment) > PREPARE_SECONDS:
            time.sleep(LOOK_SECONDS)
            continue
        had.add(moment)
        yield moment


def _receive_until(moment: datetime, limit: int | None, connection: duckdb.DuckDBPyConnection) -> int:
    # what was cancelled or put off while the run waited is not due any more
    due = connection.execute(DUE, {"until": moment}).fetchall()
    return receive([shipment_id for shipment_id, _ in due], max(moment, datetime.now(UTC)), limit, connection)


def _change(config: ScheduleRestock, warehouse: Warehouse) -> str:
    """Cancel, reschedule or rename a shipment; a sentence that says what was done."""
    if config.shipment_id is None:
        raise ReceivingRefused(f"action = {config.action.value} needs a shipment_id.")
    values: dict[str, object] = {}
    if config.action is Action.cancel:
        change, said = "status_id = 'SHIPMENT_CANCELLED'", "cancelled"
    elif config.action is Action.rename:
        if not config.name:
            raise ReceivingRefused("action = rename needs a name.")
        change, said = "name = $name", f"renamed to {config.name}"
        values["name"] = config.name
    else:
        moment = _moment(config.scheduled_at)
        change, said = "scheduled_at = $scheduled_at", f"put to {moment.isoformat()}"
        values["scheduled_at"] = moment
    with warehouse.transaction() as connection:
        shipment_id, status = _find(config.shipment_id, connection)
        if config.action is not Action.rename and status in ("PURCH_SHIP_RECEIVED", "SHIPMENT_CANCELLED"):
            raise ReceivingRefused(f"Shipment {shipment_id} is {status} already; it is not {said}.")
        if config.action is Action.reschedule and status == "PURCH_SHIP_SHIPPED":
            raise ReceivingRefused(
                f"Shipment {shipment_id} is no restock: it is received when somebody says so, not at a time."
            )
        connection.execute(
            f"update shipment set {change} where shipment_id = $shipment_id", values | {"shipment_id": shipment_id}
        )
    return f"Shipment {shipment_id} was {said}."


def _moment(stated: str | None) -> datetime:
    try:
        moment = datetime.fromisoformat(stated or "")
        zoned = moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(settings.restock_time_zone()))
        found = zoned.astimezone(UTC)
    except (ValueError, OverflowError):
        found = None
    if found is None or not FIRST_YEAR <= found.year <= LAST_YEAR:
        raise ReceivingRefused(
            f"action = reschedule needs scheduled_at in ISO 8601, of the years {FIRST_YEAR} to {LAST_YEAR}, such as "
            f"2026-11-27T09:00:00-05:00 (it is {stated!r})."
        )
    return found


WAITING = f"""
select
    s.shipment_id, s.name, s.scheduled_at, s.destination_facility_id, s.status_id, sum(i.quantity)::bigint as units,
    count(*) over () as shipment_count
from shipment as s
left join shipment_item as i on i.shipment_id = s.shipment_id
where s.status_id in ('PURCH_SHIP_CREATED', 'PURCH_SHIP_SHIPPED')
group by all
order by s.scheduled_at nulls last, s.shipment_id
limit {MOST_LINES}
"""


@dg.asset(
    group_name="ledger",
    kinds={"duckdb"},
    deps=["scheduled_restock", "inbound_shipment"],
    metadata=tables.SHIPMENT_RECEIPT.metadata,
)
def shipment_receipt(
    context: dg.AssetExecutionContext, config: ScheduleRestock, receiver: Receiver, warehouse: Warehouse
) -> dg.MaterializeResult:
    """One item of a shipment as it was received: its units are stock from that moment on."""
    items, said = 0, None
    for sentence in _meaningless(config):
        dg.get_dagster_logger().warning(f"{sentence}.")
    if config.action is not Action.receive:
        said = _change(config, warehouse)
    elif config.shipment_id is not None:
        items = _receive_one(config, config.shipment_id, warehouse)
    else:
        items = _receive_due(config, context.run, receiver, warehouse)
    with warehouse.transaction() as connection:
        rows = scalar(connection, "select count(*) from shipment_receipt")
        waiting = connection.execute(WAITING).fetchall()
    metadata: dict[str, dg.MetadataValue | int | str] = {
        "dagster/row_count": rows,
        "items_received": items,
        "still_to_come": markdown_table(
            ("shipment", "name", "at", "facility", "status", "units"),
            [row[:-1] for row in waiting],
            count=waiting[0][-1] if waiting else 0,
        ),
    }
    if said:
        dg.get_dagster_logger().info(said)
        metadata["what_was_done"] = said
    return dg.MaterializeResult(metadata=metadata)
