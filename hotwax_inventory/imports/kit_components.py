"""Component lists of kits from NetSuite: which products, and how many of each, make one kit (HotWax reference 3.6).

A file's rows for a kit are its whole list, which replaces older ones: `thru_date` is when the next list came, and empty in the
list in force. A list of which rows were refused is not whole until they have come back mended: a kit without one of its components
must not be sold. How many kits the stock makes is the ledger's matter."""

import dagster as dg
from pydantic import Field

from hotwax_inventory import tables
from hotwax_inventory.files.sources import Feed
from hotwax_inventory.imports import summary
from hotwax_inventory.imports.declaration import Column, Import, ImportFiles
from hotwax_inventory.imports.identify import MOST_UNITS, NOT_POSITIVE, UNITS, WRONG_QUANTITY, WRONG_STRUCTURE
from hotwax_inventory.imports.queue import STATEMENTS
from hotwax_inventory.resources import Sftp, Warehouse

FEED = Feed(
    config_id="MDM_PRODUCT_ASSOC",
    job="import_kit_component",
    asset="kit_component",
    directories=("netsuite/product/kit",),
    patterns=("*.csv",),
    hotwax_job="JOB_KIT_COMP",
    hotwax_service="ftpImportFile",
    hotwax_name="Import KIT Component",
    description="NetSuite's kits and what they consist of.",
    is_state=True,
)

# A product is named by id, else SKU, else NetSuite id; a value that names several in the first of these names none.
CHECKED = f"""
with product_name as (
    select id_value, product_id, product_type_id, product_count
    from good_identification
    where good_identification_type_id in (select unnest($types))
    qualify row_number() over (
        partition by id_value order by list_position(['PRODUCTID', 'SKU', 'NETSUITEPRODUCTID'], good_identification_type_id)
    ) = 1
),
identified as (
    select
        r.* exclude (quantity, product_id, product_id_to),
        r.product_id as stated_product_id,
        r.product_id_to as stated_product_id_to,
        r.quantity as stated_quantity,
        {UNITS.format("r.quantity")} as units,
        k.product_id,
        k.product_type_id,
        k.product_count,
        c.product_id as product_id_to,
        c.product_type_id as product_type_id_to,
        c.product_count as product_count_to
    from file_row as r
    left join product_name as k on k.id_value = r.product_id
    left join product_name as c on c.id_value = r.product_id_to
),
judged as (
    select
        *,
        case
            {WRONG_STRUCTURE}
            when coalesce(product_assoc_type_id, '') not in ('', 'PRODUCT_COMPONENT') then {{
                'column_name': 'product_assoc_type_id',
                'reason': 'productAssocTypeId takes PRODUCT_COMPONENT, not ' || product_assoc_type_id
            }}
            when coalesce(stated_product_id, '') = ''
                then {{'column_name': 'product_id', 'reason': 'the row names no kit'}}
            when product_id is null
                then {{'column_name': 'product_id', 'reason': 'Could not find product ' || stated_product_id}}
            when product_count > 1
                then {{'column_name': 'product_id', 'reason': 'More than one product is called ' || stated_product_id}}
            when product_type_id is distinct from 'MARKETING_PKG_PICK'
                then {{'column_name': 'product_id', 'reason': 'Product ' || product_id || ' is no kit (MARKETING_PKG_PICK)'}}
            when coalesce(stated_product_id_to, '') = ''
                then {{'column_name': 'product_id_to', 'reason': 'the row names no component'}}
            when product_id_to is null
                then {{'column_name': 'product_id_to', 'reason': 'Could not find product ' || stated_product_id_to}}
            when product_count_to > 1
                then {{'column_name': 'product_id_to', 'reason': 'More than one product is called ' || stated_product_id_to}}
            when product_type_id_to = 'MARKETING_PKG_PICK'
                then {{'column_name': 'product_id_to', 'reason': 'Component ' || product_id_to || ' is a kit itself'}}
            {WRONG_QUANTITY} {NOT_POSITIVE}
        end as refusal
    from identified
)
select
    *,
    units::integer as quantity,
    -- what is no component is not missing
    count(*) filter (not is_right and refusal.column_name is distinct from 'product_assoc_type_id')
        over (partition by log_id, product_id)::integer as refused_count,
    '-infinity'::timestamptz as from_date,
    null::timestamptz as thru_date,
    (select last_value + 1 from sequence) as changed_seq
from (
    select
        *,
        coalesce(refusal is null and units between 1 and {MOST_UNITS}, false) as is_right,
        false as is_of_nobody
    from judged
)
"""

# Each list of a touched kit holds from its file's time to that of the next, the rows of it that came mended as well.
FOLD = f"""
update kit_component as k
set from_date = n.from_date, thru_date = n.thru_date, changed_seq = (select last_value + 1 from sequence)
from (
    select
        c.log_id,
        c.product_id,
        s.effective_at as from_date,
        if(s.is_superseded, s.effective_at, min(s.effective_at) over (
            partition by c.product_id
            order by (s.effective_at, s.file_name, s.remote_modified_at, s.sha256, s.statement_log_id)
            groups between 1 following and 1 following
        )) as thru_date
    from (
        select distinct log_id, product_id
        from kit_component
        where product_id in (select product_id from kit_component where log_id in (select log_id from batch))
    ) as c
    join {STATEMENTS} as s on s.log_id = c.log_id
) as n
where k.log_id = n.log_id
    and k.product_id = n.product_id
    and (k.from_date <> n.from_date or k.thru_date is distinct from n.thru_date)
"""

IMPORT = Import(
    feed=FEED,
    table=tables.KIT_COMPONENT,
    columns=(
        Column("product_id", ("productId",)),
        Column("product_id_to", ("productIdTo",)),
        Column("quantity", ("quantity",)),
        Column("product_assoc_type_id", ("productAssocTypeId",)),
    ),
    required=(("product_id",), ("product_id_to",), ("quantity",)),
    checked=CHECKED,
    types=("PRODUCTID", "SKU", "NETSUITEPRODUCTID"),
    applied=(FOLD, "update sequence set last_value = last_value + 1"),
)


class KitFiles(ImportFiles):
    """Parameters of HotWax's job `Import KIT Component`."""

    config_id: str = Field(FEED.config_id, description="MDM config that receives the files")


@summary.import_asset(FEED, tables.KIT_COMPONENT, "product")
def kit_component(
    context: dg.AssetExecutionContext, config: KitFiles, sftp: Sftp, warehouse: Warehouse
) -> dg.MaterializeResult:
    """One component of one kit, in the list that was in force from one time to another."""
    return summary.import_files((IMPORT,), context, config, sftp, warehouse)
