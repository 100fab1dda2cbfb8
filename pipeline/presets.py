"""Presets: what differs from the default parameters, composed into a whole params.yaml."""

import io
import operator
from copy import deepcopy
from itertools import dropwhile, takewhile
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from pipeline.common.errors import UserError

DEFAULT = "sample"  # the preset that has every parameter
NULL = "tag:yaml.org,2002:null"
IS_COMMENT = operator.methodcaller("startswith", "#")


def load_default(folder: Path) -> dict:
    """Load the default's parameters."""
    return YAML(typ="safe", pure=True).load(folder / f"{DEFAULT}.yaml")


def compose_preset(folder: Path, name: str) -> str:
    """Compose the text of a params.yaml, in the default's order and with its comments.

    A preset that has `models` keeps only these. Each starts from the default's of the same name, else from the first
    one with the same network, else from `resnet`.

    Raises:
        UserError: there is no such preset; the message lists them.
    """
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in known:
        raise UserError(f"preset {name!r} is unknown: choose one of {', '.join(known)}")
    heading = "".join(takewhile(IS_COMMENT, (folder / f"{name}.yaml").read_text(encoding="utf-8").splitlines(True)))
    changes = {} if name == DEFAULT else YAML(typ="safe", pure=True).load(folder / f"{name}.yaml")
    return compose(folder, changes, heading)


def compose(folder: Path, changes: dict, heading: str) -> str:
    """Compose the text of a params.yaml from what it has otherwise than the default, below `heading`, comment lines."""
    yaml = YAML()
    yaml.width = 10_000  # a line a key, whatever its comment
    yaml.representer.add_representer(type(None), lambda dumper, _: dumper.represent_scalar(NULL, "null"))
    params = yaml.load(folder / f"{DEFAULT}.yaml")
    models, bases = changes.get("models", {}), params["models"]
    _merge(params, {key: value for key, value in changes.items() if key != "models"})
    if models:
        params["models"] = {key: deepcopy(_base(key, model, bases)) for key, model in models.items()}
        _merge(params["models"], models)
    text = io.StringIO()
    yaml.dump(params, text)
    return "".join([heading, *dropwhile(IS_COMMENT, text.getvalue().splitlines(True))])


def closest_preset(folder: Path, params: dict) -> tuple[str, dict]:
    """Find the preset that differs from params in the fewest values, and its own."""
    yaml = YAML(typ="safe", pure=True)
    values = {path.stem: yaml.load(compose_preset(folder, path.stem)) for path in sorted(folder.glob("*.yaml"))}
    return min(values.items(), key=lambda item: _distance(item[1], params))


def _distance(first: object, second: object) -> int:
    """Count the values that differ; a key that one of them lacks counts as all that is below it."""
    if not isinstance(first, dict) or not isinstance(second, dict):
        return 0 if first == second else max(_size(first), _size(second))
    return sum(_distance(first.get(key), second.get(key)) for key in {*first, *second})


def _size(value: object) -> int:
    return sum(map(_size, value.values())) if isinstance(value, dict) else 1


def _base(name: str, model: dict, bases: dict) -> dict:
    network = model.get("network", {}).get("name")
    same = [base for base in bases.values() if base["network"]["name"] == network]
    return bases.get(name) or (same or [bases["resnet"]])[0]


def _merge(base: dict, changes: dict) -> None:
    """Merge key by key; a mapping whose `name` differs, as another network's does, replaces the base's."""
    for key, value in changes.items():
        old = base.get(key)
        both = isinstance(value, dict) and isinstance(old, dict)
        if both and old and value.get("name", old.get("name")) == old.get("name"):
            _merge(old, value)
        else:
            base[key] = _on_one_line(value)


def _on_one_line(value: object) -> object:
    """Lists and mappings as they are written in one line."""
    if not isinstance(value, list | dict):
        return value
    found = CommentedSeq(value) if isinstance(value, list) else CommentedMap(value)
    found.fa.set_flow_style()
    return found
