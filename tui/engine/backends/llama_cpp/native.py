"""Loads the native library once, keeps its log in memory, and names its devices.

No output of llama.cpp reaches stdout or stderr. This module opens no model.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import os
import sys
import threading
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from ...machine import hardware

_DEBUG, _ERROR, _CONTINUED = 1, 4, 5
"""ggml_log_level: lines for debugging, an error, and the rest of the line before."""
_CPU = 0
"""ggml_backend_dev_type: the processor."""
_GPU_DEVICES = (1, 2)
"""ggml_backend_dev_type: a GPU with its own memory, and one that shares the host's."""
_NO_GPU = {"CPU", "BLAS", "RPC"}
"""The parts of ggml that compute on a processor, or on other machines."""
_importing = threading.Lock()
_SPINS = "1000"
"""Number of checks before a waiting thread sleeps, if GNU OpenMP runs the threads. Its default is 300,000.
Beside another busy program, a thread then keeps the core that the awaited thread needs. With 1,000, tokens
come as fast as ever on a quiet machine (8.9 and 8.7 ms, 59 and 60 ms a token), and several times as fast on a
busy one. With 0, a quiet machine loses a third to two thirds of its speed."""


def bindings() -> Any:
    """Return llama-cpp-python's ctypes layer, without the package around it.

    The package's own `__init__` imports many modules that an engine does not need, which doubles the time to
    start, and sends the native log to stderr. So only its ctypes module is imported.
    """
    # A debugger attached by ggml's crash handler would write its report to stdout.
    os.environ.setdefault("GGML_NO_BACKTRACE", "1")
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)
    return _without_package("llama_cpp.llama_cpp")


def extensions() -> Any | None:
    """Return the functions for hidden rows, which llama.cpp exports and does not publish.

    None if this build of the library lacks one of them.
    """
    bindings()
    try:
        return _without_package("llama_cpp.llama_cpp_ext")
    except (ImportError, AttributeError):
        return None


class LayerInputs:
    """The functions for the inputs of layers, which llama.cpp exports as C++ and llama-cpp-python lacks."""

    def __init__(self, library: Any) -> None:
        """Raises `AttributeError` if this build of the library lacks one."""
        context, layer, on = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_bool
        self.set = _exported(library, "set", "P13llama_contextjb", "XPEAUllama_context@@I_N@Z")
        self.set.argtypes, self.set.restype = [context, layer, on], None
        self.get = _exported(library, "get", "P13llama_contextj", "PEAMPEAUllama_context@@I@Z")
        self.get.argtypes, self.get.restype = [context, layer], ctypes.POINTER(ctypes.c_float)


def layer_inputs(library: Any) -> LayerInputs | None:
    """Return the functions for the inputs of layers; None if this build of the library lacks one."""
    try:
        return LayerInputs(library)
    except AttributeError:
        return None


def _exported(library: Any, verb: str, itanium: str, msvc: str) -> Any:
    """Return a function by the name that a C compiler, GCC and Clang, or Microsoft's compiler gives it."""
    name = f"llama_{verb}_embeddings_layer_inp"
    native = library._lib
    for each in (name, f"_Z{len(name)}{name}{itanium}", f"?{name}@@YA{msvc}"):
        if hasattr(native, each):
            return getattr(native, each)
    raise AttributeError(name)


def _without_package(name: str) -> Any:
    """Import one module of the package `llama_cpp` without the package's own `__init__`."""
    with _importing:
        if (loaded := sys.modules.get(name)) is not None:
            return loaded
        if hasattr(sys.modules.get("llama_cpp"), "__path__"):  # somebody has imported the package
            return importlib.import_module(name)
        spec = importlib.util.find_spec("llama_cpp")
        if spec is None or spec.submodule_search_locations is None:
            raise ImportError("llama-cpp-python is not installed")
        bare = ModuleType("llama_cpp")
        bare.__path__ = list(spec.submodule_search_locations)
        bare.__spec__ = spec  # another thread may ask for it meanwhile
        sys.modules["llama_cpp"] = bare
        try:
            return importlib.import_module(name)
        finally:
            del sys.modules["llama_cpp"]


class NativeLog:
    """The last lines of the native log, without lines for debugging."""

    def __init__(self, lines: int = 400) -> None:
        self._lines: deque[tuple[int, str]] = deque(maxlen=lines)
        self._level = 0
        self._open = ""

    def install(self, library: Any) -> None:
        """Take over the native log for the lifetime of the process."""
        callback = library.llama_log_callback(self._write)
        # The library may log after this object is gone. Calling a freed callback would be a crash.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(callback))
        library.llama_log_set(callback, None)

    def _write(self, level: int, text: bytes | None, _data: object) -> None:
        if level != _CONTINUED:
            self._level = level
        *whole, self._open = (self._open + (text or b"").decode("utf-8", "replace")).split("\n")
        if self._level != _DEBUG:
            self._lines.extend((self._level, line) for line in whole if line)

    @property
    def lines(self) -> tuple[str, ...]:
        """The lines, oldest first. Not trusted text: they quote model files."""
        return tuple(line for _, line in self._lines)

    def clear(self) -> None:
        """Remove all lines before a new task."""
        self._lines.clear()
        self._open = ""

    def reason(self) -> str:
        """Return the last error without the name of the reporting function; empty if there is none."""
        for level, line in reversed(self._lines):
            if level == _ERROR and not line.endswith("failed to load model"):
                text = line.partition(": ")[2].strip() or line.strip()
                return text.removeprefix("error loading model: ")
        return ""


@dataclass(frozen=True)
class NativeGpu:
    """A GPU that this build of the library can use."""

    label: str
    """ggml's name, such as "CUDA0"."""
    name: str
    """The driver's name."""
    free: int
    """Bytes that this process may still take."""
    total: int
    handle: int = 0
    """ggml's pointer to the device, in this process."""


def gpus(library: Any) -> list[NativeGpu]:
    """Return all GPUs, with their present memory."""
    ggml = library._lib  # a handle also finds the functions of the libraries that it needs
    ggml.ggml_backend_dev_count.restype = ctypes.c_size_t
    ggml.ggml_backend_dev_get.restype = ctypes.c_void_p
    ggml.ggml_backend_dev_get.argtypes = [ctypes.c_size_t]
    ggml.ggml_backend_dev_type.argtypes = [ctypes.c_void_p]
    found = (ggml.ggml_backend_dev_get(i) for i in range(ggml.ggml_backend_dev_count()))
    return [_gpu(ggml, device) for device in found if ggml.ggml_backend_dev_type(device) in _GPU_DEVICES]


def _gpu(devices: ctypes.CDLL, device: int) -> NativeGpu:
    for describe in (devices.ggml_backend_dev_name, devices.ggml_backend_dev_description):
        describe.argtypes = [ctypes.c_void_p]
        describe.restype = ctypes.c_char_p
    devices.ggml_backend_dev_memory.argtypes = [ctypes.c_void_p, *[ctypes.POINTER(ctypes.c_size_t)] * 2]
    devices.ggml_backend_dev_memory.restype = None
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    devices.ggml_backend_dev_memory(device, ctypes.byref(free), ctypes.byref(total))
    name = devices.ggml_backend_dev_description(device).decode("utf-8", "replace")
    label = devices.ggml_backend_dev_name(device).decode("utf-8", "replace")
    return NativeGpu(label, name, free.value, total.value, device)


def knows_gpus(library: Any) -> bool:
    """Return whether the library was built for a kind of GPU.

    The answer of llama.cpp itself is also yes for a library that has only RPC.
    """
    ggml = library._lib
    count, get, name = ggml.ggml_backend_reg_count, ggml.ggml_backend_reg_get, ggml.ggml_backend_reg_name
    count.restype, get.restype, name.restype = ctypes.c_size_t, ctypes.c_void_p, ctypes.c_char_p
    get.argtypes, name.argtypes = [ctypes.c_size_t], [ctypes.c_void_p]
    return any(name(get(index)).decode() not in _NO_GPU for index in range(count()))


def processor(library: Any) -> int:
    """Return ggml's pointer to the processor as a device."""
    by_type = library._lib.ggml_backend_dev_by_type
    by_type.restype, by_type.argtypes = ctypes.c_void_p, [ctypes.c_int]
    return int(by_type(_CPU))


def sibling(library: Any, name: str) -> ctypes.CDLL:
    """Return another library of the same build. Raises `FileNotFoundError`.

    A wheel has copies in place of links, so a library that is loaded already may be loaded a second time.
    """
    folder = Path(os.environ.get("LLAMA_CPP_LIB_PATH") or Path(library.__file__).parent / "lib")
    suffixes = {"darwin": ("lib{}.dylib", "lib{}.so"), "win32": ("{}.dll", "lib{}.dll")}
    for pattern in suffixes.get(sys.platform, ("lib{}.so",)):
        if (path := folder / pattern.format(name)).exists():
            return ctypes.CDLL(str(path))
    raise FileNotFoundError(f"{name} is missing beside {folder}")


def memory_bytes() -> int:
    """Return the memory of the machine or of this process's limit; without bound if unknown."""
    return hardware.memory_bytes()[0] or sys.maxsize


def physical_cores() -> int:
    """Return this process's cores, hyper-threads counted once: more threads would only wait for memory."""
    return hardware.within_quota(_allowed_cores())


def _allowed_cores() -> int:
    if sys.platform == "darwin":
        return _mac_performance_cores()
    if not hasattr(os, "sched_getaffinity"):
        return max(1, (os.cpu_count() or 2) // 2)
    allowed = os.sched_getaffinity(0)
    topology = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    try:
        return len({Path(topology.format(cpu)).read_text("ascii") for cpu in allowed})
    except OSError:
        return len(allowed)


def _mac_performance_cores() -> int:
    """Return the performance cores. Efficiency cores would make the others wait at every layer."""
    count, size = ctypes.c_int32(0), ctypes.c_size_t(4)
    system = ctypes.CDLL(None)
    for key in (b"hw.perflevel0.physicalcpu", b"hw.physicalcpu"):
        if system.sysctlbyname(key, ctypes.byref(count), ctypes.byref(size), None, 0) == 0 and count.value:
            return count.value
    return max(1, (os.cpu_count() or 2) // 2)
