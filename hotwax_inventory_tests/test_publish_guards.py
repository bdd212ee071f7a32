"""What keeps a delta from being sent, how a person sends it after all, and what becomes of an upload that was interrupted."""

from collections import Counter
from typing import Any

import dagster as dg
import httpx
import pytest

from hotwax_inventory.definitions import defs
from hotwax_inventory.publish import guards, settling
from hotwax_inventory.resources import Warehouse
from hotwax_inventory.simulator.faults import Fault
from hotwax_inventory.simulator.stock import Call
from hotwax_inventory_tests.conftest import REFERENCE, Place, failed_checks
from hotwax_inventory_tests.test_publish import TARGETS, calls, item, materialised, outcomes, show, shown, stocked
from hotwax_inventory_tests.test_publish_crashes import ended, publishing
from hotwax_inventory_tests.test_publish_recent import RECENT, reset, synced

__all__ = ["stocked", "synced"]


def sent(place: Place) -> int:
    return calls(place, "inventoryAdjustQuantities") + calls(place, "bulkOperationRunMutation")


@pytest.mark.parametrize("job", ["hard_sync", RECENT])
def test_a_token_without_a_scope_sends_nothing_and_says_which(synced: Place, job: str) -> None:
    before = sent(synced)
    reset(synced, "later", ("116", 9, "501"))
    synced.simulator.shops.scopes["SHOP"] = ("read_inventory",)
    result = synced.run(job, shop="SHOP")
    assert not result.success
    assert list(failed_checks(result)) == ["token_may_write"]
    assert "write_inventory" in failed_checks(result)["token_may_write"]
    upload = "hard_sync_upload" if job == "hard_sync" else "recent_change_upload"
    approved = materialised(synced, job, upload, approve=True)
    assert "write_inventory" in synced.failure(approved), "nobody can approve that"
    assert sent(synced) == before


def test_a_scope_to_write_is_one_to_read(synced: Place) -> None:
    reset(synced, "later", ("116", 9, "501"))
    synced.simulator.shops.scopes["SHOP"] = ("write_inventory", "read_products", "read_locations")
    synced.succeed(RECENT, shop="SHOP")
    assert shown(synced) == TARGETS | {("TEE-S", 7116): 9, ("TEE-S", 7000): 23}


def test_another_api_version_trips_a_check_and_nothing_is_sent(synced: Place) -> None:
    before = sent(synced)
    reset(synced, "later", ("116", 9, "501"))
    synced.simulator.faults.add(Fault("currentAppInstallation", "other_version", value="2027-10"))
    result = synced.run(RECENT, shop="SHOP")
    assert not result.success
    assert list(failed_checks(result)) == ["api_version_is_as_asked"]
    assert sent(synced) == before


@pytest.mark.parametrize(
    ("spoil", "check"),
    [
        ("update shopify_bulk_read set started_at = started_at - interval 1 day", "snapshot_is_recent"),
        ("update shopify_bulk_read set object_count = object_count + 1", "snapshot_is_complete"),
    ],
)
def test_a_snapshot_that_is_old_or_not_whole_is_not_pushed(stocked: Place, spoil: str, check: str) -> None:
    assert materialised(stocked, "hard_sync", "shopify_inventory_level", "shopify_shop_product").success
    with Warehouse().transaction() as connection:
        connection.execute(spoil)
    result = materialised(stocked, "hard_sync", "hard_sync_delta", "hard_sync_upload")
    assert not result.success
    assert list(failed_checks(result)) == [check]
    assert sent(stocked) == 0


@pytest.fixture
def held(synced: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A place where a recent delta is held, since it changes more than usual."""
    monkeypatch.setattr(guards, "GUARDED_LEVELS", 9)
    monkeypatch.setenv("SYNC_MAX_CHANGED_PERCENT", "20")
    reset(synced, "later", ("116", 9, "501"), ("281", 7, "502"))
    result = synced.run(RECENT, shop="SHOP")
    assert not result.success
    assert list(failed_checks(result)) == ["few_levels_change"]
    assert shown(synced) == TARGETS
    return synced


def test_a_person_sends_exactly_the_held_delta_once_and_is_on_record(held: Place) -> None:
    unapproved = materialised(held, RECENT, "recent_change_upload")
    assert "approve = true and sync_run_id = 2" in held.failure(unapproved)
    assert shown(held) == TARGETS
    held.succeed("report_worklist")
    ((said,),) = held.rows("select detail from worklist where kind = 'delta_held' and shop_id = 'SHOP'")
    assert "materialise recent_change_upload alone with approve = true" in said
    reset(held, "newer", ("116", 1, "503"))
    reset(held, "empty", ("116", 0, "501"))
    held.simulator.shops.set_available("SHOP", item(held, "TEE-M"), 7281, 1)  # which makes its whole line stale
    approval = materialised(held, RECENT, "recent_change_upload", tags={"user": "ann@example.com"}, approve=True)
    assert approval.success
    approved = {("TEE-S", 7116): 9, ("TEE-S", 7000): 23, ("TEE-M", 7281): 7, ("TEE-M", 7000): 27}
    assert shown(held) == TARGETS | approved
    assert held.rows(
        "select approved_by_run, approved_by, approved_at <= current_timestamp from sync_run where sync_run_id = 2"
    ) == [(approval.run_id, "ann@example.com", True)]
    assert held.rows("from worklist where kind = 'delta_held'") == []
    again = materialised(held, RECENT, "recent_change_upload", approve=True)
    assert "was sent before" in held.failure(again)


def test_a_delta_that_was_overtaken_is_refused_even_with_approval(held: Place) -> None:
    materialised(held, "hard_sync", "shopify_inventory_level", "shopify_shop_product", "hard_sync_delta")
    assert held.rows("select job from sync_run order by sync_run_id desc limit 1") == [("hard_sync",)]
    before = sent(held)
    refused = materialised(held, RECENT, "recent_change_upload", approve=True)
    assert "overtaken" in held.failure(refused)
    assert sent(held) == before


def test_a_delta_that_others_have_overtaken_is_not_taken_for_the_one_that_was_read(held: Place) -> None:
    reset(held, "newer", ("116", 1, "503"))
    assert not held.run(RECENT, shop="SHOP").success
    refused = materialised(held, RECENT, "recent_change_upload", approve=True, sync_run_id=2)
    assert "has overtaken delta 2" in held.failure(refused)
    for nowhere in (1, 99):  # the hard sync's, and none at all
        refused = materialised(held, RECENT, "recent_change_upload", approve=True, sync_run_id=nowhere)
        assert f"SHOP has no delta {nowhere} of {RECENT}" in held.failure(refused)
    assert shown(held) == TARGETS
    assert materialised(held, RECENT, "recent_change_upload", approve=True, sync_run_id=3).success
    assert shown(held)["TEE-L", 7116] == 1


def test_a_held_hard_sync_stays_on_the_list_until_another_has_looked(
    synced: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guards, "GUARDED_LEVELS", 9)
    monkeypatch.setenv("SYNC_MAX_CHANGED_PERCENT", "30")
    show(synced, 5)
    assert not synced.run("hard_sync", shop="SHOP").success
    reset(synced, "later", ("116", 9, "501"))
    synced.succeed(RECENT, shop="SHOP")

    def listed() -> list[str]:
        synced.succeed("report_worklist")
        return [text for (text,) in synced.rows("select what_to_do from worklist where kind = 'delta_held'")]

    (what_to_do,) = listed()
    assert what_to_do.startswith("Materialise hard_sync_delta again")
    materialised(synced, "hard_sync", "shopify_inventory_level", "shopify_shop_product", "hard_sync_delta")
    assert [text.startswith("Read it. Send it") for text in listed()] == [True]
    assert materialised(synced, "hard_sync", "hard_sync_upload", approve=True).success
    assert listed() == []


def test_a_shop_that_has_become_master_of_its_stock_gets_nothing_that_was_held(held: Place) -> None:
    held.write_reference("shopify_shop", REFERENCE["shopify_shop"].replace("hotwax,", "shopify,"))
    held.succeed("load_reference")
    refused = materialised(held, RECENT, "recent_change_upload", approve=True)
    assert "has inventory_master shopify" in held.failure(refused)
    assert shown(held) == TARGETS


@pytest.mark.parametrize(
    ("table", "was", "now"),
    [
        ("shopify_shop_location", "SHOP,BROADWAY,7116\n", ""),
        ("product", "10001,TEE-S,", "10001,TEE-X,"),
    ],
)
def test_a_delta_by_another_mapping_is_not_sent(held: Place, table: str, was: str, now: str) -> None:
    assert was in REFERENCE[table]
    held.write_reference(table, REFERENCE[table].replace(was, now))
    held.succeed("load_reference")
    refused = materialised(held, RECENT, "recent_change_upload", approve=True, sync_run_id=2)
    assert "mapped otherwise" in held.failure(refused)
    assert shown(held) == TARGETS


def test_a_delta_that_was_left_for_a_day_is_sent_on_approval_alone(stocked: Place) -> None:
    assert materialised(
        stocked, "hard_sync", "shopify_inventory_level", "shopify_shop_product", "hard_sync_delta"
    ).success
    stocked.rows("update sync_run set observed_at = observed_at - interval 1 day")
    refused = materialised(stocked, "hard_sync", "hard_sync_upload")
    assert "SYNC_MAX_SNAPSHOT_MINUTES" in stocked.failure(refused)
    assert sent(stocked) == 0
    assert materialised(stocked, "hard_sync", "hard_sync_upload", tags={"user": "ann"}, approve=True).success
    assert shown(stocked) == TARGETS
    assert stocked.rows("select approved_by from sync_run") == [("ann",)]


def test_too_many_levels_going_to_zero_are_held(synced: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards, "GUARDED_LEVELS", 9)
    reset(synced, "later", ("116", 0, "501"))
    # what a dry run looks at, three levels, is not what the shop has
    materialised(synced, "hard_sync", "hard_sync_delta", shopify_facility_group_id="FAC_GRP")
    for job in (RECENT, "hard_sync"):
        result = synced.run(job, shop="SHOP")
        assert list(failed_checks(result)) == ["few_levels_go_to_zero"]
    assert shown(synced) == TARGETS


def test_a_restock_is_not_a_shops_first_sync(synced: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards, "GUARDED_LEVELS", 1)
    monkeypatch.setenv("SYNC_MAX_ZEROED_PERCENT", "100")
    synced.rows("update sync_run set job = 'schedule_restock'")
    for (sku, location), quantity in TARGETS.items():
        synced.simulator.shops.set_available("SHOP", item(synced, sku), location, quantity + 5)
    synced.succeed("hard_sync", shop="SHOP")
    assert shown(synced) == TARGETS


def test_a_shops_first_recent_sync_is_held_by_its_share_of_the_levels_that_are_ours(
    stocked: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guards, "GUARDED_LEVELS", len(TARGETS))
    shops = stocked.simulator.shops
    for number in range(901, 941):
        shops.add_item("SHOP", number, f"OTHERS-{number}")
        shops.set_level("SHOP", number, 7116, 1)
    reset(stocked, "later", ("116", 0, "501"))
    result = stocked.run(RECENT, shop="SHOP")
    assert list(failed_checks(result)) == ["few_levels_go_to_zero"]
    assert sent(stocked) == 0


def test_a_shops_first_recent_sync_is_not_held_for_what_has_not_moved(stocked: Place) -> None:
    shops = stocked.simulator.shops
    shops.add_item("SHOP", 901, "OTHERS")
    shops.set_level("SHOP", 901, 7116, 1)
    stocked.succeed(RECENT, shop="SHOP")
    assert {key: quantity for key, quantity in shown(stocked).items() if key[0] != "OTHERS"} == TARGETS


def adjusted_once(place: Place) -> bool:
    levels = [(a.item_id, a.location_id) for a in place.simulator.shops.adjustments("SHOP") if a.source == "adjust"]
    return len(levels) == len(set(levels)) == len(TARGETS)


@pytest.mark.parametrize("mode", ["shopify", pytest.param("last_published", marks=pytest.mark.long)])
@pytest.mark.parametrize(
    ("fault", "limit"),
    [
        (Fault("inventoryAdjustQuantities", "reset_after", at_call=0), "1000"),
        (Fault("inventoryAdjustQuantities", "html", at_call=4, times=100), "1000"),
        (Fault("inventoryAdjustQuantities", "truncated_json", at_call=2, times=100), "1000"),
        (Fault("stagedUploadsCreate", "http_503", at_call=0), "0"),
        (Fault("bulkOperationRunMutation", "reset_after", at_call=0), "0"),
    ],
    ids=lambda value: f"{value.where}-{value.kind}" if isinstance(value, Fault) else value,
)
def test_a_run_after_one_that_lost_shopify_brings_its_delta_to_the_end(
    stocked: Place, monkeypatch: pytest.MonkeyPatch, fault: Fault, limit: str, mode: str
) -> None:
    monkeypatch.setenv("DIRECT_PUSH_LIMIT", limit)
    monkeypatch.setenv("SHOPIFY_DEADLINE_SECONDS", "1")
    config = {"difference_from": mode, "changes_per_line": 1}
    stocked.simulator.faults.add(fault)
    assert not stocked.run("hard_sync", {"hard_sync_delta": config}, shop="SHOP").success
    assert stocked.rows("select status_id from sync_run") == [("unfinished",)]
    stocked.simulator.faults.clear()
    monkeypatch.setenv("SHOPIFY_DEADLINE_SECONDS", "20")
    assert stocked.run(RECENT, shop="SHOP").success
    assert shown(stocked) == TARGETS
    assert adjusted_once(stocked)
    assert stocked.rows("select status_id from sync_run") == [("finished",)]
    assert stocked.rows("select distinct outcome from sync_change") == [("applied",)]


def silent_from(call: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every HTTP call from the nth on be lost: the nth on its way back, the others on their way there."""
    sending, made = httpx.Client.send, 0

    def lost(client: httpx.Client, request: httpx.Request, **named: Any) -> httpx.Response:
        nonlocal made
        made += 1
        if made > call:
            raise httpx.ConnectError("silence", request=request)
        response = sending(client, request, **named)
        if made == call:
            raise httpx.ReadError("cut off", request=request)
        return response

    monkeypatch.setattr(httpx.Client, "send", lost)


@pytest.mark.parametrize("limit", ["0", "1000"], ids=["bulk", "direct"])
@pytest.mark.parametrize(
    "call", [9, *(pytest.param(n, marks=pytest.mark.soak) for n in (*range(1, 9), *range(10, 19)))]
)
def test_whenever_shopify_falls_silent_the_next_run_ends_where_one_run_would(
    stocked: Place, monkeypatch: pytest.MonkeyPatch, call: int, limit: str
) -> None:
    monkeypatch.setenv("DIRECT_PUSH_LIMIT", limit)
    monkeypatch.setenv("SHOPIFY_DEADLINE_SECONDS", "1")
    with monkeypatch.context() as silence:
        silent_from(call, silence)
        stocked.run("hard_sync", {"hard_sync_delta": {"changes_per_line": 2}}, shop="SHOP")
    monkeypatch.setenv("SHOPIFY_DEADLINE_SECONDS", "20")
    assert stocked.run("hard_sync", {"hard_sync_delta": {"changes_per_line": 2}}, shop="SHOP").success
    assert shown(stocked) == TARGETS
    assert adjusted_once(stocked)


@pytest.mark.parametrize("mode", ["shopify", "last_published"])
@pytest.mark.parametrize("call", [4, *(pytest.param(n, marks=pytest.mark.soak) for n in (1, 2, 3, 5, 6, 7, 8))])
def test_whenever_shopify_falls_silent_the_next_recent_run_sends_the_rest(
    synced: Place, monkeypatch: pytest.MonkeyPatch, call: int, mode: str
) -> None:
    config = {"recent_change_delta": {"changes_per_line": 1, "difference_from": mode}}
    reset(synced, "later", ("116", 9, "501"))
    adjusted = len(synced.simulator.shops.adjustments("SHOP"))
    monkeypatch.setenv("SHOPIFY_DEADLINE_SECONDS", "1")
    with monkeypatch.context() as silence:
        silent_from(call, silence)
        synced.run(RECENT, config, shop="SHOP")
    monkeypatch.setenv("SHOPIFY_DEADLINE_SECONDS", "20")
    assert synced.run(RECENT, config, shop="SHOP").success
    assert shown(synced) == TARGETS | {("TEE-S", 7116): 9, ("TEE-S", 7000): 23}
    assert len(synced.simulator.shops.adjustments("SHOP")) == adjusted + 2


def test_a_small_cost_bucket_only_makes_the_sync_slower(stocked: Place) -> None:
    stocked.simulator.shops.set_bucket("SHOP", 30, 15)
    assert stocked.run("hard_sync", {"hard_sync_delta": {"changes_per_line": 1}}, shop="SHOP").success
    assert shown(stocked) == TARGETS
    assert adjusted_once(stocked)


def interrupt(place: Place, monkeypatch: pytest.MonkeyPatch, kind: str, **config: Any) -> None:
    """A hard sync that loses Shopify, from its first line on."""
    monkeypatch.setenv("SHOPIFY_DEADLINE_SECONDS", "1")
    place.simulator.faults.add(Fault("inventoryAdjustQuantities", kind, at_call=0))
    assert not place.run("hard_sync", {"hard_sync_delta": config}, shop="SHOP").success
    place.simulator.faults.clear()


def test_what_was_sent_longer_ago_than_shopify_keeps_keys_is_decided_by_its_levels(
    stocked: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(stocked, monkeypatch, "reset_after", changes_per_line=5)
    with Warehouse().transaction() as connection:
        connection.execute("update sync_file set sent_at = sent_at - interval 2 days")
    edited = item(stocked, "TEE-S"), 7116
    stocked.simulator.shops.set_available("SHOP", *edited, 50)
    assert stocked.run(RECENT, shop="SHOP").success
    assert shown(stocked) == TARGETS
    adjusted = Counter(
        (a.item_id, a.location_id) for a in stocked.simulator.shops.adjustments("SHOP") if a.source == "adjust"
    )
    assert adjusted.pop(edited) == 2, "what was worked, and the new decision after the edit"
    assert list(adjusted.values()) == [1] * (len(TARGETS) - 1)


def test_what_an_interrupted_delta_did_not_mean_is_for_one_with_guards_of_its_own(
    stocked: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(stocked, monkeypatch, "http_503")
    with Warehouse().transaction() as connection:
        connection.execute("update sync_file set sent_at = sent_at - interval 2 days")
    monkeypatch.setattr(guards, "GUARDED_LEVELS", 9)
    reset(stocked, "empty", ("116", 0, "501"))
    result = stocked.run(RECENT, shop="SHOP")
    assert "few_levels_go_to_zero" in failed_checks(result)
    overtaken = {("TEE-S", 7116): 11, ("TEE-S", 7000): 25}
    assert shown(stocked) == TARGETS | overtaken, "as they were; all others are what the first delta meant"
    assert stocked.rows(
        "select outcome, error_code, count(*) from sync_change where sync_run_id = 1 group by all order by 3"
    ) == [
        ("contested", "OVERTAKEN", 2),
        ("applied", None, 7),
    ]


def test_a_delta_made_while_another_was_interrupted_is_not_sent_alone(
    stocked: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(stocked, monkeypatch, "http_503")
    before = sent(stocked)
    assert materialised(stocked, "hard_sync", "hard_sync_delta").success
    assert sent(stocked) == before, "it is a dry run"
    assert "interrupted" in stocked.failure(materialised(stocked, "hard_sync", "hard_sync_upload"))
    assert stocked.run("hard_sync", shop="SHOP").success
    assert shown(stocked) == TARGETS


def hard_sync() -> dg.JobDefinition:
    return defs.resolve_job_def("hard_sync")


def test_a_retry_of_a_failed_run_brings_the_same_delta_to_its_end(
    stocked: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOPIFY_DEADLINE_SECONDS", "1")
    stocked.simulator.faults.add(Fault("inventoryAdjustQuantities", "reset_after", at_call=0))
    job, shop_tag = dg.reconstructable(hard_sync), {"dagster/partition": "SHOP"}
    with dg.instance_for_test() as instance:
        instance.add_dynamic_partitions("shop", ["SHOP"])
        with dg.execute_job(job, instance, tags=shop_tag) as failed:
            assert not failed.success
        stocked.simulator.faults.clear()
        again = dg.ReexecutionOptions.from_failure(failed.run_id, instance)
        with dg.execute_job(job, instance, tags=shop_tag, reexecution_options=again) as retried:
            assert retried.success
            steps = {event.step_key for event in retried.all_events if event.is_step_success}
    assert steps == {"hard_sync_upload", "sync_verification", "inventory_drift"}
    assert shown(stocked) == TARGETS
    assert adjusted_once(stocked)
    assert stocked.rows("select sync_run_id, status_id from sync_run") == [(1, "finished")]


def test_a_line_that_is_refused_without_a_reason_for_a_row_is_parted(stocked: Place) -> None:
    stocked.simulator.faults.add(Fault("inventoryAdjustQuantities", "user_error", value="ADJUST_QUANTITIES_FAILED"))
    assert stocked.run("hard_sync", shop="SHOP").success
    assert calls(stocked, "inventoryAdjustQuantities") == 3
    assert outcomes(stocked) == {"applied": 9}


def test_a_level_that_others_keep_moving_is_contested_and_holds_up_no_other(
    stocked: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    tee, started = item(stocked, "TEE-S"), stocked.simulator.shops.log_call

    def sell_after_every_reading(call: Call) -> None:
        if call.root_field in ("currentAppInstallation", "nodes"):
            stocked.simulator.shops.sell("SHOP", tee, 7116, 1)
        started(call)

    with monkeypatch.context() as strangers:
        strangers.setattr(stocked.simulator.shops, "log_call", sell_after_every_reading)
        result = stocked.run("hard_sync", shop="SHOP")
    assert "10001 at BROADWAY: contested" in stocked.failure(result)
    assert outcomes(stocked) == {"applied": 8, "contested": 1}
    sold = [a.delta for a in stocked.simulator.shops.adjustments("SHOP") if a.source == "sale"]
    assert shown(stocked) == TARGETS | {("TEE-S", 7116): TARGETS["TEE-S", 7116] + 5 + sum(sold)}, (
        "nothing of theirs is undone"
    )
    assert len(sold) > settling.ROUNDS
    stocked.succeed("hard_sync", shop="SHOP")
    assert shown(stocked) == TARGETS


def test_a_failing_shop_does_not_delay_another(stocked: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    shops = "shop_id,shop_domain,product_store_id,inventory_master,shopify_facility_group_mode\n"
    stocked.write_reference("shopify_shop", shops + "SHOP,a,STORE,hotwax,\nOUTLET,b,STORE,hotwax,\n")
    stocked.write_reference("shopify_shop_location", "shop_id,facility_id,shopify_location_id\nSHOP,BROADWAY,7116\n")
    assert stocked.run("load_reference").success
    stocked.simulator.shops.add_shop("OUTLET")
    stocked.simulator.faults.add(Fault("bulkOperationRunQuery", "http_503", at_call=0, only="OUTLET"))
    for name in ("URL", "ACCESS_TOKEN"):
        value = stocked.simulator.environment()[f"SHOPIFY_SHOP_{name}"]
        monkeypatch.setenv(f"SHOPIFY_OUTLET_{name}", value.replace("/SHOP", "/OUTLET"))
    # of its own, since two runs in the threads of one process fall over Dagster's logging
    other = publishing("hard_sync", shop="OUTLET")
    assert stocked.run("hard_sync", shop="SHOP").success
    assert shown(stocked)["TEE-S", 7116] == TARGETS["TEE-S", 7116]
    assert other.is_alive(), "the other shop is waited for still"
    stocked.simulator.faults.clear()
    assert ended(other) == 0
