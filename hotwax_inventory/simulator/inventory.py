"""The inventory mutations, with the rules that Shopify checks at run time.

Each call is one transaction: its key, its changes and their journal rows commit together or not at all.
Rules: shopify-admin-api.md sections 2 and 3.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from hotwax_inventory.simulator.documents import Answer, RootField, Value
from hotwax_inventory.simulator.faults import MUTATION_KINDS, Faults
from hotwax_inventory.simulator.gids import gid, number_of
from hotwax_inventory.simulator.graphql_errors import FieldError
from hotwax_inventory.simulator.graphql_values import Arguments
from hotwax_inventory.simulator.inventory_rules import (
    ANY_LOCATION_FROM,
    KEY_REQUIRED_FROM,
    SET_LIMIT,
    STALE,
    Row,
    UserError,
    argument_errors,
    duplicate_errors,
    ledger_errors,
    moves_of,
    read_rows,
    refusal,
)
from hotwax_inventory.simulator.reading import item_reference, level_answer, location_reference
from hotwax_inventory.simulator.shop_store import ShopStore
from hotwax_inventory.simulator.stock import Level

KEY_LIFE = timedelta(hours=24)
NO_KEY = "The @idempotent directive is required for this mutation but was not provided."
MISMATCH = "The idempotency key was already used with different parameters."

REMEMBERED = (
    "select root_field, parameters, group_id, answer, recorded_at from idempotency where shop_id = ? and key = ?"
)
REMEMBER = "insert or replace into idempotency values (?, ?, ?, ?, ?, ?, ?)"
NEW_GROUP = """
insert into adjustment_group (shop_id, reason, reference_document_uri, created_at)
values (?, ?, ?, ?)
"""
GROUP_CHANGES = """
select item_id, location_id, name, delta
from adjustment
where group_id = ?
order by sequence
"""


@dataclass(frozen=True)
class Outcome:
    """What a call came to: the group of its changes, or why there is none."""

    group_id: int | None
    errors: Sequence[UserError]


class InventoryMutations:
    """Adjust, set and activate, over one store of shops."""

    def __init__(self, shops: ShopStore, faults: Faults) -> None:
        self._shops = shops
        self._faults = faults

    def quantities(self, shop_id: str, version: str, field: RootField) -> Answer:
        """`inventoryAdjustQuantities` or `inventorySetQuantities`."""
        is_set = field.name == "inventorySetQuantities"
        payload = f"{field.name[0].upper()}{field.name[1:]}Payload"
        self._require_key(field, version)
        given = field.arguments.get("input")
        entries = given.get("quantities" if is_set else "changes") if isinstance(given, Mapping) else None
        if not isinstance(given, Mapping) or not isinstance(entries, list):
            raise FieldError(f"{field.name} needs an input with its rows.", "INVALID_FIELD_ARGUMENTS")
        rows = read_rows(entries, is_set=is_set, version=version)
        if refused := self._refused_by_fault(shop_id, field.name):
            return self._answer(shop_id, payload, Outcome(None, [refused]))
        with self._shops.transaction():
            outcome = self._remembered(shop_id, field)
            if outcome is None:
                outcome = self._apply(shop_id, version, field, given, rows)
                self._remember(shop_id, field, outcome)
            return self._answer(shop_id, payload, outcome)

    def activate(self, shop_id: str, version: str, field: RootField) -> Answer:
        """`inventoryActivate`: stock an item at a location, keeping quantities that are already there."""
        self._require_key(field, version)
        refused = self._refused_by_fault(shop_id, field.name)
        item_id = number_of(field.arguments.get("inventoryItemId"), "InventoryItem")
        location_id = number_of(field.arguments.get("locationId"), "Location")
        with self._shops.transaction():
            outcome = Outcome(None, [refused]) if refused else self._remembered(shop_id, field)
            if outcome is None:
                outcome = Outcome(None, self._activated(shop_id, field, item_id, location_id))
                self._remember(shop_id, field, outcome)
            level = None
            if not outcome.errors and item_id is not None and location_id is not None:
                level = self._shops.find_level(shop_id, item_id, location_id)
        return {
            "__typename": "InventoryActivatePayload",
            "inventoryLevel": level_answer(self._shops, shop_id, level) if level else None,
            "userErrors": [{"__typename": "UserError", **found} for found in outcome.errors],
        }

    def _activated(
        self, shop_id: str, field: RootField, item_id: int | None, location_id: int | None
    ) -> list[UserError]:
        if item_id is None or self._shops.item(shop_id, item_id) is None:
            return [refusal(None, ["inventoryItemId"], "There is no such inventory item.")]
        if location_id is None or self._shops.location(shop_id, location_id) is None:
            return [refusal(None, ["locationId"], "There is no such location.")]
        available, on_hand = field.arguments.get("available"), field.arguments.get("onHand")
        if available is not None and on_hand is not None:
            return [refusal(None, ["available"], "Give available or onHand, not both.")]
        level = self._shops.find_level(shop_id, item_id, location_id)
        asked = available if available is not None else on_hand
        if level is not None and level.is_active and asked is not None:
            name = "available" if available is not None else "onHand"
            return [
                refusal(None, [name], "The item is active there already; its quantity is not changed by activation.")
            ]
        if isinstance(asked, int) and abs(asked) > SET_LIMIT:
            return [refusal(None, ["available"], "The quantity is beyond one billion.")]
        if level is None:
            self._shops.set_level(shop_id, item_id, location_id, 0)
        with self._shops.transaction() as db:
            db.execute(
                "update level set is_active = 1 where shop_id = ? and item_id = ? and location_id = ?",
                [shop_id, item_id, location_id],
            )
        if isinstance(asked, int):
            now = self._shops.level(shop_id, item_id, location_id)
            delta = asked - (now.available if available is not None else now.on_hand)
            change = (item_id, location_id, "available", delta)
            self._shops.apply(shop_id, [change], source="activate", idempotency_key=field.idempotency_key)
        return []

    def _require_key(self, field: RootField, version: str) -> None:
        if field.idempotency_key is None and version >= KEY_REQUIRED_FROM:
            raise FieldError(NO_KEY, "BAD_REQUEST")

    def _refused_by_fault(self, shop_id: str, root_field: str) -> UserError | None:
        fault = self._faults.take(root_field, MUTATION_KINDS - {"stale_without_code"}, shop_id)
        if fault is None:
            return None
        code = str(fault.value or "SERVICE_UNAVAILABLE")
        return refusal(code, None, STALE if code == "CHANGE_FROM_QUANTITY_STALE" else f"Refused on demand: {code}.")

    def _remembered(self, shop_id: str, field: RootField) -> Outcome | None:
        if field.idempotency_key is None:
            return None
        found = self._shops.rows(REMEMBERED, [shop_id, field.idempotency_key])
        if not found:
            return None
        root_field, parameters, group_id, errors, recorded_at = found[0]
        if self._shops.now() - datetime.fromisoformat(recorded_at) > KEY_LIFE:
            return None
        if (root_field, parameters) != (field.name, _fingerprint(field)):
            return Outcome(None, [refusal("IDEMPOTENCY_KEY_PARAMETER_MISMATCH", None, MISMATCH)])
        return Outcome(group_id, json.loads(errors))

    def _remember(self, shop_id: str, field: RootField, outcome: Outcome) -> None:
        if field.idempotency_key is None:
            return
        answer = [_fingerprint(field), outcome.group_id, json.dumps(outcome.errors), self._shops.now().isoformat()]
        with self._shops.transaction() as db:
            db.execute(REMEMBER, [shop_id, field.idempotency_key, field.name, *answer])

    def _apply(
        self, shop_id: str, version: str, field: RootField, given: Mapping[str, object], rows: Sequence[Row]
    ) -> Outcome:
        is_set = field.name == "inventorySetQuantities"
        name, reason, document = (given.get(part) for part in ("name", "reason", "referenceDocumentUri"))
        errors = argument_errors(name, reason, document, is_set=is_set)
        levels: dict[tuple[int, int], Level] = {}
        for row in rows:
            errors += self._row_errors(shop_id, version, row, levels, "quantities" if is_set else "changes")
        errors += duplicate_errors(rows) if is_set else ledger_errors(rows, name)
        if errors:
            return Outcome(None, errors)
        moves, errors = moves_of(rows, levels, str(name), is_set=is_set)
        if errors:
            return Outcome(None, [self._without_code(shop_id, field.name, one) for one in errors])
        if not moves:
            return Outcome(None, [])
        with self._shops.transaction() as db:
            group_id = db.execute(NEW_GROUP, [shop_id, reason, document, self._shops.timestamp()]).lastrowid
        source = "set" if is_set else "adjust"
        self._shops.apply(shop_id, moves, source=source, idempotency_key=field.idempotency_key, group_id=group_id)
        return Outcome(group_id, [])

    def _row_errors(
        self, shop_id: str, version: str, row: Row, levels: dict[tuple[int, int], Level], rows_name: str
    ) -> list[UserError]:
        if row.item_id is not None and row.location_id is not None:
            pair = (row.item_id, row.location_id)
            level = levels.get(pair) or self._shops.find_level(shop_id, *pair)
            if level is not None:
                levels[pair] = level
                return []
        errors: list[UserError] = []
        place = ["input", rows_name, row.index]
        if row.item_id is None or self._shops.item(shop_id, row.item_id) is None:
            message = "There is no such inventory item."
            errors.append(refusal("INVALID_INVENTORY_ITEM", [*place, "inventoryItemId"], message))
        if row.location_id is None or self._shops.location(shop_id, row.location_id) is None:
            message = "There is no such location."
            errors.append(refusal("INVALID_LOCATION", [*place, "locationId"], message))
        if not errors and version < ANY_LOCATION_FROM:
            message = "The inventory item is not stocked at this location."
            errors.append(refusal("ITEM_NOT_STOCKED_AT_LOCATION", [*place, "locationId"], message))
        return errors

    def _without_code(self, shop_id: str, root_field: str, refused: UserError) -> UserError:
        if refused["code"] != "CHANGE_FROM_QUANTITY_STALE":
            return refused
        strikes = self._faults.take(root_field, {"stale_without_code"}, shop_id) is not None
        return refused | {"code": None} if strikes else refused

    def _answer(self, shop_id: str, payload: str, outcome: Outcome) -> Answer:
        error_type = payload.replace("Payload", "UserError")
        return {
            "__typename": payload,
            "inventoryAdjustmentGroup": self._group(shop_id, outcome.group_id),
            "userErrors": [{"__typename": error_type, **found} for found in outcome.errors],
        }

    def _group(self, shop_id: str, group_id: int | None) -> Answer | None:
        if group_id is None:
            return None
        (row,) = self._shops.rows(
            "select created_at, reason, reference_document_uri from adjustment_group where group_id = ?", [group_id]
        )
        return {
            "__typename": "InventoryAdjustmentGroup",
            "id": gid("InventoryAdjustmentGroup", group_id),
            "createdAt": row[0],
            "reason": row[1],
            "referenceDocumentUri": row[2],
            "changes": self._changes(shop_id, group_id),
            "staffMember": _no_staff,
        }

    def _changes(self, shop_id: str, group_id: int) -> list[Answer]:
        changes: list[Answer] = []
        for item_id, location_id, name, delta in self._shops.rows(GROUP_CHANGES, [group_id]):
            change: Answer = {
                "__typename": "InventoryChange",
                "name": name,
                "delta": delta,
                "quantityAfterChange": None,
                "ledgerDocumentUri": None,
                "item": item_reference(self._shops, shop_id, item_id),
                "location": location_reference(self._shops, shop_id, location_id),
            }
            changes.append(change)
            if name != "incoming":
                # on_hand follows every quantity that is physically there
                changes.append({**change, "name": "on_hand"})
        return changes


def _no_staff(_: Arguments) -> Value:
    raise FieldError(
        "Access denied for staffMember field. Required access: `read_users` access scope.", "ACCESS_DENIED"
    )


def _fingerprint(field: RootField) -> str:
    # not sorted: for Shopify the order of parameters can make them different ones
    return hashlib.sha256(json.dumps(field.arguments, separators=(",", ":")).encode()).hexdigest()
