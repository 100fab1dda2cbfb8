"""`package` and `annotate --from` through Click's runner: the same points from an empty folder, nothing else read."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from ruamel.yaml import YAML
from safetensors.numpy import load_file, save_file

from pipeline.common.errors import UserError
from pipeline.data.annotations import dlib_xml
from pipeline.data.crops import write_crops
from pipeline.data.store import CropStore
from pipeline.inference.package import ARRAYS, CARD, MANIFEST, describe_skeleton, load_package
from pipeline.inference.predictions import Predictions
from pipeline.keypoints.skeleton import SKELETONS, make_skeleton
from pipeline.models.checkpoint import fingerprint
from pipeline.params import load_params
from tests.conftest import run, succeed


@pytest.fixture(scope="module")
def packed(finished, tmp_path_factory):
    out = tmp_path_factory.mktemp("packed") / "package"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(finished)
        assert "resnet, unet; 15 files" in succeed("package", "--out", out, "--about", "not for trade")
    return out


@pytest.fixture
def package(packed, finished, tmp_path, monkeypatch):
    """A copy of it to spoil, beside an otherwise empty folder."""
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    return shutil.copytree(packed, tmp_path / "package")


def photos(folder):
    boxes = folder / "photos" / "test.xml"
    return [*[boxes.parent / image for image in list(dict.fromkeys(dlib_xml.read(boxes).faces.image))[:2]],
            "--boxes", boxes]


def results():
    return {path.as_posix(): path.read_bytes() for path in Path("annotated").rglob("*") if path.is_file()}


def refused(package, folder):
    """The only message of an annotation that fails."""
    result = run("annotate", "--from", package, *photos(folder))
    assert result.exit_code == 1 and isinstance(result.exception, SystemExit), (result.output, result.exception)
    messages = [line for line in result.output.splitlines() if line.startswith("error: ")]
    assert len(messages) == 1 and not Path("annotated").exists()
    return messages[0]


def reseal(package, change):
    """Change the manifest and give it a digest that fits, as a forger would."""
    contents = json.loads((package / MANIFEST).read_text())["contents"]
    names = sorted(path.relative_to(package).as_posix() for path in package.rglob("model.*"))
    change(contents)
    digest = fingerprint(json.dumps(contents), *(package / name for name in [ARRAYS, CARD, *names]))
    (package / MANIFEST).write_text(json.dumps({"digest": digest, "contents": contents}))


@pytest.mark.parametrize(("blend", "chosen"), [
    ("weights", []), ("median", []), ("weights", ["--model", "unet"]), ("weights", ["--model", "resnet", "--fold", 3])])
def test_annotate_from_package_in_empty_folder_gives_same_bits(finished, tmp_path, monkeypatch, blend, chosen):
    here, empty = shutil.copytree(finished, tmp_path / "run"), tmp_path / "empty"
    monkeypatch.chdir(here)
    if blend == "median":  # without cascade and correction
        Path("ensemble/weights.json").write_text(json.dumps({"blend": "median"}))
        values = YAML(typ="safe", pure=True).load(Path("params.yaml"))
        values["align"].update(locator=[], models=[])
        YAML().dump(values, Path("params.yaml"))
    succeed("annotate", *photos(finished), *chosen)
    wanted = results()
    assert len(wanted) == 5 and len(wanted["annotated/points.csv"]) > 4000
    succeed("package", *chosen)
    shutil.move("package", tmp_path / "package")
    empty.mkdir()
    monkeypatch.chdir(empty)
    shutil.rmtree(here)
    succeed("annotate", "--from", tmp_path / "package", *photos(finished))
    assert results() == wanted


def test_package_of_scored_run_holds_its_intervals_and_scores(finished, tmp_path, monkeypatch):
    monkeypatch.chdir(shutil.copytree(finished, tmp_path / "run"))
    rng, params = np.random.default_rng(0), load_params(Path("params.yaml"))
    write_crops(dlib_xml.read(Path("photos/train.xml")), Path("photos"), Path("data/crops/train"), params.crop, jobs=1)
    truth = CropStore.open(Path("data/crops/train")).truth
    points = truth + np.float32(3.0) * rng.choice([-1, 1], truth.shape)
    oof = Predictions(face=np.arange(len(truth)), points=points, spread=rng.uniform(1, 2, truth.shape[:2]))
    oof.save(Path("ensemble/oof.npz"))
    said = succeed("annotate", *photos(finished))
    wanted = results()
    table = pd.read_csv("annotated/intervals.csv")
    assert len(table) == 68 * len(table.face.unique()) and (table.radius > 0).all()
    assert f"to hold 90% of them, in the mean {table.radius.mean():.1f} px" in said
    assert table[["x", "y"]].to_numpy() == pytest.approx(
        pd.read_csv("annotated/points.csv").filter(like="part_").to_numpy().reshape(-1, 2), abs=1e-3)
    succeed("package")
    succeed("annotate", "--from", "package", "--out", "again", *photos(finished))
    assert Path("again/intervals.csv").read_bytes() == wanted["annotated/intervals.csv"]
    assert "Out-of-fold MAE 3.000 px, NME " in Path("package/README.md").read_text()
    succeed("package", "--model", "unet", "--fold", 3, "--out", "one")  # those of the ensemble are not those of a fold
    succeed("annotate", "--from", "one", "--out", "by-one", *photos(finished))
    assert not Path("by-one/intervals.csv").exists() and "MAE" not in Path("one/README.md").read_text()
    succeed("annotate", "--from", "one", "--out", "again", *photos(finished))
    assert not Path("again/intervals.csv").exists()  # it was of other points



def test_package_holds_json_and_safetensors_without_paths(packed):
    files = [path for path in packed.rglob("*") if path.is_file()]
    assert "\n\nnot for trade\n\n" in (packed / CARD).read_text()
    assert len(files) == 15 and {path.suffix for path in files} == {".json", ".safetensors", ".md"}
    for path in files:
        assert not any(other in path.read_bytes() for other in (b"/secret", b"runs/", str(packed.parent).encode()))


def test_package_over_other_folder_is_refused_and_over_package_replaces(finished, tmp_path, monkeypatch):
    monkeypatch.chdir(finished)
    other, old = tmp_path / "other", tmp_path / "old"
    for folder, name in ((other, "mine"), (old, MANIFEST)):
        folder.mkdir()
        (folder / name).write_text("x")
    result = run("package", "--out", other)
    assert result.exit_code == 1 and "is no package; choose another --out" in result.output
    assert [path.name for path in other.iterdir()] == ["mine"]
    (old / "left").write_text("over")
    succeed("package", "--out", old)
    assert sorted(path.name for path in old.iterdir()) == [CARD, ARRAYS, MANIFEST, "runs"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old", "other"]


def test_package_network_of_other_crops_is_refused(finished, tmp_path, monkeypatch):
    monkeypatch.chdir(shutil.copytree(finished, tmp_path / "run"))
    values = YAML(typ="safe", pure=True).load(Path("params.yaml"))
    values["align"]["size"] = 48
    YAML().dump(values, Path("params.yaml"))
    result = run("package")
    assert result.exit_code == 1 and "runs/unet/fold0: trained on other crops: of 32 pixels" in result.output
    assert not Path("package").exists() and not Path("package.partial").exists()


def test_annotate_from_package_with_model_is_refused(package, finished):
    result = run("annotate", "--from", package, "--model", "unet", *photos(finished))
    assert result.exit_code == 2 and "give --model and --fold to stages.package" in result.output


def test_annotate_from_incomplete_package_names_what_lacks(package, finished):
    for path in [path for path in package.rglob("*") if path.is_file()]:
        path.rename(package / "aside")
        name = path.relative_to(package).as_posix()
        assert f"{package}: not a whole package (it lacks {name})" in refused(package, finished)
        (package / "aside").rename(path)
    assert f"it lacks {MANIFEST}" in refused(package.parent / "none", finished)


def test_annotate_from_damaged_package_is_refused(package, finished):
    for path in [path for path in package.rglob("*") if path.is_file() and path.name != MANIFEST]:
        whole = path.read_bytes()
        path.write_bytes(whole[:-2] + bytes([whole[-2] ^ 1]) + whole[-1:])
        assert "something in it was changed or damaged" in refused(package, finished)
        path.write_bytes(whole)


@pytest.mark.parametrize("edit", [
    lambda text: text[: len(text) // 2],
    lambda text: "",
    lambda text: "[]",
    lambda text: "[" * 100_000,
    lambda text: "\udcff",
    lambda text: text.replace("0.9", "0.8"),
    lambda text: text.replace('"unet": [', '"umet": ['),
    lambda text: text.replace('"format": 2', '"format": 1'),
    lambda text: text.replace('"resnet": [', '"x": [', 1).replace('"unet": [', '"resnet": [').replace('"x"', '"unet"'),
])
def test_annotate_from_package_with_edited_manifest_is_refused(package, finished, edit):
    text = (package / MANIFEST).read_text()
    assert edit(text) != text
    (package / MANIFEST).write_text(edit(text), errors="surrogateescape")
    assert "not a whole package" in refused(package, finished)


@pytest.mark.parametrize(("change", "message"), [
    (lambda it: it["members"].update({"../../unet": ["fold0"]}), "members"),
    (lambda it: it["members"].update(unet=["fold0/../../../../unet/fold0"]), "members.unet.0"),
    (lambda it: it["members"].update(unet=[".."]), "members.unet.0"),
    (lambda it: it["cascade"].update(locator="/locator"), "cascade.locator"),
    (lambda it: it["cascade"].update(reference="/etc/passwd"), "cascade.reference"),
    (lambda it: it["members"].clear(), "members"),
    (lambda it: it["members"].update(unet=["fold7"]), "it lacks runs/unet/fold7/model.json"),
    (lambda it: it["weights"].append(0.5), "3 weights of 2 models"),
    (lambda it: it.update(weights=[0.5, float("nan")]), "weights.1"),
    (lambda it: it["skeleton"].update(points=10**9), "skeleton.points"),
    (lambda it: it["skeleton"].update(pairs=[[0, 99]]), "point 99 is not one of 0 to 67"),
    (lambda it: it.update(shape=False), "other arrays"),
    (lambda it: it["geometry"].update(size=64), "trained on other crops"),
    (lambda it: it.update(device="cuda"), "device"),
])
def test_annotate_from_forged_package_stays_in_it_and_is_refused(package, finished, change, message):
    reseal(package, lambda contents: None)
    load_package(package)  # the forger's digest does fit
    reseal(package, change)
    if message.startswith("members") or "cascade" in message:  # what it would find outside
        shutil.copytree(package / "runs" / "unet", package.parent / "unet")
    assert message in refused(package, finished)


@pytest.mark.parametrize("text", ["[]", "{}", "5", '{"network": 5}', '{"network": {}, "codec": {}}', "\udcff"])
def test_annotate_from_forged_network_is_refused(package, finished, text):
    (package / "runs/unet/fold3/model.json").write_text(text, errors="surrogateescape")
    reseal(package, lambda contents: None)
    assert "runs/unet/fold3" in refused(package, finished)


@pytest.mark.parametrize("forge", [
    lambda arrays: {name: array for name, array in arrays.items() if name != "offset"},
    lambda arrays: arrays | {"offset": arrays["offset"][1:]},
    lambda arrays: arrays | {"reference": arrays["reference"].T},
    lambda arrays: arrays | {"offset": np.full(136, np.inf)},
    lambda arrays: arrays | {"offset": np.zeros(136, np.int64)},
])
def test_annotate_from_package_with_other_arrays_is_refused(package, finished, forge):
    forged = {name: np.ascontiguousarray(array) for name, array in forge(load_file(package / ARRAYS)).items()}
    save_file(forged, package / ARRAYS)
    reseal(package, lambda contents: None)
    assert ARRAYS in refused(package, finished)


def test_annotate_from_package_with_arrays_that_numpy_lacks_is_refused(package, finished):
    arrays = {name: torch.from_numpy(array).bfloat16() for name, array in load_file(package / ARRAYS).items()}
    safetensors.torch.save_file(arrays, package / ARRAYS)
    reseal(package, lambda contents: None)
    assert "not a whole package" in refused(package, finished)


@pytest.mark.parametrize("name", ["runs", "runs/unet/fold0", "runs/unet/fold0/model.json", ARRAYS, MANIFEST])
def test_annotate_from_package_with_link_out_of_it_is_refused(package, finished, name):
    outside = shutil.move(package / name, package.parent / "outside")
    (package / name).symlink_to(outside)
    assert "is a link out of it" in refused(package, finished)


def test_annotate_from_package_by_link_to_whole_folder_is_read(package):
    (package.parent / "link").symlink_to(package)
    assert load_package(package.parent / "link").skeleton.num_points == 68


def test_load_package_no_folder_is_an_error(tmp_path):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "none"):
        with pytest.raises(UserError, match="not a whole package"):
            load_package(path)


@pytest.mark.parametrize("name", SKELETONS)
def test_skeleton_described_is_built_again(name):
    found = make_skeleton(**describe_skeleton(SKELETONS[name]))
    assert found.flip.tolist() == SKELETONS[name].flip.tolist()
    assert all(getattr(found, field) == getattr(SKELETONS[name], field)
               for field in ("name", "eyes", "edges", "regions", "names"))
