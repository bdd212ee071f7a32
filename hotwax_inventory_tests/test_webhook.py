"""The receiver, called as uvicorn calls it and as a server of its own: what it takes, what it keeps, and how fast."""

import asyncio
import base64
import hmac
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from starlette.types import Message

from hotwax_inventory import webhook
from hotwax_inventory.files import inbox
from hotwax_inventory_tests.conftest import REFERENCE, Place
from hotwax_inventory_tests.dagster_dev import free_port, until

SECRET = "hush"
BODY = (
    b'{"inventory_item_id":271878346596884015,"location_id":7116,"available":5,"updated_at":"2026-03-05T12:00:00-05:00",'
    b'"admin_graphql_api_id":"gid:\\/\\/shopify\\/InventoryLevel\\/1?inventory_item_id=271878346596884015"}'
)
MIB = 1 << 20


def signature(body: bytes, secret: str = SECRET) -> str:
    return base64.b64encode(hmac.digest(secret.encode(), body, "sha256")).decode()


def headers(body: bytes, webhook_id: str = "id-1", **others: str) -> dict[str, str]:
    """The headers of a delivery as Shopify sends it; `others` replace some (with _ for -), an empty one leaves it out."""
    usual = {
        "X-Shopify-Topic": "inventory_levels/update",
        "X-Shopify-Hmac-Sha256": signature(body),
        "X-Shopify-Webhook-Id": webhook_id,
        "X-Shopify-Triggered-At": "2026-03-05T17:00:00.877041743Z",
    }
    found = usual | {name.replace("_", "-"): value for name, value in others.items()}
    return {name: value for name, value in found.items() if value}


class Caller:
    """A receiver, called as a server calls it: one message for each part of a body."""

    def __init__(self) -> None:
        self.app = webhook.application(webhook.Receiver())

    def post(self, *parts: bytes, path: str = "/webhooks/shopify/SHOP", method: str = "POST", **named: str) -> int:
        """The status of one delivery with the `headers` of its body, of which `named` replaces some."""
        return asyncio.run(self.send(parts, headers(b"".join(parts), **named), path, method))

    async def send(self, parts: tuple[bytes, ...], given: Mapping[str, str], path: str, method: str = "POST") -> int:
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "path": path,
            "query_string": b"",
            "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in given.items()],
        }
        waiting = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
        waiting.append({"type": "http.request", "body": b"", "more_body": False})
        statuses: list[int] = []

        async def receive() -> Message:
            return waiting.pop(0)

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        await self.app(scope, receive, send)
        return statuses[0]


@pytest.fixture
def caller(empty_place: Place, monkeypatch: pytest.MonkeyPatch) -> Caller:
    monkeypatch.setenv("SHOPIFY_SHOP_WEBHOOK_SECRET", SECRET)
    return Caller()


def kept() -> list[tuple[str, str]]:
    """(webhook id, body) of what is in the inbox, in order."""
    lines = [json.loads(line) for path in inbox.waiting() for line in path.read_text().splitlines()]
    return [(line["webhook_id"], line["body"]) for line in lines]


RESERIALISED = json.dumps(json.loads(BODY)).encode()


# (status, body, what differs from a delivery of it by Shopify)
DELIVERIES: list[tuple[int, bytes, dict[str, str]]] = [
    (200, BODY, {}),
    (401, BODY, {"X_Shopify_Hmac_Sha256": ""}),
    (401, BODY, {"X_Shopify_Hmac_Sha256": signature(BODY, "guessed")}),
    (401, BODY, {"X_Shopify_Hmac_Sha256": signature(BODY).lower()}),
    (401, BODY, {"X_Shopify_Hmac_Sha256": signature(BODY)[:-1]}),
    (401, BODY, {"X_Shopify_Hmac_Sha256": f"{signature(BODY)}, {signature(BODY)}"}),
    (401, BODY, {"X_Shopify_Hmac_Sha256": hmac.digest(b"hush", BODY, "sha256").hex()}),
    (401, BODY, {"X_Shopify_Hmac_Sha256": "é"}),
    (401, BODY[:-1], {"X_Shopify_Hmac_Sha256": signature(BODY)}),
    (401, BODY + b"\n", {"X_Shopify_Hmac_Sha256": signature(BODY)}),
    (401, RESERIALISED, {"X_Shopify_Hmac_Sha256": signature(BODY)}),
    (401, BODY.replace(b":5,", b":6,"), {"X_Shopify_Hmac_Sha256": signature(BODY)}),
    (401, b"", {"X_Shopify_Hmac_Sha256": signature(BODY)}),
    (401, b"not JSON", {"X_Shopify_Hmac_Sha256": "nor signed"}),
    (401, BODY, {"X_Shopify_Topic": "orders/create", "X_Shopify_Hmac_Sha256": ""}),
    (404, BODY, {"path": "/webhooks/shopify/NOBODY"}),
    (404, BODY, {"path": "/webhooks/shopify/../SHOP"}),
    (404, BODY, {"path": "/webhooks/shopify/"}),
    (405, BODY, {"method": "GET"}),
    (405, BODY, {"method": "PUT"}),
    (200, b" " * MIB, {}),
    (413, b" " * (MIB + 1), {}),
    (413, b" " * 40 * MIB, {}),
    (413, BODY, {"Content_Length": str(MIB + 1)}),
    (413, BODY, {"Content_Length": "9" * 5000}),
    (413, b" " * (MIB + 1), {"Content_Length": "10"}),
]


def test_only_what_the_shop_has_signed_is_kept(caller: Caller) -> None:
    for nth, (status, body, differs) in enumerate(DELIVERIES):
        parts = [body[start : start + 65_536] for start in range(0, len(body), 65_536)]
        assert caller.post(*parts, webhook_id=str(nth), **differs) == status, f"delivery {nth}: {differs}"
    wanted = [(str(nth), body.decode()) for nth, (status, body, _) in enumerate(DELIVERIES) if status == 200]
    assert kept() == wanted


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_a_shop_is_known_however_its_file_is_written(caller: Caller, place: Place, encoding: str) -> None:
    text = "\n" + REFERENCE["shopify_shop"].replace("shop_id,", " shop_id ,").replace("shop.my", "café.my")
    (place.reference_dir / "shopify_shop.csv").write_bytes(text.encode(encoding))
    place.succeed("load_reference")
    assert [caller.post(BODY), caller.post(BODY, path="/webhooks/shopify/NOBODY")] == [200, 404]


def test_none_of_ten_thousand_generated_bodies_is_taken_for_signed(caller: Caller) -> None:
    draw = random.Random(6)
    for nth in range(10_000):
        body = bytearray(BODY)
        while body == BODY:
            at = draw.randrange(len(body))
            body[at : at + draw.randint(0, 2)] = draw.randbytes(draw.randint(0, 2))
        forged = draw.choice([signature(BODY), signature(bytes(body), "guessed"), signature(BODY)[:20], "x"])
        assert not webhook.is_signed(bytes(body), forged, [SECRET, "hushed"])
        if nth % 20 == 0:
            assert caller.post(bytes(body), X_Shopify_Hmac_Sha256=forged) == 401
    assert kept() == []


def test_a_repeated_delivery_is_acknowledged_and_not_kept_twice_also_by_the_next_receiver(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [caller.post(BODY, webhook_id=webhook_id) for webhook_id in ("a", "b", "a")] == [200] * 3
    assert [webhook_id for webhook_id, _ in kept()] == ["a", "b"]
    (batch,) = inbox.batches()
    inbox.remove(batch)
    assert Caller().post(BODY, webhook_id="a") == 200
    assert kept() == []
    long = "x" * 300
    assert [caller.post(BODY, webhook_id=long + end, X_Shopify_Topic="") for end in ("a", "b", "a")] == [200] * 3
    assert len(kept()) == 2
    inbox.remove(next(inbox.batches()))

    async def at_once() -> list[int]:
        path = "/webhooks/shopify/SHOP"
        return await asyncio.gather(*(caller.send((BODY,), headers(BODY, str(nth % 5)), path) for nth in range(50)))

    looks: list[None] = []
    monkeypatch.setattr(inbox, "recent_ids", lambda found=inbox.recent_ids: looks.append(None) or found())
    caller = Caller()
    assert set(asyncio.run(at_once())) == {200}
    assert len(looks) == 1, "a new receiver reads what was kept once, however many wait for it"
    assert sorted(webhook_id for webhook_id, _ in kept()) == ["0", "1", "2", "3", "4"]
    assert len(inbox.waiting()) < 5, "what comes while one commit is under way is put on disk together"


def test_both_secrets_count_while_one_replaces_the_other(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOPIFY_SHOP_WEBHOOK_SECRET_OLD", "hushed")
    signatures = [signature(BODY, secret) for secret in ("hush", "hushed", "other")]
    statuses = [caller.post(BODY, webhook_id=one[:5], X_Shopify_Hmac_Sha256=one) for one in signatures]
    assert statuses == [200, 200, 401]
    monkeypatch.delenv("SHOPIFY_SHOP_WEBHOOK_SECRET")
    monkeypatch.delenv("SHOPIFY_SHOP_WEBHOOK_SECRET_OLD")
    assert caller.post(BODY, X_Shopify_Hmac_Sha256=signature(BODY, "")) == 401


def test_what_cannot_be_written_is_not_acknowledged(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("No space left on device")))
        assert caller.post(BODY) == 503
        assert list(inbox.inbox().iterdir()) == []
        broken.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(ValueError("a defect")))
        with pytest.raises(ValueError, match="a defect"):
            caller.post(BODY)
    assert caller.post(BODY) == 200
    assert len(kept()) == 1


def test_a_delivery_whose_sender_has_gone_is_taken_when_it_comes_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = inbox.Event("SHOP", "1", None, datetime.now(UTC).isoformat(), BODY.decode())

    async def deliver() -> None:
        stored = webhook.Stored()
        await stored.recall()
        with monkeypatch.context() as broken:
            broken.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("No space left on device")))
            first = asyncio.create_task(stored.store(event))
            await asyncio.sleep(0)
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            while stored._writer is not None:
                await asyncio.sleep(0.001)
        assert await stored.store(event)

    asyncio.run(deliver())
    assert len(kept()) == 1


# --- the receiver as a server of its own


@contextmanager
def serving(port: int | None = None) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A receiver in a process of its own, and its address."""
    port = port or free_port()
    command = [sys.executable, "-m", "uvicorn", "hotwax_inventory.webhook:app", "--port", str(port), "--no-access-log"]
    process = subprocess.Popen(command, cwd=Path(webhook.__file__).parents[1], stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        until(lambda: process.poll() is not None or answers(address), "uvicorn answers or has ended")
        assert process.poll() is None, "uvicorn has ended"
        yield process, address
    finally:
        process.kill()
        process.wait()


def answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/health", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def deliver(client: httpx.Client, address: str, number: int) -> tuple[int, float]:
    """The status (0: no answer) of the nth update, and the seconds that it took."""
    body = BODY.replace(b":5,", f":{number},".encode())
    started = time.perf_counter()
    try:
        answer = client.post(f"{address}/webhooks/shopify/SHOP", content=body, headers=headers(body, str(number)))
    except httpx.TransportError:
        return 0, 0.0
    return answer.status_code, time.perf_counter() - started


def assert_kept_once(acknowledged: set[int]) -> None:
    found = kept()
    assert len(found) == len(set(found))
    assert acknowledged <= {int(webhook_id) for webhook_id, _ in found}


def test_other_topics_are_acknowledged_and_counted(caller: Caller) -> None:
    with serving() as (_, address), httpx.Client() as client:
        url = f"{address}/webhooks/shopify/SHOP"
        for topic in ("orders/create", "orders/create", "inventory_levels/update"):
            assert client.post(url, content=BODY, headers=headers(BODY, X_Shopify_Topic=topic)).status_code == 200
        # who sends too much is answered, too, and whoever sends half of a body is not waited for
        assert client.post(url, content=b" " * 10 * MIB).status_code == 413
        assert client.get(f"{address}/health").json() == {"kept": 1, "other topic": 2, "too long": 1}
    assert len(kept()) == 1


def test_nothing_that_was_acknowledged_is_lost_by_a_kill(caller: Caller) -> None:
    with serving() as (process, address), ThreadPoolExecutor(4) as senders, httpx.Client() as client:
        sent = {number: senders.submit(deliver, client, address, number) for number in range(120)}
        assert sent[40].result()[0] == 200
        process.send_signal(signal.SIGKILL)
        process.wait()
        sent |= {number: senders.submit(deliver, client, address, number) for number in range(120, 124)}
        acknowledged = {number for number, answer in sent.items() if answer.result()[0] == 200}
    assert 40 in acknowledged
    assert max(acknowledged) < 120
    assert_kept_once(acknowledged)
    with serving() as (_, address), httpx.Client() as client:
        assert {deliver(client, address, number)[0] for number in range(120)} == {200}
    assert_kept_once(set(range(120)))


@pytest.mark.long
def test_fifty_updates_a_second_are_acknowledged_in_time(caller: Caller) -> None:
    """For a minute, and a kill at the end of it."""
    with serving() as (process, address), ThreadPoolExecutor(16) as senders, httpx.Client() as client:
        started, sent = time.monotonic(), []
        for number in range(3000):
            time.sleep(max(0.0, started + number / 50 - time.monotonic()))
            sent.append(senders.submit(deliver, client, address, number))
        process.send_signal(signal.SIGKILL)
        answers = [answer.result() for answer in sent]
    acknowledged = {number for number, (status, _) in enumerate(answers) if status == 200}
    assert len(acknowledged) > 2950
    assert_kept_once(acknowledged)
    assert statistics.quantiles([seconds for status, seconds in answers if status == 200], n=100)[98] < 0.5
