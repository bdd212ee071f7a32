"""Chromium walks Dagster's UI over the demo's data, as a person does: the graph, a run with parameters, two approvals."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from playwright.sync_api import Locator, Page, TimeoutError, expect, sync_playwright

from hotwax_inventory import dagster_home
from hotwax_inventory.settings import PROJECT
from hotwax_inventory.simulator import Simulator
from hotwax_inventory_tests.dagster_dev import Dev, dagster_dev, ended_run, until

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# as root, in a container, without a screen; and it calls nobody at home
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]
PATIENCE_MS = 120_000
STAGES = ("files", "imports", "ledger", "publish", "reconcile")
RESETS = "netsuite/inventoryitem/csv"
# where the picture of README goes, if it is to be made anew (make picture)
README_PICTURE = os.environ.get("README_PICTURE")

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(900),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: nobody walks the UI"),
]


# as much of the demo as there is to be seen here
JOBS = """
import dagster as dg
from hotwax_inventory import demo

instance = dg.DagsterInstance.get()
demo.put_samples()
for job, shop_id in (("load_reference", None), ("import_inventory", None), ("hard_sync", "DEMO_SHOP")):
    demo.run_job(job, instance, shop_id)
"""


class Ui:
    """A browser's window over a running Dagster."""

    def __init__(self, page: Page, dev: Dev, instance: dg.DagsterInstance, sftp: Path, pictures: Path) -> None:
        self.page = page
        self.dev = dev
        self.instance = instance
        self.sftp = sftp
        self.pictures = pictures

    def open(self, path: str) -> None:
        self.page.goto(self.dev.address + path)

    def see(self, text: str | re.Pattern[str]) -> Locator:
        """Wait until a text is on the page."""
        found = self.page.get_by_text(text).filter(visible=True).first
        expect(found).to_be_visible()
        return found

    def picture(self, name: str) -> None:
        self.page.screenshot(path=self.pictures / f"{name}.png")

    def check(self, asset: str, name: str, result: str) -> None:
        """Look at a check of an asset."""
        self.open(f"/assets/{asset}?view=checks&checkDetail={name}")
        self.see("Evaluation result")
        expect(self.page.get_by_text(result, exact=True).first).to_be_visible()

    def choose_partition(self, name: str) -> None:
        """Choose a partition in the launchpad that is open; it offers none until it has got to know them, and does not say when."""
        box, offered = self.page.get_by_placeholder("Partition"), self.page.get_by_role("menuitem", name=name)

        def is_offered() -> bool:
            box.fill("")
            box.fill(name)
            with contextlib.suppress(TimeoutError):
                offered.wait_for(timeout=1000)
            return offered.is_visible()

        until(is_offered, f"{name} is offered")
        offered.click()

    def launch(self, config: str, button: str) -> dg.DagsterRun:
        """Write a config into the launchpad that is open, press its button, and wait for the run's end."""
        self.page.locator(".CodeMirror").first.click()
        self.page.keyboard.press("ControlOrMeta+A")
        self.page.keyboard.insert_text(config)
        self.see("No errors")
        self.page.get_by_role("button", name=button).last.click()
        self.page.wait_for_url("**/runs/*")
        run = ended_run(self.page.url.rpartition("/")[2], self.instance)
        self.see("Success" if run.is_success else "Failure")
        return run


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ui]:
    """Stock is in, and one shop shows it; Dagster runs, no sensor does."""
    folder = tmp_path_factory.mktemp("browser")
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("SFTP_", "SHOPIFY_", "HOTWAX_", "DAGSTER_", "WEBHOOK_")):
                patch.delenv(name)
        patch.setenv("HOTWAX_HOME", str(folder))
        patch.setenv("DAGSTER_HOME", str(folder / "dagster"))
        patch.setenv("SFTP_STABLE_SECONDS", "0")
        dagster_home.prepare()
        with (
            Simulator(folder / "simulator", PROJECT / "data" / "reference") as simulator,
            dg.DagsterInstance.get() as instance,
            subprocess.Popen([sys.executable, "-c", JOBS], cwd=PROJECT, stdout=subprocess.DEVNULL) as jobs,
            dagster_dev(folder / "dagster.log") as dev,
            sync_playwright() as playwright,
        ):
            assert jobs.wait() == 0
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
            page = browser.new_page(viewport={"width": 1500, "height": 900})
            page.set_default_timeout(PATIENCE_MS)
            expect.set_options(timeout=PATIENCE_MS)
            yield Ui(page, dev, instance, Path(simulator.addresses.sftp_directory), folder)
            browser.close()


def test_the_graph_has_a_box_for_each_stage_in_the_order_of_the_process(ui: Ui) -> None:
    ui.open("/asset-groups")
    lefts = []
    for stage in STAGES:
        box = ui.page.locator("svg foreignObject", has_text=re.compile(f"^{stage}")).first.bounding_box()
        assert box, stage
        lefts.append(box["x"])
    ui.picture("graph")
    assert lefts == sorted(lefts)


def test_the_lineage_of_a_delta_shows_what_it_is_made_of(ui: Ui) -> None:
    ui.page.set_viewport_size({"width": 1500, "height": 1100})
    ui.open("/assets/hard_sync_delta?view=lineage")
    for asset in ("facility_atp", "online_atp", "shopify_inventory_level", "shopify_shop_product", "hard_sync_upload"):
        ui.see(asset)
    ui.see("Materialized")
    ui.page.wait_for_load_state("networkidle")
    ui.picture("lineage")
    if README_PICTURE:
        ui.page.screenshot(path=README_PICTURE, clip={"x": 322, "y": 245, "width": 1085, "height": 830})


def test_a_reset_by_path_is_held_and_what_it_leads_to_is_sent_when_a_person_approves_both(ui: Ui) -> None:
    newest = PROJECT / "data/samples" / RESETS / "2h-ago-InventoryItemExport.csv"
    nothing_left = re.sub(r",\d+,(\d+)$", r",0,\1", newest.read_text(), flags=re.MULTILINE)
    (ui.sftp / RESETS / "nothing-left.csv").write_text(nothing_left)
    config = f"ops:\n  inventory_reset:\n    config:\n      paths: [{RESETS}/nothing-left.csv]\n"

    ui.open("/locations/hotwax_inventory/jobs/import_inventory/playground")
    assert ui.launch(config, "Launch Run").is_success
    ui.picture("run")
    ui.open("/assets/inventory_reset?view=events")
    ui.see("files_in_this_run")
    ui.see("nothing-left.csv")
    ui.picture("metadata")
    ui.check("inventory_item_detail", "no_reset_is_held", "Failed")
    ui.see("and approve = true")
    ui.picture("held reset")

    ui.open("/locations/hotwax_inventory/jobs/import_inventory/playground")
    assert ui.launch(config + "      approve: true\n", "Launch Run").is_success
    ui.check("inventory_item_detail", "no_reset_is_held", "Passed")

    run = ended_run(ui.dev.launch("hard_sync", **{"dagster/partition": "DEMO_SHOP"}), ui.instance)
    assert not run.is_success
    ui.check("hard_sync_delta", "few_levels_go_to_zero", "Failed")
    ui.see("materialise hard_sync_upload alone with approve = true")
    ui.picture("held delta")

    ui.open("/assets/hard_sync_upload")
    ui.page.locator("button:right-of(:text('Materialize…'))").first.click()
    ui.see("Open launchpad").click()
    ui.choose_partition("DEMO_SHOP")
    assert ui.launch("ops:\n  hard_sync_upload:\n    config:\n      approve: true\n", "Materialize").is_success
    ui.open("/assets/hard_sync_upload?view=events&partition=DEMO_SHOP")
    ui.see("changes_applied")
    ui.picture("approved delta")
