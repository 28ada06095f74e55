"A lock lets one process in at a time, and ends with the process that holds it."

import os
import signal
import time

import pytest

from soft_ssl.files import file_lock


def forked(work) -> int:
    "The process that does it."
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    return pid


def test_processes_that_wait_for_each_other_lose_no_step(tmp_path):
    counter = tmp_path / "counter"
    counter.write_text("0")

    def count():
        for _ in range(30):
            with file_lock(counter):
                number = int(counter.read_text())
                time.sleep(0.0003)
                counter.write_text(str(number + 1))

    for pid in [forked(count) for _ in range(6)]:
        os.waitpid(pid, 0)
    assert counter.read_text() == "180"
    assert list(tmp_path.iterdir()) == [counter]


def test_a_killed_process_holds_no_lock_nor_does_one_that_it_forked(tmp_path):
    def holds():
        with file_lock(tmp_path / "run"):
            (tmp_path / "child").write_text(str(forked(lambda: time.sleep(60))))
            (tmp_path / "child").rename(tmp_path / "ready")
            time.sleep(60)

    pid = forked(holds)
    while not (tmp_path / "ready").exists():
        time.sleep(0.01)
    with pytest.raises(BlockingIOError, match="in use"), file_lock(tmp_path / "run", busy="in use"):
        pass
    time.sleep(0.2)  # the child has let go by then
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    try:
        with file_lock(tmp_path / "run", busy="in use"):
            pass
    finally:
        os.kill(int((tmp_path / "ready").read_text()), signal.SIGKILL)
