"A few tries of each fault; `make faults` makes many."

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from faults import FAULTS


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    "In a process of its own, which forks and has no threads."
    out = tmp_path_factory.mktemp("faults") / "faults.csv"
    command = [sys.executable, Path(__file__).with_name("faults.py"), "--quick", "--out", out]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert out.exists(), done.stdout + done.stderr
    return pd.read_csv(out).set_index("what")


@pytest.mark.parametrize(
    "fault", [fault for fault in FAULTS.values() if fault.quick], ids=lambda fault: fault.name
)
def test_fault_ends_well(fault, table):
    row = table.loc[fault.name]
    if row["tries"] == 0:
        pytest.skip(row["what happened"])
    assert row["ended well"] == row["tries"], row["what happened"]
