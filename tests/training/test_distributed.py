"""Distributed training against one process with the same batches."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML
from safetensors.torch import load_file

from pipeline.common.errors import UserError
from pipeline.training.distributed import Distributed

ROOT = Path(__file__).parents[2]
SMALL = {"name": "smallcnn", "channels": [8, 16, 16], "kernels": [7, 5, 3], "pools": [2, 2, 2], "hidden": 64}


def test_shards_of_all_ranks_cover_the_batch_once():
    for world_size, faces in ((2, 8), (3, 8), (4, 5)):
        ranks = [Distributed(rank=rank, world_size=world_size) for rank in range(world_size)]
        shards = [np.arange(faces)[one.shard(faces)] for one in ranks]
        assert np.concatenate(shards).tolist() == list(range(faces))
    with pytest.raises(UserError, match="batch_size 2 is less than the 3 processes"):
        Distributed(rank=0, world_size=3).shard(2)


def train(*prefix: str) -> dict[str, torch.Tensor]:
    command = [*prefix, "-m", "stages.train", "--model", "small", "--fold", "0"]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=200)
    assert ended.returncode == 0, ended.stderr
    weights = Path("runs/small/fold0/model.safetensors")
    found = load_file(weights)
    weights.unlink()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("missing", [False, True])
def test_training_two_processes_gives_the_weights_of_one(inside, missing, monkeypatch):
    """A network without batch norm, with every augmentation; points missing in one half of a batch only, too."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    params = YAML(typ="safe", pure=True).load(Path("params.yaml"))
    model = dict(params["models"]["resnet"])
    model |= {"network": SMALL, "epochs": 3, "batch_size": 7, "ema_decay": 0.5, "grad_clip": 0.5}
    model["optimizer"] = "adamw"  # Muon makes small gradients large, and with them what sums round
    params["models"]["small"] = model
    params["train"].update(models=["small"], threads=1)
    params["augment"].update(noise=0.5, blur=0.5, dropout=0.5)
    YAML().dump(params, Path("params.yaml"))
    if missing:
        points = np.load("data/crops/train/keypoints.npy")
        points[::3, :40] = np.nan
        np.save("data/crops/train/keypoints.npy", points)
    alone = train(sys.executable)
    history = Path("runs/small/fold0/history.csv").read_text()
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    together = train(*torchrun)
    for name, value in alone.items():
        torch.testing.assert_close(together[name], value, rtol=1e-4, atol=1e-6)
    assert not list(Path(".resume").iterdir())
    losses = [[line.split(",")[2] for line in text.splitlines()[1:]]
              for text in (history, Path("runs/small/fold0/history.csv").read_text())]
    np.testing.assert_allclose(*np.array(losses, float), rtol=1e-4)
