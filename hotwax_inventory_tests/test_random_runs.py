"""Runs of all kinds as a seed draws them, side by side or killed at any moment: they end where some order of them ends.

At all times Shopify has what was there, what strangers did and what is recorded as applied; what is on its way counts whole or
not at all."""

import os
import random
import signal
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from hotwax_inventory_tests.conftest import Place
from hotwax_inventory_tests.test_crashes import FACILITIES, PRODUCTS, Job, assert_the_ledger_adds_up, ended, started
from hotwax_inventory_tests.test_feeds import ADJUSTMENTS, DELTAS
from hotwax_inventory_tests.test_publish import HEADER, STOCK, TARGETS, item, shown
from hotwax_inventory_tests.test_publish_crashes import BULK, DIRECT, assert_what_is_recorded_is_what_happened
from hotwax_inventory_tests.test_publish_properties import Level, promised
from hotwax_inventory_tests.test_publish_recent import RECENT
from hotwax_inventory_tests.test_restock_upload import JOB as RESTOCK
from hotwax_inventory_tests.test_restock_upload import OPENED, UNITS, place, schedule

__all__ = ["place"]

IMPORT, ADJUST, HARD_SYNC = "import_inventory", "import_inventory_adjustment", "hard_sync"
DELTA_OF = {HARD_SYNC: "hard_sync_delta", RECENT: "recent_change_delta", RESTOCK: "restock_upload"}
KEYS = [(product, facility) for product in PRODUCTS for facility in FACILITIES]
KILLS = int(os.environ.get("KILLS", "25"))


class World:
    """A place that is in step; the files that come, the strangers at the shop, and what must come of both."""

    def __init__(self, place: Place, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
        self.place, self.draw, self._strangers_draw = place, random.Random(seed), random.Random(seed)
        self.difference_from = self.draw.choice(["shopify", "last_published"])
        monkeypatch.setenv("DIRECT_PUSH_LIMIT", self.draw.choice([BULK, DIRECT]))
        # no level is moved so often that a run gives up on it
        self._victims = self.draw.sample(2 * sorted(TARGETS), 2 * len(TARGETS))
        self._minutes = iter(self.draw.sample(range(1, 100_000), 1000))
        # (minute of effect, whether the quantity replaces what is there, key, quantity)
        self._movements: list[tuple[int, bool, tuple[int, int], int]] = []

    def job(self, name: str) -> Job:
        """A job, for which a file comes if it is an import."""
        if name not in DELTA_OF:
            self._put_file(name)
            return Job(name)
        publication = {"difference_from": self.difference_from, "changes_per_line": self.draw.choice([1, 2, 100])}
        return Job(name, {DELTA_OF[name]: publication}, None if name == RESTOCK else "SHOP")

    def _put_file(self, job: str) -> None:
        minute = next(self._minutes)
        quantities = range(41) if job == IMPORT else [n for n in range(-9, 10) if n]
        rows = [(key, self.draw.choice(quantities)) for key in self.draw.sample(KEYS, 3)]
        self._movements += [(minute, job == IMPORT, key, quantity) for key, quantity in rows]
        at = OPENED + timedelta(minutes=minute)
        if job == IMPORT:
            lines = [f"{minute},{facility},{quantity},{product}\n" for (product, facility), quantity in rows]
            self.place.put_reset(f"{minute}.csv", HEADER + "".join(lines), at)
        else:
            lines = [f"{f},{p},NETSUITE_PRODUCT_ID,{quantity},{minute}\n" for (p, f), quantity in rows]
            self.place.put(f"{ADJUSTMENTS}/{minute}.csv", DELTAS + "".join(lines), at)

    def strangers_act(self) -> None:
        """Somebody buys, or a merchant counts."""
        sku, location = self._victims.pop()
        shops, draw = self.place.simulator.shops, self._strangers_draw
        if draw.random() < 0.6:
            shops.sell("SHOP", item(self.place, sku), location, draw.randint(1, 5))
        else:
            shops.set_available("SHOP", item(self.place, sku), location, draw.randint(0, 50))

    def assert_stock_is_what_the_files_say(self) -> None:
        """Whatever the order in which they came."""
        stock = {(int(p), int(f)): int(q) for _, f, q, p in (line.split(",") for line in STOCK.splitlines())}
        for _, replaces, key, quantity in sorted(self._movements):
            stock[key] = quantity if replaces else max(0, stock[key] + quantity)
        for (product,) in self.place.rows("select product_id from shipment_receipt"):
            stock[{ours: theirs for theirs, ours in PRODUCTS.items()}[product], 116] += UNITS
        expected = {(PRODUCTS[product], FACILITIES[facility]): (q, q) for (product, facility), q in stock.items()}
        assert self.place.stock() == expected
        assert_the_ledger_adds_up(self.place)

    def assert_shop_is_in_step(self, after: str) -> None:
        """What the shop shows once a job has been the last, with nobody beside it."""
        ours, strangers = promised(), self._strangers()
        if self.difference_from == "last_published":
            moved = {level: sum(delta for _, delta, _ in acts) for level, acts in strangers.items()}
            assert shown(self.place) == {level: quantity + moved[level] for level, quantity in ours.items()}
        elif after == HARD_SYNC:
            assert shown(self.place) == ours
        else:
            orders = {level: set(serial(ours[level], acts)) for level, acts in strangers.items()}
            assert {level: n for level, n in shown(self.place).items() if n not in orders[level]} == {}
        assert_what_is_recorded_is_what_happened(self.place)
        assert self.place.rows("select * from sync_run where status_id in ('sending', 'unfinished')") == []

    def _strangers(self) -> dict[Level, list[tuple[str, int, int]]]:
        """What strangers did at each level, in order: (what it was, by how many units, what the level showed then)."""
        names = {item(self.place, sku): sku for sku, _ in TARGETS}
        acts: dict[Level, list[tuple[str, int, int]]] = {level: [] for level in TARGETS}
        shows = shown(self.place)
        for entry in reversed(self.place.simulator.shops.adjustments("SHOP")):
            level = names[entry.item_id], entry.location_id
            if entry.source != "adjust":
                acts[level].insert(0, (entry.source, entry.delta, shows[level]))
            shows[level] -= entry.delta
        return acts


def serial(published: int, acts: list[tuple[str, int, int]]) -> Iterator[int]:
    """What a level shows when it was published as a number after none, one, … or all of the acts of strangers."""
    for first in range(len(acts) + 1):
        quantity = published
        for source, delta, shows in acts[first:]:
            quantity = quantity + delta if source == "sale" else shows
        yield quantity


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "seed", [pytest.param(seed, marks=pytest.mark.long if seed < 3 else pytest.mark.soak) for seed in range(103)]
)
def test_runs_side_by_side_end_as_some_order_of_them_ends(
    place: Place, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    world = World(place, monkeypatch, seed)
    draw, shops = world.draw, place.simulator.shops
    moments = set(draw.sample(range(1, 60), 8))
    log_call = shops.log_call

    def strangers_first(call: Any) -> None:
        log_call(call)
        if len(shops.calls) in moments:
            world.strangers_act()

    monkeypatch.setattr(shops, "log_call", strangers_first)
    schedule(draw.uniform(-3, 3))
    running = []
    for name in draw.sample(2 * [IMPORT, ADJUST, RESTOCK, HARD_SYNC, RECENT], 6):
        beginning = len(shops.calls) + draw.choice([0, 0, draw.randint(1, 12)])
        while len(shops.calls) < beginning and any(process.is_alive() for process in running):
            time.sleep(0.005)  # the calls that are counted come that fast
        running.append(started(world.job(name)))
        assert_what_is_recorded_is_what_happened(place)
    for process in running:
        assert ended(process) == 0
        assert_what_is_recorded_is_what_happened(place)
    moments.clear()
    for last in (RECENT, HARD_SYNC):
        assert ended(started(world.job(last))) == 0
        world.assert_stock_is_what_the_files_say()
        world.assert_shop_is_in_step(last)


@pytest.fixture(scope="module")
def pace() -> dict[tuple[str, ...], float]:
    """How long the last undisturbed process took of each kind, in seconds."""
    return {}


@pytest.mark.long
@pytest.mark.parametrize("seed", range(KILLS))
def test_the_next_run_makes_good_what_a_kill_at_any_moment_has_interrupted(
    place: Place, monkeypatch: pytest.MonkeyPatch, pace: dict[tuple[str, ...], float], seed: int
) -> None:
    world = World(place, monkeypatch, seed)
    schedule(-3600)
    names = (world.draw.choice([IMPORT, ADJUST, RESTOCK]), last := world.draw.choice([HARD_SYNC, RECENT]))
    while True:
        process = started(*map(world.job, names))
        process.join(world.draw.uniform(0, pace.get(names, 2.0)))
        process.kill()
        if ended(process) == -signal.SIGKILL:
            break
    assert_what_is_recorded_is_what_happened(place)
    for _ in range(world.draw.randint(0, 3)):
        world.strangers_act()
    began = time.monotonic()
    assert ended(started(*map(world.job, names))) == 0
    pace[names] = time.monotonic() - began
    world.assert_stock_is_what_the_files_say()
    world.assert_shop_is_in_step(last)
