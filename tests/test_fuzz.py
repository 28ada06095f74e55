"A few mutated files and bad options of each kind, out of the thousands that `make fuzz` tries; and options that hypothesis thinks of."

import os
import string

import pytest
from fuzz import KINDS, SMALL, answer, fuzz, option_words, words_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from soft_ssl.experiment import method_options

HERE = {"HDF5 data": 20, "npz archive": 20, "last.ckpt": 16, "best.safetensors": 20, "config.json": 20, "metrics.csv": 6, "folder of images": 14, "command-line option": 10}


@pytest.fixture(scope="module")
def endings(tmp_path_factory):
    "The first cases of each kind, of those that `make fuzz` tries."
    assert HERE.keys() == KINDS.keys()
    return list(fuzz({kind: range(n) for kind, n in HERE.items()}, tmp_path_factory.mktemp("fuzz")))


@pytest.mark.parametrize("kind", KINDS)
def test_mutated_input_ends_in_the_right_result_or_in_one_sentence(kind, endings):
    mine = [ending for ending in endings if ending[0] == kind]
    assert len(mine) == HERE[kind]
    wrong = [f"python tests/fuzz.py --kind '{kind}' --case {number}: {mutation}: {ending} [{said}]" for _, number, mutation, ending, said in mine
             if ending not in ("right", "one sentence")]  # fmt: skip
    assert wrong == []
    assert "one sentence" in {ending for *_, ending, _ in mine}  # the mutations do find something to say


def test_every_option_is_tried():
    tried = {name for _, name, _ in option_words()}
    assert {name for method in ("byol", "moco-simclr", "vq-byol") for name in method_options(method)} <= tried


NUMBERS = {name: option for name, option in method_options("vq-byol").items() if option.kind in (int, float)}
TEXT = st.text(string.printable + "äß漢\u202e", min_size=1, max_size=30).filter(lambda text: "\0" not in text)


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(sorted(NUMBERS)), value=st.one_of(TEXT, st.integers(max_value=-1).map(str), st.floats(max_value=-1e-9).map(repr)))
def test_words_and_negative_numbers_for_numbers_end_in_one_sentence(name, value, tmp_path):
    try:
        good = NUMBERS[name].kind(value) >= 0  # a text may be a number all the same
    except ValueError:
        good = False
    if good:
        return
    words = ["train", "vq-byol", *words_of(SMALL | dict(max_steps=1, root_path=tmp_path, data_path=os.devnull, source="original")), f"--{name}={value}"]
    code, said = answer(words)
    assert code == 2 and said.count("soft-ssl: ") == 1 and "Traceback" not in said, (words, code, said)
