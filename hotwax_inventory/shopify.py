"""The Admin GraphQL client of one shop: log-in, throttling, retries until a deadline, bulk operations, staged uploads.

* ShopifyError
  - ShopifyUnavailable   network, 5xx, throttling until the deadline: another run may work. After a mutation the outcome is unknown
  - ShopifyRefused       a person must act: log-in, scopes, version, a document that Shopify does not take
    - WrongVersion       another API version answered than was asked for
    - UnknownOperation   a bulk operation that Shopify does not know
"""

import json
import logging
import random
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import dagster as dg
import httpx

from hotwax_inventory import shopify_documents as documents
from hotwax_inventory.progress import Progress
from hotwax_inventory.settings import ShopSettings

# Shopify's staged upload takes 104,857,600 bytes; a file of ours stays well below.
MAX_UPLOAD_BYTES = 95_000_000
MAX_IDS = 250
# changes that one mutation takes
MAX_CHANGES = 250
READS_AT_ONCE = 4
# A file that takes longer than the deadline is not given up for one cut.
TRANSFER_TRIES = 3
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 10.0
FIRST_POLL_SECONDS, LONGEST_POLL_SECONDS = 0.25, 30.0
# One that has just been started may not be known everywhere yet.
MOST_UNKNOWN_LOOKS = 4
# Other apps of the shop take slots, too, and Shopify does not say when one comes free.
SLOT_PAUSE_SECONDS, SLOT_PATIENCE_SECONDS = 5.0, 3600.0
RETRIED_STATUS = frozenset({408, 425, 429, 430, 500, 502, 503, 504})
RUNNING_STATUS = frozenset({"CREATED", "RUNNING", "CANCELING"})
# A token is renewed this long before it expires, one that is short-lived after half of its time.
EARLY_SECONDS = 300

PASSING_CODES = frozenset({"INTERNAL_SERVER_ERROR", "TIMEOUT", "SERVICE_UNAVAILABLE"})
REFUSALS = {
    401: "the access token is not valid; see the shop's SHOPIFY_…_ACCESS_TOKEN, or whether the app is installed",
    402: "the shop is frozen for want of payment",
    403: "the app may not do this; see its access scopes",
    404: "no such shop or API version; see the shop's SHOPIFY_…_URL and SHOPIFY_API_VERSION",
    423: "the shop is locked",
}

Json = dict[str, Any]
T = TypeVar("T")


class ShopifyError(Exception):
    """Something on the way to or from Shopify."""


class ShopifyUnavailable(ShopifyError):
    """No usable answer until the deadline."""


class ShopifyRefused(ShopifyError):
    """Shopify will not do it, now or later, unless somebody changes something."""


class WrongVersion(ShopifyRefused):
    """Shopify answers by another API version than the one asked for."""


class UnknownOperation(ShopifyRefused):
    """Shopify does not know a bulk operation, or not yet."""


@dataclass(frozen=True)
class BulkOperation:
    """A bulk operation as Shopify describes it; sizes in lines and, where it says so, bytes, times in ISO 8601."""

    id: str
    status: str
    error_code: str | None
    created_at: str
    completed_at: str | None
    object_count: int
    file_size: int | None
    url: str | None
    partial_url: str | None = None

    @property
    def is_running(self) -> bool:
        return self.status in RUNNING_STATUS


class ShopifyClient:
    """Calls the Admin API of one shop. Every call is retried with the same bytes until `deadline_seconds` have passed."""

    def __init__(
        self,
        shop: ShopSettings,
        version: str,
        deadline_seconds: int,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._shop = shop
        self._version = version
        self._deadline_seconds = deadline_seconds
        # it would write every address to the log, and those of results are signed: who has one may read it
        logging.getLogger("httpx").setLevel(logging.WARNING)
        timeout = httpx.Timeout(60, connect=15)
        self._http = httpx.Client(verify=_trusted(), transport=transport, timeout=timeout, follow_redirects=False)
        self._token = shop.access_token or ""
        self._renewed_at = float("inf") if self._token else 0.0
        self._renewing = threading.Lock()

    def close(self) -> None:
        self._http.close()

    def call(self, document: str, variables: Json) -> Json:
        """The `data` of a GraphQL answer. Raises ShopifyUnavailable, ShopifyRefused."""
        return self._data(self.answer(document, variables))

    def _data(self, answer: Json) -> Json:
        errors = errors_of(answer)
        if errors or not isinstance(answer.get("data"), dict):
            raise ShopifyRefused(f"{self._shop}: Shopify refuses the request: {_messages(errors) or 'no data'}.")
        return answer["data"]

    def answer(self, document: str, variables: Json) -> Json:
        """A whole GraphQL answer, `data` and `errors` as they come. Raises ShopifyUnavailable, ShopifyRefused."""
        body = json.dumps({"query": document, "variables": variables}, separators=(",", ":")).encode()

        def attempt() -> Json:
            response = self._post(body)
            _raise_for_status(response)
            if response.status_code != 200:
                raise ShopifyRefused(
                    f"{self._shop}: {REFUSALS.get(response.status_code, 'refused')} (HTTP {response.status_code})."
                )
            content = _object(response)
            errors = errors_of(content)
            if any(error_code(error) == "THROTTLED" for error in errors):
                raise _Again("throttled", _throttled_seconds(content))
            if any(error_code(error) in PASSING_CODES for error in errors):
                raise _Again(_messages(errors))
            return content

        return self._until_deadline(attempt)

    def scopes(self) -> frozenset[str]:
        """The access scopes of the token. Raises ShopifyUnavailable, ShopifyRefused, WrongVersion."""
        installation = self.call(documents.SCOPES, {})["currentAppInstallation"]
        if not installation:
            raise ShopifyRefused(f"{self._shop}: the app of the access token is not installed in the shop.")
        return frozenset(scope["handle"] for scope in installation["accessScopes"])

    def bulk_mutations(self, since: datetime) -> list[tuple[str, str]]:
        """(operation id, mutation text) of the newest bulk mutations of the shop that were started at `since` or later."""
        moment = since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        wanted = {"query": f"operation_type:mutation created_at:>={moment}"}
        nodes = self.call(documents.BULK_MUTATIONS, wanted)["bulkOperations"]["nodes"]
        # a search term that Shopify does not know finds everything, so the time is looked at here too
        return [(node["id"], node["query"] or "") for node in nodes if node["createdAt"] >= moment]

    def run_query(self, query: str) -> str:
        """Start a bulk query, once a slot is free; its operation id. Raises ShopifyUnavailable, ShopifyRefused."""
        return self._started(documents.RUN_QUERY, {"query": query})

    def run_mutation(self, mutation: str, staged_path: str) -> str:
        """Start a bulk mutation over a staged file, once a slot is free; its operation id.

        Raises ShopifyUnavailable, ShopifyRefused."""
        return self._started(documents.RUN_MUTATION, {"mutation": mutation, "path": staged_path})

    def operation(self, operation_id: str) -> BulkOperation:
        """The state of a bulk operation. Raises UnknownOperation."""
        found = self.call(documents.OPERATION, {"id": operation_id})["bulkOperation"]
        if not found:
            raise UnknownOperation(f"{self._shop}: Shopify does not know the bulk operation {operation_id}.")
        return BulkOperation(
            id=found["id"],
            status=found["status"],
            error_code=found["errorCode"],
            created_at=found["createdAt"],
            completed_at=found["completedAt"],
            object_count=int(found["objectCount"] or 0),
            file_size=int(found["fileSize"]) if found["fileSize"] else None,
            url=found["url"],
            partial_url=found["partialDataUrl"],
        )

    def wait(self, operation_id: str, report: Callable[[BulkOperation], None] = lambda _: None) -> BulkOperation:
        """Poll an operation until it has ended; `report` hears of each look. Raises UnknownOperation when some in a row do."""
        pause, unknown = FIRST_POLL_SECONDS, 0
        while True:
            try:
                operation = self.operation(operation_id)
            except UnknownOperation:
                unknown += 1
                if unknown == MOST_UNKNOWN_LOOKS:
                    raise
            else:
                unknown = 0
                report(operation)
                if not operation.is_running:
                    return operation
            time.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311
            pause = min(pause * 1.6, LONGEST_POLL_SECONDS)

    def stage(self, path: Path) -> str:
        """Upload a file of bulk mutation variables; the path that `run_mutation` takes."""
        request = {
            "resource": "BULK_MUTATION_VARIABLES",
            "filename": path.name,
            "mimeType": "text/jsonl",
            "httpMethod": "POST",
            "fileSize": str(path.stat().st_size),
        }
        staged = self.call(documents.STAGE, {"input": [request]})["stagedUploadsCreate"]
        if staged["userErrors"] or not staged["stagedTargets"]:
            raise ShopifyRefused(f"{self._shop}: no staged upload: {_messages(staged['userErrors'])}.")
        target = staged["stagedTargets"][0]
        # Parameters first, in their order, and the file last: that is how the storage service takes it.
        fields = {parameter["name"]: parameter["value"] for parameter in target["parameters"]}

        def upload() -> None:
            with path.open("rb") as file:
                files = {"file": (path.name, file, "text/jsonl")}
                response = self._http.post(target["url"], data=fields, files=files, timeout=300)
            _raise_for_status(response)
            if response.status_code not in (200, 201, 204):
                raise ShopifyRefused(
                    f"{self._shop}: the upload of {path.name} was refused (HTTP {response.status_code})."
                )

        self._until_deadline(upload, TRANSFER_TRIES)
        return fields["key"]

    def download(self, url: str, path: Path, size_bytes: int | None = None) -> int:
        """Stream a result, of a size that may be known, to a file; its size in bytes. The address is signed, so no token goes
        with it."""

        def fetch() -> int:
            size, progress = 0, Progress(f"Shopify's result {path.name}", size_bytes, "bytes")
            with self._http.stream("GET", url, timeout=300) as response, path.open("wb") as file:
                _raise_for_status(response)
                if response.status_code != 200:
                    raise ShopifyRefused(f"{self._shop}: the result cannot be fetched (HTTP {response.status_code}).")
                for block in response.iter_bytes(1 << 20):
                    size += len(block)
                    progress.reached(size)
                    file.write(block)
            return size

        return self._until_deadline(fetch, TRANSFER_TRIES)

    def levels(self, levels: Sequence[tuple[int, int]]) -> dict[tuple[int, int], int]:
        """What levels, given as (level, item), show now, as {(item, location): available}.

        Those that Shopify does not know, or does not count any more, are left out."""
        gids = [f"gid://shopify/InventoryLevel/{level}?inventory_item_id={item}" for level, item in levels]
        pages = [gids[start : start + MAX_IDS] for start in range(0, len(gids), MAX_IDS)]
        found: dict[tuple[int, int], int] = {}
        progress = Progress("Levels read", len(gids), "levels")
        with ThreadPoolExecutor(READS_AT_ONCE) as pool:
            for n, nodes in enumerate(pool.map(self._nodes, pages), 1):
                progress.reached(min(n * MAX_IDS, len(gids)))
                for node in filter(None, nodes):
                    available = next((q["quantity"] for q in node["quantities"] if q["name"] == "available"), None)
                    if available is not None and _is_counted(node):
                        found[number(node["item"]["id"]), number(node["location"]["id"])] = available
        return found

    def _nodes(self, gids: list[str]) -> list[Json | None]:
        """The nodes of ids, in parts where one request for all costs more than Shopify lets any cost."""
        answer = self.answer(documents.READ_LEVELS, {"ids": gids})
        if len(gids) > 1 and any(error_code(error) == "MAX_COST_EXCEEDED" for error in errors_of(answer)):
            half = len(gids) // 2
            return self._nodes(gids[:half]) + self._nodes(gids[half:])
        nodes = self._data(answer)["nodes"]
        if len(nodes) != len(gids):
            raise ShopifyUnavailable(f"{self._shop}: asked for {len(gids)} levels, Shopify answers {len(nodes)}.")
        return nodes

    def _started(self, document: str, variables: Json) -> str:
        deadline = time.monotonic() + SLOT_PATIENCE_SECONDS
        while True:
            (started,) = self.call(document, variables).values()
            errors = started["userErrors"]
            if not any(error["code"] in ("OPERATION_IN_PROGRESS", "LIMIT_REACHED") for error in errors):
                break
            if time.monotonic() > deadline:
                raise ShopifyUnavailable(
                    f"{self._shop}: no bulk operation could be started within {SLOT_PATIENCE_SECONDS / 60:.0f} minutes, since "
                    f"others are running ({_messages(errors)}). See which apps of the shop run them, and run this again."
                )
            dg.get_dagster_logger().info(f"{self._shop}: waiting for a free bulk operation ({_messages(errors)}).")
            time.sleep(SLOT_PAUSE_SECONDS)
        if errors or not started["bulkOperation"]:
            raise ShopifyRefused(f"{self._shop}: the bulk operation was not started: {_messages(errors)}.")
        return started["bulkOperation"]["id"]

    def _post(self, body: bytes) -> httpx.Response:
        url = f"{self._shop.url}/admin/api/{self._version}/graphql.json"
        token = self._valid_token()
        response = self._http.post(url, content=body, headers=_headers(token))
        if response.status_code == 401 and self._shop.client_id:
            response = self._http.post(url, content=body, headers=_headers(self._valid_token(refused=token)))
        answered_by = response.headers.get("X-Shopify-API-Version")
        if response.status_code == 200 and answered_by not in (None, self._version):
            raise WrongVersion(
                f"{self._shop}: asked for API version {self._version}, answered by {answered_by}. Shopify has retired the "
                "version; set SHOPIFY_API_VERSION to one that it has and this project knows."
            )
        return response

    def _valid_token(self, refused: str | None = None) -> str:
        """The access token, renewed when it is about to expire, or is the one that Shopify has `refused`."""
        with self._renewing:
            if self._token != refused and time.time() < self._renewed_at:
                return self._token
            grant = {
                "grant_type": "client_credentials",
                "client_id": self._shop.client_id or "",
                "client_secret": self._shop.client_secret or "",
            }
            response = self._http.post(f"{self._shop.url}/admin/oauth/access_token", data=grant)
            _raise_for_status(response)
            granted = _object(response) if response.status_code == 200 else {}
            if not granted.get("access_token"):
                raise ShopifyRefused(
                    f"{self._shop}: Shopify grants no token (HTTP {response.status_code}). See the shop's SHOPIFY_…_CLIENT_ID and "
                    "SHOPIFY_…_CLIENT_SECRET, and whether the app is installed."
                )
            self._token = granted["access_token"]
            seconds = float(granted.get("expires_in") or 86_400)
            self._renewed_at = time.time() + seconds - min(EARLY_SECONDS, seconds / 2)
            return self._token

    def _until_deadline(self, attempt: Callable[[], T], least_tries: int = 1) -> T:
        """Try until it works or the deadline has passed; only what is worth another try is tried again, and what a cut has ended
        `least_tries` times in any case."""
        deadline = time.monotonic() + self._deadline_seconds
        pause, tries = FIRST_PAUSE_SECONDS, 0
        while True:
            tries += 1
            try:
                return attempt()
            except _Again as again:
                reason, wait, is_cut = str(again), again.seconds, False
            except httpx.RequestError as error:
                reason, wait, is_cut = f"{type(error).__name__} {error}".strip(), 0.0, True
            wait = max(wait, pause * random.uniform(0.5, 1.0))  # noqa: S311
            if time.monotonic() + wait > deadline and not (is_cut and tries < least_tries):
                raise ShopifyUnavailable(
                    f"{self._shop}: no usable answer within {self._deadline_seconds} seconds (last: {reason}). "
                    "SHOPIFY_DEADLINE_SECONDS says how long a request is tried."
                )
            time.sleep(wait)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)


def _headers(token: str) -> dict[str, str]:
    return {"X-Shopify-Access-Token": token, "Content-Type": "application/json"}


@cache
def _trusted() -> ssl.SSLContext:
    """The certificates that are trusted; to read them takes longer than most requests."""
    return httpx.create_ssl_context()


class _Again(Exception):
    """An answer that is worth another try, after at least so many seconds."""

    def __init__(self, reason: str, seconds: float = 0.0) -> None:
        super().__init__(reason)
        self.seconds = seconds


def _is_counted(level: Json) -> bool:
    """Whether nothing says that a level of an answer is out of use, its item not tracked, or its location closed."""
    return False not in (level.get("isActive"), level["item"].get("tracked"), level["location"].get("isActive"))


def number(gid: str) -> int:
    """The number at the end of a gid such as gid://shopify/InventoryItem/111."""
    return int(gid.rsplit("/", 1)[1].split("?", 1)[0])


def _raise_for_status(response: httpx.Response) -> None:
    """Raises _Again for a passing refusal. Other answers but 200 are the caller's to explain."""
    if response.status_code in RETRIED_STATUS:
        after = response.headers.get("Retry-After", "")
        raise _Again(f"HTTP {response.status_code}", float(after) if after.replace(".", "", 1).isdigit() else 0.0)


def _object(response: httpx.Response) -> Json:
    """The JSON object of an answer; anything else, such as an error page or a cut text, is worth another try."""
    try:
        content = response.json()
    except ValueError:
        raise _Again(
            f"HTTP {response.status_code} with {response.headers.get('Content-Type', 'no type')}, not JSON"
        ) from None
    if not isinstance(content, dict):
        raise _Again("JSON, but no object")
    return content


def errors_of(answer: Json, name: str = "errors") -> list[Json]:
    """The errors of an answer, whatever their shape: one that is no object is its own message."""
    found = answer.get(name) or []
    return [
        error if isinstance(error, dict) else {"message": str(error)}
        for error in (found if isinstance(found, list) else [found])
    ]


def error_code(error: Json) -> str | None:
    """The code of an error, where it has one."""
    extensions = error.get("extensions")
    return (extensions.get("code") if isinstance(extensions, dict) else None) or error.get("code")


def _messages(errors: list[Json]) -> str:
    return "; ".join(f"{error_code(error) or ''} {error.get('message', '')}".strip() for error in errors)[:500]


def _throttled_seconds(content: Json) -> float:
    """How long the cost bucket takes to fill up to what the request needs."""
    cost = (content.get("extensions") or {}).get("cost") or {}
    status = cost.get("throttleStatus") or {}
    rate = float(status.get("restoreRate") or 50)
    missing = float(cost.get("requestedQueryCost") or rate) - float(status.get("currentlyAvailable") or 0)
    return max(0.1, missing / rate)
