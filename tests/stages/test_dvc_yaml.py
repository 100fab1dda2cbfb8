"""dvc.yaml says the truth: it parses, its keys are in the params, its files are there, its imports are declared."""

import ast
import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
PIPELINE = YAML(typ="safe", pure=True).load(ROOT / "dvc.yaml")
PARAMS = YAML(typ="safe", pure=True).load(ROOT / "params.yaml")
STAGES = PIPELINE["stages"]


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
        "sample", "crop", "split", "train", "predict", "align", "train-aligned", "predict-aligned", "ensemble",
        "submit", "score", "report"]


@pytest.mark.parametrize("name", STAGES)
def test_each_params_key_exists(name):
    keys = [key.replace("${item.model}", "resnet") for key in STAGES[name]["params"]]
    assert keys
    for key in keys:
        lookup(key)


@pytest.mark.parametrize("name", STAGES)
def test_the_run_cache_sees_each_size(name):
    """DVC's run cache takes two runs for one that differ only in a `size` or `nfiles` within a section."""
    keys = [key.replace("${item.model}", "resnet") for key in STAGES[name]["params"]]
    inner = {f"{key}.{below}" for key in keys for below in nested(lookup(key))}
    assert {key for key in inner if key.split(".")[-1] in ("size", "nfiles")} <= set(keys)


def test_each_reference_is_a_params_key():
    found = set(re.findall(r"\$\{([^}]+)\}", (ROOT / "dvc.yaml").read_text()))
    assert len(found) >= 6
    for key in found:
        if not key.startswith("item."):
            lookup(key)


@pytest.mark.parametrize("name", STAGES)
def test_each_command_and_code_dependency_is_there(name):
    module = re.match(r"python -m stages\.(\w+)", STAGES[name]["cmd"])[1]
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


# Plumbing that cannot change a result without failing.
PLUMBING = {"pipeline/params.py", "pipeline/common/errors.py", "pipeline/common/files.py", "pipeline/models/checkpoint.py",
            "pipeline/data/crops.py", "pipeline/inference/predictions.py", "pipeline/training/train.py", "pipeline/evaluation/submission.py",
            "pipeline/data/annotations/__init__.py"}


@pytest.mark.parametrize("name", STAGES)
def test_code_that_a_stage_runs_is_among_its_dependencies(name):
    """All that the stage's file imports, directly or in steps, but for plumbing; a folder covers what is in it."""
    code = [dep for dep in STAGES[name]["deps"] if dep.startswith(("stages/", "pipeline/"))]
    covered = {str(path.relative_to(ROOT)) for dep in code for path in [ROOT / dep, *(ROOT / dep).rglob("*.py")]}
    open_, seen = [next(dep for dep in code if dep.startswith("stages/"))], set()
    while open_:
        path = open_.pop()
        if path not in seen and path not in PLUMBING:
            seen.add(path)
            open_.extend(imports(ROOT / path))
    assert seen <= covered, sorted(seen - covered)
