"""Every notebook runs from its first cell to its last; those that JupyterLab runs where there is a browser
stand in test_browser.py."""

import multiprocessing
import os
import sys

import pytest
from test_browser import CHROMIUM, IN_LAB, TOP

NOTEBOOKS = [
    path for path in sorted(TOP.glob("nbs/**/*.ipynb"))
    if ".ipynb_checkpoints" not in path.parts and not (CHROMIUM.exists() and path in IN_LAB)
]
PACKAGES = [
    "nbdev.test", "torch", "torchvision", "accelerate", "sklearn.linear_model", "scipy.stats", "seaborn",
    "h5py", "test_browser"
]
SECONDS = 600  # that a notebook may take


def run(path, log):
    "What `nbdev_test` does with a notebook."
    from nbdev.config import get_config
    from nbdev.test import test_nb

    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(TOP)
    multiprocessing.set_start_method(None, force=True)  # its own processes start as in any other program
    passed, _ = test_nb(path, skip_flags=get_config().tst_flags.split(), basepath=TOP)
    sys.exit(0 if passed else 1)


@pytest.fixture(scope="session")
def processes():
    "Begin with the packages, which take seconds to import, but with nothing of soft_ssl."
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PACKAGES)
    return context


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path, processes, tmp_path):
    process = processes.Process(target=run, args=(path, tmp_path / "log"))
    process.start()
    process.join(SECONDS)
    process.kill()
    process.join()
    assert process.exitcode == 0, (tmp_path / "log").read_text()
