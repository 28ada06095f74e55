"Which tests follow each other in one process, which begin first, and data that several files read."

import os

import pytest

# what takes longest begins first, so that at the end no core waits for another; all else follows in the order of its name
FIRST = ("lab", "test_large_scale", "10_benchmark", "test_study", "one run", "test_browser", "test_command_line", "08_study", "09b_transfer", "temperature",
         "04_vq_byol", "test_faults", "test_matrix", "test_original", "09a_pretrain", "own_images", "03_simclr", "01f_training", "your_own_bottleneck")  # fmt: skip


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist writes the groups down
def pytest_collection_modifyitems(items):
    "A file is a group, whose fixtures are made once, where its tests do not name groups themselves."
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
    names = [item.get_closest_marker("xdist_group").args[0] for item in items]
    place = {name: FIRST.index(name) if name in FIRST else len(FIRST) for name in names}
    items[:] = [item for _, item in sorted(zip(names, items), key=lambda pair: place[pair[0]])]


@pytest.fixture(scope="session")
def dsprites(tmp_path_factory):
    "A folder with dSprites to read, drawn once for all processes that test."
    from soft_ssl.datasets import prepare

    folder = tmp_path_factory.getbasetemp()
    folder = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "dsprites"
    prepare("dsprites", folder, "rendered")  # a second process waits for the first
    return folder
