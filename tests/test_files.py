"What files, locks and downloads do where something below them fails."

import errno
import io
import urllib.error

import numpy as np
import pytest
from filelock import FileLock

from soft_ssl import files
from soft_ssl.pictures import open_packed
from soft_ssl.runs import RunFolder


@pytest.mark.parametrize(
    "error",
    [
        NotImplementedError(),
        *(OSError(code, "no locks") for code in (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK))
    ],
    ids=str
)
def test_work_goes_on_where_a_file_system_has_no_locks(error, tmp_path, monkeypatch):
    def acquire(self, *args, **kwargs):
        raise error

    monkeypatch.setattr(FileLock, "acquire", acquire)
    with files.file_lock(
        tmp_path / "new" / "file"
    ), files.complete_file(
        tmp_path / "new" / "file"
    ) as unfinished:
        unfinished.write_text("whole")
    assert [(file.name, file.read_text()) for file in (tmp_path / "new").iterdir()] == [("file", "whole")]


def test_any_other_error_of_a_lock_is_raised(tmp_path, monkeypatch):
    def acquire(self, *args, **kwargs):
        raise PermissionError(errno.EACCES, "not yours")

    monkeypatch.setattr(FileLock, "acquire", acquire)
    with pytest.raises(PermissionError, match="not yours"), files.file_lock(tmp_path / "file"):
        pass


def test_a_failure_before_the_first_step_leaves_a_folder_that_was_there_as_it_was(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    run = RunFolder(tmp_path / "run")
    with pytest.raises(ValueError, match="no such option"), run.lock():
        run.write_config({"lr": 0.1})
        raise ValueError("no such option")
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["notes.txt"]


def test_a_failure_before_the_first_step_leaves_no_folder_that_was_made_for_it(tmp_path):
    run = RunFolder(tmp_path / "runs" / "default" / "run")
    with pytest.raises(ValueError, match="no such option"), run.lock():
        run.write_config({"lr": 0.1})
        raise ValueError("no such option")
    assert not (tmp_path / "runs").exists()


def out_of_range(url, start):
    raise urllib.error.HTTPError(url, 416, "Range Not Satisfiable", {}, io.BytesIO())


def test_a_download_of_which_no_byte_is_missing_is_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "open_url", out_of_range)
    (tmp_path / "file.part").write_bytes(b"12345")
    path = files.fetch(
        ("https://example.org/file",), tmp_path / "file", "827ccb0eea8a706c4c34a16891f84e7b", "md5", 5
    )
    assert path.read_bytes() == b"12345"


def test_a_part_that_is_larger_than_the_file_can_be_is_fetched_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "open_url", out_of_range)
    (tmp_path / "file.part").write_bytes(b"123456")
    with pytest.raises(ConnectionError, match="sent more than the 5 bytes that are expected"):
        files.fetch(("https://example.org/file",), tmp_path / "file", "", "md5", 5)
    assert not list(tmp_path.iterdir())


def test_a_lack_of_memory_is_not_called_damage(tmp_path):
    np.savez(tmp_path / "images.npz", imgs=np.zeros((2, 2), np.uint8))
    with pytest.raises(MemoryError), files.open_npz(tmp_path / "images.npz", "imgs"):
        raise MemoryError
    (tmp_path / "packed.h5").write_bytes(b"")
    with pytest.raises(ValueError, match="damaged"), open_packed(tmp_path / "packed.h5"):
        pass
