"""What a run says of itself while it works."""

import re
from base64 import b64decode
from types import SimpleNamespace

import pytest

from hotwax_inventory import progress
from hotwax_inventory.progress import Progress
from hotwax_inventory_tests.conftest import Place


class Log:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, line: str) -> None:
        self.lines.append(line)


def test_a_line_every_ten_seconds_with_what_is_done_and_the_time_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, log = SimpleNamespace(now=0.0), Log()
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(progress.dg, "get_dagster_logger", lambda: log)
    landing, reading = Progress("a.csv", 100_000_000, "bytes"), Progress("Bulk read", None, "levels")
    for second in range(26):
        clock.now = float(second)
        landing.reached(second * 1_000_000)
    reading.reached(1_234_567)
    Progress("Lines", 32, "lines").reached(0)
    working = Progress("Lines", 32, "lines")
    clock.now += 60
    working.reached(0)
    assert log.lines == [
        "a.csv: 10 of 100 MB (10 %), about 90 seconds left.",
        "a.csv: 20 of 100 MB (20 %), about 80 seconds left.",
        "Bulk read: 1,234,567 levels so far.",
        "Lines: 0 of 32 lines (0 %).",
    ]


def test_files_rows_levels_and_lines_of_a_run_are_counted_in_its_log(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "EVERY_SECONDS", 0.0)
    monkeypatch.setenv("DIRECT_PUSH_LIMIT", "0")
    place.put_reset("reset.csv", "Item,externalFacilityId,availableQty,idValue\nTEE-S,43,5,501\nTEE-S,116,2,501\n")
    said = ""
    for job, shop in (("import_inventory", None), ("hard_sync", "SHOP")):
        result = place.succeed(job, shop=shop)
        said += "\n".join(entry.user_message for entry in place.instance.all_logs(result.run_id))
    for line in (
        "netsuite/inventoryitem/csv/reset.csv: 0 of 0 MB (100 %), about 0 seconds left.",
        "Files read into rows: 0 of 0 MB (100 %)",
        "Rows posted to the ledger: 2 of 2 rows (100 %)",
        "Shopify's bulk read: ",
        "Lines of SHOP/000001/delta-0001.jsonl that Shopify has worked: 1 of 1 lines (100 %)",
        "Levels read: 1 of 1 levels (100 %)",
    ):
        assert line in said, line


def test_the_asset_pages_say_what_moved_where_and_why_and_how_long_it_took(place: Place) -> None:
    place.put_reset("reset.csv", "Item,externalFacilityId,availableQty,idValue\nTEE-S,43,5,501\nTEE-S,116,2,501\n")
    place.succeed("import_inventory")
    ledger = place.told("inventory_item_detail")
    assert "| `BROADWAY` | 1 | 2 | 2 |" in ledger["by_facility"]
    assert "| `VAR_EXT_RESET` | 2 | 7 | 7 |" in ledger["by_reason"]
    assert "| `TEE-S` | `WAREHOUSE` | 0 | 5 | 5 | `VAR_EXT_RESET` | 1 | 2 |" in ledger["biggest_changes"]
    place.succeed("hard_sync", shop="SHOP")
    assert place.told("hard_sync_delta")["by_size"].startswith("![Changes by units: ≤ -100: 0, ")
    ((item, location),) = place.rows("select shopify_inventory_item_id, shopify_location_id from sync_change")
    place.simulator.shops.sell("SHOP", item, location, 1)
    place.succeed("hard_sync", shop="SHOP")
    place.succeed("hard_sync", shop="SHOP")
    drawn = re.match(r"!\[(.*)\]\(data:image/svg\+xml;base64,(.*)\)$", place.told("inventory_drift")["by_day"])
    assert drawn, "no picture"
    # the sale, which the second sync has found and taken back
    assert re.search(": 0, [^,]*: 1, now: 0$", drawn[1])
    assert b"<svg" in b64decode(drawn[2])
    assert "by_size" not in place.told("hard_sync_delta"), "nothing has changed"
    for asset, parts in (
        ("inventory_reset", ("landing", "reading")),
        ("inventory_item_detail", ("posting",)),
        ("shopify_inventory_level", ("reading_shopify", "loading")),
        ("hard_sync_delta", ("reading_shopify", "comparing")),
        ("hard_sync_upload", ("sending",)),
    ):
        assert all(place.told(asset)[f"seconds_{part}"] >= 0 for part in parts), asset
