"""Whether Shopify tells us of a shop's levels: HotWax's switch for `inventory_levels/update` in the Job Manager.

Shopify removes a subscription after eight failed deliveries in a row (Shopify reference 8.4), so it is looked for every day."""

from enum import Enum
from urllib.parse import quote

import dagster as dg
from pydantic import Field

from hotwax_inventory import settings, shopify_documents, tables
from hotwax_inventory.imports.shops import SHOPS, find_shop, shop_of
from hotwax_inventory.resources import Shopify, Warehouse
from hotwax_inventory.run_config import choice
from hotwax_inventory.shopify import ShopifyClient, ShopifyRefused

TOPIC = "INVENTORY_LEVELS_UPDATE"
RECEIVER = "/webhooks/shopify"
CHECK = dg.AssetCheckSpec(
    "subscription_was_there",
    asset="shopify_webhook_subscription",
    description="The subscription was still there; where it was not, it has been made again.",
)


@choice
class Action(Enum):
    """What is to be done with the subscription."""

    subscribe = "subscribe"
    unsubscribe = "unsubscribe"
    check = "check"


class Subscription(dg.Config):
    """Parameters of the switch."""

    action: Action = Field(
        Action.subscribe,
        description="subscribe; unsubscribe; check: make it again where it is gone, but not where it was unsubscribed here",
    )
    callback_url: str | None = Field(
        None,
        description="where Shopify reaches the receiver, the shop's id is appended; empty: WEBHOOK_CALLBACK_URL",
    )


@dg.asset(
    group_name="imports",
    kinds={"shopify", "duckdb"},
    partitions_def=SHOPS,
    deps=["shopify_shop"],
    metadata=tables.SHOPIFY_WEBHOOK_SUBSCRIPTION.metadata,
    check_specs=[CHECK],
)
def shopify_webhook_subscription(
    context: dg.AssetExecutionContext, config: Subscription, shopify: Shopify, warehouse: Warehouse
) -> dg.MaterializeResult:
    """Whether one shop's updates of inventory levels come to our receiver, and at which address."""
    with warehouse.transaction() as connection:
        shop = find_shop(shop_of(context), connection)
        known = connection.execute(
            "select callback_url, subscription_id, is_subscribed from shopify_webhook_subscription where shop_id = $shop_id",
            {"shop_id": shop.shop_id},
        ).fetchall()
    last_url, last_id, was_subscribed = known[0] if known else (None, None, None)
    if config.action is Action.check and was_subscribed is False:
        return _result(last_url, "unsubscribed", was_there=True)
    is_wanted = config.action is not Action.unsubscribe
    url = _callback_url(config, shop.shop_id, None if config.action is Action.subscribe else last_url)
    with shopify.client(shop.shop_id, shop.shop_domain) as client:
        before = _subscriptions(client)
        subscription_id = _bring_about(client, before, url, last_id, is_wanted=is_wanted)
    with warehouse.transaction() as connection:
        connection.execute("delete from shopify_webhook_subscription where shop_id = $id", {"id": shop.shop_id})
        connection.execute(
            "insert into shopify_webhook_subscription by name select $shop_id as shop_id, $topic as topic, $url as callback_url, "
            "$subscription_id as subscription_id, $is_wanted as is_subscribed, current_timestamp as checked_at",
            {
                "shop_id": shop.shop_id,
                "topic": TOPIC,
                "url": url,
                "subscription_id": subscription_id,
                "is_wanted": is_wanted,
            },
        )
    is_gone = is_wanted and bool(was_subscribed) and last_url not in before.values()
    return _result(url, "subscribed" if is_wanted else "unsubscribed", was_there=not is_gone)


def _callback_url(config: Subscription, shop_id: str, last_url: str | None) -> str:
    """The receiver's address for a shop. Raises SettingError where none is known."""
    stated = (config.callback_url or "").strip().rstrip("/") or settings.webhook_callback_url()
    if stated is None and last_url is not None:
        return last_url
    if stated is None:
        raise settings.SettingError(
            "WEBHOOK_CALLBACK_URL is not set. It takes the address at which Shopify reaches the webhook receiver, such as "
            "https://hooks.example.com/webhooks/shopify; the shop's id is appended."
        )
    end = f"/{quote(shop_id, safe='')}"
    # of a shop with the id `shopify` the receiver's own path ends so
    return stated if stated.endswith(end) and not stated.endswith(RECEIVER) else f"{stated}{end}"


def _subscriptions(client: ShopifyClient) -> dict[str, str]:
    """The app's subscriptions of the topic in the shop, as {id: address}."""
    nodes = client.call(shopify_documents.SUBSCRIPTIONS, {"topics": [TOPIC]})["webhookSubscriptions"]["nodes"]
    return {node["id"]: node["uri"] for node in nodes}


def _bring_about(
    client: ShopifyClient, found: dict[str, str], url: str, last_id: str | None, *, is_wanted: bool
) -> str | None:
    """Make the subscription at `url` be there or not; its id. One of ours at an earlier address goes. Raises ShopifyRefused."""
    errors: list[str] = []
    is_new = is_wanted and url not in found.values()
    if is_new:
        made = client.call(shopify_documents.SUBSCRIBE, {"topic": TOPIC, "subscription": {"uri": url}})
        errors += _errors(made["webhookSubscriptionCreate"])
    # what counts is what is there now: another run may have made or removed it in the meantime
    now = _subscriptions(client) if is_new else found
    unwanted = [one for one, uri in found.items() if (uri == url and not is_wanted) or (one == last_id and uri != url)]
    # where Shopify refuses the new one, that which works stays
    if unwanted and (url in now.values() or not is_wanted):
        for one in unwanted:
            errors += _errors(client.call(shopify_documents.UNSUBSCRIBE, {"id": one})["webhookSubscriptionDelete"])
        now = _subscriptions(client)
    if (url in now.values()) is not is_wanted or any(now.get(one) == found[one] for one in unwanted):
        raise ShopifyRefused(f"Shopify did not change the subscription of {TOPIC} at {url}: {'; '.join(errors)}.")
    return next((one for one, uri in now.items() if uri == url), None)


def _errors(payload: dict[str, list[dict[str, str]]]) -> list[str]:
    return [error["message"] for error in payload["userErrors"]]


def _result(url: str | None, state: str, *, was_there: bool) -> dg.MaterializeResult:
    return dg.MaterializeResult(
        metadata={"dagster/partition_row_count": 1, "subscription": state, "callback_url": url or ""},
        check_results=[
            dg.AssetCheckResult(
                check_name=CHECK.name,
                passed=was_there,
                severity=dg.AssetCheckSeverity.WARN,
                description=None
                if was_there
                else f"Shopify had removed the subscription at {url}; it was made again. See whether the receiver answers there: "
                "Shopify does that after eight failed deliveries in a row. What it sent meanwhile comes with the daily read.",
            )
        ],
    )
