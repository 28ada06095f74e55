"Which tests follow each other in one process, which begin first, and data that several files read."

import shutil
from pathlib import Path

import pytest

# what takes longest begins first, so that at the end no core waits for another; all else follows in the order
# of its name
FIRST = (
    "lab", "test_large_scale", "94_benchmark", "test_study", "test_browser", "test_command_line", "04a_study",
    "03c_transfer", "temperature", "02d_vq", "test_faults", "test_matrix", "test_original", "05_scale",
    "own_images", "02a_simclr", "01g_learner", "02c_prototypes", "your_own_bottleneck"
)


def group(nodeid):
    """Tests of one group follow each other in one process: those of a file, whose fixtures are made once; a
    notebook is a group of its own."""
    file, _, name = nodeid.partition("::")
    if "test_notebooks.py" in file:
        return name.partition("[")[2].rstrip("]")
    return "lab" if name.startswith("test_jupyterlab_runs") else file.rpartition("/")[2].removesuffix(".py")


def pytest_collection_modifyitems(items):
    place = {name: number for number, name in enumerate(FIRST)}
    items.sort(key=lambda item: place.get(group(item.nodeid), len(FIRST)))


@pytest.hookimpl(optionalhook=True)  # without pytest-xdist there is nothing to schedule
def pytest_xdist_make_scheduler(config, log):
    "Hands out whole groups, in the order above."
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid):  # the marks of `--dist loadgroup` get lost in some versions of pytest
            return group(nodeid)

    config.option.loadscopereorder = False
    return Groups(config, log)


@pytest.fixture(scope="session")
def dsprites(tmp_path_factory):
    """A folder with dSprites to read and nothing else. They are drawn once, for the notebooks too, by whoever
    comes first."""
    from soft_ssl.datasets import build_file

    folder = tmp_path_factory.mktemp("dsprites")
    shutil.copy(build_file("dsprites", Path(__file__).resolve().parent.parent / "data", "rendered"), folder)
    return folder
