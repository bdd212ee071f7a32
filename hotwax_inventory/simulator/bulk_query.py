"""The bulk queries that the simulator can run, and their result lines.

Two shapes: items with their levels, and locations with their levels. Each line is one node of a connection; a level's
line carries its parent's id and, as with Shopify, does not stand right behind its parent.
"""

import json
import random
from collections.abc import Iterator, Mapping, Sequence

from graphql import FieldNode, SelectionSetNode

from hotwax_inventory.simulator.documents import Answer, Document
from hotwax_inventory.simulator.gids import gid
from hotwax_inventory.simulator.graphql_errors import FieldError
from hotwax_inventory.simulator.graphql_values import Arguments, arguments_of
from hotwax_inventory.simulator.reading import item_answer, level_answer, location_answer
from hotwax_inventory.simulator.shop_store import ShopStore

PAGE = 2000
ROOTS = ("inventoryItems", "locations")
NESTED = "inventoryLevels"
_encode = json.JSONEncoder(separators=(",", ":")).encode

SUPPORTED = "The simulator runs bulk queries of inventoryItems or locations, each with inventoryLevels inside"


def json_line(line: Mapping[str, object]) -> bytes:
    """One line of a result file; slashes are escaped there."""
    return _encode(line).replace("/", "\\/").encode() + b"\n"


class BulkQuery:
    """One bulk query over one shop; ValueError when its shape is not supported."""

    def __init__(self, document: Document) -> None:
        if document.is_mutation:
            raise ValueError("A bulk query cannot be a mutation")
        roots = document.root_fields({})
        if len(roots) != 1 or roots[0].name not in ROOTS:
            raise ValueError(SUPPORTED)
        self._document = document
        self.root = roots[0].name
        _only(roots[0].arguments, ("first", "after", "includeInactive", "includeLegacy"))
        self._inactive_locations = roots[0].arguments.get("includeInactive") is True
        self._parent, nested = self._node(roots[0].node)
        if not any(field.alias is None and field.name.value == "id" for field in self._parent):
            raise ValueError("The parent field for a connection must select the 'id' field without an alias")
        self._child: list[FieldNode] = []
        self._inactive_levels = False
        if nested is not None:
            arguments = arguments_of(nested, {})
            _only(arguments, ("first", "after", "includeInactive"))
            self._inactive_levels = arguments.get("includeInactive") is True
            self._child, deeper = self._node(nested)
            if deeper is not None:
                raise ValueError(SUPPORTED)
        self._nested = nested is not None

    def _node(self, connection: FieldNode) -> tuple[list[FieldNode], FieldNode | None]:
        """The plain fields below `edges { node }`, and the nested connection."""
        node = _child(_child(connection, "edges"), "node")
        if node.selection_set is None:
            raise ValueError(SUPPORTED)
        fields = list(self._document.fields(node.selection_set, None, {}))
        nested = [field for field in fields if field.name.value == NESTED]
        if len(nested) > 1:
            raise ValueError(SUPPORTED)
        return [field for field in fields if field not in nested], nested[0] if nested else None

    def lines(self, shops: ShopStore, shop_id: str, seed: int) -> Iterator[tuple[bool, bytes]]:
        """(is a root, line) of the whole result; the order depends on the seed."""
        shuffle = random.Random(seed).shuffle
        if self.root == "locations":
            for location in shops.locations(shop_id):
                if location.is_active or self._inactive_locations:
                    yield True, json_line(self._line(self._parent, location_answer(location)))
        first = 0
        while items := shops.items_from(shop_id, first, PAGE):
            if self.root == "inventoryItems":
                for item in items:
                    yield True, json_line(self._line(self._parent, item_answer(shops, shop_id, item)))
            if self._nested:
                children = list(self._level_lines(shops, shop_id, first, items[-1].item_id))
                shuffle(children)
                for child in children:
                    yield False, child
            first = items[-1].item_id + 1

    def _level_lines(self, shops: ShopStore, shop_id: str, first_item_id: int, last_item_id: int) -> Iterator[bytes]:
        shown = {
            location.location_id
            for location in shops.locations(shop_id)
            if self.root == "inventoryItems" or location.is_active or self._inactive_locations
        }
        for level in shops.levels_between(shop_id, first_item_id, last_item_id):
            if level.location_id not in shown or not (level.is_active or self._inactive_levels):
                continue
            line = self._line(self._child, level_answer(shops, shop_id, level))
            by_location = self.root == "locations"
            line["__parentId"] = (
                gid("Location", level.location_id) if by_location else gid("InventoryItem", level.item_id)
            )
            yield json_line(line)

    def _line(self, fields: Sequence[FieldNode], answer: Answer) -> dict[str, object]:
        problems: list[FieldError] = []
        line = self._document.project_fields(answer, fields, {}, problems)
        if problems:
            raise problems[0]
        return line


def _child(field: FieldNode, name: str) -> FieldNode:
    selection = field.selection_set.selections if isinstance(field.selection_set, SelectionSetNode) else ()
    for node in selection:
        if isinstance(node, FieldNode) and node.name.value == name:
            return node
    raise ValueError("Bulk queries read connections through edges { node { ... } } only")


def _only(arguments: Arguments, allowed: Sequence[str]) -> None:
    beyond = sorted(set(arguments) - set(allowed))
    if beyond:
        raise ValueError(f"The simulator does not filter bulk queries by {', '.join(beyond)}")


def check(document: Document) -> str | None:
    """Why the simulator cannot run this bulk query; None when it can."""
    try:
        BulkQuery(document)
    except (ValueError, FieldError) as problem:
        return str(problem)
    return None
