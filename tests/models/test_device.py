import platform
import subprocess
import sys

import pytest
import torch

from pipeline.common.errors import UserError
from pipeline.models.device import make_runtime

PAGE_FAULTS = """
from resource import RUSAGE_SELF, getrusage
import torch
from pipeline.models.device import make_runtime

make_runtime("cpu", "float32")
network = torch.nn.Sequential(*(torch.nn.Conv2d(16, 16, 3, padding=1) for _ in range(4)))
images = torch.zeros(64, 16, 64, 64)
for step in range(12):
    if step == 4:
        before = getrusage(RUSAGE_SELF).ru_minflt
    network(images).sum().backward()
print(getrusage(RUSAGE_SELF).ru_minflt - before)
"""


def test_make_runtime_missing_device_is_an_error():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(UserError, match="torch finds no such device"):
        make_runtime("cuda", "auto")
    assert make_runtime("auto", "float32").dtype == torch.float32


@pytest.mark.parametrize(("threads", "busy", "used"), [
    (0, 0.0, 4), (0, 49.0, 4), (0, 75.0, 2), (0, 100.0, 1), (3, 100.0, 3)])
def test_make_runtime_takes_as_many_threads_as_cores_are_free(monkeypatch, threads, busy, used):
    before = torch.get_num_threads()
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.setattr("psutil.cpu_percent", lambda interval: busy)
    torch.set_num_threads(4)
    make_runtime("cpu", "float32", threads)
    found = torch.get_num_threads()
    torch.set_num_threads(before)
    assert found == used


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives pages back at once")
def test_make_runtime_on_cpu_reuses_freed_memory():
    shown = subprocess.run([sys.executable, "-c", PAGE_FAULTS], check=True, capture_output=True, text=True)
    assert int(shown.stdout) < 20_000  # 90,000 to 500,000 where it is given back, 4,096 a block
