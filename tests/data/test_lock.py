"""One process at a time in a folder, and a crash leaves nothing stuck."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from promptad.data import lock
from promptad.data.lock import LOCK_NAME, only_one, only_writer
from promptad.errors import DataError
from promptad.notices import PromptadNotice

HOLD = """
import sys, time
from pathlib import Path
from promptad.data.lock import only_one
with only_one(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_the_second_process_is_told_who_holds_the_folder(holder, tmp_path):
    with pytest.raises(DataError) as refused, only_one(tmp_path):
        pass
    assert f"process {holder.pid} on " in str(refused.value) and "since 20" in str(refused.value)
    assert "wait until it ends" in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_lock_goes_with_its_holder_however_that_ends(holder, tmp_path, how):
    holder.send_signal(how)
    holder.wait(timeout=30)
    with only_one(tmp_path):
        pass


def test_a_lock_serves_one_after_the_other_and_not_two_at_once(tmp_path):
    for _ in range(2):
        with only_one(tmp_path), pytest.raises(DataError, match=f"process {os.getpid()} on "), only_one(tmp_path):
            pass
    assert [path.name for path in tmp_path.iterdir()] == [LOCK_NAME]
    assert (tmp_path / LOCK_NAME).read_bytes() == b""


def test_an_error_inside_lets_the_lock_go(tmp_path):
    with pytest.raises(ZeroDivisionError), only_one(tmp_path):
        raise ZeroDivisionError
    with only_one(tmp_path):
        pass


def test_text_in_the_lock_file_that_nobody_wrote_is_no_problem(tmp_path):
    with only_one(tmp_path):
        (tmp_path / LOCK_NAME).write_bytes(b"\xff{")
        with pytest.raises(DataError, match="does not say which"), only_one(tmp_path):
            pass


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch):
    def unsupported(file):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("promptad.data.lock._lock", unsupported)
    with pytest.warns(PromptadNotice, match="knows no locks"), only_one(tmp_path):
        pass


def test_a_folder_that_is_not_there_gives_one_line(tmp_path):
    with pytest.raises(DataError, match="choose another folder"), only_one(tmp_path / "none"):
        pass


def test_a_file_has_one_writer_and_files_of_one_folder_do_not_hinder_each_other(tmp_path):
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    for _ in range(2):
        with only_writer(first), only_writer(second):
            with pytest.raises(DataError, match=f"process {os.getpid()} on ") as refused, only_writer(first):
                pass
            assert "choose another file" in str(refused.value)
        assert list(tmp_path.iterdir()) == []
    with only_writer(None):
        pass


def test_the_lock_of_a_file_is_that_of_its_links_and_fits_where_its_name_fits(tmp_path):
    (tmp_path / "other").mkdir()
    link = tmp_path / "other" / "link.safetensors"
    link.symlink_to(tmp_path / "a.safetensors")
    with only_writer(link), pytest.raises(DataError, match="another run"), only_writer(tmp_path / "a.safetensors"):
        pass
    longest = tmp_path / ("ä" * 121 + ".safetensors")
    assert len(os.fsencode(longest.name)) == lock.LONGEST_NAME - 1
    with only_writer(longest), pytest.raises(DataError, match="another run"), only_writer(longest):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_what_is_no_regular_file_is_not_locked(tmp_path):
    for place in (tmp_path, os.devnull):
        with only_writer(Path(place)), only_writer(Path(place)):
            pass


def test_a_lock_that_its_last_holder_removed_is_not_taken_for_held(tmp_path, monkeypatch):
    """Between opening and locking the holder before removes the file: a third process would lock another one."""
    whole, removed = lock._lock, []

    def late(file):
        whole(file)
        if not removed:
            removed.append((tmp_path / ".a.lock").unlink())

    monkeypatch.setattr(lock, "_lock", late)
    with only_writer(tmp_path / "a"):
        assert (tmp_path / ".a.lock").exists()
        with pytest.raises(DataError, match="another run"), only_writer(tmp_path / "a"):
            pass
