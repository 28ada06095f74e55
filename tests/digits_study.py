"""Does pretraining on real digits pay, with and without the bottleneck? BYOL against an untrained backbone, on two cores.

    python tests/digits_study.py            # all runs, each goes on where it stopped; then the table
    python tests/digits_study.py --table    # the table of the runs that are finished
"""

import argparse
import json
import sys
from pathlib import Path

import pandas as pd

from soft_ssl.datasets import SplitData
from soft_ssl.experiment import build_method, load_run
from soft_ssl.files import complete_file
from soft_ssl.learner import Stopped
from soft_ssl.method import Method
from soft_ssl.pictures import image_data
from soft_ssl.runs import RunFolder, provenance
from soft_ssl.scale import preset_config, pretrain
from soft_ssl.transfer import knn, linear

TOP = Path(__file__).resolve().parent.parent
BOTTLENECKS, SEEDS = ("Continuous", "Softmax"), (0, 1, 2)
RECIPE = {"epochs": 16, "train_batch_size": 32, "optimizer": "AdamW", "lr": 0.008, "solarize_2": 0.0, "crop_min": 0.5}
TAU, LRS, L2S = "1", "0.1,0.3,1,3", "0,0.0001"  # the temperature of training, fixed beforehand; what is chosen on held-back images


def read(method: Method, data: SplitData) -> list[dict]:
    "Accuracy on the test images: of neighbours, and of the linear probe that is best on held-back training images."
    neighbours = knn(method, data, taus=TAU).assign(evaluation="kNN")
    probes = linear(method, data, taus=TAU, lrs=LRS, l1s="0", l2s=L2S).query("chosen and split == 'iid'").assign(evaluation="linear")
    columns = ["evaluation", "feature", "score"]
    return pd.concat([neighbours[columns], probes[columns]]).to_dict("records")


def scores_of(run: RunFolder, data: str) -> pd.DataFrame:
    "The scores of a finished run, read once and kept in its folder."
    file = run.path / "scores.csv"
    if not file.exists():
        trained, images, config = load_run(run.path, data, "best")
        untrained = build_method(config, images.dataset.image_shape, images.statistics()).eval()  # the same network before its first step
        rows = [
            {"bottleneck": config["bottleneck"], "seed": config["seed"], "network": name, **score}
            for name, network in (("untrained", untrained), ("trained", trained))
            for score in read(network, images)
        ]
        run.write_table(file, pd.DataFrame(rows))
    return pd.read_csv(file)


def go_on(run: RunFolder, root: str, chosen: dict) -> bool:
    "Trains to the end, from where the run stopped. Returns False if it was asked to stop again."
    try:
        pretrain("byol", "digits", exp_name="digits", run_id=run.path.name, root_path=root, reload=True, **chosen)
    except Stopped as stopped:
        print(stopped)
        return False
    return True


def main() -> int:  # exit code
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="store_true", help="train nothing, make the table of the runs that are finished")
    parser.add_argument("--root", default=str(TOP / "experiments"), help="folder of all runs")
    parser.add_argument("--data", default=str(TOP / "data"), help="folder of the data files")
    parser.add_argument("--out", default=str(TOP / "nbs" / "results" / "digits"), help="folder of the table")
    args = parser.parse_args()
    tables = []
    for seed in SEEDS:
        for bottleneck in BOTTLENECKS:
            chosen = RECIPE | {"bottleneck": bottleneck, "seed": seed, "data_path": args.data}
            run = RunFolder(Path(args.root) / "digits" / f"{bottleneck.lower()}-seed{seed}")
            if not args.table and not run.best_file.exists() and not go_on(run, args.root, chosen):
                return 1
            if not run.best_file.exists():
                print(f"{run.path.name} is not finished: left out")
                continue
            tables.append(scores_of(run, args.data))
            print(tables[-1].to_string(index=False))
    if not tables:
        return 1
    with complete_file(Path(args.out) / "scores.csv") as unfinished:
        pd.concat(tables).to_csv(unfinished, index=False, float_format="%.4f")
    about = {"preset": "digits"} | preset_config("byol", "digits", RECIPE) | {
        "seeds": sorted({int(seed) for table in tables for seed in table["seed"]}), "bottlenecks": BOTTLENECKS, "taus": TAU, "lrs": LRS, "l2s": L2S, "versions": provenance(),
        "train_images": len(image_data("digits", args.data)), "test_images": len(image_data("digits", args.data, train=False)),
    }
    about = {name: value for name, value in about.items() if name not in ("seed", "bottleneck", "data_path")}
    with complete_file(Path(args.out) / "config.json") as unfinished:
        unfinished.write_text(json.dumps(about, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
