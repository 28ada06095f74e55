"""Each metric of a code against an independent computation: loops, closed forms, SciPy, PyTorch."""

import math
from collections import Counter

import numpy as np
import pytest
import scipy.linalg
import torch
from scipy import stats
from sklearn.metrics import mutual_info_score

from soft_ssl.bottleneck import Softmax, code_metrics
from soft_ssl.metrics import (
    dci, factor_vae, infoe, information, information_scores, lidar, sap, weighted_purity
)
from soft_ssl.method import rankme

SIZES, NUMBERS = (3, 4, 8), (2,)


def known_codes(n: int = 1500) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    "Factor values, and codes made by hand."
    rng = np.random.default_rng(1)
    values = np.stack([rng.integers(0, size, n) for size in SIZES], 1)
    guesses = np.stack([rng.integers(0, size, n) for size in SIZES], 1)
    numbers = (values - values.mean(0)) / values.std(0) + 0.01 * rng.normal(size=values.shape)
    return values, {
        "perfect": values,
        "renamed": np.stack([rng.permutation(size)[v] for size, v in zip(SIZES, values.T)], 1),
        "redundant": np.concatenate([values, values[:, ::-1]], 1),
        "one dead": np.concatenate([values, np.full((n, 1), 3)], 1),
        "noisy": np.where(rng.random(values.shape) < 0.5, guesses, values),
        "wide": np.concatenate([values, rng.integers(0, 8, (n, 10))], 1),
        "rotated": numbers @ scipy.stats.special_ortho_group.rvs(3, random_state=0),
        "noise": guesses,
    }


VALUES, CODES = known_codes()


def entropy_of(column) -> float:
    "Of a list of names, in bits, by counting."
    return -sum(c / len(column) * math.log2(c / len(column)) for c in Counter(column.tolist()).values())


def symbols_of(code: np.ndarray) -> np.ndarray:
    "Symbols, or the twenty bins of equal width that a number falls into, by `pandas`' rule written out."
    if np.issubdtype(code.dtype, np.integer):
        return code
    edges = [np.linspace(c.min(), c.max(), 21) for c in code.T]
    return np.stack(
        [np.clip(np.searchsorted(e, c, side="right") - 1, 0, 19) for e, c in zip(edges, code.T)], 1
    )


def bits_by_shuffling(code: np.ndarray, values: np.ndarray, shuffles: int = 60) -> np.ndarray:
    "Mutual information less what shuffled rows share, stretched so that the most there can be stays."
    rng = np.random.default_rng(2)
    symbols = symbols_of(code)
    table = np.zeros((code.shape[1], values.shape[1]))
    for g, group in enumerate(symbols.T):
        for f, factor in enumerate(values.T):
            told = mutual_info_score(group, factor) / math.log(2)
            chance = np.mean(
                [mutual_info_score(rng.permutation(group), factor) for _ in range(shuffles)]
            ) / math.log(2)
            most = min(entropy_of(group), entropy_of(factor))
            table[g, f] = most * (told - chance) / (most - chance) if most > chance else 0
    return table


@pytest.mark.parametrize("name", CODES)
def test_information_and_its_scores_are_those_of_loops_with_chance_taken_away_by_shuffling(name):
    code = CODES[name]
    bits = bits_by_shuffling(code, VALUES)
    assert np.abs(information(code, VALUES) - bits).max() < 0.01
    scores, bits = information_scores(code, VALUES), np.maximum(information(code, VALUES), 0)
    rows = [row for row, column in zip(bits, code.T) if len(set(column.tolist())) > 1]
    factor_bits = [entropy_of(factor) for factor in VALUES.T]
    gaps, infoc = [], []
    for f, most in enumerate(factor_bits):
        best, second = sorted((row[f] for row in rows), reverse=True)[:2]
        gaps.append((best - second) / most)
        infoc.append(best / max(sum(row[f] for row in rows), 1e-300))
    modularity, infom, weighted, weight = [], [], 0.0, 0.0
    of_all = [sum(row[f] for row in rows) for f in range(len(factor_bits))]
    for row in rows:
        parts = [told / most for told, most in zip(row, factor_bits)]
        infom.append(max(parts) / sum(parts) if sum(parts) > 0 else 1 / 3)
        if max(row) > 0:
            best = int(np.argmax(row))
            modularity.append(
                1 - sum(told**2 for f, told in enumerate(row) if f != best) / (max(row) ** 2 * 2)
            )
            shares = [told / most if most > 0 else 0.0 for told, most in zip(row, of_all)]
            weighted += sum(shares) * (1 - stats.entropy(shares, base=3))
            weight += sum(shares)
    L = len(rows)
    assert scores["mig"] == pytest.approx(np.mean(gaps), abs=1e-9)
    assert scores["infoc"] == pytest.approx((np.mean(infoc) - 1 / L) / (1 - 1 / L), abs=1e-9)
    assert scores["infom"] == pytest.approx((np.mean(infom) - 1 / 3) / (1 - 1 / 3), abs=1e-9)
    assert scores["modularity"] == pytest.approx(np.mean(modularity), abs=1e-9)
    assert scores["med"] == pytest.approx(weighted / weight, abs=1e-9)


def test_information_of_a_channel_is_what_theory_says():
    for v in (2, 5, 16):
        rng = np.random.default_rng(v)
        value = rng.integers(0, v, 40_000)
        said = np.where(rng.random(40_000) < 0.5, rng.integers(0, v, 40_000), value)
        right = 0.5 + 0.5 / v
        wrong = (1 - right) / (v - 1)
        expected = math.log2(v) + right * math.log2(right) + (v - 1) * wrong * math.log2(wrong)
        assert information(said[:, None], value[:, None])[0, 0] == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("name", CODES)
def test_sap_of_numbers_is_the_squared_correlation_and_of_symbols_the_correlation_ratio(name):
    code, number = CODES[name], VALUES[:, 2]
    told = []
    for group in code.T:
        if np.issubdtype(code.dtype, np.integer):  # the share of the variance that lies between the symbols
            means = {symbol: number[group == symbol].mean() for symbol in set(group.tolist())}
            told.append(np.var([means[symbol] for symbol in group.tolist()]) / number.var())
        else:
            told.append(np.corrcoef(group, number)[0, 1] ** 2)
    best, second = sorted(told, reverse=True)[:2]
    assert sap(code, VALUES, NUMBERS)[2] == pytest.approx(best - second, abs=0.05)


@pytest.mark.parametrize("name", ["perfect", "renamed", "redundant", "one dead", "noisy", "wide", "noise"])
def test_sap_of_classes_is_the_best_guess_for_each_symbol(name):
    code = CODES[name]
    for f in (0, 1):
        told = []
        for group in code.T:
            best = sum(
                Counter(VALUES[group == symbol, f].tolist()).most_common(1)[0][1]
                for symbol in set(group.tolist())
            )
            told.append(best / len(VALUES))
        best, second = sorted(told, reverse=True)[:2]
        assert sap(code, VALUES, NUMBERS)[f] == pytest.approx(best - second, abs=0.06)


@pytest.mark.parametrize("name", CODES)
def test_dci_agrees_with_a_random_forest_about_what_can_be_read_and_where(name):
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    code, half = CODES[name], len(VALUES) // 2
    trees, importance = dci(code, VALUES, NUMBERS), []
    for f, factor in enumerate(VALUES.T):
        forest = (
            RandomForestRegressor if f in NUMBERS else RandomForestClassifier
        )(60, max_features=None, max_depth=6, random_state=0)
        forest.fit(code[:half], factor[:half])
        importance.append(forest.feature_importances_)
        assert trees.informativeness[f] == pytest.approx(forest.score(code[half:], factor[half:]), abs=0.16)
    table = np.array(importance).T
    weights = table.sum(1) / table.sum()
    by_hand = sum(w * (1 - stats.entropy(row, base=3)) for w, row in zip(weights, table) if w > 0)
    assert weighted_purity(table) == pytest.approx(by_hand, abs=1e-9)
    # of what cannot be read, each kind of tree learns other guesses by heart
    assert trees.disentanglement == pytest.approx(by_hand, abs=0.2 if name == "noisy" else 0.12)


@pytest.mark.parametrize("name", CODES)
def test_infoe_is_that_of_a_logistic_regression_written_out(name):
    code, half = CODES[name], len(VALUES) // 2
    if np.issubdtype(code.dtype, np.integer):
        x = np.concatenate([np.eye(group.max() + 1)[group] for group in code.T], 1)
    else:
        x = (code - code.mean(0)) / code.std(0)
    x, parts = torch.from_numpy(x), []
    order = np.random.default_rng(5).permutation(len(x))  # other halves than those of the kit
    for factor in VALUES.T:
        y = torch.from_numpy(factor)[order]
        weights = torch.zeros(x.shape[1], int(y.max()) + 1, dtype=torch.double, requires_grad=True)
        bias = torch.zeros(weights.shape[1], dtype=torch.double, requires_grad=True)
        optimizer = torch.optim.LBFGS([weights, bias], max_iter=200, line_search_fn="strong_wolfe")

        def loss(rows, weights=weights, bias=bias, y=y):
            return torch.nn.functional.cross_entropy(
                x[order][rows] @ weights + bias, y[rows], reduction="sum"
            )

        def closure(loss=loss, weights=weights, optimizer=optimizer):
            optimizer.zero_grad()
            value = loss(slice(0, half)) + weights.square().sum() / 2  # scikit-learn's penalty at C = 1
            value.backward()
            return value

        optimizer.step(closure)
        counts = torch.bincount(y[:half]).double()
        parts.append(
            max(
                1 - float(loss(slice(half, None)).detach()) / float(-(counts / half).log()[y[half:]].sum()), 0
            )
        )
    assert infoe(code, VALUES) == pytest.approx(np.mean(parts), abs=0.04)


@pytest.mark.parametrize("name", CODES)
def test_factor_vae_is_that_of_pairs_counted_one_by_one(name):
    code, draw, votes = CODES[name], np.random.default_rng(3), Counter()
    kept = [g for g in range(code.shape[1]) if len(set(code[:, g].tolist())) > 1]

    def spread(rows, g):  # how much two images of a draw differ in a group, over all pairs
        one = code[rows, g]
        apart = one[:, None] - one[None]
        return (apart != 0).mean() if np.issubdtype(code.dtype, np.integer) else (apart**2).mean() / 2

    usual = {g: spread(draw.choice(len(code), 700), g) for g in kept}
    for _ in range(300):
        f = int(draw.integers(3))
        same = np.flatnonzero(VALUES[:, f] == draw.choice(VALUES[:, f]))
        rows = draw.choice(same, 48)
        told = {g: spread(rows, g) / usual[g] for g in kept}
        least = min(told.values())
        votes[int(draw.choice([g for g in kept if told[g] == least])), f] += 1
    by_hand = sum(max(votes[g, f] for f in range(3)) for g in kept) / 300
    assert factor_vae(code, VALUES)[0] == pytest.approx(by_hand, abs=0.12)
    assert factor_vae(code, VALUES)[1] == pytest.approx(1 / 3)


def test_rankme_and_lidar_are_those_of_scipy():
    rng = np.random.default_rng(0)
    x = rng.normal(
        size=(60, 1, 12)
    ) * np.linspace(0.1, 2, 12) + 0.3 * rng.normal(
        size=(60, 5, 12)
    ) @ rng.normal(size=(12, 12)) / 4
    singular = np.sqrt(np.maximum(scipy.linalg.eigvalsh(np.cov(x[:, 0].T, bias=True) * 60), 0))
    assert float(rankme(torch.from_numpy(x[:, 0]))) == pytest.approx(
        np.exp(stats.entropy(singular)), rel=1e-4
    )
    within = sum(
        np.outer(e - image.mean(0), e - image.mean(0)) for image in x for e in image
    ) / 300 + 1e-4 * np.eye(12)
    centre = x.reshape(-1, 12).mean(0)
    between = sum(np.outer(image.mean(0) - centre, image.mean(0) - centre) for image in x) / 60
    assert lidar(torch.from_numpy(x)) == pytest.approx(
        np.exp(stats.entropy(scipy.linalg.eigh(between, within, eigvals_only=True))), rel=1e-6
    )


def test_perplexity_counts_symbols_that_are_used_alike():
    logits = torch.full((12, 2, 6), -9.0)
    logits[range(12), 0, [i % 3 for i in range(12)]] = 9.0  # three symbols, alike
    logits[:, 1, 4] = 9.0  # one
    assert float(
        code_metrics(Softmax(2, 6)(logits.flatten(1)))["perplexity"]
    ) == pytest.approx((3 + 1) / 2, abs=1e-5)


def test_metrics_leave_constant_factors_out_refuse_nan_and_ignore_the_order_of_rows():
    shuffle, constant = np.random.default_rng(0).permutation(len(VALUES)), np.ones((len(VALUES), 1), int)
    metrics = {
        "information": lambda code, values: list(information_scores(code, values).values()),
        "sap": lambda code, values: sap(code, values, NUMBERS)[:3].tolist(),
        "dci": lambda code, values: [*dci(code, values, NUMBERS)[:2], *dci(code, values, NUMBERS)[2][:3]],
        "infoe": infoe, "factor_vae": factor_vae,
    }
    for name, metric in metrics.items():
        said = metric(CODES["noisy"], VALUES)
        assert metric(CODES["noisy"][shuffle], VALUES[shuffle]) == said, name
        assert metric(CODES["noisy"], np.concatenate([VALUES, constant], 1)) == said, name
        for bad in (np.nan, np.inf):
            with pytest.raises(ValueError, match="NaN"):
                metric(np.where(VALUES == 2, bad, VALUES.astype(float)), VALUES)
        with pytest.raises(ValueError, match="no factor varies"):
            metric(CODES["perfect"], 0 * VALUES)


def test_independent_codes_share_no_information_and_a_code_that_says_all_says_all():
    rng = np.random.default_rng(0)
    codes, values = rng.integers(0, 16, (2000, 30)), rng.integers(0, 32, (2000, 4))
    bits = information(codes, values)
    plain = mutual_info_score(codes[:, 0], values[:, 0]) / np.log(2)
    assert plain > 0.15  # what is not corrected
    assert abs(bits.mean()) < 0.005 and bits.std() < 0.02
    assert information(values[:, :1], values[:, :1])[0, 0] == pytest.approx(5, abs=0.02)
    assert information(values[:, :1] // 2, values[:, :1])[0, 0] == pytest.approx(4, abs=0.02)
