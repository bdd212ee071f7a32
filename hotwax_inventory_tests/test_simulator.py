"""The simulator, asked the way its users ask it: paramiko for SFTP, httpx for the Admin API."""

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import paramiko
import pytest

from hotwax_inventory.simulator import Addresses, Simulator, ensure_running, running
from hotwax_inventory.simulator.faults import Fault
from hotwax_inventory_tests.conftest import SCHEMA_FILE
from hotwax_inventory_tests.dagster_dev import until

SCHEMA = SCHEMA_FILE if SCHEMA_FILE.exists() else None
ITEM, OTHER_ITEM = 44_000_010_000_001, 44_000_010_000_002
STORE, WEB = 655441491, 655441492

ADJUST = """
mutation InventoryAdjust($input: InventoryAdjustQuantitiesInput!, $idempotencyKey: String!) {
  inventoryAdjustQuantities(input: $input) @idempotent(key: $idempotencyKey) {
    inventoryAdjustmentGroup { id reason changes { name delta quantityAfterChange item { id } location { id } } }
    userErrors { code field message }
  }
}
"""
ADJUST_WITHOUT_KEY = """
mutation($input: InventoryAdjustQuantitiesInput!) {
  inventoryAdjustQuantities(input: $input) { userErrors { code field message } }
}
"""
SET = """
mutation InventorySet($input: InventorySetQuantitiesInput!, $idempotencyKey: String!) {
  inventorySetQuantities(input: $input) @idempotent(key: $idempotencyKey) {
    inventoryAdjustmentGroup { changes { name delta } }
    userErrors { code field message }
  }
}
"""
ALL_LEVELS = """
{ inventoryItems { edges { node { id sku tracked updatedAt inventoryLevels { edges { node {
  id updatedAt isActive item { id } location { id } quantities(names: ["available", "on_hand"]) { name quantity }
} } } } } } }
"""
RUN_QUERY = """
mutation($query: String!) {
  bulkOperationRunQuery(query: $query, groupObjects: false) {
    bulkOperation { id status type } userErrors { code field message }
  }
}
"""
RUN_MUTATION = """
mutation($mutation: String!, $path: String!) {
  bulkOperationRunMutation(mutation: $mutation, stagedUploadPath: $path) {
    bulkOperation { id status type } userErrors { code field message }
  }
}
"""
POLL = """
query($id: ID!) {
  bulkOperation(id: $id) {
    id status type errorCode createdAt completedAt objectCount rootObjectCount fileSize url partialDataUrl
  }
}
"""
STAGE = """
mutation($input: [StagedUploadInput!]!) {
  stagedUploadsCreate(input: $input) {
    stagedTargets { url resourceUrl parameters { name value } } userErrors { field message }
  }
}
"""


def item_gid(item_id: int) -> str:
    return f"gid://shopify/InventoryItem/{item_id}"


def location_gid(location_id: int) -> str:
    return f"gid://shopify/Location/{location_id}"


def change(delta: int, expected: int | None, item_id: int = ITEM, location_id: int = STORE) -> dict[str, object]:
    return {
        "inventoryItemId": item_gid(item_id),
        "locationId": location_gid(location_id),
        "delta": delta,
        "changeFromQuantity": expected,
    }


def adjustment(key: str, *changes: dict[str, object]) -> dict[str, object]:
    return {
        "idempotencyKey": key,
        "input": {"reason": "correction", "name": "available", "changes": list(changes)},
    }


class Shop:
    """A client as thin as can be."""

    def __init__(self, addresses: Addresses, shop_id: str = "SM") -> None:
        self.client = httpx.Client(
            base_url=f"{addresses.shopify_url}/{shop_id}/admin",
            headers={"X-Shopify-Access-Token": addresses.access_token},
        )

    def post(
        self, document: str, variables: dict[str, object] | None = None, version: str = "2026-10"
    ) -> httpx.Response:
        content = {"query": document, "variables": variables or {}}
        return self.client.post(f"/api/{version}/graphql.json", json=content)

    def data(self, document: str, /, **variables: object) -> dict:
        answer = self.post(document, variables).json()
        assert "errors" not in answer, answer
        return answer["data"]

    def adjust(self, key: str, *changes: dict[str, object]) -> dict:
        return self.data(ADJUST, **adjustment(key, *changes))["inventoryAdjustQuantities"]

    def finished(self, operation_id: str, seconds: float = 60) -> dict:
        deadline = time.monotonic() + seconds
        while True:
            operation = self.data(POLL, id=operation_id)["bulkOperation"]
            if operation["status"] not in ("CREATED", "RUNNING", "CANCELING"):
                return operation
            assert time.monotonic() < deadline, operation
            time.sleep(0.02)

    def upload(self, lines: list[str]) -> str:
        wanted = {"resource": "BULK_MUTATION_VARIABLES", "filename": "delta.jsonl", "mimeType": "text/jsonl"}
        created = self.data(STAGE, input=[{**wanted, "httpMethod": "POST"}])["stagedUploadsCreate"]
        (target,) = created["stagedTargets"]
        fields = {one["name"]: one["value"] for one in target["parameters"]}
        content = "".join(f"{line}\n" for line in lines).encode()
        posted = httpx.post(target["url"], data=fields, files={"file": ("delta.jsonl", content, "text/jsonl")})
        assert posted.status_code == 201, posted.text
        assert f"<Key>{fields['key']}</Key>" in posted.text
        return fields["key"]

    def run_mutation(self, path: str) -> dict:
        return self.data(RUN_MUTATION, mutation=ADJUST, path=path)["bulkOperationRunMutation"]

    def run_query(self, query: str = ALL_LEVELS) -> dict:
        return self.data(RUN_QUERY, query=query)["bulkOperationRunQuery"]


@pytest.fixture
def reference_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "reference"
    folder.mkdir()
    (folder / "shopify_shop.csv").write_text(
        "shop_id,shop_domain,product_store_id,inventory_master,shopify_facility_group_mode\n"
        "SM,sm.myshopify.com,STORE,hotwax,\neu-2,eu.myshopify.com,STORE,hotwax,\n"
    )
    (folder / "shopify_shop_location.csv").write_text(
        f"shop_id,facility_id,shopify_location_id\nSM,BROADWAY,{STORE}\nSM,_NA_,{WEB}\neu-2,PARIS,77\n"
    )
    (folder / "product.csv").write_text(
        "product_id,internal_name,product_type_id,netsuite_product_id,upca,tags\n"
        + "".join(f"P{n},SKU-{n},FINISHED_GOOD,{n},,\n" for n in range(1, 41))
    )
    return folder


@pytest.fixture
def simulator(tmp_path: Path, reference_dir: Path) -> Iterator[Simulator]:
    with Simulator(tmp_path / "simulator", reference_dir, schema_file=SCHEMA) as running_simulator:
        running_simulator.shops.set_level("SM", ITEM, STORE, 10)
        running_simulator.shops.set_level("SM", OTHER_ITEM, STORE, 5)
        yield running_simulator


@pytest.fixture
def shop(simulator: Simulator) -> Shop:
    return Shop(simulator.addresses)


def connected(addresses: Addresses, **login: object) -> paramiko.SSHClient:
    client = paramiko.SSHClient()
    client.load_host_keys(addresses.sftp_known_hosts_file)
    client.set_missing_host_key_policy(paramiko.RejectPolicy())
    login = login or {"password": addresses.sftp_password}
    client.connect(
        addresses.sftp_host,
        addresses.sftp_port,
        addresses.sftp_username,
        look_for_keys=False,
        allow_agent=False,
        **login,  # type: ignore[arg-type]
    )
    return client


def test_sftp_serves_files_to_a_client_that_checks_the_host_key(simulator: Simulator) -> None:
    content = os.urandom(700_000)
    with connected(simulator.addresses) as ssh, ssh.open_sftp() as sftp:
        sftp.mkdir("/netsuite")
        with sftp.open("/netsuite/reset.csv", "wb") as file:
            file.write(content)
        sftp.mkdir("/netsuite/archive")
        sftp.rename("/netsuite/reset.csv", "/netsuite/archive/reset.csv")
        sftp.posix_rename("/netsuite/archive/reset.csv", "/netsuite/archive/again.csv")
        assert [entry.filename for entry in sftp.listdir_iter("/netsuite/archive")] == ["again.csv"]
        assert sftp.stat("/netsuite/archive/again.csv").st_size == len(content)
        with sftp.open("/netsuite/archive/again.csv", "rb") as file:
            file.prefetch(len(content))
            assert file.read() == content
        with pytest.raises(FileNotFoundError):
            sftp.stat("/../../../etc/passwd")
    assert (Path(simulator.addresses.sftp_directory) / "netsuite/archive/again.csv").read_bytes() == content


def test_sftp_refuses_a_wrong_password_and_takes_a_listed_key(simulator: Simulator, tmp_path: Path) -> None:
    with pytest.raises(paramiko.AuthenticationException):
        connected(simulator.addresses, password="wrong")
    key = paramiko.ECDSAKey.generate()
    listed = tmp_path / "simulator" / "authorized_keys"
    listed.write_text(f"{key.get_name()} {key.get_base64()}\n")
    with connected(simulator.addresses, pkey=key) as ssh, ssh.open_sftp() as sftp:
        assert sftp.listdir("/") == []


def test_sftp_faults_strike_at_their_call(simulator: Simulator) -> None:
    file = Path(simulator.addresses.sftp_directory) / "reset.csv"
    file.write_bytes(b"x" * 100_000)
    simulator.faults.add(Fault("sftp.rename", "fail"))
    simulator.faults.add(Fault("sftp.read", "short_read", value=70_000))
    simulator.faults.add(Fault("sftp.stat", "wrong_size", value=-5))
    with connected(simulator.addresses) as ssh, ssh.open_sftp() as sftp:
        assert sftp.stat("/reset.csv").st_size == 99_995
        assert sftp.stat("/reset.csv").st_size == 100_000
        with pytest.raises(OSError, match="on demand"):
            sftp.posix_rename("/reset.csv", "/other.csv")
        with sftp.open("/reset.csv", "rb") as opened:
            assert len(opened.read()) == 70_000
        with sftp.open("/reset.csv", "rb") as opened:
            assert len(opened.read()) == 100_000
        simulator.faults.add(Fault("sftp.read", "grow_while_reading", value=10))
        with sftp.open("/reset.csv", "rb") as opened:
            opened.read(10)
            assert opened.stat().st_size == 100_010
        simulator.faults.add(Fault("sftp.read", "disconnect_at_byte", value=60_000))
        with pytest.raises((OSError, EOFError, paramiko.SSHException)), sftp.open("/reset.csv", "rb") as opened:
            opened.read()
    assert simulator.faults.waiting() == []


def test_an_unknown_fault_kind_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="truncated_json"):
        Fault("nodes", "gremlins")
    with pytest.raises(ValueError, match="cannot happen at nodes"):
        Fault("nodes", "drop_lines")


def test_shops_are_seeded_from_the_reference_files_and_only_once(
    simulator: Simulator, reference_dir: Path, tmp_path: Path
) -> None:
    levels = simulator.shops.levels("SM")
    assert len(levels) == 80
    assert all(0 <= available <= 40 for available in levels.values())
    assert set(simulator.shops.levels("eu-2")) == {(44_000_020_000_000 + n, 77) for n in range(1, 41)}
    environment = simulator.environment()
    assert environment["SHOPIFY_EU_2_URL"] == f"{simulator.addresses.shopify_url}/eu-2"
    before = simulator.addresses
    simulator.stop()
    with (reference_dir / "product.csv").open("a") as file:
        file.write("P41,SKU-41,FINISHED_GOOD,41,,\n")
    with Simulator(tmp_path / "simulator", reference_dir) as again:
        assert (again.addresses.sftp_port, again.addresses.shopify_url) == (before.sftp_port, before.shopify_url)
        assert again.addresses.sftp_password == before.sftp_password
        assert {key: again.shops.levels("SM")[key] for key in levels} == levels
        assert len(again.shops.levels("SM")) == 82


def test_calls_need_a_token_and_a_known_shop(simulator: Simulator, shop: Shop) -> None:
    body = {"query": "{ shop { name } }"}
    base = simulator.addresses.shopify_url
    wrong = httpx.post(f"{base}/SM/admin/api/2026-10/graphql.json", json=body)
    assert wrong.status_code == 401
    assert "errors" in wrong.json()
    assert httpx.post(f"{base}/NOWHERE/admin/api/2026-10/graphql.json", json=body).status_code == 404
    assert shop.post("{ shop { name } }", version="2025-04").headers["X-Shopify-API-Version"] == "2026-01"
    grant = {"grant_type": "client_credentials", "client_id": "simulator-client"}
    refused = httpx.post(f"{base}/SM/admin/oauth/access_token", data={**grant, "client_secret": "?"})
    assert refused.json() == {"error": "invalid_client"}
    granted = httpx.post(
        f"{base}/SM/admin/oauth/access_token", data={**grant, "client_secret": "simulator-secret"}
    ).json()
    assert granted["expires_in"] == 86_399
    shop.client.headers["X-Shopify-Access-Token"] = granted["access_token"]
    installation = shop.data("{ currentAppInstallation { accessScopes { handle } } }")["currentAppInstallation"]
    assert "write_inventory" in {scope["handle"] for scope in installation["accessScopes"]}


def test_an_adjustment_moves_available_and_on_hand_once_per_key(simulator: Simulator, shop: Shop) -> None:
    first = shop.adjust("key-1", change(-3, 10), change(0, 5, OTHER_ITEM))
    assert first["userErrors"] == []
    moved = [(one["name"], one["delta"], one["item"]["id"]) for one in first["inventoryAdjustmentGroup"]["changes"]]
    assert moved == [("available", -3, item_gid(ITEM)), ("on_hand", -3, item_gid(ITEM))]
    assert shop.adjust("key-1", change(-3, 10), change(0, 5, OTHER_ITEM)) == first
    level = simulator.shops.level("SM", ITEM, STORE)
    assert (level.available, level.on_hand) == (7, 7)
    other = shop.adjust("key-1", change(-4, 7))
    assert [one["code"] for one in other["userErrors"]] == ["IDEMPOTENCY_KEY_PARAMETER_MISMATCH"]
    (journal,) = simulator.shops.adjustments("SM")
    assert (journal.item_id, journal.delta, journal.idempotency_key, journal.source) == (ITEM, -3, "key-1", "adjust")


def test_a_sale_in_between_refuses_the_whole_call(simulator: Simulator, shop: Shop) -> None:
    simulator.shops.sell("SM", ITEM, STORE, 1)
    refused = shop.adjust("key-1", change(4, 5, OTHER_ITEM), change(-3, 10))
    assert refused == {
        "inventoryAdjustmentGroup": None,
        "userErrors": [
            {
                "code": "CHANGE_FROM_QUANTITY_STALE",
                "field": None,
                "message": "The changeFromQuantity argument no longer matches the persisted quantity.",
            }
        ],
    }
    simulator.faults.add(Fault("inventoryAdjustQuantities", "stale_without_code"))
    assert shop.adjust("key-2", change(-3, 10))["userErrors"][0]["code"] is None
    sold, untouched = simulator.shops.level("SM", ITEM, STORE), simulator.shops.level("SM", OTHER_ITEM, STORE)
    assert (sold.available, sold.committed, sold.on_hand, untouched.available) == (9, 1, 10, 5)


def test_run_time_rules_of_adjustments(simulator: Simulator, shop: Shop) -> None:
    no_key = shop.post(ADJUST_WITHOUT_KEY, {"input": adjustment("", change(1, None))["input"]}).json()
    assert no_key["data"] == {"inventoryAdjustQuantities": None}
    assert no_key["errors"][0]["extensions"]["code"] == "BAD_REQUEST"
    bare = change(1, None)
    del bare["changeFromQuantity"]
    no_compare = shop.post(ADJUST, adjustment("k", bare)).json()
    assert no_compare["errors"][0]["extensions"]["code"] == "INVALID_FIELD_ARGUMENTS"
    assert "errors" not in shop.post(ADJUST_WITHOUT_KEY, {"input": adjustment("", bare)["input"]}, "2026-01").json()
    too_many = shop.post(ADJUST, adjustment("k", *[change(1, None)] * 251)).json()
    assert too_many["errors"][0]["extensions"]["code"] == "MAX_INPUT_SIZE_EXCEEDED"
    assert shop.adjust("zero", change(0, None)) == {"inventoryAdjustmentGroup": None, "userErrors": []}
    unknown = shop.adjust("unknown", change(1, None), change(1, None, item_id=1, location_id=2))["userErrors"]
    assert [(one["code"], one["field"]) for one in unknown] == [
        ("INVALID_INVENTORY_ITEM", ["input", "changes", "1", "inventoryItemId"]),
        ("INVALID_LOCATION", ["input", "changes", "1", "locationId"]),
    ]
    whim = {**adjustment("whim", change(1, None))}
    whim["input"] = {"reason": "whim", "name": "on_hand", "changes": [change(1, None)]}
    codes = [one["code"] for one in shop.data(ADJUST, **whim)["inventoryAdjustQuantities"]["userErrors"]]
    assert codes == ["INVALID_REASON", "INVALID_QUANTITY_NAME"]
    assert simulator.shops.level("SM", ITEM, STORE).available == 11


def test_a_token_without_the_scope_may_not_write(simulator: Simulator, shop: Shop) -> None:
    simulator.shops.scopes["SM"] = ["read_inventory"]
    answer = shop.post(ADJUST, adjustment("1", change(1, 10))).json()
    assert answer["errors"][0]["extensions"]["code"] == "ACCESS_DENIED"
    assert simulator.shops.adjustments("SM") == []


def test_run_time_rules_of_setting(simulator: Simulator, shop: Shop) -> None:
    def row(quantity: int, item_id: int = ITEM) -> dict[str, object]:
        place = {"inventoryItemId": item_gid(item_id), "locationId": location_gid(STORE)}
        return {**place, "quantity": quantity, "changeFromQuantity": None}

    def put(key: str, name: str, *rows: dict[str, object]) -> dict:
        given = {"reason": "correction", "name": name, "quantities": list(rows)}
        return shop.data(SET, input=given, idempotencyKey=key)["inventorySetQuantities"]

    twice = put("1", "available", row(1), row(2))["userErrors"]
    assert [one["field"] for one in twice] == [["input", "quantities", index, "locationId"] for index in ("0", "1")]
    assert put("2", "on_hand", row(-1))["userErrors"][0]["code"] == "INVALID_QUANTITY_NEGATIVE"
    assert put("3", "available", row(10)) == {"inventoryAdjustmentGroup": None, "userErrors": []}
    simulator.shops.sell("SM", ITEM, STORE, 4)
    assert put("4", "on_hand", row(12))["userErrors"] == []
    assert simulator.shops.level("SM", ITEM, STORE).available == 8
    assert put("5", "available", row(-5))["userErrors"] == []
    assert simulator.shops.level("SM", ITEM, STORE).available == -5


@pytest.mark.skipif(SCHEMA is None, reason="Shopify's schema file is not here")
def test_documents_and_variables_are_checked_against_the_schema(shop: Shop) -> None:
    wrong = shop.post("{ shop { nonsense } }").json()
    assert "nonsense" in wrong["errors"][0]["message"]
    assert "data" not in wrong
    given = adjustment("k", {**change(1, None), "compareQuantity": 3})
    invalid = shop.post(ADJUST, given).json()
    assert invalid["errors"][0]["extensions"]["code"] == "INVALID_VARIABLE"
    refused = shop.run_query("{ inventoryItems { edges { node { id nonsense } } } }")
    assert refused["userErrors"][0]["code"] == "INVALID"


def test_nodes_are_read_with_aliases_fragments_and_null_for_the_missing(simulator: Simulator, shop: Shop) -> None:
    pair = shop.data(
        "query($id: ID!, $loc: ID!) { inventoryItem(id: $id) { sku inventoryLevel(locationId: $loc) { id } } }",
        id=item_gid(ITEM),
        loc=location_gid(STORE),
    )["inventoryItem"]
    assert pair["sku"] == "SKU-1"
    level_id = pair["inventoryLevel"]["id"]
    assert level_id.endswith(f"?inventory_item_id={ITEM}")
    read = """
      query($ids: [ID!]!) { nodes(ids: $ids) { __typename ... on InventoryItem { sku } ...L } }
      fragment L on InventoryLevel { stock: quantities(names: ["available", "on_hand"]) { name quantity } item { sku } }
    """
    ids = [level_id, "gid://shopify/InventoryLevel/5?inventory_item_id=6", item_gid(OTHER_ITEM)]
    assert shop.data(read, ids=ids)["nodes"] == [
        {
            "__typename": "InventoryLevel",
            "stock": [{"name": "available", "quantity": 10}, {"name": "on_hand", "quantity": 10}],
            "item": {"sku": "SKU-1"},
        },
        None,
        {"__typename": "InventoryItem", "sku": "SKU-2"},
    ]


def test_an_empty_bucket_throttles_and_refills(simulator: Simulator, shop: Shop) -> None:
    simulator.shops.set_bucket("SM", maximum=15, restore_rate=0.1)
    shop.adjust("1", change(1, None))
    throttled = shop.post(ADJUST, adjustment("2", change(1, None))).json()
    assert throttled["errors"][0]["extensions"]["code"] == "THROTTLED"
    assert "data" not in throttled
    assert throttled["extensions"]["cost"]["throttleStatus"]["restoreRate"] == 0.1
    simulator.shops.set_bucket("SM", maximum=15, restore_rate=1000)
    assert shop.adjust("2", change(1, None))["userErrors"] == []
    until(lambda: "errors" not in shop.post(ADJUST, adjustment("3", change(1, None))).json(), "it has refilled")
    assert simulator.shops.level("SM", ITEM, STORE).available == 13


def test_a_lost_answer_is_applied_and_a_lost_request_is_not(simulator: Simulator, shop: Shop) -> None:
    simulator.faults.add(Fault("inventoryAdjustQuantities", "reset_after"))
    with pytest.raises(httpx.RemoteProtocolError):
        shop.post(ADJUST, adjustment("1", change(1, None)))
    simulator.faults.add(Fault("inventoryAdjustQuantities", "reset_before"))
    with pytest.raises(httpx.RemoteProtocolError):
        shop.post(ADJUST, adjustment("2", change(5, None)))
    assert simulator.shops.level("SM", ITEM, STORE).available == 11
    assert shop.adjust("1", change(1, None))["inventoryAdjustmentGroup"] is not None
    assert shop.adjust("2", change(5, None))["inventoryAdjustmentGroup"] is not None
    assert simulator.shops.level("SM", ITEM, STORE).available == 16
    assert [call.status for call in simulator.shops.calls] == [0, 0, 200, 200]


def test_http_faults_come_in_their_forms(simulator: Simulator, shop: Shop) -> None:
    def after(kind: str, **more: object) -> httpx.Response:
        url = f"{simulator.addresses.shopify_url}/simulator/faults"
        assert httpx.post(url, json={"where": "shop", "kind": kind, **more}).status_code == 200
        return shop.post("{ shop { name } }")

    assert after("http_429", value=3).headers["Retry-After"] == "3"
    assert [after(f"http_{code}").status_code for code in (500, 502, 503)] == [500, 502, 503]
    assert after("unauthorized").status_code == 401
    assert after("html").headers["content-type"].startswith("text/html")
    with pytest.raises(json.JSONDecodeError):
        after("truncated_json").json()
    assert after("other_version", value="2026-07").headers["X-Shopify-API-Version"] == "2026-07"
    assert after("throttled").json()["errors"][0]["extensions"]["code"] == "THROTTLED"
    assert after("http_500", at_call=2, times=2).status_code == 200
    assert [shop.post("{ shop { name } }").status_code for _ in range(3)] == [500, 500, 200]
    unknown = httpx.post(f"{simulator.addresses.shopify_url}/simulator/faults", json={"where": "shop", "kind": "x"})
    assert unknown.status_code == 422


def test_a_bulk_query_gives_every_level_with_counts_that_match(simulator: Simulator, shop: Shop) -> None:
    started = shop.run_query()["bulkOperation"]
    assert started["status"] == "CREATED"
    operation = shop.finished(started["id"])
    content = httpx.get(operation["url"]).content
    lines = [json.loads(line) for line in content.splitlines()]
    assert b"gid:\\/\\/shopify" in content
    assert (operation["objectCount"], operation["rootObjectCount"]) == ("120", "40")
    assert (operation["fileSize"], len(lines)) == (str(len(content)), 120)
    assert all(line["isActive"] is True for line in lines if "__parentId" in line)
    levels = {
        (line["item"]["id"], line["location"]["id"]): line["quantities"][0]["quantity"]
        for line in lines
        if "__parentId" in line
    }
    assert levels == {
        (item_gid(item_id), location_gid(location_id)): available
        for (item_id, location_id), available in simulator.shops.levels("SM").items()
    }
    assert all(line["__parentId"] == line["item"]["id"] for line in lines if "__parentId" in line)
    by_location = ALL_LEVELS.replace("inventoryItems", "locations").replace("sku tracked updatedAt", "name")
    second = shop.finished(shop.run_query(by_location)["bulkOperation"]["id"])
    assert (second["objectCount"], second["rootObjectCount"]) == ("82", "2")


def test_an_empty_bulk_query_has_no_url(simulator: Simulator) -> None:
    simulator.shops.add_shop("EMPTY")
    empty = Shop(simulator.addresses, "EMPTY")
    operation = empty.finished(empty.run_query()["bulkOperation"]["id"])
    assert (operation["status"], operation["url"], operation["objectCount"]) == ("COMPLETED", None, "0")


def test_a_bulk_mutation_answers_every_line_in_no_order(simulator: Simulator, shop: Shop) -> None:
    before = simulator.shops.levels("SM")
    lines = [json.dumps(adjustment(f"k{n}", change(n, None, ITEM + n))) for n in range(1, 30)]
    lines += [json.dumps(adjustment("stale", change(1, 999))), "{not json", json.dumps({"idempotencyKey": "no input"})]
    operation = shop.finished(shop.run_mutation(shop.upload(lines))["bulkOperation"]["id"])
    results = [json.loads(line) for line in httpx.get(operation["url"]).content.splitlines()]
    assert operation["status"] == "COMPLETED"
    assert operation["objectCount"] == str(len(lines))
    numbers = [result["__lineNumber"] for result in results]
    assert sorted(numbers) == list(range(len(lines)))
    assert numbers != sorted(numbers)
    by_number = {result["__lineNumber"]: result for result in results}
    stale = by_number[29]["data"]["inventoryAdjustQuantities"]
    assert stale["userErrors"][0]["code"] == "CHANGE_FROM_QUANTITY_STALE"
    assert "errors" in by_number[30]
    assert "errors" in by_number[31]
    moved = {key: now - before[key] for key, now in simulator.shops.levels("SM").items() if now != before[key]}
    assert moved == {(ITEM + n, STORE): n for n in range(1, 30)}
    simulator.faults.add(Fault("inventoryAdjustQuantities", "user_error", at_call=3, value="SERVICE_UNAVAILABLE"))
    path = shop.upload(lines)
    again = shop.finished(shop.run_mutation(path)["bulkOperation"]["id"])
    assert httpx.get(again["url"]).text.count("SERVICE_UNAVAILABLE") == 2
    assert Counter(one.idempotency_key for one in simulator.shops.adjustments("SM")).most_common(1)[0][1] == 1


def test_a_sixth_operation_waits_and_a_canceled_one_makes_room(simulator: Simulator, shop: Shop) -> None:
    simulator.bulk_delay_seconds = 120
    started = [shop.run_query()["bulkOperation"]["id"] for _ in range(5)]
    sixth = shop.run_query()
    assert sixth["bulkOperation"] is None
    assert sixth["userErrors"][0]["code"] == "OPERATION_IN_PROGRESS"
    listing = '{ bulkOperations(first: 10, query: "status:created operation_type:query") { nodes { id } } }'
    assert [one["id"] for one in shop.data(listing)["bulkOperations"]["nodes"]] == started
    cancel = "mutation($id: ID!) { bulkOperationCancel(id: $id) { bulkOperation { status } userErrors { message } } }"
    canceling = shop.data(cancel, id=started[0])["bulkOperationCancel"]
    assert canceling == {"bulkOperation": {"status": "CANCELING"}, "userErrors": []}
    assert shop.finished(started[0])["status"] == "CANCELED"
    assert shop.run_query()["userErrors"] == []


def test_bulk_faults_end_or_damage_an_operation(simulator: Simulator, shop: Shop) -> None:
    simulator.bulk_delay_seconds = 0
    expected = [
        # kind, status, objectCount, what the file says of the counts (None: no url)
        ("bulk_failed", "FAILED", "0", None),
        ("bulk_partial", "FAILED", "40", None),
        ("bulk_canceled", "CANCELED", "0", None),
        ("bulk_expired", "EXPIRED", "120", None),
        ("drop_lines", "COMPLETED", "120", False),
        ("duplicate_lines", "COMPLETED", "121", True),
        ("cut_last_line", "COMPLETED", "120", False),
        ("wrong_object_count", "COMPLETED", "121", False),
    ]
    found = []
    for kind, *_ in expected:
        simulator.faults.add(Fault("bulkOperationRunQuery", kind))
        operation = shop.finished(shop.run_query()["bulkOperation"]["id"])
        assert (operation["partialDataUrl"] is not None) == (kind == "bulk_partial")
        counts_match = None
        if operation["url"]:
            content = httpx.get(operation["url"]).content
            stated = (operation["fileSize"], operation["objectCount"])
            counts_match = stated == (str(len(content)), str(content.count(b"\n")))
        found.append((kind, operation["status"], operation["objectCount"], counts_match))
    assert found == expected


def test_staged_uploads_keep_to_their_policy(shop: Shop, simulator: Simulator) -> None:
    wanted = {
        "resource": "BULK_MUTATION_VARIABLES",
        "filename": "d.jsonl",
        "mimeType": "text/jsonl",
        "httpMethod": "POST",
    }
    (target,) = shop.data(STAGE, input=[wanted])["stagedUploadsCreate"]["stagedTargets"]
    fields = {one["name"]: one["value"] for one in target["parameters"]}
    empty = httpx.post(target["url"], data=fields, files={"file": ("d.jsonl", b"", "text/jsonl")})
    assert empty.status_code == 400
    assert "EntityTooSmall" in empty.text
    short = {name: value for name, value in fields.items() if name != "policy"}
    assert httpx.post(target["url"], data=short, files={"file": ("d.jsonl", b"{}", "text/jsonl")}).status_code == 400
    parts = [("file", ("d.jsonl", b"{}", "text/jsonl")), *((name, (None, value)) for name, value in fields.items())]
    assert httpx.post(target["url"], files=parts).status_code == 400
    assert shop.run_mutation(fields["key"])["userErrors"][0]["code"] == "NO_SUCH_FILE"


def test_webhook_subscriptions_are_kept(shop: Shop) -> None:
    create = """
      mutation($topic: WebhookSubscriptionTopic!, $sub: WebhookSubscriptionInput!) {
        webhookSubscriptionCreate(topic: $topic, webhookSubscription: $sub) {
          webhookSubscription { id topic uri format name apiVersion { handle } } userErrors { field message }
        }
      }
    """
    wanted = {"uri": "https://example.com/hook", "format": "JSON", "name": "inventory-levels"}
    created = shop.data(create, topic="INVENTORY_LEVELS_UPDATE", sub=wanted)["webhookSubscriptionCreate"]
    subscription_id = created["webhookSubscription"]["id"]
    listing = "{ webhookSubscriptions(first: 5, topics: [INVENTORY_LEVELS_UPDATE]) { edges { node { id uri } } } }"
    assert shop.data(listing)["webhookSubscriptions"]["edges"] == [
        {"node": {"id": subscription_id, "uri": "https://example.com/hook"}}
    ]
    delete = "mutation($id: ID!) { webhookSubscriptionDelete(id: $id) { deletedWebhookSubscriptionId } }"
    deleted = shop.data(delete, id=subscription_id)["webhookSubscriptionDelete"]
    assert deleted["deletedWebhookSubscriptionId"] == subscription_id
    assert shop.data(listing)["webhookSubscriptions"]["edges"] == []


def test_a_person_sells_edits_and_looks(simulator: Simulator, reference_dir: Path) -> None:
    base = simulator.addresses.shopify_url
    place = {"shop": "SM", "sku": "SKU-1", "location_id": STORE}
    assert "/simulator/sale" in httpx.get(base).text
    sold = httpx.post(f"{base}/simulator/sale", json={**place, "quantity": 2}).json()
    assert sold == {"available": 8, "committed": 2, "on_hand": 10}
    httpx.post(f"{base}/simulator/edit", json={**place, "available": 30})
    shown = httpx.get(f"{base}/simulator/levels", params={"shop": "SM", "sku": "SKU-1"}).json()
    assert {one["location_id"]: one["available"] for one in shown}[STORE] == 30
    assert [(one.source, one.delta) for one in simulator.shops.adjustments("SM")] == [("sale", -2), ("edit", 22)]
    with (reference_dir / "product.csv").open("a") as file:
        file.write("P41,SKU-41,FINISHED_GOOD,41,,\n")
    httpx.post(f"{base}/simulator/reload")
    assert len(simulator.shops.levels("SM")) == 82


def test_a_killed_simulator_comes_back_with_everything(tmp_path: Path, reference_dir: Path) -> None:
    directory = tmp_path / "own process"
    first = ensure_running(directory, reference_dir)
    assert ensure_running(directory, reference_dir) == first
    shop = Shop(first)
    levels = httpx.get(f"{first.shopify_url}/simulator/levels", params={"shop": "SM", "sku": "SKU-1"}).json()
    available = levels[0]["available"]
    shop.adjust("before the end", change(2, available))
    operation_id = shop.run_query()["bulkOperation"]["id"]
    os.kill(first.pid, signal.SIGKILL)
    os.waitpid(first.pid, 0)
    assert running(directory) is None
    second = ensure_running(directory, reference_dir)
    try:
        assert (second.sftp_port, second.shopify_url) == (first.sftp_port, first.shopify_url)
        with connected(first):
            pass
        again = Shop(second)
        assert again.finished(operation_id)["objectCount"] == "120"
        assert again.adjust("before the end", change(2, available))["userErrors"] == []
        shown = httpx.get(f"{second.shopify_url}/simulator/levels", params={"shop": "SM", "sku": "SKU-1"}).json()
        assert shown[0]["available"] == available + 2
    finally:
        os.kill(second.pid, signal.SIGTERM)
        os.waitpid(second.pid, 0)
    assert not (directory / "simulator.json").exists()
