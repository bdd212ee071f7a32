"""The table: `python -m hotwax_inventory_tests.benchmarks [SIZE] [--folder FOLDER] [--only SUBJECT …]`.

It says what holds and fails nothing. 10,000,000 rows are the goal's size; they need some 10 GB of disk below the folder."""

import argparse
import tempfile
from pathlib import Path

from hotwax_inventory_tests.benchmarks import (
    bulk_upload,
    feeds,
    hard_sync,
    import_run,
    landing,
    recent_sync,
    reset,
    shopify_source,
)
from hotwax_inventory_tests.benchmarks.measure import Line, say

SUBJECTS = {
    "reset": reset,
    "shopify_source": shopify_source,
    "feeds": feeds,
    "hard_sync": hard_sync,
    "recent_sync": recent_sync,
    "bulk_upload": bulk_upload,
    "landing": landing,
    "import_run": import_run,
}
MOST_MIB = 1024


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m hotwax_inventory_tests.benchmarks")
    parser.add_argument("size", nargs="?", type=int, default=1_000_000, help="rows of a reset, levels of a shop")
    parser.add_argument("--folder", help="where to work; everything there is removed afterwards")
    parser.add_argument("--only", nargs="+", choices=SUBJECTS, default=list(SUBJECTS), metavar="SUBJECT")
    chosen = parser.parse_args()
    lines: list[Line] = []
    for name in chosen.only:
        with tempfile.TemporaryDirectory(dir=chosen.folder, prefix=f"bench-{name}-") as folder:
            say(name)
            lines += SUBJECTS[name].benchmark(Path(folder), chosen.size)
    say("")
    for cells in [("work", "floor s", "ours s", "ratio", "peak MiB", "goal"), *map(row, lines)]:
        say("{:<48} {:>9} {:>9} {:>7} {:>9}  {}".format(*cells).rstrip())
    say(
        "\nfloor: bare DuckDB, pandas, OpenSSH's sftp, an empty job. Reset and hard sync: the best repetition; SFTP and the\n"
        f"daemon: the median. Peak is of the process that did only our work; its goal is {MOST_MIB:,} MiB."
    )


def row(line: Line) -> tuple[str, ...]:
    if line.ours is None or line.ratio is None:
        return line.work, "", "", "", "", ""
    missed = [
        *(["ratio missed"] if line.ratio > line.goal else []),
        *(["peak missed"] if (line.peak_mib or 0) > MOST_MIB else []),
    ]
    return (
        line.work,
        f"{line.floor:.2f}",
        f"{line.ours:.2f}",
        f"{line.ratio:.2f}",
        "" if line.peak_mib is None else f"{line.peak_mib:,.0f}",
        f"<= {line.goal:g}  {', '.join(missed)}",
    )


if __name__ == "__main__":
    main()
