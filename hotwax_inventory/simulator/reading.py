"""The root fields that read a shop: nodes, items, levels, locations, and the shop with its app."""

from collections.abc import Callable, Iterator, Mapping

from hotwax_inventory.simulator.connections import connection
from hotwax_inventory.simulator.documents import Answer, Value
from hotwax_inventory.simulator.gids import gid, level_gid, number_of, parse_gid
from hotwax_inventory.simulator.graphql_errors import FieldError
from hotwax_inventory.simulator.graphql_values import Arguments
from hotwax_inventory.simulator.shop_store import ShopStore
from hotwax_inventory.simulator.stock import Item, Level, Location

QUANTITY_NAMES = (
    "available",
    "committed",
    "damaged",
    "incoming",
    "on_hand",
    "quality_control",
    "reserved",
    "safety_stock",
)


def item_answer(shops: ShopStore, shop_id: str, item: Item) -> Answer:
    """An InventoryItem."""

    def one_level(arguments: Arguments) -> Value:
        location_id = number_of(arguments.get("locationId"), "Location")
        level = None if location_id is None else shops.find_level(shop_id, item.item_id, location_id)
        wanted = level is not None and (level.is_active or arguments.get("includeInactive") is True)
        return level_answer(shops, shop_id, level) if level and wanted else None

    def all_levels(arguments: Arguments) -> Value:
        levels = [
            level_answer(shops, shop_id, level)
            for level in shops.levels_between(shop_id, item.item_id, item.item_id)
            if level.is_active or arguments.get("includeInactive") is True
        ]
        return connection("InventoryLevel", levels, arguments)

    return {
        "__typename": "InventoryItem",
        "id": gid("InventoryItem", item.item_id),
        "legacyResourceId": str(item.item_id),
        "sku": item.sku,
        "tracked": item.tracked,
        "createdAt": item.updated_at,
        "updatedAt": item.updated_at,
        "inventoryLevel": one_level,
        "inventoryLevels": all_levels,
    }


def location_answer(location: Location) -> Answer:
    """A Location."""
    return {
        "__typename": "Location",
        "id": gid("Location", location.location_id),
        "legacyResourceId": str(location.location_id),
        "name": location.name,
        "isActive": location.is_active,
        "shipsInventory": True,
        "fulfillsOnlineOrders": True,
        "hasActiveInventory": True,
    }


class Reference(Mapping[str, Value]):
    """An object inside another one: its type and id are known, the rest is looked up when it is asked for."""

    def __init__(self, type_name: str, number: int, look: Callable[[], Answer]) -> None:
        self._known: dict[str, Value] = {"__typename": type_name, "id": gid(type_name, number)}
        self._look = look
        self._answer: Answer | None = None

    def __getitem__(self, name: str) -> Value:
        if name in self._known:
            return self._known[name]
        return self._whole()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._whole())

    def __len__(self) -> int:
        return len(self._whole())

    def _whole(self) -> Answer:
        if self._answer is None:
            self._answer = self._look()
        return self._answer


def item_reference(shops: ShopStore, shop_id: str, item_id: int) -> Answer:
    """The InventoryItem of a level or a change."""

    def look() -> Answer:
        return item_answer(shops, shop_id, shops.item(shop_id, item_id) or Item(item_id, "", True, shops.timestamp()))

    return Reference("InventoryItem", item_id, look)


def location_reference(shops: ShopStore, shop_id: str, location_id: int) -> Answer:
    """The Location of a level or a change."""

    def look() -> Answer:
        return location_answer(shops.location(shop_id, location_id) or Location(location_id, "", False, 0))

    return Reference("Location", location_id, look)


def level_answer(shops: ShopStore, shop_id: str, level: Level) -> Answer:
    """An InventoryLevel."""

    def quantities(arguments: Arguments) -> Value:
        names = arguments.get("names")
        known = [name for name in names if name in QUANTITY_NAMES] if isinstance(names, list) else []
        return [
            {
                "__typename": "InventoryQuantity",
                "name": name,
                "quantity": level.quantity(name),
                "updatedAt": level.updated_at,
            }
            for name in known
        ]

    return {
        "__typename": "InventoryLevel",
        "id": level_gid(level.level_number, level.item_id),
        "createdAt": level.updated_at,
        "updatedAt": level.updated_at,
        "isActive": level.is_active,
        "canDeactivate": level.available == 0,
        "item": item_reference(shops, shop_id, level.item_id),
        "location": location_reference(shops, shop_id, level.location_id),
        "quantities": quantities,
    }


class Reader:
    """Answers the reading root fields of one store of shops."""

    def __init__(self, shops: ShopStore, bulk_operation: Callable[[str, int], Answer | None]) -> None:
        self._shops = shops
        self._bulk_operation = bulk_operation
        self.fields: Mapping[str, Callable[[str, Arguments], Value]] = {
            "node": self.node,
            "nodes": self.nodes,
            "inventoryItem": self.inventory_item,
            "inventoryLevel": self.node,
            "location": self.location,
            "locations": self.locations,
            "shop": self.shop,
            "currentAppInstallation": self.current_app_installation,
        }

    def node(self, shop_id: str, arguments: Arguments) -> Value:
        """Any node by its id; null when it is not there."""
        return self._node(shop_id, arguments.get("id"))

    def nodes(self, shop_id: str, arguments: Arguments) -> Value:
        """Nodes by their ids, null at the index of one that is not there."""
        ids = arguments.get("ids")
        return [self._node(shop_id, one) for one in ids] if isinstance(ids, list) else []

    def _node(self, shop_id: str, node_id: object) -> Answer | None:
        parsed = parse_gid(node_id)
        if parsed is None:
            raise FieldError(f"Invalid global id '{node_id}'", "argumentLiteralsIncompatible")
        type_name, number, item_id = parsed
        match type_name:
            case "InventoryLevel" if item_id is not None:
                level = self._shops.level_by_number(shop_id, number, item_id)
                return level_answer(self._shops, shop_id, level) if level else None
            case "InventoryItem":
                item = self._shops.item(shop_id, number)
                return item_answer(self._shops, shop_id, item) if item else None
            case "Location":
                location = self._shops.location(shop_id, number)
                return location_answer(location) if location else None
            case "BulkOperation":
                return self._bulk_operation(shop_id, number)
        return None

    def inventory_item(self, shop_id: str, arguments: Arguments) -> Value:
        """One InventoryItem."""
        number = number_of(arguments.get("id"), "InventoryItem")
        item = None if number is None else self._shops.item(shop_id, number)
        return item_answer(self._shops, shop_id, item) if item else None

    def location(self, shop_id: str, arguments: Arguments) -> Value:
        """One Location; without an id the first."""
        if "id" not in arguments:
            known = self._shops.locations(shop_id)
            return location_answer(known[0]) if known else None
        number = number_of(arguments["id"], "Location")
        location = None if number is None else self._shops.location(shop_id, number)
        return location_answer(location) if location else None

    def locations(self, shop_id: str, arguments: Arguments) -> Value:
        """The locations, inactive ones only when asked for."""
        found = [
            location_answer(location)
            for location in self._shops.locations(shop_id)
            if location.is_active or arguments.get("includeInactive") is True
        ]
        return connection("Location", found, arguments)

    def shop(self, shop_id: str, _: Arguments) -> Value:
        """The Shop."""
        ordinal, domain = self._shops.shop(shop_id) or (0, "")
        limits = {
            "__typename": "ShopResourceLimits",
            "locationLimit": 200,
            "maxProductVariants": 2048,
            "maxProductOptions": 3,
        }
        return {
            "__typename": "Shop",
            "id": gid("Shop", ordinal),
            "name": shop_id,
            "myshopifyDomain": domain,
            "currencyCode": "USD",
            "ianaTimezone": "Etc/UTC",
            "resourceLimits": limits,
        }

    def current_app_installation(self, shop_id: str, _: Arguments) -> Value:
        """The app's installation, with the scopes of its token."""
        scopes = [{"__typename": "AccessScope", "handle": handle} for handle in self._shops.scopes_of(shop_id)]
        return {"__typename": "AppInstallation", "id": gid("AppInstallation", 1), "accessScopes": scopes}
