"""The package as users install it: a wheel in an empty environment, outside of the source tree. `make
installations`.

Each environment takes some 7 GB and several minutes, and is removed afterwards."""

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

TOP = Path(__file__).resolve().parent.parent
RESULTS = TOP / "nbs" / "results" / "trust"
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
TORCHES = {"oldest": ["torch==2.6.*", "torchvision==0.21.*"], "newest": ["torch", "torchvision"]}
JUPYTER = ["jupyterlab", "ipywidgets", "nbdev", "execnb", "ghapi", "smalldocs", "ipython", "ipykernel"]
RUN = [
    "train", "byol", "--max_steps", "5", "--n_groups", "4", "--n_symbols", "3", "--h_dim", "4",
    "--feature_dim", "8", "--train_batch_size", "16"
]
RUN += ["--n_sub_train", "300", "--n_sub_test", "200", "--final_eval_only"]
LONGEST_IMPORT = 3.0  # seconds
IMPORT = "import time; t = time.perf_counter(); import soft_ssl{}; print(time.perf_counter() - t)"


def said(command: list, cwd: Path, **more: str) -> str:
    "What a command prints. Raises `RuntimeError` with the end of it if it fails."
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")} | more
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, capture_output=True, text=True, check=False, env=env
    )
    if done.returncode:
        raise RuntimeError((done.stdout + done.stderr).strip()[-400:])
    return done.stdout


def source(folder: Path) -> Path:
    "The source as an archive has it: no history, nothing that was built."
    target = folder / "source"
    shutil.copytree(
        TOP, target,
        ignore=shutil.ignore_patterns(
            ".git", ".venv", "_proc", "_docs", "*.egg-info", "__pycache__", "*.h5", "experiments", "build",
            ".*cache"
        )
    )
    return target


def finds(python: str) -> str:
    "Where this Python is; empty if it is not installed."
    if f"{sys.version_info.major}.{sys.version_info.minor}" == python:
        return sys.executable
    managed = sorted(
        Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob(f"versions/{python}.*/bin/python")
    )
    program = str(managed[-1]) if managed else shutil.which(f"python{python}")
    works = (
        program
        and subprocess.run([program, "-c", "import venv"], capture_output=True, check=False).returncode == 0
    )
    return program if works else ""


def installed(python: str, torch: str, folder: Path) -> dict[str, object]:
    "What an installation comes to."
    row: dict[str, object] = {
        "what": f"Python {python}, {torch} torch",
        "command": f"python tests/installations.py --python {python} --torch {torch}"
    }
    program = finds(python)
    if not program:
        return row | {
            "tries": 0, "ended well": 0, "what happened": f"left out: there is no Python {python} here"
        }
    begun = time.monotonic()
    try:
        tree = source(folder)
        said([program, "-m", "venv", folder / "env"], folder)
        bin_ = folder / "env" / "bin"
        said([bin_ / "python", "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, tree], folder)
        shutil.rmtree(tree)
        said(
            [bin_ / "python", "-m", "pip", "install", "--quiet", *folder.glob("*.whl"), *TORCHES[torch]],
            folder
        )
        version = said([bin_ / "python", "-c", "import torch; print(torch.__version__)"], folder).strip()
        assert "soft-ssl" in said([bin_ / "soft-ssl", "--help"], folder)
        said([bin_ / "soft-ssl", *RUN, "--data_path", folder, "--root_path", folder], folder)
        assert list(folder.glob("default/*/probes.csv")), "no scores"
        said([bin_ / "python", "-m", "pip", "uninstall", "--quiet", "-y", *JUPYTER], folder)
        said([bin_ / "python", "-c", "import soft_ssl.commands, soft_ssl.latents"], folder)
        seconds, all_of_it = (
            min(float(said([bin_ / "python", "-c", IMPORT.format(part)], folder)) for _ in range(3))
            for part in ("", ".commands")
        )
        assert seconds < LONGEST_IMPORT, f"import takes {seconds:.1f} s"
        happened = (
            f"torch {version}: help, five steps with scores, and without Jupyter `import soft_ssl` in "
            f"{seconds:.2f} s, all that the command needs in {all_of_it:.1f} s"
        )
        row |= {"tries": 1, "ended well": 1, "what happened": happened}
    except (RuntimeError, AssertionError) as error:
        row |= {"tries": 1, "ended well": 0, "what happened": str(error)}
    return row | {"seconds": round(time.monotonic() - begun)}


def without_history(folder: Path) -> dict[str, object]:
    "The tests of the command line and of the repository, from a source archive, with the packages at hand."
    begun, tree = time.monotonic(), source(folder)
    command = [
        sys.executable, "-m", "pytest", "-q", "-rs", "tests/test_command_line.py", "tests/test_repository.py"
    ]
    row: dict[str, object] = {
        "what": "tests from a source archive without history", "tries": 1,
        "command": "python tests/installations.py --archive"
    }
    try:
        happened = said(command, tree, PYTHONPATH=str(tree), OMP_NUM_THREADS="1").strip().split("\n")[-1]
        row |= {"ended well": 1, "what happened": happened}
    except RuntimeError as error:
        row |= {"ended well": 0, "what happened": str(error)}
    return row | {"seconds": round(time.monotonic() - begun)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", choices=PYTHONS, help="only this one")
    parser.add_argument("--torch", choices=list(TORCHES), help="only this one")
    parser.add_argument("--archive", action="store_true", help="only the tests from a source archive")
    args = parser.parse_args()
    rows, file = [], RESULTS / "installations.csv"
    before = pd.read_csv(file) if file.exists() else pd.DataFrame({"what": []})
    pairs = (
        [] if args.archive
        else [
            (p, t) for p in PYTHONS for t in TORCHES if args.python in (None, p) and args.torch in (None, t)
        ]
    )
    for pair in pairs:
        with TemporaryDirectory() as scratch:
            rows.append(installed(*pair, Path(scratch)))
        print(rows[-1], flush=True)
    if args.archive or not (args.python or args.torch):
        with TemporaryDirectory() as scratch:
            rows.append(without_history(Path(scratch)))
        print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    RESULTS.mkdir(parents=True, exist_ok=True)
    pd.concat(
        [before[~before["what"].isin(table["what"])], table], ignore_index=True
    ).to_csv(file, index=False)
    sys.exit(0 if (table["tries"] == table["ended well"]).all() else 1)
