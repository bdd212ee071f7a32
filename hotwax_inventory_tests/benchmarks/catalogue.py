"""A retailer of any size: ten facilities of which nine are Shopify locations of their own, and as many products as one likes.

Product i is 10000000 + i, SKU-<i> and NetSuite's 5000000 + i; facility j is STORE_<j> and NetSuite's 100 + j."""

from datetime import datetime
from pathlib import Path

import duckdb

from hotwax_inventory.definitions import defs
from hotwax_inventory.files.sources import Feed
from hotwax_inventory.imports.declaration import ImportFiles
from hotwax_inventory.resources import Warehouse

FACILITIES = 10
# What product i has at facility j, with n = 10 i + j; 0.5 % are 0.
QUANTITY = "(hash({n}) % 200)::bigint"

PRODUCTS = """
copy (
    select
        10000000 + i as product_id,
        'SKU-' || i as internal_name,
        'FINISHED_GOOD' as product_type_id,
        5000000 + i as netsuite_product_id,
        840000000000 + i as upca,
        null as tags
    from range($products) as product(i)
) to '{path}' (format csv, header)
"""

STORES = range(FACILITIES)
REFERENCE = {
    "facility": [
        "facility_id,external_id,facility_name,facility_type_id,parent_facility_type_id,product_store_id",
        *(f"STORE_{j},{100 + j},Store {j},RETAIL_STORE,PHYSICAL_STORE,STORE" for j in STORES),
        "_NA_,,Brokering queue,NA,VIRTUAL_FACILITY,STORE",
    ],
    "facility_group": [
        "facility_group_id,facility_group_type_id,facility_id,from_date,thru_date",
        *(f"FAC_GRP,CHANNEL_FAC_GROUP,STORE_{j},2024-01-01," for j in STORES),
    ],
    "product_store": ["product_store_id,reserve_inventory,hold_preorder_physical_inventory", "STORE,Y,N"],
    "shopify_shop": [
        "shop_id,shop_domain,product_store_id,inventory_master,shopify_facility_group_mode",
        "SHOP,shop.myshopify.com,STORE,hotwax,exclude",
    ],
    # the last store has no location: it counts at the aggregate location only
    "shopify_shop_location": [
        "shop_id,facility_id,shopify_location_id",
        *(f"SHOP,STORE_{j},{7000 + j}" for j in STORES[:-1]),
        f"SHOP,_NA_,{7000 + FACILITIES - 1}",
    ],
}


def write_reference(folder: Path, products: int) -> None:
    """Write the reference CSVs."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in REFERENCE.items():
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    duckdb.execute(PRODUCTS.format(path=folder / "product.csv"), {"products": products})


def load_reference() -> None:
    """Load the reference CSVs of HOTWAX_REFERENCE_DIR into the warehouse, which is made when missing."""
    defs.resolve_job_def("load_reference").execute_in_process()


def load_dimensions(reference: Path, connection: duckdb.DuckDBPyConnection) -> None:
    """Make the dimension tables of a floor, as the reference has them."""
    for name in ("product", "facility"):
        path = reference / f"{name}.csv"
        connection.execute(f"create table {name} as select * from read_csv('{path}', all_varchar = true)")


REGISTER = """
insert into data_manager_log by name
select
    (select coalesce(max(log_id), 0) + 1 from data_manager_log) as log_id, $config_id as config_id, $name as remote_path,
    $name as file_name, $at as remote_modified_at, $size_bytes as size_bytes, $name as sha256, 'landing/' || $name as landed_path,
    'pending' as status_id, $at as effective_at, $at as registered_at, 'bench' as run_id, 'FTP_CONFIG' as property_resource,
    $parameters as parameters
"""


def register(folder: Path, feed: Feed, config: ImportFiles, files: dict[str, datetime]) -> None:
    """Register files of the landing area as if they had been landed, with their times of effect."""
    with Warehouse().transaction() as connection:
        for name, at in files.items():
            values = {
                "config_id": feed.config_id,
                "name": name,
                "at": at,
                "size_bytes": (folder / "home" / "landing" / name).stat().st_size,
                "parameters": config.source(feed).parameters,
            }
            connection.execute(REGISTER, values)
