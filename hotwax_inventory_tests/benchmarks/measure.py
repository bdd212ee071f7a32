"""How work is measured: each step in a process of its own, which states the step's time and the most memory that it had.

A step is a function of (folder, size); what it does is timed as a whole, the imports before it are not."""

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
# where `make bench` installs pandas, apart from everything else
PANDAS = PROJECT / ".venv" / "pandas"
OWN_VARIABLES = ("SFTP_", "SHOPIFY_", "HOTWAX_", "DAGSTER_")


@dataclass(frozen=True)
class Measured:
    """One step: its time, the processor's time for it (which a busy machine changes less), the peak of resident memory."""

    seconds: float
    processor_seconds: float
    peak_mib: float


@dataclass(frozen=True)
class Line:
    """A line of the table. The ratio is ours to the floor; `goal` is the largest that is good. No ours: `work` says why."""

    work: str
    floor: float = 0.0
    ours: float | None = None
    peak_mib: float | None = None
    goal: float = 0.0

    @property
    def ratio(self) -> float | None:
        return None if self.ours is None else self.ours / self.floor


def run(module: str, step: str, folder: Path, size: int) -> Measured:
    """Do a step of a benchmark in a new process. Raises CalledProcessError; the process has said why."""
    os.sync()  # what earlier steps wrote is not to be paid by this one
    done = subprocess.run(
        [sys.executable, "-m", module, step, str(folder), str(size)],
        env=environment(folder) | ({"PYTHONPATH": f"{PROJECT}:{PANDAS}"} if step.startswith("pandas") else {}),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    measured = Measured(**json.loads(done.stdout.splitlines()[-1]))
    say(f"  {step:<16}{measured.seconds:8.2f} s{measured.processor_seconds:8.2f} s CPU{measured.peak_mib:8,.0f} MiB")
    return measured


def environment(folder: Path) -> dict[str, str]:
    """The variables of a step: home and reference below its folder, nothing of what the caller has set for the project."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OWN_VARIABLES)}
    return kept | {
        "HOTWAX_HOME": str(folder / "home"),
        "HOTWAX_REFERENCE_DIR": str(folder / "reference"),
        "SFTP_STABLE_SECONDS": "0",
        "PYTHONPATH": str(PROJECT),
    }


def main(steps: Mapping[str, Callable[[Path, int], object]]) -> None:
    """What a benchmark's module does when it is run: one step, and its measurement on standard output."""
    step, folder, size = sys.argv[1:]
    started, worked = time.perf_counter(), time.process_time()
    steps[step](Path(folder), int(size))
    measured = Measured(
        seconds=time.perf_counter() - started,
        processor_seconds=time.process_time() - worked,
        peak_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    )
    say(json.dumps(asdict(measured)))


def repeat(
    module: str, steps: Mapping[str, object], folder: Path, size: int, repetitions: int, databases: Sequence[Path] = ()
) -> dict[str, list[Measured]]:
    """The first step once, then the others in turn so many times, each time with the databases as the first step left them."""
    prepare, *others = steps
    run(module, prepare, folder, size)
    for database in databases:
        shutil.copyfile(database, database.with_suffix(".kept"))
    found: dict[str, list[Measured]] = {step: [] for step in others}
    for _ in range(repetitions):
        for database in databases:
            shutil.copyfile(database.with_suffix(".kept"), database)
        for step in others:
            os.sync()  # what one step has written, and left for the disk to take, is not for the next one to wait for
            found[step].append(run(module, step, folder, size))
    return found


def best(measured: list[Measured]) -> float:
    return min(m.seconds for m in measured)


def peak(measured: list[Measured]) -> float:
    return max(m.peak_mib for m in measured)


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
