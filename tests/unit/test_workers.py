"""What keeps tests of several workers apart: ports of their own, and turns alone."""

import subprocess
import sys
import threading
from pathlib import Path

from tests.support.alone import Turns
from tests.support.ports import free_port
from tests.support.processes import wait_until

ASK = "from tests.support.ports import free_port; print(free_port())"


def test_no_port_is_handed_out_twice_nor_to_two_processes() -> None:
    ours = {free_port() for _ in range(20)}
    result = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, timeout=20, check=True)
    assert len(ours) == 20
    assert int(result.stdout) // 500 not in {port // 500 for port in ours}, "a block of its own"


def test_who_is_to_be_alone_waits_for_the_others_and_is_not_overtaken(tmp_path: Path) -> None:
    order: list[str] = []

    def take(name: str, alone: bool) -> None:
        with Turns(tmp_path).turn(alone=alone):
            order.append(name)

    threads = [threading.Thread(target=take, args=turn) for turn in (("alone", True), ("after it", False))]
    with Turns(tmp_path).turn(alone=False):
        take("beside it", alone=False)
        for thread in threads:
            thread.start()
            waiting = threads.index(thread) + 1
            wait_until(lambda waiting=waiting: waiters(tmp_path) == waiting, f"{waiting} to wait")  # type: ignore[misc]
        assert order == ["beside it"]
    for thread in threads:
        thread.join(20)
    assert order == ["beside it", "alone", "after it"]


def test_turns_alone_that_follow_each_other_let_nobody_in_between(tmp_path: Path) -> None:
    order: list[str] = []

    def another() -> None:
        with Turns(tmp_path).turn(alone=False):
            order.append("another")

    turns, thread = Turns(tmp_path), threading.Thread(target=another)
    with turns.turn(alone=True, stays=True):
        thread.start()
        wait_until(lambda: waiters(tmp_path) == 1, "the other to wait")
    with turns.turn(alone=True):
        order.append("second")
    thread.join(20)
    assert order == ["second", "another"]


def waiters(folder: Path) -> int:
    """How many wait for a lock in `folder`: proc(5) shows each with an arrow."""
    inodes = {str(path.stat().st_ino) for path in folder.iterdir()}
    rows = [line.split() for line in Path("/proc/locks").read_text().splitlines() if "->" in line]
    return sum(row[-3].rpartition(":")[2] in inodes for row in rows)
