"""Which product and which facility a person means, by any of the names that files use; unknown ones are told what is near."""

from dataclasses import dataclass

import duckdb

AGGREGATE = "_NA_"


class NotKnown(ValueError):
    """A product or facility that the reference does not have; the message names near matches."""


class NothingMoved(NotKnown):
    """There is no stock yet of which something could be said."""


@dataclass(frozen=True)
class Product:
    """A product of the reference."""

    product_id: str
    sku: str


# By id, else SKU, else NetSuite id, else UPC, as component lists are read.
PRODUCT = """
select
    g.good_identification_type_id,
    list(p.product_id order by p.product_id) as product_ids,
    any_value(coalesce(p.internal_name, p.product_id)) as sku
from good_identification as g
join product as p
    on g.id_value = case g.good_identification_type_id
        when 'PRODUCTID' then p.product_id
        when 'SKU' then p.internal_name
        when 'NETSUITEPRODUCTID' then p.netsuite_product_id
        when 'UPCA' then p.upca
    end
where g.id_value = trim($name)
group by g.good_identification_type_id
order by list_position(['PRODUCTID', 'SKU', 'NETSUITEPRODUCTID', 'UPCA'], g.good_identification_type_id)
limit 1
"""

NEAR_PRODUCTS = """
select coalesce(p.internal_name, p.product_id) || ' (product ' || p.product_id || ')'
from (
    select product_id, max(jaro_winkler_similarity(lower(id_value), lower($name))) as likeness
    from good_identification
    group by product_id
    order by likeness desc, product_id
    limit 5
) as g
join product as p on p.product_id = g.product_id
where g.likeness > 0.6
order by g.likeness desc, p.product_id
"""

FACILITY = """
select facility_id
from facility
where facility_id = trim($name) or external_id = trim($name) or lower(facility_name) = lower(trim($name))
order by facility_id <> trim($name), external_id is distinct from trim($name), facility_id
limit 1
"""

NEAR_FACILITIES = """
select facility_id || coalesce(' (' || facility_name || ')', '')
from facility
where facility_id <> '_NA_'
order by greatest(
    jaro_winkler_similarity(lower(facility_id), lower($name)),
    jaro_winkler_similarity(lower(coalesce(facility_name, '')), lower($name))
) desc, facility_id
limit 5
"""

LAST_MOVED = """
select product_id, facility_id
from inventory_item
where facility_id = coalesce($facility_id, facility_id)
order by changed_seq desc
limit 1
"""


def find_product(name: str, connection: duckdb.DuckDBPyConnection) -> Product:
    """The product of an id, SKU, NetSuite id or UPC. Raises NotKnown."""
    found = connection.execute(PRODUCT, {"name": name}).fetchall()
    if found:
        kind, product_ids, sku = found[0]
        if len(product_ids) > 1:
            raise NotKnown(
                f"{kind} {name} is of several products: {', '.join(product_ids[:5])}. Say which by its product id."
            )
        return Product(product_ids[0], sku)
    near = [text for (text,) in connection.execute(NEAR_PRODUCTS, {"name": name}).fetchall()]
    raise NotKnown(
        f"No product has the id, SKU, NetSuite id or UPC {name!r}. "
        + (f"Near it: {', '.join(near)}." if near else "None is near it; product.csv has those that are known.")
    )


def find_facility(name: str, connection: duckdb.DuckDBPyConnection) -> str:
    """The facility of an id, external id or name; `_NA_` is what the channel sells. Raises NotKnown."""
    if name == AGGREGATE:
        return name
    found = connection.execute(FACILITY, {"name": name}).fetchall()
    if found:
        return found[0][0]
    near = [text for (text,) in connection.execute(NEAR_FACILITIES, {"name": name}).fetchall()]
    raise NotKnown(f"No facility has the id, external id or name {name!r}. Near it: {', '.join([*near, AGGREGATE])}.")


def last_moved(facility_id: str | None, connection: duckdb.DuckDBPyConnection) -> tuple[str, str]:
    """The product and facility whose stock moved last, at one facility or at any. Raises NothingMoved when nothing has."""
    found = connection.execute(LAST_MOVED, {"facility_id": facility_id}).fetchall()
    if not found:
        where = f" at {facility_id}" if facility_id else ""
        raise NothingMoved(f"Nothing has moved yet{where}. Run import_inventory, or say which product is meant.")
    return found[0]
