"""Shopify's global ids, `gid://shopify/<Type>/<number>`."""

import re

GID = re.compile(r"gid://shopify/(?P<type>[A-Za-z]+)/(?P<number>[0-9]+)(?:\?inventory_item_id=(?P<item>[0-9]+))?")


def gid(type_name: str, number: int) -> str:
    """The global id of a plain number."""
    return f"gid://shopify/{type_name}/{number}"


def level_gid(level_number: int, item_id: int) -> str:
    """A level's id: an opaque number, which is not the location's, and the item behind it."""
    return f"gid://shopify/InventoryLevel/{level_number}?inventory_item_id={item_id}"


def number_of(value: object, type_name: str) -> int | None:
    """The number in a global id of that type; None for anything else."""
    found = GID.fullmatch(value) if isinstance(value, str) else None
    if found is None or found["type"] != type_name:
        return None
    return int(found["number"])


def parse_gid(value: object) -> tuple[str, int, int | None] | None:
    """Type, number and (for a level) item of a global id; None when it is not one."""
    found = GID.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return None
    return found["type"], int(found["number"]), int(found["item"]) if found["item"] else None
