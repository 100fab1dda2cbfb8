"""Fixtures: finished runs of networks that are not trained."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML

from pipeline.data.align import save_reference
from pipeline.inference.shape import ShapeCorrection
from pipeline.models import build_model
from pipeline.models.checkpoint import save_model
from pipeline.params import load_params

ROOT = Path(__file__).parents[2]
WEIGHTS = {"blend": "weights", "test": {"resnet": 0.25, "unet": 0.75}}


@pytest.fixture(scope="session")
def trained(competition, tmp_path_factory):
    """A folder with the tiny competition and networks of random weights in every place of the ensemble."""
    folder = tmp_path_factory.mktemp("trained")
    values = YAML(typ="safe", pure=True).load(ROOT / "presets" / "sample.yaml")
    values["crop"]["size"], values["split"]["folds"] = 32, [0, 3]
    values["train"].update(models=["resnet", "unet"], device="cpu", precision="float32")
    for model in values["models"].values():
        model["network"].update(backbone="resnet10t", width=0.25)
    YAML().dump(values, folder / "params.yaml")
    params = load_params(folder / "params.yaml")
    for number, name in enumerate(params.train.models):
        model = params.models[name]
        description = {"network": model.network.model_dump(), "codec": model.codec.model_dump(),
                       "num_points": 68, "channels": 1, "size": 32}
        for fold in params.split.folds:
            torch.manual_seed(10 * number + fold)
            save_model(folder / "runs" / name / f"fold{fold}", build_model(**description)[0], description)
    (folder / "ensemble").mkdir()
    (folder / "ensemble" / "weights.json").write_text(json.dumps(WEIGHTS))
    shutil.copytree(competition, folder / "photos")
    return folder


@pytest.fixture(scope="session")
def finished(trained, tmp_path_factory):
    """The run, with a cascade whose locator is no member, a shape correction and paths of pretrained weights."""
    folder, rng = tmp_path_factory.mktemp("finished") / "run", np.random.default_rng(0)
    shutil.copytree(trained, folder)
    shutil.copytree(folder / "runs" / "resnet", folder / "runs" / "locator")
    values = YAML(typ="safe", pure=True).load(folder / "params.yaml")
    values["models"]["locator"], values["train"]["models"] = values["models"]["resnet"], ["locator", "resnet"]
    values["align"] = {"locator": ["locator"], "models": ["unet"], "size": 32, "margin": 1.3, "padding": 1.25}
    YAML().dump(values, folder / "params.yaml")
    (folder / "data" / "aligned").mkdir(parents=True)
    save_reference(folder / "data" / "aligned", rng.normal(size=(68, 2)))
    weights = {"blend": "weights", "ridge": 1.0, "test": {"resnet": 0.1, "unet": 0.9}}
    (folder / "ensemble" / "weights.json").write_text(json.dumps(weights))
    correction = ShapeCorrection(weights=rng.normal(0, 1e-3, (136, 136)), offset=rng.normal(0, 0.1, 136))
    correction.save(folder / "ensemble" / "shape.npz")
    for path in (folder / "runs").rglob("model.json"):
        described = json.loads(path.read_text())
        described["network"]["pretrained"] = "/secret/weights.safetensors"
        path.write_text(json.dumps(described))
    return folder
