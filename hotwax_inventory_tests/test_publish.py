"""What is sent to Shopify, and what is made of its answers."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import httpx
import pytest

from hotwax_inventory import settings, shopify, shopify_documents
from hotwax_inventory.definitions import defs
from hotwax_inventory.imports.shops import find_shop
from hotwax_inventory.publish import batch
from hotwax_inventory.publish.batch import LineOutcome, Outcome, classify
from hotwax_inventory.publish.upload import NotConfirmed, require_confirmed
from hotwax_inventory.resources import Shopify, Warehouse, WarehouseBusy
from hotwax_inventory.settings import ShopSettings
from hotwax_inventory.simulator.faults import Fault
from hotwax_inventory_tests.conftest import Place

HEADER = "Item,externalFacilityId,availableQty,idValue\n"
# Every product at both stores and the warehouse, so that the aggregate location is their sum.
STOCK = "".join(
    f",{facility},{quantity},{product}\n"
    for facility, quantities in (("43", (10, 20, 30)), ("116", (6, 0, 3)), ("281", (4, 2, 8)))
    for product, quantity in zip(("501", "502", "503"), quantities, strict=True)
)
TARGETS = {
    ("TEE-S", 7000): 20,
    ("TEE-M", 7000): 22,
    ("TEE-L", 7000): 41,
    ("TEE-S", 7116): 6,
    ("TEE-M", 7116): 0,
    ("TEE-L", 7116): 3,
    ("TEE-S", 7281): 4,
    ("TEE-M", 7281): 2,
    ("TEE-L", 7281): 8,
}


@pytest.fixture
def stocked(empty_place: Place, kept: Path) -> Place:
    """A place whose stock is known, and whose shop shows something else everywhere."""

    def prepare() -> None:
        empty_place.succeed("load_reference")
        empty_place.put_reset("reset.csv", HEADER + STOCK)
        empty_place.succeed("import_inventory")

    empty_place.begin_with(kept / "stocked.duckdb", prepare)
    show(empty_place, 5)
    return empty_place


def show(place: Place, too_many: int) -> None:
    """Let the shop show so many more than we promise everywhere."""
    for (sku, location), target in TARGETS.items():
        place.simulator.shops.set_level("SHOP", item(place, sku), location, target + too_many)


def item(place: Place, sku: str) -> int:
    """The item that the simulator made for the product; tests add others with small ids."""
    return max(place.simulator.shops.item_ids("SHOP", sku))


def shown(place: Place) -> dict[tuple[str, int], int]:
    return {key: place.simulator.shops.level("SHOP", item(place, key[0]), key[1]).available for key in TARGETS}


def outcomes(place: Place) -> dict[str, int]:
    return dict(
        place.rows(
            "select coalesce(outcome, 'not_sent'), count(*) from sync_change "
            "where sync_run_id = (select max(sync_run_id) from sync_run) group by all"
        )
    )


def calls(place: Place, root_field: str) -> int:
    return sum(call.root_field == root_field for call in place.simulator.shops.calls)


def materialised(place: Place, job: str, *assets: str, tags: dict[str, str] | None = None, **config: Any) -> Any:
    """Run some assets of a job alone; `config` is the last one's."""
    return defs.resolve_job_def(job).execute_in_process(
        instance=place.instance,
        tags={"dagster/partition": "SHOP", **(tags or {})},
        asset_selection=[dg.AssetKey(asset) for asset in assets],
        run_config={"ops": {assets[-1]: {"config": config}}} if config else {},
        raise_on_error=False,
    )


@pytest.mark.parametrize("limit", ["0", "1000"], ids=["bulk", "direct"])
def test_a_sync_brings_every_level_to_its_target_and_a_second_one_writes_nothing(
    stocked: Place, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setenv("DIRECT_PUSH_LIMIT", limit)
    assert stocked.run("hard_sync", {"hard_sync_delta": {"changes_per_line": 2}}, shop="SHOP").success
    assert shown(stocked) == TARGETS
    assert outcomes(stocked) == {"applied": 9}
    assert calls(stocked, "bulkOperationRunMutation") == (limit == "0")
    adjusted = len(stocked.simulator.shops.adjustments("SHOP"))
    assert stocked.run("hard_sync", shop="SHOP").success
    assert len(stocked.simulator.shops.adjustments("SHOP")) == adjusted
    assert stocked.rows("select change_count, status_id from sync_run order by sync_run_id") == [
        (9, "finished"),
        (0, "finished"),
    ]


@pytest.mark.parametrize("limit", ["0", "1000"], ids=["bulk", "direct"])
def test_however_long_shopify_is_silent_others_may_write_to_the_warehouse(
    stocked: Place, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setenv("DIRECT_PUSH_LIMIT", limit)
    shops, log_call, one = stocked.simulator.shops, stocked.simulator.shops.log_call, threading.Lock()
    found: dict[str, set[bool]] = {}

    def write_before_it_is_answered(call: Any) -> None:
        with one:
            try:
                with Warehouse(wait_seconds=0).transaction() as connection:
                    connection.execute("update sequence set last_value = last_value + 1")
                is_free = True
            except WarehouseBusy:
                is_free = False
            found.setdefault(call.root_field, set()).add(is_free)
        log_call(call)

    monkeypatch.setattr(shops, "log_call", write_before_it_is_answered)
    stocked.succeed("hard_sync", {"hard_sync_delta": {"changes_per_line": 2}}, shop="SHOP")
    shops.set_available("SHOP", item(stocked, "TEE-S"), 7116, 77)
    stocked.succeed("upload_recent_inventory_changes", {"recent_change_delta": {"include_all": True}}, shop="SHOP")
    assert shown(stocked) == TARGETS
    assert {"nodes", "bulkOperation", "bulkOperationRunQuery"} <= set(found)
    assert {call for call, is_free in found.items() if is_free != {True}} == set()


def test_the_delta_alone_is_a_dry_run_and_the_files_say_what_would_be_sent(stocked: Place) -> None:
    result = materialised(stocked, "hard_sync", "shopify_inventory_level", "shopify_shop_product", "hard_sync_delta")
    assert result.success
    assert calls(stocked, "inventoryAdjustQuantities") == calls(stocked, "bulkOperationRunMutation") == 0
    lines = [line for path in (stocked.home / "outbox").rglob("*.jsonl") for line in path.read_text().splitlines()]
    assert len(lines) == 1
    assert lines[0].count('"changeFromQuantity"') == 9
    assert stocked.rows("select status_id, change_count from sync_run") == [("planned", 9)]


def test_lines_stand_whole_and_in_order_in_as_many_files_as_they_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    most_bytes = 9_000_000
    monkeypatch.setattr(batch, "MAX_UPLOAD_BYTES", most_bytes)
    drawn = """
        select
            n // 3 as shopify_inventory_item_id,
            n % 3 as shopify_location_id,
            n % 1000 as observed_quantity,
            1 - n % 7 as delta,
            n % 11 // 10 as batch
        from range(200000) as change(n)
        order by hash(n)
    """
    with duckdb.connect() as connection:
        connection.execute(f"create temp table change as {batch.PLACED.format(changes=drawn)}", {"changes_per_line": 7})
        files = batch.write_files("run", "SHOP/000001/delta", "gid://shop/Run/1", tmp_path, connection)
        placed = connection.execute(
            "select file_name, line_number, idempotency_key::varchar, list((shopify_inventory_item_id, shopify_location_id, "
            "observed_quantity, delta) order by line_position) from change join line using (batch, part) "
            "group by file_name, line_number, idempotency_key, batch, part order by batch, part"
        ).fetchall()
    written = []
    for file in files:
        texts = file.path.read_text().splitlines(keepends=True)
        assert len(texts) == file.line_count
        assert most_bytes - 100_000 < file.path.stat().st_size <= most_bytes or file is files[-1]
        for n, text in enumerate(texts):
            line = json.loads(text)
            assert json.dumps(line, separators=(",", ":"), sort_keys=True) + "\n" == text
            assert line["input"].pop("referenceDocumentUri") == "gid://shop/Run/1"
            changes = [
                (
                    int(change["inventoryItemId"].removeprefix("gid://shopify/InventoryItem/")),
                    int(change["locationId"].removeprefix("gid://shopify/Location/")),
                    change["changeFromQuantity"],
                    change["delta"],
                )
                for change in line["input"].pop("changes")
            ]
            assert line["input"] == {"name": "available", "reason": "correction"}
            written.append((file.name, n, line["idempotencyKey"], changes))
    assert len(files) > 2
    assert written == placed
    assert len({key for _, _, key, _ in written}) == len(written)
    assert sum(len(changes) for *_, changes in written) == 200_000


def test_lines_of_other_changes_have_other_keys(tmp_path: Path) -> None:
    keys = []
    # (batch, item, location): what is made once more in a run, with locations the other way round; and two batches of one delta
    for levels in (
        [(0, 1, 7), (0, 2, 8)],
        [(0, 1, 8), (0, 2, 7)],
        [(0, 1, 7), (1, 1, 8), (0, 2, 8), (1, 2, 7)],
    ):
        drawn = f"""
            select item as shopify_inventory_item_id, location as shopify_location_id, 5 as observed_quantity, 1 as delta, batch
            from (values {", ".join(map(str, levels))}) as level(batch, item, location)
        """
        with duckdb.connect() as connection:
            connection.execute(
                f"create temp table change as {batch.PLACED.format(changes=drawn)}", {"changes_per_line": 100}
            )
            (file,) = batch.write_files("run", "SHOP/000001/delta", "gid://shop/Run/1", tmp_path, connection)
        keys += [json.loads(line)["idempotencyKey"] for line in file.path.read_text().splitlines()]
    # the same changes have the same key
    assert keys[2] == keys[0]
    assert len(set(keys)) == 3


def test_a_sale_between_read_and_write_is_not_overwritten_blindly(
    stocked: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIRECT_PUSH_LIMIT", "0")
    tee = item(stocked, "TEE-S")
    started = stocked.simulator.shops.log_call

    def sell_before_the_mutation(call: Any) -> None:
        if call.root_field == "stagedUploadsCreate" and not calls(stocked, "stagedUploadsCreate"):
            stocked.simulator.shops.sell("SHOP", tee, 7116, 2)
        started(call)

    monkeypatch.setattr(stocked.simulator.shops, "log_call", sell_before_the_mutation)
    assert stocked.run("hard_sync", shop="SHOP").success
    assert shown(stocked) == TARGETS
    stale = [c for c in stocked.simulator.shops.adjustments("SHOP") if c.item_id == tee and c.location_id == 7116]
    assert [(c.source, c.delta) for c in stale] == [("sale", -2), ("adjust", -3)]


def test_what_shopify_refuses_for_good_is_named_and_the_rest_of_its_line_is_applied(stocked: Place) -> None:
    stocked.simulator.faults.add(
        Fault("inventoryAdjustQuantities", "user_error", at_call=0, value="NON_MUTABLE_INVENTORY_ITEM")
    )
    result = stocked.run("hard_sync", shop="SHOP")
    assert not result.success
    assert outcomes(stocked) == {"permanent": 9}
    assert "NON_MUTABLE_INVENTORY_ITEM" in stocked.failure(result)
    retried = dg.DagsterRun("hard_sync", parent_run_id=result.run_id, root_run_id=result.run_id)
    with Warehouse().transaction() as connection:
        shop = find_shop("SHOP", connection)
    with pytest.raises(NotConfirmed, match="9 permanent"):
        require_confirmed(shop, retried, Warehouse())
    alone = materialised(stocked, "hard_sync", "hard_sync_delta", "hard_sync_upload")
    assert "NON_MUTABLE_INVENTORY_ITEM" in stocked.failure(alone)


@pytest.mark.parametrize(
    ("fault", "limit"),
    [
        (Fault("inventoryAdjustQuantities", "throttled"), "1000"),
        (Fault("inventoryAdjustQuantities", "http_503"), "1000"),
        (Fault("inventoryAdjustQuantities", "reset_before"), "1000"),
        (Fault("inventoryAdjustQuantities", "reset_after"), "1000"),
        (Fault("inventoryAdjustQuantities", "html"), "1000"),
        (Fault("inventoryAdjustQuantities", "truncated_json"), "1000"),
        (Fault("inventoryAdjustQuantities", "user_error", value="IDEMPOTENCY_CONCURRENT_REQUEST"), "1000"),
        (Fault("inventoryAdjustQuantities", "user_error", value="NEVER_SEEN_BEFORE"), "1000"),
        (Fault("stagedUploadsCreate", "http_500"), "0"),
        (Fault("staged", "http_503"), "0"),
        (Fault("bulkOperationRunMutation", "http_502"), "0"),
        (Fault("bulkOperationRunMutation", "reset_after"), "0"),
        (Fault("bulkOperationRunMutation", "drop_lines", value=2), "0"),
        (Fault("bulkOperationRunMutation", "cut_last_line"), "0"),
        (Fault("bulkOperationRunMutation", "duplicate_lines"), "0"),
        (Fault("bulkOperationRunMutation", "bulk_failed", value=2), "0"),
        (Fault("bulkOperationRunMutation", "bulk_canceled", value=1), "0"),
        (Fault("bulkOperationRunMutation", "bulk_expired"), "0"),
        (Fault("bulkOperation", "http_500"), "0"),
        (Fault("results", "http_503", at_call=2), "0"),
        (Fault("results", "html", at_call=2, times=99), "0"),
        (Fault("results", "truncated_json", at_call=2), "0"),
        (Fault("bulkOperationRunMutation", "bulk_partial", value=4), "0"),
        (Fault("inventoryAdjustQuantities", "http_429", value=1), "1000"),
        (Fault("bulkOperationRunQuery", "bulk_failed"), "0"),
        (Fault("bulkOperationRunQuery", "cut_last_line"), "0"),
        (Fault("bulkOperationRunQuery", "drop_lines", value=3), "0"),
    ],
    ids=lambda value: f"{value.where}-{value.kind}" if isinstance(value, Fault) else None,
)
def test_after_a_fault_every_level_is_right_and_nothing_was_applied_twice(
    stocked: Place, monkeypatch: pytest.MonkeyPatch, fault: Fault, limit: str
) -> None:
    monkeypatch.setenv("DIRECT_PUSH_LIMIT", limit)
    stocked.simulator.faults.add(fault)
    assert stocked.run("hard_sync", {"hard_sync_delta": {"changes_per_line": 1}}, shop="SHOP").success
    assert shown(stocked) == TARGETS
    adjusted = [(c.item_id, c.location_id) for c in stocked.simulator.shops.adjustments("SHOP") if c.source == "adjust"]
    assert len(adjusted) == len(set(adjusted)) == 9
    assert set(outcomes(stocked)) <= {"applied", "no_op"}


def test_a_sale_that_does_what_an_unanswered_line_asked_for_is_not_taken_for_it(
    stocked: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIRECT_PUSH_LIMIT", "0")
    shops, log_call = stocked.simulator.shops, stocked.simulator.shops.log_call
    stocked.simulator.faults.add(Fault("bulkOperationRunMutation", "bulk_partial", value=4))
    levels = {(item(stocked, sku), location) for sku, location in TARGETS}

    def sell_once_it_has_failed(call: Any) -> None:
        log_call(call)
        changes = shops.adjustments("SHOP")
        if [change.source for change in changes] == ["adjust"] * 4:
            shops.sell("SHOP", *min(levels - {(change.item_id, change.location_id) for change in changes}), 5)

    monkeypatch.setattr(shops, "log_call", sell_once_it_has_failed)
    stocked.succeed("hard_sync", {"hard_sync_delta": {"changes_per_line": 1}}, shop="SHOP")
    assert shown(stocked) == TARGETS
    assert outcomes(stocked) == {"applied": 8, "no_op": 1}
    assert [c.source for c in shops.adjustments("SHOP")].count("adjust") == 8


def test_a_result_that_takes_longer_than_the_deadline_is_fetched_again_and_not_made_again(
    stocked: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "shopify_deadline_seconds", lambda: 0)
    stocked.simulator.faults.add(Fault("results", "reset_after"))
    stocked.succeed("hard_sync", shop="SHOP")
    assert shown(stocked) == TARGETS
    assert calls(stocked, "bulkOperationRunQuery") == 1


# Answers to a line in which the errors are no list of objects.
ODD = ['{"errors": "Internal error"}', '{"errors": [null]}', '{"data": []}', '{"errors": {"message": "no"}}']


def test_results_in_an_odd_shape_say_nothing_and_stop_nothing(stocked: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIRECT_PUSH_LIMIT", "0")
    download = shopify.ShopifyClient.download

    def spoilt_once(client: shopify.ShopifyClient, url: str, path: Path, size_bytes: int | None = None) -> int:
        size = download(client, url, path, size_bytes)
        if "result" in path.name:
            monkeypatch.setattr(shopify.ShopifyClient, "download", download)
            rest = path.read_text().splitlines(keepends=True)[len(ODD) :]
            odd = [line.replace("{", f'{{"__lineNumber": {n}, ', 1) + "\n" for n, line in enumerate(ODD)]
            path.write_text("".join([*odd, *rest]))
        return size

    monkeypatch.setattr(shopify.ShopifyClient, "download", spoilt_once)
    stocked.succeed("hard_sync", {"hard_sync_delta": {"changes_per_line": 2}}, shop="SHOP")
    assert shown(stocked) == TARGETS
    assert calls(stocked, "bulkOperationRunMutation") > 0


def test_results_counted_from_one_are_taken_for_the_lines_that_they_are_of(
    stocked: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIRECT_PUSH_LIMIT", "0")
    stocked.simulator.faults.add(Fault("inventoryAdjustQuantities", "user_error", at_call=2, value="INVALID_REASON"))
    download = shopify.ShopifyClient.download

    def counted_from_one(client: shopify.ShopifyClient, url: str, path: Path, size_bytes: int | None = None) -> int:
        size = download(client, url, path, size_bytes)
        if "result" in path.name:
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            shifted = [line | {"__lineNumber": line["__lineNumber"] + 1} for line in lines]
            path.write_text("".join(f"{json.dumps(line)}\n" for line in shifted))
        return size

    monkeypatch.setattr(shopify.ShopifyClient, "download", counted_from_one)
    assert not stocked.run("hard_sync", {"hard_sync_delta": {"changes_per_line": 1}}, shop="SHOP").success
    applied = "select shopify_inventory_item_id, shopify_location_id from sync_change where outcome = 'applied'"
    adjusted = [(c.item_id, c.location_id) for c in stocked.simulator.shops.adjustments("SHOP") if c.source == "adjust"]
    assert sorted(stocked.rows(applied)) == sorted(adjusted)
    assert outcomes(stocked) == {"applied": 8, "permanent": 1}


def test_what_is_refused_by_a_code_that_is_not_known_ends_contested_after_three_rounds(stocked: Place) -> None:
    stocked.simulator.faults.add(
        Fault("inventoryAdjustQuantities", "user_error", at_call=0, times=1000, value="NEVER_SEEN_BEFORE")
    )
    failed = stocked.run("hard_sync", shop="SHOP")
    assert outcomes(stocked) == {"contested": 9}
    assert "NEVER_SEEN_BEFORE" in stocked.failure(failed)
    assert calls(stocked, "inventoryAdjustQuantities") <= 8 + (1 + 3) * 9, "halved until each is alone"
    stocked.simulator.faults.clear()
    stocked.succeed("upload_recent_inventory_changes", shop="SHOP")
    assert shown(stocked) == TARGETS


def test_a_change_that_is_refused_by_a_new_code_keeps_no_other_back(
    stocked: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent, answer = [], shopify.ShopifyClient.answer
    bad = {"item": f"gid://shopify/InventoryItem/{item(stocked, 'TEE-L')}", "location": "gid://shopify/Location/7281"}

    def refusing(client: shopify.ShopifyClient, document: str, variables: dict[str, Any]) -> dict[str, Any]:
        changes = variables.get("input", {}).get("changes", [])
        named = [
            str(n)
            for n, change in enumerate(changes)
            if (change["inventoryItemId"], change["locationId"]) == (bad["item"], bad["location"])
        ]
        if not named:
            return answer(client, document, variables)
        sent.append(len(changes))
        error = {"code": "NEW_CODE", "field": ["input", "changes", *named, "delta"], "message": "No."}
        return {"data": {"inventoryAdjustQuantities": {"inventoryAdjustmentGroup": None, "userErrors": [error]}}}

    monkeypatch.setattr(shopify.ShopifyClient, "answer", refusing)
    assert not stocked.run("hard_sync", shop="SHOP").success
    assert outcomes(stocked) == {"applied": 8, "contested": 1}
    assert sent == [9, 1, 1, 1], "three rounds"
    contested = "select facility_id, error_code from sync_change where outcome = 'contested'"
    assert stocked.rows(contested) == [("BROOKLYN", "NEW_CODE")]


def test_while_others_have_all_bulk_operations_a_read_waits_and_says_so(
    stocked: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shopify, "SLOT_PAUSE_SECONDS", 0.01)
    shops, log_call = stocked.simulator.shops, stocked.simulator.shops.log_call
    stocked.simulator.faults.add(Fault("bulkOperationRunQuery", "bulk_stuck", times=5))
    with Shopify().client("SHOP", "") as client:
        others = [client.run_query(shopify_documents.ALL_LEVELS) for _ in range(5)]

        def make_room_at_the_third_try(call: Any) -> None:
            log_call(call)
            if calls(stocked, "bulkOperationRunQuery") == 8:
                cancel = "mutation($id: ID!) { bulkOperationCancel(id: $id) { bulkOperation { status } } }"
                # the simulator answers one call at a time
                threading.Thread(target=client.call, args=(cancel, {"id": others[0]})).start()

        monkeypatch.setattr(shops, "log_call", make_room_at_the_third_try)
        stocked.succeed("hard_sync", shop="SHOP")
        assert shown(stocked) == TARGETS
        monkeypatch.setattr(shopify, "SLOT_PATIENCE_SECONDS", 0.0)
        stocked.simulator.faults.add(Fault("bulkOperationRunQuery", "bulk_stuck"))
        client.run_query(shopify_documents.ALL_LEVELS)
        result = stocked.run("hard_sync", shop="SHOP")
    assert "others are running" in stocked.failure(result)


def test_a_level_that_nobody_can_bring_to_its_number_keeps_no_other_from_it(stocked: Place) -> None:
    stocked.simulator.shops.set_level("SHOP", item(stocked, "TEE-S"), 7116, 2_000_000_000)
    stocked.put_reset("low.csv", f"{HEADER},116,-900000000,501\n")
    stocked.succeed("import_inventory")
    stocked.succeed("hard_sync", {"hard_sync_delta": {"use_valid_atp": False}}, shop="SHOP")
    wrong = {key for key, quantity in shown(stocked).items() if quantity != TARGETS[key]}
    assert wrong == {("TEE-S", 7116), ("TEE-S", 7000)}
    assert "`out_of_range` | 1" in stocked.told("hard_sync_delta")["left_out"]


def test_what_stands_beside_levels_that_others_move_comes_through(
    stocked: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = shopify.ShopifyClient.answer

    def sell_first(client: shopify.ShopifyClient, document: str, variables: dict[str, Any]) -> dict[str, Any]:
        changes = variables.get("input", {}).get("changes", [])
        if len(changes) > 1:
            sold, location = (int(changes[0][name].rpartition("/")[2]) for name in ("inventoryItemId", "locationId"))
            stocked.simulator.shops.sell("SHOP", sold, location, 1)
        return answer(client, document, variables)

    monkeypatch.setattr(shopify.ShopifyClient, "answer", sell_first)
    stocked.succeed("hard_sync", shop="SHOP")
    assert shown(stocked) == TARGETS


def test_a_sync_that_cannot_be_confirmed_is_no_success(stocked: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOPIFY_DEADLINE_SECONDS", "1")
    stocked.simulator.faults.add(Fault("inventoryAdjustQuantities", "http_503", at_call=0, times=1000))
    result = stocked.run("hard_sync", shop="SHOP")
    assert not result.success
    assert "SHOPIFY_DEADLINE_SECONDS" in stocked.failure(result)
    assert stocked.rows("select status_id, finished_at from sync_run") == [("unfinished", None)]
    assert stocked.rows("select count(*) from sync_watermark") == [(0,)]
    stocked.simulator.faults.clear()
    assert stocked.run("hard_sync", shop="SHOP").success
    assert shown(stocked) == TARGETS


def test_a_token_that_has_run_out_is_renewed_once_for_all_who_call() -> None:
    granted = ["first"]

    def answers(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("access_token"):
            granted.append(f"token {len(granted)}")
            return httpx.Response(200, json={"access_token": granted[-1], "expires_in": 86_399})
        is_valid = request.headers["X-Shopify-Access-Token"] == granted[-1] != "first"
        return httpx.Response(200, json={"data": {}}) if is_valid else httpx.Response(401)

    shop = ShopSettings("SHOP", "http://shop", "first", "id", "secret")
    client = shopify.ShopifyClient(shop, "2026-10", 5, httpx.MockTransport(answers))
    with ThreadPoolExecutor(10) as pool:
        assert list(pool.map(lambda _: client.call("{ shop { id } }", {}), range(100))) == [{}] * 100
    assert granted == ["first", "token 1"]


def test_a_short_lived_token_serves_many_calls_and_none_is_no_token() -> None:
    grants: list[str | None] = [None, "short"]

    def answers(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("access_token"):
            return httpx.Response(200, json={"access_token": grants.pop(0), "expires_in": 299})
        return httpx.Response(200, json={"data": {}})

    shop = ShopSettings("SHOP", "http://shop", None, "id", "secret")
    client = shopify.ShopifyClient(shop, "2026-10", 5, httpx.MockTransport(answers))
    with pytest.raises(shopify.ShopifyRefused, match="Shopify grants no token"):
        client.call("{ shop { id } }", {})
    assert [client.call("{ shop { id } }", {}) for _ in range(3)] == [{}] * 3


def test_levels_are_read_in_parts_where_one_request_would_cost_too_much() -> None:
    asked: list[int] = []

    def answers(request: httpx.Request) -> httpx.Response:
        ids = json.loads(request.content)["variables"]["ids"]
        asked.append(len(ids))
        if len(ids) > 100:
            error = {"message": "Query cost is 1001", "extensions": {"code": "MAX_COST_EXCEEDED"}}
            return httpx.Response(200, json={"errors": [error]})
        item = {"id": "gid://shopify/InventoryItem/1"}
        nodes = [
            {
                "item": item,
                "location": {"id": id.partition("?")[0].replace("InventoryLevel", "Location")},
                "quantities": [{"name": "available", "quantity": 5}],
            }
            for id in ids
        ]
        return httpx.Response(200, json={"data": {"nodes": nodes}})

    shop = ShopSettings("SHOP", "http://shop", "token", None, None)
    client = shopify.ShopifyClient(shop, "2026-10", 5, httpx.MockTransport(answers))
    assert client.levels([(level, 1) for level in range(300)]) == {(1, level): 5 for level in range(300)}
    assert sorted(asked) == [50, 62, 62, 63, 63, 125, 125, 250]


def test_an_operation_that_is_not_known_yet_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shopify, "FIRST_POLL_SECONDS", 0.001)
    found = {
        **dict.fromkeys(("errorCode", "completedAt", "url", "partialDataUrl", "fileSize")),
        "id": "1",
        "status": "COMPLETED",
        "createdAt": "2026-11-27T12:00:00Z",
        "objectCount": "0",
    }
    answers = iter([None, found, None, None, None, None])
    shop = ShopSettings("SHOP", "http://shop", "token", None, None)
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json={"data": {"bulkOperation": next(answers)}}))
    client = shopify.ShopifyClient(shop, "2026-10", 5, transport)
    assert client.wait("1").file_size is None
    with pytest.raises(shopify.UnknownOperation, match="does not know the bulk operation 1"):
        client.wait("1")


def test_an_answer_of_another_api_version_stops_the_run(stocked: Place) -> None:
    stocked.simulator.faults.add(Fault("bulkOperationRunQuery", "other_version", value="2027-10"))
    result = stocked.run("hard_sync", shop="SHOP")
    assert not result.success
    assert "SHOPIFY_API_VERSION" in stocked.failure(result)


def test_skus_that_are_not_certain_are_counted_and_never_guessed(stocked: Place) -> None:
    shops = stocked.simulator.shops
    shops.add_item("SHOP", 901, "TEE-S")
    shops.add_item("SHOP", 902, "UNHEARD-OF")
    shops.add_item("SHOP", 903, "")
    shops.set_level("SHOP", 901, 7116, 50)
    result = stocked.run("hard_sync", shop="SHOP")
    assert result.success
    metadata = result.asset_materializations_for_node("shopify_shop_product")[0].metadata
    assert {k: v.value for k, v in metadata.items() if k.startswith("items_")} == {
        "items_unmatched": 4,
        "items_duplicate_sku": 2,
        "items_unknown_sku": 1,
        "items_no_sku": 1,
    }
    assert shops.level("SHOP", 901, 7116).available == 50
    assert shown(stocked)["TEE-S", 7116] == TARGETS["TEE-S", 7116] + 5
    stocked.write_reference(
        "shopify_shop_product", f"shop_id,product_id,shopify_inventory_item_id\nSHOP,10001,{item(stocked, 'TEE-S')}\n"
    )
    assert stocked.run("load_reference").success
    assert stocked.run("hard_sync", shop="SHOP").success
    assert shown(stocked) == TARGETS


@pytest.mark.parametrize(
    ("mode", "members", "published"),
    [
        ("exclude", ("BROOKLYN",), {7000, 7116}),
        ("include", ("BROOKLYN",), {7281}),
        ("include", ("BROOKLYN", "_NA_"), {7000, 7281}),
    ],
)
def test_a_publication_group_filters_locations_and_never_the_channel_number(
    stocked: Place, mode: str, members: tuple[str, ...], published: set[int]
) -> None:
    shop = f"shop_id,shop_domain,product_store_id,inventory_master,shopify_facility_group_mode\nSHOP,s,STORE,hotwax,{mode}\n"
    stocked.write_reference("shopify_shop", shop)
    groups = (stocked.reference_dir / "facility_group.csv").read_text()
    stocked.write_reference("facility_group", groups + "".join(f"ZONE,SHOPIFY_GROUP,{f},,\n" for f in members))
    assert stocked.run("load_reference").success
    config = {"hard_sync_delta": {"shopifyFacilityGroupId": "ZONE"}}
    assert stocked.run("hard_sync", config, shop="SHOP").success
    expected = {key: target + (0 if key[1] in published else 5) for key, target in TARGETS.items()}
    assert shown(stocked) == expected


def test_raw_numbers_are_published_without_safety_stock_threshold_and_floor(stocked: Place) -> None:
    with Warehouse().transaction() as connection:
        connection.execute(
            "insert into product_facility values ('10001','BROADWAY',4,null,null,1), ('10001','CONFIGURATION',3,null,null,1)"
        )
    assert stocked.run("hard_sync", shop="SHOP").success
    assert shown(stocked) == TARGETS | {("TEE-S", 7116): 2, ("TEE-S", 7000): 13}
    assert stocked.run("hard_sync", {"hard_sync_delta": {"useVaildATP": False}}, shop="SHOP").success
    assert shown(stocked) == TARGETS


def test_include_all_false_takes_only_what_moved_since_the_last_hard_sync(stocked: Place) -> None:
    assert stocked.run("hard_sync", shop="SHOP").success
    stocked.simulator.shops.set_available("SHOP", item(stocked, "TEE-L"), 7281, 77)
    stocked.put_reset("later.csv", HEADER + ",116,9,501\n")
    assert stocked.run("import_inventory").success
    assert stocked.run("hard_sync", {"hard_sync_delta": {"include_all": False}}, shop="SHOP").success
    assert shown(stocked) == TARGETS | {("TEE-S", 7116): 9, ("TEE-S", 7000): 23, ("TEE-L", 7281): 77}


def test_an_unknown_group_and_a_shop_of_another_master_are_said_in_words(stocked: Place) -> None:
    result = stocked.run("hard_sync", {"hard_sync_delta": {"facility_group_id": "NOWHERE"}}, shop="SHOP")
    assert "facility_group_id NOWHERE" in stocked.failure(result)
    assert "FAC_GRP" in stocked.failure(result)
    shop = "shop_id,shop_domain,product_store_id,inventory_master,shopify_facility_group_mode\nSHOP,s,STORE,shopify,\n"
    stocked.write_reference("shopify_shop", shop)
    assert stocked.run("load_reference").success
    assert "inventory_master shopify" in stocked.failure(stocked.run("hard_sync", shop="SHOP"))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (
            {"data": {"inventoryAdjustQuantities": {"inventoryAdjustmentGroup": {"id": "1"}, "userErrors": []}}},
            ("applied", None, ()),
        ),
        (
            {"data": {"inventoryAdjustQuantities": {"inventoryAdjustmentGroup": None, "userErrors": []}}},
            ("retryable", "NO_GROUP", ()),
        ),
        (
            {
                "data": {
                    "inventoryAdjustQuantities": {
                        "inventoryAdjustmentGroup": None,
                        "userErrors": [
                            {
                                "code": None,
                                "field": None,
                                "message": "The changeFromQuantity argument no longer matches the persisted quantity.",
                            }
                        ],
                    }
                }
            },
            ("stale", "The changeFromQuantity argument no longer matches the persisted quantity.", ()),
        ),
        (
            {
                "data": {
                    "inventoryAdjustQuantities": {
                        "userErrors": [
                            {
                                "code": "INVALID_LOCATION",
                                "field": ["input", "changes", "3", "locationId"],
                                "message": "",
                            }
                        ]
                    }
                }
            },
            ("permanent", "INVALID_LOCATION", (3,)),
        ),
        (
            {"data": {"inventoryAdjustQuantities": {"userErrors": [{"code": "NEW_CODE", "message": ""}]}}},
            ("unknown", "NEW_CODE", ()),
        ),
        (
            {
                "data": {
                    "inventoryAdjustQuantities": {
                        "userErrors": [
                            {"code": "NEW_CODE", "field": ["input", "changes", "1", "delta"], "message": ""},
                            {"code": "INVALID_LOCATION", "field": ["input", "changes", "3"], "message": ""},
                        ]
                    }
                }
            },
            ("unknown", "NEW_CODE", (1, 3)),
        ),
        (
            {
                "errors": [{"message": "Access denied", "extensions": {"code": "ACCESS_DENIED"}}],
                "data": {
                    "inventoryAdjustQuantities": {"inventoryAdjustmentGroup": {"id": "gid://1"}, "userErrors": []}
                },
            },
            ("applied", None, ()),
        ),
        ({"errors": [{"message": "Something new"}]}, ("unknown", "NO_PAYLOAD Something new", ())),
        ({"data": {"inventoryAdjustQuantities": None}}, ("unknown", "NO_PAYLOAD", ())),
        ({"data": None}, ("unknown", "NO_PAYLOAD", ())),
        ({}, ("unknown", "NO_PAYLOAD", ())),
        (
            {
                "errors": [{"message": "x", "extensions": {"code": "INVALID_FIELD_ARGUMENTS"}}],
                "data": {"inventoryAdjustQuantities": None},
            },
            ("permanent", "INVALID_FIELD_ARGUMENTS", ()),
        ),
    ],
)
def test_an_answer_to_a_line_means_what_is_certain_of_it(
    answer: dict[str, Any], expected: tuple[str, str | None, tuple[int, ...]]
) -> None:
    outcome, code, rows = expected
    assert classify(7, answer) == LineOutcome(7, Outcome(outcome), code, rows)
