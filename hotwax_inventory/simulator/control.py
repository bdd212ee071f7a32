"""What a person does to the simulator: look at levels, sell, edit, add faults."""

import json
import os
from collections.abc import Callable, Mapping

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from hotwax_inventory.simulator.faults import Fault, Faults
from hotwax_inventory.simulator.shop_store import ShopStore

PID_HEADER = "X-Simulator-Pid"

PAGE = """\
Simulated Shopify shops: {shops}

GET    /simulator/levels?shop=SHOP&sku=SKU             levels, of one SKU or of all (sku left out)
POST   /simulator/sale    shop, sku, location_id, quantity    an order takes units: available falls, committed rises
POST   /simulator/edit    shop, sku, location_id, available   a merchant edits the quantity
POST   /simulator/bucket  shop, maximum, restore_rate         another cost bucket, full
POST   /simulator/reload                               add what is new in the reference files
GET    /simulator/faults                               faults that wait
POST   /simulator/faults  where, kind, at_call, times, value, only   add one (webhooks: duplicate, late, lost)
DELETE /simulator/faults                               forget all

POST bodies are JSON. The Admin API of shop SHOP begins at /SHOP/admin.
"""


class Control:
    """The routes of the simulator itself."""

    def __init__(self, shops: ShopStore, faults: Faults, reload: Callable[[], None]) -> None:
        self._shops = shops
        self._reload = reload
        self._faults = faults
        self.routes = [
            Route("/", self.page, methods=["GET"]),
            Route("/simulator/levels", self.levels, methods=["GET"]),
            Route("/simulator/sale", self._post(self._sale), methods=["POST"]),
            Route("/simulator/edit", self._post(self._edit), methods=["POST"]),
            Route("/simulator/bucket", self._post(self._bucket), methods=["POST"]),
            Route("/simulator/reload", self.reload, methods=["POST"]),
            Route("/simulator/faults", self._post(self._add_fault), methods=["POST"]),
            Route("/simulator/faults", self.waiting_faults, methods=["GET"]),
            Route("/simulator/faults", self.clear_faults, methods=["DELETE"]),
        ]

    async def page(self, request: Request) -> Response:
        """What there is."""
        page = PAGE.format(shops=", ".join(self._shops.shop_ids()) or "none")
        return PlainTextResponse(page, headers={PID_HEADER: str(os.getpid())})

    async def levels(self, request: Request) -> Response:
        """The levels of a shop, of one SKU when it is given."""
        shop_id, sku = request.query_params.get("shop", ""), request.query_params.get("sku")
        found = await run_in_threadpool(
            self._shops.rows,
            "select sku, item_id, location_id, available, committed, level.updated_at from level"
            " join item using (shop_id, item_id) where shop_id = ? and sku = coalesce(?, sku)"
            " order by sku, item_id, location_id",
            [shop_id, sku],
        )
        names = ("sku", "item_id", "location_id", "available", "committed", "updated_at")
        return JSONResponse([dict(zip(names, row, strict=True)) for row in found])

    async def reload(self, request: Request) -> Response:
        """Add the shops, locations and products that the reference files have got since."""
        await run_in_threadpool(self._reload)
        return JSONResponse(self._shops.shop_ids())

    async def waiting_faults(self, request: Request) -> Response:
        """The faults that wait."""
        return JSONResponse(self._faults.waiting())

    async def clear_faults(self, request: Request) -> Response:
        """Forget all faults."""
        self._faults.clear()
        return JSONResponse([])

    def _post(self, act: Callable[[Mapping[str, object]], object]) -> Callable[[Request], object]:
        async def endpoint(request: Request) -> Response:
            try:
                given = json.loads(await request.body())
                return JSONResponse(await run_in_threadpool(act, given))
            except (ValueError, TypeError, KeyError) as problem:
                return JSONResponse({"error": f"{type(problem).__name__}: {problem}"}, 422)

        return endpoint

    def _sale(self, given: Mapping[str, object]) -> object:
        shop_id, item_id, location_id = self._place(given)
        self._shops.sell(shop_id, item_id, location_id, int(str(given["quantity"])))
        return self._shown(shop_id, item_id, location_id)

    def _edit(self, given: Mapping[str, object]) -> object:
        shop_id, item_id, location_id = self._place(given)
        self._shops.set_available(shop_id, item_id, location_id, int(str(given["available"])))
        return self._shown(shop_id, item_id, location_id)

    def _bucket(self, given: Mapping[str, object]) -> object:
        self._shops.set_bucket(str(given["shop"]), float(str(given["maximum"])), float(str(given["restore_rate"])))
        return given

    def _add_fault(self, given: Mapping[str, object]) -> object:
        self._faults.add(Fault(**given))  # type: ignore[arg-type] - Fault checks what it is given
        return self._faults.waiting()

    def _place(self, given: Mapping[str, object]) -> tuple[str, int, int]:
        shop_id, sku, location_id = str(given["shop"]), str(given["sku"]), int(str(given["location_id"]))
        item_ids = self._shops.item_ids(shop_id, sku)
        if not item_ids or self._shops.location(shop_id, location_id) is None:
            raise ValueError(f"Shop {shop_id} has no item with SKU {sku} or no location {location_id}.")
        return shop_id, item_ids[0], location_id

    def _shown(self, shop_id: str, item_id: int, location_id: int) -> object:
        level = self._shops.level(shop_id, item_id, location_id)
        return {"available": level.available, "committed": level.committed, "on_hand": level.on_hand}
