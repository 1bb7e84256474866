"""The modules that a fresh interpreter loads."""

from __future__ import annotations

import subprocess
import sys

from tests.support.paths import ROOT

TUI = ROOT / "tui"

ENGINE_ONLY = {"numpy", "llama_cpp", "mlx", "mlx_lm", "jinja2", "tui.engine"}


def loaded_after(code: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after `code`, with their packages."""
    report = "import sys, atexit; atexit.register(lambda: print('\\n' + ' '.join(sys.modules)))"
    ran = subprocess.run(
        [sys.executable, "-c", f"{report}\n{code}"], capture_output=True, text=True, timeout=60, check=True
    )
    return set(ran.stdout.splitlines()[-1].split())


def modules(*folders: str) -> list[str]:
    """Every module in these folders of the package, without what is a program by itself."""
    found = (path for folder in folders for path in sorted(TUI.glob(folder)))
    names = (".".join(path.relative_to(TUI.parent).with_suffix("").parts) for path in found)
    return [name.removesuffix(".__init__") for name in names]
