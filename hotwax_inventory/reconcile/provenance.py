"""Where the units of a number came from: ledger entries and rows with their file, line, run and reason.

Questions are asked over temporary tables: `asked` (one row: product_id, facility_id, facility_group_id, moment), `subject` (the
product, and its components if it is a kit) and `explained` (the facilities)."""

from dataclasses import dataclass

from hotwax_inventory.ledger import resets


@dataclass(frozen=True)
class Question:
    """One table of an explanation: its title, what it says, the names of its columns divided by commas, and their SQL.

    `if_empty` is said when there is no row; without it the table is left out then."""

    title: str
    meaning: str
    columns: str
    sql: str
    if_empty: str = ""


OF_KEYS = """product_id in (select product_id from subject) and facility_id in (select facility_id from explained)"""
UNTIL = "<= (select moment from asked)"
SKU = "(select coalesce(internal_name, product_id) from product as p where p.product_id = {0}.product_id)"

STATE = Question(
    "Stock",
    "What the ledger adds up to, and the newest reset in it.",
    "product, facility, QOH, ATP, reset at, file, line, stated, counter",
    f"""
    select
        {SKU.format("i")}, i.facility_id, i.quantity_on_hand_total, i.available_to_promise_total, i.reset_at, l.remote_path,
        i.reset_line_number, i.reset_quantity, i.reset_by
    from inventory_item as i
    left join data_manager_log as l on l.log_id = i.reset_log_id
    where {OF_KEYS}
    order by i.product_id, i.facility_id
    """,
    if_empty="No file had named it: its stock is unknown, not zero.",
)
# An entry is known since its file was posted, or its shipment was received.
KNOWN_SINCE = "if(d.shipment_id is null, coalesce(l.finished_at, d.effective_at), d.effective_at)"
KNOWN_THEN = Question(
    "What was known then",
    "The sum of the entries that had been posted by that moment; files that came later and act before it are not in it.",
    "product, facility, QOH, ATP, entries",
    f"""
    select
        {SKU.format("d")}, d.facility_id, sum(d.quantity_on_hand_diff)::bigint, sum(d.available_to_promise_diff)::bigint, count(*)
    from inventory_item_detail as d
    left join data_manager_log as l on l.log_id = d.log_id
    where {OF_KEYS} and {KNOWN_SINCE} {UNTIL}
    group by d.product_id, d.facility_id
    order by d.product_id, d.facility_id
    """,
    if_empty="Nothing had been posted by then.",
)
LEDGER = Question(
    "Ledger",
    "Where each unit came from, the newest first. Stated is the number in the file; ATP and QOH are what the row changed.",
    "takes effect, product, facility, file, line, run, reason, stated, ATP, ATP after, QOH, QOH after, known since, "
    "shipment or order, note",
    f"""
    select
        d.effective_at, {SKU.format("d")}, d.facility_id, l.remote_path, d.line_number, try_cast(l.run_id as uuid),
        d.reason_enum_id, d.quantity, d.available_to_promise_diff, d.last_available_to_promise, d.quantity_on_hand_diff,
        d.last_quantity_on_hand, {KNOWN_SINCE},
        coalesce(d.shipment_id, d.order_id), d.description
    from inventory_item_detail as d
    left join data_manager_log as l on l.log_id = d.log_id
    where {OF_KEYS}
    order by d.seq desc
    """,
    if_empty="Nothing has ever moved it.",
)

# Of several lines of a file the last counts; a reset older than one that was posted before it changes nothing (design 8.12).
# The newest reset of a key is known from its state, since rows that changed nothing are not kept for ever.
WITHOUT_EFFECT = Question(
    "Resets without an entry",
    "Rows that were accepted and changed nothing, the newest first. They are kept for RESET_ROWS_KEEP_DAYS.",
    "takes effect, product, facility, file, line, run, stated, counter, why",
    f"""
    with reset as (
        {" union all ".join(f"select *, null as own_time, null as disposition from ({rows})" for rows in resets.TABLES.values())}
        union all
        select log_id, line_number, product_id, facility_id, available, 'ATP', null, updated_at, disposition
        from shopify_webhook_update
        where disposition <> 'refused'
        union all
        select reset_log_id, reset_line_number, product_id, facility_id, reset_quantity, reset_by, null, reset_at, 'known'
        from inventory_item
        where reset_at is not null
    ),
    placed as (
        select r.*, coalesce(r.own_time, l.effective_at) as effective_at, l.remote_path, l.run_id, l.status_id, l.finished_at,
            {{
                'at': coalesce(r.own_time, l.effective_at), 'file': l.file_name, 'modified': l.remote_modified_at,
                'line': r.line_number
            }} as position
        from reset as r
        join data_manager_log as l on l.log_id = r.log_id
        where {OF_KEYS}
    ),
    judged as (
        select
            *,
            max(line_number) over (partition by log_id, product_id, facility_id, own_time) as last_line,
            max(position) filter (coalesce(disposition, 'applied') in ('applied', 'known')) over (
                partition by product_id, facility_id order by finished_at nulls last, position
                rows between unbounded preceding and 1 preceding
            ) as newest_before
        from placed
    )
    select
        j.effective_at, {SKU.format("j")}, j.facility_id, j.remote_path, j.line_number, try_cast(j.run_id as uuid), j.quantity,
        j.reset_by,
        case
            when j.disposition <> 'applied' then 'webhook: ' || j.disposition
            when j.finished_at is null or j.status_id = 'cancelled' then 'not applied: the file is ' || j.status_id
            when j.line_number < j.last_line then 'superseded by line ' || j.last_line || ' of the same file'
            when j.position < j.newest_before then 'superseded: a newer reset was known when it came'
            else 'no change: the stock is what it would be without it'
        end
    from judged as j
    anti join inventory_item_detail as d on d.log_id = j.log_id and d.line_number = j.line_number
    where j.disposition is distinct from 'known' and j.effective_at {UNTIL}
    order by j.position desc
    """,
)

# A refused row is found by its text, since what it names may be what is wrong with it.
REFUSED = Question(
    "Refused rows",
    "Rows that name the product and were refused, at this facility or at none that is known, the newest first.",
    "came with, file, line, run, column, reason, row",
    f"""
    with product_name as (
        select distinct id_value
        from good_identification
        where product_id in (select product_id from asked)
    ),
    facility_name as (
        select unnest([facility_id, external_id, facility_name]) as name
        from facility
        where facility_id in (select facility_id from explained)
    ),
    named as (
        select e.*, list_transform(regexp_split_to_array(e.raw_row, '[,;"{{}}:\\[\\]\t]'), lambda x: trim(x)) as words
        from data_manager_error as e
        where exists (from product_name as n where contains(e.raw_row, n.id_value))
    )
    select l.effective_at, l.remote_path, n.line_number, try_cast(l.run_id as uuid), n.column_name, n.reason, n.raw_row
    from named as n
    join data_manager_log as l on l.log_id = n.log_id
    where list_has_any(n.words, (select list(id_value) from product_name))
        and (
            list_has_any(n.words, (select list(name) from facility_name))
            or n.reason like '%find facility%'
            or n.reason like '%no facility%'
        )
        and l.effective_at {UNTIL}
    order by l.effective_at desc, n.line_number
    """,
)
RULES = Question(
    "Rules as files stated them",
    "The newest value of each column counts; a configuration facility states the channel's threshold.",
    "takes effect, facility, file, line, run, minimum stock, allow brokering, allow pick-up",
    f"""
    select l.effective_at, r.facility_id, l.remote_path, r.line_number, try_cast(l.run_id as uuid), r.minimum_stock,
        r.allow_brokering, r.allow_pickup
    from product_facility_rule as r
    join data_manager_log as l on l.log_id = r.log_id
    where r.product_id = (select product_id from asked)
        and (
            r.facility_id in (select facility_id from explained)
            or r.facility_id in (select facility_id from facility where facility_type_id = 'CONFIGURATION')
        )
        and l.effective_at {UNTIL}
    order by l.effective_at desc, l.file_name desc, r.line_number desc
    """,
)
