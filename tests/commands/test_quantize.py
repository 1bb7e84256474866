"""`outrider quantize`: the real command beside a real engine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.models import Toy, write_model


def outrider(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environ = os.environ | {"HOME": str(home)}
    environ |= {f"XDG_{name}_HOME": str(home / name) for name in ("CONFIG", "CACHE", "STATE", "DATA")}
    command = [sys.executable, "-m", "tui", *words]
    return subprocess.run(command, capture_output=True, text=True, env=environ, check=False, timeout=60)


def test_a_copy_is_a_model_of_the_list_and_drafts_first(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    main = write_model(tmp_path / "models" / "main.gguf", Toy(layers=6, width=256, name="Toy main"))
    draft = write_model(tmp_path / "models" / "draft.gguf", Toy(layers=1, width=64, name="Toy draft"))
    done = outrider(tmp_path, "quantize", str(draft), "--format", "q4_0")
    assert done.returncode == 0, done.stderr
    path = Path(done.stdout.strip())
    assert path.name == "Toy-draft-Q4_0.gguf"
    assert 0 < path.stat().st_size < draft.stat().st_size
    assert "Toy-draft Q4_0" in outrider(tmp_path, "models").stdout
    lines = outrider(tmp_path, "models", str(main)).stdout.splitlines()
    assert lines[1].startswith("Toy-draft Q4_0"), lines


def test_a_fault_is_one_line(tmp_path: Path) -> None:
    done = outrider(tmp_path, "quantize", "nothing here")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "No model here is called 'nothing here'" in done.stderr
