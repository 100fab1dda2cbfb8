"""Radii of predicted points: what share of the points they hold, and whom they send to be looked at."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from pipeline.common.errors import UserError
from pipeline.data.annotations import BOX
from pipeline.data.store import CropStore
from pipeline.evaluation.intervals import (
    calibration,
    cross_radii,
    describe_coverage,
    measure_coverage,
    read_review,
    review_table,
    write_intervals,
)
from pipeline.inference.intervals import Intervals, conformal_quantile, face_size
from pipeline.inference.predictions import Predictions
from pipeline.keypoints.geometry import finite_mean
from pipeline.keypoints.metrics import point_errors

N, K = 900, 4


def made_up(seed: int = 0, count: int = N) -> tuple[Predictions, CropStore]:
    """Errors that grow with the point's number, the face's size and the spread, which says nothing of the first two."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(20, 80, (count, K, 2))
    size, hard = rng.uniform(30, 300, count), rng.uniform(0, 3, count)
    sigma = size[:, None] * (0.01 * (1 + np.arange(K))[None] + 0.02 * hard[:, None])
    points = truth + sigma[..., None] * rng.normal(size=(count, K, 2))
    source = np.where(np.arange(count) % 3, "a", "b")
    faces = pd.DataFrame({"image": [f"{i}.jpg" for i in range(count)], "source": source})
    faces[BOX] = np.stack([0 * size, 0 * size, size / 2, size], axis=1)
    store = CropStore(size=8, crops=np.zeros((count, 8, 8), np.uint8), photos=np.zeros((count, 32, 32), np.uint8),
                      faces=faces, keypoints=truth.astype(np.float32))
    spread = size[:, None] * 0.02 * hard[:, None] * np.ones(K)
    return Predictions(face=np.arange(count), points=points, spread=spread), store


def errors(predictions: Predictions, store: CropStore) -> np.ndarray:
    return point_errors(predictions.points, store.keypoints)


@pytest.mark.parametrize("coverage", [0.5, 0.9])
def test_radii_of_new_faces_reach_coverage(coverage):
    (known, store), (fresh, others) = made_up(0), made_up(1)
    fitted = Intervals.fit(known, store.keypoints, store.faces, coverage)
    held = errors(fresh, others) <= fitted.radii(fresh, others.faces)
    assert np.abs(held.mean(axis=0) - coverage).max() < 0.045  # of each point; the binomial's sd is 0.014 twice
    unsure = fresh.spread[:, 0] / face_size(others.faces) > 0.04
    assert np.abs(held[unsure].mean() - held[~unsure].mean()) < 0.06  # though their errors are twice as large


def test_radii_of_calibration_faces_are_smallest():
    known, store = made_up()
    radii = replace(Intervals.fit(known, store.keypoints, store.faces, 0.9), factor={}).radii(known, store.faces)
    held = (errors(known, store) <= radii * (1 + 1e-9)).sum(axis=0)
    assert (held == np.ceil((N + 1) * 0.9)).all()


def test_radii_of_harder_source_are_larger():
    (known, store), (fresh, others) = made_up(0), made_up(1)
    hard = [(each.faces.source == "b").to_numpy() for each in (store, others)]
    known, fresh = (
        replace(each, points=np.where(rows[:, None, None], 2 * each.points - truth, each.points))  # errors doubled
        for each, rows, truth in zip((known, fresh), hard, (store.keypoints, others.keypoints), strict=True))
    fitted = Intervals.fit(known, store.keypoints, store.faces, 0.9)
    held = errors(fresh, others) <= fitted.radii(fresh, others.faces)
    assert np.abs([held[hard[1]].mean() - 0.9, held[~hard[1]].mean() - 0.9]).max() < 0.025
    assert fitted.factor["b"] > 1 > fitted.factor["a"]
    few = np.arange(N) < 100  # 33 of source b
    assert set(Intervals.fit(known.rows(few), store.keypoints[few], store.faces[few], 0.9).factor) == {"a"}
    single = store.faces.assign(source="a")  # whose new photos, of no source, have the radii of its test faces
    assert Intervals.fit(known, store.keypoints, single, 0.9).factor == {}


def test_radii_of_rare_point_are_infinite():
    known, store = made_up()
    truth = store.keypoints.copy()
    truth[8:, 0] = np.nan  # 8 faces cannot tell what holds for 9 of 10
    truth[::2, 1] = np.nan
    truth[:, 2] = np.nan
    faces = store.faces.assign(source="one")
    radii = Intervals.fit(known, truth, faces, 0.9).radii(known, faces.assign(source="other"))
    assert not np.isfinite(radii[:, [0, 2]]).any()
    half = Intervals.fit(known.rows(np.s_[1::2]), store.keypoints[1::2], faces[1::2], 0.9)
    half = half.radii(known, faces.assign(source="other"))
    np.testing.assert_allclose(radii[:, [1]], half[:, [1]])
    np.testing.assert_allclose(finite_mean(radii), radii[:, [1, 3]].mean(axis=1))
    assert np.isnan(finite_mean(radii[:, [0, 2]])).all()


def test_cross_radii_of_fold_do_not_use_its_truth():
    known, store = made_up()
    fold = np.arange(N) % 3
    before = cross_radii(known, store.keypoints, store.faces, fold, 0.9)
    truth = store.keypoints.copy()
    truth[fold == 1] += 50
    after = cross_radii(known, truth, store.faces, fold, 0.9)
    np.testing.assert_array_equal(after[fold == 1], before[fold == 1])
    assert (after[fold != 1] > before[fold != 1]).all()


def test_measure_coverage_by_region_and_source():
    known, store = made_up()
    truth = store.keypoints.copy()
    truth[5] = np.nan
    store, fold = replace(store, keypoints=truth), np.arange(N) % 2
    found = measure_coverage(known, store, fold, {"low": (0, 1), "high": (3,)}, 0.9)
    held = errors(known, store) <= cross_radii(known, truth, store.faces, fold, 0.9)
    use = np.arange(N) != 5
    assert found["coverage"] == held[use].mean() and found["wanted"] == 0.9
    assert found["regions"] == {"low": held[use][:, :2].mean(), "high": held[use][:, 3].mean()}
    is_a = (store.faces.source == "a").to_numpy()
    assert found["sources"] == {"a": held[use & is_a].mean(), "b": held[use & ~is_a].mean()}
    assert f"90% intervals hold {held[use].mean():.1%} of the out-of-fold points (regions " in describe_coverage(found)
    assert "(" not in describe_coverage(found | {"regions": {}, "sources": {"a": 0.9}})  # one is no range


def test_calibration_has_a_row_for_each_stated_share():
    known, store = made_up()
    fold = np.arange(N) % 2
    table = calibration(known, store, fold, [0.5, 0.9])
    radii = [cross_radii(known, store.keypoints, store.faces, fold, level) for level in (0.5, 0.9)]
    assert table.stated.tolist() == [0.5, 0.9]
    assert table.within.tolist() == [(errors(known, store) <= one).mean() for one in radii]
    np.testing.assert_allclose(table.radius, [one.mean() for one in radii])


def test_describe_coverage_of_too_few_faces_says_so():
    known, store = made_up(count=6)
    found = measure_coverage(known, store, np.arange(6) % 2, {}, 0.9)
    assert found["radius"] is None
    assert describe_coverage(found) == "intervals: too few faces to fit them on"


def test_review_table_lists_least_certain_first():
    _, store = made_up(count=40)
    faces, size = store.faces.head(4), face_size(store.faces.head(4))
    radius = np.array([0.1, 0.4, 0.3, 0.02]) * size
    usual = np.linspace(0.0, 0.3, 100)  # 0.285 at 95%
    table = review_table(faces, radius, usual)
    assert table.face.tolist() == [1, 2] and table.image.tolist() == ["1.jpg", "2.jpg"]
    np.testing.assert_allclose(table.of_size, [0.4, 0.3])
    np.testing.assert_allclose(table.radius, table.of_size * size[[1, 2]])
    assert review_table(faces, radius, np.array([np.nan])).empty


def test_conformal_quantile_ignores_nan():
    values = np.array([np.nan, 4.0, 1.0, np.nan, 3.0, 2.0, np.nan])
    assert conformal_quantile(values, 0.6) == 3
    assert conformal_quantile(values, 0.8) == 4  # the fourth of four
    assert conformal_quantile(values, 0.9) == np.inf  # of four values none is large enough


def test_write_intervals_writes_both_tables(tmp_path):
    (oof, store), (test, others) = made_up(0), made_up(1, count=1050)  # more than are written at once
    said = write_intervals(tmp_path / "i.csv", tmp_path / "r.csv", oof=oof, test=test, train=store, faces=others.faces,
                           coverage=0.9)
    table, unsure = pd.read_csv(tmp_path / "i.csv"), pd.read_csv(tmp_path / "r.csv")
    assert list(table) == ["face", "image", "point", "x", "y", "radius"] and len(table) == 1050 * K
    assert list(unsure) == ["face", "image", *BOX, "radius", "of_size"]
    last = table.iloc[-1]
    assert (last.face, last.image, last.point) == (1049, "1049.jpg", K - 1)
    np.testing.assert_allclose([last.x, last.y], test.points[-1, -1], atol=1e-3)
    held = errors(test, others).ravel() <= table.radius
    assert abs(held.mean() - 0.9) < 0.03
    assert 20 < len(unsure) < 90 and (unsure.of_size.diff().dropna() <= 0).all()
    assert f"r.csv: {len(unsure)} test faces are less certain" in said
    np.testing.assert_allclose(unsure.radius, table.groupby("face").radius.mean()[unsure.face], atol=1e-3)
    assert unsure.face.max() >= 1000
    assert table.face.tolist() == np.repeat(range(1050), K).tolist()
    pd.testing.assert_frame_equal(read_review(tmp_path / "r.csv"), unsure, check_dtype=False)
    with pytest.raises(UserError, match=r"none\.csv: not found; run `dvc repro submit`"):
        read_review(tmp_path / "none.csv")
