"""ONNX files: the same points as torch, in what they say of themselves, by the documented program, in low precision."""

import json
import re
import shutil
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.common.errors import UserError
from pipeline.data.align import align_affine
from pipeline.data.annotations import BOX, dlib_xml
from pipeline.data.crops import CropGeometry, store_size
from pipeline.inference import export
from pipeline.inference.ensemble import Blend, blend_members
from pipeline.inference.export import KEY, ask, build_graphs, choose_faces, write_export
from pipeline.inference.graph import Ensemble, Locator
from pipeline.inference.intervals import Intervals
from pipeline.inference.predictions import Predictions
from pipeline.params import load_params
from stages.cli import trained_annotator
from tests.conftest import succeed

onnxruntime = pytest.importorskip("onnxruntime")
ROOT = Path(__file__).parents[2]
RADII = Intervals(base=np.linspace(0.01, 0.02, 68), slope=np.linspace(0.5, 1.5, 68), quantile=np.linspace(1, 2, 68),
                  factor={}, coverage=0.9)
EXPORTED = {"precision": "float32", "about": "not for trade"}


@pytest.fixture(scope="session")
def annotator(finished):
    """The finished run, of both kinds of crops and of both networks, asked with all views."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(finished)
        found = trained_annotator(load_params(Path("params.yaml")))
    absolute = {model: [finished / run for run in runs] for model, runs in found.members.items()}
    cascade = replace(found.cascade, runs=[finished / run for run in found.cascade.runs])
    return replace(found, members=absolute, cascade=cascade, intervals=RADII,
                   tta=replace(found.tta, shift_tta=True))


@pytest.fixture(scope="session")
def faces(finished):
    return dlib_xml.read(finished / "photos" / "test.xml")


@pytest.fixture(scope="session")
def exported(finished, annotator, faces, tmp_path_factory):
    """The folder that `write_export` wrote, and what it said."""
    folder = tmp_path_factory.mktemp("exported") / "export"
    lines = write_export(folder, annotator, root=finished / "photos", faces=faces, **EXPORTED)
    return folder, lines


def test_exported_ensemble_of_a_cascade_gives_the_points_of_torch(finished, annotator, faces, exported):
    folder, lines = exported
    wanted = annotator.predict(finished / "photos", faces)
    found, milliseconds = ask(folder, ["locator", "ensemble"], finished / "photos", faces)
    np.testing.assert_allclose(found["points"], wanted.points, atol=export.PARITY)
    np.testing.assert_allclose(found["spread"], wanted.spread, rtol=1e-3, atol=export.PARITY)
    seen = replace(wanted, spread=found["spread"])
    np.testing.assert_allclose(found["radius"], RADII.radii(seen, faces.faces), rtol=1e-4)
    assert [Path(line.split(":")[0]).name for line in lines[:2]] == ["locator.onnx", "ensemble.onnx"]
    assert lines[2].startswith(f"from the image on, {len(faces)} faces: 0.0") and min(milliseconds.values()) > 0


def test_exported_metadata_says_what_its_use_takes(annotator, exported):
    folder, _ = exported
    session = onnxruntime.InferenceSession(folder / "ensemble.onnx")
    found = json.loads(session.get_modelmeta().custom_metadata_map[KEY])
    assert found["skeleton"]["flip"] == annotator.skeleton.flip.tolist() and len(found["skeleton"]["names"]) == 68
    assert found["models"] == {name: ["fold0", "fold3"] for name in annotator.members}
    assert found["about"] == "not for trade" and "(0, 0)" in found["pixels"] and "uint8" in found["preprocessing"]
    assert set(found["crops"]) == {"box", "upright"}
    assert [each.name for each in session.get_inputs()] == [
        "box_crops", "upright_crops", "box_affines", "upright_affines", "boxes"]
    assert session.get_inputs()[0].shape[1:] == [found["crops"]["box"]["size"]] * 2


def test_documented_program_without_torch_gives_the_exported_points(finished, faces, exported, tmp_path):
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "export.md").read_text(), re.S)
    assert len(program.splitlines()) <= 35
    (tmp_path / "points.py").write_text(f"import sys\nsys.modules.update(torch=None, pipeline=None)\n{program}")
    face, found = faces.faces.iloc[0], ask(exported[0], ["locator", "ensemble"], finished / "photos", faces)[0]
    call = ["points.py", exported[0], finished / "photos" / face.image, *map(str, face[BOX])]
    ended = subprocess.run([sys.executable, *call], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    np.testing.assert_allclose(np.loadtxt(ended.stdout.splitlines()), found["points"][0], atol=export.PARITY)


def test_float16_is_smaller_and_moves_points_little(annotator, exported, finished, faces, tmp_path):
    root, before = finished / "photos", ask(exported[0], ["locator"], finished / "photos", faces)[0]
    graphs, geometry = build_graphs(annotator, "ensemble")
    export.to_float16(graphs["locator"].module)
    export.write_onnx(tmp_path / "locator.onnx", graphs["locator"], geometry, {})
    after, _ = ask(tmp_path, ["locator"], root, faces)
    assert (tmp_path / "locator.onnx").stat().st_size < 0.8 * (exported[0] / "locator.onnx").stat().st_size
    moved = np.linalg.norm(after["points"] - before["points"], axis=-1)
    assert moved.max() > 0 and np.median(moved) < np.ptp(before["points"], axis=1).mean() / 20
    places = np.einsum("nij,nkj->nki", after["upright_affines"][:, :, :2], after["points"])
    centre = (places + after["upright_affines"][:, None, :, 2]).mean(1)
    # geometry that was rounded to float16 would differ by more
    np.testing.assert_allclose(centre, centre[:1].repeat(len(faces), 0), atol=1e-2)


def test_locator_places_upright_crops_as_align_does(annotator):
    geometry, rng = CropGeometry(size=40, margin=1.2, padding=1.0, color="grey"), np.random.default_rng(1)
    points = 500 + 80 * rng.normal(size=(4, 68, 2))
    points[3] = points[3, :1]  # all in one place

    class Known(torch.nn.Module):
        def forward(self, crops, affines):
            return torch.tensor(points, dtype=torch.float32), crops

    reference = annotator.cascade.reference
    found = Locator(Known(), reference, geometry)(torch.zeros(1), torch.zeros(1))[2].numpy()
    wanted = align_affine(points, reference, geometry)
    np.testing.assert_allclose(found[:3], wanted[:3], rtol=1e-4, atol=1e-3)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("weights", [None, [0.2, 0.5, 0.3], [0.2, 0.5, 0.1, 0.2]])
def test_ensemble_module_blends_as_the_pipeline(weights):
    count, rng = len(weights or range(4)), np.random.default_rng(0)
    members = [Predictions(face=np.arange(3), points=rng.normal(size=(3, 5, 2)), spread=rng.uniform(size=(3, 5)))
               for _ in range(count)]
    blend = Blend(weights=None if weights is None else np.array(weights), shape=None)

    class Known(torch.nn.Module):
        kind = "box"

        def __init__(self, own):
            super().__init__()
            self.own = own

        def forward(self, crops, affines):
            return torch.from_numpy(self.own.points), torch.from_numpy(self.own.spread)

    points, spread = Ensemble([Known(own) for own in members], blend, None)([None], [None])
    wanted = blend_members(members, blend.weights)
    np.testing.assert_allclose(points, wanted.points, atol=1e-6)
    np.testing.assert_allclose(spread, wanted.spread, atol=1e-6)


def test_write_export_points_that_differ_are_refused_and_nothing_is_written(
        finished, annotator, faces, exported, tmp_path, monkeypatch):
    def copy(path, *_):
        shutil.copy(exported[0] / path.name, path)

    monkeypatch.setattr(export, "write_onnx", copy)
    monkeypatch.setattr(type(annotator), "predict", lambda self, root, faces: Predictions(
        face=np.arange(len(faces)), points=np.zeros((len(faces), 68, 2)), spread=np.zeros((len(faces), 68))))
    with pytest.raises(UserError, match=r"export: not written, the points should lie within 0.05 px"):
        write_export(tmp_path / "export", annotator, root=finished / "photos", faces=faces, **EXPORTED)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("moved", [np.s_[0, 0], np.s_[:, 0]])
def test_write_export_lets_single_points_differ_where_rounding_decides(
        finished, annotator, faces, exported, tmp_path, monkeypatch, moved):
    def asked(*arguments):
        points, milliseconds = asks(*arguments)
        points[moved] += 1
        return points, milliseconds

    asks = export._ask_torch
    monkeypatch.setattr(export, "write_onnx", lambda path, *_: shutil.copy(exported[0] / path.name, path))
    monkeypatch.setattr(export, "_ask_torch", asked)
    monkeypatch.setattr(export, "SAME", 0.99)  # the share of the points of so few faces
    with nullcontext() if moved == (0, 0) else pytest.raises(UserError, match=r"the farthest 1\.41"):
        write_export(tmp_path / "export", annotator, root=finished / "photos", faces=faces, **EXPORTED)
    assert bool(list(tmp_path.iterdir())) == (moved == (0, 0))


def test_write_export_over_something_else_or_without_onnx_is_refused(annotator, faces, tmp_path, monkeypatch):
    def refused(folder):
        with pytest.raises(UserError) as caught:
            write_export(folder, annotator, root=tmp_path, faces=faces)
        return str(caught.value)

    (tmp_path / "mine").write_text("x")
    assert refused(tmp_path) == f"{tmp_path}: is there and is no export; choose another --out"
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert refused(tmp_path / "export") == "onnxscript is not installed: pip install -e '.[export]'"
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_choose_faces_are_spread_and_without_points(faces):
    found = choose_faces(faces, 3)
    assert found.keypoints is None and found.faces.image.tolist() == faces.faces.image.iloc[[0, 2, 5]].tolist()
    assert len(choose_faces(faces, 100)) == len(faces)


@pytest.mark.slow
def test_export_of_a_run_writes_ensemble_with_intervals(inside):
    said = succeed("export")
    assert "ensemble.onnx: " in said and "px from torch in the mean" in said
    session = onnxruntime.InferenceSession("export/ensemble.onnx")
    assert [each.name for each in session.get_outputs()] == ["points", "spread", "radius"]


def test_crops_are_the_stored_ones_in_scale_and_size(annotator):
    _, geometry = build_graphs(annotator, "ensemble")
    for own, known in ((geometry["box"], annotator.geometry), (geometry["upright"], annotator.cascade.geometry)):
        assert own["size"] == store_size(known.size, known.padding) > known.size
        assert own["size"] / own["margin"] == pytest.approx(known.size / known.margin)
