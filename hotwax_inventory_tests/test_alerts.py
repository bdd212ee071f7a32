"""What reaches a person when something goes wrong: by a webhook and by mail, over real sockets."""

import ipaddress
import ssl
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import paramiko
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.errors import SensorExecutionError, user_code_error_boundary
from dagster._core.remote_origin import InProcessCodeLocationOrigin, RemoteInstigatorOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    SensorInstigatorData,
    TickData,
    TickStatus,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._utils.error import serializable_error_info_from_exc_info

from hotwax_inventory.alerts import receivers, telling
from hotwax_inventory.alerts.sensors import failed_checks_alert, failed_runs_alert
from hotwax_inventory.definitions import defs
from hotwax_inventory.reconcile import freshness
from hotwax_inventory.resources import Sftp
from hotwax_inventory.simulator.faults import Fault
from hotwax_inventory_tests.conftest import Place
from hotwax_inventory_tests.fakes.receivers import MailServer, Webhook, serving
from hotwax_inventory_tests.test_publish import materialised

HEADER = "Item,externalFacilityId,availableQty,idValue\n"


class Watch:
    """The two sensors, as a daemon evaluates them: each tick with the cursor of the last."""

    def __init__(self, place: Place, webhook: Webhook, mailbox: MailServer) -> None:
        self.place, self.webhook, self.mailbox = place, webhook, mailbox
        self.cursors: dict[str, str | None] = {}
        self.recorded: dict[tuple[str, str], bool] = {}

    def tick(self, sensor: dg.SensorDefinition = failed_runs_alert) -> str:
        """One tick; what it says of itself."""
        cursor = self.cursors.get(sensor.name)
        with dg.build_sensor_context(instance=self.place.instance, cursor=cursor) as context:
            data = sensor.evaluate_tick(context)
        self.cursors[sensor.name] = data.cursor or cursor
        for event in data.asset_events:
            assert isinstance(event, dg.AssetCheckEvaluation)
            self.place.instance.report_runless_asset_event(event)
            self.recorded[event.check_name, event.asset_key.to_user_string()] = event.passed
        return data.skip_message or ""


@pytest.fixture
def watch(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    webhook, mailbox = Webhook(), MailServer()
    monkeypatch.setenv("ALERT_WEBHOOK_URL", webhook.url)
    monkeypatch.setenv("ALERT_SMTP_URL", f"smtp://ops%40example.com:canary-mail@127.0.0.1:{mailbox.port}")
    monkeypatch.setenv("ALERT_EMAIL_TO", "ann@example.com, bob@example.com")
    with ExitStack() as stack:
        stack.enter_context(serving(webhook))
        stack.enter_context(serving(mailbox))
        yield Watch(place, webhook, mailbox)


def test_a_failed_job_is_told_once_by_both_ways_with_job_file_and_what_to_do(watch: Watch) -> None:
    watch.tick()
    watch.place.put_reset("<!channel> bad.csv", "Item,externalFacilityId\nTEE-S,43\n")
    run = watch.place.run("import_inventory")
    assert not run.success
    watch.tick()
    (post,) = watch.webhook.posts
    assert post["title"] == "import_inventory failed"
    assert "file <!channel> bad.csv: Column availableQty is missing" in post["message"]
    assert "put it on SFTP again" in post["message"]
    assert "&lt;!channel&gt; bad.csv" in post["text"]
    assert "<!" not in post["text"], "Slack would call everybody"
    assert post["run_id"] == run.run_id
    (mail,) = watch.mailbox.messages
    assert "Subject: import_inventory failed" in mail
    assert "To: ann@example.com, bob@example.com" in mail
    assert "Column availableQty is missing" in mail.replace("=\r\n", "")
    assert watch.mailbox.logins == [("ops@example.com", "canary-mail", False)]
    restarted = Watch(watch.place, watch.webhook, watch.mailbox)
    restarted.cursors = watch.cursors
    assert restarted.tick() == "Nothing to tell."
    assert len(watch.webhook.posts) == len(watch.mailbox.messages) == 1


def test_the_same_problem_is_told_once_an_hour_with_all_that_came_meanwhile(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("reset-1.csv", "reset-2.csv", "reset-3.csv"):
        watch.place.run("import_inventory", {"inventory_reset": {"paths": [name]}})
        watch.tick()
    assert not materialised(watch.place, "hard_sync", "hard_sync_delta").success
    watch.tick()
    assert [post["title"] for post in watch.webhook.posts] == [
        "import_inventory failed",
        "hard_sync failed for shop SHOP",
    ]
    assert "Run hard_sync for it first" in watch.webhook.posts[1]["message"]
    after(3601, monkeypatch)
    watch.tick()
    (again,) = watch.webhook.posts[2:]
    assert "2 times since" in again["message"]
    assert "reset-2.csv" in again["message"]
    assert "reset-3.csv" in again["message"]
    assert watch.tick() == "Nothing to tell."


def after(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let so much time pass for what was told when."""
    now = time.time() + seconds
    monkeypatch.setattr(telling, "time", SimpleNamespace(time=lambda: now, monotonic=time.monotonic))


def test_a_receiver_that_is_down_is_told_later_and_the_other_is_not_told_twice(watch: Watch) -> None:
    watch.webhook.status = 500
    watch.place.run("import_inventory", {"inventory_reset": {"paths": ["nowhere.csv"]}})
    assert "ALERT_WEBHOOK_URL: 0 told; not told: ALERT_WEBHOOK_URL answers HTTP 500" in watch.tick()
    assert len(watch.mailbox.messages) == 1
    watch.webhook.status = 200
    assert watch.tick() == "ALERT_WEBHOOK_URL: 1 told"
    assert "nowhere.csv is not a regular file" in watch.webhook.posts[0]["message"]
    assert len(watch.mailbox.messages) == 1


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        (
            "ALERT_WEBHOOK_URL",
            "http://127.0.0.1:9/canary",
            "ALERT_WEBHOOK_URL cannot be reached (ConnectionRefusedError)",
        ),
        ("ALERT_WEBHOOK_URL", "file:///etc/canary", "ALERT_WEBHOOK_URL must begin with https:// or http://."),
        (
            "ALERT_SMTP_URL",
            "smtp://ops:caf%C3%A9@127.0.0.1:{port}",
            "ALERT_SMTP_URL cannot be used (UnicodeEncodeError)",
        ),
        ("ALERT_SMTP_URL", "mail.example.com", "ALERT_SMTP_URL takes smtp://user:password@host:port, or smtps://."),
        ("ALERT_EMAIL_TO", "", "ALERT_EMAIL_TO is not set. It takes the addresses that alerts go to."),
    ],
)
def test_one_way_that_cannot_work_says_so_and_does_not_stop_the_other(
    watch: Watch, monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value.format(port=watch.mailbox.port))
    watch.place.run("import_inventory", {"inventory_reset": {"paths": ["nowhere.csv"]}})
    assert said in watch.tick()
    assert len(watch.webhook.posts) + len(watch.mailbox.messages) == 1


def test_refused_rows_and_a_held_file_reach_a_person_once_a_day(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hotwax_inventory.ledger.resets.FEWEST_STOCKED_KEYS", 1)
    now = datetime.now(UTC)
    watch.place.put_reset("first.csv", f"{HEADER}TEE-S,43,5,501\nNEW,43,5,999\n", now - timedelta(hours=1))
    watch.place.succeed("import_inventory")
    watch.place.put_reset("second.csv", f"{HEADER}TEE-S,43,0,501\n", now)
    watch.place.succeed("import_inventory")
    watch.tick(failed_checks_alert)
    posts = {post["check"]: post for post in watch.webhook.posts}
    assert set(posts) == {"rows_accepted", "no_reset_is_held"}
    assert "first.csv line 3: " in posts["rows_accepted"]["message"]
    assert (
        'paths = ["netsuite/inventoryitem/csv/second.csv"] and approve = true' in posts["no_reset_is_held"]["message"]
    )
    watch.place.succeed("import_inventory")
    assert watch.tick(failed_checks_alert) == "Nothing to tell.", "it is still held, as everybody knows"
    watch.place.put_reset("third.csv", f"{HEADER}TEE-S,43,0,501\nTEE-M,43,0,502\n", now)
    watch.place.succeed("import_inventory")
    assert watch.tick(failed_checks_alert) == "ALERT_WEBHOOK_URL: 1 told. ALERT_SMTP_URL: 1 told", "it is another file"
    watch.place.succeed("import_inventory")
    after(86_400, monkeypatch)
    assert watch.tick(failed_checks_alert) == "ALERT_WEBHOOK_URL: 1 told. ALERT_SMTP_URL: 1 told"
    assert watch.webhook.posts[-1]["check"] == "no_reset_is_held"


def test_what_a_run_warns_of_is_told_although_it_has_failed_for_something_else(watch: Watch) -> None:
    watch.place.put_reset("good.csv", f"{HEADER}TEE-S,43,5,501\nNEW,43,5,999\n")
    watch.place.put_reset("bad.csv", "Item,externalFacilityId\nTEE-S,43\n")
    assert not watch.place.run("import_inventory").success
    watch.tick()
    watch.tick(failed_checks_alert)
    failed, warned = watch.webhook.posts
    assert "bad.csv: Column availableQty is missing" in failed["message"]
    assert warned["check"] == "rows_accepted"
    assert "good.csv line 3: " in warned["message"]


def test_words_of_a_server_that_are_no_utf_8_reach_a_person_by_both_ways(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, b"Acc\xe8s refus\xe9".decode("utf-8", "surrogateescape"))

    monkeypatch.setattr(paramiko.SFTPClient, "listdir_iter", refused)
    assert not watch.place.run("import_inventory").success
    assert watch.tick() == "ALERT_WEBHOOK_URL: 1 told. ALERT_SMTP_URL: 1 told"
    assert r"Acc\udce8s refus\udce9" in watch.webhook.posts[0]["message"]


def test_a_tripped_guard_is_told_once_with_its_run(watch: Watch) -> None:
    watch.place.simulator.shops.scopes["SHOP"] = ("read_inventory",)
    assert not watch.place.run("hard_sync", shop="SHOP").success
    watch.tick()
    assert watch.tick(failed_checks_alert) == "Nothing to tell."
    (post,) = watch.webhook.posts
    assert post["title"] == "hard_sync failed for shop SHOP"
    assert "lacks the scope write_inventory" in post["message"]
    assert "Grant it to the app in Shopify, then run this again." in post["message"]


def test_what_fails_after_the_clock_was_put_back_is_told(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = {"inventory_reset": {"paths": ["nowhere.csv"]}}
    watch.place.run("import_inventory", nowhere)
    with monkeypatch.context() as ahead:
        after(1800, ahead)
        assert watch.tick() == "ALERT_WEBHOOK_URL: 1 told. ALERT_SMTP_URL: 1 told"
    watch.place.run("import_inventory", nowhere)
    assert watch.tick() == "ALERT_WEBHOOK_URL: 1 told. ALERT_SMTP_URL: 1 told"


def test_a_run_whose_process_is_gone_is_told_as_any_other(watch: Watch) -> None:
    instance = watch.place.instance
    run = instance.create_run_for_job(defs.resolve_job_def("clean_up"), status=dg.DagsterRunStatus.STARTED)
    instance.report_run_failed(run)
    watch.tick()
    assert watch.tick() == "Nothing to tell."
    (post,) = watch.webhook.posts
    assert post["title"] == "clean_up failed"
    assert "Its process has ended without a word: killed, or out of memory." in post["message"]


def test_that_the_process_is_gone_is_told_beside_a_check_that_has_failed(watch: Watch) -> None:
    instance = watch.place.instance
    run = instance.create_run_for_job(defs.resolve_job_def("import_inventory"), status=dg.DagsterRunStatus.STARTED)
    failed = dg.AssetCheckEvaluation(
        check_name="files_readable",
        asset_key=dg.AssetKey("inventory_reset"),
        passed=False,
        description="A name has characters that no file name should have.",
        metadata={},
    )
    instance.report_dagster_event(
        dg.DagsterEvent(
            dg.DagsterEventType.ASSET_CHECK_EVALUATION.value, "import_inventory", event_specific_data=failed
        ),
        run.run_id,
    )
    instance.report_run_failed(run)
    watch.tick()
    (post,) = watch.webhook.posts
    assert "A name has characters that no file name should have." in post["message"]
    assert "Its process has ended without a word" in post["message"]


def test_a_sensor_that_cannot_log_in_is_told_since_no_run_will_fail(
    watch: Watch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SFTP_PASSWORD", "canary-wrong")
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        watch.place.instance = instance
        failed_look(instance, "import_inventory_files")
        watch.tick()
        assert watch.tick() == "Nothing to tell."
    (post,) = watch.webhook.posts
    assert post["title"] == "import_inventory_files cannot look, and starts nothing"
    assert "refuses the password of" in post["message"]
    assert "none of the errors that are explained" not in post["message"]
    assert "See SFTP_USERNAME and SFTP_PASSWORD." in post["message"]


def failed_look(instance: dg.DagsterInstance, name: str) -> None:
    """Let a sensor be on and its last look fail, as the daemon puts it on record."""
    sensor = defs.get_sensor_def(name)
    try:
        with (
            dg.build_sensor_context(instance=instance, resources={"sftp": Sftp()}) as context,
            user_code_error_boundary(SensorExecutionError, lambda: f"Error occurred in sensor {name}"),
        ):
            sensor.evaluate_tick(context)
        raise AssertionError("it did not fail")
    except SensorExecutionError:
        error = serializable_error_info_from_exc_info(sys.exc_info())
    location = InProcessCodeLocationOrigin(LoadableTargetOrigin(module_name="hotwax_inventory.definitions"))
    origin = RemoteInstigatorOrigin(RemoteRepositoryOrigin(location, "repository"), name)
    state = InstigatorState(origin, InstigatorType.SENSOR, InstigatorStatus.RUNNING, SensorInstigatorData())
    instance.add_instigator_state(state)
    instance.create_tick(
        TickData(
            instigator_origin_id=origin.get_id(),
            instigator_name=name,
            instigator_type=InstigatorType.SENSOR,
            status=TickStatus.FAILURE,
            timestamp=time.time(),
            selector_id=state.selector_id,
            error=error,
        )
    )


def test_a_late_feed_and_a_stuck_file_are_told_and_shown_until_they_are_mended(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMP_INV_TRANS_MAX_AGE_HOURS", "2")
    watch.place.put_reset("old.csv", f"{HEADER}TEE-S,43,5,501\n", datetime.now(UTC) - timedelta(hours=27))
    watch.place.succeed("import_inventory")
    watch.place.put_reset("left.csv", f"{HEADER}TEE-M,43,5,502\n", datetime.now(UTC) - timedelta(hours=28))
    watch.place.succeed("import_inventory", {"inventory_reset": {"schedule_now": False}})
    watch.place.rows("update data_manager_log set registered_at = registered_at - interval 61 minute")
    assert watch.tick(failed_checks_alert) == "ALERT_WEBHOOK_URL: 2 told. ALERT_SMTP_URL: 2 told"
    late, stuck = watch.webhook.posts
    assert late["title"] == "reset_inventory_files: newest_file_is_recent failed"
    assert "The newest file of RESET_INVENTORY, old.csv, is of 20" in late["message"]
    assert "every 26 hours (RESET_INVENTORY_MAX_AGE_HOURS)" in late["message"]
    assert "netsuite/inventoryitem/csv on SFTP as *.csv" in late["message"]
    assert (
        "1 files have been waiting for more than an hour: left.csv (RESET_INVENTORY, pending since" in stuck["message"]
    )
    assert "Run process_bulk_imported_files" in stuck["message"]
    feed = ("newest_file_is_recent", "reset_inventory_files")
    assert watch.recorded[feed] is False
    assert watch.recorded["newest_file_is_recent", "imp_inv_trans_files"], "it has not been missing for so long"
    watch.recorded.clear()
    # the same count once more is news of the feed, too
    watch.place.put_reset("new.csv", f"{HEADER}TEE-S,43,5,501\n")
    watch.place.succeed("import_inventory")
    watch.tick(failed_checks_alert)
    assert watch.webhook.posts[-1]["check"] == "content_is_new"
    assert watch.recorded == {feed: True, ("no_file_is_stuck", "data_manager_log"): True}


def test_a_shop_that_was_not_synced_for_too_long_is_told(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    watch.place.put_reset("reset.csv", f"{HEADER}TEE-S,43,5,501\n")
    watch.place.succeed("import_inventory")
    for job in ("hard_sync", "upload_recent_inventory_changes"):
        watch.place.succeed(job, shop="SHOP")
    assert watch.tick(failed_checks_alert) == "Nothing to tell."
    monkeypatch.setattr(freshness, "_age", lambda moment: datetime.now(UTC) - moment + timedelta(minutes=61))
    watch.tick(failed_checks_alert)
    (post,) = watch.webhook.posts
    assert "upload_recent_inventory_changes last succeeded more than 1 hours ago" in post["message"]
    assert "for shop SHOP (20" in post["message"]
    monkeypatch.setenv("RECENT_SYNC_MAX_AGE_HOURS", "0")
    monkeypatch.setattr(freshness, "_age", lambda moment: datetime.now(UTC) - moment + timedelta(hours=27))
    watch.tick(failed_checks_alert)
    assert [post["asset"] for post in watch.webhook.posts[1:]] == ["reset_inventory_files", "hard_sync_upload"]


def test_a_sync_that_shopify_did_not_confirm_is_none(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    watch.place.put_reset("reset.csv", f"{HEADER}TEE-S,43,5,501\n")
    watch.place.succeed("import_inventory")
    watch.place.succeed("hard_sync", shop="SHOP")
    watch.place.put_reset("later.csv", f"{HEADER}TEE-S,43,6,501\n")
    watch.place.succeed("import_inventory")
    watch.place.simulator.faults.add(Fault("inventoryAdjustQuantities", "user_error", value="INVALID_LOCATION"))
    assert not watch.place.run("hard_sync", shop="SHOP").success
    (confirmed, refused) = (
        record.timestamp
        for record in reversed(
            watch.place.instance.fetch_materializations(dg.AssetKey("hard_sync_upload"), limit=2).records
        )
    )
    between = datetime.fromtimestamp((confirmed + refused) / 2, UTC)
    monkeypatch.setattr(freshness, "_age", lambda moment: timedelta(hours=27 if moment < between else 0))
    watch.tick(failed_checks_alert)
    assert "hard_sync last succeeded more than 26 hours ago" in " ".join(p["message"] for p in watch.webhook.posts)


def test_a_shop_that_was_never_synced_is_told(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESET_INVENTORY_MAX_AGE_HOURS", "0")
    watch.place.succeed("load_reference")
    assert watch.tick(failed_checks_alert) == "Nothing to tell."
    monkeypatch.setattr(freshness, "_age", lambda moment: datetime.now(UTC) - moment + timedelta(hours=27))
    watch.tick(failed_checks_alert)
    told = " ".join(post["message"] for post in watch.webhook.posts)
    assert "hard_sync last succeeded more than 26 hours ago (HARD_SYNC_MAX_AGE_HOURS) for shop SHOP (never)" in told
    assert "upload_recent_inventory_changes last succeeded more than" in told


def test_nobody_is_told_without_settings_and_nothing_is_lost_when_they_come(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ALERT_SMTP_URL")
    monkeypatch.delenv("ALERT_EMAIL_TO")
    url = watch.webhook.url
    monkeypatch.delenv("ALERT_WEBHOOK_URL")
    watch.place.run("import_inventory", {"inventory_reset": {"paths": ["nowhere.csv"]}})
    assert "set ALERT_WEBHOOK_URL" in watch.tick()
    monkeypatch.setenv("ALERT_WEBHOOK_URL", url)
    assert watch.tick() == "ALERT_WEBHOOK_URL: 1 told"


def test_mail_is_encrypted_where_the_server_can(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context, authority = certificate(tmp_path)
    mailbox = MailServer(context)
    monkeypatch.setenv("ALERT_SMTP_URL", f"smtp://ops:canary-mail@127.0.0.1:{mailbox.port}")
    monkeypatch.setenv("ALERT_EMAIL_TO", "ann@example.com")
    place.run("import_inventory", {"inventory_reset": {"paths": ["nowhere.csv"]}})
    with serving(mailbox):
        watch = Watch(place, Webhook(), mailbox)
        assert "cannot be used (SSLCertVerificationError)" in watch.tick(), "nobody vouches for the server"
        assert mailbox.logins == []
        monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        assert watch.tick() == "ALERT_SMTP_URL: 1 told"
        assert mailbox.logins == [("ops", "canary-mail", True)]
        mailbox.refuses = True
        place.run("import_inventory", {"inventory_reset": {"paths": ["elsewhere.csv"]}})
        refused = watch.tick()
        assert "ALERT_SMTP_URL refuses (535 SMTPAuthenticationError)" in refused
        assert "canary" not in refused


def test_a_mail_server_that_answers_slowly_each_time_is_left_in_the_end(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receivers, "TIMEOUT_SECONDS", 0.5)
    watch.mailbox.pause_seconds = 0.3
    watch.place.run("import_inventory", {"inventory_reset": {"paths": ["nowhere.csv"]}})
    assert "ALERT_SMTP_URL cannot be used" in watch.tick()
    assert watch.mailbox.messages == []


def certificate(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's context for 127.0.0.1, and the file of the authority that vouches for it: itself."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    authority = folder / "authority.pem"
    authority.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context, authority
