"""Environment variables, read here and nowhere else. Nothing is cached: a value counts from the next use on.

Without those that say how the SFTP server is reached the embedded default runs: the simulator answers for it, and for every shop
without credentials."""

import contextlib
import os
import posixpath
import re
import shutil
import tempfile
import time
import zoneinfo
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import dotenv

from hotwax_inventory import simulator

PROJECT = Path(__file__).resolve().parents[1]
# Shorter secrets are not taken out of messages: ordinary words contain them.
SHORTEST_SECRET = 4
# More seconds, minutes or hours than this mean nothing.
LONGEST = 10_000_000


class SettingError(ValueError):
    """A variable is missing or unusable; the message names it and says what it takes."""


@dataclass(frozen=True)
class SftpSettings:
    """How one SFTP server is reached. `variables` is the prefix of the variables that said so, for error texts."""

    host: str
    port: int
    username: str
    password: str | None
    private_key_file: Path | None
    known_hosts_file: Path
    root: str
    variables: str = "SFTP_"

    def __repr__(self) -> str:
        return f"sftp://{self.username}@{self.host}:{self.port}{self.root}"


@dataclass(frozen=True)
class ShopSettings:
    """How one shop is reached: its base address and either a fixed token or a client-credentials pair."""

    shop_id: str
    url: str
    access_token: str | None
    client_id: str | None
    client_secret: str | None

    def __repr__(self) -> str:
        return f"{self.shop_id} at {self.url}"


def load_env_file() -> None:
    """Take what `.env` says into the environment; as with Dagster's own processes, it counts for more than what is there."""
    dotenv.load_dotenv(PROJECT / ".env", override=True)


def home() -> Path:
    """The folder of the warehouse, the landing area, the outbox and the webhook inbox."""
    return Path(os.environ.get("HOTWAX_HOME") or PROJECT / "data").expanduser().resolve()


def reference_dir() -> Path:
    """The folder of the reference CSVs."""
    return Path(os.environ.get("HOTWAX_REFERENCE_DIR") or PROJECT / "data" / "reference").expanduser().resolve()


def folder_of_home(*parts: str) -> Path:
    """A folder in the home, made where it is missing. Raises SettingError where that cannot be."""
    folder = home().joinpath(*parts)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingError(
            f"HOTWAX_HOME takes a folder that can be written; {folder} cannot be made ({error.strerror})."
        ) from error
    return folder


def landing_folder(config_id: str) -> Path:
    """Where the files of a feed land."""
    return folder_of_home("landing", file_name(config_id))


def outbox() -> Path:
    """Where delta files are; each shop has a folder there."""
    return folder_of_home("outbox")


def scratch_dir() -> Path:
    """Where decoded copies and DuckDB's spill files go; nothing there outlives its use."""
    return folder_of_home("scratch")


def is_left_over(path: Path) -> bool:
    """Whether a file or folder is older than a day, as nothing is that a living run works on."""
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_mtime < time.time() - 86_400
    return False


def temporary_folder() -> tempfile.TemporaryDirectory[str]:
    """A scratch folder of its own for one piece of work. What killed runs left there goes."""
    for path in scratch_dir().iterdir():
        if path.is_dir() and is_left_over(path):
            shutil.rmtree(path, ignore_errors=True)
    return tempfile.TemporaryDirectory(dir=scratch_dir())


def sftp(property_resource: str = "FTP_CONFIG") -> SftpSettings:
    """The SFTP server that a job's `property_resource` names; `FTP_CONFIG` is the `SFTP_*` variables, N reads `N_SFTP_*`."""
    prefix = "SFTP_" if property_resource == "FTP_CONFIG" else f"{_variable(property_resource)}_SFTP_"
    environment: Mapping[str, str] = os.environ
    if prefix == "SFTP_" and is_simulated():
        environment = {**os.environ, **_simulated_sftp()}
    known_hosts = environment.get(f"{prefix}KNOWN_HOSTS_FILE") or "~/.ssh/known_hosts"
    key_file = environment.get(f"{prefix}PRIVATE_KEY_FILE")
    return SftpSettings(
        host=_required(environment, f"{prefix}HOST", "the SFTP server's name or address"),
        port=_integer(environment, f"{prefix}PORT", 22, lowest=1, highest=65_535),
        username=_required(environment, f"{prefix}USERNAME", "the log-in name"),
        password=environment.get(f"{prefix}PASSWORD") or None,
        private_key_file=Path(key_file).expanduser() if key_file else None,
        known_hosts_file=Path(known_hosts).expanduser(),
        root=environment.get(f"{prefix}ROOT") or environment.get("SFTP_ROOT") or "/",
        variables=prefix,
    )


def shop(shop_id: str, shop_domain: str) -> ShopSettings:
    """The address and credentials of a shop; in the embedded default a shop without credentials is the simulator's.

    Raises SettingError when neither a token nor a complete client-credentials pair is given, or one cannot be right."""
    prefix = f"SHOPIFY_{_variable(shop_id)}_"
    token, client_id, client_secret = (
        _one_word(f"{prefix}{name}") for name in ("ACCESS_TOKEN", "CLIENT_ID", "CLIENT_SECRET")
    )
    if is_simulated(shop_id):
        addresses = simulator.ensure_running(home() / "simulator", reference_dir())
        return ShopSettings(shop_id, addresses.shop_url(shop_id), addresses.access_token, None, None)
    if not token and not (client_id and client_secret):
        raise SettingError(
            f"Shop {shop_id} has no credentials. Set {prefix}ACCESS_TOKEN, or both {prefix}CLIENT_ID and {prefix}CLIENT_SECRET."
        )
    url = _web_address(f"{prefix}URL")
    if not url:
        host = re.fullmatch(r"(?:https?://)?([A-Za-z0-9.-]+)/?", shop_domain)
        if not host:
            raise SettingError(
                f"Shop {shop_id} has no address. Give it its shop_domain, such as name.myshopify.com, in shopify_shop.csv "
                f"(it is {shop_domain!r}), or set {prefix}URL."
            )
        url = f"https://{host[1]}"
    return ShopSettings(shop_id, url, token, client_id, client_secret)


def webhook_secrets(shop_id: str) -> tuple[str, ...]:
    """The secrets that a shop's webhooks may be signed with: one, two while it is being replaced, none when none is set."""
    prefix = f"SHOPIFY_{_variable(shop_id)}_WEBHOOK_SECRET"
    secrets = [_one_word(prefix), _one_word(f"{prefix}_OLD")]
    if not any(secrets) and is_simulated(shop_id):
        secrets = [simulator.webhook_secret(home() / "simulator")]
    return tuple(secret for secret in secrets if secret)


def webhook_callback_url() -> str | None:
    """Where Shopify reaches the receiver, without a shop's id at the end; None when it does not."""
    return _web_address("WEBHOOK_CALLBACK_URL")


def import_directories(config_id: str, directories: tuple[str, ...]) -> tuple[str, ...]:
    """The remote directories of a feed, overridable by `<CONFIG_ID>_IMPORT_PATH` (several divided by commas)."""
    override = os.environ.get(f"{_variable(config_id)}_IMPORT_PATH", "")
    named = [remote_path(part.strip()) for part in override.split(",") if part.strip()]
    return tuple(dict.fromkeys(named)) or directories


def remote_path(path: str) -> str:
    """A path on the SFTP server as it is kept: relative to SFTP_ROOT, whether it is stated with a slash or without."""
    return posixpath.normpath(f"/{path}").lstrip("/")


def file_name(name: str) -> str:
    """A shop or config id as part of a local file name: every other character than letters, digits, - and _ as its code."""
    return re.sub(r"[^A-Za-z0-9_-]", lambda found: f".{ord(found[0]):x}", name)


def dagster_port() -> str:
    """The port of Dagster's UI in `make dev`."""
    return os.environ.get("DAGSTER_PORT") or "3000"


def webhook_port(default: str) -> str:
    """The port of the receiver that `make dev` and `make demo` start."""
    return os.environ.get("WEBHOOK_PORT") or default


def sftp_stable_seconds() -> int:
    """For how long a remote file must not have changed before it is taken."""
    return _integer(os.environ, "SFTP_STABLE_SECONDS", 30, highest=LONGEST)


def shopify_api_version() -> str:
    """The version of Shopify's Admin API that every request asks for."""
    version = os.environ.get("SHOPIFY_API_VERSION") or "2026-10"
    if not re.fullmatch(r"\d{4}-\d{2}|unstable", version):
        raise SettingError(f"SHOPIFY_API_VERSION takes a version such as 2026-10 (it is {version!r}).")
    return version


def shopify_deadline_seconds() -> int:
    """For how long one request to Shopify is tried again."""
    return _integer(os.environ, "SHOPIFY_DEADLINE_SECONDS", 120, lowest=1, highest=LONGEST)


def direct_push_limit() -> int:
    """Up to how many changes are sent by direct mutations; more go by bulk operation."""
    return _integer(os.environ, "DIRECT_PUSH_LIMIT", 1000)


def sync_max_changed_percent() -> int:
    """The share of a shop's mapped levels, in percent, that a delta may change without being approved."""
    return _integer(os.environ, "SYNC_MAX_CHANGED_PERCENT", 30)


def sync_max_zeroed_percent() -> int:
    """The share of a shop's mapped levels, in percent, that a delta may take to zero without being approved."""
    return _integer(os.environ, "SYNC_MAX_ZEROED_PERCENT", 5)


def sync_max_snapshot_minutes() -> int:
    """How old the read may be that a hard sync compares with."""
    return _integer(os.environ, "SYNC_MAX_SNAPSHOT_MINUTES", 240, lowest=1, highest=LONGEST)


def unmatched_max_percent() -> int:
    """The share of a shop's items, in percent, that may be matched to no product."""
    return _integer(os.environ, "UNMATCHED_MAX_PERCENT", 10)


def drift_max_percent() -> int:
    """The share of a shop's levels, in percent, that may be left with another number than ours."""
    return _integer(os.environ, "DRIFT_MAX_PERCENT", 5)


def drift_max_hours() -> int:
    """For how long a level may show another number than ours."""
    return _integer(os.environ, "DRIFT_MAX_HOURS", 48, lowest=1, highest=LONGEST)


def oversold_max_levels() -> int:
    """How many levels of a shop may be below zero, or offer more than there is, before somebody is told."""
    return _integer(os.environ, "OVERSOLD_MAX_LEVELS", 0)


def reset_rows_keep_days() -> int:
    """For how many days the rows of resets stay that made no entry."""
    return _keep_days("RESET_ROWS_KEEP_DAYS", 7)


def landing_keep_days() -> int:
    """For how many days landed files stay."""
    return _keep_days("LANDING_KEEP_DAYS", 30)


def outbox_keep_days() -> int:
    """For how many days delta files stay."""
    return _keep_days("OUTBOX_KEEP_DAYS", 30)


def dagster_runs_keep_days() -> int:
    """For how many days Dagster's runs stay."""
    return _keep_days("DAGSTER_RUNS_KEEP_DAYS", 90, lowest=1)


def disk_min_free_mb() -> int:
    """How many MB of the disk a run leaves free."""
    return _integer(os.environ, "DISK_MIN_FREE_MB", 500)


def reset_max_zeroed_percent() -> int:
    """The share of the keys with stock, in percent, that a reset may take to zero without being approved."""
    return _integer(os.environ, "RESET_MAX_ZEROED_PERCENT", 50)


def restock_time_zone() -> str:
    """The zone of the store's times of day."""
    name = os.environ.get("RESTOCK_TIME_ZONE") or "UTC"
    if name not in zoneinfo.available_timezones() or name == "localtime":  # a name that DuckDB does not know
        raise SettingError(f"RESTOCK_TIME_ZONE takes a zone such as America/New_York (it is {name!r}).")
    return name


def restock_lead_seconds() -> int:
    """How many seconds before its moment the run of a restock begins."""
    return _integer(os.environ, "RESTOCK_LEAD_SECONDS", 90, highest=LONGEST)


def kits_from_components() -> bool:
    """Whether kits are derived from their components (the default) or counted by NetSuite like any product."""
    value = os.environ.get("KIT_INVENTORY") or "components"
    if value not in ("components", "netsuite"):
        raise SettingError(f"KIT_INVENTORY takes 'components' or 'netsuite' (it is {value!r}).")
    return value == "components"


def hard_sync_cron() -> str:
    """When the daily hard sync is started."""
    from dagster._utils.schedules import (
        is_valid_cron_string,  # the receiver, which is to be light, does without Dagster
    )

    cron = os.environ.get("HARD_SYNC_CRON") or "30 6 * * *"
    if not is_valid_cron_string(cron):
        raise SettingError(f"HARD_SYNC_CRON takes a cron schedule such as 30 6 * * * (it is {cron!r}).")
    return cron


MAX_AGE_HOURS = {"RESET_INVENTORY": 26, "HARD_SYNC": 26, "RECENT_SYNC": 1}


def max_age_variable(name: str) -> str:
    """The variable that says how old a feed's newest file, or the last sync, may be."""
    return f"{_variable(name)}_MAX_AGE_HOURS"


def max_age_hours(name: str) -> int:
    """How old the newest file of a feed (its config id) may be, or the last HARD_SYNC or RECENT_SYNC; 0: any age."""
    return _integer(os.environ, max_age_variable(name), MAX_AGE_HOURS.get(name, 0), highest=LONGEST)


def alert_webhook_url() -> str | None:
    """Where alerts are posted as JSON; None: nowhere."""
    return os.environ.get("ALERT_WEBHOOK_URL") or None


def alert_smtp_url() -> str | None:
    """The mail server that alerts go to; None: no mail is sent."""
    return os.environ.get("ALERT_SMTP_URL") or None


def alert_email_to() -> list[str]:
    """Whom alerts are mailed to."""
    return [address.strip() for address in os.environ.get("ALERT_EMAIL_TO", "").split(",") if address.strip()]


SECRET = re.compile(r"(PASSWORD|_ACCESS_TOKEN|_CLIENT_SECRET|_WEBHOOK_SECRET(_OLD)?)$|^ALERT_(WEBHOOK|SMTP)_URL$")


def secrets() -> list[str]:
    """Every text in the variables that nobody may read, in the spellings in which it may turn up, the longest first."""
    found = {value for name, value in os.environ.items() if SECRET.search(name)}
    for name, value in os.environ.items():
        if name.endswith("PRIVATE_KEY_FILE"):
            with contextlib.suppress(OSError):  # what we cannot read, we cannot tell
                found |= set(Path(value).expanduser().read_text(encoding="utf-8", errors="replace").splitlines())
    for url in (os.environ.get("ALERT_WEBHOOK_URL", ""), os.environ.get("ALERT_SMTP_URL", "")):
        with contextlib.suppress(ValueError):  # no address, so it has no parts
            found |= {urlsplit(url).password or "", urlsplit(url).path, urlsplit(url).query}
    found |= {unquote(value) for value in found}
    return sorted((value for value in found if len(value) >= SHORTEST_SECRET), key=len, reverse=True)


def dagster_postgres() -> set[str]:
    """The `DAGSTER_PG_*` variables that are set: Dagster's storage is that PostgreSQL; none: its storage is SQLite.

    Raises SettingError when some are set, but not those that Dagster cannot do without."""
    names = [f"DAGSTER_PG_{part}" for part in ("HOST", "PORT", "USERNAME", "PASSWORD", "DB")]
    given = {name for name in names if os.environ.get(name)}
    if given:
        _required(os.environ, "DAGSTER_PG_HOST", "the name or address of the PostgreSQL server of Dagster's storage")
        _required(os.environ, "DAGSTER_PG_USERNAME", "the PostgreSQL role that owns Dagster's tables")
        _required(os.environ, "DAGSTER_PG_DB", "the PostgreSQL database of Dagster's tables; it must exist")
        _integer(os.environ, "DAGSTER_PG_PORT", 5432, lowest=1, highest=65_535)
    return given


def is_simulated(shop_id: str | None = None) -> bool:
    """Whether the simulator answers for SFTP and, where one is given, for a shop: no variable says how they are reached."""
    names = [
        f"SFTP_{name}" for name in ("HOST", "PORT", "USERNAME", "PASSWORD", "PRIVATE_KEY_FILE", "KNOWN_HOSTS_FILE")
    ]
    if shop_id is not None:
        prefix = f"SHOPIFY_{_variable(shop_id)}_"
        names += [f"{prefix}{name}" for name in ("ACCESS_TOKEN", "CLIENT_ID", "CLIENT_SECRET", "URL")]
    return not any(os.environ.get(name, "").strip() for name in names)


def _simulated_sftp() -> dict[str, str]:
    addresses = simulator.ensure_running(home() / "simulator", reference_dir())
    return {
        "SFTP_HOST": addresses.sftp_host,
        "SFTP_PORT": str(addresses.sftp_port),
        "SFTP_USERNAME": addresses.sftp_username,
        "SFTP_PASSWORD": addresses.sftp_password,
        "SFTP_KNOWN_HOSTS_FILE": addresses.sftp_known_hosts_file,
    }


def _variable(name: str) -> str:
    return re.sub(r"[^A-Z0-9]", "_", name.upper())


def _required(environment: Mapping[str, str], name: str, meaning: str) -> str:
    value = environment.get(name, "").strip()
    if not value:
        raise SettingError(f"{name} is not set. It takes {meaning}.")
    return value


def _one_word(name: str) -> str | None:
    """The value of a variable that goes into HTTP as it is: without the line end that a file of it has. Nobody may read it."""
    value = os.environ.get(name, "").strip()
    if not re.fullmatch(r"[!-~]*", value):
        raise SettingError(f"{name} has a blank, or a sign that is not ASCII, in it. Copy it again.")
    return value or None


def _web_address(name: str) -> str | None:
    """An address without a slash at its end; None when the variable is not set."""
    url = os.environ.get(name, "").strip().rstrip("/")
    if url and not re.fullmatch(r"https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(:[0-9]{1,5})?(/[!-~]*)?", url):
        # it is not shown, since it may hold a password
        raise SettingError(f"{name} takes an address such as https://host/path, without a user or a password in it.")
    return url or None


def _integer(environment: Mapping[str, str], name: str, default: int, lowest: int = 0, highest: int = 10**12) -> int:
    value = environment.get(name) or str(default)
    if not re.fullmatch(r"[0-9]{1,13}", value) or not lowest <= int(value) <= highest:
        raise SettingError(f"{name} takes a whole number from {lowest} to {highest} (it is {value[:100]!r}).")
    return int(value)


def _keep_days(name: str, default: int, lowest: int = 0) -> int:
    """For how many days something is kept; more than a hundred years are a hundred."""
    return min(_integer(os.environ, name, default, lowest), 36_500)
