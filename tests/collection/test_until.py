"""Collecting until the loss is known well enough: what is stored, resumed, replaced and said."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from collecting import Silence
from running import Run
from small_networks import Database, pictures, three_layers

import ptqdb
from ptqdb.collection import sweep
from ptqdb.collection.estimate import preview
from ptqdb.collection.plan import NetworkTask
from ptqdb.collection.requests import build_request
from ptqdb.database import connect, read_view
from ptqdb.database.exchange import export_study, import_study
from ptqdb.errors import UsageError
from ptqdb.measurement.evaluation import NetworkEvaluation
from ptqdb.measurement.facts import FailedEvaluation
from ptqdb.measurement.first_images import is_enough
from ptqdb.quantization.formats import match_formats

COUNT = 1500
FORMATS = "INT_2,INT_3,INT_5"
LARGE, SMALL = 0.04, 0.02
# What they need: no format is lossless, and 500 images tell little of four classes.
WITH_LARGE = {"INT_2": 1500, "INT_3": 1125, "INT_5": 500}
WITH_SMALL = {"INT_2": 1500, "INT_3": 1500, "INT_5": 1125}
CELLS = (
    "select scope, number_format_id, layer_id, image_count, correct_top1, correct_both, "
    "same_prediction, correct_images, same_images from every_evaluation() order by all"
)


def images_by_format(db: Database, scope: str = "all") -> dict[str, int]:
    return dict(
        db.rows(
            "select name, image_count from evaluation join number_format using (number_format_id) "
            f"where scope = '{scope}'"
        )
    )


def losses(db: Database) -> dict[str, dict[str, Any]]:
    with connect(db.path, read_only=True) as connection:
        rows = read_view(connection, "fakefreeze_flops_depth").iter_rows(named=True)
        return {row["number_format"]: row for row in rows}


@pytest.fixture(scope="module")
def whole(empty_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Database:
    """All images, in every scope; tests only read it."""
    db = Database(empty_file, tmp_path_factory.mktemp("whole"))
    db.collect(three_layers(), FORMATS, count=COUNT, scopes=("weight", "layer"))
    return db


def test_each_cell_has_the_images_that_it_needs(db: Database, whole: Database) -> None:
    db.collect(three_layers(), FORMATS, count=COUNT, scopes=("weight", "layer"), until=LARGE)
    assert images_by_format(db) == WITH_LARGE
    found, full = db.rows(CELLS), whole.rows(CELLS)
    assert len(found) == len(full) == 1 + 3 * (1 + 1 + 3)
    assert [row[:3] for row in found] == [row[:3] for row in full]
    floats = full[-1] if full[-1][0] == "none" else next(row for row in full if row[0] == "none")
    assert floats in found
    for one, all_images in zip(found, full, strict=True):
        count = one[3]
        # The same answers, as far as they go: single layers and scopes, too.
        assert one[-2:] == tuple(bits[:count] for bits in all_images[-2:])
        assert one[4] == one[-2].count("1")
        was_right = floats[-2][:count]
        both = sum(pair == ("1", "1") for pair in zip(one[-2], was_right, strict=True))
        assert one[5] == both
        enough = is_enough(count, one[4], was_right.count("1"), both, LARGE)
        assert enough or count == COUNT
    assert len({row[3] for row in found if row[0] == "layer"}) > 1
    assert db.failed_checks() == whole.failed_checks() == {}


def test_views_are_over_the_images_of_each_cell(db: Database) -> None:
    db.collect(three_layers(), FORMATS, count=COUNT, scopes=("weight", "layer"), until=LARGE)
    (floats,) = db.rows("select correct_images from evaluation where scope = 'none'")[0]
    counts = db.rows(
        "select f.name, correct_images from evaluation join number_format as f "
        "using (number_format_id) where scope = 'all'"
    )
    rows = losses(db)
    assert len(rows) == 3
    for name, bits in counts:
        row, count = rows[name], len(bits)
        before, after = floats[:count].count("1"), bits.count("1")
        only_one = sum(one != other for one, other in zip(bits, floats, strict=False))
        assert row["images"] == count == WITH_LARGE[name]
        assert row["accuracy"] == after / count
        assert row["float_accuracy"] == before / count
        assert row["accuracy_loss"] == pytest.approx((before - after) / before)
        error = (after / before * only_one) ** 0.5 / before
        assert row["accuracy_loss_se"] == pytest.approx(error)
        assert row["saturated"] == (after <= count / 4 + 3 * (count * 3 / 16) ** 0.5)
    alone = db.rows("select images, accuracy, float_accuracy from layer_loss")
    assert len(alone) == 9
    assert all(was == floats[:count].count("1") / count for count, _, was in alone)
    # The scope decides which cells are paired.
    weights = dict(db.rows("select number_format, images from variant(scope := 'weight')"))
    assert weights == images_by_format(db, "weight")


def test_what_is_asked_again_goes_on_where_it_needs_more(db: Database, whole: Database) -> None:
    first = db.collect(three_layers(), FORMATS, count=COUNT, until=LARGE)
    assert (first.filled_count, first.present_count) == (3, 0)
    assert first.image_count == sum(WITH_LARGE.values())
    larger = db.collect(three_layers(), FORMATS, count=COUNT, until=2 * LARGE)
    assert (larger.filled_count, larger.present_count) == (0, 3)
    again = db.collect(three_layers(), FORMATS, count=COUNT, until=LARGE)
    assert (again.filled_count, again.present_count) == (0, 3)
    smaller = db.collect(three_layers(), FORMATS, count=COUNT, until=SMALL)
    assert (smaller.filled_count, smaller.present_count) == (2, 1)
    assert images_by_format(db) == WITH_SMALL
    all_images = db.collect(three_layers(), FORMATS, count=COUNT)
    assert (all_images.filled_count, all_images.present_count) == (1, 2)
    expected = [row for row in whole.rows(CELLS) if row[0] in ("all", "none")]
    assert db.rows(CELLS) == expected
    done = db.collect(three_layers(), FORMATS, count=COUNT)
    assert (done.filled_count, done.present_count) == (0, 3)
    assert db.failed_checks() == {}
    arguments = db.rows("select arguments from collection_run order by run_id")
    assert [json.loads(one)["until"] for (one,) in arguments] == [
        *(LARGE, 2 * LARGE, LARGE, SMALL),
        *(None, None),
    ]


def test_single_layers_go_on_too(db: Database, whole: Database) -> None:
    db.collect(three_layers(), FORMATS, count=COUNT, scopes=("layer",), until=LARGE)
    alone = db.rows("select count(*) from layer_evaluation where image_count < 1500")[0][0]
    assert alone > 2
    outcome = db.collect(three_layers(), FORMATS, count=COUNT, scopes=("layer",))
    assert outcome.filled_count == alone + 2
    assert db.rows(CELLS) == [row for row in whole.rows(CELLS) if row[0] != "weight"]


def test_an_interruption_keeps_the_cells_on_fewer_images(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    db.collect(three_layers(), FORMATS, count=COUNT, until=LARGE)
    before = db.rows(CELLS)

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep, "write_evaluation", stop)
    with pytest.raises(KeyboardInterrupt):
        db.collect(three_layers(), FORMATS, count=COUNT)
    assert db.rows(CELLS) == before


def test_a_failure_takes_the_place_of_an_evaluation_on_fewer_images(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    db.collect(three_layers(), "INT_5", count=COUNT, scopes=("layer",), until=LARGE)
    failed = FailedEvaluation("0", "ValueError: tired")
    monkeypatch.setattr(NetworkEvaluation, "of_codes", lambda *_: failed)
    ended = db.collect(three_layers(), "INT_5", count=COUNT, scopes=("layer",))
    assert (ended.filled_count, ended.present_count, ended.failed_count) == (0, 0, 4)
    assert [scope for scope, *_ in db.rows(CELLS)] == ["none"]
    assert db.failed_checks() == {}


def forget_bits(db: Database, change: str = "") -> None:
    """Make the facts those of an older version, which stored only counts."""
    with connect(db.path, read_only=False) as connection:
        connection.execute(
            f"update evaluation set correct_images = null, same_images = null {change}"
        )


def test_a_float_network_of_an_older_version_gets_its_bits(db: Database, whole: Database) -> None:
    db.collect(three_layers(), "INT_2", count=COUNT)
    forget_bits(db)
    db.collect(three_layers(), FORMATS, count=COUNT, until=LARGE)
    # INT_2 was there, on all images; it stays as it is.
    assert images_by_format(db) == WITH_LARGE
    (floats,) = db.rows("select correct_images from evaluation where scope = 'none'")
    assert floats == whole.rows("select correct_images from evaluation where scope = 'none'")[0]
    assert len(losses(db)) == 3
    assert db.failed_checks() == {}


def test_another_float_network_of_an_older_version_makes_all_images_needed(db: Database) -> None:
    db.collect(three_layers(), "INT_2", count=COUNT)
    changes = "correct_top1 = correct_top1 + 1, correct_both = correct_both + 1"
    forget_bits(db, f", {changes}, correct_top5 = 1500")
    reporter = Silence()
    db.collect(three_layers(), FORMATS, count=COUNT, until=LARGE, reporter=reporter)
    assert images_by_format(db) == dict.fromkeys(WITH_LARGE, COUNT)
    assert [said for said in reporter.remarks if "net: evaluating all images, since" in said]
    assert db.rows("select correct_images from evaluation where scope = 'none'") == [(None,)]
    assert len(losses(db)) == 3


def test_cells_are_compared_with_the_float_network_that_is_stored(
    db: Database, whole: Database
) -> None:
    """Another machine may classify single images differently."""
    db.collect(three_layers(), "INT_2", count=COUNT, until=LARGE)
    rows = whole.rows(CELLS)
    place = next(
        place
        for place in range(500)
        if all(row[-2][place] == "1" for row in rows if row[0] in ("all", "none"))
    )
    with connect(db.path, read_only=False) as connection:
        connection.execute("delete from evaluation where scope = 'all'")
        connection.execute(
            f"update evaluation set correct_images = set_bit(correct_images, {place}, 0), "
            "correct_top1 = correct_top1 - 1, correct_both = correct_both - 1"
        )
    db.collect(three_layers(), FORMATS, count=COUNT)
    assert db.failed_checks() == {}
    both = {row[:2]: row[5] for row in rows if row[0] == "all"}
    found = {row[:2]: row[5] for row in db.rows(CELLS) if row[0] == "all"}
    assert found == {key: count - 1 for key, count in both.items()}


def test_a_dry_run_counts_what_needs_more_images(db: Database, run: Run, tmp_path: Path) -> None:
    def missing(until: float | None) -> list[str]:
        source = ptqdb.network(three_layers().eval(), name="net", mean=[0.5], std=[0.25])
        task = NetworkTask(source, pictures(COUNT), pictures(8, "train"))
        request = build_request([task], number_formats=match_formats(FORMATS), until=until)
        (one,) = preview(request, db.path, print)
        assert one.present == 3 - len(one.missing)
        return [cell.format.name for cell in one.missing]

    db.collect(three_layers(), FORMATS, count=COUNT, until=LARGE)
    assert missing(LARGE) == []
    assert missing(SMALL) == ["INT_3", "INT_5"]
    assert missing(None) == ["INT_3", "INT_5"]
    arguments = ("--number-formats", "INT_2", "--images", "20", "--calibration", "8", "--dry-run")
    new = tmp_path / "new.duckdb"
    some = run("collect", "--network", "AlexNet", *arguments, "--db", new, "--until", "0.01")
    assert re.search(r"1 cells to fill, 0 already present, at most about \d+ s", some.err)
    every = run("collect", "--network", "AlexNet", *arguments, "--db", new)
    assert "at most" not in every.err


@pytest.mark.parametrize("until", [0.0, -0.1, 1.0, float("nan"), float("inf")])
def test_an_error_that_no_loss_has_is_refused(db: Database, until: float) -> None:
    with pytest.raises(UsageError, match="expected a number between 0 and 1, found"):
        db.collect(three_layers(), FORMATS, until=until)


def test_the_command_refuses_it_before_it_reads_anything(run: Run, tmp_path: Path) -> None:
    refused = run("collect", "--until", "5", "--db", tmp_path / "x.duckdb")
    assert refused.code == 2
    assert "--until: expected a number between 0 and 1, found 5" in refused.err


def exported(db: Database, folder: Path) -> Path:
    with connect(db.path, read_only=True) as connection:
        export_study(connection, folder)
    return folder


def test_a_study_travels_to_the_bit(db: Database, empty_file: Path, tmp_path: Path) -> None:
    db.collect(three_layers(), FORMATS, count=COUNT, scopes=("layer",), until=LARGE)
    facts = exported(db, tmp_path / "facts")
    (tmp_path / "other").mkdir()
    other = Database(empty_file, tmp_path / "other")
    with connect(other.path, read_only=False) as connection:
        import_study(connection, facts)
    assert other.rows(CELLS) == db.rows(CELLS)
    again = exported(other, tmp_path / "again")
    for name in ("evaluation", "layer_evaluation"):
        file = f"{name}.parquet"
        assert (again / file).read_bytes() == (facts / file).read_bytes()
