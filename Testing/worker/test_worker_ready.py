"""What the first explanation needs is loaded while the worker waits for it."""

import json
import os
import subprocess
import sys
from pathlib import Path

SERVER = """
import sys
from pathlib import Path
from LRPExplainLib.worker import answers
from LRPExplainLib.worker.server import Server

class Told:
    def describe(self, *request):
        return {}
    explain = describe
    def get_ready(self):
        print("ready", flush=True)

answers.Answers = Told
Server(Path(sys.argv[1]), sys.stdout).serve()
"""
LOADED = """
import sys
from LRPExplainLib.worker.answers import Answers
before = set(sys.modules)
Answers().get_ready()
assert len(set(sys.modules) - before) > 100  # which ones depends on PyTorch's version
from torch import nn, rand
from LRPExplainLib import lrp
before = set(sys.modules)
network = nn.Sequential(nn.Conv3d(1, 2, 3), nn.BatchNorm3d(2), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2)).eval()
lrp.attribute(lrp.capture(network, x := rand(1, 1, 4, 4, 4)), x, 1)
print(len(set(sys.modules) - before))
"""


def environment(root: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(root / "LRPExplain")}


def test_once_after_the_first_answer(root: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", SERVER, str(tmp_path / "work")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(root)
    ) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None

        def ask(number: int) -> None:
            worker.stdin.write(json.dumps({"id": number, "verb": "describe"}) + "\n")
            worker.stdin.flush()

        def told_until(last: str) -> list[str]:
            lines: list[str] = []
            while not lines or last not in lines[-1]:
                lines.append(worker.stdout.readline().strip())
                assert lines[-1], "the worker has ended"
            return lines

        ask(1)
        assert '"event": "done"' in told_until("ready")[-2]
        for number in (2, 3):
            ask(number)
            assert "ready" not in told_until('"event": "done"')
        worker.stdin.close()
    assert worker.returncode == 0


def test_the_first_graph_loads_little_more(root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED], env=environment(root), capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 20
