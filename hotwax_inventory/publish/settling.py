"""Changes without a final outcome: what was not answered is asked for again, with the same key and bytes, for as long as Shopify
remembers keys, since a level that shows what a line asked for may show it because of somebody else. The levels of what is open then
are read again, and it is decided anew."""

import time
from collections.abc import Callable
from functools import partial

import dagster as dg
import duckdb

from hotwax_inventory import settings
from hotwax_inventory.publish.batch import IS_OPEN, IS_UNANSWERED, SAME_KEY, load_shown
from hotwax_inventory.publish.decisions import KEY_HOURS, ROUNDS, decide
from hotwax_inventory.publish.sending import LineUnanswered, Sender
from hotwax_inventory.publish.target import Scope
from hotwax_inventory.resources import Warehouse
from hotwax_inventory.shopify import ShopifyClient, ShopifyUnavailable

# A line that is still being worked is asked for again after this long, then twice as long.
PAUSE_SECONDS = 2.0

OPEN_LEVELS = f"""
select c.shopify_inventory_item_id, c.shopify_location_id, l.shopify_inventory_level_id
from sync_change as c
left join shopify_inventory_level as l
    on l.shop_id = c.shop_id
    and l.shopify_inventory_item_id = c.shopify_inventory_item_id
    and l.shopify_location_id = c.shopify_location_id
where c.sync_run_id = $sync_run_id
    and {IS_OPEN}
    and c.attempts < $rounds
"""

# What was sent and not answered, and can be asked for again: (file, line, changes in it).
ASKABLE = f"""
select c.file_name, c.line_number, count(*)
from sync_change as c
join sync_file as f on f.sync_run_id = c.sync_run_id and f.file_name = c.file_name
where c.sync_run_id = $sync_run_id
    and (
        (c.outcome = 'unknown' and {IS_UNANSWERED})
        or (c.outcome = 'retryable' and c.error_code in {SAME_KEY})
    )
    and f.sent_at > current_timestamp - to_hours($key_hours)
    and c.attempts < $rounds
group by c.file_name, c.line_number
"""

CONTESTED = f"""
update sync_change
set outcome = 'contested'
where sync_run_id = $sync_run_id and (outcome = 'stale' or (outcome = 'unknown' and not {IS_UNANSWERED}))
"""


def settle(
    sync_run_id: int,
    scope: Scope,
    sender: Sender,
    warehouse: Warehouse,
    client: ShopifyClient,
    *,
    is_resumed: bool = False,
) -> None:
    """Try until every change of a delta has an outcome, or was tried often enough. What one run was not answered the next one sends
    otherwise, so that a line that Shopify never answers keeps nothing else back. Raises ShopifyUnavailable, ShopifyRefused."""
    asked = outages = 0

    def send(deliver: Callable[[], None]) -> None:
        """Whether it is the lines or Shopify, the reading of the levels shows, and what is tried after it."""
        nonlocal outages
        try:
            deliver()
        except ShopifyUnavailable as error:
            outages += not isinstance(error, LineUnanswered)
            if not is_resumed or outages > 1:
                raise

    while True:
        with warehouse.transaction() as connection:
            open_levels = _open_levels(sync_run_id, connection)
            if not open_levels:
                connection.execute(CONTESTED, {"sync_run_id": sync_run_id})
                return
            lines, count = _lines_to_ask(sync_run_id, connection)
        dg.get_dagster_logger().info(
            f"{len(open_levels):,} changes are open; they are settled line by line, level by level."
        )
        if lines:
            time.sleep(asked * PAUSE_SECONDS)
            asked += 1
            send(partial(sender.deliver_again, lines, count))
            with warehouse.transaction() as connection:
                open_levels = _open_levels(sync_run_id, connection)
        shown = client.levels([(level, item) for item, _, level in open_levels if level])
        with warehouse.transaction() as connection:
            load_shown("reread", [(item, location) for item, location, _ in open_levels], shown, connection)
            files, count = decide(sync_run_id, scope, connection, is_resumed=is_resumed)
        if files:
            send(partial(sender.deliver, [file.name for file in files], count, is_first=False))


def _open_levels(sync_run_id: int, connection: duckdb.DuckDBPyConnection) -> list[tuple[int, int, int | None]]:
    return connection.execute(OPEN_LEVELS, {"sync_run_id": sync_run_id, "rounds": ROUNDS}).fetchall()


def _lines_to_ask(sync_run_id: int, connection: duckdb.DuckDBPyConnection) -> tuple[dict[str, set[int]], int]:
    """The lines of each file whose answer is missing and may be asked for again, and how many changes they hold."""
    askable = connection.execute(
        ASKABLE,
        {"sync_run_id": sync_run_id, "key_hours": KEY_HOURS, "rounds": ROUNDS},
    ).fetchall()
    lines: dict[str, set[int]] = {}
    for name, line_number, _ in askable:
        if (settings.outbox() / name).exists():
            lines.setdefault(name, set()).add(line_number)
    return lines, sum(count for name, _, count in askable if name in lines)
