"""dvc.yaml: keys of params, code dependencies and what an edit makes stale."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.common.errors import UserError
from pipeline.params import load_params

ROOT = Path(__file__).parents[2]
PIPELINE = YAML(typ="safe", pure=True).load(ROOT / "dvc.yaml")
PARAMS = YAML(typ="safe", pure=True).load(ROOT / "params.yaml")
STAGES = PIPELINE["stages"]
MODULE = re.compile(r"python -m stages\.(\w+)")


def lookup(key: str):
    value = PARAMS
    for part in key.split("."):
        value = value[part]
    return value


def nested(value: object) -> list[str]:
    """The dotted keys within a params section."""
    if not isinstance(value, dict):
        return []
    return [key for name, part in value.items() for key in (name, *(f"{name}.{below}" for below in nested(part)))]


def test_the_stages_of_the_design():
    assert list(STAGES) == [
        "check", "sample", "crop", "split", "train", "predict", "align", "train-aligned", "predict-aligned", "ensemble",
        "submit", "score", "report"]


@pytest.mark.parametrize("name", [name for name in STAGES if "params.yaml" not in STAGES[name]["deps"]])
def test_each_params_key_exists(name):
    keys = [key.replace("${item.model}", "resnet") for key in STAGES[name]["params"]]
    assert keys
    for key in keys:
        lookup(key)


@pytest.mark.parametrize("name", STAGES)
def test_the_run_cache_sees_each_size(name):
    """DVC's run cache takes two runs for one that differ only in a `size` or `nfiles` within a section."""
    keys = [key.replace("${item.model}", "resnet") for key in STAGES[name].get("params", [])]
    inner = {f"{key}.{below}" for key in keys for below in nested(lookup(key))}
    assert {key for key in inner if key.split(".")[-1] in ("size", "nfiles")} <= set(keys)


def test_each_reference_is_a_params_key():
    found = set(re.findall(r"\$\{([^}]+)\}", (ROOT / "dvc.yaml").read_text()))
    assert len(found) >= 6
    for key in found:
        if not key.startswith(("item.", "crops")):
            lookup(key)


TEMPLATED = sorted({key for key in re.findall(r"\$\{([^}]+)\}", (ROOT / "dvc.yaml").read_text())
                    if not key.startswith("item.") and key != "crops"})
HOSTILE = ["x; touch pwned #", "$(touch pwned)", "`touch pwned`", "x\ntouch pwned", "../x.csv", "/x.csv", "-x.csv"]
NO_FOLDER = ["ssh://host/x", "https://host/x", "x\ntouch pwned"]  # data.root may be any local one: it is only read


def spoil(params: dict, key: str, value: object) -> dict:
    section, _, name = key.partition(".")
    value = [value] if isinstance(params[section][name], list) else value
    return params | {section: params[section] | {name: value}}


@pytest.mark.parametrize("key", TEMPLATED)
def test_each_templated_key_is_checked_before_dvc_uses_it(key, tmp_path):
    assert len(TEMPLATED) == 9
    for hostile in NO_FOLDER if key == "data.root" else HOSTILE:
        YAML().dump(spoil(PARAMS, key, hostile), tmp_path / "params.yaml")
        with pytest.raises(UserError, match=re.escape(f"params.yaml: {key}")):
            load_params(tmp_path / "params.yaml")


def test_commands_have_no_params_but_names_and_numbers_of_models_and_folds():
    found = {key for stage in STAGES.values() for key in re.findall(r"\$\{([^}]+)\}", stage["cmd"])}
    assert found == {"item.model", "item.fold"}


def test_each_stage_comes_after_the_check():
    after = {"data/checked.txt"}
    waiting = [stage for stage in STAGES.values() if "data/checked.txt" not in stage["outs"]]
    while ready := [stage for stage in waiting if any(dep.startswith(tuple(after)) for dep in stage["deps"])]:
        after |= {out for stage in ready for out in stage["outs"]} | {"${crops}"}
        waiting = [stage for stage in waiting if stage not in ready]
    assert not waiting


@pytest.mark.slow
def test_repro_of_hostile_params_runs_nothing_of_theirs(tmp_path, monkeypatch):
    """DVC itself: the check fails before a shell sees the name of a model."""
    for name in ("pipeline", "stages"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    hostile = spoil(spoil(PARAMS, "train.models", "x; touch pwned #"), "sample.sets", "sample; touch pwned #")
    YAML().dump(hostile, Path("params.yaml"))
    for command in (["init", "--no-scm", "-q"], ["repro"]):
        ended = subprocess.run([sys.executable, "-m", "dvc", *command], capture_output=True, text=True)
    shown = ended.stdout + ended.stderr
    assert ended.returncode and "train.models.0 is 'x; touch pwned #'" in shown and "sample.sets.0" in shown
    assert not Path("pwned").exists()


@pytest.mark.parametrize("name", STAGES)
def test_each_command_and_code_dependency_is_there(name):
    module = MODULE.match(STAGES[name]["cmd"])[1]
    code = [dep for dep in STAGES[name]["deps"] if dep.startswith(("stages/", "pipeline/"))]
    assert f"stages/{module}.py" in code
    assert all((ROOT / dep).exists() for dep in code)


def imports(path: Path) -> set[str]:
    """The project's modules that a file imports, as paths."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "pipeline":
            for name in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names)):
                for candidate in (f"{name.replace('.', '/')}.py", f"{name.replace('.', '/')}/__init__.py"):
                    if (ROOT / candidate).is_file() and candidate != "pipeline/__init__.py":
                        found.add(candidate)
    return found


# What only passes values on or fails: errors, atomic writes, paths, parameter types.
PLUMBING = ("pipeline/params.py", "pipeline/common/")
# Files of a package that a stage names as a whole but does not import: an edit reruns it without need.
UNUSED = {
    "sample": ("pipeline/data/annotations/",),
    "predict": ("pipeline/models/losses.py",),
    "predict-aligned": ("pipeline/models/losses.py",),
    "report": ("pipeline/models/losses.py", "pipeline/training/cuda_graph.py", "pipeline/training/engine.py",
               "pipeline/training/train.py"),
}
SKELETON = "pipeline/keypoints/skeleton.py"  # reaches the stages by way of the params


def code_of(name: str) -> set[str]:
    """The Python files that a stage depends on."""
    code = [ROOT / dep for dep in STAGES[name]["deps"] if dep.startswith(("stages/", "pipeline/"))]
    files = [path for dep in code for path in ([dep] if dep.is_file() else dep.rglob("*.py"))]
    return {path.relative_to(ROOT).as_posix() for path in files}


def imported_by(name: str) -> set[str]:
    """The Python files that a stage imports, directly or not, but for plumbing and empty `__init__.py`."""
    waiting, seen = ["stages/{}.py".format(MODULE.match(STAGES[name]["cmd"])[1])], set()
    while waiting:
        path = waiting.pop()
        if path not in seen and not path.startswith(PLUMBING):
            seen.add(path)
            waiting.extend(imports(ROOT / path))
    skeleton = {SKELETON} if {"data", "data.skeleton"} & set(STAGES[name].get("params", [])) else set()
    return skeleton | {path for path in seen if not path.endswith("__init__.py") or imports(ROOT / path)}


@pytest.mark.parametrize("name", STAGES)
def test_dependencies_of_a_stage_are_the_files_that_it_imports(name):
    imported, declared = imported_by(name), code_of(name)
    assert imported <= declared, sorted(imported - declared)
    more = {path for path in declared - imported if path.endswith(".py") and not path.endswith("__init__.py")}
    assert all(path.startswith(UNUSED.get(name, ())) for path in more), sorted(more)


@pytest.fixture(scope="module")
def up_to_date(tmp_path_factory: pytest.TempPathFactory):
    """A copy of the project with small stand-ins for all outputs, which DVC holds to be up to date."""
    from dvc.repo import Repo

    folder = tmp_path_factory.mktemp("project")
    for name in ("pipeline", "stages"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    params = PARAMS | {"align": PARAMS["align"] | {"locator": ["resnet"], "models": ["unet"]}}
    params["train"] = PARAMS["train"] | {"models": ["resnet"]}
    params["split"] = PARAMS["split"] | {"folds": [1, 2]}
    YAML().dump(params, folder / "params.yaml")
    shutil.copy(ROOT / "dvc.yaml", folder)
    shutil.copy(ROOT / ".dvcignore", folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        with Repo.init(no_scm=True) as repo:
            for stage in repo.index.stages:
                for out in stage.outs:
                    path = Path(out.fs_path)
                    is_file = bool(path.suffix) or path.name in ("index.html",)
                    (path.parent if is_file else path).mkdir(parents=True, exist_ok=True)
                    (path if is_file else path / "stand-in").write_text(str(out))
        for part in ("data/crops/train", "data/aligned/train"):
            (folder / part).mkdir(parents=True, exist_ok=True)
            (folder / part / "stand-in").write_text(part)
        with Repo() as repo:
            repo.commit(force=True)
            assert not repo.status()
        yield folder


@pytest.mark.slow
def test_an_edit_makes_exactly_the_stages_stale_that_use_the_file(up_to_date: Path, monkeypatch: pytest.MonkeyPatch):
    """For every Python file of the library; a stage behind a stale one is not counted, its own files are the same."""
    from dvc.repo import Repo

    monkeypatch.chdir(up_to_date)
    files = sorted(path.relative_to(up_to_date).as_posix() for path in (up_to_date / "pipeline").rglob("*.py"))
    assert len(files) > 60
    for file in files:
        before = Path(file).read_text()
        Path(file).write_text(before + "# edited\n")
        with Repo() as repo:
            stale = {name.removeprefix("dvc.yaml:").partition("@")[0] for name in repo.status()}
        Path(file).write_text(before)
        expected = {name for name in STAGES if file in code_of(name)}
        assert stale == expected, file
