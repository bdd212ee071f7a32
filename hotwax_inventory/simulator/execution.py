"""Running a document: each root field is answered in full, then cut to what the document selects."""

import math
from collections.abc import Callable, Iterator, Mapping

from hotwax_inventory.simulator.bulk import BulkOperations
from hotwax_inventory.simulator.documents import Document, RootField, Value
from hotwax_inventory.simulator.graphql_errors import FieldError, Refused, error
from hotwax_inventory.simulator.graphql_values import Arguments
from hotwax_inventory.simulator.inventory import InventoryMutations
from hotwax_inventory.simulator.reading import Reader
from hotwax_inventory.simulator.storage import Storage
from hotwax_inventory.simulator.webhooks import WebhookSubscriptions

ARRAY_LIMIT = 250
COST_OF_STAGING = 11
COST_OF_MUTATION = 10

Resolver = Callable[[str, str, RootField], Value]


class Executor:
    """Answers root fields by their names."""

    def __init__(
        self,
        *,
        inventory: InventoryMutations,
        reader: Reader,
        bulk: BulkOperations,
        storage: Storage,
        webhooks: WebhookSubscriptions,
        may_write: Callable[[str], bool],
    ) -> None:
        self._may_write = may_write

        def plain(answer: Callable[[str, Arguments], Value]) -> Resolver:
            return lambda shop_id, version, field: answer(shop_id, field.arguments)

        self._queries: Mapping[str, Resolver] = {
            **{name: plain(answer) for name, answer in reader.fields.items()},
            "bulkOperation": plain(bulk.one),
            "bulkOperations": plain(bulk.many),
            "webhookSubscriptions": plain(webhooks.many),
        }
        self._mutations: Mapping[str, Resolver] = {
            "inventoryAdjustQuantities": inventory.quantities,
            "inventorySetQuantities": inventory.quantities,
            "inventoryActivate": inventory.activate,
            "stagedUploadsCreate": plain(storage.create_targets),
            "bulkOperationRunQuery": lambda shop_id, version, field: bulk.run_query(shop_id, version, field.arguments),
            "bulkOperationRunMutation": lambda shop_id, version, field: bulk.run_mutation(
                shop_id, version, field.arguments
            ),
            "bulkOperationCancel": plain(bulk.cancel),
            "webhookSubscriptionCreate": plain(webhooks.create),
            "webhookSubscriptionDelete": plain(webhooks.delete),
        }

    def execute(self, document: Document, given: Arguments, shop_id: str, version: str) -> dict[str, object]:
        """`data` and, where a field failed, `errors`; `errors` alone when nothing of the document is run."""
        try:
            variables = document.variables(given)
        except Refused as refused:
            return {"errors": refused.errors}
        fields = document.root_fields(variables)
        for field in fields:
            for name, size in _arrays(field.arguments, field.name):
                if size > ARRAY_LIMIT:
                    message = f"The input array size of {size} is greater than the maximum allowed of {ARRAY_LIMIT}."
                    refused = error(message, "MAX_INPUT_SIZE_EXCEEDED", path=name.split("."))
                    return {"errors": [refused]}
        data: dict[str, object] = {}
        errors: list[dict[str, object]] = []
        for field in fields:
            problems: list[FieldError] = []
            try:
                value = self._value(document, field, shop_id, version)
                data[field.alias] = document.project(value, field.node, variables, problems)
            except FieldError as problem:
                data[field.alias] = None
                problems.append(problem)
            errors += [error(one.message, one.code, path=[field.alias]) for one in problems]
        return {"errors": errors, "data": data} if errors else {"data": data}

    def _value(self, document: Document, field: RootField, shop_id: str, version: str) -> Value:
        if field.name == "__typename":
            return "Mutation" if document.is_mutation else "QueryRoot"
        resolver = (self._mutations if document.is_mutation else self._queries).get(field.name)
        if resolver is None:
            raise FieldError(f"The simulator does not answer root field '{field.name}'", "undefinedField")
        if field.name.startswith("inventory") and document.is_mutation and not self._may_write(shop_id):
            message = f"Access denied for {field.name} field. Required access: `write_inventory` access scope."
            raise FieldError(message, "ACCESS_DENIED")
        return resolver(shop_id, version, field)


def cost(document: Document, fields: list[RootField]) -> int:
    """The points of a document, near enough to Shopify's: see shopify-admin-api.md section 6."""
    total = 0
    for field in fields:
        if document.is_mutation:
            total += COST_OF_STAGING if field.name == "stagedUploadsCreate" else COST_OF_MUTATION
            continue
        ids, first = field.arguments.get("ids"), field.arguments.get("first")
        size = len(ids) if isinstance(ids, list) else first if isinstance(first, int) else 0
        total += 1 + math.ceil(size / 10)
    return total


def _arrays(value: object, name: str) -> Iterator[tuple[str, int]]:
    if isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _arrays(entry, f"{name}.{key}")
    elif isinstance(value, list):
        yield name, len(value)
        if value and isinstance(value[0], (Mapping, list)) and len(value) <= ARRAY_LIMIT:
            for index, entry in enumerate(value):
                yield from _arrays(entry, f"{name}.{index}")
