"""A training in several processes, as torchrun starts it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from models.text_encoder import TextEncoder
from tests.support.planted_texts import write_documents
from worker.embedded.ports import free_ports

_SCRIPT = """
import os
from pathlib import Path
from tests.support.threads_at_exit import write_threads_at_exit
from worker.commands import main
if __name__ == "__main__":
    write_threads_at_exit(str(Path(__file__).with_name(os.environ["RANK"] + ".threads")))
    main()
"""


def test_two_processes_train_one_model(tmp_path: Path) -> None:
    """Under torchrun two processes share a training and its one result, and end their threads."""
    script = tmp_path / "two_processes.py"
    script.write_text(_SCRIPT)
    texts = write_documents(tmp_path / "texts.txt", 60)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--master-port", str(free_ports(1)[0]), str(script), "pretrain", "mlm"]
    command += ["--texts", str(texts), "--from-scratch", "--vocab-size", "200", "--layers", "1"]
    command += ["--width", "32", "--heads", "2", "--max-tokens", "32", "--steps", "6", "--cpu"]
    command += ["--threads", "1", "--out", str(tmp_path / "out"), "--json"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout)["steps"] == 6
    trunk = TextEncoder.load(tmp_path / "out", device="cpu", threads=1)
    assert trunk.encode(trunk.tokenize(["the lamp"], "passage")).vectors.shape == (1, 32)
    assert not (tmp_path / "out.training").exists()
    for rank in range(2):
        assert "gloo" not in (tmp_path / f"{rank}.threads").read_text()
