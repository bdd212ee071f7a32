"""Which facility and which product a row means, and what its quantity is: SQL that every feed of product rows shares."""

from collections.abc import Collection

# The type of an identification without case, blanks and underscores, as design section 5.5 has it.
ID_TYPE = "upper(replace(replace({0}, ' ', ''), '_', ''))"
MOST_UNITS = 2_000_000_000

KNOWN_TYPES = ("PRODUCTID", "NETSUITEPRODUCTID", "SKU", "UPCA")

# Over `staged`; `$types` are the identification types that its rows can have, since fewer make a smaller join.
IDENTIFIED = f"""
    facility_name as (
        select 'id' as kind, facility_id as name, facility_id, parent_facility_type_id, 1 as facility_count
        from facility
        union all
        select 'external', external_id, min(facility_id), any_value(parent_facility_type_id), count(*)
        from facility
        where external_id is not null
        group by external_id
    ),
    product_name as (
        select *
        from good_identification
        where good_identification_type_id in (select unnest($types))
    ),
    named as (
        select
            *,
            case when product_id <> '' then 'PRODUCTID'
                when netsuite_product_id <> '' then 'NETSUITEPRODUCTID'
                else {ID_TYPE.format("coalesce(nullif(id_type, ''), json_extract_string(parameters, '$.id_type'))")}
            end as type_key,
            coalesce(nullif(product_id, ''), nullif(netsuite_product_id, ''), id_value) as value_key,
            case when facility_id <> '' then 'id' else 'external' end as facility_kind,
            coalesce(nullif(facility_id, ''), external_facility_id) as facility_key,
            case
                when cast(try_cast(quantity as bigint) as varchar) = quantity then try_cast(quantity as bigint)
                when regexp_full_match(quantity, '-?[0-9]+([.]0+)?') then try_cast(split_part(quantity, '.', 1) as bigint)
            end as units
        from staged
    ),
    identified as (
        select
            n.* exclude (product_id, facility_id, quantity),
            n.product_id as stated_product_id,
            n.quantity as stated_quantity,
            f.facility_id,
            f.parent_facility_type_id,
            f.facility_count,
            g.product_id,
            g.product_type_id,
            g.product_count
        from named as n
        left join facility_name as f on f.kind = n.facility_kind and f.name = n.facility_key
        left join product_name as g on g.good_identification_type_id = n.type_key and g.id_value = n.value_key
    )
"""

# Whether a row is right. What is wrong with the others is found out apart, since most rows are right and reasons are dear.
IS_RIGHT = f"""
    structure_reason is null
    and facility_count = 1
    and coalesce(parent_facility_type_id, '') <> 'VIRTUAL_FACILITY'
    and product_count = 1
    and coalesce(units between -{MOST_UNITS} and {MOST_UNITS}, false)
"""

SHOWN_TYPE = """
    case when stated_product_id <> '' then 'productId'
        when netsuite_product_id <> '' then 'NETSUITE_PRODUCT_ID'
        else coalesce(nullif(id_type, ''), json_extract_string(parameters, '$.id_type'))
    end
"""

# Column (one of ours) and reason of the first thing that is wrong with a row, as a struct.
REFUSAL = f"""
    case
        when structure_reason is not null then {{'column_name': null, 'reason': structure_reason}}
        when coalesce(facility_key, '') = ''
            then {{'column_name': 'external_facility_id', 'reason': 'the row names no facility'}}
        when facility_id is null and facility_kind = 'id'
            then {{'column_name': 'facility_id', 'reason': 'Could not find facility with ID ' || facility_key}}
        when facility_id is null
            then {{'column_name': 'external_facility_id', 'reason': 'Could not find facility with external ID ' || facility_key}}
        when facility_count > 1
            then {{'column_name': 'external_facility_id', 'reason': 'More than one facility has external ID ' || facility_key}}
        when parent_facility_type_id = 'VIRTUAL_FACILITY'
            then {{
                'column_name': if(facility_kind = 'id', 'facility_id', 'external_facility_id'),
                'reason': 'Facility [ID: ' || facility_id || '] is virtual facility.'
            }}
        when coalesce(value_key, '') = ''
            then {{'column_name': 'id_value', 'reason': 'the row names no product'}}
        when type_key not in ({", ".join(f"'{kind}'" for kind in KNOWN_TYPES)})
            then {{
                'column_name': 'id_type',
                'reason': 'Product identification type ' || {SHOWN_TYPE} || ' is not known; use NETSUITE_PRODUCT_ID, SKU or UPCA'
            }}
        when product_id is null
            then {{
                'column_name': if(stated_product_id <> '', 'product_id', 'id_value'),
                'reason': 'Could not find product with ident type ' || {SHOWN_TYPE} || ' and value ' || value_key
            }}
        when product_count > 1
            then {{'column_name': 'id_value', 'reason': 'More than one product has ' || {SHOWN_TYPE} || ' ' || value_key}}
        when coalesce(stated_quantity, '') = '' then {{'column_name': 'quantity', 'reason': 'the quantity is empty'}}
        when units is null
            then {{'column_name': 'quantity', 'reason': 'the quantity is not a whole number: ' || left(stated_quantity, 100)}}
        when units not between -{MOST_UNITS} and {MOST_UNITS}
            then {{'column_name': 'quantity', 'reason': 'the quantity is beyond {MOST_UNITS:,}: ' || stated_quantity}}
    end
"""


def identification_types(columns: Collection[str], id_type: str) -> list[str]:
    """The types of identification that rows of a file with these columns (ours) can have, `id_type` being its default."""
    if "id_type" in columns:
        return list(KNOWN_TYPES)
    types = {"PRODUCTID"} if "product_id" in columns else set()
    types |= {"NETSUITEPRODUCTID"} if "netsuite_product_id" in columns else set()
    return sorted(types | {id_type.replace(" ", "").replace("_", "").upper()})
