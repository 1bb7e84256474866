"""The link to a worker: versions first, then messages; each way to lose it is one sentence, and soon."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

import pytest
from msgspec.structs import replace

from tests.support.workers import fake_ssh
from tui.engine.machine import worker_link
from tui.engine.machine.worker_link import WorkerLink, WorkerLost
from tui.engine.machine.worker_messages import Greeting
from tui.engine.machine.worker_pool import MissedWorker, ReachedWorker, WorkerPool
from tui.host import Host
from tui.protocol import WorkerHost

OURS = Greeting("0.1.0", "1.2.3", "7.0")
ANSWER = """
for message in heard:
    if message["type"] == "probe":
        say({"type": "alive", "number": message["number"]})
    elif message["type"] == "survey":
        say({"type": "surveyed", "build": "b", "devices": [{"name": "CPU", "free": 5, "total": 9}]})
"""
SOON = 8.0
"""Seconds: less than any patience of the product, and enough on a busy machine."""


@dataclass
class Links:
    """Makes links to programs in place of workers."""

    folder: Path
    patch: pytest.MonkeyPatch
    made: list[WorkerLink] = field(default_factory=list)
    lost: Event = field(default_factory=Event)

    def __call__(self, program: str, ours: Greeting = OURS) -> WorkerLink:
        path = fake_ssh(self.folder / f"ssh{len(self.made)}", program)
        self.patch.setenv("PATH", f"{path}:{os.environ['PATH']}")
        self.made.append(link := WorkerLink(Host("gpu2", "gpu2"), ours, lambda _: self.lost.set()))
        return link


@pytest.fixture
def link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Links]:
    links = Links(tmp_path, monkeypatch)
    yield links
    for each in links.made:
        each.close()


def test_a_worker_that_fits_reports_its_devices_and_its_round_trip(link: Links) -> None:
    worker = link(f"say('Welcome to gpu2!')\nsay('{{\"type\": 1}}')\nsay(hello)\n{ANSWER}")
    worker.start()
    found = worker.survey()
    assert [(each.name, each.free, each.total) for each in found.devices] == [("CPU", 5, 9)]
    assert worker.round_trip is not None and 0 < worker.round_trip < SOON
    assert worker.loss is None


@pytest.mark.parametrize(
    ("theirs", "line"),
    [
        ({"outrider": "0.0.9"}, "gpu2 has Outrider 0.0.9, and this machine 0.1.0"),
        ({"llama_cpp": "1.2.4"}, "gpu2 has llama-cpp-python 1.2.4, and this machine 1.2.3"),
        ({"rpc": "6.0"}, "gpu2 has the RPC of llama.cpp in version 6.0, and this machine 7.0"),
        ({"rpc": ""}, "The llama.cpp on gpu2 was built without RPC"),
        ({"llama_cpp": "", "rpc": ""}, "llama.cpp is not installed on gpu2"),
        ({"messages": 1}, "gpu2 has messages of version 1, and this machine 2"),
    ],
)
def test_another_version_is_named_and_is_sent_nothing(
    link: Links, tmp_path: Path, theirs: dict[str, object], line: str
) -> None:
    heard = tmp_path / "heard"
    note = f"while data := os.read(0, 99): open({str(heard)!r}, 'ab').write(data)"
    worker = link(f"say({{**hello, **{theirs!r}}})\n{note}")
    with pytest.raises(WorkerLost, match=line.replace(".", r"\.")) as raised:
        worker.start()
    assert raised.value.hint and "\n" not in raised.value.line
    ends(worker)
    assert not heard.exists()


def test_a_library_without_rpc_here_is_said_before_anything_is_sent(link: Links) -> None:
    worker = link("say(hello)\ntime.sleep(600)", replace(OURS, rpc=""))
    with pytest.raises(WorkerLost, match=r"The llama\.cpp here was built without RPC"):
        worker.start()


@pytest.mark.parametrize(
    ("program", "line"),
    [
        ("os.write(2, b'me@gpu2: Permission denied (publickey).\\n'); os._exit(255)", "gpu2 lets nobody in"),
        ("os._exit(127)", "There is no Outrider on gpu2"),
        ("os.write(2, b'Traceback\\nImportError: no msgspec\\n'); os._exit(1)", "ImportError: no msgspec"),
        ("say('x' * 100_000); time.sleep(600)", "does not start"),
    ],
)  # fmt: skip
def test_a_worker_that_does_not_start_is_explained(link: Links, program: str, line: str) -> None:
    began = time.monotonic()
    with pytest.raises(WorkerLost, match=line) as raised:
        link(program).start()
    assert raised.value.hint
    assert time.monotonic() - began < worker_link.START


def test_a_silent_machine_is_given_up(link: Links, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_link, "START", 0.5)
    worker = link("time.sleep(600)")
    with pytest.raises(WorkerLost, match=r"gpu2 did not answer within 0\.5 seconds"):
        worker.start()
    ends(worker)


def test_a_worker_that_cannot_survey_says_why(link: Links) -> None:
    worker = link(f"say(hello)\n{ANSWER.replace('survey', 'nothing')}    else: "
                  "say({'type': 'unable', 'reason': 'OSError libcuda is missing'})")  # fmt: skip
    worker.start()
    with pytest.raises(WorkerLost, match="libcuda is missing"):
        worker.survey()


ENDS: dict[str, tuple[Callable[[WorkerLink], None], str]] = {
    "it ends": (lambda link: processes(link)[0].terminate(), "gpu2 is gone"),
    "it is killed": (lambda link: processes(link)[0].kill(), "gpu2 is gone"),
    "it stalls": (lambda link: processes(link)[0].send_signal(19), "gpu2 has not answered"),
}


@pytest.mark.parametrize("how", ENDS)
def test_the_loss_of_an_attached_worker_is_reported_once_and_leaves_no_process(
    link: Links, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(worker_link, "STALLED", 1.5)
    act, line = ENDS[how]
    worker = link(f"say(hello)\n{ANSWER}")
    worker.start()
    worker.survey()
    worker._attached = True
    act(worker)
    assert link.lost.wait(worker_link.START)
    assert worker.loss and line in worker.loss.message and "next prompt" in worker.loss.hint
    assert worker.lost_within(0)
    ends(worker)


def test_the_loss_of_a_worker_that_computes_nothing_ends_no_engine(link: Links) -> None:
    worker = link(f"say(hello)\n{ANSWER}")
    worker.start()
    worker.survey()
    processes(worker)[0].kill()
    assert worker.lost_within(SOON)
    ends(worker)
    assert not link.lost.is_set()


def processes(link: WorkerLink) -> list[subprocess.Popen[bytes]]:
    return [each for each in (link._ssh, *link._tunnels) if each]


def ends(link: WorkerLink) -> None:
    """No process of the link is left."""
    for process in processes(link):
        process.wait(SOON)


# Several at once


def test_workers_start_at_once_and_a_lost_one_again_at_the_next_wish(
    link: Links, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stand-in for ssh refuses gpu3 as long as a file is there."""
    closed = tmp_path / "closed"
    closed.touch()
    program = (
        f"if 'gpu3' in sys.argv and os.path.exists({str(closed)!r}): os._exit(127)\nsay(hello)\n{ANSWER}"
    )
    path = fake_ssh(tmp_path / "ssh", program)
    monkeypatch.setenv("PATH", f"{path}:{os.environ['PATH']}")
    pool = WorkerPool(lambda host, on_loss, library: WorkerLink(host, OURS, on_loss, library))
    hosts = [WorkerHost(name, name) for name in ("gpu2", "gpu3", "-x")]
    first = pool.reach(hosts)
    assert [type(each) for each in first] == [ReachedWorker, MissedWorker, MissedWorker]
    assert [each.name for each in first] == ["gpu2", "gpu3", "-x"]
    assert isinstance(first[1], MissedWorker) and "no Outrider on gpu3" in first[1].reason.message
    closed.unlink()
    assert pool.reach(hosts, again=False) == first, "a plan does not wait for it each time"
    second = pool.reach(hosts[:2])
    assert all(isinstance(each, ReachedWorker) for each in second)
    assert isinstance(first[0], ReachedWorker) and isinstance(second[0], ReachedWorker)
    assert second[0].link is first[0].link, "it runs already"
    pool.close()
    for each in second:
        assert isinstance(each, ReachedWorker)
        ends(each.link)
