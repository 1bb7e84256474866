"""`outrider pull`: the real command, beside a real engine and a hub on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.head_models import write_headed
from tests.support.hub import Hub, hub
from tests.support.models import Toy, write_model
from tui.choices import HEAD, OWN_HEAD
from tui.commands.pull import proposed_text
from tui.protocol import HubPair

REPOSITORY = "maker/Toy-GGUF"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    folder = tmp_path_factory.mktemp("toys")
    main = write_model(folder / "main.gguf", Toy(layers=6, width=128, name="Toy main")).read_bytes()
    draft = write_model(folder / "draft.gguf", Toy(layers=1, width=32, name="Toy draft")).read_bytes()
    with hub() as running:
        running.repositories = {
            REPOSITORY: {"Toy-Q4_K_M.gguf": main, "Toy-Q8_0.gguf": main + b"0"},
            "maker/Small-GGUF": {"Small-Q4_K_M.gguf": draft},
            "maker/Closed-GGUF": {"Closed-Q4_K_M.gguf": draft},
            "maker/Headed-GGUF": {"Headed-Q4_K_M.gguf": main, "mtp-Headed.gguf": draft},
            "maker/Inside-GGUF": {"Inside.gguf": write_headed(folder / "inside.gguf").read_bytes()},
        }
        running.gated = {"maker/Closed-GGUF"}
        yield running


def environment(home: Path, server: Hub, **more: str) -> dict[str, str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environ |= {"HOME": str(home), "HF_ENDPOINT": server.url, **more}
    return environ | {f"XDG_{name}_HOME": str(home / name) for name in ("CONFIG", "CACHE", "STATE", "DATA")}


def outrider(home: Path, server: Hub, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tui", *words]
    environ = environment(home, server, **more)
    return subprocess.run(command, capture_output=True, text=True, env=environ, check=False, timeout=60)


def test_what_was_pulled_is_in_the_list_and_pairs(tmp_path: Path, server: Hub) -> None:
    done = outrider(tmp_path, server, "pull", f"{REPOSITORY}:q4_k_m", "maker/Small-GGUF")
    assert done.returncode == 0
    main, draft = map(Path, done.stdout.splitlines())
    assert main.read_bytes() == server.repositories[REPOSITORY]["Toy-Q4_K_M.gguf"]
    assert draft.name == "Small-Q4_K_M.gguf"
    lines = outrider(tmp_path, server, "models").stdout.splitlines()
    assert any(line.startswith("Toy F32") and line.endswith("Outrider") for line in lines), lines
    lines = outrider(tmp_path, server, "models", "toy f32").stdout.splitlines()
    assert lines[1].startswith("Small F32"), lines
    assert "recommended" in lines[1]


def test_a_list_says_what_to_type(tmp_path: Path, server: Hub) -> None:
    lines = outrider(tmp_path, server, "pull", "--list", REPOSITORY).stdout.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [
        [f"{REPOSITORY}:Toy-Q4_K_M.gguf", "Q4_K_M"],
        [f"{REPOSITORY}:Toy-Q8_0.gguf", "Q8_0"],
    ]


def test_a_list_says_why_there_is_nothing_to_type(tmp_path: Path, server: Hub) -> None:
    server.repositories["maker/Old-GGUF"] = {"m.Q8_0.gguf-split-a": b"x", "m.Q8_0.gguf-split-b": b"x"}
    said = outrider(tmp_path, server, "pull", "--list", "maker/Old-GGUF").stdout
    assert "no GGUF file and no MLX folder" in said
    assert "split in an old way, which no program opens: m.Q8_0.gguf" in said


def test_without_a_name_pairs_are_proposed(tmp_path: Path, server: Hub) -> None:
    done = outrider(tmp_path, server, "pull")
    assert done.returncode == 0
    assert "outrider pull bartowski/" in done.stdout


def test_a_proposed_pair_says_where_its_head_is_and_names_only_what_has_a_file() -> None:
    own = HubPair("Own 9B", "a/own:Q4_K_M", HEAD, 6 * 10**9, head=True)
    beside = HubPair("Beside 5B", "a/two:Q4_K_M", "a/two:mtp-two.gguf", 10**9, 2.0, head=True)
    small = HubPair("Small 3B", "a/three:Q4_K_M", "a/draft:Q4_K_M", 10**9)
    text = [*proposed_text((own, beside, small))]
    assert text[text.index("Own 9B, 6.0 GB, with its own head") + 1] == "  outrider pull a/own:Q4_K_M"
    slow = "Beside 5B, 1.0 GB, with its head in a second file, slow here: at most 2.0 tok/s"
    assert text[text.index(slow) + 1] == "  outrider pull a/two:Q4_K_M a/two:mtp-two.gguf"
    assert text[text.index("Small 3B, 1.0 GB") + 1] == "  outrider pull a/three:Q4_K_M a/draft:Q4_K_M"
    assert "the default draft (auto) takes the head" in text[-3]
    assert not any("head" in line for line in proposed_text((small,)))


def test_a_head_is_offered_unless_the_same_command_pulls_it(tmp_path: Path, server: Hub) -> None:
    main, head = "maker/Headed-GGUF:Q4_K_M", "maker/Headed-GGUF:mtp-Headed.gguf"
    alone = outrider(tmp_path, server, "pull", main)
    assert f"outrider pull {head}" in alone.stderr
    both = outrider(tmp_path, server, "pull", main, head)
    assert [Path(line).name for line in both.stdout.splitlines()] == ["Headed-Q4_K_M.gguf", "mtp-Headed.gguf"]
    assert both.stderr == ""


def test_a_head_inside_needs_no_other_file(tmp_path: Path, server: Hub) -> None:
    assert outrider(tmp_path, server, "pull", "maker/Inside-GGUF").stderr == f"{OWN_HEAD}.\n"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("maker/Closed-GGUF", "hf auth login"),
        ("maker/None-GGUF", "The hub has no maker/None-GGUF"),
        (f"{REPOSITORY}:Q2", "Toy-Q4_K_M.gguf"),
        ("../../etc", "owner/model"),
        ("", "owner/model"),
    ],
)
def test_what_cannot_be_fetched_is_one_line(tmp_path: Path, server: Hub, name: str, said: str) -> None:
    done = outrider(tmp_path, server, "pull", name)
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert said in line
    assert not list(tmp_path.rglob("*.gguf"))


# A token, and who gets it


@pytest.fixture
def private(server: Hub) -> Iterator[None]:
    server.private = {"maker/Small-GGUF": "hf_canary"}
    server.asked = []
    yield
    server.private, server.policy = {}, 0.0


def test_what_is_set_for_the_hub_reaches_it(tmp_path: Path, server: Hub, private: None) -> None:
    (tmp_path / "token").write_text("hf_canary\n")
    for number, settings in enumerate(
        (
            {"HF_TOKEN": "hf_canary"},
            {"HUGGING_FACE_HUB_TOKEN": "hf_canary"},
            {"HF_TOKEN_PATH": str(tmp_path / "token")},
        )
    ):
        done = outrider(tmp_path / str(number), server, "pull", "maker/Small-GGUF", **settings)
        assert (done.returncode, done.stderr) == (0, ""), settings
    hidden = outrider(
        tmp_path / "hidden", server, "pull", "maker/Small-GGUF",
        HF_TOKEN="hf_canary", HF_HUB_DISABLE_IMPLICIT_TOKEN="1",
    )  # fmt: skip
    assert "The hub has no maker/Small-GGUF" in hidden.stderr
    offline = outrider(tmp_path / "offline", server, "pull", "maker/Small-GGUF", HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE is set" in offline.stderr


def test_the_hub_is_told_and_asked_nothing_else(tmp_path: Path, server: Hub, private: None) -> None:
    assert outrider(tmp_path, server, "pull", "maker/Small-GGUF", HF_TOKEN="hf_canary").returncode == 0
    paths = {path.partition("/resolve/")[0] for path, _ in server.asked}
    assert paths == {"/api/models/maker/Small-GGUF", "/maker/Small-GGUF"}
    agents = {headers["user-agent"] for _, headers in server.asked}
    assert not any(word in each for each in agents for word in ("agent/", "torch/")), agents


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="reads /proc")
def test_of_all_processes_only_the_downloader_gets_the_token(
    tmp_path: Path, server: Hub, private: None
) -> None:
    server.policy, server.sent = 0.2, 0
    environ = environment(tmp_path, server, HF_TOKEN="hf_canary")
    command = [sys.executable, "-m", "tui", "pull", "maker/Small-GGUF"]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE) as pull:
        deadline = time.monotonic() + 30
        while not server.sent and time.monotonic() < deadline:
            time.sleep(0.01)
        seen = started_with(f"XDG_DATA_HOME={tmp_path / 'DATA'}")
        pull.kill()
    assert {name for name, environ in seen.items() if b"hf_canary" in environ} == {"pull", "downloader"}
    assert {"engine", "downloader", "pull"} <= seen.keys()


def started_with(variable: str) -> dict[str, bytes]:
    """The processes that have it in their environment, by the last words of their commands."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environ = (process / "environ").read_bytes()
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:  # it ended meanwhile
            continue
        if variable.encode() in environ.split(b"\0"):
            names = ("pull", "tui.engine.downloader", "engine")
            found[next((each for each in names if each.encode() in words), str(words))] = environ
    return {name.rpartition(".")[2]: environ for name, environ in found.items()}
