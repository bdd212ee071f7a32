"""The shops of the reference, each a partition of what is read from it and published to it."""

from dataclasses import dataclass

import dagster as dg
import duckdb

from hotwax_inventory.resources import Warehouse

SHOPS = dg.DynamicPartitionsDefinition(name="shop")


class NoShop(ValueError):
    """A run of a shop's job that names no shop."""


class UnknownShop(ValueError):
    """The partition names a shop that the reference does not have."""


@dataclass(frozen=True)
class Shop:
    """A shop of the reference."""

    shop_id: str
    shop_domain: str
    product_store_id: str
    inventory_master: str
    facility_group_mode: str


FOUND = """
select shop_id, coalesce(shop_domain, ''), product_store_id, inventory_master, shopify_facility_group_mode
from shopify_shop
"""


def shop_of(context: dg.AssetExecutionContext) -> str:
    """The id of the shop that a run is for. Raises NoShop."""
    if not context.has_partition_key:
        raise NoShop(
            'The run is for no shop. Choose one as its partition, or start it with --tags \'{"dagster/partition": "SHOP"}\'.'
        )
    return context.partition_key


# SQL: whether a row is of a shop that others write to.
WRITTEN_BY_OTHERS = "shop_id in (select shop_id from shopify_shop where inventory_master <> 'hotwax')"


def find_shop(shop_id: str, connection: duckdb.DuckDBPyConnection) -> Shop:
    """The shop of a partition. Raises UnknownShop."""
    found = connection.execute(f"{FOUND} where shop_id = $shop_id", {"shop_id": shop_id}).fetchall()
    if not found:
        raise UnknownShop(
            f"Shop {shop_id} is not in shopify_shop.csv as it was last loaded. See that it is there, and run load_reference."
        )
    return Shop(*found[0])


def find_publishing_shops(warehouse: Warehouse) -> list[Shop]:
    """The shops whose numbers are written, not read, and of which we know what they carry."""
    with warehouse.transaction() as connection:
        found = connection.execute(
            f"{FOUND} where inventory_master = 'hotwax' and shop_id in (select shop_id from shopify_bulk_read) order by shop_id"
        ).fetchall()
    return [Shop(*row) for row in found]
