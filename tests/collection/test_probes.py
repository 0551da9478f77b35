"""Collecting probes: with the evaluation, later, on more images; what is said and refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from collecting import Silence
from running import Run
from small_networks import Database, pictures, three_layers

import ptqdb
from ptqdb.collection.estimate import preview
from ptqdb.collection.plan import NetworkTask, plan_network
from ptqdb.collection.requests import build_request
from ptqdb.database import connect, read_view
from ptqdb.database.exchange import export_study, import_study
from ptqdb.errors import DataError, MismatchError, UsageError
from ptqdb.measurement.evaluation import NetworkEvaluation
from ptqdb.measurement.facts import FailedEvaluation
from ptqdb.measurement.probe import NetworkProbe
from ptqdb.quantization.formats import match_formats

FORMATS = "INT_2,INT_3,INT_8"
PROBES = "select * from probe order by all"
EVALUATIONS = "select * from evaluation order by all"
VIEWS = ("probe_soft", "probe_agreement", "probe_kl", "probe_logit")


@pytest.fixture(scope="module")
def whole(empty_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Database:
    """Collected at once; tests only read it."""
    db = Database(empty_file, tmp_path_factory.mktemp("whole"))
    db.collect(three_layers(), FORMATS, scopes=("weight",))
    return db


def image_counts(db: Database) -> list[int]:
    return [count for (count,) in db.rows("select image_count from probe")]


def views(db: Database) -> dict[str, dict[str, Any]]:
    with connect(db.path, read_only=True) as connection:
        return {
            view: {
                row["number_format"]: row["divergence"]
                for row in read_view(connection, view).iter_rows(named=True)
            }
            for view in VIEWS
        }


def never(*_: Any, **__: Any) -> Any:
    raise AssertionError


def test_every_format_is_probed_by_default(whole: Database) -> None:
    # All 8 calibration images, since there are no 128.
    assert image_counts(whole) == [8, 8, 8]
    assert whole.failed_checks() == {}
    found = views(whole)
    assert [set(rows) for rows in found.values()] == [set(FORMATS.split(","))] * 4
    sums = "same_prediction, chosen_probability_sum, float_probability_sum"
    same, chosen, own = whole.rows(
        f"select {sums} from probe join number_format using (number_format_id) where name = 'INT_2'"
    )[0]
    assert found["probe_agreement"]["INT_2"] == pytest.approx(1 - same / 8)
    assert found["probe_soft"]["INT_2"] == pytest.approx(1 - chosen / own)
    assert found["probe_soft"]["INT_2"] > found["probe_soft"]["INT_8"] >= 0


def test_a_cell_without_its_probe_is_probed_and_not_evaluated(
    db: Database, whole: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = db.collect(three_layers(), FORMATS, scopes=("weight",), probe=0)
    assert (first.filled_count, first.evaluated_count) == (6, 6)
    assert db.rows(PROBES) == []
    again = db.collect(three_layers(), FORMATS, scopes=("weight",), probe=0)
    assert (again.filled_count, again.present_count) == (0, 6)
    with monkeypatch.context() as patch:
        patch.setattr(NetworkEvaluation, "__init__", never)
        second = db.collect(three_layers(), FORMATS, scopes=("weight",))
    assert (second.filled_count, second.evaluated_count, second.present_count) == (3, 0, 3)
    for query in (PROBES, EVALUATIONS, "select * from quantized_tensor order by all"):
        assert db.rows(query) == whole.rows(query)
    third = db.collect(three_layers(), FORMATS, scopes=("weight",))
    assert (third.filled_count, third.present_count) == (0, 6)


def test_formats_are_added_beside_those_that_lack_their_probe(
    db: Database, whole: Database
) -> None:
    db.collect(three_layers(), "INT_2", scopes=("weight",), probe=0)
    outcome = db.collect(three_layers(), FORMATS, scopes=("weight",))
    assert (outcome.filled_count, outcome.evaluated_count, outcome.present_count) == (5, 4, 1)
    keyed = "select number_format_id, same_images from probe order by all"
    assert db.rows(keyed) == whole.rows(keyed)


def test_more_images_replace_a_probe_and_fewer_do_not(db: Database, whole: Database) -> None:
    db.collect(three_layers(), FORMATS, probe=3)
    assert image_counts(db) == [3, 3, 3]
    fewer = db.rows("select number_format_id, same_images from probe order by all")
    assert db.collect(three_layers(), FORMATS, probe=2).filled_count == 0
    outcome = db.collect(three_layers(), FORMATS, probe=128)
    assert (outcome.filled_count, outcome.evaluated_count) == (3, 0)
    assert db.rows(PROBES) == whole.rows(PROBES)
    assert db.collect(three_layers(), FORMATS, probe=5).filled_count == 0
    more = dict(db.rows("select number_format_id, same_images from probe"))
    assert all(more[number_format].startswith(bits) for number_format, bits in fewer)


def test_replacing_a_network_replaces_its_probes(db: Database) -> None:
    db.collect(three_layers(), FORMATS)
    before = db.rows("select chosen_probability_sum from probe order by all")
    db.collect(three_layers(seed=2), FORMATS, replace=True)
    assert len(db.rows(PROBES)) == 3
    assert db.rows("select chosen_probability_sum from probe order by all") != before
    db.collect(three_layers(seed=2), FORMATS, replace=True, probe=0)
    assert db.rows(PROBES) == []


def test_a_failing_probe_leaves_the_evaluation(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    reporter = Silence()
    with monkeypatch.context() as patch:
        failed = FailedEvaluation("0", "ValueError: too dark")
        patch.setattr(NetworkProbe, "of_codes", lambda *_: failed)
        outcome = db.collect(three_layers(), "INT_2", reporter=reporter)
    assert (outcome.filled_count, outcome.evaluated_count, outcome.failed_count) == (0, 1, 1)
    assert reporter.remarks[-1] == (
        "net cannot be probed in INT_2: after layer 0 started: ValueError: too dark"
    )
    assert db.rows(PROBES) == []
    assert db.failed_checks() == {}
    assert db.collect(three_layers(), "INT_2").filled_count == 1  # tried again
    assert len(db.rows(PROBES)) == 1


def test_a_cell_that_cannot_be_evaluated_is_not_probed(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = FailedEvaluation(None, "ValueError: no")
    monkeypatch.setattr(NetworkEvaluation, "of_codes", lambda *_: failed)
    monkeypatch.setattr(NetworkProbe, "of_codes", never)
    assert db.collect(three_layers(), "INT_2").failed_count == 1
    assert db.collect(three_layers(), "INT_2").failed_count == 1
    assert db.rows(PROBES) == []


def test_a_preview_counts_what_lacks_only_its_probe(db: Database) -> None:
    db.collect(three_layers(), "INT_2", scopes=("weight",), probe=0)
    source = ptqdb.network(three_layers().eval(), name="net", mean=[0.5], std=[0.25])
    task = NetworkTask(source, pictures(12), pictures(8, "train"))
    formats = match_formats("INT_2,INT_3")
    (shown,) = preview(
        build_request([task], number_formats=formats, scopes=("weight",)), db.path, never
    )
    assert (len(shown.missing), shown.evaluated_count, shown.present) == (3, 1, 1)
    request = build_request([task], number_formats=formats, scopes=("weight",), probe=0)
    (shown,) = preview(request, db.path, never)
    assert (len(shown.missing), shown.evaluated_count, shown.present) == (2, 0, 2)


def test_the_command_line(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "study.duckdb"
    asked = ["collect", "--network", "AlexNet", "--number-formats", "INT_3", "--db", str(file)]
    asked += ["--images", "20", "--calibration", "10"]
    assert run(*asked, "--probe", "0")[0] == 0
    needs = "needs `ptqdb collect --probe 128`"
    said = run("views", "probe_*", "--db", str(file)).err
    assert said.strip() == f"empty: the 4 views probe_*: {needs}"
    assert run("views", "probe_kl", "--db", str(file)).err.strip() == f"empty: probe_kl: {needs}"
    code, _, said = run(*asked, "--dry-run")
    assert code == 0
    assert "1 cells to fill (1 of them lack only their probe), 0 already present" in said
    code, _, said = run(*asked, "--probe", "4")
    assert (code, "1 cells filled, 0 already present" in said) == (0, True)
    code, out, _ = run(
        "sql", "select image_count from probe", "--db", str(file), "--format", "json"
    )
    assert json.loads(out) == [{"image_count": 4}]
    code, out, _ = run(
        "sql", "select arguments from collection_run", "--db", str(file), "--format", "json"
    )
    assert [json.loads(row["arguments"])["probe"] for row in json.loads(out)] == [0, 4]
    assert run(*asked, "--probe", "-1")[0] == 2


def test_a_negative_number_of_images_is_refused() -> None:
    with pytest.raises(UsageError, match="probe: expected a number of images"):
        build_request([], probe=-1)


def test_merging_probes(whole: Database, db: Database, tmp_path: Path, empty_file: Path) -> None:
    folder = tmp_path / "facts"
    with connect(whole.path, read_only=True) as connection:
        export_study(connection, folder)
    # Fewer images here: those of the file win, and again there is nothing to add.
    db.collect(three_layers(), FORMATS, scopes=("weight",), probe=5)
    with connect(db.path, read_only=False) as connection:
        assert import_study(connection, folder)["probe"] == 3
        assert import_study(connection, folder)["probe"] == 0
    assert db.rows(PROBES) == whole.rows(PROBES)
    with connect(db.path, read_only=False) as connection:
        connection.execute("update probe set kl_sum = kl_sum + 1")
        with pytest.raises(MismatchError, match=r"probe\.parquet: kl_sum of net, INT_2"):
            import_study(connection, folder)
    # An export of an older version has no probes.
    (folder / "probe.parquet").unlink()
    (tmp_path / "older").mkdir()
    older = Database(empty_file, tmp_path / "older")
    with connect(older.path, read_only=False) as connection:
        added = import_study(connection, folder)
    assert (added["probe"], added["evaluation"]) == (0, 7)
    assert older.rows(PROBES) == []
    (folder / "evaluation.parquet").unlink()
    with connect(older.path, read_only=False) as connection, pytest.raises(DataError):
        import_study(connection, folder)


def test_probes_alone_make_fits_stale(db: Database) -> None:
    """They add rows to views."""
    db.collect(three_layers(), FORMATS, probe=0)
    with connect(db.path, read_only=True) as connection:
        request = build_request([], number_formats=match_formats(FORMATS))
        source = ptqdb.network(three_layers().eval(), name="net", mean=[0.5], std=[0.25])
        task = NetworkTask(source, pictures(12), pictures(8, "train"))
        plan = plan_network(connection, request, task)
    assert plan.changes_views
    assert plan.evaluated == frozenset(plan.cells)
