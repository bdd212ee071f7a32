"""The tables behind the simulated shops, in SQLite."""

SCHEMA = """
create table if not exists shop (shop_id text primary key, ordinal integer not null unique, shop_domain text not null);
create table if not exists location (
    shop_id text, location_id integer, name text not null, is_active integer not null, level_number integer not null,
    primary key (shop_id, location_id)
) without rowid;
create unique index if not exists location_level_number on location (shop_id, level_number);
create table if not exists item (
    shop_id text, item_id integer, sku text, product_id text, tracked integer not null, updated_at text not null,
    primary key (shop_id, item_id)
) without rowid;
create index if not exists item_sku on item (shop_id, sku);
create table if not exists level (
    shop_id text, item_id integer, location_id integer,
    available integer not null, committed integer not null default 0,
    incoming integer not null default 0, reserved integer not null default 0, damaged integer not null default 0,
    safety_stock integer not null default 0, quality_control integer not null default 0,
    is_active integer not null default 1, updated_at text not null,
    primary key (shop_id, item_id, location_id)
) without rowid;
create table if not exists adjustment (
    sequence integer primary key, shop_id text, item_id integer, location_id integer, name text, delta integer,
    source text, idempotency_key text, group_id integer, applied_at text
);
create index if not exists adjustment_group_changes on adjustment (group_id) where group_id is not null;
create table if not exists adjustment_group (
    group_id integer primary key, shop_id text, reason text, reference_document_uri text, created_at text
);
create table if not exists idempotency (
    shop_id text, key text, root_field text, parameters text, group_id integer, answer text, recorded_at text,
    primary key (shop_id, key)
) without rowid;
create table if not exists staged_upload (key text primary key, shop_id text, parameters text, created_at text);
create table if not exists bulk_operation (
    number integer primary key, shop_id text, type text, status text, error_code text,
    created_at text, completed_at text,
    object_count integer not null default 0, root_object_count integer not null default 0, file_size integer,
    document text, staged_key text, version text, token text, is_partial integer not null default 0, fault text
);
create table if not exists webhook_subscription (
    number integer primary key, shop_id text, topic text, uri text, format text, name text, filter text,
    include_fields text, created_at text
);
create table if not exists webhook_delivery (
    number integer primary key, shop_id text, subscription integer, item_id integer, location_id integer,
    webhook_id text, event_id text, triggered_at text, body text, attempts integer not null default 0, due_at real
);
create table if not exists access_token (token text primary key, shop_id text, expires_at text);
"""
