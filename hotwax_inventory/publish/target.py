"""What each level of a shop should show: a facility's number at its location, the channel's at the aggregate location."""

from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar

import duckdb
from pydantic import Field

from hotwax_inventory import settings
from hotwax_inventory.imports.shops import Shop
from hotwax_inventory.ledger.atp import create_views
from hotwax_inventory.ledger.kits import KITS
from hotwax_inventory.resources import scalar
from hotwax_inventory.run_config import HotwaxConfig, choice
from hotwax_inventory.settings import LONGEST
from hotwax_inventory.shopify import MAX_CHANGES

# What Shopify takes as a quantity of a level (Shopify reference, section 10).
MOST_UNITS = 1_000_000_000


class UnknownGroup(ValueError):
    """A facility group that the reference does not have."""


@choice
class DifferenceFrom(Enum):
    """What a delta is the difference from."""

    shopify = "shopify"
    last_published = "last_published"


class Publication(HotwaxConfig):
    """What a delta may be told. HotWax's own spellings are understood beside ours."""

    spellings: ClassVar[dict[str, str]] = {
        "facilityGroupId": "facility_group_id",
        "facilityGroupID": "facility_group_id",
        "shopifyFacilityGroupId": "shopify_facility_group_id",
        "includeAll": "include_all",
        "bufferTime": "buffer_minutes",
        "buffertime": "buffer_minutes",
        "useVaildATP": "use_valid_atp",
        "useValidATP": "use_valid_atp",
    }

    facility_group_id: str = Field("FAC_GRP", description="inventory group whose stock the aggregate location shows")
    shopify_facility_group_id: str | None = Field(
        None,
        description="publication group: its facilities are left out, or only they are published, as the shop's "
        "shopify_facility_group_mode says; empty: all mapped locations",
    )
    include_all: bool = Field(True, description="false: only products that have moved since the shop's last hard sync")
    use_valid_atp: bool = Field(
        True, description="false: publish raw numbers, without safety stock, threshold, queue and floor"
    )
    difference_from: DifferenceFrom = Field(
        DifferenceFrom.shopify,
        description="shopify: bring levels to our number; last_published: send only what our number has moved since Shopify last "
        "confirmed it, so that sales which nobody has told us of stand",
    )
    changes_per_line: int = Field(
        100, description=f"changes in one line of the delta file, 1 to {MAX_CHANGES}", ge=1, le=MAX_CHANGES
    )
    facilityGroupId: str | None = Field(None, description="HotWax's spelling of facility_group_id")
    facilityGroupID: str | None = Field(None, description="HotWax's other spelling of facility_group_id")
    shopifyFacilityGroupId: str | None = Field(None, description="HotWax's spelling of shopify_facility_group_id")
    includeAll: bool | None = Field(None, description="HotWax's spelling of include_all")
    useVaildATP: bool | None = Field(None, description="HotWax's spelling of use_valid_atp")
    useValidATP: bool | None = Field(None, description="HotWax's other spelling of use_valid_atp")


class RecentPublication(Publication):
    """What the delta of recent changes may be told."""

    include_all: bool = Field(False, description="true: every product, whether it has moved or not")
    buffer_minutes: int = Field(
        0, description="look back so many minutes further than the newest watermark of the shop", ge=0, le=LONGEST
    )
    bufferTime: int | None = Field(None, description="HotWax's spelling of buffer_minutes")
    buffertime: int | None = Field(None, description="HotWax's other spelling of buffer_minutes")


class RestockPublication(Publication):
    """What the upload of a restock may be told."""

    include_all: bool = Field(False, description="true: the products of every shipment that was ever received")


# Design 8.1: `exclude` leaves the group's facilities out and keeps the aggregate location; `include` takes only members.
LOCATIONS = """
create or replace temp table published_location as
with publication_member as (
    select facility_id
    from facility_group
    where facility_group_id = $publication_group
        and coalesce(from_date <= current_timestamp, true)
        and coalesce(thru_date > current_timestamp, true)
)
select facility_id, shopify_location_id
from shopify_shop_location
where shop_id = $shop_id
    and (
        $publication_group is null
        or ($mode = 'include' and facility_id in (select facility_id from publication_member))
        or ($mode = 'exclude' and (facility_id = '_NA_' or facility_id not in (select facility_id from publication_member)))
    )
"""

# product_id, facility_id, shopify_location_id, target_quantity (units), changed_seq. What we have put on sale and is `withdrawn` is
# 0: a product at the aggregate location that no facility of the same channel has any longer, a kit where it can no longer be made.
# Of products that were never counted and are no kits, and of a channel that has gone, nothing is said.
TARGET = f"""
with channel as materialized (
    select product_id, online_atp, raw_atp, changed_seq
    from online_atp
    where facility_group_id = $facility_group_id and product_store_id = $product_store_id
),
withdrawn as materialized (
    select p.product_id, l.facility_id, l.shopify_location_id, p.changed_seq
    from published_location as l
    join published_level as h on h.shop_id = $shop_id and h.shopify_location_id = l.shopify_location_id and h.quantity > 0
    join shopify_shop_product as p
        on p.shop_id = $shop_id and p.shopify_inventory_item_id = h.shopify_inventory_item_id
    join sync_run as r on r.sync_run_id = h.sync_run_id
    anti join channel as o on o.product_id = p.product_id
    where l.facility_id = '_NA_'
        and json_extract_string(r.parameters, 'facility_group_id') = $facility_group_id
        and $facility_group_id in (select facility_group_id from facility_group)
    union all
    select p.product_id, l.facility_id, l.shopify_location_id, p.changed_seq
    from ({KITS}) as k
    join shopify_shop_product as p on p.shop_id = $shop_id and p.product_id = k.product_id
    join published_level as h
        on h.shop_id = $shop_id and h.shopify_inventory_item_id = p.shopify_inventory_item_id and h.quantity > 0
    join published_location as l on l.shopify_location_id = h.shopify_location_id
    anti join (
        select product_id, facility_id
        from facility_atp
        where product_id in ({KITS})
    ) as a on a.product_id = p.product_id and a.facility_id = l.facility_id
    where l.facility_id <> '_NA_' and $kits_are_derived
)
select
    a.product_id,
    l.facility_id,
    l.shopify_location_id,
    case when $use_valid_atp then a.computed_last_inventory_count else a.last_inventory_count end as target_quantity,
    a.changed_seq
from published_location as l
join facility_atp as a on a.facility_id = l.facility_id
union all
select
    o.product_id,
    l.facility_id,
    l.shopify_location_id,
    case when $use_valid_atp then o.online_atp else o.raw_atp end as target_quantity,
    o.changed_seq
from published_location as l
cross join channel as o
where l.facility_id = '_NA_'
union all
select w.product_id, w.facility_id, w.shopify_location_id, 0 as target_quantity, greatest(w.changed_seq, c.changed_seq)
from withdrawn as w
left join (
    select product_id, max(changed_seq) as changed_seq
    from (
        select product_id, changed_seq from inventory_item
        union all
        select product_id, changed_seq from kit_inventory
    )
    where product_id in (select product_id from withdrawn)
    group by product_id
) as c on c.product_id = w.product_id
where c.product_id is not null or ($kits_are_derived and w.product_id in ({KITS}))
"""


@dataclass(frozen=True)
class Scope:
    """What is published: to which shop, and by which parameters."""

    shop: Shop
    publication: Publication

    def values(self) -> dict[str, Any]:
        """The parameters of TARGET."""
        return {
            "shop_id": self.shop.shop_id,
            "use_valid_atp": self.publication.use_valid_atp,
            "facility_group_id": self.publication.facility_group_id,
            "product_store_id": self.shop.product_store_id,
            "kits_are_derived": settings.kits_from_components(),
        }

    @property
    def is_from_published(self) -> bool:
        """Whether only our own movement since the last confirmed number is sent (design 8.13)."""
        return self.publication.difference_from is DifferenceFrom.last_published


NARROWED = ("inventory_item", "kit_inventory", "product_facility", "virtual_queue_item")
# The columns of stock that the numbers are made of: DuckDB reads every column that is asked for of every row.
COUNTED = "product_id, facility_id, available_to_promise_total, changed_seq"
# What stands before a table or view of the same name once `narrow` and its callers have been there.
IN_FRONT = (
    "facility_atp",
    "online_atp",
    *NARROWED,
    "shopify_shop_product",
    "shopify_inventory_level",
    "published_level",
)


def narrow(connection: duckdb.DuckDBPyConnection, stock: str = COUNTED) -> None:
    """Let `facility_atp` and `online_atp` be of the products in the temporary table `moved` alone, while the connection is open.
    `inventory_item` has only the columns `stock` then.

    Temporary tables stand before those of the same name, so that one definition of the numbers serves the whole catalogue and
    a few products of it at the cost of the few."""
    for table in NARROWED:
        columns = stock if table == "inventory_item" else "*"
        connection.execute(
            f"create temp table {table} as select {columns} from {table} where product_id in (select product_id from moved)"
        )
    create_views(connection, is_temporary=True)


def widen(connection: duckdb.DuckDBPyConnection) -> None:
    """Let every name mean the whole table again."""
    found = connection.execute(
        "select table_name, table_type from information_schema.tables where table_catalog = 'temp' "
        "and table_name in (select unnest($names)) order by table_type desc",
        {"names": list(IN_FRONT)},
    ).fetchall()
    for name, kind in found:
        connection.execute(f"drop {'view' if kind == 'VIEW' else 'table'} temp.{name}")


def choose_locations(scope: Scope, connection: duckdb.DuckDBPyConnection, *, must_have_groups: bool = True) -> None:
    """Make the temporary table `published_location`; of a group that has gone from the reference since, nothing is a member.

    Raises UnknownGroup where the scope `must_have_groups`."""
    publication_group = scope.publication.shopify_facility_group_id
    if must_have_groups and publication_group is not None:
        _require_group("shopify_facility_group_id", publication_group, connection)
    connection.execute(
        LOCATIONS,
        {
            "shop_id": scope.shop.shop_id,
            "publication_group": publication_group,
            "mode": scope.shop.facility_group_mode,
        },
    )
    has_aggregate = scalar(connection, "select count(*) from published_location where facility_id = '_NA_'")
    if must_have_groups and has_aggregate:
        _require_group("facility_group_id", scope.publication.facility_group_id, connection)


def _require_group(parameter: str, group: str, connection: duckdb.DuckDBPyConnection) -> None:
    groups = [
        row[0]
        for row in connection.execute("select distinct facility_group_id from facility_group order by all").fetchall()
    ]
    if group not in groups:
        raise UnknownGroup(
            f"{parameter} {group} is not in facility_group.csv (there are: {', '.join(groups[:20]) or 'none'}). Nothing was made."
        )
