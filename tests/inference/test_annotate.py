"""`annotate` through Click's runner: points of any photos, the same as the pipeline's own, in files that read back."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from ruamel.yaml import YAML

from pipeline.common.errors import UserError
from pipeline.common.paths import Paths
from pipeline.data.annotations import BOX, coco, csv_points, dlib_xml
from pipeline.data.crops import write_crops
from pipeline.data.store import CropStore
from pipeline.inference.annotate import choose_members, name_images
from pipeline.inference.predict import load_predictor
from pipeline.inference.shape import ShapeCorrection
from pipeline.models.device import make_runtime
from pipeline.params import load_params
from stages.annotate import main
from tests.conftest import succeed
from tests.inference.conftest import WEIGHTS

ROOT = Path(__file__).parents[2]

@pytest.fixture
def inside(trained, tmp_path, monkeypatch):
    """A copy of it to spoil."""
    shutil.copytree(trained, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


def annotate(*args):
    return CliRunner().invoke(main, [str(arg) for arg in args])


def boxed_faces():
    """The boxes of the test photos, as the competition gives them."""
    return dlib_xml.read(Path("photos/test.xml"))


def predictions(name, fold, faces):
    """(N, 68, 2) points by one fold, the pipeline's own way."""
    params = load_params(Path("params.yaml"))
    write_crops(faces, Path("photos"), Path("crops"), params.crop, jobs=1)
    store = CropStore.open(Path("crops"))
    predictor = load_predictor(Paths().run(name, fold), store, flip_indices=params.data.skeleton.flip,
                               runtime=make_runtime("cpu", "float32"), tta=params.predict)
    return predictor.predict(store, np.arange(len(store))).points.astype(np.float64)


def test_annotate_with_ensemble_writes_readable_csv_xml_and_coco(inside):
    faces = boxed_faces()
    photos = [f"photos/{image}" for image in dict.fromkeys(faces.faces.image)]
    result = annotate(*photos, "--boxes", "photos/test.xml")
    assert result.exit_code == 0, result.output
    wanted = sum(share * (predictions(name, 0, faces) + predictions(name, 3, faces)) / 2
                 for name, share in WEIGHTS["test"].items())
    from_xml, from_csv = dlib_xml.read(Path("annotated/points.xml"), 68), csv_points.parse(Path("annotated/points.csv"))
    assert not from_csv[1]
    root = name_images([Path(photo) for photo in photos])[0]
    order = [face for image in dict.fromkeys(faces.faces.image) for face in np.flatnonzero(faces.faces.image == image)]
    from_coco = coco.parse(Path("annotated/points.json"), 68)
    assert not from_coco[1]
    np.testing.assert_array_equal(from_xml.keypoints, from_coco[0].keypoints)
    for found in (from_xml, from_csv[0], from_coco[0]):
        np.testing.assert_allclose(found.keypoints, wanted[order], atol=2e-3)
        np.testing.assert_array_equal(found.faces[BOX], faces.faces[BOX].to_numpy()[order])
        named = [(root / image).relative_to(Path("photos").absolute()).as_posix() for image in found.faces.image]
        assert named == faces.faces.image.iloc[order].tolist()
    np.testing.assert_array_equal(from_xml.keypoints, from_csv[0].keypoints)
    for photo in photos:
        drawn = cv2.imread(str("annotated" / Path(photo).absolute().relative_to(root)))
        assert (np.abs(drawn.astype(int) - (0x35, 0x40, 0xFF)).max(-1) < 30).sum() > 68
    assert not list(Path("annotated").glob("*.partial"))


def test_annotate_with_one_model_averages_chosen_folds(inside):
    faces = boxed_faces()
    faces = type(faces)(faces=faces.faces[:1], keypoints=None)
    photo = f"photos/{faces.faces.image[0]}"
    box = ",".join(f"{value:g}" for value in faces.faces[BOX].to_numpy()[0])
    folds = [predictions("unet", fold, faces) for fold in (0, 3)]
    for more, wanted in (([], np.mean(folds, axis=0)), (["--fold", 3], folds[1])):
        result = annotate(photo, "--box", box, "--box", "0,0,40,50", "--model", "unet", "--out", "one", *more)
        assert result.exit_code == 0, result.output
        found = dlib_xml.read(Path("one/points.xml"), 68)
        assert len(found) == 2 and found.faces.image.tolist() == [Path(photo).name] * 2
        np.testing.assert_allclose(found.keypoints[0], wanted[0], atol=2e-3)


def test_annotate_with_each_blend_applies_its_rule(inside):
    faces = boxed_faces()
    faces = type(faces)(faces=faces.faces[:1], keypoints=None)
    call = [f"photos/{faces.faces.image[0]}", "--boxes", "photos/test.xml"]
    means = [np.mean([predictions(name, fold, faces) for fold in (0, 3)], axis=0)[0] for name in ("resnet", "unet")]
    shape = ShapeCorrection(weights=np.full((136, 136), 1e-3), offset=np.linspace(-0.1, 0.1, 136))
    shape.save(Path("ensemble/shape.npz"))
    for weights, wanted in (({"blend": "median"}, np.mean(means, axis=0)),
                            ({"blend": "median", "ridge": 1.0}, shape.apply(np.mean(means, axis=0)[None])[0]),
                            ({"blend": "weights", "test": {"resnet": 0.0, "unet": 1.0}}, means[1])):
        Path("ensemble/weights.json").write_text(json.dumps(weights))
        if weights["blend"] == "weights":
            shutil.rmtree("runs/resnet")  # it is not asked
        result = annotate(*call)
        assert result.exit_code == 0, result.output
        found = dlib_xml.read(Path("annotated/points.xml"), 68)
        np.testing.assert_allclose(found.keypoints[0], wanted, atol=2e-3)


def spoil(name):
    path = Path(name)
    shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.mark.parametrize(
    ("args", "spoiled", "messages"),
    [
        (["gone.jpg", "none.png", "--boxes", "photos/test.xml"], None, ["gone.jpg: missing", "none.png: missing"]),
        (["PHOTO", "--box", "1,2,3,0"], None, ["--box 1,2,3,0: height 0 must be above 0"]),
        (["PHOTO", "--boxes", "none.csv"], None, ["none.csv: cannot be read"]),
        (["PHOTO", "--box", "9,9,30,30", "--model", "vit"], None, ["models.vit: no such model"]),
        (["PHOTO", "--box", "9,9,30,30", "--model", "unet", "--fold", "1"], None, ["split.folds", "only 0, 3"]),
        (["PHOTO", "--box", "9,9,30,30", "--fold", "3"], None, ["name it with --model"]),
        (["PHOTO", "--box", "9,9,30,30"], "ensemble", ["weights.json", "--model"]),
        (["PHOTO", "--box", "9,9,30,30"], "runs/unet/fold3", ["run the train stage first"]),
        (["PHOTO", "--box", "9,9,30,30", "--out", "file"], None, ["file"]),
    ],
)
def test_annotate_bad_call_says_what_to_do_and_writes_nothing(inside, args, spoiled, messages):
    if spoiled:
        spoil(spoiled)
    photo = f"photos/{boxed_faces().faces.image[0]}"
    Path("file").write_text("in the way")
    result = annotate(*(photo if arg == "PHOTO" else arg for arg in args))
    assert result.exit_code == 1, result.output
    assert all(message in result.output for message in messages), result.output
    assert result.output.count("error: ") >= len(messages) - 1
    assert not Path("annotated").exists()


def test_annotate_without_boxes_or_detector_names_choices(inside, monkeypatch):
    monkeypatch.setitem(sys.modules, "dlib", None)
    result = annotate(f"photos/{boxed_faces().faces.image[0]}")
    assert result.exit_code == 1
    assert all(choice in result.output for choice in ("--boxes", "--box LEFT,TOP,WIDTH,HEIGHT", "[detect]"))


def test_annotate_by_models_trained_on_whole_photos_takes_each_photo_whole(inside):
    """By the crops that they were trained on, here and from a package."""
    faces, params = boxed_faces(), load_params(Path("params.yaml"))
    photo = f"photos/{faces.faces.image[0]}"
    height, width = cv2.imread(photo).shape[:2]
    whole = replace(faces, faces=faces.faces[:1].assign(left=0, top=0, width=width, height=height))
    write_crops(whole, Path("photos"), Path("data/crops/train"), params.crop, jobs=1)
    succeed("package", "--model", "resnet", "--fold", 0)
    for more in (["--model", "resnet", "--fold", 0], ["--from", "package"]):
        result = annotate(photo, *more)
        assert result.exit_code == 0 and "each photo is taken as one face" in result.output, result.output
        found = dlib_xml.read(Path("annotated/points.xml"), 68)
        assert found.faces[BOX].to_numpy().tolist() == [[0, 0, width, height]]
        result = annotate(photo, "--box", "9,9,30,30", *more)
        assert result.exit_code == 1 and "leave out --box" in result.output


def test_annotate_image_without_face_is_named_and_skipped(inside, monkeypatch):
    first, second = [f"photos/{image}" for image in dict.fromkeys(boxed_faces().faces.image)][:2]
    answers = iter([np.array([[9.0, 9, 30, 30]]), np.empty((0, 4)), np.empty((0, 4))])
    monkeypatch.setattr("pipeline.inference.boxes.load_detector", lambda: lambda photo: next(answers))
    result = annotate(first, second, "--model", "resnet")
    assert result.exit_code == 0, result.output
    assert f"{second}: no face found" in result.output
    assert dlib_xml.read(Path("annotated/points.xml"), 68).faces.image.tolist() == [Path(first).name]
    result = annotate(first, "--model", "resnet")
    assert result.exit_code == 1 and "no face found in any photo" in result.output


def test_annotate_model_of_other_crops_or_points_is_refused(inside):
    photo = f"photos/{boxed_faces().faces.image[0]}"
    editor = YAML()
    for section, key, value, message in (("crop", "size", 64, "other crops: of 32 pixels"),
                                         ("data", "skeleton", "kaggle15", "trained on 68 points")):
        values = editor.load(ROOT / "presets" / "sample.yaml")
        values["crop"]["size"] = 32
        values[section][key] = value
        editor.dump(values, Path("other.yaml"))
        result = annotate(photo, "--box", "9,9,30,30", "--model", "unet", "--fold", 3, "--params", "other.yaml")
        assert result.exit_code == 1 and message in result.output, result.output


def test_choose_members_ensemble_of_other_models_is_refused(tmp_path):
    (tmp_path / "ensemble").mkdir()
    (tmp_path / "ensemble" / "weights.json").write_text(json.dumps(WEIGHTS))
    with pytest.raises(UserError, match="blends resnet, unet, but the params train unet"):
        choose_members(Paths(root=tmp_path), ["unet"], [0])


def test_name_images_in_several_folders_is_relative_to_deepest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root, names = name_images([Path("x/a.jpg"), Path("../b.jpg"), tmp_path / "x" / "y" / "a.jpg"])
    assert root == tmp_path.parent
    assert list(names.values()) == [f"{tmp_path.name}/x/a.jpg", "b.jpg", f"{tmp_path.name}/x/y/a.jpg"]
    assert name_images([Path("x/a.jpg")])[1] == {Path("x/a.jpg"): "a.jpg"}


def test_annotate_picture_over_image_is_refused(inside):
    photo = Path("photos", boxed_faces().faces.image[0])
    before = photo.read_bytes()
    result = annotate(photo, "--box", "9,9,30,30", "--model", "resnet", "--out", photo.parent)
    assert result.exit_code == 1 and "would overwrite a photo" in result.output
    assert photo.read_bytes() == before


def test_annotate_folder_and_video_writes_a_picture_of_each(inside):
    photo = Path("photos", boxed_faces().faces.image[0])
    Path("mine/sub").mkdir(parents=True)
    shutil.copy(photo, "mine/sub/one.png")
    Path("mine/notes.txt").write_text("no photo")
    image = cv2.imread(str(photo))
    writer = cv2.VideoWriter("clip.avi", cv2.VideoWriter_fourcc(*"MJPG"), 10, image.shape[1::-1])
    for _ in range(5):
        writer.write(image)
    writer.release()
    names = ["mine/sub/one.png", *(f"annotated/frames/clip.avi/{number:06d}.png" for number in (0, 2))]
    Path("boxes.csv").write_text("image,left,top,width,height\n" + "".join(f"{name},9,9,30,30\n" for name in names))
    result = annotate("mine", "clip.avi", "--every", 2, "--frames", 2, "--boxes", "boxes.csv", "--model", "resnet")
    assert result.exit_code == 0, result.output
    assert "annotated: 3 faces in 3 photos, " in result.output and "points.json" in result.output
    assert csv_points.parse(Path("annotated/points.csv"))[0].faces.image.tolist() == names
    assert all((Path("annotated") / name).is_file() for name in names)
