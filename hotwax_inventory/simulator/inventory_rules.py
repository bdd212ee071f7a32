"""The rules of an inventory call: which rows, names, reasons and documents are let through, and what is moved.

Pure functions over what a call says and what the levels hold; texts and codes as in shopify-admin-api.md section 2.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from hotwax_inventory.simulator.gids import number_of
from hotwax_inventory.simulator.graphql_errors import FieldError
from hotwax_inventory.simulator.stock import Level

KEY_REQUIRED_FROM = "2026-04"
ANY_LOCATION_FROM = "2026-10"

REASONS = frozenset(
    {
        "correction",
        "cycle_count_available",
        "damaged",
        "movement_canceled",
        "movement_created",
        "movement_received",
        "movement_updated",
        "other",
        "promotion",
        "quality_control",
        "received",
        "reservation_created",
        "reservation_deleted",
        "reservation_updated",
        "restock",
        "safety_stock",
        "shrinkage",
    }
)
ADJUSTABLE = frozenset({"available", "damaged", "incoming", "quality_control", "reserved", "safety_stock"})
SETTABLE = frozenset({"available", "on_hand"})
ADJUST_LIMIT = 2_000_000_000
SET_LIMIT = 1_000_000_000

STALE = "The changeFromQuantity argument no longer matches the persisted quantity."
URI = re.compile(r"(?!gid:)[a-z][a-z0-9+.-]*://\S+|gid://[^/\s]+/[^/\s]+/[^/\s]+")

UserError = dict[str, str | list[str] | None]


@dataclass(frozen=True)
class Row:
    """One entry of `changes` or `quantities`: `amount` is its delta or its quantity."""

    index: str
    item_id: int | None
    location_id: int | None
    amount: int
    change_from: int | None
    ledger_document: str | None


def read_rows(entries: Sequence[object], *, is_set: bool, version: str) -> list[Row]:
    """The rows of a call; FieldError where one lacks its number or, in versions that want it, its compare value."""
    rows: list[Row] = []
    for index, entry in enumerate(entries):
        amount = entry.get("quantity" if is_set else "delta") if isinstance(entry, Mapping) else None
        if not isinstance(entry, Mapping) or not isinstance(amount, int):
            raise FieldError(f"Row {index} needs a whole number.", "INVALID_FIELD_ARGUMENTS")
        if "changeFromQuantity" not in entry and version >= KEY_REQUIRED_FROM:
            input_type = "InventoryQuantityInput" if is_set else "InventoryChangeInput"
            message = f"{input_type} must include the following argument: changeFromQuantity."
            raise FieldError(message, "INVALID_FIELD_ARGUMENTS")
        expected, ledger = entry.get("changeFromQuantity"), entry.get("ledgerDocumentUri")
        rows.append(
            Row(
                index=str(index),
                item_id=number_of(entry.get("inventoryItemId"), "InventoryItem"),
                location_id=number_of(entry.get("locationId"), "Location"),
                amount=amount,
                change_from=expected if isinstance(expected, int) else None,
                ledger_document=ledger if isinstance(ledger, str) else None,
            )
        )
    return rows


def argument_errors(name: object, reason: object, document: object, *, is_set: bool) -> list[UserError]:
    """What is wrong with the arguments beside the rows."""
    errors: list[UserError] = []
    if reason not in REASONS:
        message = f"The reason must be one of: {', '.join(sorted(REASONS))}."
        errors.append(refusal("INVALID_REASON", ["input", "reason"], message))
    allowed = SETTABLE if is_set else ADJUSTABLE
    if name not in allowed:
        message = f"The quantity name must be one of: {', '.join(sorted(allowed))}."
        errors.append(refusal("INVALID_NAME" if is_set else "INVALID_QUANTITY_NAME", ["input", "name"], message))
    if document is not None and not (isinstance(document, str) and URI.fullmatch(document)):
        message = "The referenceDocumentUri is no valid URI."
        errors.append(refusal("INVALID_REFERENCE_DOCUMENT", ["input", "referenceDocumentUri"], message))
    return errors


def duplicate_errors(rows: Sequence[Row]) -> list[UserError]:
    """An error at every row whose pair stands in another row too."""
    pairs = Counter((row.item_id, row.location_id) for row in rows)
    code = "NO_DUPLICATE_INVENTORY_ITEM_ID_GROUP_ID_PAIR"
    message = "Each pair of inventoryItemId and locationId can stand in one row only."
    return [
        refusal(code, ["input", "quantities", row.index, "locationId"], message)
        for row in rows
        if pairs[row.item_id, row.location_id] > 1
    ]


def ledger_errors(rows: Sequence[Row], name: object) -> list[UserError]:
    """What is wrong with the rows' ledger documents: none for available, one and the same for every other quantity."""
    if name not in ADJUSTABLE:
        return []
    errors: list[UserError] = []
    for row in rows:
        place = ["input", "changes", row.index, "ledgerDocumentUri"]
        if name == "available":
            if row.ledger_document is not None:
                message = "Changes of available take no ledgerDocumentUri."
                errors.append(refusal("INVALID_AVAILABLE_DOCUMENT", place, message))
        elif row.ledger_document is None:
            message = "Changes of this quantity need a ledgerDocumentUri."
            errors.append(refusal("INVALID_QUANTITY_DOCUMENT", place, message))
        elif row.ledger_document.startswith("gid://shopify/"):
            message = "A ledgerDocumentUri cannot be one of gid://shopify/."
            errors.append(refusal("INTERNAL_LEDGER_DOCUMENT", place, message))
        elif not URI.fullmatch(row.ledger_document):
            errors.append(refusal("INVALID_LEDGER_DOCUMENT", place, "The ledgerDocumentUri is no valid URI."))
    if len({row.ledger_document for row in rows}) > 1:
        message = "One call can name one ledgerDocumentUri only."
        errors.append(refusal("MAX_ONE_LEDGER_DOCUMENT", ["input", "changes"], message))
    return errors


def moves_of(
    rows: Iterable[Row], levels: Mapping[tuple[int, int], Level], name: str, *, is_set: bool
) -> tuple[list[tuple[int, int, str, int]], list[UserError]]:
    """What to move, zero left out; or the refusals of rows whose compare value or result is not allowed."""
    moves: list[tuple[int, int, str, int]] = []
    errors: list[UserError] = []
    now: dict[tuple[int, int], int] = {}
    limit = SET_LIMIT if is_set else ADJUST_LIMIT
    for row in rows:
        if row.item_id is None or row.location_id is None:
            continue
        pair = (row.item_id, row.location_id)
        held = now.get(pair, levels[pair].quantity(name) if pair in levels else 0)
        wanted = row.amount if is_set else held + row.amount
        place = ["input", "quantities", row.index, "quantity"] if is_set else ["input", "changes", row.index, "delta"]
        if row.change_from is not None and row.change_from != held:
            # Shopify names no row, so many stale rows are one error
            return [], [refusal("CHANGE_FROM_QUANTITY_STALE", None, STALE)]
        if is_set and name == "on_hand" and wanted < 0:
            errors.append(refusal("INVALID_QUANTITY_NEGATIVE", place, "The quantity can't be negative."))
        elif wanted > limit:
            errors.append(refusal("INVALID_QUANTITY_TOO_HIGH", place, f"The quantity can't be higher than {limit:,}."))
        elif wanted < -limit:
            errors.append(refusal("INVALID_QUANTITY_TOO_LOW", place, f"The quantity can't be lower than -{limit:,}."))
        elif wanted != held:
            moves.append((*pair, "available" if name == "on_hand" else name, wanted - held))
            now[pair] = wanted
    return moves, errors


def refusal(code: str | None, field: list[str] | None, message: str) -> UserError:
    """One user error."""
    return {"code": code, "field": field, "message": message}
