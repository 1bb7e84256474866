"""A process that asks the hub: `python -m tui.engine.downloader`, our only process with network access.

It reads one question as a line of the protocol and answers like an engine. The app starts it here; on another
machine the engine starts it and passes the answers on. It ends with its standard input, so it cannot outlive
its parent. It is a separate process because its libraries would burden an engine, and because a kill always
stops it.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from time import monotonic, sleep
from types import MappingProxyType

from .. import protocol
from ..paths import find_models
from .library.describe import has_own_head
from .library.fetch import Unwanted, fetch, wait
from .library.hub import listing, places_for, search
from .library.hub_access import LONGEST_WAIT, HubError, TryLater, patient
from .library.hub_inside import has_head_inside
from .machine.hardware import all_memory
from .sentences import failure

COMMAND = (sys.executable, "-m", "tui.engine.downloader")
_STEP = 0.25
"""Seconds between two reports of progress."""
_POLL = 0.1
_AT_ONCE = 10.0
"""Seconds that a search or a list waits for the hub at most, because somebody is watching the screen."""
NOTHING: Mapping[str, str] = MappingProxyType({})
_UNTOLD = {"HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}
"""Variables that stop huggingface_hub from telling the hub which programs run here."""


def relay(
    question: protocol.HubQuestion,
    wanted: Callable[[], bool],
    command: tuple[str, ...] = COMMAND,
    settings: Mapping[str, str] = NOTHING,
) -> Iterator[protocol.Event]:
    """Yield a downloader's answers to `question` as long as they are wanted. Runs in the engine.

    `settings` are variables for the downloader alone.
    """
    environment = {**os.environ, **settings}
    environment.pop("HF_HUB_OFFLINE", None)  # set for the engine itself
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            child.stdin.write(protocol.encode(question))
            child.stdin.flush()
            for line in _lines(child.stdout.fileno(), wanted):
                event = protocol.decode_event(line)
                yield event
                if not isinstance(event, protocol.Downloading):
                    return
            if wanted():
                hint = "Try again: the download continues from here."
                yield protocol.Failed(question.id, "The download's process died.", hint)
        finally:
            child.send_signal(signal.SIGKILL)


def _lines(descriptor: int, wanted: Callable[[], bool]) -> Iterator[bytes]:
    lines = protocol.Lines()
    while wanted():
        if not select.select([descriptor], [], [], _POLL)[0]:
            continue
        data = os.read(descriptor, 1 << 16)
        if not data:
            return
        yield from lines.feed(data)


def main() -> None:
    """Answer the question on standard input."""
    os.environ.update(_UNTOLD)  # read at the import of huggingface_hub
    question = protocol.decode_command(sys.stdin.buffer.readline())
    assert isinstance(question, protocol.HubQuestion)
    threading.Thread(target=_end_with_input, daemon=True).start()
    answer(question, find_models(), _send)


def _send(event: protocol.Event) -> None:
    sys.stdout.buffer.write(protocol.encode(event))
    sys.stdout.buffer.flush()


def _end_with_input() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


def answer(
    question: protocol.HubQuestion,
    root: Path,
    send: Callable[[protocol.Event], None],
    wanted: Callable[[], bool] = lambda: True,
    pause: Callable[[float], None] = sleep,
) -> None:
    """Answer `question`. Downloads go below `root`. Every failure becomes a `Failed`."""

    def soon(later: TryLater) -> None:
        wait(later, wanted, pause)

    try:
        match question:
            case protocol.SearchHub():
                hits = patient(lambda: search(question.words), soon, _AT_ONCE)
                send(protocol.HubFound(question.id, hits))
            case protocol.ListHub():
                found = patient(lambda: listing(question.repository), soon, _AT_ONCE)
                facts = found.repository, found.choices(), found.license, all_memory(), found.note
                send(protocol.HubListed(question.id, *facts))
            case protocol.LookInside():
                inside = patient(lambda: has_head_inside(question.repository, question.file), soon, _AT_ONCE)
                send(protocol.HubInside(question.id, inside))
            case protocol.Download():
                _download(question, root, send, wanted, pause)
    except HubError as error:
        send(failure(question.id, error))
    except Unwanted:
        return


def _download(
    question: protocol.Download,
    root: Path,
    send: Callable[[protocol.Event], None],
    wanted: Callable[[], bool],
    pause: Callable[[float], None],
) -> None:
    name, before, here, total, said = question.file, 0, 0, 0, -_STEP

    def report(reason: str = "") -> None:
        send(protocol.Downloading(question.id, name, before + here, total, reason))

    def progress(done: int) -> None:
        nonlocal said, here
        here = done
        if monotonic() >= said + _STEP:
            said = monotonic()
            report()

    found = patient(
        lambda: listing(question.repository), lambda later: wait(later, wanted, pause, report), LONGEST_WAIT
    )
    name = found.named(question.file)
    files = found.parts(name)
    targets = places_for(root, question.repository, files)
    total = sum(file.size for file in files)
    for file, target in zip(files, targets, strict=True):
        here = 0
        fetch(file, target, root, progress, wanted, pause, report)
        before += file.size
    path = targets[-1].parent if name == "" else targets[-1]
    inside = has_own_head(path)
    head = found.head_beside(name, inside=inside)
    send(protocol.Downloaded(question.id, str(path), total, head, inside))


if __name__ == "__main__":
    main()
