"""Webhook subscriptions of the shops; what is sent to them is in `simulator.deliveries`."""

import json
import re

from hotwax_inventory.simulator.connections import connection
from hotwax_inventory.simulator.documents import Answer, Value
from hotwax_inventory.simulator.gids import gid, number_of
from hotwax_inventory.simulator.graphql_values import Arguments
from hotwax_inventory.simulator.shop_store import ShopStore

NAME = re.compile(r"[A-Za-z0-9_-]{1,50}")
SUBSCRIPTIONS = """
select number, topic, uri, format, name, filter, include_fields, created_at
from webhook_subscription
where shop_id = ?
order by number
"""
SUBSCRIBE = """
insert into webhook_subscription (shop_id, topic, uri, format, name, filter, include_fields, created_at)
values (?, ?, ?, ?, ?, ?, ?, ?)
"""


class WebhookSubscriptions:
    """The subscriptions of all shops."""

    def __init__(self, shops: ShopStore) -> None:
        self._shops = shops

    def create(self, shop_id: str, arguments: Arguments) -> Answer:
        """`webhookSubscriptionCreate`."""
        given = arguments.get("webhookSubscription")
        wanted = given if isinstance(given, dict) else {}
        uri = wanted.get("uri") or wanted.get("callbackUrl")
        topic, name, fields = arguments.get("topic"), wanted.get("name"), wanted.get("includeFields") or []
        problem = None
        if not isinstance(uri, str) or "://" not in uri:
            problem = (["webhookSubscription", "uri"], "Address is invalid")
        elif isinstance(name, str) and not NAME.fullmatch(name):
            problem = (["webhookSubscription", "name"], "Name takes up to 50 letters, digits, - and _")
        elif any((one["topic"], one["uri"]) == (topic, uri) for one in self._all(shop_id)):
            problem = (["webhookSubscription", "uri"], "Address for this topic has already been taken")
        if problem:
            return _payload("WebhookSubscriptionCreatePayload", problem, webhookSubscription=None)
        row = [shop_id, topic, uri, wanted.get("format") or "JSON", name, wanted.get("filter"), json.dumps(fields)]
        with self._shops.transaction() as db:
            db.execute(SUBSCRIBE, [*row, self._shops.timestamp()])
        return _payload("WebhookSubscriptionCreatePayload", None, webhookSubscription=self._all(shop_id)[-1])

    def delete(self, shop_id: str, arguments: Arguments) -> Answer:
        """`webhookSubscriptionDelete`."""
        number = number_of(arguments.get("id"), "WebhookSubscription")
        with self._shops.transaction() as db:
            deleted = db.execute(
                "delete from webhook_subscription where shop_id = ? and number = ?", [shop_id, number]
            ).rowcount
        problem = None if deleted else (["id"], "Webhook subscription does not exist")
        deleted_id = arguments.get("id") if deleted else None
        return _payload("WebhookSubscriptionDeletePayload", problem, deletedWebhookSubscriptionId=str(deleted_id))

    def many(self, shop_id: str, arguments: Arguments) -> Value:
        """`webhookSubscriptions`, of the topics asked for."""
        topics = arguments.get("topics")
        found = [one for one in self._all(shop_id) if not isinstance(topics, list) or one["topic"] in topics]
        uri = arguments.get("uri")
        return connection("WebhookSubscription", [one for one in found if uri in (None, one["uri"])], arguments)

    def _all(self, shop_id: str) -> list[dict[str, Value]]:
        return [
            {
                "__typename": "WebhookSubscription",
                "id": gid("WebhookSubscription", number),
                "topic": topic,
                "uri": uri,
                "callbackUrl": uri,
                "format": form,
                "name": name,
                "filter": wanted,
                "includeFields": json.loads(fields),
                "createdAt": created_at,
                "updatedAt": created_at,
                "apiVersion": {"__typename": "ApiVersion", "handle": "2026-10", "supported": True},
            }
            for number, topic, uri, form, name, wanted, fields, created_at in self._shops.rows(SUBSCRIPTIONS, [shop_id])
        ]


def _payload(type_name: str, problem: tuple[list[str], str] | None, **result: Value) -> Answer:
    errors: list[Value] = []
    if problem:
        field, message = problem
        errors.append({"__typename": "UserError", "field": field, "message": message})
        result = dict.fromkeys(result)
    return {"__typename": type_name, **result, "userErrors": errors}
