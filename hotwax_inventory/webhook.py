"""The webhook receiver: `uvicorn hotwax_inventory.webhook:app`. It answers `POST /webhooks/shopify/{shop_id}`.

200 means that the event is on disk, in `files.inbox`; the warehouse is never touched here, a sensor imports from there. Nothing of
a body is looked at before its signature. `GET /health` counts what came since the start."""

import asyncio
import base64
import csv
import hashlib
import hmac
import io
import logging
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Lifespan

from hotwax_inventory import settings
from hotwax_inventory.files import inbox
from hotwax_inventory.files.inbox import Event

TOPIC = "inventory_levels/update"
MOST_BODY_BYTES = 1 << 20
# Of what is too long so much is read and dropped: who is cut off while still sending does not see the answer.
MOST_DRAINED_BYTES = 16 << 20
# Shopify itself gives up after 5 seconds.
BODY_SECONDS = 10
MOST_ID_CHARACTERS = 200

log = logging.getLogger("uvicorn.error")


class Shops:
    """The shops of shopify_shop.csv, read again when the file has changed; one that cannot be read leaves the last in force."""

    def __init__(self) -> None:
        self._state: tuple[object, ...] = ()
        self._shop_ids: frozenset[str] = frozenset()

    def __contains__(self, shop_id: str) -> bool:
        path = settings.reference_dir() / "shopify_shop.csv"
        try:
            found = path.stat()
            state = (path, found.st_mtime_ns, found.st_size)
            if state != self._state:
                self._shop_ids = frozenset(_shop_ids(path.read_bytes()))
                self._state = state
        except (OSError, ValueError, IndexError, csv.Error) as error:
            log.warning("The shops of %s cannot be read (%s: %s).", path, type(error).__name__, error)
        return shop_id in self._shop_ids


def _shop_ids(content: bytes) -> Iterator[str]:
    """The column shop_id of a CSV in any encoding and layout that load_reference takes."""
    text = ""
    for encoding in ("utf-16",) if content.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else ("utf-8-sig", "cp1252"):
        with suppress(UnicodeDecodeError):
            text = content.decode(encoding)
            break
    rows = [row for row in csv.reader(io.StringIO(text)) if any(field.strip() for field in row)]
    column = [name.strip() for name in rows[0]].index("shop_id")
    for row in rows[1:]:
        yield row[column].strip()


class Stored:
    """Puts events on disk, those that come while one commit is under way by the next one; and knows which ids it has put there."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Event, asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None
        # id -> whether it is on disk, or will be: a repetition waits for the first copy
        self._known: OrderedDict[tuple[str, str], asyncio.Future[None] | None] = OrderedDict()
        self._recalling: asyncio.Task[None] | None = None

    async def recall(self) -> None:
        """Learn the ids of the last days from disk, once for all who ask. Raises OSError; then the next one looks again."""
        if self._recalling is None:
            self._recalling = asyncio.create_task(self._recall())
        try:
            await asyncio.shield(self._recalling)
        except OSError:
            self._recalling = None
            raise

    async def _recall(self) -> None:
        self._known.update(dict.fromkeys(reversed(await asyncio.to_thread(inbox.recent_ids))))

    async def store(self, event: Event) -> bool:
        """Return when the event is on disk; whether it had not been there before. Raises OSError."""
        await self.recall()
        key = _key(event)
        if key in self._known:
            if first := self._known[key]:
                await asyncio.shield(first)
            return False
        future = asyncio.get_running_loop().create_future()
        self._known[key] = future
        self._waiting.append((event, future))
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())
        await asyncio.shield(future)
        return True

    async def _write(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting, []
            try:
                await asyncio.to_thread(inbox.write, [event for event, _ in group])
            except Exception as error:
                # whatever it is, those who wait hear of it, and the next ones are written
                for event, future in group:
                    self._known.pop(_key(event), None)
                    future.set_exception(error)
            else:
                for event, future in group:
                    self._known[_key(event)] = None
                    future.set_result(None)
            while len(self._known) > inbox.MOST_REMEMBERED:
                self._known.popitem(last=False)
        self._writer = None


def _key(event: Event) -> tuple[str, str]:
    return event.shop_id, event.webhook_id


class Receiver:
    """The one route that matters."""

    def __init__(self) -> None:
        self._shops = Shops()
        self.stored = Stored()
        self._counts: Counter[str] = Counter()

    async def health(self, request: Request) -> Response:
        """What came since the start, by what became of it."""
        return JSONResponse(self._counts)

    async def receive(self, request: Request) -> Response:
        """One delivery."""
        status, text, counted = await self._received(request)
        self._counts[counted] += 1
        return PlainTextResponse(f"{text}\n", status)

    async def _received(self, request: Request) -> tuple[int, str, str]:
        """Status, text and what to count the delivery as."""
        shop_id = request.path_params["shop_id"]
        if shop_id not in self._shops:
            return 404, "No such shop.", "unknown shop"
        body = await _body(request)
        if isinstance(body, tuple):
            return body
        secrets = settings.webhook_secrets(shop_id)
        if not secrets:
            log.error("A webhook of shop %s was refused: its SHOPIFY_…_WEBHOOK_SECRET is not set.", shop_id)
        if not is_signed(body, request.headers.get("X-Shopify-Hmac-Sha256", ""), secrets):
            return 401, "The signature is missing or wrong.", "wrong signature"
        topic = request.headers.get("X-Shopify-Topic") or TOPIC
        if topic.casefold() != TOPIC:
            return 200, "Not for us.", "other topic"
        webhook_id = request.headers.get("X-Shopify-Webhook-Id", "")
        if not webhook_id or len(webhook_id) > MOST_ID_CHARACTERS:
            # without an id the same bytes are the same update
            webhook_id = hashlib.sha256(webhook_id.encode() or body).hexdigest()
        event = Event(
            shop_id=shop_id,
            webhook_id=webhook_id,
            triggered_at=request.headers.get("X-Shopify-Triggered-At"),
            received_at=datetime.now(UTC).isoformat(),
            body=body.decode("utf-8", errors="replace"),
        )
        try:
            is_new = await self.stored.store(event)
        except OSError as error:
            log.error("A webhook of shop %s could not be kept: %s. Shopify sends it again.", shop_id, error)
            return 503, "Not kept; send it again.", "not kept"
        return 200, "Kept.", "kept" if is_new else "repeated"


def is_signed(body: bytes, signature: str, secrets: Sequence[str]) -> bool:
    """Whether one of the secrets has signed these bytes; takes as long for a wrong signature as for a right one."""
    given = signature.encode("latin-1", errors="replace")
    # a list, so that the second secret is tried whatever the first one says
    made = [base64.b64encode(hmac.digest(secret.encode(), body, "sha256")) for secret in secrets]
    return any([hmac.compare_digest(given, expected) for expected in made])


async def _body(request: Request) -> bytes | tuple[int, str, str]:
    """The body as it came; or the answer where it is too long or does not come."""
    too_long = (413, f"A body has at most {MOST_BODY_BYTES:,} bytes.", "too long")
    stated = request.headers.get("Content-Length", "")
    size = int(stated[:9]) if stated.isdecimal() else 0
    if size > MOST_DRAINED_BYTES:
        return too_long
    body, arrived = bytearray(), 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                arrived += len(part)
                if arrived > MOST_DRAINED_BYTES:
                    break
                if arrived <= MOST_BODY_BYTES:
                    body += part
    except (TimeoutError, ClientDisconnect):
        return 408, "The body did not come.", "cut off"
    return too_long if max(size, arrived) > MOST_BODY_BYTES else bytes(body)


def application(receiver: Receiver, lifespan: Lifespan[Starlette] | None = None) -> Starlette:
    """The application of a receiver."""
    return Starlette(
        lifespan=lifespan,
        routes=[
            Route("/webhooks/shopify/{shop_id}", receiver.receive, methods=["POST"]),
            Route("/health", receiver.health, methods=["GET"]),
        ],
    )


@asynccontextmanager
async def _begun(app: Starlette) -> AsyncIterator[None]:
    """Nobody is let in before the receiver knows what it has."""
    settings.load_env_file()
    with suppress(OSError):  # which every delivery is told then
        await receiver.stored.recall()
    yield


receiver = Receiver()
app = application(receiver, _begun)
