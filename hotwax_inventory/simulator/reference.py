"""Fills the simulated shops from the project's reference files; what is there already stays as it is."""

import csv
import hashlib
from collections.abc import Iterator
from pathlib import Path

from hotwax_inventory.simulator.shop_store import ShopStore

FIRST_ITEM_ID = 44_000_000_000_000
ITEM_IDS_PER_SHOP = 10_000_000
HIGHEST_SEED = 40


def seed(shops: ShopStore, reference_dir: Path) -> None:
    """Add the shops of shopify_shop.csv, their locations, an item a product, and a level for each pair of them."""
    for row in _rows(reference_dir / "shopify_shop.csv"):
        shops.add_shop(row["shop_id"], row.get("shop_domain") or None)
    for row in _rows(reference_dir / "shopify_shop_location.csv"):
        if shops.shop(row["shop_id"]):
            shops.add_location(row["shop_id"], int(row["shopify_location_id"]), row["facility_id"])
    for shop_id in {row["shop_id"]: None for row in _rows(reference_dir / "shopify_shop.csv")}:
        _seed_items(shops, shop_id, reference_dir / "product.csv")


def _seed_items(shops: ShopStore, shop_id: str, product_file: Path) -> None:
    ordinal, _ = shops.shop(shop_id) or (0, "")
    first = FIRST_ITEM_ID + ITEM_IDS_PER_SHOP * ordinal
    with shops.transaction():
        known = dict(shops.rows("select product_id, item_id from item where shop_id = ?", [shop_id]))
        taken = set(known.values())
        next_free = max([first + ITEM_IDS_PER_SHOP // 2, *taken]) + 1
        locations = [location.location_id for location in shops.locations(shop_id)]
        levels: list[tuple[int, int, int]] = []
        for row_number, row in enumerate(_rows(product_file), start=1):
            item_id = known.get(row["product_id"], first + row_number)
            sku = row["internal_name"]
            if row["product_id"] not in known:
                if item_id in taken:
                    # the file's rows have moved: this id belongs to another product already
                    item_id, next_free = next_free, next_free + 1
                shops.add_item(shop_id, item_id, sku, row["product_id"])
                taken.add(item_id)
            levels += [(item_id, location_id, seed_quantity(shop_id, sku, location_id)) for location_id in locations]
        shops.bulk_load(shop_id, levels)


def seed_quantity(shop_id: str, sku: str, location_id: int) -> int:
    """The available quantity that a level starts with: 0 to 40, always the same for the same three."""
    digest = hashlib.blake2b(f"{shop_id}|{sku}|{location_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) % (HIGHEST_SEED + 1)


def _rows(file: Path) -> Iterator[dict[str, str]]:
    if not file.exists():
        return
    with file.open(encoding="utf-8-sig", newline="") as lines:
        yield from csv.DictReader(lines)
