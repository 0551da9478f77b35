"""Collections under several schemes, of users' functions and of others' quantized checkpoints."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from collecting import Silence, contents
from running import Run
from small_networks import Database, pictures, three_layers
from torch import Tensor, nn

import ptqdb
from ptqdb.collection.plan import Cell, NetworkTask
from ptqdb.collection.quantized_checkpoints import QuantizedCheckpoint
from ptqdb.collection.requests import build_request
from ptqdb.collection.study_file import read_study_file
from ptqdb.collection.sweep import CollectionOutcome
from ptqdb.collection.unevaluated import measure_unevaluated
from ptqdb.datasets.images import ImageSet, normalize
from ptqdb.errors import MismatchError, UsageError, in_options, reword
from ptqdb.fitting.predicted_losses import Predictions
from ptqdb.networks.sources import NetworkSource, network_source
from ptqdb.quantization.codes import code_weight
from ptqdb.quantization.formats import DEPLOYED_FORMATS, find_format, match_formats

Tables = list[dict[str, list[tuple[Any, ...]]]]
FORMATS = "INT_4,mxfp4,int8,nf4,q4_K,int4_g128_zp,nvfp4,INT_6@channel,range=mse"
SCOPES = ("weight", "input", "bias", "layer")


@pytest.fixture(scope="module")
def both(empty_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Database, Database]:
    """A network in all schemes, and in the study's alone."""
    found = []
    for formats in (FORMATS, "INT_4"):
        database = Database(empty_file, tmp_path_factory.mktemp("schemes"))
        outcome = database.collect(three_layers(), formats, scopes=SCOPES)
        assert outcome.failures == []
        found.append(database)
    return found[0], found[1]


@pytest.fixture(scope="module")
def tables(both: tuple[Database, Database]) -> Tables:
    """The rows of every table of either."""
    return [contents(each.path) for each in both]


# --- several schemes -------------------------------------------------------------------------


def test_every_scheme_fills_every_scope(both: tuple[Database, Database]) -> None:
    """Eight formats: together, three roles alone, and each of three layers alone."""
    database, _ = both
    rows = database.rows(
        "select format_name(f.name, s.name), scope, count(*) from evaluation "
        "join number_format as f using (number_format_id) join scheme as s using (scheme_id) "
        "group by all"
    )
    names = {each.name for each in match_formats(FORMATS)}
    scopes = ("all", "weight", "input", "bias")
    assert {(name, scope): count for name, scope, count in rows} == {
        (name, scope): 1 for name in names for scope in scopes
    }
    assert database.rows("select count(*) from layer_evaluation") == [(8 * 3,)]
    assert database.rows("select count(*) from probe") == [(8,)]
    # eight tensors: three weights, biases and inputs, and no other
    assert database.rows("select count(*) from dequantized_tensor") == [(7 * 9,)]
    assert database.rows("select count(*) from quantized_tensor") == [(9,)]
    assert database.failed_checks() == {}


def test_a_rerun_fills_nothing(both: tuple[Database, Database], tables: Tables) -> None:
    database, _ = both
    outcome = database.collect(three_layers(), FORMATS, scopes=SCOPES)
    assert (outcome.filled_count, outcome.present_count) == (0, 8 * (4 + 3))
    assert contents(database.path) == tables[0]


def test_rows_of_the_study_are_those_of_a_collection_with_it_alone(
    both: tuple[Database, Database], tables: Tables
) -> None:
    """In every table; what has a scheme has more rows, of others."""
    (database, alone), (all_schemes, of_study) = both, tables
    have_scheme = {
        name
        for (name,) in alone.rows(
            "select table_name from duckdb_columns() where column_name in ('scheme_id', 'scheme')"
        )
    }
    assert {"evaluation", "probe", "tensor_divergence"} < have_scheme
    for table, rows in of_study.items():
        if table in ("scheme", "number_format", "number_format_code"):
            assert set(rows) < set(all_schemes[table])
        elif table not in have_scheme:
            assert all_schemes[table] == rows, table
        elif "scheme_id" in columns_of(alone, table):
            found = database.rows(
                f"select * from {table} where scheme_id is null or scheme_id = (select scheme_id "
                "from scheme where name = 'per_tensor_symmetric_max') order by all"
            )
            assert found == rows, table
    for table in ("evaluation", "layer_evaluation", "probe", "tensor_divergence"):
        assert len(all_schemes[table]) > len(of_study[table]), table


def columns_of(database: Database, table: str) -> set[str]:
    rows = database.rows(f"select column_name from duckdb_columns() where table_name = '{table}'")
    return {name for (name,) in rows}


def test_the_facts_are_those_of_the_layers(both: tuple[Database, Database]) -> None:
    database, _ = both
    weight = three_layers().state_dict()["3.weight"]
    for name in ("mxfp4", "q4_K", "INT_6@channel,range=mse"):
        known = find_format(name)
        coded = code_weight(weight, known.number_format, known.scheme, three_layers()[3])
        values = coded.dequantized(three_layers()[3]).double()
        assert coded.groups is not None
        rows = database.rows(
            "select d.squared_error_sum, sum_y, storage_bits, scale_count, clipped_count "
            "from dequantized_tensor as d join tensor using (tensor_id) "
            "join layer using (layer_id) join number_format as f using (number_format_id) "
            "join scheme as s using (scheme_id) where layer.name = '3' and role = 'weight' "
            f"and format_name(f.name, s.name) = '{name}'"
        )
        error = float((values - weight.double()).square().sum())
        assert rows == [
            (
                pytest.approx(error, rel=1e-9),
                pytest.approx(float(values.sum()), rel=1e-9),
                coded.groups.storage_bits,
                len(coded.groups.scales),
                coded.groups.clipped_count,
            )
        ]


class Impatient(Silence):
    """Presses Ctrl-C once so many cells are filled."""

    def __init__(self, patience: int) -> None:
        super().__init__()
        self.patience = patience

    def filled(self, cell: Cell) -> None:
        super().filled(cell)
        if len(self.cells) == self.patience:
            raise KeyboardInterrupt


def test_an_interrupted_collection_resumes(db: Database, tables: Tables) -> None:
    with pytest.raises(KeyboardInterrupt):
        db.collect(three_layers(), FORMATS, scopes=SCOPES, reporter=Impatient(30))
    outcome = db.collect(three_layers(), FORMATS, scopes=SCOPES)
    assert (outcome.filled_count, outcome.present_count) == (56 - 30, 30)
    assert contents(db.path) == tables[0]


def test_a_format_that_does_not_fit_leaves_the_others(db: Database) -> None:
    """A scale of 1e7 / 127 is beyond float16."""
    module = three_layers()
    module.state_dict()["5.weight"][0, 0] = 1e7
    reporter = Silence()
    outcome = db.collect(module, "INT_4,q8_0,q4_0,int4_g32", reporter=reporter)
    reasons = [failure.reason for failure in outcome.failures]
    assert [reason.partition(":")[0] for reason in reasons] == ["q8_0", "q4_0"]
    assert all("float16" in reason and "\n" not in reason for reason in reasons)
    assert outcome.filled_count == 2
    assert [cell.label for cell in reporter.cells] == ["INT_4", "int4_g32"]
    assert set(db.failed_checks()) == {"missing_announced_cell"}


# --- a user's own functions ------------------------------------------------------------------

OWN = """
def thirds(x):
    return (x * 3).round() / 3
thirds.bits_per_weight = 5
def both(x, role):
    return (x * {"weight": 8, "input": 16}[role]).round() / {"weight": 8, "input": 16}[role]
def fails(x):
    raise RuntimeError("two\\nlines")
def wrong_shape(x):
    return x[:1]
def no_tensor(x):
    return 3
def no_number(x):
    return x / 0
def in_place(x):
    return x.mul_(3).round_().div_(3)
def as_integers(x):
    return (x * 3).round().long() * 0
kept = {}
def reused(x):
    buffer = kept.setdefault("buffer", x.new_empty(3000))
    found = buffer[: x.numel()].view(x.shape)
    return found.copy_((x * 3).round() / 3)
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "own.py"
    path.write_text(OWN, encoding="utf-8")
    return path


QUERY = (
    "select layer.name, role, d.squared_error_sum, storage_bits, scale_count "
    "from dequantized_tensor as d join tensor using (tensor_id) join layer using (layer_id) "
    "order by all"
)


def test_a_function_without_role_quantizes_weights_alone(db: Database, file: Path) -> None:
    outcome = db.collect(three_layers(), f"{file}:thirds", scopes=("input",))
    assert outcome.failures == []
    module = three_layers()
    for layer, role, error, bits, scale_count in db.rows(QUERY):
        assert scale_count == 0
        if role == "weight":
            weight = module.state_dict()[f"{layer}.weight"].double()
            values = ((weight.float() * 3).round() / 3).double()
            assert error == pytest.approx(float((values - weight).square().sum()), rel=1e-9)
            assert bits == 5 * weight.numel()
        else:
            assert error == 0
    same = "select same_prediction = image_count from evaluation where scope = 'input'"
    assert db.rows(same) == [(True,)]  # nothing is quantized there
    assert db.rows("select name, input_granularity, bias from scheme where name = 'thirds'") == [
        ("thirds", "float", "float32")
    ]
    assert db.failed_checks() == {}


def test_a_function_with_role_quantizes_inputs_too(db: Database, file: Path) -> None:
    assert db.collect(three_layers(), f"{file}:both").failures == []
    errors = {(layer, role): error for layer, role, error, _, _ in db.rows(QUERY)}
    assert all((error > 0) == (role != "bias") for (_, role), error in errors.items())
    fed = torch.tensor([0.5]), torch.tensor([0.25])
    images = normalize(pictures(8, "train").images, *fed)
    expected = ((images * 16).round() / 16 - images).double().square().sum()
    assert errors["0", "input"] == pytest.approx(float(expected), rel=1e-6)
    assert db.failed_checks() == {}


@pytest.mark.parametrize(
    ("function", "part"),
    [
        ("fails", "fails failed: RuntimeError: two lines"),
        ("wrong_shape", "a tensor of the shape (6, 1, 3, 3), found (1, 1, 3, 3)"),
        ("no_tensor", "found int"),
        ("no_number", "expected finite values of no_number"),
    ],
)
def test_a_function_that_fails_fails_alone(
    db: Database, file: Path, function: str, part: str
) -> None:
    outcome = db.collect(three_layers(), f"{file}:{function},INT_4")
    (failure,) = outcome.failures
    assert part in failure.reason
    assert "\n" not in failure.reason
    assert outcome.filled_count == 1
    assert db.rows("select count(*) from scheme where source_sha256 is not null") == [(0,)]


def test_what_a_function_does_to_its_tensors_does_not_matter(db: Database, file: Path) -> None:
    names = ("thirds", "in_place", "reused")
    assert db.collect(three_layers(), ",".join(f"{file}:{name}" for name in names)).failures == []
    rows = db.rows(
        "select scheme.name, kl_sum, correct_images from evaluation "
        "join scheme using (scheme_id) order by 1"
    )
    assert [name for name, *_ in rows] == sorted(names)
    assert len({tuple(found) for _, *found in rows}) == 1
    errors = db.rows(
        "select tensor_id, count(distinct squared_error_sum) from dequantized_tensor group by 1"
    )
    assert all(count == 1 for _, count in errors)


def test_a_function_may_return_integers(db: Database, file: Path) -> None:
    assert db.collect(three_layers(), f"{file}:as_integers").failures == []
    assert db.rows(
        "select distinct sum_y2 from dequantized_tensor join tensor using (tensor_id) "
        "where role = 'weight'"
    ) == [(0.0,)]


@pytest.mark.slow
def test_a_function_that_changed_is_another(db: Database, file: Path) -> None:
    db.collect(three_layers(), f"{file}:thirds")
    before = contents(db.path)
    digest = "select source_sha256 from scheme where name = 'thirds'"
    ((first,),) = db.rows(digest)
    file.write_text(OWN.replace("* 3)", "* 5)").replace("/ 3", "/ 5"), encoding="utf-8")
    with (
        reword(in_options),
        pytest.raises(MismatchError, match=r"--number-formats: .*thirds") as caught,
    ):
        db.collect(three_layers(), f"{file}:thirds")
    assert "\n" not in str(caught.value)
    assert contents(db.path) == before
    db.collect(three_layers(), f"{file}:thirds", replace=True)
    ((second,),) = db.rows(digest)
    assert second != first
    assert db.rows("select count(*) from scheme where name = 'thirds'") == [(1,)]
    assert db.failed_checks() == {}
    # with two networks, --replace of one alone would leave the other with what is no longer known
    db.collect(three_layers(2), f"{file}:thirds", name="other")
    file.write_text(OWN, encoding="utf-8")
    with pytest.raises(MismatchError, match="thirds"):
        db.collect(three_layers(2), f"{file}:thirds", name="other", replace=True)


# --- checkpoints that another method has quantized --------------------------------------------

BUILD = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.folded = nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6)
        self.head, self.norm = nn.Linear(216, 4), nn.LayerNorm(4)
    def forward(self, x):
        return self.norm(self.head(torch.relu(self.folded(self.conv(x))).flatten(1)))

def net():
    torch.manual_seed(0)
    module = Net()
    module.folded.running_mean.uniform_(-1, 1)
    return module.eval()
"""


@dataclass(frozen=True)
class Given:
    """A network in a file, with its weights and those of others."""

    folder: Path
    database: Database

    @property
    def source(self) -> NetworkSource:
        return network_source(
            f"{self.folder}/build.py:net",
            checkpoint=self.folder / "float.pt",
            mean=[0.5],
            std=[0.25],
        )

    def weights(self) -> dict[str, Tensor]:
        found: dict[str, Tensor] = torch.load(self.folder / "float.pt")
        return found

    def save(self, name: str, **changes: Tensor) -> Path:
        path = self.folder / f"{name}.pt"
        renamed = {key.replace("__", "."): value for key, value in changes.items()}
        torch.save(self.weights() | renamed, path)
        return path

    def collect(
        self, files: Mapping[str, Path], formats: str = "INT_4", **changes: Any
    ) -> CollectionOutcome:
        checkpoints = tuple(QuantizedCheckpoint(name, path) for name, path in files.items())
        task = NetworkTask(self.source, pictures(12), pictures(8, "train"), checkpoints)
        request = build_request([task], number_formats=match_formats(formats), **changes)
        return ptqdb.open(self.database.path, create=True).fill(request)


@pytest.fixture
def given(db: Database, tmp_path: Path) -> Given:
    (tmp_path / "build.py").write_text(BUILD, encoding="utf-8")
    scope: dict[str, Any] = {}
    exec(BUILD, scope)
    torch.save(scope["net"]().state_dict(), tmp_path / "float.pt")
    return Given(tmp_path, db)


def test_a_quantized_checkpoint_is_a_format(given: Given) -> None:
    """Its facts are those of the folded weights, and its outputs those of the other network."""
    weight = given.weights()["conv.weight"]
    path = given.save("gptq", conv__weight=(weight * 4).round() / 4)
    outcome = given.collect({"gptq": path})
    assert (outcome.failures, outcome.filled_count) == ([], 2)
    rows = given.database.rows(
        "select layer.name, role, d.squared_error_sum, scale_count, storage_bits "
        "from dequantized_tensor as d join tensor using (tensor_id) "
        "join layer using (layer_id) order by all"
    )
    state = given.weights()
    factor = state["folded.weight"] / (state["folded.running_var"] + 1e-5).sqrt()
    difference = ((weight * 4).round() / 4 - weight) * factor.view(-1, 1, 1, 1)
    errors = {(layer, role): error for layer, role, error, _, _ in rows}
    assert errors["conv", "weight"] == pytest.approx(float(difference.square().sum()), rel=1e-4)
    assert {key for key, error in errors.items() if error} == {("conv", "weight")}
    assert all(row[3:] == (0, None) for row in rows if row[1] != "input")
    assert given.database.rows(
        "select s.name, format_name(f.name, s.name), length(checkpoint_sha256) "
        "from quantized_checkpoint join scheme as s using (scheme_id), number_format as f "
        "where f.name = 'FLOAT_32_E8'"
    ) == [("gptq", "gptq", 64)]
    assert given.database.failed_checks() == {}
    with ptqdb.open(given.database.path) as study:  # from Python the same cell
        images = pictures(12), pictures(8, "train")
        same = study.collect(
            given.source, *images, number_formats="INT_4", quantized={"gptq": path}
        )
        assert (same.filled_count, same.present_count) == (0, 2)
    other = network_source(
        f"{given.folder}/build.py:net", checkpoint=path, name="other", mean=[0.5], std=[0.25]
    )
    ptqdb.open(given.database.path).collect(
        other, pictures(12), pictures(8, "train"), number_formats="INT_4"
    )
    alike = given.database.rows(
        "select count(distinct correct_images) from evaluation join network using (network_id) "
        "left join scheme as s using (scheme_id) "
        "where network.name = 'other' and scope = 'none' or s.name = 'gptq'"
    )
    assert alike == [(1,)]


@pytest.mark.slow
def test_a_rerun_needs_the_same_checkpoint(given: Given) -> None:
    weight = given.weights()["conv.weight"]
    first = given.save("first", conv__weight=weight.round())
    second = given.save("second", conv__weight=(weight * 2).round() / 2)
    given.collect({"gptq": first})
    again = given.collect({"gptq": first})
    assert (again.filled_count, again.present_count) == (0, 2)
    with (
        reword(in_options),
        pytest.raises(MismatchError, match=r"--quantized: .* gptq .*other weights"),
    ):
        given.collect({"gptq": second})
    both = given.collect({"gptq": first, "awq": second})
    assert (both.filled_count, both.present_count) == (1, 2)
    replaced = given.collect({"gptq": second, "awq": second}, anew=True)
    assert replaced.filled_count == 3
    assert given.database.failed_checks() == {}


def test_other_parts_must_be_the_same(given: Given) -> None:
    weight = given.weights()["norm.weight"]
    outcome = given.collect({"gptq": given.save("gptq", norm__weight=weight * 2)})
    (failure,) = outcome.failures
    assert failure.reason.endswith("found another norm.weight")
    assert "gptq" in failure.reason
    assert "\n" not in failure.reason


def test_a_folded_norm_may_have_been_estimated_anew(given: Given) -> None:
    """It is part of the weights that are compared."""
    mean = given.weights()["folded.running_mean"]
    outcome = given.collect({"gptq": given.save("gptq", folded__running_mean=mean + 0.5)})
    assert outcome.failures == []
    changed = given.database.rows(
        "select role from dequantized_tensor as d join tensor using (tensor_id) "
        "join layer using (layer_id) where d.squared_error_sum > 0 and layer.name = 'conv'"
    )
    assert changed == [("bias",)]


def test_weights_of_another_shape_or_no_weights(given: Given) -> None:
    other = given.save("other", head__weight=torch.zeros(3, 216))
    broken = given.folder / "broken.pt"
    broken.write_bytes(b"no checkpoint")
    for path in (other, broken):
        outcome = given.collect({"gptq": path})
        (failure,) = outcome.failures
        assert "\n" not in failure.reason
        assert path.name in failure.reason or "head.weight" in failure.reason


def test_a_function_and_a_checkpoint_of_one_name(given: Given, file: Path) -> None:
    path = given.save("thirds")
    with reword(in_options), pytest.raises(UsageError, match="--quantized: thirds is also"):
        given.collect({"thirds": path}, f"{file}:thirds")
    given.collect({}, f"{file}:thirds")
    with pytest.raises(MismatchError, match="thirds"):
        given.collect({"thirds": path})


def test_the_key_of_a_study_file(given: Given) -> None:
    given.save("gptq")
    text = """
    number_formats = "mxfp4, INT_6@channel,range=mse"
    [dataset.toy]
    path = "toy"
    [[network]]
    spec = "build.py:net"
    checkpoint = "float.pt"
    mean = [0.5]
    std = [0.25]
    quantized = {gptq = "gptq.pt"}
    """
    path = given.folder / "study.toml"
    path.write_text(text, encoding="utf-8")
    study = read_study_file(path)
    assert study.networks[0].quantized == (("gptq", given.folder / "gptq.pt"),)
    assert [each.name for each in study.number_formats] == ["mxfp4", "INT_6@channel,range=mse"]
    for wrong, part in (
        ('gptq = "none.pt"', "none.pt"),
        ('int8 = "gptq.pt"', "int8 is the name"),
        ('"a b" = "gptq.pt"', "without spaces"),
        ('channel = "gptq.pt"', "channel is the name"),
    ):
        path.write_text(text.replace('gptq = "gptq.pt"', wrong), encoding="utf-8")
        with pytest.raises(UsageError, match="quantized") as caught:
            read_study_file(path)
        assert part in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("said", "part"),
    [
        ("gptq", "expected NAME=FILE"),
        ("=a.pt", "expected NAME=FILE"),
        ("gptq=missing.pt", "no file missing.pt"),
        ("mxfp4=own.py", "mxfp4 is the name of a format"),
        ("block32=own.py", "block32 is the name of a format"),
        ("a,b=own.py", "without spaces, commas"),
    ],
)
def test_an_option_that_cannot_be(
    run: Run, file: Path, monkeypatch: pytest.MonkeyPatch, said: str, part: str
) -> None:
    monkeypatch.chdir(file.parent)
    result = run("collect", "--network", "AlexNet", "--quantized", said, "--db", "study.duckdb")
    assert (result.code, result.out) == (2, "")
    assert "--quantized: " in result.err
    assert part in " ".join(result.err.split())


def test_a_dry_run_counts_cells_of_all_schemes(
    run: Run, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(file.parent)
    result = run(
        *("collect", "--network", "AlexNet", "--images", 8, "--calibration", 4, "--dry-run"),
        *("--number-formats", f"mxfp4,INT_4,{file}:thirds", "--format", "json"),
        *("--db", "study.duckdb"),
    )
    assert result.code == 0, result.err
    (row,) = json.loads(result.out)
    assert row["to_fill"] == 3, row
    assert not Path("study.duckdb").exists()


# --- predictions -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def images_of_three() -> NetworkSource:
    torch.manual_seed(3)
    module = nn.Sequential(
        nn.Conv2d(3, 40, 3, stride=4), nn.ReLU(), nn.Flatten(), nn.Linear(40 * 64, 10)
    )
    return ptqdb.network(module.eval(), name="new", mean=[0.5] * 3, std=[0.25] * 3)


@pytest.fixture(scope="module")
def deployed(images_of_three: NetworkSource) -> Predictions:
    with ptqdb.open() as study:
        return study.predict(images_of_three, number_formats="deployed,INT_4,INT_8", image_size=32)


def test_deployed_formats_are_predicted_from_the_study(deployed: Predictions) -> None:
    """From weights alone; a float tensor has no divergence there."""
    names = {each.name for each in DEPLOYED_FORMATS} | {"INT_4", "INT_8"}
    rows = {row.number_format: row for row in deployed.rows}
    assert set(rows) == names
    assert all(row.lower <= row.predicted_loss <= row.upper <= 1 for row in rows.values())
    assert rows["int8"].divergence <= rows["INT_8"].divergence
    assert rows["q8_0"].divergence < rows["q4_0"].divergence < rows["INT_4"].divergence
    # Both layers' rows end in a block that is not whole: 27 = 27, and 2,560 = 80 x 32.
    weights = 40 * 27 + 10 * 2560
    blocks = 40 + 10 * 80
    assert rows["mxfp4"].bits_per_weight == pytest.approx(4 + 8 * blocks / weights)
    assert rows["INT_8"].bits_per_weight == pytest.approx(8 + 2 * 32 / weights)
    assert rows["int8"].bits_per_weight == pytest.approx(8 + 50 * 32 / weights)
    assert rows["mxfp4"].scheme == "mx32_e8m0"


def test_recommendations_are_sorted_by_bits_per_weight(deployed: Predictions) -> None:
    found = deployed.recommend(0.3)
    for is_good in (True, False):
        widths = [
            round(each.prediction.bits_per_weight or 0, 3)
            for each in found
            if each.recommended is is_good
        ]
        assert widths == sorted(widths)
    assert [each.recommended for each in found] == sorted(
        (each.recommended for each in found), reverse=True
    )
    frontier = [each.prediction for each in found if each.on_frontier]
    for row in frontier:
        assert not any(
            other.upper < row.upper - 1e-4
            and (other.bits_per_weight or 0) < (row.bits_per_weight or 0)
            for other in deployed.rows
        )
    assert frontier


@pytest.mark.slow
def test_predictions_with_images_and_a_probe(images_of_three: NetworkSource) -> None:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (6, 3, 32, 32), generator=generator, dtype=torch.uint8)
    images = ImageSet("toy", "train", pixels, None, ())
    names = ["INT_4", "int8", "mxfp4", "nf4"]
    with ptqdb.open() as study:
        with_images = study.predict(
            images_of_three, images, number_formats=",".join(names), view="fakefreeze_param"
        )
        probed = study.predict(images_of_three, images, number_formats=",".join(names), probe=6)
    for found in (with_images, probed):
        assert {row.number_format for row in found.rows} == set(names)
        assert all(row.lower <= row.predicted_loss <= row.upper <= 1 for row in found.rows)


def test_a_format_that_does_not_fit_is_not_predicted() -> None:
    module = three_layers()
    module.state_dict()["5.weight"][0, 0] = 1e7
    source = ptqdb.network(module.eval(), name="large", mean=[0.5], std=[0.25])
    reporter = Silence()
    with measure_unevaluated(
        source, None, match_formats("q8_0,mxfp4"), image_size=8, reporter=reporter
    ) as connection:
        names = connection.execute(
            "select distinct s.name from dequantized_tensor join scheme as s using (scheme_id)"
        ).fetchall()
    assert names == [("mx32_e8m0",)]
    assert any(text.startswith("cannot quantize in q8_0: ") for text in reporter.remarks)
