"""`outrider doctor`: reports on this machine, shows where files are, and advises how to make it faster.

A child process reports the engine's half, because the app may not import the engine. Facts that cannot be
found are reported as unknown. Nothing is changed, unless `--forget` asks for it.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..chat.requests import load_request
from ..choices import AUTO, drafts_with_model
from ..clean import clean, clean_line
from ..client import EngineClient, EngineError, engine_environment, last_reply, running
from ..config import Models, Settings
from ..config.last import next_start
from ..host import Host, said
from ..paths import Paths, find_states
from ..protocol import DescribeModel, DraftsJudged, DraftVerdict, JudgeDrafts, Load, ModelDescribed
from ..quantities import prompt_form, rounding, size
from ..terminal import clipboard
from .chat import TRUECOLOR, is_lean
from .setup import Setup, set_up
from .worker_report import survey_workers, worker_line

if TYPE_CHECKING:
    import argparse

HARDWARE = (sys.executable, "-m", "tui.engine.machine.hardware")
PACKAGES = ("outrider", "textual", "rich", "markdown-it-py", "pygments", "platformdirs", "tomli-w", "tomlkit")
OUTPUTS = {"lean": "only cells that changed", "stock": "as Textual does it"}
_GOOD_DRAFT = "one of the main model's family, 10 to 50 times smaller, makes the answers come sooner"
_SECONDS = 90
_WIDTH = 100


def run(arguments: argparse.Namespace, hardware: Sequence[str] = HARDWARE) -> int:
    """Print the findings. Return 0 if a model can run here, else 1. `hardware` is the command to ask."""
    setup = set_up(arguments)
    if setup.host:
        given = [f" --{name}" for name in ("json", "forget") if getattr(arguments, name)]
        status = _ask_there(setup.host, "doctor" + "".join(given))
        if setup.settings.engine.workers and not arguments.json:
            found = {"workers": survey_workers(setup.client(), setup.settings)}
            print("\n".join(_lines(_sections_of_workers(found))))
        return status
    if arguments.forget:
        forget_states(find_states())
    found = examine(os.environ, setup.places, hardware)
    if setup.settings.models.main != "starter":
        _add_main_model(found, setup)
    if setup.settings.engine.workers:
        found["workers"] = survey_workers(setup.client(), setup.settings)
    if arguments.json:
        print(json.dumps(found))
    else:
        print("\n".join(report(found)))
    return 0 if found["hardware"].get("backend") else 1


def _add_main_model(found: dict[str, Any], setup: Setup) -> None:
    """Add the prompt form of the main model and its best draft, or the reason why there is no such model."""
    try:
        answer, drafts = asyncio.run(_asked(setup.client(), load_request(setup.settings)))
        form = prompt_form(answer.model)
        found["models"] |= {"prompts": form} if form else {}
        found["models"] |= dict([rounding(answer.rounding)]) if answer.rounding else {}
        if setup.settings.models.draft == AUTO:
            good = [
                each for each in drafts if each.judgement == "recommended" and drafts_with_model(each.draft)
            ]
            best = good[0].name if good else ""
            found["models"]["best draft"] = best
            found["advice"] += [] if best else [f"No model here is a good draft for it: {_GOOD_DRAFT}."]
    except EngineError as error:
        found["advice"].append(error.line)


async def _asked(client: EngineClient, load: Load) -> tuple[ModelDescribed, tuple[DraftVerdict, ...]]:
    """Return the engine's figures for the main model, and for each possible draft for it, the best first."""
    async with running(client):
        model = await last_reply(client.ask(DescribeModel(0, load)), ModelDescribed)
        if load.draft != AUTO:
            return model, ()
        return model, (await last_reply(client.ask(JudgeDrafts(0, load)), DraftsJudged)).verdicts


def _ask_there(host: Host, question: str) -> int:
    """Print the report of the machine `host` about itself. Return its exit code."""
    environment = engine_environment(os.environ, remote=True)
    asked = subprocess.run(
        host.command(question), stdin=subprocess.DEVNULL, capture_output=True, check=False, env=environment
    )
    print(clean(asked.stdout.decode("utf-8", "replace")), end="")
    if asked.returncode and (lost := said(host, asked.returncode, asked.stderr.decode("utf-8", "replace"))):
        print(f"outrider: {clean_line(lost[0])}. {clean_line(lost[1])}", file=sys.stderr)
    return min(1, asked.returncode)


def examine(environ: Mapping[str, str], places: Paths, hardware: Sequence[str] = HARDWARE) -> dict[str, Any]:
    """Return all findings as JSON values. Never fails."""
    settings, problems, recalled = next_start(places.config, places.last)
    machine = ask_hardware(hardware, environ)
    return {
        "hardware": machine,
        "models": {
            "main": settings.models.main,
            "draft": settings.models.draft,
            "from": _origin(settings, recalled),
        },
        "files": {
            "config": str(places.config),
            "config_exists": os.access(places.config, os.R_OK),
            "themes": str(places.themes),
            "log": str(places.log),
            "chats": str(places.chats),
            "states": str(find_states()),
            "states_size": sum(_states(find_states()).values()),
            "states_count": len(_states(find_states())),
        },
        "problems": [str(problem) for problem in problems],
        "terminal": terminal_facts(settings, environ),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": {name: _version(name) for name in PACKAGES},
        "advice": [*_strings(machine.get("advice")), *advice(settings, environ)],
    }


def _origin(settings: Settings, recalled: bool) -> str:
    """Return in words where the choice of models comes from."""
    models = settings.models
    if recalled:
        return "the pair you chose last with ctrl+l"
    is_default = (models.main, models.draft) == (Models().main, Models().draft)
    return "the default" if is_default else "config.toml"


def ask_hardware(command: Sequence[str], environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the report on the engine's machine; only `error` if there is none. Not trusted text."""
    try:
        asked = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SECONDS,
            check=False,
            env=engine_environment(environ),
            cwd="/",
        )
        found = json.loads(asked.stdout.splitlines()[-1])
        return found if isinstance(found, dict) else {"error": "the engine's answer cannot be understood"}
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"error": f"the engine's machine cannot be examined: {error}"}
    except (LookupError, ValueError):
        last = asked.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        return {"error": "the engine's machine cannot be examined: " + ("".join(last) or "no answer")}


def terminal_facts(settings: Settings, environ: Mapping[str, str]) -> dict[str, Any]:
    """Return how the chat will see its terminal, and how it will write to it."""
    columns, rows = shutil.get_terminal_size((0, 0))
    return {
        "term": environ.get("TERM", ""),
        "program": environ.get("TERM_PROGRAM", ""),
        "colors": colors(environ),
        "interactive": sys.stdin is not None and sys.stdin.isatty(),
        "columns": columns,
        "rows": rows,
        "multiplexer": "tmux" if environ.get("TMUX") else "screen" if environ.get("STY") else "",
        "ssh": bool(environ.get("SSH_CONNECTION")),
        "encoding": getattr(sys.stdout, "encoding", "") or "",
        "output": "lean" if _lean_fits() and is_lean(settings.appearance, environ) else "stock",
        "copies_by": [*(group[0][0] for group in clipboard.ways(environ) if group)]
        or ["OSC 52" if clipboard.takes_osc52(environ) else "a file"],
    }


def colors(environ: Mapping[str, str]) -> int:
    """Return how many colors the chat can use here; 0 for none."""
    term = environ.get("TERM", "dumb")
    if environ.get("NO_COLOR") or term in ("", "dumb", "unknown"):
        return 0
    if environ.get("COLORTERM", "").lower() in ("truecolor", "24bit") or term.startswith(TRUECOLOR):
        return 1 << 24
    return 256 if "256" in term else 16


def advice(settings: Settings, environ: Mapping[str, str]) -> Iterator[str]:
    """Yield advice on the settings and the terminal."""
    models = settings.models
    if models.main == "starter":
        yield "The models are the built-in demo: `outrider --main big.gguf --draft small.gguf` uses your own."
    elif models.draft != AUTO and not drafts_with_model(models.draft):
        yield f"No draft model is set: {_GOOD_DRAFT} (--draft, or models.draft in config.toml)."
    elif settings.generation.draft_length == 0:
        yield "Drafting is off: generation.draft_length is 0."
    if is_lean(settings.appearance, environ) and not _lean_fits():
        yield f"Textual {_version('textual')} is not the one that the lean output knows: more bytes are sent."
    if 0 < colors(environ) <= 256:
        yield "If this terminal has 24-bit color, COLORTERM=truecolor says so; the themes look right then."


def _lean_fits() -> bool:
    from ..terminal.lean import fits  # Textual, which takes time to import

    return fits()


def report(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the findings as clean lines."""
    yield from _lines(_sections(found))
    tips = [*(f"{problem} (config)" for problem in found["problems"]), *found["advice"]]
    yield "What would help" if tips else "Nothing to improve."
    for tip in tips:
        yield from textwrap.wrap(
            clean_line(tip, 500), _WIDTH, initial_indent="  - ", subsequent_indent="    "
        )


def _lines(sections: Iterable[tuple[str, dict[str, str]]]) -> Iterator[str]:
    for title, facts in sections:
        yield title
        width = max(map(len, facts), default=0)
        yield from (
            f"  {clean_line(name):{width}}  {clean_line(value, 500)}" for name, value in facts.items()
        )
        yield ""


def _sections_of_workers(found: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, str]]]:
    if workers := found.get("workers"):
        yield "Workers", {name: worker_line(facts) for name, facts in workers.items()}


def _sections(found: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, str]]]:
    yield "Machine", _machine(found["hardware"])
    yield "Engine", _engine(found["hardware"])
    yield from _sections_of_workers(found)
    yield "Models that the next start loads", {key: value or "none" for key, value in found["models"].items()}
    files = dict(found["files"])
    if not files.pop("config_exists"):
        files["config"] += " (none to read: the defaults are used)"
    files["caches"] = _saved(files.pop("states"), files.pop("states_count"), files.pop("states_size"))
    yield "Files", files
    yield "Terminal", _terminal(found["terminal"])
    packages = found["packages"]
    versions = ", ".join(f"{name} {version or 'missing'}" for name, version in packages.items())
    yield "Program", {"python": found["python"], "packages": versions}


def _saved(folder: str, count: int, total: int) -> str:
    """Return the size of the saved caches of chats, their folder, and the remedy."""
    if not count:
        return f"{folder} (no cache of a chat is saved)"
    caches = f"{count:,} saved cache{'s' * (count != 1)}, {size(total)}"
    return f"{folder} ({caches}; `outrider doctor --forget` removes them, and the chats stay)"


def _states(folder: Path) -> dict[Path, int]:
    """Return the bytes of each file with a saved cache of a chat, unfinished ones included."""
    found = {}
    with suppress(OSError):
        for path in folder.iterdir():
            if path.suffix in (".state", ".part"):
                found[path] = path.lstat().st_size
    return found


def forget_states(folder: Path) -> None:
    """Remove the saved caches of chats."""
    for path in _states(folder):
        with suppress(OSError):
            path.unlink()


def _machine(machine: Mapping[str, Any]) -> dict[str, str]:
    if "error" in machine:
        return {"unknown": str(machine["error"])}
    cores, usable = machine.get("cores", "?"), machine.get("usable_cores", "?")
    gpus = [f"{gpu.get('name', 'unknown')}{_memory(gpu.get('memory'))}" for gpu in machine.get("gpus", ())]
    return {
        "system": str(machine.get("system", "unknown")),
        "processor": f"{machine.get('cpu', 'unknown')}, {usable} of {cores} cores",
        "features": " ".join(machine.get("features", ())) or "unknown",
        "memory": _memory(machine.get("memory")).strip(", ") or "unknown",
        "free": _memory(machine.get("memory_available")).strip(", ") or "unknown",
        "GPU": "; ".join(gpus) or "none found",
    }


def _engine(machine: Mapping[str, Any]) -> dict[str, str]:
    library = machine.get("llama_cpp") or {}
    state = library.get("error") or ", ".join(library.get("devices", ())) or "CPU only"
    versions = dict(machine.get("packages") or {})
    if not versions.get("mlx-lm") and not str(machine.get("system")).startswith("macOS"):
        versions.pop("mlx-lm", None)  # cannot be installed here
    mlx = _mlx(machine.get("mlx") or {})
    return {
        "backend": f"{machine.get('backend') or 'none'}: {machine.get('why', 'unknown')}",
        "runs on": str(machine.get("device") or "nothing"),
        "llama.cpp": f"llama-cpp-python {library.get('version') or 'missing'}, {state}",
        "built with": str(library.get("features") or "unknown").replace(" = 1", "").strip(" |"),
        **({"MLX": mlx} if mlx else {}),
        "packages": ", ".join(f"{name} {version or 'missing'}" for name, version in versions.items()),
    }


def _mlx(library: Mapping[str, Any]) -> str:
    """Return a line about MLX; empty if it is not installed."""
    if not library.get("version"):
        return ""
    where = str(library.get("error") or library.get("device") or "unknown")
    unified, most = _memory(library.get("memory")), _memory(library.get("working_set"))
    if unified:
        where += f"{unified} shared{most and f', at most{most[1:]} for models'}"
    elif not library.get("error"):
        where += ", experimental" if library.get("gpu") else ", no GPU: only to try it"
    return f"mlx-lm {library['version']}, {where}"


def _terminal(facts: Mapping[str, Any]) -> dict[str, str]:
    number = {0: "none", 1 << 24: "24-bit"}.get(facts["colors"], str(facts["colors"]))
    around = [facts["program"], facts["multiplexer"], "over ssh" if facts["ssh"] else ""]
    cells = f"{facts['columns']} x {facts['rows']}" if facts["columns"] else "unknown"
    return {
        "kind": ", ".join(filter(None, [facts["term"] or "none", *around])),
        "colors": number,
        "size": cells if facts["interactive"] else f"{cells} (this is no terminal)",
        "encoding": facts["encoding"] or "unknown",
        "output": f"{facts['output']} ({OUTPUTS[facts['output']]})",
        "copies by": ", ".join(facts["copies_by"]),
    }


def _memory(count: object) -> str:
    return f", {size(count)}" if isinstance(count, int) and count else ""


def _strings(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
