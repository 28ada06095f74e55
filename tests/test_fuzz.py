"""A few mutated files and bad options of each kind, out of the thousands that `make fuzz` tries; and options
that hypothesis thinks of."""

import contextlib
import string
from tempfile import TemporaryDirectory

import pytest
from fuzz import KINDS, SMALL, answer, fuzz, make_data, option_words, words_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from soft_ssl.experiment import METHODS, method_options

HERE = {
    "HDF5 data": 20, "npz archive": 20, "last.ckpt": 16, "best.safetensors": 20, "config.json": 20,
    "metrics.csv": 6, "folder of images": 14, "command-line option": 10
}


@pytest.fixture(scope="module")
def endings(tmp_path_factory):
    "The first cases of each kind, of those that `make fuzz` tries."
    assert HERE.keys() == KINDS.keys()
    return list(fuzz({kind: range(n) for kind, n in HERE.items()}, tmp_path_factory.mktemp("fuzz")))


@pytest.mark.parametrize("kind", KINDS)
def test_mutated_input_ends_in_the_right_result_or_in_one_sentence(kind, endings):
    mine = [ending for ending in endings if ending[0] == kind]
    assert len(mine) == HERE[kind]
    wrong = [
        f"python tests/fuzz.py --kind '{kind}' --case {number}: {mutation}: {ending} [{said}]"
        for _, number, mutation, ending, said in mine if ending not in ("right", "one sentence")
    ]
    assert wrong == []
    assert "one sentence" in {ending for *_, ending, _ in mine}  # the mutations do find something to say


def test_every_option_is_tried():
    tried = {name for _, name, _ in option_words()}
    assert {name for method in METHODS for name in method_options(method)} <= tried


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    "The small data of the fuzz."
    folder = tmp_path_factory.mktemp("small")
    make_data(folder)
    return folder / "data"


NUMBERS = {name: option for name, option in method_options("vq-byol").items() if option.kind in (int, float)}
TEXT = st.text(string.printable + "äß漢\u202e", min_size=1, max_size=30).filter(lambda text: "\0" not in text)


@settings(
    max_examples=40, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    name=st.sampled_from(sorted(NUMBERS)),
    value=st.one_of(TEXT, st.integers(max_value=-1).map(str), st.floats(max_value=-1e-9).map(repr))
)
def test_words_and_negative_numbers_for_numbers_end_in_one_sentence(name, value, data):
    number = None
    with contextlib.suppress(ValueError):
        number = NUMBERS[name].kind(value)
    if number is not None and number >= 0:  # a text may be a number all the same
        return
    with TemporaryDirectory() as folder:
        options = SMALL | dict(
            max_steps=1, dataset="mpi3d_toy", dataset_K=3, root_path=folder, data_path=data
        )
        words = [
            "train", "vq-byol", *words_of({key: v for key, v in options.items() if key != name}),
            f"--{name}={value}"
        ]
        code, said = answer(words)
    assert code == 2 and said.count("soft-ssl: ") == 1 and "Traceback" not in said, (words, code, said)
    assert name in said or str(number) in said, (words, said)  # it is this option that is refused
