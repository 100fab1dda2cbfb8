"""Provenance of a run: params, revision, versions, time of training."""

import json
import platform
import subprocess
from collections.abc import Iterator, Sequence
from datetime import datetime
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
from ruamel.yaml import YAML

from pipeline.common.errors import artefact
from pipeline.common.paths import Paths
from pipeline.data.folds import read_folds
from pipeline.evaluation.results import Results
from pipeline.presets import closest_preset

PACKAGES = ("keypoint-folds", "torch", "timm", "opencv-python-headless", "numpy")
ABSENT = "–"  # the value of a key that is not there


def describe_run(paths: Paths, results: Results) -> dict[str, str]:
    """Tell when and of which revision this is, of how many faces, how the members are blended, and the versions."""
    folds, faces = read_folds(paths.folds, len(results.train)), results.train.faces
    weights = _json(paths.ensemble / "weights.json", "run the ensemble stage again")
    blend = ", ".join(f"{name} {share:.3f}" for name, share in weights.get("test", {}).items())
    ridge = f"; bias correction, ridge {weights['ridge']}" if weights["ridge"] else ""
    versions = [f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in PACKAGES)]
    return {
        "report made": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        "git revision": git_revision(),
        "train faces": f"{len(faces)} in {faces.image.nunique()} images and {folds.group.nunique()} groups; "
                       f"{results.train.truth.shape[1]} points",
        "test faces": str(len(results.test)),
        "ensemble": f"{weights['blend']}{': ' * bool(blend)}{blend}{ridge}",
        "versions": ", ".join(versions),
    }


def git_revision() -> str:
    """Name the commit of the working folder, "+ changes" where files differ from it; "none" outside Git."""
    command = ["git", "describe", "--always", "--abbrev=10", "--exclude=*", "--dirty= + changes"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "none"


def training_times(paths: Paths, models: Sequence[str], folds: Sequence[int]) -> pd.DataFrame:
    """Tabulate what the trainings took: a row a model, with epochs, minutes of all folds, device and train faces."""
    rows = []
    for model, fold in product(models, folds):
        path = paths.run(model, fold) / "metrics.json"
        found = _json(path, what_to_do := "train this fold again")
        with artefact(path, what_to_do):
            rows.append({"model": model, "epochs": int(found["epoch"]), "minutes": found["seconds"] / 60,
                         "train faces": int(found["train_faces"]), "device": f"{found['device']}, {found['dtype']}"})
    grouped = pd.DataFrame(rows).groupby("model", sort=False)
    shown = {name: grouped[name].agg(_range) for name in ("epochs", "train faces", "device")}
    return pd.DataFrame({"folds": grouped.size(), **shown, "minutes, all folds": grouped.minutes.sum().round(1)})


def _json(path: Path, what_to_do: str) -> dict:
    with artefact(path, what_to_do):
        return json.loads(path.read_text(encoding="utf-8"))


def _range(values: pd.Series) -> str:
    """All values if they are few, else the lowest and the highest."""
    unique = sorted(values.unique())
    return ", ".join(map(str, unique)) if len(unique) < 3 else f"{unique[0]}–{unique[-1]}"


def changed_params(presets: Path, path: Path) -> tuple[str, list[tuple[str, str, str]]]:
    """Find the preset that a params file is nearest to, and where they differ: key, value there, value here."""
    params = YAML(typ="safe", pure=True).load(path)
    name, base = closest_preset(presets, params)
    there, here = dict(flatten(base)), dict(flatten(params))
    keys = [key for key in dict.fromkeys([*there, *here]) if there.get(key, ABSENT) != here.get(key, ABSENT)]
    return name, [(key, _show(there.get(key, ABSENT)), _show(here.get(key, ABSENT))) for key in keys]


def _show(value: object) -> str:
    return {None: "null", True: "true", False: "false"}[value] if value in (None, True, False) else str(value)


def flatten(values: dict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted keys and their values."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
