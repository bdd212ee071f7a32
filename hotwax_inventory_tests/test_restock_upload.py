"""A launch: Shopify shows the stock at its moment, neither before nor long after; what fails is published later, never twice."""

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import httpx
import pytest
from filelock import FileLock

from hotwax_inventory import shopify_documents
from hotwax_inventory.automation.sensors import schedule_restock_due
from hotwax_inventory.definitions import defs
from hotwax_inventory.ledger import receiving
from hotwax_inventory.publish import decisions, launch, settling
from hotwax_inventory.resources import Warehouse
from hotwax_inventory.shopify import ShopifyClient, ShopifyUnavailable
from hotwax_inventory.simulator.faults import Fault
from hotwax_inventory_tests.conftest import Place
from hotwax_inventory_tests.dagster_dev import until
from hotwax_inventory_tests.test_crashes import OWNERS, PROCESSES, Point, _arm, ended, told
from hotwax_inventory_tests.test_feeds import RESTOCK, RESTOCKS
from hotwax_inventory_tests.test_publish import HEADER, STOCK, TARGETS, item, materialised, shown
from hotwax_inventory_tests.test_publish_crashes import assert_what_is_recorded_is_what_happened
from hotwax_inventory_tests.test_publish_properties import Level
from hotwax_inventory_tests.test_publish_recent import RECENT

JOB = "schedule_restock"
UNITS = 100
# When the stock was counted that is there at first.
OPENED = datetime(2024, 3, 5, tzinfo=UTC)
SKUS = {"TEE-S": "501", "TEE-M": "502", "TEE-L": "503"}
# After the moment Shopify shows the stock within so many seconds.
PROMISED_SECONDS = 2.0
# So long before the moment the runs of these tests begin.
LEAD_SECONDS = 7.0
OWNERS |= {"launch": launch}


class Journal:
    """When the simulated shops applied a change of ours, to the microsecond."""

    def __init__(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        self.applied: dict[str, list[datetime]] = {}
        self.changes: Counter[str] = Counter()
        shops = place.simulator.shops
        apply = shops.apply

        def noted(shop_id: str, changes: Any, **named: Any) -> None:
            changes = list(changes)
            apply(shop_id, changes, **named)
            if named["source"] == "adjust":
                self.applied.setdefault(shop_id, []).append(datetime.now(UTC))
                self.changes[shop_id] += len(changes)

        monkeypatch.setattr(shops, "apply", noted)

    def assert_on_time(self, shop_id: str, moment: datetime) -> None:
        assert min(self.applied[shop_id]) >= moment
        assert max(self.applied[shop_id]) <= moment + timedelta(seconds=PROMISED_SECONDS)


@pytest.fixture
def place(empty_place: Place, kept: Path) -> Place:
    """A place whose shop was read and shows what we promise, and where a restock waits."""
    shops, warehouse = empty_place.simulator.shops, kept / "launch.duckdb"
    is_first = not warehouse.exists()
    for (sku, location), target in TARGETS.items():
        shops.set_level("SHOP", item(empty_place, sku), location, target + 5 * is_first)

    def prepare() -> None:
        empty_place.succeed("load_reference")
        empty_place.put_reset("reset.csv", HEADER + STOCK, OPENED)
        empty_place.succeed("import_inventory")
        empty_place.succeed("hard_sync", shop="SHOP")
        rows = "".join(f"{sku},{UNITS},2099-01-01T00:00:00Z,Broadway,STORE,Demo,Launch\n" for sku in SKUS)
        empty_place.put(f"{RESTOCKS}/r.csv", RESTOCK + rows)
        empty_place.succeed("import_scheduled_restock")

    empty_place.begin_with(warehouse, prepare)
    if is_first:
        with duckdb.connect(str(warehouse)) as connection:
            connection.execute("delete from sync_change")  # which the shops of the other tests do not know of
    return empty_place


def schedule(seconds: float) -> None:
    """Put every restock to so many seconds from now."""
    with Warehouse().transaction() as connection:
        moment = datetime.now(UTC) + timedelta(seconds=seconds)
        connection.execute("update shipment set scheduled_at = $moment", {"moment": moment})


def launch_in(seconds: float, patch: Callable[[Any, str, Any], None]) -> None:
    """Let the moment be so many seconds after the run has begun to look for what is due, however long its start takes."""
    look, looks = receiving.due_shipments, count()

    def scheduled_first(warehouse: Warehouse, until: datetime) -> Any:
        if next(looks) == 0:
            schedule(seconds)
        return look(warehouse, until)

    patch(receiving, "due_shipments", scheduled_first)


def moment_of(place: Place) -> datetime:
    ((moment,),) = place.rows("select distinct scheduled_at from shipment")
    return moment


LAUNCHED = {(sku, location): quantity + UNITS * (location != 7281) for (sku, location), quantity in TARGETS.items()}


def restocked(place: Place) -> bool:
    return place.stock()["10001", "BROADWAY"] == (TARGETS["TEE-S", 7116] + UNITS,) * 2


def slow(place: Place, seconds: float = 0.2) -> None:
    """Let every call take as long as Shopify's."""
    for root_field in ("nodes", "currentAppInstallation", "inventoryAdjustQuantities"):
        place.simulator.faults.add(Fault(root_field, "delay", at_call=0, value=seconds))


def test_a_launch_is_shown_at_its_moment_and_not_before(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    slow(place)
    journal = Journal(place, monkeypatch)
    launch_in(LEAD_SECONDS, monkeypatch.setattr)
    place.succeed(JOB)
    moment = moment_of(place)
    journal.assert_on_time("SHOP", moment)
    assert shown(place) == LAUNCHED
    assert journal.changes["SHOP"] == 6
    assert place.rows("select distinct received_at from shipment_receipt") == [(moment,)]
    place.succeed(RECENT, shop="SHOP")
    place.succeed(JOB)
    assert place.rows("select job, change_count from sync_run where sync_run_id > 1") == [(JOB, 6), (RECENT, 0)]


def publish_alone(place: Place, **config: Any) -> dg.ExecuteInProcessResult:
    return defs.resolve_job_def(JOB).execute_in_process(
        instance=place.instance,
        asset_selection=[dg.AssetKey("restock_upload")],
        run_config={"ops": {"restock_upload": {"config": config}}} if config else {},
        raise_on_error=False,
    )


def test_what_shopify_did_not_take_is_received_and_published_by_a_retry(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOPIFY_DEADLINE_SECONDS", "1")
    schedule(-3600)
    place.simulator.faults.add(Fault("currentAppInstallation", "http_503", at_call=0))
    result = place.run(JOB)
    assert not result.success
    assert "What was received stays so. Materialise restock_upload alone" in place.failure(result)
    assert restocked(place)
    assert shown(place) == TARGETS
    place.simulator.faults.clear()
    assert publish_alone(place).success
    assert shown(place) == LAUNCHED
    assert restocked(place)
    made = len(place.simulator.shops.calls)
    assert publish_alone(place).success
    assert len(place.simulator.shops.calls) == made, "nothing is left to publish"


def test_what_shopify_never_answered_is_published_by_a_retry_too(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = ShopifyClient.answer

    def unanswered(client: ShopifyClient, document: str, variables: dict[str, Any]) -> dict[str, Any]:
        if document == shopify_documents.ADJUST:
            raise ShopifyUnavailable("cut")
        return answer(client, document, variables)

    schedule(-3600)
    with monkeypatch.context() as cut:
        cut.setattr(settling, "PAUSE_SECONDS", 0)
        cut.setattr(ShopifyClient, "answer", unanswered)
        assert not place.run(JOB).success
    assert publish_alone(place).success
    assert shown(place) == LAUNCHED


def test_what_others_keep_moving_is_published_without_what_has_been_sold_beside_it(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule(-3600)
    shops, answer = place.simulator.shops, ShopifyClient.answer
    tee_s, tee_m, moves = item(place, "TEE-S"), item(place, "TEE-M"), count()
    last = decisions.ROUNDS

    def moved_meanwhile(client: ShopifyClient, document: str, variables: dict[str, Any]) -> dict[str, Any]:
        if document == shopify_documents.ADJUST and any(
            change["inventoryItemId"].endswith(f"/{tee_s}") and change["locationId"].endswith("/7116")
            for change in variables["input"]["changes"]
        ):
            move = next(moves)
            if move <= last:
                shops.sell("SHOP", tee_s, 7116, 1)
            if move == last:
                shops.sell("SHOP", tee_m, 7116, 3)
        return answer(client, document, variables)

    monkeypatch.setattr(ShopifyClient, "answer", moved_meanwhile)
    place.succeed(JOB)
    assert place.rows("select count(*) > 0 from sync_change where outcome = 'contested'") == [(True,)]
    assert shown(place) == LAUNCHED | {("TEE-M", 7116): LAUNCHED["TEE-M", 7116] - 3}


@pytest.mark.parametrize("seconds", [-60.0, LEAD_SECONDS], ids=["late", "in time"])
def test_stock_is_received_at_its_moment_whatever_keeps_it_from_being_published(
    place: Place, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    with monkeypatch.context() as mistyped:
        mistyped.setenv("SYNC_MAX_CHANGED_PERCENT", "30%")
        launch_in(seconds, mistyped.setattr)
        assert "SYNC_MAX_CHANGED_PERCENT" in place.failure(place.run(JOB))
    ((received_at,),) = place.rows("select distinct received_at from shipment_receipt")
    assert restocked(place)
    assert received_at >= moment_of(place)
    assert shown(place) == TARGETS
    assert publish_alone(place).success
    assert shown(place) == LAUNCHED


def test_a_run_does_not_wait_for_the_shop_that_it_holds_itself(place: Place) -> None:
    schedule(-3600)
    receive = [dg.AssetKey(asset) for asset in ("shipment_receipt", "inventory_item_detail", "inventory_item")]
    defs.resolve_job_def(JOB).execute_in_process(instance=place.instance, asset_selection=receive)
    result = defs.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=place.instance,
        asset_selection=[dg.AssetKey("hard_sync_delta"), dg.AssetKey("restock_upload")],
        tags={"dagster/partition": "SHOP"},
    )
    assert result.success
    assert shown(place) == LAUNCHED


def test_a_run_that_waits_for_a_shop_holds_up_no_later_restock(place: Place) -> None:
    schedule(-60)

    def asked() -> Any:
        with dg.build_sensor_context(instance=place.instance) as context:
            return schedule_restock_due(context)

    with FileLock(place.home / "outbox" / "SHOP.lock", thread_local=False):
        run = threading.Thread(target=place.run, args=(JOB,))
        run.start()
        until(lambda: restocked(place), "the first is received")
        place.rows(
            "update shipment set status_id = 'PURCH_SHIP_CREATED' where shipment_id = (select min(shipment_id) from shipment)"
        )
        until(lambda: isinstance(asked(), dg.RunRequest), "the next is asked for")
        assert run.is_alive()
        retry = place.instance.create_run_for_job(
            defs.resolve_job_def(JOB).get_subset(asset_selection={dg.AssetKey("restock_upload")}),
            asset_selection=frozenset([dg.AssetKey("restock_upload")]),
            status=dg.DagsterRunStatus.STARTED,
        )
        assert isinstance(asked(), dg.RunRequest), "a retry that only publishes receives nothing"
        place.instance.report_run_canceled(retry)
    run.join()


def test_a_restock_that_is_put_forward_while_a_run_waits_has_its_turn(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.put(f"{RESTOCKS}/earlier.csv", f"{RESTOCK}TEE-S,7,2099-02-01T00:00:00Z,Broadway,STORE,Demo,Earlier\n")
    place.succeed("import_scheduled_restock")
    monkeypatch.setattr(receiving, "PREPARE_SECONDS", 0.5)
    monkeypatch.setattr(receiving, "LOOK_SECONDS", 0.1)
    look, looks = receiving.due_shipments, count()

    def put_forward(warehouse: Warehouse, until: datetime) -> Any:
        seconds = {0: ("Launch", 5), 1: ("Earlier", 1)}.get(next(looks))
        if seconds:
            place.rows(
                "update shipment set scheduled_at = $at where name = $name",
                at=datetime.now(UTC) + timedelta(seconds=seconds[1]),
                name=seconds[0],
            )
        return look(warehouse, until)

    monkeypatch.setattr(receiving, "due_shipments", put_forward)
    materialised(place, JOB, "shipment_receipt")
    received = "select name, scheduled_at, max(received_at) from shipment join shipment_receipt using (shipment_id) group by all"
    found = {name: times for name, *times in place.rows(received)}
    (earlier_at, earlier), (launch_at, launched) = found["Earlier"], found["Launch"]
    assert earlier_at <= earlier < launch_at <= launched


def test_what_is_late_is_shown_before_the_run_waits_for_the_next_moment(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = "TEE-S,{},2099-02-01T00:00:00Z,Broadway,STORE,Demo,{}\n"
    place.put(f"{RESTOCKS}/others.csv", RESTOCK + row.format(7, "Overdue") + row.format(9, "Soon after"))
    place.succeed("import_scheduled_restock")
    look, looks = receiving.due_shipments, count()

    def scheduled_first(warehouse: Warehouse, until: datetime) -> Any:
        if next(looks) == 0:
            now = datetime.now(UTC)
            for name, seconds in (
                ("Overdue", -60),
                ("Launch", LEAD_SECONDS),
                ("Soon after", LEAD_SECONDS + 1),
                ("Last", 12),
            ):
                moment = now + timedelta(seconds=seconds)
                place.rows("update shipment set scheduled_at = $moment where name = $name", moment=moment, name=name)
        return look(warehouse, until)

    place.put(f"{RESTOCKS}/last.csv", RESTOCK + row.format(1, "Last"))
    place.succeed("import_scheduled_restock")
    monkeypatch.setattr(receiving, "due_shipments", scheduled_first)
    place.succeed(JOB)
    moments = dict(place.rows("select name, scheduled_at from shipment"))
    sent = place.rows(
        "select max(decided_at) from sync_change join sync_run using (sync_run_id) where job = $job "
        "group by sync_run_id order by sync_run_id",
        job=JOB,
    )
    (overdue_shown_at,), *others = sent
    assert overdue_shown_at < moments["Launch"]
    for (shown_at,), name in zip(others, ("Launch", "Soon after", "Last"), strict=True):
        assert shown_at - moments[name] <= timedelta(seconds=PROMISED_SECONDS), name
    assert shown(place)["TEE-S", 7116] == LAUNCHED["TEE-S", 7116] + 7 + 9 + 1


def test_a_restock_whose_moment_has_passed_is_late_but_done(place: Place) -> None:
    schedule(-7200)
    place.succeed(JOB)
    assert shown(place) == LAUNCHED
    ((received_at,),) = place.rows("select distinct received_at from shipment_receipt")
    assert received_at > moment_of(place), "it takes effect when it is received"


def test_a_sale_between_reading_and_the_moment_stands(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(place, monkeypatch)
    reading = launch.read_live
    launch_in(LEAD_SECONDS, monkeypatch.setattr)

    def sold_after(*arguments: Any) -> Any:
        live = reading(*arguments)
        place.simulator.shops.sell("SHOP", item(place, "TEE-S"), 7116, 2)
        return live

    monkeypatch.setattr(launch, "read_live", sold_after)
    place.succeed(JOB, {"restock_upload": {"difference_from": "last_published"}})
    assert min(journal.applied["SHOP"]) >= moment_of(place)
    assert shown(place) == LAUNCHED | {("TEE-S", 7116): LAUNCHED["TEE-S", 7116] - 2}


def test_a_shop_shows_a_restock_as_its_syncs_publish_it(place: Place) -> None:
    groups = (place.reference_dir / "facility_group.csv").read_text()
    place.write_reference("facility_group", f"{groups}LEFT_OUT,OTHER,BROOKLYN,2024-01-01,\n")
    place.succeed("load_reference")
    published = {"difference_from": "last_published", "shopify_facility_group_id": "LEFT_OUT"}
    place.succeed("hard_sync", {"hard_sync_delta": published}, "SHOP")
    place.simulator.shops.sell("SHOP", item(place, "TEE-S"), 7116, 2)
    place.simulator.shops.set_available("SHOP", item(place, "TEE-S"), 7281, 55)
    schedule(-60)
    place.succeed(JOB)
    own = {("TEE-S", 7116): LAUNCHED["TEE-S", 7116] - 2, ("TEE-S", 7281): 55}
    assert shown(place) == LAUNCHED | own
    assert place.succeed("hard_sync", {"hard_sync_delta": published}, "SHOP")
    assert shown(place) == LAUNCHED | own


def test_a_restock_that_came_after_the_reading_is_published_too(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(place, monkeypatch)
    with Warehouse().transaction() as connection:
        connection.execute("update shipment_item set shipment_id = 'RS-2' where product_id = '10001'")
    reading = launch.read_live
    launch_in(LEAD_SECONDS, monkeypatch.setattr)

    def joined_after(*arguments: Any) -> Any:
        live = reading(*arguments)
        with Warehouse().transaction() as connection:
            connection.execute("insert into shipment by name select * replace ('RS-2' as shipment_id) from shipment")
        return live

    monkeypatch.setattr(launch, "read_live", joined_after)
    place.succeed(JOB)
    assert min(journal.applied["SHOP"]) >= moment_of(place)
    assert shown(place) == LAUNCHED
    assert journal.changes["SHOP"] == 6
    assert place.rows("select change_count from sync_run where job = $job order by sync_run_id", job=JOB) == [
        (4,),
        (2,),
    ]


def test_whoever_publishes_to_the_shop_at_the_moment_is_waited_for(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(place, monkeypatch)
    launch_in(LEAD_SECONDS, monkeypatch.setattr)
    (place.home / "outbox").mkdir(exist_ok=True)
    other = FileLock(place.home / "outbox" / "SHOP.lock", thread_local=False)
    other.acquire()

    def free_once_received() -> None:
        while not place.rows("select * from shipment_receipt"):
            time.sleep(0.2)
        other.release()

    threading.Thread(target=free_once_received).start()
    place.succeed(JOB)
    assert min(journal.applied["SHOP"]) >= moment_of(place)
    assert place.rows("select distinct received_at from shipment_receipt") == [(moment_of(place),)]
    assert shown(place) == LAUNCHED


LOCATIONS = {"_NA_": 7000, "BROADWAY": 7116, "BROOKLYN": 7281}


@pytest.fixture
def more_shops(place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Two more shops carry the products, too; one of them is the master of its own numbers."""
    shops = "shop_id,shop_domain,product_store_id,inventory_master,shopify_facility_group_mode\n"
    shops += "SHOP,a,STORE,hotwax,\nOUTLET,b,STORE,hotwax,\nPOS,c,STORE,shopify,\n"
    place.write_reference("shopify_shop", shops)
    locations = [f"{shop},{f},{one}\n" for shop in ("SHOP", "OUTLET", "POS") for f, one in LOCATIONS.items()]
    place.write_reference("shopify_shop_location", "shop_id,facility_id,shopify_location_id\n" + "".join(locations))
    httpx.post(f"{place.simulator.addresses.shopify_url}/simulator/reload").raise_for_status()
    for name, value in place.simulator.environment().items():
        monkeypatch.setenv(name, value)
    place.succeed("load_reference")
    for shop in ("OUTLET", "POS"):
        read = ("shopify_inventory_level", "shopify_shop_product")
        assert materialised(place, "hard_sync", *read, tags={"dagster/partition": shop}).success
    return place


def received_levels(place: Place, shop: str) -> dict[Level, int]:
    """What a shop shows where the restock has changed our number."""
    shops = place.simulator.shops
    return {
        (sku, location): shops.level(shop, shops.item_ids(shop, sku)[0], location).available
        for sku, location in LAUNCHED
        if location != 7281
    }


def test_a_shop_is_given_back_while_the_run_waits_for_another(more_shops: Place) -> None:
    schedule(-3600)
    materialised(more_shops, JOB, "shipment_receipt")
    locks = {
        shop: FileLock(more_shops.home / "outbox" / f"{shop}.lock", thread_local=False) for shop in ("SHOP", "OUTLET")
    }
    locks["OUTLET"].acquire()

    def publish_to_the_other() -> None:
        try:
            until(lambda: shown(more_shops) == LAUNCHED, "the shop that nobody keeps shows it")
            locks["SHOP"].acquire(timeout=60)
        finally:
            locks["OUTLET"].release()

    other = threading.Thread(target=publish_to_the_other)
    other.start()
    result = publish_alone(more_shops)
    other.join()
    assert result.success
    assert locks["SHOP"].is_locked
    locks["SHOP"].release()
    assert received_levels(more_shops, "OUTLET") == received_levels(more_shops, "SHOP")


def test_a_shop_that_fails_neither_stops_nor_delays_another(more_shops: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOPIFY_DEADLINE_SECONDS", "2")
    journal = Journal(more_shops, monkeypatch)
    more_shops.simulator.faults.add(Fault("nodes", "http_503", at_call=0, only="OUTLET"))
    slow(more_shops)
    launch_in(LEAD_SECONDS, monkeypatch.setattr)
    failed = more_shops.run(JOB)
    assert "OUTLET" in more_shops.failure(failed)
    assert "SHOP at" not in more_shops.failure(failed)
    journal.assert_on_time("SHOP", moment_of(more_shops))
    assert restocked(more_shops)
    assert "OUTLET" not in journal.applied
    more_shops.simulator.faults.clear()
    assert publish_alone(more_shops).success
    expected = {level: quantity for level, quantity in LAUNCHED.items() if level[1] != 7281}
    assert received_levels(more_shops, "OUTLET") == received_levels(more_shops, "SHOP") == expected
    assert journal.changes["SHOP"] == 6
    assert "POS" not in journal.applied


def _restock(environment: dict[str, str], point: Point | None) -> None:
    os.environ.update(environment)
    if point is not None:
        _arm(point)
    launch_in(LEAD_SECONDS, setattr)
    with dg.DagsterInstance.ephemeral() as instance:
        defs.resolve_job_def(JOB).execute_in_process(
            instance=instance, run_config={"ops": {"restock_upload": {"config": {"changes_per_line": 1}}}}
        )


def restocking(point: Point | None) -> int:
    """How a process ends that runs the job."""
    process = PROCESSES.Process(target=_restock, args=(told(), point))
    process.start()
    return ended(process)


# at the moment: preparing, before and after the receipt, around each send, recording, closing
POINTS = [
    Point("launch._rehearse", 1, "after"),
    Point("launch.read_live", 1, "after"),
    Point("launch.plan", 1, "before"),
    Point("launch.begin", 1, "after"),
    Point("launch.transaction", 1, "before"),
    Point("launch.transaction", 1, "after"),
    Point("launch.send_begun", 1, "before"),
    *(Point("sending.classify", call, when) for call in (1, 3, 6) for when in ("before", "after")),
    Point("sender._record", 1, "before"),
    Point("sender._record", 1, "after"),
    Point("resume._close", 1, "before"),
    Point("resume._close", 1, "after"),
]


@pytest.mark.parametrize(
    "point",
    [pytest.param(point, marks=[] if n == 5 else pytest.mark.soak, id=str(point)) for n, point in enumerate(POINTS)],
)
def test_after_a_kill_everything_is_received_and_published_once(
    place: Place, monkeypatch: pytest.MonkeyPatch, point: Point
) -> None:
    journal = Journal(place, monkeypatch)
    assert restocking(point) == -signal.SIGKILL, "the point was not reached"
    assert restocked(place) == (POINTS.index(point) >= 5)
    place.succeed(JOB)
    assert restocked(place)
    assert shown(place) == LAUNCHED
    assert min(journal.applied["SHOP"]) >= moment_of(place)
    assert journal.changes["SHOP"] == 6
    assert_what_is_recorded_is_what_happened(place)
    assert place.rows("select distinct status_id from sync_run where status_id in ('sending', 'unfinished')") == []


PRODUCTS = 500


@pytest.mark.long
def test_a_launch_of_1000_changes_is_shown_within_two_seconds(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = range(20_000, 20_000 + PRODUCTS)
    with (place.reference_dir / "product.csv").open("a", encoding="utf-8") as products:
        products.writelines(f"{n},SKU-{n},FINISHED_GOOD,{n},,\n" for n in numbers)
    httpx.post(f"{place.simulator.addresses.shopify_url}/simulator/reload").raise_for_status()
    place.succeed("load_reference")
    assert materialised(place, "hard_sync", "shopify_inventory_level", "shopify_shop_product").success
    rows = "".join(f"SKU-{n},{UNITS},2099-01-01T00:00:00Z,Broadway,STORE,Demo,Large\n" for n in numbers)
    place.put(f"{RESTOCKS}/large.csv", RESTOCK + rows)
    place.succeed("import_scheduled_restock")
    with Warehouse().transaction() as connection:
        connection.execute("delete from shipment where name <> 'Large'")
    slow(place, 0.3)
    journal = Journal(place, monkeypatch)
    launch_in(12, monkeypatch.setattr)
    place.succeed(JOB)
    assert journal.changes["SHOP"] == 2 * PRODUCTS
    journal.assert_on_time("SHOP", moment_of(place))
