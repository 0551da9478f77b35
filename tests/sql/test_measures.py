"""Every measure of a tensor and every correcting factor against NumPy and SciPy."""

from dataclasses import dataclass

import duckdb
import numpy as np
import pytest
import synthetic
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import distance
from scipy.stats import entropy, wasserstein_distance

from ptqdb.database import materialize, query, read_view
from ptqdb.quantization.number_formats import STUDY_GRID, NumberFormat, bias_format, number_format

Floats = synthetic.Floats
RESCALES = ("fakefreeze", "l2")
HISTOGRAM_MEASURES = (
    "js", "kl", "hellinger", "total_variation", "wasserstein",
    "bin_cosine", "bin_pearson", "uncovered", "uncovered_bins",
)  # fmt: skip
PAIRED_MEASURES = ("js_softmax", "nsr", "coherent", "orthogonal", "cosine", "pearson", "bits")
MEASURES = (*HISTOGRAM_MEASURES, "sharpness_gap", *PAIRED_MEASURES, "channelnsr")
# Without those that have a test of their own.
COMPUTED = tuple(name for name in MEASURES if name not in ("js_softmax", "channelnsr"))


@dataclass(frozen=True)
class Pair:
    """A float tensor and its codes; the format is a place in synthetic.FORMATS."""

    values: Floats
    codes: Floats
    scale: float
    place: int
    role: str = "weight"

    @property
    def cell_format(self) -> NumberFormat:
        return synthetic.FORMATS[self.place]

    @property
    def grid(self) -> NumberFormat:
        """Of the codes themselves."""
        return self.cell_format if self.role == "weight" else bias_format(self.cell_format.family)


def quantized(values: Floats, place: int) -> Pair:
    known = synthetic.FORMATS[place]
    scale = float(np.abs(values).max() / known.max_code)
    return Pair(values, synthetic.nearest_codes(values / scale, known), scale, place)


def write(connection: duckdb.DuckDBPyConnection, pairs: list[Pair]) -> None:
    """Replace all tensors by these, with the ids 1, 2, ..., each in a layer of its own."""
    for table in synthetic.TENSOR_TABLES:
        connection.execute(f"delete from {table}")
    for layer_id, pair in enumerate(pairs, start=1):
        tensor_id = synthetic.write_tensor(connection, layer_id, pair.role, pair.values)
        known = pair.cell_format if pair.role == "weight" else None
        synthetic.write_codes(
            connection, tensor_id, pair.place + 1, known, pair.scale, pair.codes, pair.values
        )


def measure(
    connection: duckdb.DuckDBPyConnection, rescale: str = "fakefreeze", bins: int = 63
) -> list[dict[str, float]]:
    """Return the measures of each cell by name; one query, since planning takes the time."""
    words = ", ".join(f"('{name}')" for name in COMPUTED)
    rows = query(
        connection,
        f"select words.measure, found.* from (values {words}) as words(measure), lateral "
        f"(from tensor_measure('{rescale}', words.measure, null, {bins})) as found",
    ).rows_by_key(["tensor_id", "number_format_id"], named=True)
    return [{row["measure"]: row["divergence"] for row in rows[cell]} for cell in sorted(rows)]


@pytest.fixture(scope="module")
def pairs(module_database: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    """Number formats and layers; each test writes its tensors."""
    layers = (synthetic.SyntheticLayer(1, 0, 1),) * len(CASES)
    networks = (synthetic.SyntheticNetwork("Pairs", "Pairs", layers, 0.8),)
    synthetic.fill(module_database, networks=networks, scopes=())
    return module_database


# The oracle.


def factor_of(pair: Pair, rescale: str) -> float:
    if rescale == "l2" and pair.codes.any():
        return float(np.linalg.norm(pair.values) / np.linalg.norm(pair.codes))
    return pair.scale


def oracle(pair: Pair, rescale: str, bins: int) -> dict[str, float]:
    factor = factor_of(pair, rescale)
    return {
        **oracle_of_histograms(pair, factor, bins),
        **oracle_of_pairs(pair.values, pair.codes * factor),
        "sharpness_gap": oracle_sharpness_gap(pair, factor),
        "bits": 2.0 ** (1 - pair.cell_format.bits),
    }


def coarse_bins(values: Floats, max_abs: float, bins: int) -> Floats:
    """The nearest multiple of a coarse bin's width, by the fine bins within it."""
    fine = synthetic.fine_bins(values, max_abs)
    # The group is odd: no tie.
    return np.rint(fine / (4095 // bins))


def oracle_of_histograms(pair: Pair, factor: float, bins: int) -> dict[str, float]:
    max_abs = np.abs(pair.values).max()
    codes = pair.codes
    if pair.role == "weight" and pair.grid.code_count > synthetic.MAX_EXACT_CODES:
        codes = synthetic.fine_bins(codes, pair.grid.max_code) * pair.grid.max_code / 2047
    left = coarse_bins(pair.values, max_abs, bins)
    right = coarse_bins(codes * factor, max_abs, bins)
    domain = np.union1d(np.arange(-(bins // 2), bins // 2 + 1), right)
    f, q = (np.array([(x == bin_).sum() for bin_ in domain]) for x in (left, right))
    p, r = f / f.sum(), q / q.sum()
    deviation = pair.values.std() if len(np.unique(pair.values)) > 1 else max_abs
    width = 4095 // bins * max_abs / 2047
    magnitudes = np.array(pair.grid.magnitudes())
    # The widest grid goes on to 2^64, past what a bin's number holds.
    magnitudes = magnitudes[magnitudes * factor < 2 * max_abs]
    grid = np.concatenate([-magnitudes, magnitudes])
    occupied = np.unique(left)
    is_covered = np.isin(occupied, coarse_bins(grid * factor, max_abs, bins))
    return {
        "js": float(distance.jensenshannon(p, r, base=2)) ** 2,
        "kl": float(entropy(f + 0.5, q + 0.5, base=2)),
        "hellinger": float(distance.euclidean(np.sqrt(p), np.sqrt(r))) / 2**0.5,
        "total_variation": float(distance.cityblock(p, r)) / 2,
        "wasserstein": (
            wasserstein_distance(left, right) * width / deviation if deviation > 0 else 0.0
        ),
        "bin_cosine": float(distance.cosine(p, r)),
        "bin_pearson": min(1.0, float(distance.correlation(p, r))),
        "uncovered": float(p[np.isin(domain, occupied[~is_covered])].sum()),
        "uncovered_bins": float(1 - is_covered.mean()),
    }


def oracle_of_pairs(x: Floats, y: Floats) -> dict[str, float]:
    if np.array_equal(x, y):
        return dict.fromkeys(("nsr", "coherent", "orthogonal", "cosine", "pearson"), 0.0)
    is_varied = len(np.unique(x)) > 1 and len(np.unique(y)) > 1
    cosine = float(distance.cosine(x, y)) if x.any() and y.any() else 1.0
    (gain,), *_ = np.linalg.lstsq(x[:, None], y, rcond=None)
    return {
        "nsr": float(((x - y) ** 2).sum() / (x**2).sum()),
        "coherent": float((1 - gain) ** 2),
        "orthogonal": float(((y - gain * x) ** 2).sum() / (x**2).sum()),
        "cosine": cosine,
        "pearson": float(distance.correlation(x, y)) if is_varied else cosine,
    }


def oracle_sharpness_gap(pair: Pair, factor: float) -> float:
    mean, max_abs = np.abs(pair.values).mean(), np.abs(pair.values).max()
    centres = synthetic.fine_bins(pair.values, max_abs) * max_abs / 2047
    magnitudes = pair.grid.magnitudes()
    codes = np.concatenate([-magnitudes[1:], magnitudes])
    return abs(float((np.abs(centres) <= mean).mean() - (np.abs(codes) * factor <= mean).mean()))


def laplace(count: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).laplace(scale=0.1, size=count)


def bias_pair(family_place: int, scale: float) -> Pair:
    """A bias whose scale is not that of its largest element."""
    values = laplace(40, family_place) + 0.05
    known = bias_format(synthetic.FORMATS[family_place].family)
    codes = (
        np.rint(values / scale)
        if known.family == "INT"
        else synthetic.nearest_codes(values / scale, known)
    )
    return Pair(values, codes, scale, family_place, "bias")


CASES = {
    **{known.name: quantized(laplace(3000), i) for i, known in enumerate(synthetic.FORMATS)},
    "bias in POT_8": bias_pair(3, 0.25),
    "bias in FLOAT_16_E7": bias_pair(4, 0.003),
    "every code zero": Pair(laplace(50), np.zeros(50), 1.0, 1),
    "one element": Pair(np.array([0.3]), np.array([127.0]), 0.3 / 127, 1),
    "one element, off": Pair(np.array([0.3]), np.array([2.0]), 0.1, 1),
    "constant, off": Pair(np.full(9, 0.3), np.full(9, 2.0), 0.1, 1),
    "one sign": Pair(np.abs(laplace(200)), np.rint(np.abs(laplace(200)) / 0.01), 0.01, 1),
    "opposite": Pair(np.array([1.0, -3.0]), np.array([-1.0, 3.0]), 1.0, 1),
}


@pytest.mark.parametrize("bins", [13, 63, 273])
@pytest.mark.parametrize("rescale", RESCALES)
def test_measures_are_what_numpy_and_scipy_say(
    pairs: duckdb.DuckDBPyConnection, rescale: str, bins: int
) -> None:
    write(pairs, list(CASES.values()))
    found = measure(pairs, rescale, bins)
    assert len(found) == len(CASES)
    for (name, pair), measures in zip(CASES.items(), found, strict=True):
        expected = oracle(pair, rescale, bins)
        assert measures.keys() == expected.keys()
        for word, value in expected.items():
            # Distances by SciPy are 1 - similarity, and lose the digits that ptqdb keeps.
            assert measures[word] == pytest.approx(value, rel=1e-7, abs=1e-11), (name, word)
    # What the cases are there for.
    assert {word for row in found for word in row if row[word] > 0.01} == set(COMPUTED)


def test_nothing_is_lost_of_zeros(pairs: duckdb.DuckDBPyConnection) -> None:
    write(pairs, [Pair(np.zeros(5), np.zeros(5), 1.0, 1)])
    for rescale in RESCALES:
        (found,) = measure(pairs, rescale)
        lost = {name for name, value in found.items() if value != 0}
        # All elements, and one of 255 codes, are within the mean range.
        assert lost == {"bits", "sharpness_gap"}
        assert found["sharpness_gap"] == 1 - 1 / 255


def test_small_distances_keep_their_digits(pairs: duckdb.DuckDBPyConnection) -> None:
    """1 - similarity would have no digit left of a distance of 1e-17."""
    x = np.array([3.0, 4.0])
    # A step of 1e-8 across x: d^2 = 1e-16, and 1 - cos = d^2 / (2 x^2) up to its own square.
    y = x + 1e-8 * np.array([-0.8, 0.6])
    write(pairs, [Pair(x, y, 1.0, 1)])
    (found,) = measure(pairs)
    assert found["cosine"] == pytest.approx(1e-16 / 50, rel=1e-6)


def test_softmax_divergence_is_that_of_one_group(pairs: duckdb.DuckDBPyConnection) -> None:
    write(pairs, [CASES["INT_8"], CASES["INT_2"]])
    pairs.execute(
        "update quantized_tensor set softmax_js_fakefreeze = 3, softmax_js_l2 = 1, "
        "softmax_group_count = 4 where tensor_id = 1"
    )
    call = "from tensor_measure('{}', 'js_softmax', null, 63) order by tensor_id"
    found = [query(pairs, call.format(x))["divergence"].to_list() for x in RESCALES]
    # That of the second was not measured.
    assert found == [[0.75, None], [0.25, None]]


def test_the_median_channel_counts(pairs: duckdb.DuckDBPyConnection) -> None:
    """Neither the loud channel nor the dead one decides; a bias is taken as a whole."""
    loud_and_quiet = np.array([100.0, 60.0, 1.0, 0.4, 0.0, 0.0, -30.0, 5.0])
    codes = np.array([100.0, 60.0, 0.0, 1.0, 0.0, 0.0, -29.0, 5.0])
    bias = Pair(np.array([4.0, 2.0]), np.array([3.0, 2.0]), 1.0, 1, "bias")
    write(pairs, [Pair(loud_and_quiet, codes, 1.0, 1), bias])
    materialize(pairs)
    call = "from tensor_measure('{}', 'channelnsr', null, 63) order by tensor_id"
    found, of_l2 = (query(pairs, call.format(x))["divergence"].to_list() for x in RESCALES)
    pairs.execute("delete from tensor_divergence")
    # [100, 60] is exact, [1, 0.4] has the error [1, 0.6], nothing is lost of [0, 0]
    expected = np.median([0, (1 + 0.36) / (1 + 0.16), 0, 1 / (900 + 25)])
    assert found == pytest.approx([expected, 1 / 20], rel=1e-6)
    assert of_l2 == []


# The algebra, as docs/reference/measures.md tells it.

SYMMETRIC = {
    "js", "hellinger", "total_variation", "bin_cosine", "bin_pearson", "cosine", "pearson",
}  # fmt: skip
BOUND = dict.fromkeys(COMPUTED, 1.0) | {"cosine": 2.0, "pearson": 2.0}
UNBOUNDED = {"kl", "wasserstein", "nsr", "coherent", "orthogonal"}
ZERO_ON_EQUALS = set(COMPUTED) - {"bits", "sharpness_gap", "uncovered", "uncovered_bins"}
UNPAIRED = {*HISTOGRAM_MEASURES, "sharpness_gap", "bits"}

# Whole numbers, the largest 100 on both sides: either can be the other's codes, in one range.
elements = st.lists(st.integers(-100, 100), min_size=11, max_size=11)


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(left=elements, right=elements, order=st.permutations(range(12)))
def test_algebra(
    pairs: duckdb.DuckDBPyConnection, left: list[int], right: list[int], order: list[int]
) -> None:
    x, y = np.array([*left, 100.0]), np.array([*right, 100.0])
    write(
        pairs,
        [
            Pair(*both, 1.0, 1)
            for both in ((x, y), (y, x), (x, x), (x, y[order]), (x[order], y[order]))
        ],
    )
    forth, back, equal, shuffled, together = measure(pairs)
    for word in COMPUTED:
        assert np.isfinite(forth[word])
        assert forth[word] >= 0
        if word not in UNBOUNDED:
            assert forth[word] <= BOUND[word]
        if word in SYMMETRIC:
            assert back[word] == pytest.approx(forth[word], rel=1e-9, abs=1e-12)
        if word in ZERO_ON_EQUALS:
            assert equal[word] == pytest.approx(0, abs=1e-12)
        if word in UNPAIRED:
            assert shuffled[word] == pytest.approx(forth[word], rel=1e-12)
        assert together[word] == pytest.approx(forth[word], rel=1e-9, abs=1e-12)


def test_what_the_algebra_does_not_promise(pairs: duckdb.DuckDBPyConnection) -> None:
    """For each measure without a property a pair that shows it."""
    x, y = np.array([100.0, 100, 0, 1]), np.array([100.0, 0, 0, 0])
    far = np.array([100.0, -100, 0, 1])
    write(pairs, [Pair(x, y, 1.0, 1), Pair(y, x, 1.0, 1), Pair(x, y[::-1].copy(), 1.0, 1)])
    forth, back, shuffled = measure(pairs)
    computed = set(COMPUTED) - {"bits", "uncovered", "uncovered_bins"}
    asymmetric = {word for word in computed if forth[word] != pytest.approx(back[word])}
    assert asymmetric == computed - SYMMETRIC
    paired = {word for word in COMPUTED if forth[word] != pytest.approx(shuffled[word])}
    assert paired == set(COMPUTED) - UNPAIRED
    near_zero = np.concatenate([np.full(4000, 0.01), [1.0]])
    turned = -100 * near_zero
    turned[0] = 100
    write(pairs, [Pair(near_zero, turned, 1.0, 1), Pair(far, far, 1.0, 0)])
    large, same = measure(pairs)
    assert {word for word in COMPUTED if large[word] > BOUND[word]} == UNBOUNDED
    assert {word for word in COMPUTED if same[word] > 0} <= set(COMPUTED) - ZERO_ON_EQUALS


# The grids in closed form.

ALL_GRIDS = [*STUDY_GRID, number_format("POT_8"), bias_format("FLOAT")]


@pytest.mark.parametrize("known", ALL_GRIDS, ids=lambda known: known.name)
def test_magnitudes_within(pairs: duckdb.DuckDBPyConnection, known: NumberFormat) -> None:
    magnitudes = np.array(known.magnitudes())
    some = magnitudes[:: max(1, len(magnitudes) // 300)]
    values = np.concatenate([some, 1.25 * some, 0.75 * some, [magnitudes[-1], 2 * magnitudes[-1]]])
    expected = np.searchsorted(magnitudes, values, side="right") - 1
    found = pairs.execute(
        "select magnitudes_within(v, $1, $2, $3) from (select unnest($4) as v)",
        [known.family, known.bits, known.ebits, values.tolist()],
    ).fetchall()
    assert [int(x) for (x,) in found] == expected.tolist()


# Corrections.


@pytest.mark.parametrize(
    ("correction", "damage"),
    [
        ("cosine", "bin_cosine"),
        ("pearson", "bin_pearson"),
        ("sharpness", "sharpness_gap"),
        ("coverage", "uncovered"),
        ("bincoverage", "uncovered_bins"),
    ],
)
@pytest.mark.parametrize("rescale", RESCALES)
def test_a_correction_multiplies_each_tensor(
    study: duckdb.DuckDBPyConnection, rescale: str, correction: str, damage: str
) -> None:
    """Small has one tensor: its divergence is the tensor's."""
    call = f"variant(rescale := '{rescale}', correction := '{{}}', bins := {{}})"
    for bins in (63, 13):
        plain, corrected = (
            read_view(study, call.format(word, bins), "network = 'Small'")
            for word in ("none", correction)
        )
        factors = query(
            study,
            "select 1 - other as factor, name "
            f"from tensor_measure('{rescale}', 'js', '{damage}', {bins}) "
            "join number_format using (number_format_id) where tensor_id = "
            "(select tensor_id from tensor join layer using (layer_id) "
            "join network using (network_id) where network.name = 'Small')",
        )
        factor = dict(factors.select("name", "factor").iter_rows())
        assert len(corrected) == len(synthetic.FORMATS)
        assert all(0 <= x <= 1 for x in factor.values())
        assert any(x < 1 for x in factor.values())
        for one, other in zip(plain.to_dicts(), corrected.to_dicts(), strict=True):
            expected = one["divergence"] * factor[one["number_format"]]
            assert other["divergence"] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("correction", "power"), [("fanin", 1.0), ("rootfanin", 0.5)])
@pytest.mark.parametrize("combine", ["half", "weightonly"])
def test_noise_is_divided_by_the_fan_in(
    study: duckdb.DuckDBPyConnection, combine: str, correction: str, power: float
) -> None:
    """That of weight and bias alike: by the elements that an output channel of four sums over."""
    plain, corrected = (
        query(
            study,
            "select layer_id, number_format_id, divergence from measured_layer("
            f"'fakefreeze', '{combine}', '{word}', 'channelnsr', 63, 'parameters')",
        )
        for word in ("none", correction)
    )
    weights = [layer.weights for network in synthetic.NETWORKS for layer in network.layers]
    fan_in = dict(enumerate((weight / 4 for weight in weights), 1))
    both = plain.join(corrected, on=["layer_id", "number_format_id"])
    assert len(both) == len(plain) == len(weights) * len(synthetic.FORMATS)
    assert (both["divergence"] > 0).all()
    for row in both.to_dicts():
        expected = row["divergence"] / fan_in[row["layer_id"]] ** power
        assert row["divergence_right"] == pytest.approx(expected, rel=1e-12)


def test_sensitivity_shares_by_what_each_causes_alone(
    database: duckdb.DuckDBPyConnection,
) -> None:
    layers = (synthetic.SyntheticLayer(40, 4, 10**6), synthetic.SyntheticLayer(30, 0, 3 * 10**6))
    networks = (synthetic.SyntheticNetwork("Two", "Two", layers, 0.8),)
    synthetic.fill(database, networks=networks, scopes=("all",))
    call = "variant(correction := 'sensitivity', combine := 'nodiv')"
    assert read_view(database, call).is_empty()
    right = np.arange(1000) < 800
    for place in range(1, len(synthetic.FORMATS) + 1):
        # Lost of 800: 300 by the weight, 100 by the bias; of the last format none at all.
        is_last = place == len(synthetic.FORMATS)
        for scope, lost in (("weight", 300), ("bias", 100)):
            now = right if is_last else np.arange(1000) < 800 - lost
            synthetic.write_evaluation(database, 1, place, scope, now, right)
    database.execute("update evaluation set correct_top1 = 800 where scope = 'none'")
    measured = query(database, "from tensor_measure('fakefreeze', 'js', null, 63)")
    value = {
        (row["tensor_id"], row["number_format_id"]): row["divergence"]
        for row in measured.to_dicts()
    }
    found = read_view(database, call).rows_by_key("number_format", named=True, unique=True)
    for place, known in enumerate(synthetic.FORMATS, start=1):
        weight, bias = (0.5, 0.5) if place == len(synthetic.FORMATS) else (0.75, 0.25)
        first = weight * value[1, place] + bias * value[2, place]
        expected = 0.25 * first + 0.75 * value[3, place]
        assert found[known.name]["divergence"] == pytest.approx(expected, rel=1e-12)


def test_materialized_and_live_agree(database: duckdb.DuckDBPyConnection) -> None:
    synthetic.fill(database, networks=synthetic.NETWORKS[1:2])
    live = [measure(database, rescale) for rescale in RESCALES]
    materialize(database)
    assert [measure(database, rescale) for rescale in RESCALES] == live
    stored = query(database, "select distinct measure, bins from tensor_divergence").rows()
    assert set(stored) == {(x, 63) for x in HISTOGRAM_MEASURES} | {
        ("sharpness_gap", None),
        ("channelnsr", None),
    }


def test_tested_measures_are_all_measures(pairs: duckdb.DuckDBPyConnection) -> None:
    """Those of the whole network are in test_probe_measures.py."""
    words = query(pairs, "select unnest(measure_words()) as word")["word"]
    assert tuple(word for word in words if not word.startswith("probe_")) == MEASURES
