"""Secrets stay secret, and what comes in files stays data: never SQL, never a formula, never a way to another file."""

import asyncio
import base64
import csv
import hashlib
import hmac
import os
import sqlite3
import traceback
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import dagster as dg
import httpx
import paramiko
import pytest
from starlette.testclient import TestClient

from hotwax_inventory import dagster_home, demo, settings, webhook
from hotwax_inventory.alerts.sensors import SENSORS
from hotwax_inventory.definitions import defs
from hotwax_inventory.resources import Sftp, Warehouse
from hotwax_inventory_tests.conftest import RESETS, Place
from hotwax_inventory_tests.fakes.receivers import MailServer, Webhook, serving

HEADER = "Item,externalFacilityId,availableQty,idValue\n"


def texts(folder: Path) -> Iterator[tuple[str, str]]:
    """(name, content) of every file below a folder, databases row by row."""
    for path in folder.rglob("*"):
        if not path.is_file() or path.suffix == ".duckdb":
            continue
        content = path.read_bytes()
        if content.startswith(b"SQLite format 3"):
            with sqlite3.connect(path) as database:
                content += "\n".join(database.iterdump()).encode()
        yield f"{path.relative_to(folder)}", content.decode("utf-8", "replace")


def rows_of_all_tables(place: Place) -> str:
    names = place.rows("select table_name from duckdb_tables() where not internal")
    return "\n".join(f"{name} {place.rows(f'from {name}')}" for (name,) in names)


def sensor_error(place: Place, name: str) -> str:
    """What a tick of a sensor puts on record when it fails."""
    try:
        with dg.build_sensor_context(instance=place.instance, resources={"sftp": Sftp()}) as context:
            defs.get_sensor_def(name).evaluate_tick(context)
    except Exception:
        return traceback.format_exc()
    raise AssertionError(f"{name} did not fail")


async def deliver(secret: str) -> int:
    """Send a webhook signed with a secret; the receiver's answer."""
    body = b'{"inventory_item_id":1,"location_id":7116,"available":4,"updated_at":"2026-11-01T00:00:00Z"}'
    signature = base64.b64encode(hmac.digest(secret.encode(), body, hashlib.sha256)).decode()
    headers = {
        "X-Shopify-Hmac-Sha256": signature,
        "X-Shopify-Webhook-Id": "one",
        "X-Shopify-Topic": "inventory_levels/update",
    }
    transport = httpx.ASGITransport(webhook.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://receiver") as client:
        answer = await client.post("/webhooks/shopify/SHOP", content=body, headers=headers)
    return answer.status_code


class Canaries:
    """Secrets that must be found nowhere, by the variable that has them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.found: set[str] = set()

    def set(self, name: str, value: str, *secrets: str) -> None:
        """Set a variable whose value, or parts of it, are secret."""
        self._monkeypatch.setenv(name, value)
        self.found |= set(secrets or (value,))


@pytest.mark.long
def test_no_secret_is_in_any_run_event_log_file_table_or_alert(
    place: Place,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG")
    canaries = Canaries(monkeypatch)
    addresses, seen = place.simulator.addresses, []
    hook, mailbox = Webhook(), MailServer()
    canaries.set("ALERT_WEBHOOK_URL", hook.url, "/services/T0/canary-hook")
    mail = f"smtp://ops:canary%2Dmail@127.0.0.1:{mailbox.port}"
    canaries.set("ALERT_SMTP_URL", mail, "canary%2Dmail", "canary-mail")
    monkeypatch.setenv("ALERT_EMAIL_TO", "ann@example.com")
    canaries.set("SHOPIFY_SHOP_WEBHOOK_SECRET", "canary-webhook")
    (tmp_path / "dagster").mkdir()
    with ExitStack() as stack:
        place.instance = stack.enter_context(dg.instance_for_test(temp_dir=str(tmp_path / "dagster")))
        for receiver in (hook, mailbox):
            stack.enter_context(serving(receiver))
        good_and_bad_runs(place, canaries, tmp_path, monkeypatch)
        seen.append(sensor_error(place, "import_inventory_files"))
        hook.status, mailbox.refuses = 500, True
        for _ in range(2):
            for sensor in SENSORS:
                with dg.build_sensor_context(instance=place.instance) as context:
                    seen.append(str(sensor.evaluate_tick(context)))
            hook.status, mailbox.refuses = 200, False
        assert {post["job"] for post in hook.posts} >= {"import_inventory", "hard_sync"}
        assert len(mailbox.messages) == len(hook.posts)
        seen += [str(hook.posts), *mailbox.messages, rows_of_all_tables(place)]
        for run in place.instance.get_runs():
            seen += [str(run), *(str(entry) for entry in place.instance.all_logs(run.run_id))]
        folders = dict(texts(place.home)) | dict(texts(tmp_path / "dagster"))
    canaries.found |= {addresses.access_token, addresses.sftp_password}
    captured = capfd.readouterr()
    folders |= {"in memory": "\n".join(seen), "terminal": captured.out + captured.err, "log": caplog.text}
    assert "refuses the password of" in folders["in memory"], "the runs did fail"
    leaks = [(where, secret) for where, text in folders.items() for secret in canaries.found if secret in text]
    assert leaks == []


def good_and_bad_runs(place: Place, canaries: Canaries, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs with every credential there is: once right, once wrong, once unreadable."""
    place.succeed("load_reference")
    place.put_reset("reset.csv", f"{HEADER}TEE-S,43,5,501\nTEE-S,116,2,501\n")
    place.succeed("import_inventory")
    place.succeed("hard_sync", shop="SHOP")
    canaries.set("SHOPIFY_SHOP_ACCESS_TOKEN", "shpat_canary0token")
    assert "the access token is not valid" in place.failure(place.run("hard_sync", shop="SHOP"))
    monkeypatch.delenv("SHOPIFY_SHOP_ACCESS_TOKEN")
    monkeypatch.setenv("SHOPIFY_SHOP_CLIENT_ID", "simulator-client")
    canaries.set("SHOPIFY_SHOP_CLIENT_SECRET", "simulator-secret")
    place.succeed("hard_sync", shop="SHOP")
    canaries.set("SHOPIFY_SHOP_CLIENT_SECRET", "canary-client")
    assert "Shopify grants no token" in place.failure(place.run("hard_sync", shop="SHOP"))
    key = folder / "key"
    paramiko.ECDSAKey.generate().write_private_key_file(str(key), password="canary-passphrase")
    key_lines = [line for line in key.read_text().splitlines() if len(line) > 30 and "KEY" not in line]
    monkeypatch.setenv("SFTP_PRIVATE_KEY_FILE", str(key))
    canaries.set("SFTP_PASSWORD", "canary-passphrase", "canary-passphrase", *key_lines)
    assert "refuses the key of" in place.failure(place.run("import_inventory"))
    canaries.set("SFTP_PASSWORD", "canary-wrong-passphrase")
    assert "cannot be read as a private key" in place.failure(place.run("import_inventory"))
    monkeypatch.delenv("SFTP_PRIVATE_KEY_FILE")
    canaries.set("SFTP_PASSWORD", "canary-password")
    assert "refuses the password of" in place.failure(place.run("import_inventory"))


def test_a_webhook_secret_and_that_of_postgres_are_in_no_file_and_no_message(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    canaries = Canaries(monkeypatch)
    canaries.set("SHOPIFY_SHOP_WEBHOOK_SECRET", "canary-webhook")
    canaries.set("SHOPIFY_SHOP_WEBHOOK_SECRET_OLD", "canary-older")
    assert [asyncio.run(deliver(secret)) for secret in ("canary-webhook", "wrong")] == [200, 401]
    for name, value in (("HOST", "127.0.0.1"), ("PORT", "9"), ("USERNAME", "dagster"), ("DB", "dagster")):
        monkeypatch.setenv(f"DAGSTER_PG_{name}", value)
    canaries.set("DAGSTER_PG_PASSWORD", "canary-postgres")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    home = dagster_home.prepare()
    said = ""
    try:
        dg.DagsterInstance.from_config(str(home)).get_runs()
    except Exception:
        said = traceback.format_exc()
    assert "Connection refused" in said
    found = dict(texts(place.home)) | dict(texts(home)) | {"error": said, "log": caplog.text}
    assert len(found) > 3
    assert [(where, secret) for where, text in found.items() for secret in canaries.found if secret in text] == []


HOSTILE = (
    "'); drop table product; --",
    "' || (select content from read_text('/etc/passwd')) || '",
    "${password}",
    "'''",
    "a\x1fb",
    "%s{0}",
)


def test_names_and_values_of_files_never_become_sql(place: Place) -> None:
    before = place.rows("select table_name from duckdb_tables() where not internal order by 1")
    header = ["externalFacilityId", "availableQty", "idValue", "comments", *HOSTILE]
    folder = place.sftp_directory / RESETS
    folder.mkdir(parents=True, exist_ok=True)
    for number, hostile in enumerate(HOSTILE):
        name = f"{hostile.replace('/', '').replace(chr(31), '')}-{number}.csv"
        with (folder / name).open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(header)
            rows.writerow(["43", "5", "501", hostile, *HOSTILE])
            rows.writerow([hostile, hostile, hostile, hostile, *HOSTILE])
    config = {"location_seq_id": HOSTILE[0], "id_type": "NETSUITE_PRODUCT_ID"}
    place.succeed("import_inventory", {"inventory_reset": config})
    assert place.rows("select table_name from duckdb_tables() where not internal order by 1") == before
    assert place.rows("select count(*) from product") == [(4,)]
    assert [log[1:] for log in place.logs()] == [("finished_with_errors", 2, 1, 0)] * len(HOSTILE)
    kept = place.rows("select comments, location_seq_id from inventory_reset order by log_id")
    assert {comment for comment, _ in kept} == {hostile.replace("\x1f", " ").strip() for hostile in HOSTILE}
    assert {location for _, location in kept} == {HOSTILE[0]}
    refused = place.run("import_inventory", {"inventory_reset": {"id_type": HOSTILE[0], "paths": [HOSTILE[1]]}})
    assert "is not a regular file" in place.failure(refused)
    assert "root:" not in rows_of_all_tables(place)


def test_failed_records_have_no_formulas_and_come_back_as_they_were(place: Place) -> None:
    comments = ["=cmd|' /C calc'!A0", "@SUM(1)", "+1+1", "'=already", "-5", "plain, with comma"]
    rows = [f'TEE-S,43,many,501,"{comment}"' for comment in comments]
    place.put_reset("reset.csv", "=Item,externalFacilityId,availableQty,idValue,comments\n" + "\n".join(rows))
    place.succeed("import_inventory")
    folder = place.home / "landing" / "RESET_INVENTORY"
    (failed,) = folder.glob("*-failed-records-1.csv")
    header, *written = list(csv.reader(failed.open(newline="")))
    assert header[0] == "'=Item"
    shown = ["'=cmd|' /C calc'!A0", "'@SUM(1)", "'+1+1", "''=already", "-5", "plain, with comma"]
    assert [row[4] for row in written] == shown
    place.put_reset(failed.name, failed.read_text())
    place.succeed("import_inventory")
    (again,) = folder.glob("*-failed-records-1-2.csv")
    assert again.read_text() == failed.read_text(), "unmended, it is refused as it was"
    place.put_reset(f"mended-{failed.name}", failed.read_text().replace("many", "7"))
    place.succeed("import_inventory")
    assert place.rows("select comments from inventory_reset order by line_number") == [(c,) for c in comments]


def test_a_query_cannot_leave_the_folders_it_was_given(place: Place, tmp_path: Path) -> None:
    outside = tmp_path / "secret.csv"
    outside.write_text("canary")
    tries = (
        f"from read_csv('{outside}')",
        f"from read_text('{place.home}/../secret.csv')",
        f"copy (select 1) to '{tmp_path}/out.csv'",
        f"attach '{tmp_path}/other.duckdb'",
        "install httpfs",
        "set enable_external_access = true",
        "set allowed_directories = ['/']",
        "from glob('/etc/*')",
    )
    for sql in tries:
        with Warehouse().connect() as connection, pytest.raises(Exception, match=r"(?i)disabled|cannot|permission"):
            connection.execute(sql).fetchall()
    assert not (tmp_path / "out.csv").exists()


# variable, a value that cannot be right, and what is said of it
UNUSABLE = [
    ("SHOPIFY_SHOP_ACCESS_TOKEN", "shpat canary", "SHOPIFY_SHOP_ACCESS_TOKEN has a blank"),
    ("SHOPIFY_SHOP_CLIENT_SECRET", "canaryß", "SHOPIFY_SHOP_CLIENT_SECRET has a blank"),
    ("SHOPIFY_SHOP_URL", "https://user:canary@127.0.0.1:1", "SHOPIFY_SHOP_URL takes an address"),
    ("SHOPIFY_SHOP_URL", "http://127.0.0.1:port", "SHOPIFY_SHOP_URL takes an address"),
    ("SHOPIFY_SHOP_URL", "ftp://127.0.0.1", "SHOPIFY_SHOP_URL takes an address"),
]


def test_a_zone_that_only_this_machine_knows_is_named_before_a_file_is_taken(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings.zoneinfo, "available_timezones", lambda: {"UTC", "localtime"})
    monkeypatch.setenv("RESTOCK_TIME_ZONE", "localtime")
    assert "RESTOCK_TIME_ZONE takes a zone" in place.failure(place.run("import_scheduled_restock"))
    assert place.rows("from data_manager_log") == []


@pytest.mark.parametrize(("name", "value", "said"), UNUSABLE)
def test_a_setting_that_cannot_be_right_is_named_and_not_shown(
    place: Place, monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv("SHOPIFY_SHOP_ACCESS_TOKEN", "token")
    monkeypatch.setenv(name, value)
    failure = place.failure(place.run("hard_sync", shop="SHOP"))
    assert said in failure
    assert "canary" not in failure


@pytest.mark.parametrize("job", ["load_reference", "import_inventory", "explain"])
def test_a_home_that_cannot_be_is_named(
    place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, job: str
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HOTWAX_HOME", str(tmp_path / "file" / "home"))
    asked = {"inventory_explanation": {"product": "10001", "facility_id": "WAREHOUSE"}} if job == "explain" else None
    assert "HOTWAX_HOME takes a folder that can be written" in place.failure(place.run(job, asked))


def test_the_line_end_of_a_file_is_no_part_of_a_token(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    token = place.simulator.addresses.access_token
    monkeypatch.setenv("SHOPIFY_SHOP_ACCESS_TOKEN", f" {token}\n")
    monkeypatch.setenv("SHOPIFY_SHOP_URL", f"{place.simulator.addresses.shopify_url}/SHOP")
    place.succeed("hard_sync", shop="SHOP")


@pytest.mark.parametrize("name", ["USERNAME", "PASSWORD", "PORT", "PRIVATE_KEY_FILE", "KNOWN_HOSTS_FILE"])
def test_a_server_without_its_host_is_not_taken_for_the_simulators(
    place: Place, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for variable in [variable for variable in os.environ if variable.startswith(("SFTP_", "SHOPIFY_"))]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv(f"SFTP_{name}", "22")
    assert "SFTP_HOST is not set" in place.failure(place.run("import_inventory"))
    assert "Shop SHOP has no credentials" in place.failure(place.run("hard_sync", shop="SHOP"))


@pytest.mark.parametrize("name", ["SFTP_HOST", "SFTP_USERNAME"])
def test_the_demo_touches_no_real_server(place: Place, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("SFTP_HOST", "")
    monkeypatch.setenv(name, "real.example.com")
    monkeypatch.setenv("DAGSTER_HOME", str(place.home / "dagster"))
    monkeypatch.setattr(settings, "PROJECT", place.home)
    (place.home / "dagster.yaml").write_text("")
    assert demo.main() == 1
    assert not (place.home / "dagster" / "history").exists(), "no run was begun"


def test_the_receiver_too_takes_the_env_file_at_its_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text(f"HOTWAX_HOME={tmp_path / 'home'}\n")
    monkeypatch.setattr(settings, "PROJECT", tmp_path)
    monkeypatch.setenv("HOTWAX_HOME", "/nowhere")
    with TestClient(webhook.app):
        assert settings.home() == tmp_path / "home"


def test_a_schedule_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARD_SYNC_CRON", "daily")
    with pytest.raises(settings.SettingError, match="HARD_SYNC_CRON takes a cron schedule"):
        settings.hard_sync_cron()


def test_what_is_to_be_kept_for_ever_is(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("LANDING_KEEP_DAYS", "OUTBOX_KEEP_DAYS", "DAGSTER_RUNS_KEEP_DAYS"):
        monkeypatch.setenv(variable, "999999")
    place.succeed("clean_up")
    monkeypatch.setenv("LANDING_KEEP_DAYS", "9" * 20)
    assert "LANDING_KEEP_DAYS takes a whole number" in place.failure(place.run("clean_up"))
