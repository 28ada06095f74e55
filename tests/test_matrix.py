"Every method with every bottleneck, out of distribution and where K leaves nothing out. `make matrix` does it on all data sets."

from matrix import matrix

from soft_ssl.experiment import METHODS
from soft_ssl.training import BOTTLENECKS


def test_every_method_trains_and_evaluates_with_every_bottleneck(tmp_path):
    table = matrix([("mpi3d", 3), ("mpi3d", 6)], tmp_path)
    assert table.shape == (2, len(METHODS) * len(BOTTLENECKS))
    assert table.map(lambda said: said.startswith("ok")).all(axis=None), table.T.to_string()
    assert (
        table.loc["mpi3d (rendered) K=3", ("byol", "Softmax")] == "ok (63 scores)"
    )  # 3 features x 3 parts x 7 factors
    assert table.loc["mpi3d (rendered) K=6", ("byol", "Softmax")] == "ok (21 scores)"  # iid alone
