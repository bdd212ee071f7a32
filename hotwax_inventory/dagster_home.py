"""The folder of Dagster's own records, and how Dagster is set up there: `python -m hotwax_inventory.dagster_home` (make configure).

Runs, events, schedules and sensors are kept in SQLite below the folder, or in PostgreSQL when `DAGSTER_PG_HOST` is set."""

import os
import re
import sys
from pathlib import Path

from hotwax_inventory import settings

POSTGRES = re.compile(r"^# storage:\n(?:#  .*\n)+", re.MULTILINE)
VARIABLE = re.compile(r"env: (\w+)")


def prepare() -> Path:
    """Write dagster.yaml as the environment and `.env` ask for it, but not over one that is not ours; the folder, which
    DAGSTER_HOME names from then on.

    Raises SettingError when PostgreSQL is asked for in part only."""
    settings.load_env_file()
    home = Path(os.environ.setdefault("DAGSTER_HOME", str(settings.home() / "dagster")))
    home.mkdir(parents=True, exist_ok=True)
    text = configuration((settings.PROJECT / "dagster.yaml").read_text(encoding="utf-8"))
    path = home / "dagster.yaml"
    ours, _, _ = text.partition("\n")
    before = path.read_text(encoding="utf-8") if path.exists() else ours
    if not before.startswith(ours):
        sys.stderr.write(f"{path} is somebody's own and stays as it is.\n")
    elif before != text:
        path.write_text(text, encoding="utf-8")
    return home


def configuration(template: str) -> str:
    """The text of dagster.yaml, its PostgreSQL block in force when DAGSTER_PG_HOST is set. Dagster reads the variables
    itself, so that no password is written; a line whose variable is not set goes, since Dagster takes that for an error."""
    given = settings.dagster_postgres()
    if not given:
        return template

    def in_force(block: re.Match[str]) -> str:
        lines = block[0].replace("# ", "", 1).replace("\n# ", "\n").splitlines(keepends=True)
        return "".join(line for line in lines if set(VARIABLE.findall(line)) <= given)

    return POSTGRES.sub(in_force, template)


if __name__ == "__main__":
    sys.stdout.write(f"Dagster is set up in {prepare()}\n")
