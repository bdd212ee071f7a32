"""Stage 1 over real SFTP: which files are taken, when, in which state, and what a person is told about the others.

What both servers must do alike runs against the simulator's server and, where one is installed, against OpenSSH."""

import json
import os
import socket
import subprocess
import threading
import time
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncssh
import dagster as dg
import paramiko
import pytest
from asyncssh import SFTPName

from hotwax_inventory import resources, sftp
from hotwax_inventory.definitions import defs
from hotwax_inventory.files import landing, looking, names
from hotwax_inventory.imports import queue
from hotwax_inventory.imports.reset import FEED, ResetFiles
from hotwax_inventory.resources import Sftp, Warehouse
from hotwax_inventory.sftp import RemoteFile, SftpSession
from hotwax_inventory.sftp_errors import SftpRefused
from hotwax_inventory.simulator.faults import Fault
from hotwax_inventory.simulator.sftp_server import FaultyServer
from hotwax_inventory_tests.conftest import RESETS, Place
from hotwax_inventory_tests.fakes import sshd

HEADER = "Item,externalFacilityId,availableQty,idValue\n"
KEYS = [(product, facility) for product in (501, 502, 503) for facility in (43, 116, 281)]
A_DAY_AGO = time.time() - 86_400
IDS = {501: "10001", 502: "10002", 503: "10003", 43: "WAREHOUSE", 116: "BROADWAY", 281: "BROOKLYN"}


def reset(quantity: int, key: int = 0) -> str:
    """A reset file of one row, for the key of that number."""
    product, facility = KEYS[key]
    return f"{HEADER}ITEM,{facility},{quantity},{product}\n"


def named(key: int) -> tuple[str, str]:
    product, facility = KEYS[key]
    return IDS[product], IDS[facility]


def available(place: Place) -> dict[tuple[str, str], int]:
    return {key: promise for key, (_, promise) in place.stock().items()}


def statuses(place: Place) -> list[tuple[str, str]]:
    return [(name, status) for name, status, *_ in place.logs()]


def waiting(place: Place) -> set[str]:
    """The names that still lie in the directory of the resets."""
    return names_in(place.sftp_directory / RESETS)


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"archive"}


def archived(place: Place) -> dict[str, str]:
    folder = place.sftp_directory / RESETS / "archive"
    return {path.name: path.read_text() for path in folder.iterdir()} if folder.exists() else {}


def metadata(run: dg.ExecuteInProcessResult) -> dict[str, Any]:
    (event,) = run.asset_materializations_for_node("inventory_reset")
    return {name: value.value for name, value in event.metadata.items()}


def failure(run: dg.ExecuteInProcessResult) -> str:
    assert not run.success
    return " ".join(
        str(event.step_failure_data.error) for event in run.get_step_failure_events() if event.step_failure_data
    )


def take(**config: Any) -> landing.Landing:
    """Land what a config asks for, without a run."""
    source = ResetFiles(**config).source(FEED)
    return landing.land(FEED, source, "run", Sftp(), Warehouse())


@pytest.fixture(
    params=[
        "simulator",
        pytest.param(
            "openssh",
            marks=pytest.mark.skipif(
                sshd.PROGRAM is None, reason="no sshd here: OpenSSH is covered where openssh-server is installed"
            ),
        ),
    ]
)
def served(
    request: pytest.FixtureRequest, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    """A place whose files one of the servers serves."""
    with ExitStack() as running:
        if request.param == "openssh":
            for name, value in running.enter_context(sshd.openssh(tmp_path / "ssh", place.sftp_directory)).items():
                monkeypatch.setenv(name, value)
        yield place


class Clock:
    """Stands for the module `time` in the landing stage: looks far apart cost no time, and something can happen in between."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0
        self.slept = 0.0
        self.meanwhile: Callable[[], object] = lambda: None

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept += seconds
        self.meanwhile()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(landing, "time", found)
    monkeypatch.setattr(looking, "time", found)
    return found


def looked(place: Place, cursor: str | None = None) -> Any:
    """What the sensor of the resets says of one look."""
    sensor = defs.get_repository_def().get_sensor_def("import_inventory_files")
    with dg.build_sensor_context(instance=place.instance, resources={"sftp": Sftp()}, cursor=cursor) as context:
        return sensor.evaluate_tick(context)


def tick(place: Place) -> dg.SkipReason | dg.RunRequest:
    """One tick of the sensor of the resets."""
    found = looked(place)
    if found.skip_message:
        return dg.SkipReason(found.skip_message)
    assert found.run_requests
    (request,) = found.run_requests
    return request


def skipped(place: Place) -> str:
    reason = tick(place)
    assert isinstance(reason, dg.SkipReason)
    return reason.skip_message or ""


def requested(place: Place) -> str:
    request = tick(place)
    assert isinstance(request, dg.RunRequest)
    assert request.run_key
    return request.run_key


# --- which files, and where they go


def test_before_there_is_a_reference_files_stay_where_they_are(empty_place: Place) -> None:
    path = empty_place.put_reset("a.csv", f"{HEADER}TEE-S,43,10,501\n")
    before = requested(empty_place)
    assert "Run load_reference" in empty_place.failure(empty_place.run("import_inventory"))
    assert path.exists()
    assert empty_place.logs() == []
    empty_place.succeed("load_reference")
    assert requested(empty_place) != before
    empty_place.succeed("import_inventory")
    assert empty_place.logs() == [("a.csv", "finished", 1, 0, 0)]


def test_a_file_that_comes_back_as_it_was_is_asked_for_again(place: Place) -> None:
    path, cursor, keys = place.put_reset("a.csv", f"{HEADER}TEE-S,43,10,501\n"), None, []
    for _ in range(2):
        for _ in range(2):
            found = looked(place, cursor)
            cursor = found.cursor
            keys += [request.run_key for request in found.run_requests or ()]
        place.succeed("import_inventory")
        cursor = looked(place, cursor).cursor
        (path.parent / "archive" / "a.csv").rename(path)
    assert [keys[0] == keys[1], keys[2] == keys[3], keys[1] == keys[2]] == [True, True, False]
    seen = place.instance.fetch_observations(dg.AssetKey("reset_inventory_files"), limit=9).records
    assert [record.asset_observation.metadata["files"].value for record in seen if record.asset_observation] == [1, 1]


def test_a_taken_file_goes_to_the_archive_and_overwrites_nothing_there(served: Place) -> None:
    served.put(f"{RESETS}/archive/reset.csv", "first")
    served.put(f"{RESETS}/archive/reset.csv.1", "second")
    served.put_reset("reset.csv", reset(5), A_DAY_AGO)
    assert served.run("import_inventory").success
    assert waiting(served) == set()
    assert archived(served) == {"reset.csv": "first", "reset.csv.1": "second", "reset.csv.2": reset(5)}
    assert available(served) == {named(0): 5}

    served.put_reset("reset.csv", reset(6))
    assert served.run("import_inventory").success
    assert archived(served)["reset.csv.3"] == reset(6)
    assert statuses(served) == [("reset.csv", "finished")] * 2
    assert available(served) == {named(0): 6}


HOSTILE = (
    b"a..b.csv",
    b"..csv",
    b"back\\slash.csv",
    b"new\nline.csv",
    b"control\x01.csv",
    b"delete\x7f.csv",
    "turned\u202e.csv".encode(),
    b"latin-\xe9.csv",
    b"\xff\xfe.csv",
)
UNFINISHED = (b".hidden.csv", b"reset.csv.part", b"reset.csv.TMP", b"reset.csv.filepart", b"reset.csv.writing")


def test_hostile_names_links_and_directories_are_left_and_harm_no_other_file(served: Place) -> None:
    folder = served.put_reset("good.csv", reset(5)).parent
    longest = "l" * 251 + ".csv"
    served.put_reset(longest, reset(7, key=1))
    for name in HOSTILE + UNFINISHED:
        (folder / os.fsdecode(name)).write_text(reset(99))
    (folder / "directory.csv").mkdir()
    os.mkfifo(folder / "pipe.csv")
    secret = served.home.parent / "outside.csv"
    secret.write_text(reset(99))
    (folder / "link.csv").symlink_to(secret)
    (folder / "dangling.csv").symlink_to(folder / "nowhere")
    run = served.run("import_inventory", {"inventory_reset": {"file_name_regex": "*"}})
    assert run.success
    assert {name for name, _ in statuses(served)} == {"good.csv", longest}
    assert available(served) == {named(0): 5, named(1): 7}
    assert {os.fsencode(name) for name in waiting(served)} == {
        *HOSTILE,
        *UNFINISHED,
        *(b"directory.csv", b"pipe.csv", b"link.csv", b"dangling.csv"),
    }
    told = metadata(run)["left_on_sftp"].splitlines()
    assert len([line for line in told if "name" in line]) == len(HOSTILE), "one line a name"
    assert secret.read_text() == reset(99)


def test_names_that_only_a_lying_server_lists_are_left_and_harm_no_other_file(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = FaultyServer.scandir
    lies = (b"../../escaped.csv", b"sub/inner.csv", b"n" * 300 + b".csv", b"nul\0.csv", b"/etc/passwd.csv")

    async def scandir(self: FaultyServer, path: bytes) -> AsyncIterator[SFTPName]:
        async for name in real(self, path):
            if name.filename == b"good.csv":
                for lie in lies:
                    yield SFTPName(lie, attrs=name.attrs)
            yield name

    monkeypatch.setattr(FaultyServer, "scandir", scandir)
    place.put_reset("good.csv", reset(5))
    place.put("escaped.csv", reset(99))
    place.put(f"{RESETS}/sub/inner.csv", reset(99))
    run = place.run("import_inventory")
    assert run.success
    assert statuses(place) == [("good.csv", "finished")]
    assert available(place) == {named(0): 5}
    left = metadata(run).get("left_on_sftp", "")
    assert all(part in left for part in ("escaped.csv", "sub/inner.csv", "nnnnnn", "nul"))
    assert [path.name for path in place.home.rglob("*.csv")] == [landed_name(place)]


def landed_name(place: Place) -> str:
    return Path(place.rows("select landed_path from data_manager_log")[0][0]).name


NAMES = ("a.b.csv", "aXb.csv", "A.B.csv", "other.csv", "count[1].csv", "count1.csv", "list.txt")


@pytest.mark.parametrize(
    ("config", "taken"),
    [
        ({}, {*NAMES} - {"list.txt"}),
        ({"remote_filename": "a.b.csv"}, {"a.b.csv"}),
        ({"remoteFilename": "count[1].csv"}, {"count[1].csv"}),
        ({"remote_filename": "missing.csv"}, set()),
        ({"file_name_regex": "o*.csv"}, {"other.csv"}),
        ({"file_name_regex": r"[a-z]+\.txt"}, {"list.txt"}),
        ({"fileNameRegex": "count?.csv"}, {"count1.csv"}),
        ({"file_name_regex": "*"}, {*NAMES}),
        ({"import_path": "elsewhere"}, {"far.csv"}),
        ({"importPath": "/elsewhere", "file_name_regex": "near*"}, set()),
        ({"paths": [f"{RESETS}/list.txt", "elsewhere/far.csv"]}, {"list.txt", "far.csv"}),
        ({"paths": [f"{RESETS}/a.b.csv", f"/{RESETS}/a.b.csv", f"{RESETS}/a.b.csv"]}, {"a.b.csv"}),
        ({"propertyResource": "NETSUITE", "importPath": "elsewhere"}, {"far.csv"}),
    ],
    ids=lambda value: str(sorted(value)) if isinstance(value, set) else str(value),
)
def test_the_run_takes_the_files_that_its_config_means(
    place: Place, monkeypatch: pytest.MonkeyPatch, config: dict[str, Any], taken: set[str]
) -> None:
    for name, value in place.simulator.environment().items():
        if name.startswith("SFTP_"):
            monkeypatch.setenv(f"NETSUITE_{name}", value)
    if "propertyResource" in config:
        monkeypatch.setenv("SFTP_HOST", "not.to.be.asked")
    for number, name in enumerate(NAMES):
        place.put_reset(name, reset(number))
    place.put("elsewhere/far.csv", reset(50))
    take(**config)
    assert sorted(name for name, *_ in place.logs()) == sorted(taken), "each once"
    left = {*NAMES, "far.csv"} - taken
    assert waiting(place) | names_in(place.sftp_directory / "elsewhere") == left


def test_hotwax_spellings_of_the_parameters_are_understood_by_the_job(place: Place) -> None:
    for name in ("wanted.csv", "other.csv"):
        place.put(f"elsewhere/{name}", HEADER.replace("Item", "locationSeqId") + ",43,5,840001\n")
    config = {
        "configId": "SPECIAL",
        "propertyResource": "FTP_CONFIG",
        "importPath": "elsewhere",
        "remoteFilename": "wanted.csv",
        "fileNameRegex": "*.never",
        "locationSeqId": "A1",
        "scheduleNow": False,
        "id_type": "UPCA",
    }
    assert place.run("import_inventory", {"inventory_reset": config}).success
    assert place.rows("select config_id, file_name, status_id from data_manager_log") == [
        ("SPECIAL", "wanted.csv", "pending")
    ]
    assert place.stock() == {}
    assert place.run("import_inventory", {"inventory_reset": {"config_id": "SPECIAL", "paths": []}}).success
    assert available(place) == {named(0): 5}, "the later run reads the rows as the earlier one was told to"
    assert place.rows("select location_seq_id from inventory_reset") == [("A1",)]


def test_schedule_now_false_registers_the_files_and_a_later_run_imports_them(place: Place) -> None:
    place.put_reset("reset.csv", reset(5))
    assert place.run("import_inventory", {"inventory_reset": {"schedule_now": False}}).success
    assert statuses(place) == [("reset.csv", "pending")]
    assert waiting(place) == set()
    assert place.stock() == {}
    assert place.run("import_inventory").success
    assert statuses(place) == [("reset.csv", "finished")]
    assert available(place) == {named(0): 5}


def test_a_run_that_died_after_it_had_landed_its_path_can_be_run_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.put_reset("reset.csv", reset(5))
    config = {"inventory_reset": {"paths": [f"{RESETS}/reset.csv"]}}
    with monkeypatch.context() as dying:
        dying.setattr(queue, "import_pending", lambda *_: (_ for _ in ()).throw(KeyError("killed")))
        assert not place.run("import_inventory", config).success
    assert statuses(place) == [("reset.csv", "pending")]
    assert place.run("import_inventory", config).success
    assert available(place) == {named(0): 5}
    assert "If it was taken before, data_manager_log says" in failure(place.run("import_inventory", config))


def test_a_path_that_is_not_there_fails_the_run_by_name_and_imports_nothing(served: Place) -> None:
    served.put_reset("here.csv", reset(5))
    (served.sftp_directory / RESETS / "directory.csv").mkdir()
    for missing in ("gone.csv", "directory.csv"):
        paths = [f"{RESETS}/here.csv", f"{RESETS}/{missing}"]
        told = failure(served.run("import_inventory", {"inventory_reset": {"paths": paths}}))
        assert f"{RESETS}/{missing} is not a regular file" in told
        assert "Correct the path" in told
    assert waiting(served) == {"here.csv", "directory.csv"}
    assert served.logs() == []


@pytest.mark.parametrize("name", ["reset.csv.part", ".reset.csv", "reset\t.csv"])
def test_a_path_that_is_asked_for_and_not_taken_is_said(empty_place: Place, name: str) -> None:
    empty_place.put_reset(name, reset(5))
    run = empty_place.run("import_inventory", {"inventory_reset": {"paths": [f"{RESETS}/{name}"]}})
    assert empty_place.logs() == []
    told = metadata(run).get("left_on_sftp", "") if run.success else failure(run)
    assert ascii(name).strip("'") in told


# --- when: settled files, and the sensor


def test_a_file_that_grows_between_the_looks_of_a_run_is_left_alone_and_taken_later(
    served: Place, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SFTP_STABLE_SECONDS", "30")
    served.put_reset("whole.csv", reset(5))
    served.put_reset("growing.csv", HEADER, A_DAY_AGO)
    clock.meanwhile = lambda: served.put_reset("growing.csv", reset(7, key=1))
    run = served.run("import_inventory")
    assert run.success
    assert clock.slept == 30
    assert available(served) == {named(0): 5}
    assert waiting(served) == {"growing.csv"}
    assert "growing.csv" in metadata(run)["left_on_sftp"]

    clock.meanwhile = lambda: None
    assert served.run("import_inventory").success
    assert available(served) == {named(0): 5, named(1): 7}
    assert statuses(served) == [("whole.csv", "finished"), ("growing.csv", "finished")]


def test_the_sensor_starts_one_run_when_nothing_has_changed_for_two_ticks(
    served: Place, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SFTP_STABLE_SECONDS", "30")
    assert skipped(served) == "No files."
    served.put_reset("growing.csv", HEADER, A_DAY_AGO)
    for content in (HEADER, HEADER + "ITEM,43,", reset(7)):
        served.put_reset("growing.csv", content, A_DAY_AGO)
        assert skipped(served) == "1 files are not settled yet."
        clock.now += 29.9
        assert skipped(served) == "1 files are not settled yet."
        clock.now += 0.05
    clock.now += 0.05
    first = requested(served)
    assert requested(served) == first

    assert served.run("import_inventory").success
    assert clock.slept == 0, "the sensor's looks count for the run"
    assert available(served) == {named(0): 7}
    assert skipped(served) == "No files."


def test_the_time_since_a_look_starts_anew_when_the_clock_is_set_back(
    empty_place: Place, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SFTP_STABLE_SECONDS", "30")
    empty_place.put_reset("reset.csv", reset(7))
    assert "not settled" in skipped(empty_place)
    clock.now -= 3600
    assert "not settled" in skipped(empty_place)
    clock.now += 30
    assert requested(empty_place)


def test_the_run_key_changes_with_the_names_sizes_and_times_of_the_files(empty_place: Place) -> None:
    keys = []
    for name, content, moment in (
        ("reset.csv", reset(7), 1_700_000_000),
        ("reset.csv", reset(7), 1_700_000_001),
        ("reset.csv", reset(70), 1_700_000_001),
        ("reset-2.csv", reset(7), 1_700_000_000),
    ):
        empty_place.put_reset(name, content, moment)
        keys.append(requested(empty_place))
    assert len(set(keys)) == len(keys)
    assert all(key.startswith("RESET_INVENTORY:") for key in keys)


def test_the_sensor_waits_for_the_run_that_is_in_progress(empty_place: Place) -> None:
    empty_place.put_reset("reset.csv", reset(7))
    job = defs.resolve_job_def("import_inventory")
    running = empty_place.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    assert running.run_id[:8] in skipped(empty_place)
    empty_place.instance.report_run_canceled(running)
    assert requested(empty_place)


# --- files that change while they are taken

BIG = HEADER.replace("\n", ",comments\n") + "".join(
    f"ITEM,{facility},{7 + number},{product},{'x' * 80_000}\n" for number, (product, facility) in enumerate(KEYS)
)
BIG_STOCK = {named(number): 7 + number for number in range(len(KEYS))}
LATER, IN_THIS_RUN = False, True


@pytest.mark.parametrize(
    ("fault", "taken"),
    [
        (Fault("sftp.read", "grow_while_reading"), LATER),
        (Fault("sftp.read", "grow_while_reading", value=300_000), LATER),
        (Fault("sftp.read", "short_read", value=0, times=2), LATER),
        (Fault("sftp.read", "short_read", value=300_000, times=2), LATER),
        (Fault("sftp.read", "short_read", value=300_000), IN_THIS_RUN),
        (Fault("sftp.read", "wrong_size", value=1), LATER),
        (Fault("sftp.read", "wrong_size", value=-1), LATER),
        (Fault("sftp.listdir", "wrong_size", value=100), LATER),
        (Fault("sftp.listdir", "wrong_size", value=-100), LATER),
        (Fault("sftp.read", "fail"), IN_THIS_RUN),
        (Fault("sftp.open", "fail"), IN_THIS_RUN),
        (Fault("sftp.rename", "fail"), IN_THIS_RUN),
        (Fault("sftp.listdir", "fail"), IN_THIS_RUN),
        *(
            (Fault("sftp.read", "disconnect_at_byte", value=byte, times=2), IN_THIS_RUN)
            for byte in (0, 1, sftp.REQUEST_BYTES - 1, sftp.REQUEST_BYTES, 2 * sftp.REQUEST_BYTES, len(BIG) - 1)
        ),
    ],
    ids=lambda value: f"{value.where} {value.kind} {value.value}" if isinstance(value, Fault) else "",
)
def test_a_transfer_that_goes_wrong_never_yields_half_a_file(
    place: Place, monkeypatch: pytest.MonkeyPatch, fault: Fault, taken: bool
) -> None:
    monkeypatch.setattr(sftp, "STALL_SECONDS", 3)
    monkeypatch.setattr(resources, "SftpSession", lambda server, _: SftpSession(server, 30 if taken else 3))
    file = place.put_reset("reset.csv", BIG, A_DAY_AGO)
    place.simulator.faults.add(fault)
    run = place.run("import_inventory")
    assert run.success
    assert place.simulator.faults.waiting() == []
    assert available(place) == (BIG_STOCK if taken else {})
    assert ("reset.csv" in metadata(run).get("left_on_sftp", "")) is not taken
    assert unregistered(place) == set()
    if not taken:
        content = file.read_text()
        assert place.run("import_inventory").success
        assert archived(place) == {"reset.csv": content}
    grown = len(archived(place)["reset.csv"]) > len(BIG)
    assert place.logs() == [("reset.csv", "finished_with_errors" if grown else "finished", 9 + grown, int(grown), 0)]
    assert available(place) == BIG_STOCK


def unregistered(place: Place) -> set[str]:
    """What lies in the landing area and belongs to no registered file."""
    known = {Path(path).name for (path,) in place.rows("select landed_path from data_manager_log")}
    found = {path.name for path in (place.home / "landing" / "RESET_INVENTORY").iterdir()}
    return {name for name in found - known if not name.startswith("looks-") and "failed-records" not in name}


def test_a_connection_that_is_cut_every_time_fails_the_run_and_the_next_one_takes_the_file(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.put_reset("first.csv", reset(5), A_DAY_AGO)
    place.put_reset("second.csv", BIG)
    place.simulator.faults.add(Fault("sftp.read", "disconnect_at_byte", at_call=0, value=300_000, only="second"))
    with monkeypatch.context() as hurried:
        hurried.setattr(resources, "SftpSession", lambda server, _: SftpSession(server, 0))
        assert "1 of 2 files are left for the next run: " in (told := failure(place.run("import_inventory")))
        assert "cannot be reached" in told
        assert statuses(place) == [("first.csv", "finished")]
        assert not list((place.home / "landing").rglob("*.part"))
        place.simulator.faults.clear()
        # however long one try takes, another follows
        place.simulator.faults.add(Fault("sftp.read", "disconnect_at_byte", value=300_000, only="second"))
        assert place.run("import_inventory").success
    assert statuses(place) == [("first.csv", "finished"), ("second.csv", "finished")]
    assert available(place) == BIG_STOCK


CHANGES: dict[str, Callable[[Path, str], object]] = {
    "grown": lambda path, new: path.write_text(path.read_text() + new.removeprefix(HEADER)),
    "overwritten": lambda path, new: path.write_text(new),
    "truncated": lambda path, new: path.write_text(new[:-4]),
    "replaced": lambda path, new: replace(path, new),
    "renamed": lambda path, new: path.rename(path.with_name(f"new-{path.name}")),
    "removed": lambda path, new: path.unlink(),
}


def replace(path: Path, content: str) -> None:
    other = path.with_name(".upload")
    other.write_text(content)
    other.replace(path)


@pytest.mark.parametrize(
    ("owner", "name", "happens"),
    [
        (SftpSession, "_copy", "after"),  # read, but the last look at it still to come
        (landing, "register", "before"),
        (SftpSession, "archive", "before"),
        (SftpSession, "_move", "before"),  # between the last look and the rename
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_that_changes_while_it_is_taken_counts_whole_old_or_new_and_the_new_one_is_never_lost(
    served: Place, monkeypatch: pytest.MonkeyPatch, owner: object, name: str, happens: str
) -> None:
    read = name == "_copy"
    folder = served.sftp_directory / RESETS
    for number, change in enumerate(CHANGES):
        served.put_reset(f"{change}.csv", reset(10 + number, key=number), A_DAY_AGO)
    real, pending = getattr(owner, name), dict(CHANGES)

    def changing(*arguments: Any) -> Any:
        result = real(*arguments) if happens == "after" else None
        path = next((a.path if isinstance(a, RemoteFile) else a for a in arguments[1:] if _names_a_file(a)), None)
        for change in list(pending):
            if name == "register" or (path is not None and path.endswith(f"/{change}.csv")):
                number = list(CHANGES).index(change)
                pending.pop(change)(folder / f"{change}.csv", reset(20 + number, key=number))
        return result if happens == "after" else real(*arguments)

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(owner, name, changing)
        run = served.run("import_inventory")
        assert run.success
    assert pending == {}
    old = {named(number): 10 + number for number in range(len(CHANGES))}
    assert available(served) == ({} if read else old)
    assert waiting(served) == {"grown.csv", "overwritten.csv", "truncated.csv", "replaced.csv", "new-renamed.csv"}

    assert served.run("import_inventory").success
    new = {named(number): 20 + number for number, change in enumerate(CHANGES) if change not in ("renamed", "removed")}
    # cut in the middle of the identifier, that row is refused; a name of its own does not make a file's content new
    truncated, renamed, removed = (named(list(CHANGES).index(c)) for c in ("truncated", "renamed", "removed"))
    expected = (old | new) if not read else new | {renamed: old[renamed]}
    expected = {key: quantity for key, quantity in expected.items() if key != truncated or not read}
    if not read:
        expected |= {truncated: old[truncated], removed: old[removed]}
    assert available(served) == expected
    assert waiting(served) == set()
    last = dict(statuses(served))
    assert last["truncated.csv"] == "finished_with_errors"
    assert last["new-renamed.csv"] == ("finished" if read else "duplicate")
    assert len(served.logs()) == (5 if read else 11)
    assert unregistered(served) == set()


def _names_a_file(argument: object) -> bool:
    return isinstance(argument, RemoteFile) or (isinstance(argument, str) and argument.endswith(".csv"))


def test_an_archive_that_cannot_be_made_stops_the_run_at_once_and_says_so(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: FaultyServer, path: bytes, attrs: object) -> None:
        raise asyncssh.SFTPPermissionDenied("no")

    place.put_reset("reset.csv", reset(5))
    monkeypatch.setattr(sftp, "MOST_SUFFIXES", 500)
    asked = 0
    real = SftpSession.look

    def counted(self: SftpSession, path: str) -> RemoteFile | None:
        nonlocal asked
        asked += 1
        return real(self, path)

    with monkeypatch.context() as forbidden:
        forbidden.setattr(FaultyServer, "mkdir", refuse)
        forbidden.setattr(SftpSession, "look", counted)
        told = failure(place.run("import_inventory"))
    assert f"{RESETS}/archive" in told
    assert "rights" in told
    assert asked < 5, f"{asked} tries at what will not work"
    assert place.run("import_inventory").success
    assert statuses(place) == [("reset.csv", "finished")]
    assert available(place) == {named(0): 5}


def test_what_nobody_can_take_is_told_by_a_check_and_one_directory_is_looked_at_once(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESET_INVENTORY_IMPORT_PATH", f"{RESETS}, /{RESETS}/")
    place.put_reset("reset.csv", reset(5))
    place.put_reset("a\u00a0b.csv", reset(6))
    result = place.succeed("import_inventory", {"inventory_reset": {"allow_duplicate_content": True}})
    assert statuses(place) == [("reset.csv", "finished")]
    (check,) = [check for check in result.get_asset_check_evaluations() if check.check_name == "files_readable"]
    assert not check.passed
    assert "b.csv' stays on SFTP: its name has characters that no file name should have." in (check.description or "")
    assert "No files. 1 are left" in skipped(place)


def test_a_spoilt_memory_of_looks_only_lets_files_wait_once_more(place: Place) -> None:
    place.put_reset("first.csv", reset(5))
    assert place.run("import_inventory").success
    (memory,) = (place.home / "landing" / "RESET_INVENTORY").glob("looks-*.json")
    memory.write_bytes(b"")
    place.put_reset("second.csv", reset(6))
    assert place.run("import_inventory").success
    assert available(place) == {named(0): 6}


@pytest.mark.parametrize(
    "answer",
    [asyncssh.SFTPPermissionDenied("no"), asyncssh.SFTPFailure("another process has it open")],
    ids=["rights", "failure"],
)
def test_what_the_server_refuses_keeps_no_other_file_back_and_ends_the_run_red(
    place: Place, monkeypatch: pytest.MonkeyPatch, answer: asyncssh.SFTPError
) -> None:
    strike, lstat = FaultyServer._strike, FaultyServer.lstat

    async def forbid(server: FaultyServer, where: str, path: bytes) -> Fault | None:
        if b"closed" in path:
            raise answer
        return await strike(server, where, path)

    def look(server: FaultyServer, path: bytes) -> Any:
        if b"closed/" in path:
            raise answer
        return lstat(server, path)

    monkeypatch.setenv("RESET_INVENTORY_IMPORT_PATH", f"closed,{RESETS}")
    place.put("closed/earlier.csv", reset(4))
    place.succeed("import_inventory")
    place.rows("update data_manager_log set archived_at = null")  # as if the run had been killed before it said so
    monkeypatch.setattr(FaultyServer, "_strike", forbid)
    monkeypatch.setattr(FaultyServer, "lstat", look)
    place.put("closed/reset.csv", reset(7))
    place.put_reset("closed.csv", reset(6, key=1))
    place.put_reset("reset.csv", reset(5))
    run = place.run("import_inventory")
    told = failure(run)
    (check,) = [one for one in run.get_asset_check_evaluations() if one.check_name == "every_file_was_read"]
    assert not check.passed
    assert str(check.description) in told
    assert "RESET_INVENTORY: closed cannot be listed: sftp://" in told
    assert f"{RESETS}/closed.csv cannot be read: sftp://" in told
    assert available(place) == {named(0): 5}
    monkeypatch.setenv("RESET_INVENTORY_IMPORT_PATH", "closed")
    assert "closed cannot be listed" in told_by(place), "a red tick where nothing else is there"


def test_a_root_that_is_not_there_is_a_red_tick(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESET_INVENTORY_IMPORT_PATH", "nothing/here")
    assert "No files" in skipped(place), "a retailer need not have every directory"
    monkeypatch.setenv("SFTP_ROOT", "/mistyped")
    assert "has no directory /mistyped: correct SFTP_ROOT, or make it there" in told_by(place)


def test_what_cannot_be_archived_keeps_no_other_file_from_its_run(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landing, "FILES_PER_REGISTRATION", 2)
    monkeypatch.setenv("IMP_INV_ADJUST_IMPORT_PATH", "stuck,free")
    header = "externalFacilityId,idValue,idType,availableDelta\n"
    for number in range(3):
        place.put(f"stuck/{number}.csv", f"{header}43,501,NETSUITE_PRODUCT_ID,{number + 1}\n", number)
        place.put(f"free/{number}.csv", f"{header}43,502,NETSUITE_PRODUCT_ID,{number + 1}\n", number)
    blocking = place.put("stuck/archive", "a file with this name")
    for _ in range(2):
        told = failure(place.run("import_inventory_adjustment"))
        assert "stuck/0.csv was taken, and cannot be moved to stuck/archive: see the rights of that directory" in told
        assert "free/" not in told
        assert place.stock() == {("10001", "WAREHOUSE"): (6, 6), ("10002", "WAREHOUSE"): (6, 6)}
        assert names_in(place.sftp_directory / "free") == set()
    blocking.unlink()
    assert place.run("import_inventory_adjustment").success
    assert names_in(place.sftp_directory / "stuck") == set()
    assert place.stock() == {("10001", "WAREHOUSE"): (6, 6), ("10002", "WAREHOUSE"): (6, 6)}


def test_a_run_that_works_a_file_before_another_has_archived_it_is_not_red(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.put_reset("reset.csv", reset(5))
    archive, worked = SftpSession.archive, []

    def archive_late(session: SftpSession, file: RemoteFile) -> None:
        monkeypatch.setattr(SftpSession, "archive", archive)
        worked.append(place.run("process_bulk_imported_files").success)
        session.archive(file)

    monkeypatch.setattr(SftpSession, "archive", archive_late)
    assert place.run("import_inventory").success
    assert worked == [True]
    assert available(place) == {named(0): 5}


# --- which content counts

T0 = datetime(2024, 3, 6, 5, 0, 0, tzinfo=UTC)


def exported(hours: int) -> str:
    return f"{T0 + timedelta(hours=hours):%Y-%m-%dT%H:%M:%SZ}-InventoryItemExport.csv"


@pytest.mark.parametrize(
    ("files", "outcome", "stock"),
    [
        pytest.param(
            [("a.csv", 10, 0), ("b.csv", 20, 1), ("c.csv", 10, 2)],
            ["finished", "finished", "duplicate"],
            20,
            id="the same content under another name is a duplicate",
        ),
        pytest.param(
            [("a.csv", 10, 0), ("a.csv", 20, 1)],
            ["finished", "finished"],
            20,
            id="the same name with another content is a new file",
        ),
        pytest.param(
            [(exported(0), 10, 1), (exported(24), 20, 25), (exported(48), 10, 49)],
            ["finished", "finished", "finished"],
            10,
            id="equal exports of different times both count",
        ),
        pytest.param(
            [(exported(0), 10, -1), (exported(24), 20, 23), (exported(48), 10, 47)],
            ["finished", "finished", "finished"],
            10,
            id="and where the server's clock says that they were there before they were exported",
        ),
        pytest.param(
            [(exported(0), 10, 1), (exported(24), 20, 25), (exported(0), 10, 49)],
            ["finished", "finished", "duplicate"],
            20,
            id="the same export sent again is a duplicate",
        ),
        pytest.param(
            [(exported(0), 10, 1), (exported(0).replace(".csv", " (1).csv"), 10, 2)],
            ["finished", "duplicate"],
            10,
            id="the same export under another name is a duplicate",
        ),
    ],
)
@pytest.mark.parametrize("looks", ["a look each", "one look"])
def test_a_content_counts_once_for_each_time_at_which_it_was_exported(
    place: Place, files: list[tuple[str, int, int]], outcome: list[str], stock: int, looks: str
) -> None:
    if looks == "one look" and len({name for name, _, _ in files}) < len(files):
        pytest.skip("one name holds one file at a time")
    for name, quantity, hours in files[:-1]:
        place.put_reset(name, reset(quantity), T0 + timedelta(hours=hours))
        if looks == "a look each":
            take()
    name, quantity, hours = files[-1]
    place.put_reset(name, reset(quantity), T0 + timedelta(hours=hours))
    run = place.run("import_inventory")
    assert run.success
    assert [status for _, status, *_ in place.logs()] == outcome
    assert available(place) == {named(0): stock}
    assert waiting(place) == set()
    if "duplicate" in outcome:
        check = {c.check_name: c for c in run.get_asset_check_evaluations()}["content_is_new"]
        assert not check.passed
        assert len(place.rows("select 1 from data_manager_log where status_id = 'duplicate'")) == 1
        assert any(name in str(check.metadata["duplicates"].value) for name, _, _ in files)
        (message,) = place.rows("select message from data_manager_log where status_id = 'duplicate'")
        assert "allow_duplicate_content" in message[0] or "twice in this run" in message[0]


def test_allow_duplicate_content_applies_the_same_content_again(place: Place) -> None:
    for name, quantity, hours in (("a.csv", 10, 0), ("b.csv", 20, 1)):
        place.put_reset(name, reset(quantity), T0 + timedelta(hours=hours))
    assert place.run("import_inventory").success
    place.put_reset("c.csv", reset(10), T0 + timedelta(hours=2))
    assert place.run("import_inventory", {"inventory_reset": {"allow_duplicate_content": True}}).success
    assert statuses(place) == [("a.csv", "finished"), ("b.csv", "finished"), ("c.csv", "finished")]
    assert available(place) == {named(0): 10}


def test_a_content_that_could_not_be_read_may_come_again(place: Place) -> None:
    place.put_reset("a.csv", "Item,idValue\nTEE,501\n", T0)
    place.run("import_inventory")
    assert statuses(place) == [("a.csv", "failed")]
    place.put_reset("a.csv", "Item,idValue\nTEE,501\n", T0 + timedelta(hours=1))
    place.run("import_inventory")
    assert statuses(place) == [("a.csv", "failed"), ("a.csv", "failed")], (
        "not hidden as a duplicate of what never counted"
    )


UPLOADED = datetime(2024, 3, 6, 5, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "effective"),
    [
        ("Tue Mar 05 2024 21:00:12 GMT-0800 (PST)-InventoryItemExport.csv", "2024-03-06T05:00:12+00:00"),
        ("Wed Mar 06 2024 10:15:12 GMT+0545 (Nepal Time)-x.csv", "2024-03-06T04:30:12+00:00"),
        ("Tue Mar  5 2024 21:00:12 GMT-0800-x.csv", None),
        ("Fri Jan 01 0001 00:00:00 GMT+1400 (X)-x.csv", None),
        ("0001-01-01T00:00:00+14:00-x.csv", None),
        ("9999-12-31T23:59:59-05:00-x.csv", None),
        ("Tue Mar 05 2024 21:00:12-x.csv", None),
        ("2024-03-06T05:00:12Z-reset.csv", "2024-03-06T05:00:12+00:00"),
        ("reset_20240306T050012Z.csv", "2024-03-06T05:00:12+00:00"),
        ("reset-2024-03-06T05:00:12.345Z.csv", "2024-03-06T05:00:12.345000+00:00"),
        ("2024-03-06T05:00:12.123456789Z.csv", "2024-03-06T05:00:12.123456+00:00"),
        ("2024-03-05T21:00:12-08:00.csv", "2024-03-06T05:00:12+00:00"),
        ("2024-03-05T21:00:12-0800 reset.csv", "2024-03-06T05:00:12+00:00"),
        ("2024-03-05T21:00-08.csv", "2024-03-06T05:00:00+00:00"),
        ("2024-03-06T10:45:12+05:45.csv", "2024-03-06T05:00:12+00:00"),
        ("2024-03-06T05:00:12.csv", None),
        ("2024-03-06T05:00:12 reset.csv", None),
        ("2024-03-06.csv", None),
        ("2024-02-30T05:00:12Z.csv", None),
        ("2024-03-06T25:00:12Z.csv", None),
        ("2024-03-06T05:00:12+99:00.csv", None),
        ("2024-03-06T05:30:00Z.csv", "2024-03-06T05:30:00+00:00"),
        ("2024-03-06T05:30:00.700Z.csv", "2024-03-06T05:30:00.700000+00:00"),
        ("2024-03-06T05:30:01Z.csv", None),
        ("2024-02-28T05:30:00Z.csv", "2024-02-28T05:30:00+00:00"),
        ("2024-02-28T05:29:59Z.csv", None),
        ("reset.csv", None),
    ],
)
def test_a_file_takes_effect_at_the_export_time_in_its_name_or_else_when_it_was_uploaded(
    name: str, effective: str | None
) -> None:
    found = names.effective_at(RemoteFile(f"{RESETS}/{name}", 1, int(UPLOADED.timestamp())))
    assert found == (datetime.fromisoformat(effective) if effective else UPLOADED)


# --- what a person is told when the server cannot be used


def told_by(place: Place) -> str:
    """All that the failed tick of the sensor says."""
    with pytest.raises(SftpRefused) as raised:
        tick(place)
    return "".join(traceback.format_exception(raised.value))


@pytest.mark.parametrize("server", ["stopped", "hangs up", "is no SSH server"])
def test_a_server_that_is_away_is_a_skipped_tick_with_the_reason(
    empty_place: Place, monkeypatch: pytest.MonkeyPatch, server: str
) -> None:
    empty_place.put_reset("reset.csv", reset(5))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setenv("SFTP_PORT", str(listener.getsockname()[1]))
        if server == "stopped":
            listener.close()
        else:
            answer_once(listener, b"" if server == "hangs up" else b"HTTP/1.1 400 Bad Request\r\n\r\n" + b"x\r\n" * 200)
        reason = skipped(empty_place)
    address = f"127.0.0.1:{os.environ['SFTP_PORT']}"
    assert address in reason
    assert "cannot be reached" in reason
    assert os.environ["SFTP_PASSWORD"] not in reason


def answer_once(listener: socket.socket, answer: bytes) -> None:
    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(answer)

    threading.Thread(target=serve, daemon=True).start()


def write_key(folder: Path, passphrase: str | None = None) -> tuple[Path, str]:
    """A new private key in a file, and its public line."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    path = folder / "id_ed25519"
    key.write_private_key(str(path), passphrase=passphrase)
    return path, key.export_public_key().decode()


def wrong_password(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFTP_PASSWORD", "canary-of-the-password")


def no_credentials(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SFTP_PASSWORD")


def wrong_key(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = write_key(place.home.parent, "canary-of-the-passphrase")
    monkeypatch.setenv("SFTP_PRIVATE_KEY_FILE", str(path))
    monkeypatch.setenv("SFTP_PASSWORD", "canary-of-the-passphrase")


def wrong_passphrase(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong_key(place, monkeypatch)
    monkeypatch.setenv("SFTP_PASSWORD", "canary-of-another-passphrase")


def no_key_file(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFTP_PRIVATE_KEY_FILE", str(place.home / "nowhere"))


def unknown_host(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFTP_KNOWN_HOSTS_FILE", str(place.home.parent / "known_hosts"))


def changed_host(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    _, other = write_key(place.home.parent)
    known = place.home.parent / "known_hosts"
    known.write_text(f"[127.0.0.1]:{os.environ['SFTP_PORT']} {other}")
    monkeypatch.setenv("SFTP_KNOWN_HOSTS_FILE", str(known))


def test_while_a_host_key_is_changed_either_is_known(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path(os.environ["SFTP_KNOWN_HOSTS_FILE"]).read_text()
    changed_host(place, monkeypatch)
    known = Path(os.environ["SFTP_KNOWN_HOSTS_FILE"])
    certificates = f"@cert-authority *.example.com {real.split(' ', 1)[1]}"
    known.write_text(f"# of today and of tomorrow\n{certificates}{known.read_text().strip()}\n{real}")
    place.put_reset("reset.csv", reset(5))
    assert place.run("import_inventory").success


def other_kind_of_host_key(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    changed_host(place, monkeypatch)
    other = asyncssh.generate_private_key("ecdsa-sha2-nistp256").export_public_key().decode()
    Path(os.environ["SFTP_KNOWN_HOSTS_FILE"]).write_text(f"[127.0.0.1]:{os.environ['SFTP_PORT']} {other}")


def broken_known_hosts(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    known = place.home.parent / "known_hosts"
    known.write_text("other.example.com ssh-rsa AAAAnokey=x\n" + Path(os.environ["SFTP_KNOWN_HOSTS_FILE"]).read_text())
    monkeypatch.setenv("SFTP_KNOWN_HOSTS_FILE", str(known))


def revoked_host(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    known, real = place.home.parent / "known_hosts", Path(os.environ["SFTP_KNOWN_HOSTS_FILE"]).read_text()
    known.write_text(f"{real}@revoked\t* {real.split(' ', 1)[1]}")
    monkeypatch.setenv("SFTP_KNOWN_HOSTS_FILE", str(known))


def greeted(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def garbage(_: SftpSession) -> None:
        raise paramiko.SFTPError("Garbage packet received")

    monkeypatch.setattr(SftpSession, "_connected", garbage)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (wrong_password, ["refuses the password", "SFTP_PASSWORD", "SFTP_USERNAME"]),
        (no_credentials, ["Set SFTP_PASSWORD or SFTP_PRIVATE_KEY_FILE"]),
        (wrong_key, ["refuses the key", "SFTP_PRIVATE_KEY_FILE"]),
        (wrong_passphrase, ["cannot be read as a private key", "SFTP_PASSWORD"]),
        (no_key_file, ["SFTP_PRIVATE_KEY_FILE", "nowhere cannot be read"]),
        (unknown_host, ["is not in", "SFTP_KNOWN_HOSTS_FILE", "SHA256:", "ssh-keyscan -p {port} 127.0.0.1 >>"]),
        (changed_host, ["has CHANGED", "SHA256:", "Nothing was sent", "ssh-keyscan -p {port} 127.0.0.1 >>"]),
        (broken_known_hosts, ["has a line that is no key", "SFTP_KNOWN_HOSTS_FILE", "other.example.com"]),
        (revoked_host, ["has CHANGED", "Nothing was sent"]),
        (greeted, ["does not speak SFTP as it should (Garbage packet received)"]),
        (other_kind_of_host_key, ["SHA256:", "ssh-keyscan -p {port} 127.0.0.1 >>"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_a_person_must_mend_is_a_red_tick_that_says_how_and_tells_no_secret(
    empty_place: Place,
    monkeypatch: pytest.MonkeyPatch,
    wrong: Callable[[Place, pytest.MonkeyPatch], None],
    says: list[str],
) -> None:
    empty_place.put_reset("reset.csv", reset(5))
    real_password = os.environ["SFTP_PASSWORD"]
    wrong(empty_place, monkeypatch)
    told = told_by(empty_place)
    for part in says:
        assert part.format(port=os.environ["SFTP_PORT"]) in told
    run = empty_place.run("import_inventory")
    assert says[0] in failure(run)
    everything = told + json.dumps([str(event) for event in run.all_events])
    assert real_password not in everything
    assert "canary" not in everything


def test_the_line_that_the_error_gives_makes_an_unknown_server_known(
    empty_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty_place.put_reset("reset.csv", reset(5))
    unknown_host(empty_place, monkeypatch)
    told = told_by(empty_place)
    command = told.split("add it: ")[1].splitlines()[0].strip().rstrip("\"'")
    subprocess.run(command, shell=True, check=True, stderr=subprocess.DEVNULL, timeout=30)
    assert requested(empty_place)


@pytest.mark.parametrize(
    ("passphrase", "password"),
    [(None, ""), ("open sesame", "open sesame"), (None, "left over from before")],
)
def test_a_key_opens_the_server_instead_of_a_password(
    empty_place: Place, monkeypatch: pytest.MonkeyPatch, passphrase: str | None, password: str
) -> None:
    path, public = write_key(empty_place.home.parent, passphrase)
    (empty_place.sftp_directory.parent / "authorized_keys").write_text(public)
    monkeypatch.setenv("SFTP_PRIVATE_KEY_FILE", str(path))
    monkeypatch.setenv("SFTP_PASSWORD", password)
    empty_place.put_reset("reset.csv", reset(5))
    assert requested(empty_place)


# --- many names


@pytest.mark.long
def test_three_files_are_found_among_100_000_names_within_seconds(served: Place) -> None:
    wanted = [f"wanted-{number}.csv" for number in range(3)]
    for number, name in enumerate(wanted):
        served.put_reset(name, reset(5, key=number), A_DAY_AGO + number)
    folder = served.sftp_directory / RESETS
    for number in range(100_000):
        os.close(os.open(folder / f"{number}.csv.done", os.O_CREAT))
    started = time.monotonic()
    found = take()
    assert time.monotonic() - started < 30
    assert found.registered == [f"{RESETS}/{name}" for name in wanted]
    assert found.left == {}
