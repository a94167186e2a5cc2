"""Files: whole lines, rotated by size, one a tenant and signal if the path says so."""

import os
from pathlib import Path
from typing import Any

import pytest

from gateway.config.destinations import FileDestination
from gateway.delivery.senders.file import File
from gateway.delivery.senders.outcome import Delivered, Retry
from gateway.types import Lane, Signal

LANE = Lane("acme", "disk", Signal.LOGS)
LINE = b"x" * 1023 + b"\n"


def destination(path: Path, **settings: Any) -> File:
    return File(FileDestination(type="file", path=path, **{"max_bytes": 4096, **settings}))


def sizes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in sorted(folder.iterdir())}


def first_numbers(folder: Path) -> dict[str, int]:
    return {path.name: int(path.read_bytes()[:4]) for path in folder.iterdir()}


async def test_a_file_is_rotated_before_it_is_over_its_bound_and_the_oldest_goes(tmp_path: Path) -> None:
    file = destination(tmp_path / "out", max_files=2)
    for number in range(18):
        assert await file.send(LANE, [b"%4d" % number, LINE[4:]]) == Delivered()
    assert sizes(tmp_path) == {"out": 2048, "out.1": 4096, "out.2": 4096}
    assert first_numbers(tmp_path) == {"out": 16, "out.1": 12, "out.2": 8}


async def test_a_batch_over_the_bound_is_written_whole(tmp_path: Path) -> None:
    file = destination(tmp_path / "out")
    for _ in range(2):
        assert await file.send(LANE, [LINE] * 10) == Delivered()
    assert sizes(tmp_path) == {"out": 10240, "out.1": 10240}


async def test_the_path_is_filled_in_and_folders_are_made(tmp_path: Path) -> None:
    file = destination(tmp_path / "{tenant}" / "{signal}.jsonl")
    for tenant, signal in (("acme", Signal.LOGS), ("acme", Signal.TRACES), ("globex", Signal.LOGS)):
        assert await file.send(Lane(tenant, "disk", signal), [LINE]) == Delivered()
    assert sizes(tmp_path / "acme").keys() == {"logs.jsonl", "traces.jsonl"}
    assert sizes(tmp_path / "globex").keys() == {"logs.jsonl"}


async def test_what_a_former_run_wrote_is_appended_to(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(LINE)
    await destination(tmp_path / "out").send(LANE, [LINE])
    assert sizes(tmp_path) == {"out": 2048}


async def test_a_disk_that_fails_is_tried_again_and_leaves_no_half_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, write = destination(tmp_path / "out"), os.write

    def full(descriptor: int, data: memoryview) -> int:
        if len(data) < len(LINE):
            raise OSError(28, "No space left on device")
        return write(descriptor, data[:100])

    assert await file.send(LANE, [LINE]) == Delivered()
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        assert await file.send(LANE, [LINE]) == Retry("write_error")
    assert (tmp_path / "out").read_bytes() == LINE
    assert await file.send(LANE, [LINE]) == Delivered()
    assert (tmp_path / "out").read_bytes() == LINE * 2


async def test_a_folder_in_the_way_is_tried_again(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert await destination(tmp_path / "out", max_bytes="1MiB").send(LANE, [LINE]) == Retry("write_error")
