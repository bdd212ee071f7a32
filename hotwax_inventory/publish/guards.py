"""What must hold before a delta is sent: each a blocking check on the delta's asset, with the setting that bounds it.

A person who has read the delta may send it although its own checks tripped; a token or an API version that is not right cannot be
approved away, so the upload looks at those two itself."""

from datetime import UTC, datetime, timedelta

import dagster as dg
import duckdb

from hotwax_inventory import settings
from hotwax_inventory.ledger.sums import offenders
from hotwax_inventory.publish.manifest import UPLOADS, Delta
from hotwax_inventory.resources import scalar
from hotwax_inventory.shopify import ShopifyClient, ShopifyRefused, WrongVersion

# Below so many levels a large share is nothing unusual.
GUARDED_LEVELS = 1000
NEEDED_SCOPES = frozenset({"read_inventory", "write_inventory"})

STANDING = {
    "token_may_write": f"The shop's token has the scopes {' and '.join(sorted(NEEDED_SCOPES))}.",
    "api_version_is_as_asked": "Shopify answers by the API version of SHOPIFY_API_VERSION.",
}
SHARES = {
    "few_levels_change": "No larger share of the levels changes than SYNC_MAX_CHANGED_PERCENT.",
    "few_levels_go_to_zero": "No larger share of the levels goes to zero than SYNC_MAX_ZEROED_PERCENT.",
}
NUMBERS = {"nothing_below_zero": "No number that we promise is below zero, unless use_valid_atp is false."}
LEDGER = {"ledger_adds_up": "The stock of every product and facility is the sum of its ledger entries."}
# A recent sync compares with a snapshot where the shop was never read before.
SNAPSHOT = {
    "snapshot_is_complete": "Every line of the shop's last bulk read is in the warehouse.",
    "snapshot_is_recent": "The shop's last bulk read is not older than SYNC_MAX_SNAPSHOT_MINUTES.",
}
GUARDS = {
    "hard_sync_delta": {**STANDING, **LEDGER, **NUMBERS, **SHARES, **SNAPSHOT},
    "recent_change_delta": {**STANDING, **NUMBERS, **SHARES, **SNAPSHOT},
}

LOADED = """
select
    (select count(*) from shopify_inventory_item where shop_id = $shop_id)
        + (select count(*) from shopify_inventory_level where shop_id = $shop_id)
"""


def check_specs(asset: str) -> list[dg.AssetCheckSpec]:
    """The checks of a delta's asset."""
    return [
        dg.AssetCheckSpec(name, asset=asset, blocking=True, description=description)
        for name, description in GUARDS[asset].items()
    ]


def check_results(asset: str, alarms: dict[str, str], metadata: dict[str, float]) -> list[dg.AssetCheckResult]:
    """The result of every check of a delta's asset; `metadata` has the number behind some of them."""
    return [
        dg.AssetCheckResult(
            asset_key=asset,
            check_name=name,
            passed=name not in alarms,
            description=alarms.get(name),
            metadata={"percent": metadata[name]} if name in metadata else None,
        )
        for name in GUARDS[asset]
    ]


def standing_alarms(client: ShopifyClient) -> dict[str, str]:
    """What keeps the token from publishing, with a sentence each. Raises ShopifyUnavailable, ShopifyRefused."""
    try:
        granted = client.scopes()
    except WrongVersion as error:
        return {"api_version_is_as_asked": str(error)}
    # who may write may read
    missing = sorted(NEEDED_SCOPES - granted - {scope.replace("write_", "read_", 1) for scope in granted})
    if not missing:
        return {}
    return {
        "token_may_write": f"The token lacks the scope {' and '.join(missing)} (it has: {', '.join(sorted(granted)) or 'none'}). "
        "Grant it to the app in Shopify, then run this again."
    }


def require_standing(client: ShopifyClient) -> None:
    """Raises ShopifyRefused when the token may not publish; nobody can approve that."""
    alarms = standing_alarms(client)
    if alarms:
        raise ShopifyRefused(f"Nothing was sent. {' '.join(alarms.values())}")


def ledger_alarms(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """Keys whose stock is not what their entries add up to, with a sentence: a fault in us, which nobody can approve."""
    found = offenders(connection)
    if not found:
        return {}
    keys = ", ".join(f"{product} at {facility}" for product, facility, *_ in found[:3])
    return {
        "ledger_adds_up": f"The stock of {keys} is not the sum of its ledger entries. Nothing was compared or sent. Run the check "
        "ledger_sums, which lists all, put back the last copy of the warehouse that adds up, and report it."
    }


def number_alarms(delta: Delta, use_valid_atp: bool) -> dict[str, str]:
    """Levels that would be brought below zero although nobody asked for raw numbers, with a sentence."""
    if not (use_valid_atp and delta.below_zero_count):
        return {}
    return {
        "nothing_below_zero": f"{delta.below_zero_count:,} levels would get a number below zero, which only use_valid_atp = false "
        f"may do. {_how(delta.job, delta.sync_run_id)}"
    }


def share_alarms(delta: Delta) -> dict[str, str]:
    """Too large a share of the shop's levels in one delta, with a sentence each. A shop's first sync may change any share."""
    changed, zeroed = settings.sync_max_changed_percent(), settings.sync_max_zeroed_percent()
    if delta.observed.mapped_count < GUARDED_LEVELS:
        return {}
    found: dict[str, str] = {}
    shares = percents(delta)
    if shares["few_levels_change"] > changed and not delta.is_first:
        found["few_levels_change"] = (
            f"{delta.change_count:,} of {delta.observed.mapped_count:,} levels would change, more than {changed} % "
            f"(SYNC_MAX_CHANGED_PERCENT). {_how(delta.job, delta.sync_run_id)}"
        )
    if shares["few_levels_go_to_zero"] > zeroed:
        found["few_levels_go_to_zero"] = (
            f"{delta.zeroed_count:,} of {delta.observed.mapped_count:,} levels would go to zero, more than {zeroed} % "
            f"(SYNC_MAX_ZEROED_PERCENT). {_how(delta.job, delta.sync_run_id)}"
        )
    return found


def percents(delta: Delta) -> dict[str, float]:
    """The shares that `share_alarms` looks at, by check."""
    levels = max(delta.observed.mapped_count, 1)
    return {
        "few_levels_change": 100 * delta.change_count / levels,
        "few_levels_go_to_zero": 100 * delta.zeroed_count / levels,
    }


def whole_alarms(shop_id: str, object_count: int, connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """What is missing of the bulk read that a delta is about to compare with, with a sentence."""
    loaded = scalar(connection, LOADED, {"shop_id": shop_id})
    if loaded == object_count:
        return {}
    return {
        "snapshot_is_complete": f"The warehouse has {loaded:,} of the {object_count:,} items and levels that Shopify read for shop "
        f"{shop_id}. Run hard_sync: it reads the shop anew."
    }


def age_alarm(shop_id: str, job: str, sync_run_id: int, read_at: datetime) -> str:
    """A sentence when what a delta of the job compares with was read too long ago, else nothing."""
    minutes = settings.sync_max_snapshot_minutes()
    if datetime.now(UTC) - read_at <= timedelta(minutes=minutes):
        return ""
    return (
        f"It compares with what shop {shop_id} showed at {read_at:%Y-%m-%d %H:%M} UTC, more than {minutes} minutes ago "
        f"(SYNC_MAX_SNAPSHOT_MINUTES). Run {job}: it reads the shop anew. {_how(job, sync_run_id)}"
    )


def _how(job: str, sync_run_id: int) -> str:
    return (
        f"Read delta {sync_run_id}; if it is right, materialise {UPLOADS[job]} alone with approve = true and "
        f"sync_run_id = {sync_run_id}."
    )
