"""The Shopify Admin API over HTTP, for every shop below one address: `/{shop_id}/admin/...`."""

import hmac
import json
import re
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from hotwax_inventory.simulator.documents import Document, read_document
from hotwax_inventory.simulator.execution import Executor, cost
from hotwax_inventory.simulator.faults import HTTP_KINDS, Faults
from hotwax_inventory.simulator.graphql_errors import FieldError, Refused, error
from hotwax_inventory.simulator.graphql_values import Arguments
from hotwax_inventory.simulator.http_faults import UNAUTHORIZED, VERSION_HEADER, misbehave
from hotwax_inventory.simulator.identity import Identity
from hotwax_inventory.simulator.multipart import read_form, save
from hotwax_inventory.simulator.shop_store import ShopStore
from hotwax_inventory.simulator.stock import Call
from hotwax_inventory.simulator.storage import Storage

VERSIONS = ("2026-01", "2026-04", "2026-07", "2026-10")
TOKEN_SECONDS = 86_399
THROTTLED = error("Throttled", "THROTTLED", extensions={"documentation": "https://shopify.dev/api/usage/rate-limits"})
SUMMARY_CHARACTERS = 300


class ShopifyApi:
    """The routes that Shopify itself has."""

    def __init__(
        self,
        *,
        shops: ShopStore,
        executor: Executor,
        storage: Storage,
        faults: Faults,
        identity: Identity,
        schema_file: Path | None,
    ) -> None:
        self._shops = shops
        self._executor = executor
        self._storage = storage
        self._faults = faults
        self._identity = identity
        self._schema_file = schema_file
        self.routes = [
            Route("/{shop_id}/admin/api/{version}/graphql.json", self.graphql, methods=["POST"]),
            Route("/{shop_id}/admin/oauth/access_token", self.access_token, methods=["POST"]),
            Route("/staged/{shop_id}/", self.staged, methods=["POST"]),
            Route("/results/{number:int}/{token}.jsonl", self.result, methods=["GET"]),
        ]

    async def graphql(self, request: Request) -> Response:
        """One GraphQL call."""
        shop_id, version = request.path_params["shop_id"], answering_version(request.path_params["version"])
        body = await request.body()
        if self._shops.shop(shop_id) is None or version is None:
            return JSONResponse({"errors": "Not Found"}, 404)
        headers = {VERSION_HEADER: version}
        if not self._is_token(shop_id, request.headers.get("X-Shopify-Access-Token", "")):
            self._log(shop_id, "", "", 401, version)
            return JSONResponse(UNAUTHORIZED, 401, headers)
        try:
            given = json.loads(body)
            text, variables, name = given["query"], given.get("variables") or {}, given.get("operationName")
        except (ValueError, KeyError, TypeError, AttributeError):
            return JSONResponse({"errors": {"query": "Required parameter missing or invalid"}}, 400, headers)
        try:
            document = await run_in_threadpool(read_document, text, self._schema_file, name)
            fields = [field.name for field in document.root_fields(variables)]
        except Refused as refused:
            self._log(shop_id, "", text, 200, version)
            return JSONResponse({"errors": refused.errors}, headers=headers)
        except FieldError as problem:
            return JSONResponse({"errors": [error(problem.message, problem.code)]}, headers=headers)
        fault = next((found for field in fields if (found := self._faults.take(field, HTTP_KINDS, shop_id))), None)

        async def respond() -> Response:
            throttled = fault is not None and fault.kind == "throttled"
            answer = await run_in_threadpool(self._answer, document, variables, shop_id, version, throttled)
            return JSONResponse(answer, headers=headers)

        response = await misbehave(fault, respond)
        status = 0 if fault and fault.kind.startswith("reset_") else response.status_code
        for field in fields:
            self._log(shop_id, field, json.dumps(variables), status, version)
        return response

    def _answer(
        self, document: Document, variables: Arguments, shop_id: str, version: str, throttled: bool
    ) -> Mapping[str, object]:
        points = cost(document, document.root_fields(variables))
        charge = self._shops.bucket(shop_id).take(points, refuse=throttled)
        if not charge.accepted:
            return {"errors": [THROTTLED], "extensions": charge.extensions()}
        answer = self._executor.execute(document, variables, shop_id, version)
        return {**answer, "extensions": charge.extensions()}

    def _is_token(self, shop_id: str, token: str) -> bool:
        if hmac.compare_digest(token.encode(), self._identity.access_token.encode()):
            return True
        found = self._shops.rows(
            "select expires_at from access_token where token = ? and shop_id = ?", [token, shop_id]
        )
        return bool(found) and datetime.fromisoformat(found[0][0]) > self._shops.now()

    def _log(self, shop_id: str, root_field: str, summary: str, status: int, version: str) -> None:
        self._shops.log_call(Call(shop_id, root_field, summary[:SUMMARY_CHARACTERS], status, version))

    async def access_token(self, request: Request) -> Response:
        """A token by the client-credentials grant."""
        shop_id, body = request.path_params["shop_id"], await request.body()
        if self._shops.shop(shop_id) is None:
            return JSONResponse({"errors": "Not Found"}, 404)
        fault = self._faults.take("oauth", HTTP_KINDS, shop_id)

        async def respond() -> Response:
            return self._issued(shop_id, _form_or_json(body, request.headers.get("content-type", "")))

        response = await misbehave(fault, respond)
        self._log(shop_id, "oauth", "", response.status_code, "")
        return response

    def _issued(self, shop_id: str, given: Mapping[str, object]) -> Response:
        if given.get("grant_type") != "client_credentials":
            return JSONResponse({"error": "unsupported_grant_type"}, 400)
        if (given.get("client_id"), given.get("client_secret")) != (
            self._identity.client_id,
            self._identity.client_secret,
        ):
            return JSONResponse({"error": "invalid_client"}, 400)
        token = f"shpca_{secrets.token_hex(16)}"
        expires_at = self._shops.now() + timedelta(seconds=TOKEN_SECONDS)
        with self._shops.transaction() as db:
            db.execute("insert into access_token values (?, ?, ?)", [token, shop_id, expires_at.isoformat()])
        scope = ",".join(self._shops.scopes_of(shop_id))
        return JSONResponse({"access_token": token, "scope": scope, "expires_in": TOKEN_SECONDS})

    async def staged(self, request: Request) -> Response:
        """A staged upload: a form whose last part is the file."""
        shop_id = request.path_params["shop_id"]
        raw, file = self._storage.incoming(), self._storage.incoming()
        try:
            await save(request.stream(), raw)
            fault = self._faults.take("staged", HTTP_KINDS, shop_id)

            async def respond() -> Response:
                return await run_in_threadpool(self._accepted, raw, file, request.headers.get("content-type", ""))

            response = await misbehave(fault, respond)
        finally:
            raw.unlink(missing_ok=True)
            file.unlink(missing_ok=True)
        self._log(shop_id, "staged", "", response.status_code, "")
        return response

    def _accepted(self, raw: Path, file: Path, content_type: str) -> Response:
        try:
            form = read_form(raw, content_type, file)
        except ValueError as problem:
            return _xml("Error", {"Code": "InvalidArgument", "Message": str(problem)}, 400)
        refused = self._storage.accept(form.fields, form.last_part, file)
        if refused:
            return _xml(
                "Error", {"Code": refused[0], "Message": refused[1]}, 403 if refused[0] == "AccessDenied" else 400
            )
        key = form.fields["key"]
        return _xml(
            "PostResponse", {"Location": f"{self._storage.base_url}/{key}", "Bucket": "staged", "Key": key}, 201
        )

    async def result(self, request: Request) -> Response:
        """The result file of a bulk operation; the address itself is the permission."""
        number, token = request.path_params["number"], request.path_params["token"]
        operation = self._shops.rows(
            "select shop_id from bulk_operation where number = ? and token = ? and status <> 'EXPIRED'", [number, token]
        )
        file = self._storage.result_file(number, token)
        if not operation or not file.exists():
            return PlainTextResponse("No such object.\n", 404)
        ((shop_id,),) = operation
        fault = self._faults.take("results", HTTP_KINDS, shop_id)

        async def respond() -> Response:
            return FileResponse(file, media_type="application/jsonl")

        response = await misbehave(fault, respond)
        self._log(shop_id, "results", "", response.status_code, "")
        return response


def answering_version(asked: str) -> str | None:
    """The version that answers: a retired one falls forward to the oldest; None when there is no such version."""
    if asked in VERSIONS or asked == "unstable":
        return asked
    return VERSIONS[0] if re.fullmatch(r"20[0-9]{2}-(01|04|07|10)", asked) and asked < VERSIONS[0] else None


def _form_or_json(body: bytes, content_type: str) -> Mapping[str, object]:
    if content_type.startswith("application/json"):
        try:
            given = json.loads(body)
        except ValueError:
            return {}
        return given if isinstance(given, dict) else {}
    return {name: values[0] for name, values in parse_qs(body.decode(errors="replace")).items()}


def _xml(root: str, parts: Mapping[str, str], status: int) -> Response:
    inside = "".join(f"<{name}>{_escaped(value)}</{name}>" for name, value in parts.items())
    return Response(f'<?xml version="1.0" encoding="UTF-8"?><{root}>{inside}</{root}>', status, media_type="text/xml")


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
