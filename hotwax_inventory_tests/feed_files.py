"""A small catalogue, and files of every feed about it: what their rows may say, what may be wrong with one, and their bytes."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import duckdb

from hotwax_inventory.files.sources import Feed
from hotwax_inventory.imports import deltas, kit_components, product_facility, reset, restock, shipments
from hotwax_inventory.imports.declaration import ImportFiles
from hotwax_inventory_tests.conftest import OPENED, REFERENCE, STOCKED

KITS, FACILITIES = ("10008", "10009"), ("WAREHOUSE", "BROADWAY", "BROOKLYN")
# {order: (product, facility, open units)}; one that is parked is at no facility of ours
ORDERS = {"R": ("10001", "WAREHOUSE", 3), "S": ("10002", "BROADWAY", 9), "Q": ("10002", "PARKING", 2)}
# {(product, facility): (quantity on hand, available to promise)} before any file
OPENING = {("10001", "WAREHOUSE"): (10, 5), ("10001", "BROADWAY"): (3, 3), ("10002", "WAREHOUSE"): (4, -2)}


def open_stock(connection: duckdb.DuckDBPyConnection) -> None:
    """Let a warehouse have the stock of OPENING."""
    for seq, (key, numbers) in enumerate(OPENING.items(), 1):
        connection.execute(OPENED, [seq, *key, *numbers])
        connection.execute(STOCKED, [seq, *key, *numbers])
    connection.execute("update sequence set last_value = 100")


# The reference with a second kit, and with order items.
TABLES = {
    **REFERENCE,
    "product": REFERENCE["product"] + "10008,SOCKS-KIT,MARKETING_PKG_PICK,508,840008,\n",
    "virtual_queue_item": "order_id,order_item_seq_id,product_id,facility_id,quantity,product_store_id\n"
    + "".join(f"{order},00101,{product},{place},{units},STORE\n" for order, (product, place, units) in ORDERS.items()),
}
EXTERNAL = {"WAREHOUSE": "43", "BROADWAY": "116", "BROOKLYN": "281", "PARKING": "900"}
NETSUITE = {"10001": "501", "10002": "502", "10003": "503", "10008": "508", "10009": "509"}
SKUS = {"10001": "TEE-S", "10002": "TEE-M", "10003": "TEE-L", "10008": "SOCKS-KIT", "10009": "GIFT-KIT"}
SINGLE = ("10001", "10002", "10003")
MIXED = (*SINGLE[:2] * 3, *SINGLE, *KITS)
UNITS = ("1", "2", "3", "4")
FLAGS = ("", "Y", "N")
PAST, FUTURE = "2026-03-06T09:00:00Z", "2099-01-01T09:00:00Z"

# A row in our own ids; one with something wrong has a key `wrong`.
Row = dict[str, str]


@dataclass(frozen=True)
class File:
    """A file of one kind with all its rows; `at` is its time of effect."""

    kind: str
    config_id: str
    name: str
    at: datetime
    modified_at: datetime
    content: bytes
    rows: list[Row]

    def position(self, line: int = 0) -> tuple[object, ...]:
        """Where a line stands in the order of effect."""
        return self.at, self.name, self.modified_at, line, self.config_id, hashlib.sha256(self.content).hexdigest()

    def right(self) -> list[tuple[int, Row]]:
        """The rows that are not refused, and their lines; a shipment is refused whole."""
        is_json, is_shipment = self.kind in ("fulfilment", "order"), self.kind in ("shipment", "order")
        # of a kit a reset need not be right
        spared = KITS if self.kind == "reset" else ()
        wrong = {row["shipment"] for row in self.rows if is_shipment and "wrong" in row}
        named = {(row["shipment"], row["facility"]) for row in self.rows if is_shipment and row["facility"]}
        places = Counter(shipment for shipment, _ in named)
        wrong |= {shipment for shipment, count in places.items() if count > 1}
        lines = enumerate(self.rows, 1 if is_json else 2)
        return [
            (line, row)
            for line, row in lines
            if ("wrong" not in row or row.get("product") in spared) and not (is_shipment and row["shipment"] in wrong)
        ]

    def accepted(self) -> list[tuple[int, Row]]:
        """The right rows but those of kits, which are nobody's."""
        return [(n, row) for n, row in self.right() if self.kind in ("rule", "kit") or row.get("product") not in KITS]


@dataclass(frozen=True)
class Kind:
    """A kind of file as `model` knows it: its feed, its columns by our names, what they may say, and what a wrong row says."""

    name: str
    feed: Feed
    config: type[ImportFiles]
    values: Mapping[str, Sequence[str]]
    faults: Sequence[Row]
    # of a CSV; a file without is JSON
    columns: dict[str, str] = field(default_factory=dict)
    # how a value of ours is written
    spelled: dict[str, str] = field(default_factory=dict)


NOWHERE, NOTHING, NO_NUMBER = {"facility": "NOWHERE"}, {"product": "99999"}, {"quantity": "ten"}
PARKED, NONE = {"facility": "PARKING"}, {"quantity": "0"}
MOVED = {"facility": FACILITIES, "product": MIXED, "quantity": [str(n) for n in range(-6, 10)]}
MOVED_FAULTS = (NOWHERE, PARKED, NOTHING, NO_NUMBER)
MOVED_COLUMNS = {"facility": "externalFacilityId", "product": "idValue", "quantity": "availableDelta"}
DELTAS = {
    deltas.ITEM_RECEIPT: deltas.ReceiptFiles,
    deltas.INVENTORY_TRANSFER: deltas.TransferFiles,
    deltas.INVENTORY_ADJUSTMENT: deltas.AdjustmentFiles,
}
SHIPPED = {"shipment": ("1", "2", "3"), "product": MIXED, "quantity": UNITS}
KINDS = (
    Kind(
        "reset",
        reset.FEED,
        reset.ResetFiles,
        MOVED | {"by": ("ATP", "QOH", "")},
        (*MOVED_FAULTS, {"by": "X"}),
        MOVED_COLUMNS | {"quantity": "availableQty", "by": "resetBy"},
        EXTERNAL | NETSUITE,
    ),
    *(
        Kind("delta", feed, config, MOVED, MOVED_FAULTS, MOVED_COLUMNS, EXTERNAL | NETSUITE)
        for feed, config in DELTAS.items()
    ),
    Kind(
        "fulfilment",
        deltas.ITEM_RECEIPT,
        deltas.ReceiptFiles,
        {"order": [*ORDERS], "facility": FACILITIES, "quantity": UNITS},
        (NOWHERE, PARKED, NO_NUMBER, NONE, {"order": "X"}),
        spelled=EXTERNAL,
    ),
    Kind(
        "rule",
        product_facility.FEED,
        product_facility.RuleFiles,
        {
            "product": MIXED,
            "facility": (*FACILITIES, "CONFIGURATION"),
            "quantity": ("", "0", *UNITS),
            "brokering": FLAGS,
            "pickup": FLAGS,
        },
        (NOWHERE, NOTHING, NO_NUMBER, {"quantity": "-1"}, {"brokering": "maybe"}),
        {
            "product": "product-id",
            "facility": "facility-id",
            "quantity": "facility-safety-stock",
            "brokering": "allow-brokering",
            "pickup": "allow-pickup",
        },
    ),
    Kind(
        "kit",
        kit_components.FEED,
        kit_components.KitFiles,
        {"product": KITS, "component": SINGLE, "quantity": UNITS},
        (NOTHING, NO_NUMBER, NONE, {"product": "10001"}, {"component": "10009"}),
        {"product": "productId", "component": "productIdTo", "quantity": "quantity"},
    ),
    Kind(
        "shipment",
        shipments.FEED,
        shipments.ShipmentFiles,
        SHIPPED | {"facility": ("", "BROADWAY", "BROADWAY", "BROADWAY")},
        (NOWHERE, PARKED, NOTHING, NO_NUMBER, NONE, {"shipment": ""}),
        {
            "shipment": "external-shipment-id",
            "product": "product-sku",
            "quantity": "quantity",
            "facility": "destination-facility-id",
        },
        SKUS,
    ),
    Kind(
        "order",
        shipments.FEED,
        shipments.ShipmentFiles,
        SHIPPED | {"facility": ("",)},
        (NOTHING, NO_NUMBER, NONE),
        spelled=NETSUITE,
    ),
    Kind(
        "restock",
        restock.FEED,
        restock.RestockFiles,
        {"shipment": ("A", "B"), "time": (PAST, FUTURE), "facility": FACILITIES, "product": MIXED, "quantity": UNITS},
        (NOWHERE, PARKED, NOTHING, NO_NUMBER, NONE, {"time": "soon"}),
        {
            "shipment": "Restock Name",
            "time": "Schedule Time",
            "facility": "Facility",
            "product": "Shopify Product SKU",
            "quantity": "Restock Quantity",
        },
        SKUS,
    ),
)


def named(kind: Kind, stem: str) -> str:
    """The name of a file of this kind."""
    return f"{'PRODUCT_FACILITY_' if kind.name == 'rule' else ''}{stem}.{'csv' if kind.columns else 'json'}"


def content(kind: Kind, rows: Sequence[Row], number: int) -> bytes:
    """The bytes of a file, unlike those of any other number. In a transfer order the rows of a shipment stand together."""
    rows = [{name: kind.spelled.get(value, value) for name, value in row.items()} for row in rows]
    if kind.columns:
        lines = [",".join([*(row[name] for name in kind.columns), ""]) for row in rows]
        return "\n".join([",".join([*kind.columns.values(), f"x{number}"]), *lines, ""]).encode()
    elements: dict[object, dict[str, Any]] = {}
    for line, row in enumerate(rows):
        if kind.name == "fulfilment":
            item = {"orderItemSeqId": "00101", "externalFacilityId": row["facility"], "quantity": row["quantity"]}
            elements[line] = {"orderMap": {"orderId": row["order"], "items": [item]}}
        else:
            item = {
                "productIdType": "NETSUITE_PRODUCT_ID",
                "productIdValue": row["product"],
                "quantity": row["quantity"],
            }
            first = {"externalId": row["shipment"], "packages": [{"items": []}, {"trackingNumber": "1Z"}]}
            elements.setdefault(row["shipment"], first)["packages"][0]["items"].append(item)
    return (json.dumps([*elements.values()]) + " " * number).encode()
