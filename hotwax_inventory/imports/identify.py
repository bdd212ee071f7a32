"""Which facility and which product a row means, and what its quantity is: SQL that every feed of product rows shares."""

from collections.abc import Collection, Sequence

# The type of an identification without case, blanks and underscores, as design section 5.5 has it.
ID_TYPE = "upper(replace(replace({0}, ' ', ''), '_', ''))"
MOST_UNITS = 2_000_000_000

# A time with its zone, or a date, that ISO 8601 writes without seconds, or with a blank before the zone, as DuckDB reads it.
MOMENT = r"""regexp_replace(
    regexp_replace({0}, ' ([Z+-])', '\1'), '^(.{{10}}[T ][0-9]{{2}}:[0-9]{{2}})(Z|[+-].*)?$', '\1:00\2'
)"""

KNOWN_TYPES = ("PRODUCTID", "NETSUITEPRODUCTID", "SKU", "UPCA")
# Columns that name a product by themselves: the type, and how it is written.
PRODUCT_COLUMNS = {
    "product_id": ("PRODUCTID", "productId"),
    "netsuite_product_id": ("NETSUITEPRODUCTID", "NETSUITE_PRODUCT_ID"),
    "product_sku": ("SKU", "SKU"),
}

# A quantity as a number: a whole one, also written with zeros after the point; null where it is none.
UNITS = """case
                when cast(try_cast({0} as bigint) as varchar) = {0} then try_cast({0} as bigint)
                when regexp_full_match({0}, '-?[0-9]+([.]0+)?') then try_cast(split_part({0}, '.', 1) as bigint)
            end"""
# A row of a kit that is derived from its components: right, and of nobody (design 8.8).
IS_DERIVED_KIT = "default_kits = 'components' and product_type_id = 'MARKETING_PKG_PICK'"

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
        union all
        select 'any', name, min(facility_id), any_value(parent_facility_type_id), count(*)
        from (
            select name, facility_id, parent_facility_type_id, rank
            from (
                select facility_id as name, facility_id, parent_facility_type_id, 1 as rank from facility
                union all
                select external_id, facility_id, parent_facility_type_id, 2 from facility
                union all
                select facility_name, facility_id, parent_facility_type_id, 3 from facility
            )
            where name is not null
            qualify rank = min(rank) over (partition by name)
        )
        group by name
    ),
    product_name as (
        select *
        from good_identification
        where good_identification_type_id in (select unnest($types))
    ),
    identified as (
        select
            s.* exclude (product_id, facility_id, quantity),
            s.product_id as stated_product_id,
            s.quantity as stated_quantity,
            {UNITS.format("s.quantity")} as units,
            f.facility_id,
            f.parent_facility_type_id,
            f.facility_count,
            g.product_id,
            g.product_type_id,
            g.product_count
        from staged as s
        left join facility_name as f on f.kind = s.facility_kind and f.name = s.facility_key
        left join product_name as g on g.good_identification_type_id = s.type_key and g.id_value = s.value_key
    )
"""

# Whether a row is right, by parts. What is wrong with the others is found out apart, since most are right and reasons are dear.
HAS_FACILITY = "facility_count = 1"
HAS_STOCK_FACILITY = f"{HAS_FACILITY} and coalesce(parent_facility_type_id, '') <> 'VIRTUAL_FACILITY'"
HAS_PRODUCT = "product_count = 1"
HAS_QUANTITY = f"coalesce(units between -{MOST_UNITS} and {MOST_UNITS}, false)"
IS_RIGHT = f"structure_reason is null and {HAS_STOCK_FACILITY} and {HAS_PRODUCT} and {HAS_QUANTITY}"

# Column (one of ours) and reason of the first thing that is wrong with a row, as a struct; the branches of a `case`.
WRONG_STRUCTURE = "when structure_reason is not null then {'column_name': null, 'reason': structure_reason}"
WRONG_FACILITY = """
        when coalesce(facility_key, '') = ''
            then {'column_name': facility_column, 'reason': 'the row names no facility'}
        when facility_id is null and facility_kind = 'id'
            then {'column_name': facility_column, 'reason': 'Could not find facility with ID ' || facility_key}
        when facility_id is null
            then {'column_name': facility_column, 'reason': 'Could not find facility with external ID ' || facility_key}
        when facility_count > 1
            then {'column_name': facility_column, 'reason': 'More than one facility has external ID ' || facility_key}
"""
VIRTUAL_FACILITY = """
        when parent_facility_type_id = 'VIRTUAL_FACILITY'
            then {'column_name': facility_column, 'reason': 'Facility [ID: ' || facility_id || '] is virtual facility.'}
"""
WRONG_PRODUCT = f"""
        when coalesce(value_key, '') = ''
            then {{'column_name': value_column, 'reason': 'the row names no product'}}
        when type_key not in ({", ".join(f"'{kind}'" for kind in KNOWN_TYPES)})
            then {{
                'column_name': 'id_type',
                'reason': 'Product identification type ' || shown_type || ' is not known; use NETSUITE_PRODUCT_ID, SKU or UPCA'
            }}
        when product_id is null
            then {{
                'column_name': value_column,
                'reason': 'Could not find product with ident type ' || shown_type || ' and value ' || value_key
            }}
        when product_count > 1
            then {{'column_name': value_column, 'reason': 'More than one product has ' || shown_type || ' ' || value_key}}
"""
WRONG_QUANTITY = f"""
        when coalesce(stated_quantity, '') = '' then {{'column_name': 'quantity', 'reason': 'the quantity is empty'}}
        when units is null
            then {{'column_name': 'quantity', 'reason': 'the quantity is not a whole number: ' || left(stated_quantity, 100)}}
        when units not between -{MOST_UNITS} and {MOST_UNITS}
            then {{'column_name': 'quantity', 'reason': 'the quantity is beyond {MOST_UNITS:,}: ' || stated_quantity}}
"""
NOT_POSITIVE = """
        when units < 1 then {'column_name': 'quantity', 'reason': 'the quantity is less than one: ' || stated_quantity}
"""
REFUSAL = f"case {WRONG_STRUCTURE} {WRONG_FACILITY} {VIRTUAL_FACILITY} {WRONG_PRODUCT} {WRONG_QUANTITY} end"


def keys(columns: Collection[str]) -> dict[str, str]:
    """SQL of what IDENTIFIED joins by, for files with these columns (ours): as little for each row as they need.

    `type_key` and `value_key` name the product, `shown_type` is the type as the file has it, `facility_kind` and
    `facility_key` name the facility, `value_column` and `facility_column` say where they stand. The type of an `id_value` without
    an `id_type` is the parameter `default_id_type`."""
    named = [column for column in PRODUCT_COLUMNS if column in columns]

    def by_column(texts: Sequence[str], otherwise: str) -> str:
        branches = [f"when {column} <> '' then '{text}'" for column, text in zip(named, texts, strict=True)]
        return f"case {' '.join(branches)} else {otherwise} end" if branches else otherwise

    stated = "coalesce(nullif(id_type, ''), default_id_type)" if "id_type" in columns else "default_id_type"
    values = [f"nullif({column}, '')" for column in named]
    if "id_value" in columns or not named:
        values.append("id_value" if "id_value" in columns else "null::varchar")
    kind, key, column = _facility(columns)
    return {
        "type_key": by_column([PRODUCT_COLUMNS[column][0] for column in named], ID_TYPE.format(stated)),
        "shown_type": by_column([PRODUCT_COLUMNS[column][1] for column in named], stated),
        "value_key": f"coalesce({', '.join(values)})" if len(values) > 1 else values[0],
        "value_column": by_column(named, "'id_value'" if "id_value" in columns or not named else f"'{named[-1]}'"),
        "facility_kind": kind,
        "facility_key": key,
        "facility_column": column,
    }


def _facility(columns: Collection[str]) -> tuple[str, str, str]:
    """SQL of how a row names its facility (see `facility_name`), by which value, and in which column."""
    if "facility" in columns:
        return "'any'", "facility", "'facility'"
    by_id, by_external = "facility_id" in columns, "external_facility_id" in columns
    if by_id and by_external:
        column = "case when facility_id <> '' then 'facility_id' else 'external_facility_id' end"
        return (
            "case when facility_id <> '' then 'id' else 'external' end",
            "coalesce(nullif(facility_id, ''), external_facility_id)",
            column,
        )
    if by_id:
        return "'id'", "facility_id", "'facility_id'"
    return (
        ("'external'", "external_facility_id", "'external_facility_id'") if by_external else ("'any'", "null", "null")
    )


def identification_types(columns: Collection[str], id_type: str) -> list[str]:
    """The types of identification that rows of a file with these columns (ours) can have, `id_type` being its default."""
    if "id_type" in columns:
        return list(KNOWN_TYPES)
    types = {kind for column, (kind, _) in PRODUCT_COLUMNS.items() if column in columns}
    return sorted(types | {id_type.replace(" ", "").replace("_", "").upper()})
