"""Everything at once on this machine: `python -m hotwax_inventory.dev` (make dev).

Simulator, webhook receiver, Dagster's UI and daemon, sensors and schedules on; what they make stays. Ctrl-C ends all but the
simulator's data."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import httpx

from hotwax_inventory import dagster_home, demo, settings, simulator
from hotwax_inventory.imports.feeds import FEEDS

RECEIVER_PORT = "3080"
READY_SECONDS = 120
STOP_SECONDS = 15


def main() -> int:
    dagster_home.prepare()
    with demo.simulating():
        return develop()


def develop() -> int:
    """All processes until Ctrl-C."""
    os.environ.setdefault("SFTP_STABLE_SECONDS", "5")
    reached = ""
    if settings.is_simulated():
        os.environ.setdefault("WEBHOOK_CALLBACK_URL", demo.callback_url(settings.webhook_port(RECEIVER_PORT)))
        addresses = simulator.ensure_running(settings.home() / "simulator", settings.reference_dir())
        for feed in FEEDS:
            for directory in settings.import_directories(feed.config_id, feed.directories):
                Path(addresses.sftp_directory, directory.lstrip("/")).mkdir(parents=True, exist_ok=True)
        reached = (
            f"SFTP: sftp -P {addresses.sftp_port} -o UserKnownHostsFile={addresses.sftp_known_hosts_file} "
            f"{addresses.sftp_username}@{addresses.sftp_host}  (password {addresses.sftp_password})\n"
            f"Shopify: {addresses.shopify_url}\n"
        )
    # a script's shell has its background jobs ignore Ctrl-C, and Dagster lets SIGTERM mean the same
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    with demo.receiving(settings.webhook_port(RECEIVER_PORT)):
        return run_dagster(reached)


def run_dagster(reached: str) -> int:
    """UI and daemon until Ctrl-C, with sensors and schedules on; the simulator's shops are taken over and synced first. Then it
    says how all is `reached`."""
    port = settings.dagster_port()
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "dagster", "dev", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", port]
    dagster = subprocess.Popen(command, cwd=settings.PROJECT, start_new_session=True)
    try:
        wait_until_ready(dagster, address)
        if settings.is_simulated():
            with dg.DagsterInstance.get() as instance:
                demo.run_job("load_reference", instance)
                demo.take_over(instance)
                # what has moved since is sent every quarter of an hour
                for shop_id in demo.simulated_shops(instance, "hotwax"):
                    demo.run_job("hard_sync", instance, shop_id)
        for kind in ("sensor", "schedule"):
            command = [sys.executable, "-m", "dagster", kind, "start", "--start-all", "-w", "workspace.yaml"]
            subprocess.run(command, cwd=settings.PROJECT, check=True, stdout=subprocess.DEVNULL)
        demo.say(f"\nReady: {address}  (sensors and schedules are on; Ctrl-C ends it)\n{reached}")
        return dagster.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        stop(dagster)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a `dagster dev` that leads a session of its own, and all that it has started."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(timeout=STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_until_ready(dagster: subprocess.Popen[bytes], address: str, seconds: float = READY_SECONDS) -> None:
    """Raises RuntimeError when Dagster ends, or does not answer in time."""
    deadline = time.monotonic() + seconds
    while dagster.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{address}/server_info", timeout=2).status_code == 200:
                return
        time.sleep(0.5)
    raise RuntimeError(f"Dagster does not answer at {address}; see its messages.")


if __name__ == "__main__":
    sys.exit(main())
