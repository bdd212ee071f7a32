"""What files must end in, in plain Python: the fold of design 8.12 and the numbers of section 6, over a small catalogue."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from hotwax_inventory_tests.feed_files import FACILITIES, OPENING, ORDERS, File, Row

Key = tuple[str, str]


def after(state: tuple[int, int], effect: str, quantity: int, reset_by: str) -> tuple[int, int]:
    """What an event makes of quantity on hand and available to promise."""
    on_hand, promise = state
    if effect == "on_hand":
        return on_hand + quantity, promise
    if effect == "reset":
        quantity -= on_hand if reset_by == "QOH" else promise
    elif effect == "delta":  # takes no more than is there
        quantity = max(quantity, min(0, -on_hand))
    return on_hand + quantity, promise + quantity


def stock(files: Iterable[File], received: Iterable[tuple[Key, int]] = ()) -> dict[Key, tuple[int, int]]:
    """{(product, facility): (quantity on hand, available to promise)}; what is received comes after all files."""
    events = []
    for file in files:
        for line, row in file.accepted() if file.kind in ("reset", "delta", "fulfilment") else []:
            product, effect, quantity = row.get("product", ""), file.kind, int(row["quantity"])
            if file.kind == "fulfilment":
                product, place, _ = ORDERS[row["order"]]
                effect, quantity = "on_hand" if place in FACILITIES else "movement", -quantity
            events.append((file.position(line), (product, row["facility"]), effect, quantity, row.get("by", "")))
    state = dict(OPENING)
    for _, key, *event in [*sorted(events), *(((), key, "movement", units, "") for key, units in received)]:
        state[key] = after(state.get(key, (0, 0)), *event)
    return state


def in_order(files: Iterable[File], *kinds: str) -> list[File]:
    return sorted((file for file in files if file.kind in kinds), key=File.position)


def open_orders(files: Iterable[File]) -> dict[str, int]:
    """{order: units that have not left}"""
    rows = [row for file in in_order(files, "fulfilment") for _, row in file.accepted()]
    left = {order: sum(int(row["quantity"]) for row in rows if row["order"] == order) for order in ORDERS}
    return {order: max(0, units - left[order]) for order, (_, _, units) in ORDERS.items()}


def rules(files: Iterable[File]) -> dict[Key, Row]:
    """{(product, facility): {rule: value}}, the newest of each that is not empty."""
    found: dict[Key, Row] = {}
    lines = [(file.position(line), row) for file in in_order(files, "rule") for line, row in file.accepted()]
    for _, row in sorted(lines, key=lambda line: line[0]):
        said = {rule: row[rule] for rule in ("quantity", "brokering", "pickup") if row[rule]}
        found[row["product"], row["facility"]] = found.get((row["product"], row["facility"]), {}) | said
    return found


def lists(files: Iterable[File]) -> dict[str, Counter[str]]:
    """{kit: {component: units}}, as the newest file that names the kit has it; a row that it was refused of is of nothing known."""
    found: dict[str, Counter[str]] = {}
    for file in in_order(files, "kit"):
        for kit in {row["product"] for _, row in file.accepted()}:
            found[kit] = Counter()
            for row in (row for _, row in file.accepted() if row["product"] == kit):
                found[kit][row["component"]] += int(row["quantity"])
            found[kit]["refused"] = sum("wrong" in row and row["product"] == kit for row in file.rows)
    return {kit: +components for kit, components in found.items()}


def promises(
    counted: dict[Key, int], ruled: dict[Key, Row], queue: dict[str, int]
) -> tuple[dict[Key, int], dict[str, int]]:
    """What each facility may promise, and the channel; `counted` is what is there of each product and kit."""
    at = {key: max(0, n - int(ruled.get(key, {}).get("quantity", 0))) for key, n in counted.items()}
    online = {}
    for product in {product for product, _ in counted}:
        channel = ruled.get((product, "CONFIGURATION"), {})
        open_at = [key for key in counted if key[0] == product and ruled.get(key, {}).get("brokering") != "N"]
        taken = int(channel.get("quantity", 0)) + sum(
            queue[order] for order, (p, place, _) in ORDERS.items() if p == product and place not in FACILITIES
        )
        is_off = channel.get("brokering") == "N" or sum(counted[key] for key in open_at) < 0
        online[product] = 0 if is_off else max(0, sum(at[key] for key in open_at) - taken)
    return at, online


def kits(promised: dict[Key, int], listed: dict[str, Counter[str]]) -> dict[Key, int]:
    """How many of each kit there are where one of its components is known."""
    return {
        (kit, facility): min(max(0, promised.get((c, facility), 0)) // units for c, units in components.items())
        for kit, components in listed.items()
        for facility in FACILITIES
        if any((c, facility) in promised for c in components)
    }


def shipment_id(row: Row) -> str:
    """How we name a shipment here: by its external id, or a restock by name, place and year."""
    return f"{row['shipment']} {row['facility']} {row['time'][:4]}" if "time" in row else row["shipment"]


def shipments(files: Iterable[File]) -> dict[str, tuple[str, list[tuple[str, int]]]]:
    """{shipment: (destination, [(product, units)])}, as the newest file states it; not every file says where it goes to."""
    found: dict[str, tuple[str, list[tuple[str, int]]]] = {}
    for file in in_order(files, "shipment", "order", "restock"):
        stated: dict[str, list[Row]] = {}
        for _, row in file.accepted():
            stated.setdefault(shipment_id(row), []).append(row)
        for name, rows in stated.items():
            place = next((row["facility"] for row in rows if row["facility"]), "") or found.get(name, ("",))[0]
            found[name] = place, [(row["product"], int(row["quantity"])) for row in rows]
    return found


@dataclass
class Dock:
    """What has been done with shipments: once begun, what files state of one is not heard any more."""

    begun: dict[str, tuple[str, list[tuple[str, int]]]] = field(default_factory=dict)
    taken: Counter[str] = field(default_factory=Counter)
    cancelled: set[str] = field(default_factory=set)
    received: list[tuple[Key, int]] = field(default_factory=list)

    def stated(self, files: Iterable[File]) -> dict[str, tuple[str, list[tuple[str, int]]]]:
        return shipments(files) | self.begun

    def receive(self, name: str, files: Iterable[File], most: int | None = None, place: str = "") -> None:
        stated = self.stated(files)
        if name in stated and name not in self.cancelled:
            place, items = self.begun[name] = stated[name][0] or place, stated[name][1]
            new = items[self.taken[name] :][:most]
            self.taken[name] += len(new)
            self.received += [((product, place), units) for product, units in new]

    def cancel(self, name: str, files: Iterable[File]) -> None:
        stated = self.stated(files)
        if name in stated and self.taken[name] < len(stated[name][1]):
            self.begun[name] = stated[name]
            self.cancelled.add(name)

    def status(self, name: str, items: list[tuple[str, int]]) -> str:
        if name in self.cancelled:
            return "SHIPMENT_CANCELLED"
        is_received = self.taken[name] == len(items)
        return "PURCH_SHIP_RECEIVED" if is_received else "PURCH_SHIP_CREATED" if " " in name else "PURCH_SHIP_SHIPPED"
