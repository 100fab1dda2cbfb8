"""Folds side by side: the same files as one after another, on this machine, a Ray and a Dask cluster."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import pandas as pd
import pytest
from ruamel.yaml import YAML

from pipeline.common.errors import UserError
from pipeline.common.parallel import Item, last_line, run_all
from stages.parallel import CAUSE

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow  # whole runs of DVC, Ray and Dask
JOB = """
import os, pathlib, sys, time
name, seconds, code = sys.argv[1:]
gpu, start = os.environ.get("CUDA_VISIBLE_DEVICES"), time.time()
print("working on", name, end="\\r", flush=True)
time.sleep(float(seconds))
pathlib.Path(name).write_text(f"{gpu} {start} {time.time()}")
sys.exit(int(code))
"""


@pytest.fixture
def items(tmp_path, monkeypatch):
    """A maker of items that sleep and then leave a file with their GPU, start and end."""
    monkeypatch.chdir(tmp_path)
    Path("job.py").write_text(JOB)

    def make(name: str, seconds: float = 0.0, code: int = 0) -> Item:
        return Item(name=name, command=("job", name, str(seconds), str(code)), log=Path("logs") / f"{name}.log")

    return make


def test_run_all_with_a_failing_item_runs_the_others(items, capsys):
    ends = {end.item.name: end for end in run_all([items("a", code=3), items("b"), items("c")], jobs=2)}
    assert {name: end.exit_code for name, end in ends.items()} == {"a": 3, "b": 0, "c": 0}
    assert all(end.seconds > 0 for end in ends.values())
    printed = capsys.readouterr().out
    assert "a: FAILED with exit code 3 after" in printed and "b: done after" in printed and "c: done" in printed
    assert last_line(Path("logs/b.log")) == "working on b"
    assert last_line(Path("logs/none.log")) == ""


def test_last_line_of_a_failed_stage_is_its_own_and_not_of_dvc_or_a_bar(tmp_path):
    log = tmp_path / "a.log"
    log.write_text("epoch 1\r  0%|   | 0/3\rTraceback\n  File x\ntorch.OutOfMemoryError: CUDA out of memory\n"
                   "\r 33%|#  | 1/3\rERROR: failed to reproduce 'train@a': exited with 1\n")
    assert last_line(log, CAUSE) == "torch.OutOfMemoryError: CUDA out of memory"
    log.write_text("error: lr: too high\nERROR: failed to reproduce 'train@a': exited with 1\n")
    assert last_line(log, CAUSE) == "error: lr: too high"


def test_run_all_with_gpus_gives_each_no_more_than_its_slots(items):
    names = "abcdef"
    ends = run_all([items(name, seconds=0.5) for name in names], jobs=4, gpus=["0", "7"])
    assert [end.exit_code for end in ends] == [0] * 6
    rows = [Path(name).read_text().split() for name in names]
    runs = pd.DataFrame([[gpu, float(start), float(end)] for gpu, start, end in rows], columns=["gpu", "start", "end"])
    assert set(runs.gpu) == {"0", "7"}
    for _, run in runs.iterrows():
        beside = runs[(runs.gpu == run.gpu) & (runs.start <= run.start) & (runs.end > run.start)]
        assert len(beside) <= 2


def test_run_all_with_an_unusable_backend_says_why(items, monkeypatch):
    with pytest.raises(UserError, match="--gpus: dask deals out the GPUs of its own workers"):
        run_all([items("a")], jobs=1, backend="dask", gpus=["0"])
    for name, module in (("ray", "ray"), ("dask", "dask.distributed")):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, module, None)
            with pytest.raises(UserError, match=rf"--backend {name}: .*pip install 'keypoint-folds\[{name}\]'"):
                run_all([items("a")], jobs=1, backend=name)


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A DVC project with three models and two folds of a tiny competition, everything up to the folds done.

    One of the models sees crops that are placed by the points of another.
    """
    folder = tmp_path_factory.mktemp("projects") / "before"
    folder.mkdir()
    for name in ("pipeline", "stages", "presets", "dvc.yaml", ".dvcignore"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    params = YAML(typ="safe", pure=True).load(ROOT / "presets" / "sample.yaml")
    params["sample"].update(train_faces=18, test_faces=5)
    params["crop"]["size"] = 32
    params["split"]["folds"] = [0, 3]
    params["train"].update(models=["resnet", "unet"], workers=0, threads=1, validate_every=1)
    params["models"]["second"] = deepcopy(params["models"]["resnet"])
    params["align"].update(locator=["resnet"], models=["second"], size=24)
    for model in params["models"].values():
        model.update(epochs=2, batch_size=6)
        model["network"].update(backbone="resnet10t", width=0.25)
    YAML().dump(params, folder / "params.yaml")
    dvc(folder, "init", "--no-scm", "-q")
    dvc(folder, "repro", "-q", "split")
    return folder


def dvc(folder: Path, *arguments: str) -> str:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    ended = subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=folder, env=environment, check=False,
                           capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def results(folder: Path) -> dict[str, bytes]:
    """Every file that the folds and the ensemble left, but for the seconds that they took."""
    found = {}
    for path in sorted([*folder.glob("runs/*/*/*"), *folder.glob("ensemble/*"), *folder.glob("metrics.json")]):
        data = path.read_bytes()
        if path.name == "history.csv":
            data = pd.read_csv(path).drop(columns=["seconds", "images_per_second"]).to_csv().encode()
        elif path.name == "metrics.json" and path.parent != folder:
            data = json.dumps(json.loads(data) | {"seconds": None}).encode()
        found[str(path.relative_to(folder))] = data
    return found


@pytest.fixture(scope="module")
def one_after_another(project) -> dict[str, bytes]:
    folder = project.with_name("one_after_another")
    shutil.copytree(project, folder, symlinks=True)
    dvc(folder, "repro", "-q")
    found = results(folder)
    assert len(found) == 6 * 6 + 3 + 1, list(found)
    return found


def free_port() -> int:
    with socket.socket() as open_:
        open_.bind(("127.0.0.1", 0))
        return open_.getsockname()[1]


@pytest.fixture
def dask_cluster() -> Iterator[list[str]]:
    """A scheduler and two workers, each a process of its own, as one would start them on three machines."""
    address = f"tcp://127.0.0.1:{free_port()}"
    base = [sys.executable, "-m", "distributed.cli"]
    parts = [[f"{base[2]}.dask_scheduler", "--host", address, "--no-dashboard"]]
    parts += [[f"{base[2]}.dask_worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard"]] * 2
    started = [subprocess.Popen([sys.executable, "-m", *part], env=os.environ | {"PYTHONPATH": str(ROOT)},
                                stderr=subprocess.DEVNULL) for part in parts]
    from dask.distributed import Client

    with Client(address, timeout=60) as client:
        client.wait_for_workers(2, timeout=60)
    yield ["--backend", "dask", "--address", address]
    for process in started:
        process.terminate()
        process.wait(30)


@pytest.fixture
def ray_cluster() -> Iterator[list[str]]:
    """A head without a core to give, and two nodes of one core each, each with processes of its own."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    yield ["--backend", "ray", "--address", cluster.address]
    cluster.shutdown()


def side_by_side(project: Path, name: str, arguments: list[str]) -> tuple[Path, str]:
    folder = project.with_name(name)
    shutil.copytree(project, folder, symlinks=True)
    ended = subprocess.run([sys.executable, "-m", "stages.parallel", "--jobs", "2", *arguments], cwd=folder,
                           check=False, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return folder, ended.stdout + ended.stderr


@pytest.mark.parametrize("backend", ["loky", "ray", "dask"])
def test_parallel_on_each_backend_gives_the_files_of_dvc_repro(project, one_after_another, backend, request):
    if backend != "loky":
        needed = {"ray": "ray", "dask": "distributed"}[backend]
        pytest.importorskip(needed, reason=f"needs pip install -e '.[{backend}]'")
    arguments = [] if backend == "loky" else request.getfixturevalue(f"{backend}_cluster")
    folder, printed = side_by_side(project, backend, arguments)
    for fold in ("resnet-0", "resnet-3", "unet-0", "unet-3", "second-0", "second-3"):
        assert f"{fold}: done after" in printed
    assert results(folder) == one_after_another
    assert "up to date" in dvc(folder, "status")


def test_parallel_with_a_failing_fold_names_it_and_keeps_the_others(project, one_after_another):
    folder = project.with_name("failing")
    shutil.copytree(project, folder, symlinks=True)
    params = YAML(typ="safe", pure=True).load(folder / "params.yaml")
    params["models"]["resnet"]["network"]["backbone"] = "no_such_network"
    YAML().dump(params, folder / "params.yaml")
    ended = subprocess.run([sys.executable, "-m", "stages.parallel", "--jobs", "2"], cwd=folder, check=False,
                           capture_output=True, text=True)
    assert ended.returncode == 1
    assert "unet-0: done" in ended.stderr + ended.stdout and "resnet-3: FAILED" in ended.stderr + ended.stdout
    for fold in ("resnet-0", "resnet-3"):
        assert re.search(rf"error: {fold}: exit code \d+; see logs/{fold}.log: error: .*no_such_network", ended.stderr)
    assert "Traceback" not in ended.stderr
    kept = {name: data for name, data in one_after_another.items() if name.startswith("runs/unet")}
    found = {name: data for name, data in results(folder).items() if name.startswith("runs/unet")}
    assert found == kept


def test_parallel_with_more_threads_than_cores_warns(project):
    folder = project.with_name("crowded")
    shutil.copytree(project, folder, symlinks=True)
    many = 2 * os.cpu_count()
    params = YAML(typ="safe", pure=True).load(folder / "params.yaml")
    params["train"]["threads"] = many
    params["models"]["unet"]["network"]["backbone"] = params["models"]["resnet"]["network"]["backbone"] = "no_such"
    YAML().dump(params, folder / "params.yaml")
    ended = subprocess.run([sys.executable, "-m", "stages.parallel", "--jobs", "2"], cwd=folder, check=False,
                           capture_output=True, text=True)
    assert f"--jobs 2: {os.cpu_count()} cores have room for 1 of train.threads: {many} each" in ended.stderr
