"""Every method with every bottleneck, on factor data, on pictures, and where K leaves nothing out: a few
steps each. `make matrix` does it with every data set and encoder, and more steps."""

from itertools import product

import pytest
from matrix import SMALL, cell, stand_ins

from soft_ssl.experiment import METHODS
from soft_ssl.method import BOTTLENECKS


@pytest.fixture(autouse=True)
def brief(monkeypatch):
    monkeypatch.setitem(SMALL, "max_steps", 4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("matrix")
    stand_ins(folder)
    return folder


# with every method; their relatives with BYOL here, and with all in `make matrix`
FIRST = ("Continuous", "Softmax", "GumbelSoftmax", "VQ")


@pytest.mark.parametrize(
    "method, bottleneck",
    [
        *product(METHODS, FIRST),
        *(("byol", bottleneck) for bottleneck in BOTTLENECKS if bottleneck not in FIRST)
    ]
)
def test_every_method_trains_and_evaluates_with_every_bottleneck(method, bottleneck, folder):
    features = 2 if bottleneck in ("Continuous", "TopK") else 3
    # 3 parts x 7 factors
    assert cell(method, bottleneck, "mpi3d", "CNN", folder) == f"ok ({features * 3 * 7} scores)"


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_on_a_folder_of_pictures(method, folder):
    # of the class, on new pictures
    assert cell(method, "Softmax", "folder", "ResNet10", folder, image_size=16) == "ok (3 scores)"


@pytest.mark.parametrize("bottleneck", FIRST)
@pytest.mark.parametrize("method", ["byol", "vq-byol", "moco-simclr"])
def test_where_nothing_is_held_back_what_is_left_is_scored(method, bottleneck, folder):
    features = 2 if bottleneck == "Continuous" else 3
    # iid alone
    assert cell(method, bottleneck, "mpi3d", "CNN", folder, dataset_K=6) == f"ok ({features * 7} scores)"


@pytest.mark.parametrize("recording", ["toy", "realistic", "real", "complex"])
def test_recordings_of_mpi3d(recording, folder):
    assert cell("byol", "Softmax", f"mpi3d_{recording}", "CNN", folder, dataset_K=2) == "ok (63 scores)"
