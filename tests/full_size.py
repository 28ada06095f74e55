"""MPI3D at its full size, by hand: an imitated archive of 1,036,800 images is converted, and the peak of
memory is shown.

`python tests/full_size.py FOLDER` needs some minutes and 3 GB of disk; the archive is one swing of the arm,
again and again.
"""

import resource
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from soft_ssl import mpi3d

BLOCK = 1600  # images of one object before one background: every pose


def imitate(archive: Path) -> None:
    "Writes the archive a block at a time."
    grid = mpi3d.FACTORS
    block = mpi3d.draw(grid.values(np.arange(BLOCK)), grid).numpy().tobytes()
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(grid), 64, 64, 3)}
    with (
        zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file,
        file.open("images.npy", "w", force_zip64=True) as member,
    ):
        npy.write_array_header_1_0(member, header)
        for _ in range(len(grid) // BLOCK):
            member.write(block)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / "mpi3d_real.npz"
    if not archive.exists():
        imitate(archive)
    print(
        f"archive: {archive.stat().st_size / 1e9:.2f} GB, {len(mpi3d.FACTORS) * 64 * 64 * 3 / 1e9:.1f} GB "
        "unpacked"
    )
    start = time.perf_counter()
    command = [
        sys.executable,
        "-m",
        "soft_ssl.cli",
        "download",
        "mpi3d_real",
        str(folder),
        "3",
        "--from",
        str(archive),
    ]
    subprocess.run(command, check=True)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"converted in {time.perf_counter() - start:.0f} s, peak memory {peak:.2f} GB")
