"""The search text of `bulkOperations(query:)`: `status:running operation_type:mutation created_at:>=2026-11-01`."""

import re
from collections.abc import Sequence

from hotwax_inventory.simulator.documents import Value
from hotwax_inventory.simulator.graphql_errors import FieldError

TERM = re.compile(r"(?P<key>\w+):(?P<comparison>>=|<=|>|<)?['\"]?(?P<value>[^\s'\"]+)['\"]?")
FIELDS = {"status": "status", "operation_type": "type", "created_at": "createdAt", "completed_at": "completedAt"}


def matching(operations: Sequence[dict[str, Value]], query: object) -> list[dict[str, Value]]:
    """The operations that satisfy every known term; an unknown key is passed over, as Shopify does."""
    found = list(operations)
    for term in TERM.finditer(query) if isinstance(query, str) else ():
        field = FIELDS.get(term["key"])
        if field is None:
            continue
        if field == "status" and term["value"].upper() == "EXPIRED":
            raise FieldError("Invalid status value: EXPIRED", "BAD_REQUEST")
        found = [one for one in found if _satisfies(one[field], term["comparison"], term["value"])]
    return found


def _satisfies(held: Value, comparison: str | None, wanted: str) -> bool:
    if not isinstance(held, str):
        return False
    match comparison:
        case ">=":
            return held >= wanted
        case "<=":
            return held <= wanted
        case ">":
            return held > wanted
        case "<":
            return held < wanted
    return held.upper() == wanted.upper()
