"""llama.cpp is built with RPC, also where pip has a wheel without it or an older one is installed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.paths import ROOT

PIP = """#!/bin/sh
# Stands in for pip: it writes down each call, and "builds" what the first word of the file `cached` says.
lib={venv}/lib/python3.11/site-packages/llama_cpp/lib
echo "$CMAKE_ARGS|$*" >> {venv}/calls
case "$*" in
    *cache\\ remove*) rm -f {venv}/cached ;;
    *uninstall*) rm -rf "$lib" ;;
    *llama-cpp-python==*)
        mkdir -p "$lib"
        [ -e {venv}/cached ] || touch "$lib/libggml-rpc.so" ;;
esac
"""


class Installation:
    """`.ci/install` with a pip that builds nothing."""

    def __init__(self, folder: Path) -> None:
        self.venv = folder / "venv"
        (self.venv / "bin").mkdir(parents=True)
        pip = self.venv / "bin" / "pip"
        pip.write_text(PIP.format(venv=self.venv))
        pip.chmod(0o755)
        no_gpu = self.venv / "nvidia-smi"
        no_gpu.write_text("#!/bin/sh\nexit 1\n")
        no_gpu.chmod(0o755)
        self.library = self.venv / "lib" / "python3.11" / "site-packages" / "llama_cpp" / "lib"

    def run(self) -> list[str]:
        """The calls of pip, each behind its CMAKE_ARGS."""
        (self.venv / "calls").unlink(missing_ok=True)
        env = os.environ | {
            "CXX": "false",
            "CMAKE_ARGS": "-DMINE=1",
            "PATH": f"{self.venv}:{os.environ['PATH']}",
        }
        ran = subprocess.run(
            ["sh", ".ci/install", str(self.venv)],
            cwd=ROOT,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        return (self.venv / "calls").read_text().splitlines()

    @property
    def has_rpc(self) -> bool:
        return (self.library / "libggml-rpc.so").exists()


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return Installation(tmp_path)


def builds(calls: list[str]) -> list[str]:
    return [call for call in calls if "install" in call and "llama-cpp-python==" in call]


def test_it_is_built_with_rpc_once(installation: Installation) -> None:
    (build,) = builds(installation.run())
    assert "-DGGML_RPC=on" in build and "-DMINE=1" in build
    assert installation.has_rpc
    assert builds(installation.run()) == []


def test_a_wheel_that_pip_cached_without_rpc_is_not_taken_for_one_with_it(installation: Installation) -> None:
    (installation.venv / "cached").touch()
    assert len(builds(installation.run())) == 2
    assert installation.has_rpc


def test_a_library_that_was_installed_without_rpc_is_built_again(installation: Installation) -> None:
    installation.library.mkdir(parents=True)
    calls = installation.run()
    assert len(builds(calls)) == 1 and any("uninstall" in call for call in calls)
    assert installation.has_rpc
