"""Everything at once on this machine: `python -m hotwax_inventory.dev` (make dev).

Simulator, Dagster's UI and daemon, sensors and schedules on; what they make stays. Ctrl-C ends all but the simulator's data."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import httpx

from hotwax_inventory import dagster_home, settings, simulator

PORT = os.environ.get("DAGSTER_PORT", "3000")
ADDRESS = f"http://127.0.0.1:{PORT}"
READY_SECONDS = 120
STOP_SECONDS = 15


def main() -> int:
    dagster_home.prepare()
    os.environ.setdefault("SFTP_STABLE_SECONDS", "5")
    if not os.environ.get("SFTP_HOST"):
        addresses = simulator.ensure_running(settings.home() / "simulator", settings.reference_dir())
        say(
            f"SFTP: sftp -P {addresses.sftp_port} -o UserKnownHostsFile={addresses.sftp_known_hosts_file} "
            f"{addresses.sftp_username}@{addresses.sftp_host}  (password {addresses.sftp_password})\n"
            f"Shopify: {addresses.shopify_url}"
        )
    dagster = subprocess.Popen(
        [sys.executable, "-m", "dagster", "dev", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", PORT],
        cwd=settings.PROJECT,
        start_new_session=True,
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        wait_until_ready(dagster, ADDRESS)
        for kind in ("sensor", "schedule"):
            command = [sys.executable, "-m", "dagster", kind, "start", "--start-all", "-w", "workspace.yaml"]
            subprocess.run(command, cwd=settings.PROJECT, check=True, stdout=subprocess.DEVNULL)
        say(f"\nReady: {ADDRESS}  (sensors and schedules are on; Ctrl-C ends it)\n")
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


def wait_until_ready(dagster: subprocess.Popen[bytes], address: str) -> None:
    """Raises RuntimeError when Dagster ends, or does not answer in time."""
    deadline = time.monotonic() + READY_SECONDS
    while dagster.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{address}/server_info", timeout=2).status_code == 200:
                return
        time.sleep(0.5)
    raise RuntimeError(f"Dagster does not answer at {address}; see its messages.")


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
