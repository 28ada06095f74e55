"Every evaluation on a run on factors, a pretrained run, pixels and a network of timm: one table. `python tests/readers.py` prints it."

import contextlib
import io
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import timm
import torch
from torch import Tensor, nn

from soft_ssl.experiment import EVALUATIONS, evaluate, load_run, train
from soft_ssl.probes import FeatureFunction, few_labels, linear_probe, logistic_probe
from soft_ssl.transfer import TRANSFERS, FrozenBackbone, LabelledRows, transfer

SMALL = dict(n_groups=8, n_symbols=4, h_dim=8, feature_dim=16, max_steps=5, train_batch_size=16, n_sub_train=200, n_sub_test=100, show_progress=False)
QUICK = {
    "linear": dict(taus="1", lrs="1", l1s="0", l2s="0", epochs=2), "tau_transfer": dict(taus="0.1,1", lrs="1", l1s="0", l2s="0", epochs=2),
    "top_k": dict(taus="1", lrs="1", l1s="0", l2s="0", epochs=2), "knn": dict(taus="1", k=5), "finetune": dict(epochs=1, fraction=0.5), "umap": dict(n_images=60),
    "few_labels": dict(n_labels=[60], n_sub_test=100), "toposim": dict(n_pairs=100), "disentanglement": dict(n_images=200),
}  # fmt: skip


class Pixels(nn.Module):
    "Mean-pooled pixels."

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(images.float() / 255, 8).flatten(1)


class Timm(nn.Module):
    "A ResNet of timm with random weights."

    def __init__(self):
        super().__init__()
        self.network = timm.create_model("resnet10t", num_classes=0, in_chans=1)

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images.float() / 255)


def said(work) -> str:
    "What becomes of an evaluation: the number of finite scores, or the sentence that refuses it."
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            table = work()
        except ValueError as error:
            return f"refused: {error}"[:90]
        except AttributeError:  # it asks for a method with a code, and says so badly
            return "only of a method"
    column = next(name for name in ("score", "acc@1", "x") if name in table)
    return f"{len(table)} rows" if table[column].notna().all() else "NOT A NUMBER"


def readings(folder: Path) -> pd.DataFrame:
    "Every evaluation on everything that can be read."
    places = dict(data_path=str(folder), root_path=str(folder / "runs"))
    factors = train("byol", run_id="factors", **SMALL, **places)
    digits = SMALL | dict(h_dim=64, encoder="ResNet10", dataset="digits", image_size=16, workers=0)
    pictures = train("byol", run_id="pictures", **digits, **places, select_on="iid")
    _, data, _ = load_run(factors.path)
    rows = {}
    for name, evaluation in EVALUATIONS.items():
        rows[name] = [said(lambda run=run, name=name, e=evaluation: evaluate(run.path, e, **QUICK.get(name, {}))) for run in (factors, pictures)]
        for encoder in (Pixels().eval(), Timm().eval()):
            method = FeatureFunction(lambda images, encoder=encoder: {"encoded": encoder(images)})
            few = QUICK.get(name, dict(n_sub_train=200, n_sub_test=100))
            rows[name].append(said(lambda e=evaluation, method=method, few=few: e(method, data, **few)))
    for name, evaluation in TRANSFERS.items():
        rows[name] = [said(lambda run=run, name=name, few=few: transfer(run.path, name, **QUICK[name], **few)) for run, few in ((factors, dict(n_sub_train=200, n_sub_test=100)), (pictures, {}))]
        for encoder in (Pixels().eval(), Timm().eval()):
            frozen = FrozenBackbone(encoder, LabelledRows(data.dataset, data.rows("train", 200), "shape"), LabelledRows(data.dataset, data.rows("test", 100), "shape"))
            rows[name].append(said(lambda e=evaluation, frozen=frozen, name=name: e(frozen, **QUICK[name])))
    return pd.DataFrame(rows, index=["run on factors", "run on pictures", "pixels", "timm ResNet"]).T


if __name__ == "__main__":
    torch.manual_seed(0)
    assert {linear_probe, logistic_probe, few_labels} <= set(EVALUATIONS.values())
    with TemporaryDirectory() as folder:
        print(readings(Path(folder)).to_markdown())
