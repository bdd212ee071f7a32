"""What the simulated shops hold: locations, items, levels and the journal of every change.

A change and its journal row commit together, so a killed simulator comes back with exactly what it has acknowledged.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from hotwax_inventory.simulator.database import Database
from hotwax_inventory.simulator.stock import QUANTITY_COLUMNS, Adjustment, Call, Item, Level, Location
from hotwax_inventory.simulator.throttle import Bucket

LOCATIONS = """
select location_id, name, is_active, level_number
from location
where shop_id = ? and location_id = coalesce(?, location_id)
order by location_id
"""

ITEMS = """
select item_id, sku, tracked, updated_at
from item
where shop_id = ? and item_id >= ?
order by item_id
limit ?
"""

LEVELS = """
select level.item_id, level.location_id, location.level_number, available, committed, incoming, reserved, damaged,
    safety_stock, quality_control, level.is_active, level.updated_at
from level
join location using (shop_id, location_id)
"""

ADJUSTMENTS = """
select sequence, item_id, location_id, name, delta, source, idempotency_key, applied_at
from adjustment
where shop_id = ?
order by sequence
"""

OF_LEVEL = "where shop_id = ? and item_id = ? and location_id = ?"

FIRST_LEVEL_NUMBER = 110_012_000_000

NEW_LOCATION = """
insert or ignore into location (shop_id, location_id, name, is_active, level_number)
select shop_id, ?, ?, ?, 1 + coalesce(
    (select max(level_number) from location where location.shop_id = shop.shop_id),
    ? + 1000000 * ordinal
)
from shop
where shop_id = ?
"""

NEW_LEVEL = """
insert into level (shop_id, item_id, location_id, available, updated_at)
values (?, ?, ?, ?, ?)
on conflict do nothing
"""

START_LEVEL = """
insert or replace into level (shop_id, item_id, location_id, available, committed, is_active, updated_at)
values (?, ?, ?, ?, ?, ?, ?)
"""

NEW_ITEM = """
insert into item (shop_id, item_id, sku, product_id, tracked, updated_at)
values (?, ?, ?, ?, ?, ?)
on conflict do nothing
"""

JOURNAL = """
insert into adjustment (shop_id, item_id, location_id, name, delta, source, idempotency_key, group_id, applied_at)
values (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""

CALLS_KEPT = 50_000
DEFAULT_SCOPES = ("read_inventory", "write_inventory", "read_locations", "read_products")


class ShopStore(Database):
    """The state of all simulated shops, usable from any thread."""

    def __init__(self, file: Path, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        super().__init__(file, now)
        self.calls: list[Call] = []
        self.scopes: dict[str, Sequence[str]] = {}
        self._buckets: dict[str, Bucket] = {}
        # hears of each change, within its transaction: shop, and the levels (item, location) that have moved
        self.changed: Callable[[str, Iterable[tuple[int, int]]], None] = lambda shop_id, levels: None

    def add_shop(self, shop_id: str, shop_domain: str | None = None) -> None:
        """Open a shop, unless it is there."""
        with self.transaction() as db:
            db.execute(
                "insert or ignore into shop select ?, coalesce(max(ordinal), 0) + 1, ? from shop",
                [shop_id, shop_domain or f"{shop_id.lower()}.myshopify.com"],
            )

    def add_location(self, shop_id: str, location_id: int, name: str | None = None, *, is_active: bool = True) -> None:
        """Add a location, unless it is there."""
        with self.transaction() as db:
            db.execute(
                NEW_LOCATION, [location_id, name or f"Location {location_id}", is_active, FIRST_LEVEL_NUMBER, shop_id]
            )

    def add_item(self, shop_id: str, item_id: int, sku: str, product_id: str = "", *, tracked: bool = True) -> None:
        """Add an inventory item, unless it is there."""
        with self.transaction() as db:
            db.execute(NEW_ITEM, [shop_id, item_id, sku, product_id, tracked, self.timestamp()])

    def set_level(
        self,
        shop_id: str,
        item_id: int,
        location_id: int,
        available: int,
        committed: int = 0,
        *,
        is_active: bool = True,
    ) -> None:
        """Put a level as it should start; unlike `set_available` this is no event and is not in the journal."""
        with self.transaction() as db:
            row = [shop_id, item_id, location_id, available, committed, is_active, self.timestamp()]
            db.execute(START_LEVEL, row)

    def bulk_load(
        self, shop_id: str, levels: Iterable[tuple[int, int, int]], items: Iterable[tuple[int, str]] = ()
    ) -> None:
        """Add items (id, SKU) and levels (item id, location id, available) by the million; known ones stay."""
        now = self.timestamp()
        with self.transaction() as db:
            db.executemany(NEW_ITEM, ((shop_id, item_id, sku, "", True, now) for item_id, sku in items))
            db.executemany(NEW_LEVEL, ((shop_id, *level, now) for level in levels))

    def log_call(self, call: Call) -> None:
        """Add to `calls`; the oldest go when there are very many."""
        self.calls.append(call)
        if len(self.calls) > 2 * CALLS_KEPT:
            del self.calls[:CALLS_KEPT]

    def set_bucket(self, shop_id: str, maximum: float, restore_rate: float) -> None:
        """Give a shop another, full cost bucket."""
        self._buckets[shop_id] = Bucket(maximum, restore_rate)

    def bucket(self, shop_id: str) -> Bucket:
        """The cost bucket of a shop."""
        with self._lock:
            return self._buckets.setdefault(shop_id, Bucket())

    def scopes_of(self, shop_id: str) -> Sequence[str]:
        """The access scopes of the app in a shop; `scopes` overrides them."""
        return self.scopes.get(shop_id, DEFAULT_SCOPES)

    def shop_ids(self) -> list[str]:
        """All shops, in the order they were opened."""
        return [shop_id for (shop_id,) in self.rows("select shop_id from shop order by ordinal")]

    def shop(self, shop_id: str) -> tuple[int, str] | None:
        """Ordinal and domain of a shop; None when there is none."""
        found = self.rows("select ordinal, shop_domain from shop where shop_id = ?", [shop_id])
        return found[0] if found else None

    def locations(self, shop_id: str, location_id: int | None = None) -> list[Location]:
        """The locations of a shop by id, or just the one."""
        found = self.rows(LOCATIONS, [shop_id, location_id])
        return [Location(number, name, bool(is_active), level) for number, name, is_active, level in found]

    def location(self, shop_id: str, location_id: int) -> Location | None:
        """One location."""
        return next(iter(self.locations(shop_id, location_id)), None)

    def items_from(self, shop_id: str, first_item_id: int, limit: int) -> list[Item]:
        """The items by id, one page."""
        found = self.rows(ITEMS, [shop_id, first_item_id, limit])
        return [Item(number, sku, bool(tracked), updated_at) for number, sku, tracked, updated_at in found]

    def item(self, shop_id: str, item_id: int) -> Item | None:
        """One inventory item."""
        found = next(iter(self.items_from(shop_id, item_id, 1)), None)
        return found if found and found.item_id == item_id else None

    def item_ids(self, shop_id: str, sku: str) -> list[int]:
        """The items that carry a SKU; more than one is possible, as in Shopify."""
        found = self.rows("select item_id from item where shop_id = ? and sku = ? order by item_id", [shop_id, sku])
        return [item_id for (item_id,) in found]

    def find_level(self, shop_id: str, item_id: int, location_id: int) -> Level | None:
        """One level, active or not."""
        found = self._levels(
            "level.shop_id = ? and level.item_id = ? and level.location_id = ?", [shop_id, item_id, location_id]
        )
        return found[0] if found else None

    def level_by_number(self, shop_id: str, level_number: int, item_id: int) -> Level | None:
        """The level behind the two numbers of its global id."""
        found = self._levels(
            "level.shop_id = ? and location.level_number = ? and level.item_id = ?", [shop_id, level_number, item_id]
        )
        return found[0] if found else None

    def levels_between(self, shop_id: str, first_item_id: int, last_item_id: int) -> list[Level]:
        """All levels of the items in that range of ids, both ends included, by item and location."""
        return self._levels(
            "level.shop_id = ? and level.item_id between ? and ? order by level.item_id, level.location_id",
            [shop_id, first_item_id, last_item_id],
        )

    def _levels(self, condition: str, parameters: Sequence[object]) -> list[Level]:
        return [
            Level(*row[:-2], is_active=bool(row[-2]), updated_at=row[-1])
            for row in self.rows(f"{LEVELS}where {condition}", parameters)
        ]

    def level(self, shop_id: str, item_id: int, location_id: int) -> Level:
        """One level; KeyError when the item is not stocked there."""
        found = self.find_level(shop_id, item_id, location_id)
        if found is None:
            raise KeyError(f"Shop {shop_id} has no level of item {item_id} at location {location_id}.")
        return found

    def levels(self, shop_id: str) -> dict[tuple[int, int], int]:
        """(item id, location id) -> available, of all levels."""
        found = self.rows("select item_id, location_id, available from level where shop_id = ?", [shop_id])
        return {(item_id, location_id): available for item_id, location_id, available in found}

    def adjustments(self, shop_id: str) -> list[Adjustment]:
        """Every change ever applied, in order; a level's start plus its `available` deltas is what it holds."""
        return [Adjustment(*row) for row in self.rows(ADJUSTMENTS, [shop_id])]

    def apply(
        self,
        shop_id: str,
        changes: Iterable[tuple[int, int, str, int]],
        *,
        source: str,
        idempotency_key: str | None = None,
        group_id: int | None = None,
    ) -> None:
        """Move quantities by (item id, location id, name, delta), make missing levels, and write the journal."""
        now = self.timestamp()
        moved: dict[tuple[int, int], None] = {}
        with self.transaction() as db:
            for item_id, location_id, name, delta in changes:
                if name not in QUANTITY_COLUMNS:
                    raise ValueError(
                        f"Quantity {name!r} cannot be moved. Those that can: {', '.join(QUANTITY_COLUMNS)}."
                    )
                level = [shop_id, item_id, location_id]
                # the name is one of QUANTITY_COLUMNS
                move = f"update level set {name} = {name} + ?, updated_at = ? {OF_LEVEL}"
                if db.execute(move, [delta, now, *level]).rowcount == 0:
                    db.execute(NEW_LEVEL, [*level, 0, now])
                    db.execute(move, [delta, now, *level])
                db.execute(JOURNAL, [*level, name, delta, source, idempotency_key, group_id, now])
                moved[item_id, location_id] = None
            self.changed(shop_id, moved)

    def sell(self, shop_id: str, item_id: int, location_id: int, quantity: int) -> None:
        """An order is placed: available falls, committed rises, on hand stays."""
        with self.transaction() as db:
            self.apply(shop_id, [(item_id, location_id, "available", -quantity)], source="sale")
            db.execute(
                f"update level set committed = committed + ? {OF_LEVEL}",
                [quantity, shop_id, item_id, location_id],
            )

    def set_available(self, shop_id: str, item_id: int, location_id: int, available: int) -> None:
        """A merchant edits the quantity in Shopify's admin."""
        with self.transaction():
            level = self.find_level(shop_id, item_id, location_id)
            delta = available - (level.available if level else 0)
            self.apply(shop_id, [(item_id, location_id, "available", delta)], source="edit")
