"""Study: what it does between reading and writing, and what it refuses."""

import shutil
from pathlib import Path
from unittest.mock import Mock

import duckdb
import pytest
import synthetic
from collecting import images

import ptqdb
from ptqdb.database import connect, materialize
from ptqdb.errors import DatabaseError, UsageError
from ptqdb.networks.embedded import embedded_folder


@pytest.fixture
def filled(path: Path) -> Path:
    """A file with the synthetic study."""
    with connect(path, read_only=False) as connection:
        synthetic.fill(connection)
        materialize(connection)
    return path


def test_a_closed_study_is_refused(filled: Path) -> None:
    with ptqdb.open(filled) as study:
        assert study.sql("select 1 as one")["one"].to_list() == [1]
    with pytest.raises(DatabaseError, match=r"study\.duckdb was closed: open it again"):
        study.view()
    assert repr(study) == f"Study({filled})"


def test_a_missing_file_is_opened_only_to_be_created(tmp_path: Path) -> None:
    missing = tmp_path / "new.duckdb"
    with pytest.raises(DatabaseError, match="does not exist"):
        ptqdb.open(missing)
    with ptqdb.open(missing, create=True) as study:
        with pytest.raises(DatabaseError, match="does not exist"):
            study.view()
        assert not missing.exists()


def test_what_compare_stores_can_be_read_on(filled: Path) -> None:
    with ptqdb.open(filled) as study:
        before = study.view("l2_flops")
        assert study.best_prediction() is not None
        board = study.compare("l2_flops", ["isotonic"])
        assert study.view("l2_flops").equals(before)
        assert study.sql("select count(*) as n from fit")["n"].item() == len(board.entries)
        best = study.best_prediction()
    assert best is not None
    assert best.curve == "isotonic"


def test_several_curves_are_fitted_to_a_view_that_is_read_once(
    filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ptqdb.open(filled) as study:
        alone = [study.fit("l2_flops", curve=name)[0].params for name in ("linear", "isotonic")]
        read = Mock(wraps=study.view)
        monkeypatch.setattr(study, "view", read)
        fits = study.fit("l2_flops", curve=["linear", "isotonic"])
    assert read.call_count == 1
    assert [fit.params for fit in fits if fit.group == "ALL"] == alone


def test_a_study_goes_out_and_comes_in(filled: Path, empty_file: Path, tmp_path: Path) -> None:
    other = Path(shutil.copy(empty_file, tmp_path / "other.duckdb"))
    with ptqdb.open(filled) as study:
        study.export(tmp_path / "facts")
        assert all(result.has_passed for result in study.check())
        rows = study.view("fakefreeze_flops")
    with ptqdb.open(other) as study:
        assert study.view("fakefreeze_flops").is_empty()
        added = study.merge(tmp_path / "facts", prefix="their_")
        assert added["network"] == rows["network"].n_unique()
        assert set(study.view("fakefreeze_flops")["network"]) == {
            f"their_{name}" for name in rows["network"]
        }


def test_the_embedded_study_takes_nothing_in(tmp_path: Path) -> None:
    source = ptqdb.network("AlexNet", weights="random", class_count=10)
    with ptqdb.open() as study:
        with pytest.raises(UsageError, match="embedded study cannot be collected into"):
            study.collect(source, images(4), images(4, "train"), number_formats="INT_8")
        with pytest.raises(UsageError, match="embedded study cannot be imported into"):
            study.merge(tmp_path)


def test_recommendations_are_those_of_the_prediction() -> None:
    network = ptqdb.network("VGG_19", checkpoint=embedded_folder() / "VGG_19.safetensors")
    with ptqdb.open() as study:
        predicted = study.predict(network, number_formats="INT_[4-8]")
        found = study.recommend(network, max_loss=0.05, number_formats="INT_[4-8]")
    assert found == predicted.recommend(0.05)
    assert predicted.remarks[0].startswith("VGG_19 is the same network")


def test_others_may_write_once_a_study_has_written(filled: Path) -> None:
    """The reading connection is closed before a writer opens the file."""
    with ptqdb.open(filled) as study:
        study.view("l2_flops")
        study.compare("l2_flops", ["linear"])
        with duckdb.connect(str(filled)) as writer:
            writer.execute("create table mine (a integer)")
        assert study.sql("select count(*) as n from mine")["n"].item() == 0
