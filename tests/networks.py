"""The networks that come with the kit, to look at: trained, with their decoders, and written as ONNX for
pages.

    python tests/networks.py                 # all of it, two hours on one core; finished runs are kept
    python tests/networks.py --pages_only    # the files of the pages, from the committed networks
"""

import argparse
import shutil
import sys
from pathlib import Path

import torch

from soft_ssl.experiment import load_pretrained, train
from soft_ssl.files import complete_file
from soft_ssl.instrument import export_page
from soft_ssl.latents import decoder_errors, fit_decoder, open_latents, save_decoder
from soft_ssl.runs import RunFolder

TOP = Path(__file__).resolve().parent.parent
SAME = dict(
    h_dim=16, feature_dim=128, n_groups=64, n_symbols=8, projector_hidden=128, train_batch_size=128, lr=2e-3,
    scheduler="cosine", warmup_steps=200, precision="fp32", compile="off", threads="1", ridge=0.1,
    eval_every=2000, n_sub_train=5000, n_sub_test=2000
)
DSPRITES = dict(dataset="dsprites", dataset_K=2, feature_dim=256, last_norm_emb=True, max_steps=3000)
TAU = dict(bottleneck="Softmax", tau=0.5)
MPI3D = dict(
    dataset="mpi3d", dataset_K=3, bottleneck="Softmax", n_groups=16, n_symbols=16, tau=0.3, tau_teacher=0.3,
    max_steps=8000
)
RUNS = {
    "softmax": ("Softmax", "simclr", DSPRITES | TAU),
    "continuous": ("Continuous", "simclr", DSPRITES | dict(bottleneck="Continuous")),
    "vq": ("VQ", "simclr", DSPRITES | dict(bottleneck="VQ", hard=True)),
    "untrained": (
        "Softmax, untrained", "simclr",
        DSPRITES | TAU | dict(max_steps=0, scheduler="constant", warmup_steps=0)
    ),
    "mpi3d": ("Softmax", "byol", MPI3D),
}
PAGES = {"dsprites": ("softmax", "continuous", "vq", "untrained"), "mpi3d": ("mpi3d",)}
DECODER_IMAGES, DECODER_STEPS = 100_000, 15_000


def write_run(trained: RunFolder, path: Path) -> None:
    "A run as it is committed: config, last weights, scores; the data where the kit looks for it."
    path.mkdir(parents=True, exist_ok=True)
    committed, config = RunFolder(path), trained.read_config()
    config["data"]["data_path"] = "./data"
    committed.write_config(config)
    committed.save_best(load_pretrained(trained.path, "last")[0])
    shutil.copy(trained.probes_file, committed.probes_file)


def write_decoder(path: Path, data_path: Path, steps: int) -> None:
    "Trains a decoder on a run's frozen codes, and keeps how well it draws."
    latents = open_latents(path, str(data_path), "best")
    decoder = fit_decoder(latents, n_images=DECODER_IMAGES, max_steps=steps)
    save_decoder(decoder, latents, path / "decoder.safetensors")
    errors = decoder_errors(latents, decoder).rename_axis("what is compared").round(5)
    with complete_file(path / "decoder.csv") as unfinished:
        errors.to_csv(unfinished)
    print(path.name, errors, sep="\n", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root_path", default=TOP / "experiments", help="where the runs are kept")
    parser.add_argument("--data_path", type=Path, default=TOP / "data", help="folder of the data files")
    parser.add_argument(
        "--out_path", type=Path, default=TOP / "nbs" / "results" / "networks",
        help="where what is committed goes"
    )
    parser.add_argument("--only", nargs="*", choices=RUNS, default=list(RUNS), help="some of the networks")
    parser.add_argument("--decoder_steps", type=int, default=DECODER_STEPS, help="steps of the decoders")
    parser.add_argument(
        "--decoders_only", action="store_true",
        help="train the decoders again, on networks that are committed"
    )
    parser.add_argument(
        "--pages_only", action="store_true",
        help="write the files of the pages again, from committed networks"
    )
    given = parser.parse_args()
    torch.set_num_threads(1)
    for name in [] if given.pages_only else given.only:
        _, method, options = RUNS[name]
        if not given.decoders_only:
            write_run(
                train(
                    method, exp_name=name, root_path=str(given.root_path), data_path=str(given.data_path),
                    reload=True, **(SAME | options)
                ),
                given.out_path / name
            )
        write_decoder(given.out_path / name, given.data_path, given.decoder_steps)
    for page, names in PAGES.items():
        if all((given.out_path / name / "decoder.safetensors").exists() for name in names):
            export_page(
                {RUNS[name][0]: given.out_path / name for name in names}, given.out_path / f"{page}.json"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
