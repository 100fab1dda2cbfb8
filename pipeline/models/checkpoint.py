"""Checkpoints: weights and resume states, written atomically and read without unpickling code."""

import hashlib
import io
import json
import shutil
from contextlib import suppress
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from tqdm import tqdm

from pipeline.common.errors import UserError
from pipeline.common.files import write_bytes, write_text
from pipeline.common.types import MAX_POINTS
from pipeline.models import Codec, build_model
from pipeline.models.backbone import KeypointNetwork


def save_model(folder: Path, network: KeypointNetwork, description: dict) -> None:
    """Write `model.safetensors` and `model.json` (the arguments of `build_model`)."""
    state = {name: tensor.contiguous().cpu() for name, tensor in network.state_dict().items()}
    write_bytes(folder / "model.safetensors", save(state))
    write_text(folder / "model.json", json.dumps(description, indent=2) + "\n")


def load_model(folder: Path) -> tuple[KeypointNetwork, Codec, dict]:
    """Rebuild a network from its folder, in evaluation mode, with its codec and description."""
    try:
        description = json.loads((folder / "model.json").read_text())
        state = load_file(folder / "model.safetensors")
    except FileNotFoundError as error:
        raise UserError(f"{error.filename or folder}: no trained model here; run the train stage first, or "
                        "wait until it ends") from None
    except Exception as error:  # broken files raise whatever their bytes make of them
        raise UserError(f"{folder}: the model is not readable ({error}); train it again") from None
    try:
        for name, largest in {"num_points": MAX_POINTS, "channels": 3, "size": 1024}.items():
            if not 0 < description[name] <= largest:
                raise ValueError(f"{name} {description[name]}")
        offline = {"pretrained": False} if "pretrained" in description["network"] else {}
        network, codec = build_model(**{**description, "network": description["network"] | offline})
        network.load_state_dict(state)
    except Exception as error:  # so do arguments of another version
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{folder}: the model is of another version ({reason}); train it again") from None
    return network.eval(), codec, description


def fingerprint(values: object, *files: Path) -> str:
    """Hash JSON-able values and the contents of files, as the key of a resume state."""
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode())
    for path in files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


class ResumeState:
    """State of one interrupted training, in a folder named by `key`, which holds its fingerprint."""

    def __init__(self, folder: Path, key: str) -> None:
        self.folder = folder / key
        self.path = self.folder / "state.pt"

    def save(self, state: dict) -> None:
        """Write tensors, numbers and strings, nested in dicts and lists."""
        data = io.BytesIO()
        torch.save(state, data)  # to a file it raises a RuntimeError where the disk is full
        write_bytes(self.path, data.getvalue())

    def load(self) -> dict | None:
        """Read the saved state; None where there is none, or a broken one, which is set aside."""
        if not self.path.is_file():
            return None
        try:
            return torch.load(self.path, weights_only=True, map_location="cpu")
        except Exception as error:  # an empty or broken file raises whatever its bytes make of it
            self.set_aside(error)
            return None

    def set_aside(self, error: Exception) -> None:
        """Rename a state that cannot be used, and say so in a line."""
        aside, reason = self.path.with_suffix(".broken"), " ".join(f"{type(error).__name__}: {error}".split())[:120]
        with suppress(FileNotFoundError):  # another rank was first
            self.path.replace(aside)
        tqdm.write(f"{self.path}: not a state of this training ({reason}); set aside as {aside.name}, starting anew")

    def remove(self) -> None:
        """Delete the state."""
        shutil.rmtree(self.folder, ignore_errors=True)
