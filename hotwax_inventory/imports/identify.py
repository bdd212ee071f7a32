"""Which facility and which product a row means, and what its quantity is: SQL that every feed of product rows shares."""

# The type of an identification without case, blanks and underscores, as design section 5.5 has it.
ID_TYPE = "upper(replace(replace({0}, ' ', ''), '_', ''))"
MOST_UNITS = 2_000_000_000

IDENTIFIED = f"""
    facility_name as (
        select 'id ' || facility_id as name, facility_id, parent_facility_type_id, 1 as facility_count
        from facility
        union all
        select 'external ' || external_id, min(facility_id), any_value(parent_facility_type_id), count(*)
        from facility
        where external_id is not null
        group by external_id
    ),
    named as (
        select
            *,
            case when product_id <> '' then 'PRODUCTID'
                when netsuite_product_id <> '' then 'NETSUITEPRODUCTID'
                else {ID_TYPE.format("coalesce(nullif(id_type, ''), json_extract_string(parameters, '$.id_type'))")}
            end as type_key,
            case when product_id <> '' then 'productId'
                when netsuite_product_id <> '' then 'NETSUITE_PRODUCT_ID'
                else coalesce(nullif(id_type, ''), json_extract_string(parameters, '$.id_type'))
            end as shown_type,
            coalesce(nullif(product_id, ''), nullif(netsuite_product_id, ''), id_value) as value_key,
            case when facility_id <> '' then 'id ' || facility_id else 'external ' || external_facility_id end as facility_key,
            case
                when cast(try_cast(quantity as bigint) as varchar) = quantity then try_cast(quantity as bigint)
                when regexp_full_match(quantity, '-?[0-9]+([.]0+)?') then try_cast(split_part(quantity, '.', 1) as bigint)
            end as units
        from staged
    ),
    identified as (
        select
            n.* exclude (product_id, facility_id, quantity),
            n.quantity as stated_quantity,
            f.facility_id,
            f.parent_facility_type_id,
            f.facility_count,
            g.product_id,
            g.product_type_id,
            g.product_count
        from named as n
        left join facility_name as f on f.name = n.facility_key
        left join good_identification as g on g.good_identification_type_id = n.type_key and g.id_value = n.value_key
    )
"""

# column and reason of the first thing wrong with a row, as a struct
REFUSAL = f"""
    case
        when structure_reason is not null then {{'column_name': null, 'reason': structure_reason}}
        when facility_key is null or facility_key = 'external '
            then {{'column_name': 'external_facility_id', 'reason': 'the row names no facility'}}
        when facility_id is null and facility_key like 'id %'
            then {{'column_name': 'facility_id', 'reason': 'Could not find facility with ID ' || substr(facility_key, 4)}}
        when facility_id is null
            then {{
                'column_name': 'external_facility_id',
                'reason': 'Could not find facility with external ID ' || substr(facility_key, 10)
            }}
        when facility_count > 1
            then {{
                'column_name': 'external_facility_id',
                'reason': 'More than one facility has external ID ' || substr(facility_key, 10)
            }}
        when parent_facility_type_id = 'VIRTUAL_FACILITY'
            then {{'column_name': 'facility_id', 'reason': 'Facility [ID: ' || facility_id || '] is virtual facility.'}}
        when coalesce(value_key, '') = ''
            then {{'column_name': 'id_value', 'reason': 'the row names no product'}}
        when type_key not in ('PRODUCTID', 'NETSUITEPRODUCTID', 'SKU', 'UPCA')
            then {{
                'column_name': 'id_type',
                'reason': 'Product identification type ' || shown_type
                    || ' is not known; use NETSUITE_PRODUCT_ID, SKU or UPCA'
            }}
        when product_id is null
            then {{
                'column_name': 'id_value',
                'reason': 'Could not find product with ident type ' || shown_type || ' and value ' || value_key
            }}
        when product_count > 1
            then {{'column_name': 'id_value', 'reason': 'More than one product has ' || shown_type || ' ' || value_key}}
        when coalesce(stated_quantity, '') = '' then {{'column_name': 'quantity', 'reason': 'the quantity is empty'}}
        when units is null
            then {{'column_name': 'quantity', 'reason': 'the quantity is not a whole number: ' || left(stated_quantity, 100)}}
        when units not between -{MOST_UNITS} and {MOST_UNITS}
            then {{'column_name': 'quantity', 'reason': 'the quantity is beyond {MOST_UNITS:,}: ' || stated_quantity}}
    end
"""
