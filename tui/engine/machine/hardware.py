"""The hardware of the engine's machine: `python -m tui.engine.machine.hardware` prints one JSON object.

Nothing here may fail: missing facts are reported as missing. Native libraries run in a child process, because
one that is built for another processor kills its process. This module opens no model.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from math import ceil
from pathlib import Path

from . import cgroups
from .apple import Mlx, ask_library, ask_mlx, installed, mlx_advice

PACKAGES = ("llama-cpp-python", "numpy", "jinja2", "mlx-lm")
FEATURES = (
    *("avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8"),
    *("asimd", "asimddp", "asimdhp", "i8mm", "sve", "sve2"),
)
"""Features of processors that change the speed of a model."""
_PROBE = "tui.engine.backends.llama_cpp.probe"
"""The module that loads llama.cpp and asks it. Its name only: an import would load the library here."""
USABLE = 0.75
"""Share of a memory that models may take; the rest is for caches and other programs."""
_NONE = Mlx("")
_TOOL_SECONDS = 5


@dataclass(frozen=True)
class Gpu:
    name: str
    memory: int
    """Bytes; 0 if it uses the host's memory, or if unknown."""
    driver: str


@dataclass(frozen=True)
class LlamaLibrary:
    """The report of llama.cpp about itself."""

    version: str
    """Version of llama-cpp-python; empty if it is not installed."""
    error: str = ""
    """Reason why it cannot be used; else empty."""
    gpu_offload: bool = False
    devices: tuple[str, ...] = ()
    """The GPUs that it can use."""
    threads: int = 0
    features: str = ""


@dataclass(frozen=True)
class Hardware:
    """The machine, as far as it can be known without loading a model."""

    system: str
    cpu: str
    cores: int
    usable_cores: int
    """Number of usable cores. It is smaller if the process is limited to some, or to a share of them."""
    features: tuple[str, ...]
    memory: int
    """Bytes of the machine, or of the container if it has a limit."""
    memory_available: int | None
    gpus: tuple[Gpu, ...]
    cuda_compiler: bool
    python: str
    packages: dict[str, str]
    """Versions by package; empty for one that is not installed."""
    llama_cpp: LlamaLibrary
    mlx: Mlx = _NONE

    @property
    def backend(self) -> tuple[str, str, str]:
        """The backend that would run a model (empty for none), its device, and the reason for the choice."""
        library = self.llama_cpp
        if library.error or not library.version:
            return "", "", library.error or "llama-cpp-python is not installed"
        device = ", ".join(library.devices) or f"CPU, {library.threads} threads"
        why = "it can use the GPU" if library.devices else "it runs on every processor"
        if self.mlx.version and not self.mlx.error:
            why += "; MLX runs MLX model folders"
        return "llama.cpp", device, why

    @property
    def advice(self) -> tuple[str, ...]:
        """Advice to make it run, or run faster, most effective first."""
        library, advice = self.llama_cpp, []
        nvidia = any(gpu.driver for gpu in self.gpus)
        if library.error or not library.version:
            advice.append("No model can run: `make clean run` builds llama.cpp for this machine.")
        elif nvidia and not library.gpu_offload:
            first = "" if self.cuda_compiler else "install the CUDA toolkit (nvcc), then "
            advice.append(
                f"An NVIDIA GPU is here, but llama.cpp was built without CUDA: {first}run `make clean run`."
            )
        elif library.gpu_offload and not library.devices:
            advice.append("llama.cpp was built for a GPU, but finds none: check the driver.")
        elif not self.gpus:
            advice.append(
                "There is no GPU: checking several tokens costs a processor nearly as much as computing "
                "them one by one, so a draft gains less here, or nothing."
            )
        missing = [name for name in ("avx2", "avx512f") if name in self.features and library.features]
        missing = [name for name in missing if name.removesuffix("f").upper() not in library.features]
        if missing and not library.devices:
            advice.append(
                f"This processor has {', '.join(missing)}, but llama.cpp was built without: "
                "`make clean run` builds it for this machine."
            )
        if self.cpu.startswith("Apple") and self.system.endswith("x86_64"):
            advice.append("This Python is built for Intel: an arm64 Python makes everything faster here.")
        advice += mlx_advice(self.cpu, self.system, self.mlx)
        if self.usable_cores < self.cores:
            advice.append(f"Only {self.usable_cores} of {self.cores} cores may be used by this process.")
        return tuple(advice)


def survey() -> Hardware:
    """Examine the machine; takes a second or two."""
    cores = os.cpu_count() or 1
    model, features = _cpu()
    memory, available = memory_bytes()
    return Hardware(
        system=_system(),
        cpu=model,
        cores=cores,
        usable_cores=usable_cores(),
        features=features,
        memory=memory,
        memory_available=available,
        gpus=_gpus(model, memory),
        cuda_compiler=bool(shutil.which("nvcc")) or Path("/usr/local/cuda/bin/nvcc").exists(),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        packages={name: installed(name) for name in PACKAGES},
        llama_cpp=_ask_library([sys.executable, "-m", _PROBE]),
        mlx=ask_mlx(),
    )


def _system() -> str:
    if sys.platform == "darwin":
        return f"macOS {platform.mac_ver()[0]} {platform.machine()}"
    name = platform.system()
    with suppress(OSError):
        name = platform.freedesktop_os_release().get("PRETTY_NAME", name)
    return f"{name}, {platform.system()} {platform.release()} {platform.machine()}"


def _cpu() -> tuple[str, tuple[str, ...]]:
    """Return the processor's name and its features in `FEATURES`."""
    if sys.platform == "darwin":
        return _output("sysctl", "-n", "machdep.cpu.brand_string") or platform.processor(), ()
    facts: dict[str, str] = {}
    for line in _text("/proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        facts.setdefault(key.strip().lower(), value.strip())
    flags = (facts.get("flags") or facts.get("features") or "").split()
    name = facts.get("model name") or facts.get("hardware") or platform.processor() or platform.machine()
    return name, tuple(feature for feature in FEATURES if feature in flags)


def memory_bytes() -> tuple[int, int | None]:
    """Return the bytes of memory and the free bytes. A limit of a control group counts as the memory.

    The memory is 0 if unknown.
    """
    total, available = 0, None
    with suppress(OSError, ValueError):
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for line in _text("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            available = int(line.split()[1]) * 1024
    allowed = cgroups.memory(_text)
    if allowed and (allowed.limit < total or not total):
        total = allowed.limit
    if allowed:
        available = allowed.free if available is None else min(available, allowed.free)
    return total, available


def spare_memory() -> tuple[int, int | None]:
    """Return the bytes of memory, and the free ones without the files that this process has mapped.

    The system counts the pages of a mapped file as free, but without the weights no model runs.
    """
    total, available = memory_bytes()
    for line in _text("/proc/self/status").splitlines() if available is not None else ():
        if line.startswith("RssFile:"):
            available = max(0, (available or 0) - int(line.split()[1]) * 1024)
    return total, available


def room_for_chats(limit: int, free: int) -> int:
    """Return the most bytes that caches of chats may take in memory, of which `free` bytes are free.

    They get at most `limit` bytes and half of the free memory; a quarter of it if `limit` is -1.
    """
    return max(0, free // 4 if limit < 0 else min(limit, free // 2))


def usable_cores() -> int:
    """Return how many processors this process may use at a time, including hyper-threads."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return within_quota(len(allowed))


def within_quota(cores: int) -> int:
    """Return how many of the cores the share of the control group can keep busy."""
    quota = cgroups.processors(_text)
    return max(1, cores if quota is None else min(cores, ceil(quota)))


@cache
def all_memory() -> int:
    """Return the bytes of the host's memory and of all GPUs together."""
    cpu, _ = _cpu()
    own, _ = memory_bytes()
    return own + sum(gpu.memory for gpu in _gpus(cpu, own))


def _gpus(cpu: str, memory: int) -> tuple[Gpu, ...]:
    if sys.platform == "darwin" and cpu.startswith("Apple"):
        return (Gpu(f"{cpu} (shares {memory >> 30} GiB with the processor)", 0, ""),)
    listing = _output(
        "nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits"
    )
    found = []
    for line in listing.splitlines():
        name, memory_text, driver = ([part.strip() for part in line.split(",")] + ["", "", ""])[:3]
        if driver:
            found.append(Gpu(name, int(memory_text) << 20 if memory_text.isdigit() else 0, driver))
    return tuple(found)


def _ask_library(command: Sequence[str]) -> LlamaLibrary:
    """Ask llama.cpp in a child process: `command` runs `probe.py` of the backend, which prints its result."""
    if not (version := installed("llama-cpp-python")):
        return LlamaLibrary("")
    said = ask_library("llama.cpp", command, silent="does not answer; its GPU driver may hang")
    return LlamaLibrary(version, devices=tuple(said.pop("devices", ())), **said)


def _text(path: str) -> str:
    try:
        return Path(path).read_text("utf-8", "replace")
    except OSError:
        return ""


def _output(*command: str) -> str:
    """Return the output of a tool; empty if it is missing, fails or takes too long."""
    try:
        ran = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TOOL_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ran.stdout.decode("utf-8", "replace").strip() if ran.returncode == 0 else ""


def main() -> None:
    found = survey()
    backend, device, why = found.backend
    chosen = {"backend": backend, "device": device, "why": why, "advice": found.advice}
    print(json.dumps({**asdict(found), **chosen}))


if __name__ == "__main__":
    main()
