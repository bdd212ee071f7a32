"""Webhooks on their way: what a shop tells its subscribers of levels that have changed, as Shopify does it.

A payload is rendered when it is first sent, so that of two quick changes both deliveries may show the second; repetitions carry the
first payload and the same id. Several are sent at once, hence in any order. What is not sent yet survives a killed simulator."""

import base64
import hmac
import json
import threading
import time
import uuid
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

import httpx

from hotwax_inventory.simulator.faults import WEBHOOK_KINDS, Faults
from hotwax_inventory.simulator.gids import gid
from hotwax_inventory.simulator.shop_store import ShopStore
from hotwax_inventory.simulator.stock import Call

TOPIC, TOPIC_HEADER = "INVENTORY_LEVELS_UPDATE", "inventory_levels/update"
# Eight retries in four hours (Shopify reference 8.4), each after twice as long; then the subscription goes.
RETRIES = 8
FIRST_RETRY_SECONDS = 4 * 3600 / (2**RETRIES - 1)
TIMEOUT = httpx.Timeout(5, connect=1)
SENDERS = 4
SHOP_ZONE = timezone(timedelta(hours=-5))

QUEUED = """
insert into webhook_delivery (shop_id, subscription, item_id, location_id, webhook_id, event_id, triggered_at, due_at)
select shop_id, number, ?, ?, ?, ?, ?, ?
from webhook_subscription
where shop_id = ? and topic = ? and number = ?
"""
DUE = """
select d.number, d.shop_id, d.subscription, d.item_id, d.location_id, d.webhook_id, d.event_id, d.triggered_at, d.body, d.attempts,
    s.uri
from webhook_delivery as d
join webhook_subscription as s on s.number = d.subscription
where d.due_at <= ?
order by d.due_at, d.number
limit 100
"""


class WebhookDeliveries:
    """The queue of all shops, worked off by a thread. `time_scale` shortens the waits between retries and those of late ones."""

    def __init__(self, shops: ShopStore, faults: Faults, secret: str) -> None:
        self._shops = shops
        self._faults = faults
        self._secret = secret.encode()
        self._wake = threading.Event()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._work, name="simulator-webhooks", daemon=True)
        self.time_scale = 1.0
        shops.changed = self.changed

    def changed(self, shop_id: str, levels: Iterable[tuple[int, int]]) -> None:
        """Queue an update of each level (item, location) for each subscription; within the transaction that changes them."""
        found = self._shops.rows(
            "select number from webhook_subscription where shop_id = ? and topic = ?", [shop_id, TOPIC]
        )
        triggered_at, event_id = f"{self._shops.now():%Y-%m-%dT%H:%M:%S.%f}000Z", str(uuid.uuid4())
        with self._shops.transaction() as db:
            for (number,) in found:
                for level in levels:
                    row = [*level, str(uuid.uuid4()), event_id, triggered_at, time.time(), shop_id, TOPIC, number]
                    db.execute(QUEUED, row)
        if found:
            self._wake.set()

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; what is queued stays."""
        self._is_stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    def _work(self) -> None:
        with ThreadPoolExecutor(SENDERS) as senders, httpx.Client(timeout=TIMEOUT) as client:
            while not self._is_stopping:
                self._wake.clear()
                due = self._shops.rows(DUE, [time.time()])
                if due:
                    list(senders.map(lambda row: self._send(client, *row), due))
                else:
                    self._wake.wait(self._idle_seconds())

    def _idle_seconds(self) -> float:
        ((next_at,),) = self._shops.rows("select min(due_at) from webhook_delivery")
        return max(0.0, min(1.0, next_at - time.time())) if next_at else 1.0

    def _send(
        self,
        client: httpx.Client,
        number: int,
        shop_id: str,
        subscription: int,
        item_id: int,
        location_id: int,
        webhook_id: str,
        event_id: str,
        triggered_at: str,
        body: str | None,
        attempts: int,
        uri: str,
    ) -> None:
        """Send one delivery, or misbehave with it; then it goes, or is due again."""
        fault = self._faults.take("webhooks", WEBHOOK_KINDS, shop_id) if body is None else None
        text = body or self._body(shop_id, item_id, location_id)
        if fault and fault.kind == "late":
            due_at = time.time() + fault.number(60) * self.time_scale
            self._update("update webhook_delivery set body = ?, due_at = ? where number = ?", text, due_at, number)
            return
        status = 200
        if fault is None or fault.kind != "lost":
            headers = self._headers(shop_id, text, webhook_id, event_id, triggered_at)
            for _ in range(2 if fault and fault.kind == "duplicate" else 1):
                status = _posted(client, uri, text, headers)
                self._shops.log_call(Call(shop_id, "webhooks", text, status, webhook_id))
        if 200 <= status < 300:
            self._update("delete from webhook_delivery where number = ?", number)
        elif attempts == RETRIES:
            self._update("delete from webhook_subscription where number = ?", subscription)
            self._update("delete from webhook_delivery where subscription = ?", subscription)
        else:
            due_at = time.time() + FIRST_RETRY_SECONDS * 2**attempts * self.time_scale
            self._update(
                "update webhook_delivery set body = ?, attempts = attempts + 1, due_at = ? where number = ?",
                text,
                due_at,
                number,
            )

    def _update(self, statement: str, *values: object) -> None:
        with self._shops.transaction() as db:
            db.execute(statement, values)

    def _body(self, shop_id: str, item_id: int, location_id: int) -> str:
        """The level as it is now; `available` is null where Shopify does not count the item."""
        level, item = self._shops.level(shop_id, item_id, location_id), self._shops.item(shop_id, item_id)
        updated_at = datetime.fromisoformat(level.updated_at).astimezone(SHOP_ZONE)
        update = {
            "inventory_item_id": item_id,
            "location_id": location_id,
            "available": level.available if item is None or item.tracked else None,
            "updated_at": updated_at.isoformat(),
            "admin_graphql_api_id": f"{gid('InventoryLevel', level.level_number)}?inventory_item_id={item_id}",
        }
        return json.dumps(update, separators=(",", ":"))

    def _headers(self, shop_id: str, body: str, webhook_id: str, event_id: str, triggered_at: str) -> dict[str, str]:
        _, domain = self._shops.shop(shop_id) or (0, "")
        return {
            "Content-Type": "application/json",
            "X-Shopify-Topic": TOPIC_HEADER,
            "X-Shopify-Hmac-Sha256": base64.b64encode(hmac.digest(self._secret, body.encode(), "sha256")).decode(),
            "X-Shopify-Shop-Domain": domain,
            "X-Shopify-API-Version": "2026-10",
            "X-Shopify-Webhook-Id": webhook_id,
            "X-Shopify-Event-Id": event_id,
            "X-Shopify-Triggered-At": triggered_at,
        }


def _posted(client: httpx.Client, uri: str, body: str, headers: dict[str, str]) -> int:
    """The status of the answer; 0 when there is none in time."""
    try:
        return client.post(uri, content=body.encode(), headers=headers).status_code
    except (httpx.HTTPError, httpx.InvalidURL):
        return 0
