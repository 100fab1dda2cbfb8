"""Experiments side by side: made-up predictions with a known difference, folders, and a real git and DVC repository."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from ruamel.yaml import YAML

from pipeline.common.errors import UserError
from pipeline.data.annotations import BOX
from pipeline.evaluation.compare import FOLDS_DIFFER, SHOWN, as_json, compare, format_comparison
from pipeline.evaluation.experiments import Experiment, folder_files, load_experiment
from pipeline.inference.predictions import Predictions
from stages.compare import main

FACES, FOLDS = 60, (2, 5)
SHAPE = np.array([[0.0, 0], [10, 0], [5, 8]])  # the eyes, 10 px apart, and a nose
SKELETON = {"points": 3, "pairs": [[0, 1]], "eyes": [0, 1]}
NOISE = np.random.default_rng(0).uniform(-0.4, 0.4, FACES)


def write(root: Path, errors: dict[str, np.ndarray | float], *, order: np.ndarray | None = None,
          fold: np.ndarray | None = None, skeleton: object = SKELETON, truth: np.ndarray | None = None) -> Path:
    """A workspace in which each model's x and y are off by `errors` (a number, or one a face); faces in `order`."""
    order = np.arange(FACES) if order is None else order
    fold = np.where(np.arange(FACES) % 2, *FOLDS) if fold is None else fold
    truth = np.repeat(SHAPE[None], FACES, 0) + np.arange(FACES)[:, None, None] if truth is None else truth
    crops = root / "data" / "crops" / "train"
    crops.mkdir(parents=True)
    table = pd.DataFrame({"image": [f"{face}.jpg" for face in order]})
    table[BOX] = np.array([[face, 0, 20, 20] for face in order], float)
    table.to_csv(crops / "faces.csv", index_label="face")
    np.save(crops / "keypoints.npy", truth[order].astype(np.float32))
    folds = pd.DataFrame({"face": range(len(order)), "group": order // 2, "fold": fold[order]})
    folds.sample(frac=1, random_state=0).to_csv(root / "data" / "folds.csv", index=False)
    models = [model for model in errors if model != "ensemble"]
    YAML().dump({"train": {"models": models}, "data": {"skeleton": skeleton}}, root / "params.yaml")
    for model, off in errors.items():
        points = np.nan_to_num(truth + np.broadcast_to(off, FACES)[:, None, None])[order]
        rows = {number: np.flatnonzero(fold[order] == number) for number in np.unique(fold)}
        parts = {f"runs/{model}/fold{number}": own for number, own in rows.items()}
        for folder, own in ({"ensemble": np.arange(len(order))} if model == "ensemble" else parts).items():
            Predictions(face=own, points=points[own], spread=np.zeros((len(own), 3))).save(root / folder / "oof.npz")
    return root


def load(root: Path) -> Experiment:
    return load_experiment(root.name, folder_files(root))


def test_compare_known_difference_is_shown(tmp_path: Path) -> None:
    first = load(write(tmp_path / "new", {"net": 1 + NOISE, "ensemble": 1.0}))
    second = load(write(tmp_path / "old", {"net": 2.0, "ensemble": 1.0}))
    net, ensemble = compare(first, second)
    assert net.models == ("net", "net") and ensemble.models == ("ensemble", "ensemble")
    assert [(row.score, row.faces) for row in net.rows] == [
        (score, faces) for score in ("mae", "nme") for faces in ("fold 2", "fold 5", "all")]
    mae, nme = (next(row for row in net.rows if (row.score, row.faces) == (score, "all")) for score in ("mae", "nme"))
    assert mae.a == pytest.approx(1 + NOISE.mean(), abs=1e-5) and mae.b == pytest.approx(2)
    assert mae.interval.difference == pytest.approx(NOISE.mean() - 1, abs=1e-5)
    assert -1.1 < mae.interval.low < mae.interval.difference < mae.interval.high < -0.9
    assert nme.b == pytest.approx(20 * 2**0.5, abs=1e-4)  # 2 px in x and in y, of 10 px between the eyes
    assert {row.better for row in net.rows} == {"a"}
    assert "new better" in format_comparison(net) and "no difference" not in format_comparison(net)
    assert {row.better for row in ensemble.rows} == {None}
    assert format_comparison(ensemble) == "ensemble: new − old: the same predictions"
    (turned, _) = compare(second, first)
    assert {row.better for row in turned.rows} == {"b"}


def test_compare_names_with_html_in_them_are_escaped_for_html_alone(tmp_path: Path) -> None:
    sides = [load(write(tmp_path / name, {"ensemble": error})) for name, error in (("a<b>", 1.0), ("c", 2.0))]
    (found,) = compare(*sides)
    assert "ensemble: a<b> − c" in format_comparison(found)
    html = format_comparison(found, "html")
    assert "<h3>ensemble: a&lt;b&gt; − c</h3>" in html and "a<b>" not in html


def test_compare_noise_shows_no_difference(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).permutation(NOISE) + 0.001
    (net, _) = compare(load(write(tmp_path / "a", {"net": 1 + NOISE, "ensemble": 0.0})),
                       load(write(tmp_path / "b", {"net": 1 + noise, "ensemble": 0.0})))
    assert [row.interval.low < 0 < row.interval.high for row in net.rows] == [True] * 6
    assert {row.better for row in net.rows} == {None}


def test_compare_faces_in_other_order_are_matched_by_box(tmp_path: Path) -> None:
    errors = {"net": 1 + NOISE, "ensemble": NOISE}
    order = np.random.default_rng(2).permutation(FACES)
    first, second = load(write(tmp_path / "a", errors)), load(write(tmp_path / "b", errors, order=order))
    for one in compare(first, second):
        assert all(row.a == pytest.approx(row.b) and row.interval.high == row.interval.low == 0 for row in one.rows)
        assert len(one.rows) == 6 and not one.folds_differ


def test_compare_folds_of_other_faces_are_left_out(tmp_path: Path) -> None:
    fold = np.arange(FACES) % 3
    moved = np.where(np.arange(FACES) == 1, 2, fold)  # from fold 1 to fold 2
    first = load(write(tmp_path / "a", {"net": 1.0, "ensemble": 1.0}, fold=fold))
    (net, _) = compare(first, load(write(tmp_path / "b", {"net": 3.0, "ensemble": 1.0}, fold=moved)))
    assert [row.faces for row in net.rows] == ["fold 0", "all"] * 2
    assert net.folds_differ
    assert FOLDS_DIFFER in format_comparison(net) and FOLDS_DIFFER in format_comparison(net, "markdown")


def test_compare_other_faces_or_labels_is_refused(tmp_path: Path) -> None:
    errors = {"net": 1.0, "ensemble": 1.0}
    whole = load(write(tmp_path / "whole", errors))
    part = load(write(tmp_path / "part", errors, order=np.arange(4, FACES)))
    with pytest.raises(UserError) as caught:
        compare(whole, part)
    assert caught.value.problems[0].startswith("4 of the 60 train faces of whole are not in part: 0.jpg [0.0, 0.0, ")
    truth = np.repeat(SHAPE[None], FACES, 0) + np.arange(FACES)[:, None, None]
    truth[7, 1, 0] += 1
    truth[9, 1] = np.nan
    with pytest.raises(UserError, match=r"other true points for 2 faces: 7\.jpg .*, 9\.jpg"):
        compare(whole, load(write(tmp_path / "labels", errors, truth=truth)))


@pytest.mark.parametrize("count", [SHOWN, SHOWN + 1])
def test_compare_names_the_first_faces_that_one_side_lacks(tmp_path: Path, count: int) -> None:
    whole = load(write(tmp_path / "whole", {"ensemble": 1.0}))
    with pytest.raises(UserError) as caught:
        compare(whole, load(write(tmp_path / "part", {"ensemble": 1.0}, order=np.arange(count, FACES))))
    (problem, _) = caught.value.problems
    assert problem.count(".jpg") == SHOWN and problem.endswith(", …") == (count > SHOWN)


def test_compare_unknown_model_is_named(tmp_path: Path) -> None:
    side = load(write(tmp_path / "a", {"net": 1.0, "other": 2.0, "ensemble": 1.0}))
    (found,) = compare(side, side, [("net", "other")])
    assert found.rows[0].interval == pytest.approx((-1, -1, -1), abs=1e-5)
    assert (found.a, found.b) == ("a net", "a other")
    with pytest.raises(UserError) as caught:
        compare(side, side, [("net", "vit"), ("vit", "net")])
    assert caught.value.problems == ("a has no model 'vit'; it has net, other, ensemble",)


def test_compare_few_groups_or_missing_points_has_no_interval(tmp_path: Path) -> None:
    truth = np.repeat(SHAPE[None], FACES, 0) + np.arange(FACES)[:, None, None]
    truth[0, :2] = np.nan  # one point left: it counts a third of a whole face
    truth[1] = np.nan
    few = np.where(np.arange(FACES) < 8, 1, 0)  # fold 1 has 4 groups of two faces
    off = np.where(np.arange(FACES) == 0, 4.0, 1.0)
    made = {"truth": truth, "fold": few, "skeleton": {"points": 3}}
    sides = [load(write(tmp_path / name, {"net": error, "ensemble": 1.0}, **made))
             for name, error in (("a", off), ("b", 0.0))]
    (net, _) = compare(*sides)
    assert [(row.score, row.faces) for row in net.rows] == [("mae", "fold 0"), ("mae", "fold 1"), ("mae", "all")]
    assert net.rows[1].interval is None and net.rows[1].better is None
    assert "too few groups" in format_comparison(net)
    known = 3 * (FACES - 2) + 1
    assert net.rows[2].a == pytest.approx((known - 1 + 4) / known)
    assert net.rows[2].interval.difference == pytest.approx(net.rows[2].a)
    shown = as_json(net)
    assert shown["mae"]["fold 1"]["difference"] is None and shown["mae"]["all"]["better"] == "b"
    assert "nme" not in shown


def test_load_experiment_other_version_is_named(tmp_path: Path) -> None:
    root = write(tmp_path / "a", {"net": 1.0, "ensemble": 1.0})
    (root / "data" / "crops" / "train" / "faces.csv").write_text("face,image\n0,x.jpg\n")
    with pytest.raises(UserError, match="a: no crops and folds as this version writes them"):
        load(root)
    (root / "data" / "crops" / "train" / "keypoints.npy").unlink()
    with pytest.raises(UserError, match=r"keypoints\.npy: not found; run `dvc repro` there first"):
        load(root)


def test_oof_not_finite_is_refused(tmp_path: Path) -> None:
    root = write(tmp_path / "a", {"net": 1.0, "ensemble": 1.0})
    np.savez(root / "ensemble" / "oof.npz", face=np.arange(FACES), points=np.full((FACES, 3, 2), np.nan),
             spread=np.zeros((FACES, 3)))
    with pytest.raises(UserError, match=r"ensemble/oof\.npz: .* not finite, the first is face 0"):
        compare(load(root), load(root))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_command_on_folders_prints_each_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "copy", {"net": 2.0, "other": 3.0, "ensemble": 2.0})
    monkeypatch.chdir(write(tmp_path / "here", {"net": 1.0, "other": 1.5, "ensemble": 1.0}))
    shown = run("../copy", "--plot", "made/it.png")
    assert shown.exit_code == 0, shown.output
    assert shown.output.count("MAE, px") == 3 and "net: workspace − ../copy" in shown.output
    assert Path("made/it.png").stat().st_size > 5000
    one = json.loads(run("", "../copy", "--model", "net", "--json").output)
    assert [found["models"] for found in one] == [["net", "net"]]
    assert one[0]["mae"]["all"]["difference"] == pytest.approx(-1, abs=1e-5)
    models = run(":net", ":other", "../copy:net", "--md").output
    assert "**net − other**" in models and "**net: workspace − ../copy**" in models
    assert "| all | 1.000 | 1.500 | -0.500 | -0.500 to -0.500 | net better |" in models
    half = run("../copy:other").output
    assert "other: workspace − ../copy" in half and half.count("MAE, px") == 1


def test_command_bad_call_has_no_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write(tmp_path / "here", {"net": 1.0, "ensemble": 1.0}))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    for arguments, message in (
        ([], "HEAD: neither a folder"), (["nowhere"], "nowhere: neither a folder"),
        ([".:vit", "."], "has no model 'vit'"),
    ):
        result = run(*arguments)
        assert result.exit_code == 1 and message in result.output
        assert result.output.count("error: ") == 1 and "Traceback" not in result.output


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git repository whose predictions lie in DVC's cache; off by 2 px in its commit."""
    from dvc.repo import Repo

    root = write(tmp_path / "repository", {"net": 2.0, "ensemble": 2.0})
    monkeypatch.chdir(root)
    for name in ("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"):
        monkeypatch.setenv(name, "test@example.org")
    git("init", "-q")
    with Repo.init(".") as repo:
        repo.add(["data/crops", "data/folds.csv", "runs/net", "ensemble"])
    git("add", "-A")
    git("commit", "-qm", "first")
    return root


def git(*arguments: str) -> None:
    subprocess.run(["git", *arguments], check=True, capture_output=True, env=os.environ)


def test_command_on_revisions_reads_git_and_cache(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dvc.repo import Repo

    same = run("--json")
    assert same.exit_code == 0, same.output
    assert json.loads(same.output)[1]["mae"]["all"] == {
        "a": 2, "b": 2, "difference": 0, "low": 0, "high": 0, "better": None}
    rows = np.arange(FACES)
    better = Predictions.load(Path("ensemble/oof.npz")).points - 1
    Predictions(face=rows, points=better, spread=np.zeros((FACES, 3))).save(Path("ensemble/oof.npz"))
    found = json.loads(run("--json").output)
    assert [one["mae"]["all"]["difference"] for one in found] == pytest.approx([0, -1])
    with Repo() as repo:
        repo.add(["ensemble"])
        repo.experiments.save(name="nearer")
    assert json.loads(run("nearer", "HEAD", "--json").output)[1]["mae"]["all"]["difference"] == pytest.approx(-1)
    for path in sorted(Path(".dvc/cache").rglob("*"), reverse=True):
        path.chmod(0o755)
        path.unlink() if path.is_file() else path.rmdir()
    gone = run()
    assert gone.exit_code == 1 and "is neither in git nor in DVC's cache" in gone.output
    assert "dvc repro" in gone.output and "Traceback" not in gone.output
