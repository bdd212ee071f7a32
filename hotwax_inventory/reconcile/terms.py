"""The terms of a number and what became of it in Shopify: asked of the tables as they are, or were at the moment."""

from hotwax_inventory.ledger.kits import KITS
from hotwax_inventory.reconcile.provenance import UNTIL, Question

FACILITY = Question(
    "What the facility may promise",
    "Computed = ATP − minimum stock where that is not below 0; it is what the facility's own location shows, and its part of "
    "every channel unless brokering is off.",
    "facility, ATP, minimum stock, computed, allow brokering",
    """
    select facility_id, last_inventory_count, minimum_stock, computed_last_inventory_count, allow_brokering
    from facility_atp
    where product_id = (select product_id from asked) and facility_id = (select facility_id from asked)
    """,
    if_empty="No file has named the product there: its number is unknown, which is never published as zero.",
)
MEMBERS = Question(
    "Facilities of the channel",
    "Base is the sum of what is computed, raw the sum of ATP, over those that count.",
    "facility, ATP, minimum stock, computed, allow brokering, counts",
    """
    select
        f.facility_id, a.last_inventory_count, a.minimum_stock, a.computed_last_inventory_count, a.allow_brokering,
        case
            when f.parent_facility_type_id = 'VIRTUAL_FACILITY'
                then if(f.facility_type_id = 'CONFIGURATION', 'no: it carries the channel''s rules', 'no: virtual')
            when a.facility_id is null then 'no: no file has named the product there'
            when f.product_store_id is null then 'no: it belongs to no store'
            when a.allow_brokering = 'N' then 'no: brokering is off'
            else 'yes, for store ' || f.product_store_id
        end
    from (
        select distinct facility_id
        from facility_group
        where facility_group_id = (select facility_group_id from asked)
            and coalesce(from_date <= current_timestamp, true)
            and coalesce(thru_date > current_timestamp, true)
    ) as g
    join facility as f on f.facility_id = g.facility_id
    left join facility_atp as a on a.facility_id = f.facility_id and a.product_id = (select product_id from asked)
    order by f.facility_id
    """,
    if_empty="The channel has no facility.",
)
CHANNEL = Question(
    "What the channel may promise",
    "Online = base − threshold − queue, never below 0; 0 while brokering is off for the channel, pre-orders hold the stock, or raw "
    "is below 0. The aggregate location shows it.",
    "channel, store, base, raw, threshold, queue, allow brokering, pre-order hold, online",
    """
    select facility_group_id, product_store_id, base_atp, raw_atp, threshold, queue_quantity, allow_brokering,
        if(preorder_hold, 'Y', 'N'), online_atp
    from online_atp
    where product_id = (select product_id from asked) and facility_group_id = (select facility_group_id from asked)
    order by product_store_id
    """,
    if_empty="No file has named the product at a facility that the channel has now: nothing is published, but zero where we had "
    "put it on sale.",
)
QUEUE = Question(
    "Parked orders",
    "They make the queue where the store reserves inventory, and may hold pre-orders; they have no history, so this is as of now.",
    "order, item, facility, type, units, store",
    """
    select q.order_id, q.order_item_seq_id, q.facility_id, f.facility_type_id, q.quantity, q.product_store_id
    from virtual_queue_item as q
    join facility as f on f.facility_id = q.facility_id and f.parent_facility_type_id = 'VIRTUAL_FACILITY'
    where q.product_id = (select product_id from asked) and q.quantity > 0
    order by q.order_id, q.order_item_seq_id
    """,
)
COMPONENTS = Question(
    "Components of the kit",
    "A facility has as many kits as its scarcest component makes; one that no file has named there, or that is a kit, makes none; "
    "nor does a list of which rows were refused, until they have come back mended.",
    "facility, component, per kit, ATP, kits, list in file, line",
    f"""
    select e.facility_id, (select coalesce(internal_name, product_id) from product as p where p.product_id = k.product_id_to),
        k.quantity, i.available_to_promise_total,
        if(i.product_id in ({KITS}), 0, coalesce(greatest(0, i.available_to_promise_total) // k.quantity, 0))::bigint,
        l.remote_path, k.line_number
    from kit_component as k
    cross join explained as e
    left join inventory_item as i on i.product_id = k.product_id_to and i.facility_id = e.facility_id
    left join data_manager_log as l on l.log_id = k.log_id
    where k.product_id = (select product_id from asked) and k.thru_date is null
    order by e.facility_id, k.product_id_to
    """,
)
SHOPS = Question(
    "What Shopify showed when it was last read",
    "Beside what it last had from us; both are as of now.",
    "shop, location, item, we promise, Shopify shows, on hand, changed at, read at, last published, published at, note",
    """
    select
        s.shop_id, m.shopify_location_id, p.shopify_inventory_item_id, coalesce(a.computed_last_inventory_count, o.online_atp),
        l.available, l.on_hand, l.updated_at, b.completed_at, h.quantity, h.published_at,
        case
            when m.shopify_location_id is null then 'shopify_shop_location.csv maps no location of the shop to it'
            when b.shop_id is null
                then 'the shop was never read: run '
                    || if(s.inventory_master = 'hotwax', 'hard_sync', 'sync_inventory_from_shopify')
            when p.product_id is null then 'no item of the shop is matched to the product: see its SKU in Shopify'
            when l.shop_id is null then 'Shopify does not stock the item at the location'
            when not l.tracked or l.available is null then 'Shopify does not count the item'
        end
    from shopify_shop as s
    left join shopify_shop_location as m on m.shop_id = s.shop_id and m.facility_id = (select facility_id from asked)
    left join shopify_shop_product as p on p.shop_id = s.shop_id and p.product_id = (select product_id from asked)
    left join shopify_bulk_read as b on b.shop_id = s.shop_id
    left join shopify_inventory_level as l
        on l.shop_id = s.shop_id
        and l.shopify_inventory_item_id = p.shopify_inventory_item_id
        and l.shopify_location_id = m.shopify_location_id
    left join published_level as h
        on h.shop_id = s.shop_id
        and h.shopify_inventory_item_id = p.shopify_inventory_item_id
        and h.shopify_location_id = m.shopify_location_id
    left join facility_atp as a on a.product_id = (select product_id from asked) and a.facility_id = m.facility_id
    left join online_atp as o
        on m.facility_id = '_NA_'
        and o.product_id = (select product_id from asked)
        and o.facility_group_id = (select facility_group_id from asked)
        and o.product_store_id = s.product_store_id
    where m.shop_id is not null
        or not exists (from shopify_shop_location where facility_id = (select facility_id from asked))
    order by s.shop_id
    """,
    if_empty="There is no shop.",
)
SENT = Question(
    "What was sent to Shopify",
    "The newest first.",
    "shop, planned, decided, job, delta, run, target, Shopify showed, change, outcome, Shopify's code, tries",
    f"""
    select c.shop_id, r.created_at, c.decided_at, r.job, c.sync_run_id, try_cast(coalesce(r.sent_by_run, r.run_id) as uuid),
        c.target_quantity, c.observed_quantity, c.delta, coalesce(c.outcome, 'not sent'), c.error_code, c.attempts
    from sync_change as c
    join sync_run as r on r.sync_run_id = c.sync_run_id
    where c.product_id = (select product_id from asked)
        and c.facility_id = (select facility_id from asked)
        and r.created_at {UNTIL}
    order by c.sync_run_id desc
    """,
    if_empty="Nothing was sent until then.",
)
