"""A launch: stock that is received at a moment, and shown by Shopify at once after it (design 8.7).

What takes time is done before, shop by shop: the receipt is made and rolled back, which tells the levels that it will move, and
these are read. Then the receipt, each shop's delta and the note that its lines are on their way are one transaction, which is
opened a little before the moment and committed at it, and the lines leave. A shop that is not ready in time never holds up the
receipt: what it lacks is published as soon as that is there, while the run goes on to later moments."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import dagster as dg
import duckdb
from pydantic import PrivateAttr

from hotwax_inventory.imports.shops import find_publishing_shops
from hotwax_inventory.ledger.receiving import Receipt, Receiver, seconds_until, wait_until
from hotwax_inventory.publish.compare import Live, ToRead, keep_delta, levels_to_read, make_delta, read_live
from hotwax_inventory.publish.delta import runs_too
from hotwax_inventory.publish.guards import require_standing
from hotwax_inventory.publish.manifest import RESTOCK, UPLOADS, Delta, claim, newest_scope
from hotwax_inventory.publish.moved import since_seq
from hotwax_inventory.publish.resume import interrupted, resume, send_begun
from hotwax_inventory.publish.sending import begin
from hotwax_inventory.publish.target import RestockPublication, Scope
from hotwax_inventory.resources import Shopify, Warehouse, transaction
from hotwax_inventory.shopify import ShopifyClient

UPLOAD = UPLOADS[RESTOCK]
# How a shop is published, whatever publishes to it.
INHERITED = {"facility_group_id", "shopify_facility_group_id", "use_valid_atp", "difference_from"}
# How long before the moment levels are read, and the warehouse is taken; a large warehouse takes longer, as its rehearsal shows.
READ_SECONDS, TAKE_SECONDS = 7.0, 3.0
# What is not ready so long before the moment is late.
LATE_SECONDS = 1.0


@dataclass(frozen=True)
class Ready:
    """A shop that only waits for the moment: what it shows now of the levels that will move."""

    scope: Scope
    client: ShopifyClient
    live: Live
    rehearsal_seconds: float


class Launcher(Receiver):
    """Receives at the moment, and publishes what it has received to every shop that carries it."""

    shopify: Shopify

    _threads: ThreadPoolExecutor = PrivateAttr(default_factory=lambda: ThreadPoolExecutor(64))
    _clients: ExitStack = PrivateAttr(default_factory=ExitStack)
    _preparing: dict[str, Future[Ready | None]] = PrivateAttr(default_factory=dict)
    _sending: dict[str, Future[Counter[str]]] = PrivateAttr(default_factory=dict)
    _late: dict[str, Future[None]] = PrivateAttr(default_factory=dict)
    _held: set[str] = PrivateAttr(default_factory=set)

    def receive_at(self, moment: datetime, receipt: Receipt, run: dg.DagsterRun, warehouse: Warehouse) -> int:
        if not runs_too(run, UPLOAD):
            return super().receive_at(moment, receipt, run, warehouse)
        try:
            scopes = restock_scopes(run, warehouse)
        except Exception as error:
            _told_of(error)
            return super().receive_at(moment, receipt, run, warehouse)
        if seconds_until(moment) < LATE_SECONDS:
            return self._receive_late(moment, receipt, scopes, run, warehouse)
        preparing = {
            scope.shop.shop_id: self._threads.submit(
                self._prepare, scope, moment, receipt, run, warehouse, dict(self._late)
            )
            for scope in scopes
        }
        self._preparing |= preparing
        wait(preparing.values(), max(0.0, seconds_until(moment) - LATE_SECONDS))
        ready = [one for shop_id, future in preparing.items() if (one := _outcome(shop_id, future)) is not None]
        wait_until(moment - _seconds(TAKE_SECONDS + 2 * sum(one.rehearsal_seconds for one in ready)))
        try:
            items = self._launch(moment, receipt, ready, run, warehouse)
        except Exception as error:
            _told_of(error)
            return self._receive_late(moment, receipt, scopes, run, warehouse)
        launched = {one.scope.shop.shop_id for one in ready}
        self._publish_late([scope for scope in scopes if scope.shop.shop_id not in launched], run, warehouse)
        return items

    def hold(self, shop_id: str, patience_seconds: float = -1) -> None:
        """Keep other runs from publishing to a shop, until it is given back. Raises ShopBusy."""
        if self.shopify.hold_shop(shop_id, patience_seconds):
            self._held.add(shop_id)

    def give_back(self, shop_id: str) -> None:
        """Let others publish to a shop again, unless this run held it for something else before: a run that kept one shop while it
        waits for another, and one that does so the other way round, would wait for ever."""
        if shop_id in self._held:
            self._held.remove(shop_id)
            self.shopify.release_shop(shop_id)

    def publish(self, scope: Scope, run: dg.DagsterRun, warehouse: Warehouse) -> None:
        """Send to a shop what was received and not sent. Raises ShopifyUnavailable, ShopifyRefused, UnknownGroup."""
        shop = scope.shop
        with warehouse.transaction() as connection:
            if not levels_to_read(scope, RESTOCK, connection).levels:
                return
        self.hold(shop.shop_id)
        with self.shopify.client(shop.shop_id, shop.shop_domain) as client:
            _clear_the_way(shop.shop_id, client, run, warehouse)
            with warehouse.transaction() as connection:
                asked = levels_to_read(scope, RESTOCK, connection)
            if not asked.levels:
                return
            live = read_live(client, asked)
            with warehouse.transaction() as connection:
                delta = plan(scope, live, run, connection)
            send_begun(delta, scope, warehouse, client)

    def ended(self, shop_id: str) -> None:
        """Wait for what was begun for a shop; `publish` takes up what has failed of it."""
        self._wait_for(shop_id, self._preparing, self._sending, self._late)

    def _wait_for(self, shop_id: str, *begun: Mapping[str, Future[Any]]) -> None:
        wait([futures[shop_id] for futures in begun if shop_id in futures])

    def _receive_late(
        self, moment: datetime, receipt: Receipt, scopes: Sequence[Scope], run: dg.DagsterRun, warehouse: Warehouse
    ) -> int:
        """Receive at the moment, or now, and publish then."""
        items = super().receive_at(moment, receipt, run, warehouse)
        self._publish_late(scopes, run, warehouse)
        return items

    def _publish_late(self, scopes: Sequence[Scope], run: dg.DagsterRun, warehouse: Warehouse) -> None:
        """Publish to shops once what was begun for them is done; what fails is left to `restock_upload`, which gives them back."""

        def publish(scope: Scope, *begun: Mapping[str, Future[Any]]) -> None:
            self._wait_for(scope.shop.shop_id, *begun)
            self.publish(scope, run, warehouse)

        # as they are now: this is not to wait for itself, nor for what is prepared next
        begun = (dict(self._preparing), dict(self._sending), dict(self._late))
        for scope in scopes:
            self._late[scope.shop.shop_id] = self._threads.submit(publish, scope, *begun)

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        self._threads.shutdown()
        self._clients.close()

    def _prepare(
        self,
        scope: Scope,
        moment: datetime,
        receipt: Receipt,
        run: dg.DagsterRun,
        warehouse: Warehouse,
        late: Mapping[str, Future[None]],
    ) -> Ready | None:
        """Do all that a shop needs before the moment; None when the receipt moves no level of it."""
        shop = scope.shop
        asked, seconds = _rehearse(receipt, scope, warehouse)
        if not asked.levels:
            return None
        self.hold(shop.shop_id, max(0.0, seconds_until(moment)))
        self._wait_for(shop.shop_id, self._sending, late)
        client = self._clients.enter_context(self.shopify.client(shop.shop_id, shop.shop_domain))
        _clear_the_way(shop.shop_id, client, run, warehouse)
        wait_until(moment - _seconds(READ_SECONDS + 4 * seconds))
        asked, seconds = _rehearse(receipt, scope, warehouse)
        return Ready(scope, client, read_live(client, asked), seconds)

    def _launch(
        self, moment: datetime, receipt: Receipt, ready: Sequence[Ready], run: dg.DagsterRun, warehouse: Warehouse
    ) -> int:
        with warehouse.connect() as connection:
            with transaction(connection):
                items = receipt(connection)
                planned = [(one, plan(one.scope, one.live, run, connection)) for one in ready]
                wait_until(moment)
            # while the file is being closed
            for one, delta in planned:
                self._sending[one.scope.shop.shop_id] = self._threads.submit(
                    send_begun, delta, one.scope, warehouse, one.client
                )
        return items


def _clear_the_way(shop_id: str, client: ShopifyClient, run: dg.DagsterRun, warehouse: Warehouse) -> None:
    """See that the token may publish, and bring a delta of the shop that was interrupted to its end."""
    require_standing(client)
    with warehouse.transaction() as connection:
        unfinished = interrupted(shop_id, connection)
    if unfinished is not None:
        resume(unfinished, run.run_id, warehouse, client)


def _told_of(error: Exception) -> None:
    """The stock comes at its moment, whatever keeps a delta from being made; `restock_upload` meets that again, and ends red."""
    dg.get_dagster_logger().warning(f"The restock is received first and published then: {error}")


def _outcome(shop_id: str, preparing: Future[Ready | None]) -> Ready | None:
    """What has come of preparing a shop; one that is not ready is late."""
    error = preparing.exception() if preparing.done() else "it was not ready in time"
    if error is not None:
        dg.get_dagster_logger().warning(f"Shop {shop_id} shows the restock late: {error}")
        return None
    return preparing.result()


def restock_scopes(run: dg.DagsterRun, warehouse: Warehouse) -> list[Scope]:
    """Every shop that we publish to, with the parameters of its newest sync, but for those that the run tells `restock_upload`."""
    config: Any = run.run_config
    told = config.get("ops", {}).get(UPLOAD, {}).get("config", {})
    shops = find_publishing_shops(warehouse)
    with warehouse.transaction() as connection:
        published = [
            newest_scope(shop, connection).publication.model_dump(mode="json", include=INHERITED) for shop in shops
        ]
    return [
        Scope(shop, RestockPublication.model_validate(parameters | told))
        for shop, parameters in zip(shops, published, strict=True)
    ]


def plan(scope: Scope, live: Live, run: dg.DagsterRun, connection: duckdb.DuckDBPyConnection) -> Delta:
    """Make the delta of a shop's received products, and note that it is being sent. Raises UnknownGroup."""
    since = since_seq(scope, RESTOCK, connection)
    asked = levels_to_read(scope, RESTOCK, connection)
    # what has come since the levels were read is left to the next delta
    is_whole = {(item, location) for _, item, location in asked.levels} <= set(live.asked)
    live = replace(live, upto_seq=asked.upto_seq if is_whole else since)
    delta = make_delta(scope, RESTOCK, run.run_id, connection, live)
    keep_delta(delta, scope, run.run_id, connection)
    claim(delta.sync_run_id, run, False, connection)
    begin(delta.sync_run_id, [file.name for file in delta.files], connection)
    return delta


def _rehearse(receipt: Receipt, scope: Scope, warehouse: Warehouse) -> tuple[ToRead, float]:
    """The levels that a receipt will move in a shop, and the seconds that it takes. Nothing is changed."""
    with warehouse.connect() as connection:
        started = time.monotonic()
        connection.begin()
        try:
            receipt(connection)
            asked = levels_to_read(scope, RESTOCK, connection)
        finally:
            connection.rollback()
        return asked, time.monotonic() - started


def _seconds(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)
