"""Every table once: columns, types and meaning. One declaration yields the DDL, the Columns tab in the UI and the key check.

Only what runs on DuckLake too: no keys, sequences or defaults; uniqueness is kept by the statements that write, and checked."""

from dataclasses import dataclass, replace
from typing import Any

import dagster as dg

TIME = "timestamp with time zone"
# To be raised with any change of a table that a released version may have made; `layout` brings up what is older.
LAYOUT = 7

# The rows that move stock.
ROWS = (
    "inventory_reset.quantity",
    "item_receipt.quantity",
    "item_fulfillment.quantity",
    "inventory_transfer.quantity",
    "inventory_adjustment.quantity",
    "shipment_receipt.quantity_accepted",
    "shopify_webhook_update.available",
    "shopify_inventory_reset.quantity",
)
# What the numbers that are published are computed from: columns of other assets, shown with the column in the UI.
MADE_OF = {
    "sync_change.target_quantity": ("facility_atp.computed_last_inventory_count", "online_atp.online_atp"),
    "sync_change.observed_quantity": ("shopify_inventory_level.available",),
    "online_atp.online_atp": (
        "facility_atp.computed_last_inventory_count",
        "product_facility.minimum_stock",
        "virtual_queue_item.quantity",
    ),
    "online_atp.base_atp": ("facility_atp.computed_last_inventory_count", "facility_atp.allow_brokering"),
    "online_atp.raw_atp": ("facility_atp.last_inventory_count", "facility_atp.allow_brokering"),
    "online_atp.threshold": ("product_facility.minimum_stock",),
    "online_atp.queue_quantity": ("virtual_queue_item.quantity",),
    "online_atp.allow_brokering": ("product_facility.allow_brokering",),
    "online_atp.preorder_hold": ("virtual_queue_item.quantity", "product_store.hold_preorder_physical_inventory"),
    "facility_atp.computed_last_inventory_count": (
        "inventory_item.available_to_promise_total",
        "kit_inventory.available_to_promise_total",
        "product_facility.minimum_stock",
    ),
    "facility_atp.last_inventory_count": (
        "inventory_item.available_to_promise_total",
        "kit_inventory.available_to_promise_total",
    ),
    "facility_atp.minimum_stock": ("product_facility.minimum_stock",),
    "facility_atp.allow_brokering": ("product_facility.allow_brokering",),
    "kit_inventory.available_to_promise_total": ("inventory_item.available_to_promise_total", "kit_component.quantity"),
    "inventory_item.available_to_promise_total": ("inventory_item_detail.available_to_promise_diff",),
    "inventory_item.quantity_on_hand_total": ("inventory_item_detail.quantity_on_hand_diff",),
    "inventory_item_detail.available_to_promise_diff": ROWS,
    "inventory_item_detail.quantity_on_hand_diff": ROWS,
}


@dataclass(frozen=True)
class Column:
    """One column; `optional` ones may be null."""

    name: str
    type: str
    description: str
    optional: bool = False


@dataclass(frozen=True)
class Table:
    """One table or view: what a row of it is, its columns and its key."""

    name: str
    description: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]

    def ddl(self, name: str | None = None) -> str:
        """The `create table if not exists` statement, for `name` instead of the table's own when given."""
        lines = (f"{c.name} {c.type}{'' if c.optional else ' not null'}" for c in self.columns)
        return f"create table if not exists {name or self.name} (\n    " + ",\n    ".join(lines) + "\n)"

    def column_list(self) -> str:
        return ", ".join(c.name for c in self.columns)

    @property
    def metadata(self) -> dict[str, Any]:
        """Definition-time metadata of the asset of this name: the Columns tab, what its numbers are made of, where it is kept."""
        made_of = {c.name: MADE_OF[f"{self.name}.{c.name}"] for c in self.columns if f"{self.name}.{c.name}" in MADE_OF}
        columns = [
            dg.TableColumn(
                c.name,
                type=c.type,
                description=f"{c.description} (from {', '.join(made_of[c.name])})"
                if c.name in made_of
                else c.description,
                constraints=dg.TableColumnConstraints(nullable=c.optional),
            )
            for c in self.columns
        ]
        constraints = dg.TableConstraints(other=[f"unique: {', '.join(self.key)}"])
        lineage = {
            name: [dg.TableColumnDep(*source.split(".")) for source in sources] for name, sources in made_of.items()
        }
        return {
            "dagster/column_schema": dg.TableSchema(columns, constraints=constraints),
            "dagster/table_name": self.name,
            "dagster/storage_kind": "duckdb",
            **({"dagster/column_lineage": dg.TableColumnLineage(lineage)} if lineage else {}),
        }


PRODUCT_ID = Column("product_id", "varchar", "HotWax product id")
FACILITY_ID = Column("facility_id", "varchar", "HotWax facility id")
LOG_ID = Column("log_id", "bigint", "the file that the row came with: data_manager_log.log_id")
LINE_NUMBER = Column("line_number", "bigint", "the physical line where the record starts, the header being 1")
SHOP_ID = Column("shop_id", "varchar", "Shopify shop")
SHOPIFY_ITEM = Column("shopify_inventory_item_id", "bigint", "the number N of gid://shopify/InventoryItem/N")
SHOPIFY_LOCATION = Column("shopify_location_id", "bigint", "the number N of gid://shopify/Location/N")
CHANGED_SEQ = Column(
    "changed_seq", "bigint", "position of the last change in the one sequence that watermarks count in"
)

PRODUCT = Table(
    "product",
    "One product (a sellable variant or a kit).",
    (
        PRODUCT_ID,
        Column("internal_name", "varchar", "SKU", optional=True),
        Column("product_type_id", "varchar", "MARKETING_PKG_PICK is a kit", optional=True),
        Column("netsuite_product_id", "varchar", "internal id of the item in NetSuite", optional=True),
        Column("upca", "varchar", "bar code", optional=True),
        Column("tags", "varchar", "tags, divided by commas", optional=True),
    ),
    key=("product_id",),
)
GOOD_IDENTIFICATION = Table(
    "good_identification",
    "One value by which files may name a product, of one type.",
    (
        Column("good_identification_type_id", "varchar", "type in upper case without blanks and underscores"),
        Column("id_value", "varchar", "the value as files write it"),
        Column("product_id", "varchar", "the product that it names"),
        Column("product_type_id", "varchar", "its type", optional=True),
        Column("product_count", "bigint", "how many products carry the value; above 1 it names none of them"),
    ),
    key=("good_identification_type_id", "id_value"),
)
FACILITY = Table(
    "facility",
    "One facility: a store, a warehouse, a virtual queue, or a channel's configuration facility.",
    (
        FACILITY_ID,
        Column("external_id", "varchar", "internal id of the location in NetSuite", optional=True),
        Column("facility_name", "varchar", "name", optional=True),
        Column("facility_type_id", "varchar", "CONFIGURATION carries a channel's threshold", optional=True),
        Column("parent_facility_type_id", "varchar", "VIRTUAL_FACILITY holds no stock of its own", optional=True),
        Column("product_store_id", "varchar", "the product store that sells from it", optional=True),
    ),
    key=("facility_id",),
)
FACILITY_GROUP = Table(
    "facility_group",
    "One membership of a facility in a group, for a span of time.",
    (
        Column("facility_group_id", "varchar", "group"),
        Column("facility_group_type_id", "varchar", "CHANNEL_FAC_GROUP is a sales channel", optional=True),
        FACILITY_ID,
        Column("from_date", TIME, "first moment of the membership", optional=True),
        Column("thru_date", TIME, "first moment after it; empty: still active", optional=True),
    ),
    key=("facility_group_id", "facility_id", "from_date"),
)
PRODUCT_STORE = Table(
    "product_store",
    "One product store: a brand, or the owner of a channel.",
    (
        Column("product_store_id", "varchar", "product store"),
        Column("reserve_inventory", "varchar", "N: parked orders do not reduce online ATP", optional=True),
        Column(
            "hold_preorder_physical_inventory",
            "varchar",
            "Y: parked pre-orders hold the product's stock",
            optional=True,
        ),
    ),
    key=("product_store_id",),
)
SHOPIFY_SHOP = Table(
    "shopify_shop",
    "One Shopify shop.",
    (
        SHOP_ID,
        Column("shop_domain", "varchar", "its myshopify.com domain", optional=True),
        Column("product_store_id", "varchar", "the product store whose numbers it shows"),
        Column("inventory_master", "varchar", "hotwax: we publish to it; shopify: we read from it"),
        Column("shopify_facility_group_mode", "varchar", "exclude or include: what a publication group means"),
    ),
    key=("shop_id",),
)
SHOPIFY_SHOP_LOCATION = Table(
    "shopify_shop_location",
    "One Shopify location and the facility whose number it shows; _NA_ is the aggregate location.",
    (SHOP_ID, FACILITY_ID, SHOPIFY_LOCATION),
    key=("shop_id", "facility_id"),
)
SHOPIFY_SHOP_PRODUCT_MAPPING = Table(
    "shopify_shop_product_mapping",
    "One product's inventory item as shopify_shop_product.csv states it; it overrides the match by SKU.",
    (SHOP_ID, PRODUCT_ID, SHOPIFY_ITEM),
    key=("shop_id", "product_id"),
)
VIRTUAL_QUEUE_ITEM = Table(
    "virtual_queue_item",
    "One order item that is or was open: parked at a virtual facility it reduces online ATP, at a physical one it is reserved.",
    (
        Column("order_id", "varchar", "order"),
        Column("order_item_seq_id", "varchar", "item of the order"),
        PRODUCT_ID,
        FACILITY_ID,
        Column("quantity", "integer", "units still open: 0 once they are fulfilled or the item has gone from the file"),
        Column("product_store_id", "varchar", "the product store that sold it"),
        Column(
            "stated_quantity",
            "integer",
            "units that the file stated last: 0 once the item has gone from it",
            optional=True,
        ),
        Column("ordered_quantity", "integer", "the most units that the file has ever stated", optional=True),
        CHANGED_SEQ,
    ),
    key=("order_id", "order_item_seq_id"),
)
DATA_MANAGER_LOG = Table(
    "data_manager_log",
    "One file from SFTP, read of a shop or batch of webhooks: what became of it, how many rows were applied, refused or ignored.",
    (
        Column("log_id", "bigint", "number of the file, in order of registration"),
        Column("config_id", "varchar", "MDM config that received the file"),
        Column("remote_path", "varchar", "path on the SFTP server, relative to SFTP_ROOT"),
        Column("file_name", "varchar", "name on the SFTP server"),
        Column("remote_modified_at", TIME, "modification time on the SFTP server"),
        Column("size_bytes", "bigint", "size in bytes"),
        Column("sha256", "varchar", "hash of the content"),
        Column("landed_path", "varchar", "the copy in the landing area, relative to HOTWAX_HOME"),
        Column(
            "status_id",
            "varchar",
            "pending, imported, finished, finished_with_errors, failed, duplicate, held, cancelled",
        ),
        Column("total_record_count", "bigint", "rows in the file", optional=True),
        Column(
            "failed_record_count", "bigint", "rows refused, each with a reason in data_manager_error", optional=True
        ),
        Column("ignored_record_count", "bigint", "rows that need nobody, such as kits in a reset file", optional=True),
        Column("effective_at", TIME, "when the file's rows take effect"),
        Column("exported_at", TIME, "of a reset, the export time in its name", optional=True),
        Column("registered_at", TIME, "when the file was landed and registered"),
        Column("archived_at", TIME, "when the remote file was moved to its archive", optional=True),
        Column("started_at", TIME, "when its import began", optional=True),
        Column("finished_at", TIME, "when it was posted, or failed", optional=True),
        Column("rows_removed_at", TIME, "when its rows that made no entry were removed", optional=True),
        Column("run_id", "varchar", "the Dagster run that last worked on it"),
        Column("property_resource", "varchar", "the SFTP connection that it came by"),
        Column("parameters", "varchar", "how its rows are to be read, as JSON"),
        Column("message", "varchar", "what a person should know of it", optional=True),
    ),
    key=("log_id",),
)
DATA_MANAGER_ERROR = Table(
    "data_manager_error",
    "One refused row of a file.",
    (
        LOG_ID,
        LINE_NUMBER,
        Column("column_name", "varchar", "the column at fault, as the file spells it", optional=True),
        Column("reason", "varchar", "what is wrong with it"),
        Column("raw_row", "varchar", "the row as it came"),
    ),
    key=("log_id", "line_number"),
)
INVENTORY_RESET = Table(
    "inventory_reset",
    "One accepted row of a reset file: a count that the ERP states for a product at a facility.",
    (
        LOG_ID,
        LINE_NUMBER,
        PRODUCT_ID,
        FACILITY_ID,
        Column("quantity", "integer", "units, as the file states them"),
        Column("reset_by", "varchar", "the counter that the quantity is: ATP or QOH"),
        Column("location_seq_id", "varchar", "warehouse location, as the file or the job states it", optional=True),
        Column("comments", "varchar", "free text", optional=True),
    ),
    key=("log_id", "line_number"),
)


def _deltas(name: str, description: str) -> Table:
    """A table of signed quantities that move both counters."""
    return Table(
        name,
        description,
        (
            LOG_ID,
            LINE_NUMBER,
            PRODUCT_ID,
            FACILITY_ID,
            Column("quantity", "integer", "units added, or taken when negative, as the file states them"),
            Column("location_seq_id", "varchar", "warehouse location, as the file or the job states it", optional=True),
            Column("comments", "varchar", "free text", optional=True),
        ),
        key=("log_id", "line_number"),
    )


ITEM_RECEIPT = _deltas("item_receipt", "One accepted row of an item receipt: stock that has arrived at a facility.")
INVENTORY_TRANSFER = _deltas("inventory_transfer", "One accepted row of a transfer: one facility's side of it.")
INVENTORY_ADJUSTMENT = _deltas("inventory_adjustment", "One accepted row of an adjustment that the ERP has made.")
ITEM_FULFILLMENT = Table(
    "item_fulfillment",
    "One accepted item fulfilment: units of an order item that have left a facility.",
    (
        LOG_ID,
        LINE_NUMBER,
        Column("order_id", "varchar", "order"),
        Column("order_item_seq_id", "varchar", "item of the order"),
        PRODUCT_ID,
        FACILITY_ID,
        Column("quantity", "integer", "units that have left"),
        Column("is_reserved", "boolean", "whether ATP had felt the order item already, as a reservation at a facility"),
        Column("shipped_date", "varchar", "when, as the file states it", optional=True),
        Column("tracking_number", "varchar", "tracking numbers", optional=True),
        Column("carrier", "varchar", "carrier", optional=True),
        Column("shipping_method", "varchar", "shipping method", optional=True),
    ),
    key=("log_id", "line_number"),
)
PRODUCT_FACILITY_RULE = Table(
    "product_facility_rule",
    "One accepted row of a rule file; product_facility is what the newest of them make.",
    (
        LOG_ID,
        LINE_NUMBER,
        PRODUCT_ID,
        FACILITY_ID,
        Column("minimum_stock", "bigint", "safety stock or threshold; empty: not stated", optional=True),
        Column("allow_brokering", "varchar", "Y or N; empty: not stated", optional=True),
        Column("allow_pickup", "varchar", "Y or N; empty: not stated", optional=True),
    ),
    key=("log_id", "line_number"),
)
KIT_COMPONENT = Table(
    "kit_component",
    "One component of a kit, in a list that was in force for a span of time.",
    (
        LOG_ID,
        LINE_NUMBER,
        Column("product_id", "varchar", "the kit"),
        Column("product_id_to", "varchar", "the component"),
        Column("quantity", "integer", "units of it in one kit"),
        Column(
            "refused_count",
            "integer",
            "rows of the kit's list that the file was refused of: with some, none can be made",
        ),
        Column("from_date", TIME, "since when the list is in force"),
        Column("thru_date", TIME, "when the next list replaced it; empty: in force", optional=True),
        CHANGED_SEQ,
    ),
    key=("log_id", "line_number"),
)
INBOUND_SHIPMENT = Table(
    "inbound_shipment",
    "One accepted item of an inbound shipment, as a file stated it.",
    (
        LOG_ID,
        LINE_NUMBER,
        Column("external_shipment_id", "varchar", "the shipment's id in NetSuite"),
        Column("shipment_type_id", "varchar", "HotWax's type, such as IN_TRANSFER"),
        Column("origin_facility_id", "varchar", "facility that sends it", optional=True),
        Column("destination_facility_id", "varchar", "facility that gets it", optional=True),
        PRODUCT_ID,
        Column("quantity", "integer", "units"),
        Column("item_external_id", "varchar", "the item's id in NetSuite", optional=True),
        Column("tracking_number", "varchar", "tracking numbers, of very many the first", optional=True),
        Column("shipment_attribute", "varchar", "NAME:VALUE", optional=True),
    ),
    key=("log_id", "line_number"),
)
SCHEDULED_RESTOCK = Table(
    "scheduled_restock",
    "One accepted row of a scheduled restock, as a file stated it.",
    (
        LOG_ID,
        LINE_NUMBER,
        Column("restock_name", "varchar", "name of the restock", optional=True),
        Column("scheduled_at", TIME, "the moment from which on the facility has it"),
        PRODUCT_ID,
        FACILITY_ID,
        Column("quantity", "integer", "units"),
        Column("product_store_id", "varchar", "product store, as the file states it", optional=True),
        Column("shop_id", "varchar", "Shopify store, as the file states it", optional=True),
    ),
    key=("log_id", "line_number"),
)
SHOPIFY_WEBHOOK_UPDATE = Table(
    "shopify_webhook_update",
    "One level's update as Shopify sent it by webhook, and what became of it.",
    (
        LOG_ID,
        Column("line_number", "bigint", "place within the batch, in order of updated_at"),
        SHOP_ID,
        Column("webhook_id", "varchar", "X-Shopify-Webhook-Id, which every repetition of a delivery has"),
        replace(SHOPIFY_ITEM, optional=True),
        replace(SHOPIFY_LOCATION, optional=True),
        Column(
            "available",
            "integer",
            "units that Shopify sells; empty where it does not count: the item is not tracked, or the location closed",
            optional=True,
        ),
        Column("updated_at", TIME, "Shopify's time of the change, which is when it takes effect", optional=True),
        Column("triggered_at", TIME, "when Shopify made the webhook; decides between equal times", optional=True),
        Column("received_at", TIME, "when the receiver had it"),
        replace(PRODUCT_ID, optional=True),
        replace(FACILITY_ID, optional=True),
        Column(
            "disposition",
            "varchar",
            "applied; older (than what was applied to the level); echo (of our own write); null (not counted by Shopify); kit; "
            "not_applied (inventory_master is hotwax); refused (see data_manager_error)",
        ),
    ),
    key=("shop_id", "webhook_id"),
)
SHOPIFY_INVENTORY_RESET = Table(
    "shopify_inventory_reset",
    "One level of a whole read of a shop that is master of its stock: the units on hand, which reset the facility's.",
    (
        LOG_ID,
        Column("line_number", "bigint", "a number of its own within the read"),
        SHOP_ID,
        SHOPIFY_ITEM,
        SHOPIFY_LOCATION,
        PRODUCT_ID,
        FACILITY_ID,
        Column("quantity", "integer", "units on hand, which reset QOH"),
    ),
    key=("log_id", "line_number"),
)
SHOPIFY_WEBHOOK_SUBSCRIPTION = Table(
    "shopify_webhook_subscription",
    "Whether one shop's updates of inventory levels come to our receiver, as it was last looked at.",
    (
        SHOP_ID,
        Column("topic", "varchar", "Shopify's topic"),
        Column("callback_url", "varchar", "the receiver's address for the shop"),
        Column("subscription_id", "varchar", "gid of the subscription", optional=True),
        Column("is_subscribed", "boolean", "whether it is wanted; the daily check makes it again only then"),
        Column("checked_at", TIME, "when it was last looked at"),
    ),
    key=("shop_id",),
)
SHIPMENT = Table(
    "shipment",
    "One shipment that a facility is to receive: inbound, or a scheduled restock.",
    (
        Column("shipment_id", "varchar", "IN-<external id>, or RS-<hash of a restock's name, time, facility and shop>"),
        Column("external_id", "varchar", "its id in NetSuite", optional=True),
        Column("shipment_type_id", "varchar", "HotWax's type, such as IN_TRANSFER or INCOMING_SHIPMENT"),
        Column(
            "status_id",
            "varchar",
            "PURCH_SHIP_CREATED (a restock that waits), PURCH_SHIP_SHIPPED, PURCH_SHIP_RECEIVED, SHIPMENT_CANCELLED",
        ),
        Column("origin_facility_id", "varchar", "facility that sends it", optional=True),
        Column("destination_facility_id", "varchar", "facility that receives it", optional=True),
        Column("scheduled_at", TIME, "when a restock is received", optional=True),
        Column("name", "varchar", "name of a restock", optional=True),
        LOG_ID,
    ),
    key=("shipment_id",),
)
SHIPMENT_ITEM = Table(
    "shipment_item",
    "One item of a shipment.",
    (
        Column("shipment_id", "varchar", "the shipment"),
        Column("shipment_item_seq_id", "varchar", "item of the shipment"),
        PRODUCT_ID,
        Column("quantity", "integer", "units that are to come"),
        Column("external_id", "varchar", "its id in NetSuite", optional=True),
        Column("log_id", "bigint", "the file that stated it", optional=True),
        LINE_NUMBER,
    ),
    key=("shipment_id", "shipment_item_seq_id"),
)
SHIPMENT_RECEIPT = Table(
    "shipment_receipt",
    "One item of a shipment as it was received.",
    (
        Column("shipment_id", "varchar", "the shipment"),
        Column("shipment_item_seq_id", "varchar", "item of the shipment"),
        PRODUCT_ID,
        FACILITY_ID,
        Column("quantity_accepted", "integer", "units received"),
        Column("received_at", TIME, "when, which is when they take effect"),
    ),
    key=("shipment_id", "shipment_item_seq_id"),
)
INVENTORY_ITEM_DETAIL = Table(
    "inventory_item_detail",
    "One entry of the inventory ledger: what one row changed. Entries are never altered.",
    (
        Column("seq", "bigint", "position in the ledger"),
        PRODUCT_ID,
        FACILITY_ID,
        Column("quantity_on_hand_diff", "bigint", "units added to quantity on hand"),
        Column("available_to_promise_diff", "bigint", "units added to available to promise"),
        Column("last_quantity_on_hand", "bigint", "quantity on hand after the entry"),
        Column("last_available_to_promise", "bigint", "available to promise after the entry"),
        Column("quantity", "bigint", "the quantity as the file states it"),
        Column("reason_enum_id", "varchar", "HotWax's reason, such as VAR_EXT_RESET"),
        Column("effective_at", TIME, "when the row takes effect"),
        LOG_ID,
        LINE_NUMBER,
        Column("shipment_id", "varchar", "the shipment received, if it was one", optional=True),
        Column("order_id", "varchar", "the order fulfilled, if it was one", optional=True),
        Column(
            "description",
            "varchar",
            "before_reset (a newer reset is known) or cut (at zero) where it applies, and the row's free text",
            optional=True,
        ),
        Column(
            "effect",
            "varchar",
            "reset; delta: both counters, cut at zero; movement: both counters; on_hand: a reserved unit has left",
            optional=True,
        ),
    ),
    key=("seq",),
)
INVENTORY_ITEM = Table(
    "inventory_item",
    "The stock of one product at one facility: always the sum of its ledger entries.",
    (
        PRODUCT_ID,
        FACILITY_ID,
        Column("quantity_on_hand_total", "bigint", "units on hand"),
        Column("available_to_promise_total", "bigint", "units on hand minus reservations"),
        CHANGED_SEQ,
        Column("last_moved_at", TIME, "time of effect of the newest row that is no reset", optional=True),
        Column("reset_at", TIME, "time of effect of the newest reset", optional=True),
        Column("reset_file_name", "varchar", "its file's name, which decides between equal times", optional=True),
        Column(
            "reset_modified_at", TIME, "its modification time, which decides between files of one name", optional=True
        ),
        Column("reset_line_number", "bigint", "its line, which decides within a file", optional=True),
        Column("reset_log_id", "bigint", "its file", optional=True),
        Column("reset_by", "varchar", "the counter that it set: ATP or QOH", optional=True),
        Column("reset_quantity", "bigint", "the value that it set", optional=True),
    ),
    key=("product_id", "facility_id"),
)
PRODUCT_FACILITY = Table(
    "product_facility",
    "The availability rules of one product at one facility.",
    (
        PRODUCT_ID,
        FACILITY_ID,
        Column(
            "minimum_stock",
            "bigint",
            "safety stock; at a configuration facility the channel's threshold",
            optional=True,
        ),
        Column("allow_brokering", "varchar", "N: not sold online from here; empty means Y", optional=True),
        Column("allow_pickup", "varchar", "N: no pick-up here; empty means Y", optional=True),
        CHANGED_SEQ,
    ),
    key=("product_id", "facility_id"),
)
KIT_INVENTORY = Table(
    "kit_inventory",
    "How many of one kit the components at one facility make.",
    (
        Column("product_id", "varchar", "the kit"),
        FACILITY_ID,
        Column("available_to_promise_total", "bigint", "complete kits"),
        CHANGED_SEQ,
    ),
    key=("product_id", "facility_id"),
)
FACILITY_ATP = Table(
    "facility_atp",
    "What one facility may promise of one product.",
    (
        PRODUCT_ID,
        FACILITY_ID,
        Column("last_inventory_count", "bigint", "available to promise at the facility, or complete kits"),
        Column("minimum_stock", "bigint", "units held back at the facility"),
        Column("allow_brokering", "varchar", "N: not part of any online number"),
        Column("computed_last_inventory_count", "bigint", "what is left above the minimum stock, never below 0"),
        CHANGED_SEQ,
    ),
    key=("product_id", "facility_id"),
)
ONLINE_ATP = Table(
    "online_atp",
    "What one channel may promise of one product, with every number on the way.",
    (
        Column("facility_group_id", "varchar", "the channel's facility group"),
        Column("product_store_id", "varchar", "the product store that sells"),
        PRODUCT_ID,
        Column("base_atp", "bigint", "sum of computed counts over the group's facilities that sell online"),
        Column("raw_atp", "bigint", "sum of available to promise over the same facilities"),
        Column("threshold", "bigint", "units held back for the whole channel"),
        Column("queue_quantity", "bigint", "units of open orders parked at virtual facilities"),
        Column("allow_brokering", "varchar", "N: the channel's configuration facility switches the product off"),
        Column("preorder_hold", "boolean", "parked pre-orders hold the product's stock"),
        Column("online_atp", "bigint", "the number that is published"),
        CHANGED_SEQ,
    ),
    key=("facility_group_id", "product_store_id", "product_id"),
)
SHOPIFY_INVENTORY_LEVEL = Table(
    "shopify_inventory_level",
    "One level as the shop showed it in its last complete bulk read.",
    (
        SHOP_ID,
        SHOPIFY_ITEM,
        SHOPIFY_LOCATION,
        Column(
            "shopify_inventory_level_id",
            "bigint",
            "the number N of gid://shopify/InventoryLevel/N?inventory_item_id=I",
        ),
        Column("tracked", "boolean", "whether Shopify counts the item"),
        Column(
            "available",
            "integer",
            "units that Shopify sells; empty where it does not count: the item is not tracked, or the location closed",
            optional=True,
        ),
        Column("on_hand", "integer", "units that Shopify has on hand", optional=True),
        Column("updated_at", TIME, "Shopify's time of the last change", optional=True),
    ),
    key=("shop_id", "shopify_inventory_item_id", "shopify_location_id"),
)
SHOPIFY_BULK_READ = Table(
    "shopify_bulk_read",
    "One complete bulk read of a shop's levels.",
    (
        SHOP_ID,
        Column("bulk_operation_id", "varchar", "gid of the bulk operation"),
        Column("asked_at", TIME, "our time before it was asked for"),
        Column("started_at", TIME, "Shopify's time of its start"),
        Column("completed_at", TIME, "Shopify's time of its end"),
        Column("object_count", "bigint", "lines of the result"),
        Column("level_count", "bigint", "levels among them"),
        Column(
            "mapped_count",
            "bigint",
            "levels among them that Shopify counts, of a matched product at a mapped location; empty until products are matched",
            optional=True,
        ),
        Column("size_bytes", "bigint", "size of the result"),
    ),
    key=("shop_id",),
)
SHOPIFY_INVENTORY_ITEM = Table(
    "shopify_inventory_item",
    "One inventory item as the shop showed it in its last complete bulk read.",
    (
        SHOP_ID,
        SHOPIFY_ITEM,
        Column("sku", "varchar", "SKU", optional=True),
        Column("tracked", "boolean", "whether Shopify counts the item"),
    ),
    key=("shop_id", "shopify_inventory_item_id"),
)
SHOPIFY_SHOP_PRODUCT = Table(
    "shopify_shop_product",
    "One product and its inventory item in a shop.",
    (
        SHOP_ID,
        PRODUCT_ID,
        SHOPIFY_ITEM,
        Column("matched_by", "varchar", "sku, or csv for a row of shopify_shop_product.csv"),
        CHANGED_SEQ,
    ),
    key=("shop_id", "product_id"),
)
SYNC_RUN = Table(
    "sync_run",
    "One delta for a shop: what it was asked for, what was found, and how far its sending has come.",
    (
        Column("sync_run_id", "bigint", "number of the delta"),
        SHOP_ID,
        Column("job", "varchar", "hard_sync, upload_recent_inventory_changes or schedule_restock"),
        Column("run_id", "varchar", "the Dagster run that made it"),
        Column("parameters", "varchar", "the parameters, as JSON"),
        Column(
            "bulk_operation_id",
            "varchar",
            "the bulk read that it compares with; empty: levels read one by one",
            optional=True,
        ),
        Column("observed_at", TIME, "time of the read that it compares with"),
        Column("upto_seq", "bigint", "the sequence up to which our own numbers are in it"),
        Column("created_at", TIME, "when it was made"),
        Column("level_count", "bigint", "levels that were compared"),
        Column("change_count", "bigint", "changes"),
        Column("skipped", "varchar", "levels and targets left out, by reason, as JSON"),
        Column("guard_message", "varchar", "why a person must approve it before it is sent", optional=True),
        Column("approved_by_run", "varchar", "the run that approved it", optional=True),
        Column("approved_by", "varchar", "the person who started that run, where Dagster knows", optional=True),
        Column("approved_at", TIME, "when it was approved", optional=True),
        Column("sent_by_run", "varchar", "the Dagster run that last sent of it", optional=True),
        Column(
            "status_id",
            "varchar",
            "planned, sending, finished, unfinished (to be resumed), abandoned (left to the deltas after it)",
        ),
        Column("finished_at", TIME, "when every change had an outcome", optional=True),
    ),
    key=("sync_run_id",),
)
SYNC_CHANGE = Table(
    "sync_change",
    "One change of one level that a delta asks for, and what Shopify made of it.",
    (
        Column("sync_run_id", "bigint", "the delta"),
        SHOP_ID,
        PRODUCT_ID,
        FACILITY_ID,
        SHOPIFY_ITEM,
        SHOPIFY_LOCATION,
        Column("target_quantity", "integer", "units that the level should show"),
        Column("observed_quantity", "integer", "units that it showed"),
        Column("delta", "integer", "units to add"),
        Column("idempotency_key", "varchar", "key of the line"),
        Column("file_name", "varchar", "delta file"),
        Column("line_number", "bigint", "line of the delta file, from 0 as Shopify counts"),
        Column("line_position", "bigint", "place among the line's changes, from 0 as Shopify counts"),
        Column(
            "outcome",
            "varchar",
            "applied, no_op, stale, permanent, retryable, unknown, contested; empty: not sent",
            optional=True,
        ),
        Column("error_code", "varchar", "Shopify's code or message for a refusal", optional=True),
        Column("attempts", "bigint", "how often it was decided anew"),
        Column("decided_at", TIME, "when the outcome was known", optional=True),
    ),
    key=("sync_run_id", "shopify_inventory_item_id", "shopify_location_id"),
)
SYNC_FILE = Table(
    "sync_file",
    "One delta file and the bulk operation that works it.",
    (
        Column("sync_run_id", "bigint", "the delta"),
        Column("file_name", "varchar", "name in the outbox"),
        Column("line_count", "bigint", "lines"),
        Column("size_bytes", "bigint", "size in bytes"),
        Column(
            "sent_at", TIME, "when its sending began, which is before Shopify can have seen a key of it", optional=True
        ),
        Column(
            "bulk_operation_id", "varchar", "gid of the bulk operation, once Shopify has accepted it", optional=True
        ),
    ),
    key=("sync_run_id", "file_name"),
)
SYNC_WATERMARK = Table(
    "sync_watermark",
    "How far a shop's publishing has come.",
    (
        SHOP_ID,
        Column("sync_run_id", "bigint", "the delta that was finished"),
        Column("seq", "bigint", "everything up to here has been published"),
        Column("at_time", TIME, "when"),
    ),
    key=("shop_id", "sync_run_id"),
)
PUBLISHED_LEVEL = Table(
    "published_level",
    "The last quantity that a level has had from us, or may have had where Shopify never said.",
    (
        SHOP_ID,
        SHOPIFY_ITEM,
        SHOPIFY_LOCATION,
        Column("quantity", "integer", "units"),
        Column("sync_run_id", "bigint", "the delta that set it"),
        Column("published_at", TIME, "when that was certain, or given up"),
    ),
    key=("shop_id", "shopify_inventory_item_id", "shopify_location_id"),
)
INVENTORY_DRIFT = Table(
    "inventory_drift",
    "One level that showed another number than ours when its shop was last read, or shows one still.",
    (
        SHOP_ID,
        PRODUCT_ID,
        FACILITY_ID,
        SHOPIFY_ITEM,
        SHOPIFY_LOCATION,
        Column("target_quantity", "bigint", "units that the level should show"),
        Column("observed_quantity", "integer", "units that it showed when it was read"),
        Column("current_quantity", "integer", "units that it shows by what Shopify has confirmed to us since"),
        Column("difference", "bigint", "current minus target; 0: mended by a sync since"),
        Column(
            "cause",
            "varchar",
            "sold since, edited by someone, not yet sent (our number has moved), never published, refused, contested, unanswered",
        ),
        Column("error_code", "varchar", "Shopify's code or message for a refusal", optional=True),
        Column("oversold_quantity", "bigint", "units sold below zero, and units offered beyond what we have"),
        Column("since", TIME, "since when it is known to differ"),
        Column("read_at", TIME, "when the shop was read"),
    ),
    key=("shop_id", "shopify_inventory_item_id", "shopify_location_id"),
)
WORKLIST = Table(
    "worklist",
    "One thing that a person must mend.",
    (
        Column(
            "kind",
            "varchar",
            "unmatched_item, unmapped_product, level_not_stocked, never_reset, kit_not_whole, file_held, file_failed, "
            "delta_held, change_contested, change_refused",
        ),
        Column("shop_id", "varchar", "Shopify shop", optional=True),
        Column("product_id", "varchar", "HotWax product id", optional=True),
        Column("facility_id", "varchar", "HotWax facility id", optional=True),
        Column("name", "varchar", "SKU, or name of the file"),
        Column("detail", "varchar", "what is the matter", optional=True),
        Column("what_to_do", "varchar", "the next step"),
        Column("since", TIME, "since when, where that is known", optional=True),
    ),
    key=("kind", "shop_id", "product_id", "facility_id", "name", "detail"),
)
SEQUENCE = Table(
    "sequence",
    "The one sequence that ledger entries and changes are numbered in.",
    (
        Column("last_value", "bigint", "the last number given out"),
        Column("kits_upto", "bigint", "kits are computed from everything up to here"),
    ),
    key=("last_value",),
)
WAREHOUSE_VERSION = Table(
    "warehouse_version",
    "Which layout of these tables the file has.",
    (Column("version", "integer", "layout"),),
    key=("version",),
)

TABLES = tuple(value for value in list(globals().values()) if isinstance(value, Table))
VIEWS = (FACILITY_ATP, ONLINE_ATP, WORKLIST)
