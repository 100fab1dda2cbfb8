import json
import os
import shutil

import pytest
import torch

from pipeline.common.errors import UserError
from pipeline.models import build_model
from pipeline.models.checkpoint import ResumeState, fingerprint, load_model, save_model

NETWORK = {"name": "resnet", "backbone": "resnet10t",
           "pretrained": False, "width": 0.25, "stem": "sum", "head": "average", "dropout": 0.0}
DESCRIPTION = {"network": NETWORK, "codec": {"name": "regression"}, "num_points": 2, "channels": 1, "size": 32}


def test_resume_state_saved_is_loaded_and_removed(tmp_path):
    state = {"weights": {"a": torch.arange(3)}, "history": [{"epoch": 1, "loss": 0.5, "nothing": None}]}
    resume = ResumeState(tmp_path, "key")
    assert resume.load() is None
    resume.save(state)
    loaded = resume.load()
    assert loaded["history"] == state["history"]
    assert torch.equal(loaded["weights"]["a"], state["weights"]["a"])
    assert ResumeState(tmp_path, "other").load() is None
    for _ in range(2):  # a short training may have saved none
        resume.remove()
    assert resume.load() is None and not list(tmp_path.iterdir())


def test_resume_state_crash_while_saving_keeps_the_one_before(tmp_path, monkeypatch):
    resume = ResumeState(tmp_path, "key")
    resume.save({"epoch": 1})

    def crash(path, data):
        path.open("wb").write(data[: len(data) // 2])
        raise KeyboardInterrupt

    monkeypatch.setattr(type(resume.path), "write_bytes", crash)
    with pytest.raises(KeyboardInterrupt):
        resume.save({"epoch": 2})
    assert resume.load() == {"epoch": 1}


def test_resume_state_with_code_is_not_unpickled(tmp_path, capsys):
    resume = ResumeState(tmp_path, "key")
    resume.save({"code": DangerousOnLoad()})
    assert resume.load() is None
    printed = "".join(capsys.readouterr())
    assert "Weights only" in printed and "code ran" not in printed


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK" * 50, b"\x80\x04N."])
def test_resume_state_broken_is_set_aside_in_one_line(tmp_path, capsys, content):
    resume = ResumeState(tmp_path, "key")
    resume.save({"epoch": 1})
    resume.path.write_bytes(content)
    assert resume.load() is None
    assert [path.name for path in resume.folder.iterdir()] == ["state.broken"]
    printed = "".join(capsys.readouterr())
    assert printed.count("\n") == 1 and f"{resume.path}: not a state of this training" in printed
    resume.save({"epoch": 2})
    assert resume.load() == {"epoch": 2}


class DangerousOnLoad:
    def __reduce__(self):
        return (print, ("code ran",))


def test_fingerprint_other_values_or_files_differs(tmp_path):
    path = tmp_path / "folds.csv"
    path.write_text("a")
    first = fingerprint({"lr": 1e-3}, path)
    assert first == fingerprint({"lr": 1e-3}, path)
    assert first != fingerprint({"lr": 2e-3}, path)
    path.write_text("b")
    assert first != fingerprint({"lr": 1e-3}, path)


def test_save_model_and_state_replace_their_files_and_write_none_in_place(tmp_path):
    """A hard link keeps what a file held before."""
    resume = ResumeState(tmp_path, "key")
    for seed in (0, 1):
        torch.manual_seed(seed)
        model, _ = build_model(**DESCRIPTION)
        save_model(tmp_path, model, DESCRIPTION | {"size": 32 + seed})
        resume.save({"epoch": seed})
        for path in (tmp_path / "model.safetensors", tmp_path / "model.json", resume.path):
            link, copy = (path.with_name(f"{path.name}.{name}") for name in ("link", "copy"))
            if seed == 0:
                os.link(path, link)
                shutil.copy(path, copy)
            assert link.read_bytes() == copy.read_bytes() and (link.read_bytes() == path.read_bytes()) == (seed == 0)


def test_load_model_pretrained_needs_no_weights_file(tmp_path):
    model, _ = build_model(**DESCRIPTION)
    save_model(tmp_path, model, DESCRIPTION | {"network": NETWORK | {"pretrained": "gone.safetensors"}})
    loaded, _, _ = load_model(tmp_path)
    assert torch.equal(loaded.head[2].weight, model.head[2].weight)


@pytest.mark.parametrize(("name", "message"), [("model.json", "not readable"), ("model.safetensors", "not readable")])
def test_load_model_missing_or_broken_file_is_an_error(tmp_path, name, message):
    with pytest.raises(UserError, match="no trained model"):
        load_model(tmp_path)
    model, _ = build_model(**DESCRIPTION)
    save_model(tmp_path, model, DESCRIPTION)
    assert json.loads((tmp_path / "model.json").read_text()) == DESCRIPTION
    (tmp_path / name).write_bytes(b"{")
    with pytest.raises(UserError, match=message):
        load_model(tmp_path)


@pytest.mark.parametrize("content", [
    "", "[]", "7", "{}", '{"network": 3}', "[" * 50_000, json.dumps(DESCRIPTION | {"size": 10**30}),
    json.dumps(DESCRIPTION | {"num_points": -1}), json.dumps(DESCRIPTION | {"codec": {"name": "other"}}),
    json.dumps(DESCRIPTION | {"size": "32"}), json.dumps(DESCRIPTION | {"more": 1}),
])
def test_load_model_tampered_description_is_an_error(tmp_path, content):
    model, _ = build_model(**DESCRIPTION)
    save_model(tmp_path, model, DESCRIPTION)
    (tmp_path / "model.json").write_text(content)
    with pytest.raises(UserError, match="(not readable|of another version) .*train it again"):
        load_model(tmp_path)


@pytest.mark.parametrize("change", [{"head": None}, {"width": None}, {"width": 0.5}])
def test_load_model_of_another_version_is_an_error(tmp_path, change):
    model, _ = build_model(**DESCRIPTION)
    network = {key: value for key, value in (NETWORK | change).items() if value is not None}
    save_model(tmp_path, model, DESCRIPTION | {"network": network})
    with pytest.raises(UserError, match=r"of another version .*train it again"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    "text", ["[]", "{}", "5", '{"network": 5}', '{"network": {}, "codec": {}}', "\udcff", "[" * 100_000])
def test_load_model_other_json_is_an_error(tmp_path, text):
    save_model(tmp_path, build_model(**DESCRIPTION)[0], DESCRIPTION)
    (tmp_path / "model.json").write_text(text, errors="surrogateescape")
    with pytest.raises(UserError, match="train it again"):
        load_model(tmp_path)


@pytest.mark.parametrize(("key", "value"), [("channels", 4), ("channels", 0), ("num_points", 2001), ("size", 1025)])
def test_load_model_of_an_impossible_size_is_refused(tmp_path, key, value):
    network, _ = build_model(**DESCRIPTION)
    save_model(tmp_path, network, DESCRIPTION)
    (tmp_path / "model.json").write_text(json.dumps(DESCRIPTION | {key: value}))
    with pytest.raises(UserError, match=f"another version \\({key} {value}\\); train it again"):
        load_model(tmp_path)
