"""Runs that die by kill -9 while they publish: the next one ends where an undisturbed one ends, and nothing was sent twice."""

import random
import signal
from collections import defaultdict
from multiprocessing.process import BaseProcess
from typing import Any

import pytest

from hotwax_inventory.resources import Warehouse
from hotwax_inventory.simulator.faults import Fault
from hotwax_inventory_tests.conftest import Place
from hotwax_inventory_tests.test_crashes import Job, Point, ended, started
from hotwax_inventory_tests.test_publish import HEADER, TARGETS, item, shown, stocked

__all__ = ["stocked"]

RECENT = "upload_recent_inventory_changes"
BULK, DIRECT = "0", "1000"


def published(job: str, point: Point | None = None, **config: Any) -> int:
    """How a process ends that runs a job for the shop."""
    return ended(publishing(job, point, **config))


def publishing(job: str, point: Point | None = None, shop: str = "SHOP", **config: Any) -> BaseProcess:
    """A process that runs a job for a shop."""
    delta = "hard_sync_delta" if job == "hard_sync" else "recent_change_delta"
    return started(Job(job, {delta: config}, shop), point=point)


@pytest.fixture
def place(stocked: Place) -> Place:
    """A place with stock, whose shop shows something else everywhere."""
    return stocked


def assert_what_is_recorded_is_what_happened(place: Place) -> None:
    """At any time: level by level, the shop's journal has of us what is recorded as applied, and what is on its way or not."""
    with Warehouse().transaction() as connection:  # nobody records anything while the journal is read
        recorded = connection.execute(
            "select shopify_inventory_item_id, shopify_location_id, "
            "coalesce(sum(delta) filter (outcome = 'applied'), 0)::bigint, "
            "coalesce(sum(delta) filter (outcome = 'unknown'), 0)::bigint from sync_change group by all"
        ).fetchall()
        moved: dict[tuple[int, int], int] = defaultdict(int)
        for adjustment in place.simulator.shops.adjustments("SHOP"):
            if adjustment.source == "adjust":
                moved[adjustment.item_id, adjustment.location_id] += adjustment.delta
    possible = {(one, location): (applied, applied + unknown) for one, location, applied, unknown in recorded}
    assert {level: delta for level, delta in moved.items() if delta not in possible.get(level, (0,))} == {}
    assert {level: deltas for level, deltas in possible.items() if moved[level] not in deltas} == {}


def move_as_a_stranger(place: Place, seed: int) -> dict[tuple[str, int], int]:
    """Sales at some levels, as {level: units}."""
    draw = random.Random(seed)
    sold = {level: draw.randint(1, 3) for level in draw.sample(sorted(TARGETS), seed % 3)}
    for (sku, location), units in sold.items():
        place.simulator.shops.sell("SHOP", item(place, sku), location, units)
    return sold


# planning, before and after each send, polling, reading results, recording, closing
POINTS = [
    (Point("sender._begin", 1, "before"), BULK),
    (Point("sender._begin", 1, "after"), BULK),
    (Point("client.stage", 1, "before"), BULK),
    (Point("client.stage", 1, "after"), BULK),
    (Point("client.run_mutation", 1, "after"), BULK),
    (Point("sending.store_operation", 1, "after"), BULK),
    (Point("client.wait", 2, "after"), BULK),
    (Point("client.download", 2, "after"), BULK),
    (Point("sender._record", 1, "after"), BULK),
    (Point("resume._close", 1, "before"), BULK),
    (Point("resume._close", 1, "after"), BULK),
    (Point("sending.classify", 1, "before"), DIRECT),
    (Point("sending.classify", 4, "before"), DIRECT),
    (Point("sending.classify", 9, "after"), DIRECT),
    (Point("sender._record", 1, "after"), DIRECT),
    (Point("resume._close", 1, "before"), DIRECT),
    *((Point("resources.transaction", call, when), DIRECT) for call in range(4, 16, 2) for when in ("before", "after")),
]
SEEDS = (1, 2, 3)
EVERYDAY = [(*POINTS[n], SEEDS[n % 3]) for n in (4, 9, 14)]
OTHERS = [(point, limit, seed) for point, limit in POINTS for seed in SEEDS if (point, limit, seed) not in EVERYDAY]


@pytest.mark.parametrize(
    ("point", "limit", "seed"),
    [
        *EVERYDAY,
        # for whoever has an hour; .ci/run has kills at any moment (test_random_runs)
        *(pytest.param(*case, marks=pytest.mark.soak) for case in OTHERS),
    ],
    ids=str,
)
def test_after_a_kill_the_next_run_sends_what_is_missing_and_nothing_twice(
    place: Place, monkeypatch: pytest.MonkeyPatch, point: Point, limit: str, seed: int
) -> None:
    monkeypatch.setenv("DIRECT_PUSH_LIMIT", limit)
    assert published("hard_sync", point, changes_per_line=1) == -signal.SIGKILL, "the point was not reached"
    sold = move_as_a_stranger(place, seed)
    assert published("hard_sync", changes_per_line=1) == 0
    assert shown(place) == TARGETS
    assert_what_is_recorded_is_what_happened(place)
    adjusted = [a for a in place.simulator.shops.adjustments("SHOP") if a.source == "adjust"]
    assert len(adjusted) <= len(TARGETS) + len(sold)
    assert place.rows("select distinct status_id from sync_run where status_id in ('sending', 'unfinished')") == []


@pytest.mark.parametrize("seed", [pytest.param(seed, marks=pytest.mark.soak) for seed in SEEDS])
@pytest.mark.parametrize(
    "point",
    [
        Point("sending.classify", 2, "before"),
        Point("sender._record", 1, "before"),
        Point("settling.decide", 1, "after"),
        Point("sender._begin", 2, "after"),
        Point("resume._close", 1, "before"),
    ],
    ids=str,
)
def test_a_killed_run_of_our_movement_alone_leaves_strangers_sales_where_they_are(
    place: Place, point: Point, seed: int
) -> None:
    assert published("hard_sync") == 0
    sold_before = move_as_a_stranger(place, seed + 1)
    place.put_reset("later.csv", HEADER + ",116,9,501\n,281,7,502\n,116,1,503\n")
    assert place.run("import_inventory").success
    if point.name.startswith("settling") or point.call == 2:
        place.simulator.faults.add(
            Fault("inventoryAdjustQuantities", "user_error", value="IDEMPOTENCY_PREVIOUS_ATTEMPT_FAILED")
        )
    config = {"difference_from": "last_published", "changes_per_line": 2}
    assert published(RECENT, point, **config) == -signal.SIGKILL, "the point was not reached"
    sold_after = move_as_a_stranger(place, seed)
    assert published(RECENT, **config) == 0
    moved = {("TEE-S", 7116): 9, ("TEE-S", 7000): 23, ("TEE-M", 7281): 7, ("TEE-M", 7000): 27}
    moved |= {("TEE-L", 7116): 1, ("TEE-L", 7000): 39}
    assert shown(place) == {
        level: quantity - sold_before.get(level, 0) - sold_after.get(level, 0)
        for level, quantity in (TARGETS | moved).items()
    }
    assert_what_is_recorded_is_what_happened(place)


@pytest.mark.soak
@pytest.mark.parametrize("limit", [BULK, DIRECT])
@pytest.mark.parametrize("jobs", [("hard_sync", "hard_sync"), ("hard_sync", RECENT), (RECENT, RECENT)])
def test_runs_side_by_side_act_as_one_after_the_other(
    place: Place, monkeypatch: pytest.MonkeyPatch, jobs: tuple[str, str], limit: str
) -> None:
    monkeypatch.setenv("DIRECT_PUSH_LIMIT", limit)
    assert published("hard_sync") == 0
    place.put_reset("later.csv", HEADER + ",116,9,501\n,281,7,502\n,116,1,503\n")
    assert place.run("import_inventory").success
    both = [publishing(job, changes_per_line=1) for job in jobs]
    assert [ended(process) for process in both] == [0, 0]
    moved = {("TEE-S", 7116): 9, ("TEE-S", 7000): 23, ("TEE-M", 7281): 7, ("TEE-M", 7000): 27}
    assert shown(place) == TARGETS | moved | {("TEE-L", 7116): 1, ("TEE-L", 7000): 39}
    assert_what_is_recorded_is_what_happened(place)
    adjusted = [a for a in place.simulator.shops.adjustments("SHOP") if a.source == "adjust"]
    assert len(adjusted) == len(TARGETS) + 6


@pytest.mark.long
def test_a_run_that_resumes_may_be_killed_too(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIRECT_PUSH_LIMIT", BULK)
    for point in (
        Point("client.run_mutation", 1, "after"),
        Point("resume._operations", 1, "after"),
        Point("sender.collect", 1, "after"),
        Point("resume._close", 1, "before"),
    ):
        assert published("hard_sync", point) == -signal.SIGKILL
    assert published("hard_sync") == 0
    assert shown(place) == TARGETS
    assert_what_is_recorded_is_what_happened(place)
    assert sum(call.root_field == "bulkOperationRunMutation" for call in place.simulator.shops.calls) == 1
