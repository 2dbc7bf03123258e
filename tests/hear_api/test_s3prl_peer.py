"""The bridges against s3prl 0.4.18 itself, in the environment that perf/s3prl_peer.py builds."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import json, sys
sys.path[:0] = [{root!r}, {root!r} + "/perf"]
import s3prl_inside
s3prl_inside.prepare()
import torch
torch.set_num_threads(1)
from mambabench.hear_api.check import check
from mambabench.hear_api.s3prl_upstream import register
found = {{"passed": {{}}, "shapes": {{}}}}
for name in ("fbank", "mfcc", "fbank_no_cmvn"):
    found["passed"][name] = check("s3prl@" + name, device="cpu", long_s=20.0).passed
from s3prl.nn import S3PRLUpstream
for name in ("ssam_tiny_random", "logmel_stats", "aum_tiny_random"):
    upstream = S3PRLUpstream(register(name)).eval()
    with torch.no_grad():
        states, lengths = upstream(torch.rand(2, 16000) - 0.5, torch.tensor([16000, 9000]))
    found["shapes"][name] = [len(states), *states[0].shape, *lengths[0].tolist()]
print("FOUND " + json.dumps(found))
"""

pytestmark = [pytest.mark.peer, pytest.mark.timeout(900)]


def test_both_bridges_work_with_s3prl_itself() -> None:
    python = os.environ.get("MAMBABENCH_S3PRL_PYTHON")
    if not python:
        pytest.skip("MAMBABENCH_S3PRL_PYTHON names no Python with s3prl: see perf/s3prl_peer.py")
    command = [python, "-W", "ignore", "-c", SCRIPT.format(root=str(ROOT))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    (line,) = [x for x in done.stdout.splitlines() if x.startswith("FOUND ")]
    found = json.loads(line.removeprefix("FOUND "))
    assert found["passed"] == {"fbank": True, "mfcc": True, "fbank_no_cmvn": True}
    # layers, clips, frames, width, frames of either clip
    assert found["shapes"] == {
        "ssam_tiny_random": [13, 2, 25, 960, 25, 15],
        "logmel_stats": [1, 2, 20, 240, 20, 12],
        "aum_tiny_random": [25, 2, 7, 192, 7, 4],
    }
