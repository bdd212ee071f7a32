-- A warehouse of layout 2, the first that was handed out: its tables, and a row or two in some of them.
create table product (
    product_id varchar not null,
    internal_name varchar,
    product_type_id varchar,
    netsuite_product_id varchar,
    upca varchar,
    tags varchar
);
create table good_identification (
    good_identification_type_id varchar not null,
    id_value varchar not null,
    product_id varchar not null,
    product_type_id varchar,
    product_count bigint not null
);
create table facility (
    facility_id varchar not null,
    external_id varchar,
    facility_name varchar,
    facility_type_id varchar,
    parent_facility_type_id varchar,
    product_store_id varchar
);
create table facility_group (
    facility_group_id varchar not null,
    facility_group_type_id varchar,
    facility_id varchar not null,
    from_date timestamp with time zone,
    thru_date timestamp with time zone
);
create table product_store (
    product_store_id varchar not null,
    reserve_inventory varchar,
    hold_preorder_physical_inventory varchar
);
create table shopify_shop (
    shop_id varchar not null,
    shop_domain varchar,
    product_store_id varchar not null,
    inventory_master varchar not null,
    shopify_facility_group_mode varchar not null
);
create table shopify_shop_location (
    shop_id varchar not null,
    facility_id varchar not null,
    shopify_location_id bigint not null
);
create table shopify_shop_product_mapping (
    shop_id varchar not null,
    product_id varchar not null,
    shopify_inventory_item_id bigint not null
);
create table virtual_queue_item (
    order_id varchar not null,
    order_item_seq_id varchar not null,
    product_id varchar not null,
    facility_id varchar not null,
    quantity integer not null,
    product_store_id varchar not null,
    changed_seq bigint not null
);
create table data_manager_log (
    log_id bigint not null,
    config_id varchar not null,
    remote_path varchar not null,
    file_name varchar not null,
    remote_modified_at timestamp with time zone not null,
    size_bytes bigint not null,
    sha256 varchar not null,
    landed_path varchar not null,
    status_id varchar not null,
    total_record_count bigint,
    failed_record_count bigint,
    ignored_record_count bigint,
    effective_at timestamp with time zone not null,
    registered_at timestamp with time zone not null,
    archived_at timestamp with time zone,
    started_at timestamp with time zone,
    finished_at timestamp with time zone,
    rows_removed_at timestamp with time zone,
    run_id varchar not null,
    property_resource varchar not null,
    parameters varchar not null,
    message varchar
);
create table data_manager_error (
    log_id bigint not null,
    line_number bigint not null,
    column_name varchar,
    reason varchar not null,
    raw_row varchar not null
);
create table inventory_reset (
    log_id bigint not null,
    line_number bigint not null,
    product_id varchar not null,
    facility_id varchar not null,
    quantity integer not null,
    reset_by varchar not null,
    location_seq_id varchar,
    comments varchar
);
create table item_receipt (
    log_id bigint not null,
    line_number bigint not null,
    product_id varchar not null,
    facility_id varchar not null,
    quantity integer not null,
    location_seq_id varchar,
    comments varchar
);
create table inventory_transfer (
    log_id bigint not null,
    line_number bigint not null,
    product_id varchar not null,
    facility_id varchar not null,
    quantity integer not null,
    location_seq_id varchar,
    comments varchar
);
create table inventory_adjustment (
    log_id bigint not null,
    line_number bigint not null,
    product_id varchar not null,
    facility_id varchar not null,
    quantity integer not null,
    location_seq_id varchar,
    comments varchar
);
create table item_fulfillment (
    log_id bigint not null,
    line_number bigint not null,
    order_id varchar not null,
    order_item_seq_id varchar not null,
    product_id varchar not null,
    facility_id varchar not null,
    quantity integer not null,
    is_reserved boolean not null,
    shipped_date varchar,
    tracking_number varchar,
    carrier varchar,
    shipping_method varchar
);
create table product_facility_rule (
    log_id bigint not null,
    line_number bigint not null,
    product_id varchar not null,
    facility_id varchar not null,
    minimum_stock bigint,
    allow_brokering varchar,
    allow_pickup varchar
);
create table kit_component (
    log_id bigint not null,
    line_number bigint not null,
    product_id varchar not null,
    product_id_to varchar not null,
    quantity integer not null,
    from_date timestamp with time zone not null,
    thru_date timestamp with time zone,
    changed_seq bigint not null
);
create table inbound_shipment (
    log_id bigint not null,
    line_number bigint not null,
    external_shipment_id varchar not null,
    shipment_type_id varchar not null,
    origin_facility_id varchar,
    destination_facility_id varchar,
    product_id varchar not null,
    quantity integer not null,
    item_external_id varchar,
    tracking_number varchar,
    shipment_attribute varchar
);
create table scheduled_restock (
    log_id bigint not null,
    line_number bigint not null,
    restock_name varchar,
    scheduled_at timestamp with time zone not null,
    product_id varchar not null,
    facility_id varchar not null,
    quantity integer not null,
    product_store_id varchar,
    shop_id varchar
);
create table shipment (
    shipment_id varchar not null,
    external_id varchar,
    shipment_type_id varchar not null,
    status_id varchar not null,
    origin_facility_id varchar,
    destination_facility_id varchar,
    scheduled_at timestamp with time zone,
    name varchar,
    log_id bigint not null
);
create table shipment_item (
    shipment_id varchar not null,
    shipment_item_seq_id varchar not null,
    product_id varchar not null,
    quantity integer not null,
    external_id varchar,
    line_number bigint not null
);
create table shipment_receipt (
    shipment_id varchar not null,
    shipment_item_seq_id varchar not null,
    product_id varchar not null,
    facility_id varchar not null,
    quantity_accepted integer not null,
    received_at timestamp with time zone not null
);
create table inventory_item_detail (
    seq bigint not null,
    product_id varchar not null,
    facility_id varchar not null,
    quantity_on_hand_diff bigint not null,
    available_to_promise_diff bigint not null,
    last_quantity_on_hand bigint not null,
    last_available_to_promise bigint not null,
    quantity bigint not null,
    reason_enum_id varchar not null,
    effective_at timestamp with time zone not null,
    log_id bigint not null,
    line_number bigint not null,
    shipment_id varchar,
    order_id varchar,
    description varchar,
    effect varchar
);
create table inventory_item (
    product_id varchar not null,
    facility_id varchar not null,
    quantity_on_hand_total bigint not null,
    available_to_promise_total bigint not null,
    changed_seq bigint not null,
    last_moved_at timestamp with time zone,
    reset_at timestamp with time zone,
    reset_file_name varchar,
    reset_modified_at timestamp with time zone,
    reset_line_number bigint,
    reset_log_id bigint,
    reset_by varchar,
    reset_quantity bigint
);
create table product_facility (
    product_id varchar not null,
    facility_id varchar not null,
    minimum_stock bigint,
    allow_brokering varchar,
    allow_pickup varchar,
    changed_seq bigint not null
);
create table kit_inventory (
    product_id varchar not null,
    facility_id varchar not null,
    available_to_promise_total bigint not null,
    changed_seq bigint not null
);
create table shopify_inventory_level (
    shop_id varchar not null,
    shopify_inventory_item_id bigint not null,
    shopify_location_id bigint not null,
    shopify_inventory_level_id bigint not null,
    tracked boolean not null,
    available integer,
    on_hand integer,
    updated_at timestamp with time zone
);
create table shopify_bulk_read (
    shop_id varchar not null,
    bulk_operation_id varchar not null,
    started_at timestamp with time zone not null,
    completed_at timestamp with time zone not null,
    object_count bigint not null,
    level_count bigint not null
);
create table shopify_inventory_item (
    shop_id varchar not null,
    shopify_inventory_item_id bigint not null,
    sku varchar,
    tracked boolean not null
);
create table shopify_shop_product (
    shop_id varchar not null,
    product_id varchar not null,
    shopify_inventory_item_id bigint not null,
    matched_by varchar not null,
    changed_seq bigint not null
);
create table sync_run (
    sync_run_id bigint not null,
    shop_id varchar not null,
    job varchar not null,
    run_id varchar not null,
    parameters varchar not null,
    bulk_operation_id varchar,
    observed_at timestamp with time zone not null,
    upto_seq bigint not null,
    created_at timestamp with time zone not null,
    level_count bigint not null,
    change_count bigint not null,
    skipped varchar not null,
    guard_message varchar,
    approved_by_run varchar,
    approved_by varchar,
    approved_at timestamp with time zone,
    sent_by_run varchar,
    status_id varchar not null,
    finished_at timestamp with time zone
);
create table sync_change (
    sync_run_id bigint not null,
    shop_id varchar not null,
    product_id varchar not null,
    facility_id varchar not null,
    shopify_inventory_item_id bigint not null,
    shopify_location_id bigint not null,
    target_quantity integer not null,
    observed_quantity integer not null,
    delta integer not null,
    idempotency_key varchar not null,
    file_name varchar not null,
    line_number bigint not null,
    line_position bigint not null,
    outcome varchar,
    error_code varchar,
    attempts bigint not null,
    decided_at timestamp with time zone
);
create table sync_file (
    sync_run_id bigint not null,
    file_name varchar not null,
    line_count bigint not null,
    size_bytes bigint not null,
    sent_at timestamp with time zone,
    bulk_operation_id varchar
);
create table sync_watermark (
    shop_id varchar not null,
    sync_run_id bigint not null,
    seq bigint not null,
    at_time timestamp with time zone not null
);
create table published_level (
    shop_id varchar not null,
    shopify_inventory_item_id bigint not null,
    shopify_location_id bigint not null,
    quantity integer not null,
    sync_run_id bigint not null,
    published_at timestamp with time zone not null
);
create table sequence (
    last_value bigint not null,
    kits_upto bigint not null
);
create table warehouse_version (
    version integer not null
);
insert into product values ('10001', 'TEE-S', 'FINISHED_GOOD', '501', '840001', null);
insert into good_identification values ('NETSUITEPRODUCTID', '501', '10001', 'FINISHED_GOOD', 1);
insert into facility values ('WAREHOUSE', '43', 'Central warehouse', 'WAREHOUSE', 'PHYSICAL_STORE', 'STORE');
insert into shopify_shop values ('SHOP', 'shop.myshopify.com', 'STORE', 'hotwax', 'exclude');
insert into data_manager_log values (
    1, 'RESET_INVENTORY', 'netsuite/inventoryitem/csv/reset.csv', 'reset.csv', '2026-11-01 05:30:00Z', 60, 'abc',
    'landing/RESET_INVENTORY/abc.csv', 'finished', 1, 0, 0, '2026-11-01 05:00:00Z', '2026-11-01 05:31:00Z', '2026-11-01 05:31:01Z',
    '2026-11-01 05:31:02Z', '2026-11-01 05:31:03Z', null, 'run-1', 'FTP_CONFIG', '{"feed": "RESET_INVENTORY"}', null
);
insert into inventory_reset values (1, 2, '10001', 'WAREHOUSE', 7, 'ATP', null, 'counted by "Ann", twice');
insert into inventory_item_detail values (
    2, '10001', 'WAREHOUSE', 7, 7, 7, 7, 7, 'VAR_EXT_RESET', '2026-11-01 05:00:00Z', 1, 2, null, null, 'counted by "Ann", twice', 'reset'
);
insert into inventory_item values (
    '10001', 'WAREHOUSE', 7, 7, 2, null, '2026-11-01 05:00:00Z', 'reset.csv', '2026-11-01 05:30:00Z', 2, 1, 'ATP', 7
);
insert into shopify_bulk_read values (
    'SHOP', 'gid://shopify/BulkOperation/1', '2026-11-01 06:30:00Z', '2026-11-01 06:31:00Z', 12, 9
);
insert into published_level values ('SHOP', 11, 7000, 7, 1, '2026-11-01 06:32:00Z');
insert into sequence values (2, 0);
insert into warehouse_version values (2);
