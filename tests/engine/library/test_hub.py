"""Downloads: bit-exact or rejected, resumed where they were cut, and nothing outside of their folder."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args
from urllib.parse import quote

import gguf
import numpy as np
import pytest
from httpx2 import Headers

from tests.support.head_models import Headed, describe, weights_of, write_headed
from tests.support.hub import COMMIT, Fault, Hub, hub
from tests.support.models import Toy, add_vocabulary, finish
from tui.choices import HEAD
from tui.client import EngineClient, EngineError, running
from tui.client.child import engine_environment
from tui.engine.downloader import COMMAND, answer, relay
from tui.engine.library import fetch as fetch_module
from tui.engine.library.catalogue import USABLE, pairs_for
from tui.engine.library.fetch import Unwanted, fetch
from tui.engine.library.hub import (
    Listing,
    RemoteFile,
    is_harmless,
    listing,
    places_for,
    quantization_of,
    search,
)
from tui.engine.library.hub_access import HubError, seconds_to_wait
from tui.engine.library.hub_heads import with_heads
from tui.engine.machine import bandwidth
from tui.engine.server import taken_for_hub
from tui.protocol import (
    Download,
    Downloaded,
    Downloading,
    Event,
    Failed,
    HubFile,
    HubFound,
    HubInside,
    HubListed,
    ListHub,
    LookInside,
    PairsProposed,
    ProposePairs,
    SearchHub,
    decode_event,
    encode,
)

REPOSITORY = "maker/Model-GGUF"
NAME = "Model-Q4_K_M.gguf"
CONTENT = random.Random(1).randbytes(300_000)


@pytest.fixture(scope="module")
def server() -> Iterator[Hub]:
    with hub() as running:
        yield running


@pytest.fixture(autouse=True)
def quiet_hub(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    server.repositories = {REPOSITORY: {NAME: CONTENT, "README.md": b"x", "run.py": b"import os"}}
    server.faults, server.sent, server.asked, server.policy = [], 0, [], 0.0
    server.gated, server.lies = set(), {}
    server.private, server.rejected, server.busy = {}, {}, []
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    monkeypatch.setattr(fetch_module, "PATIENCE", 0.3)


def remote(server: Hub, name: str = NAME, content: bytes = CONTENT) -> RemoteFile:
    url = server.file_url(REPOSITORY, name)
    return RemoteFile(REPOSITORY, name, len(content), url, hashlib.sha256(content).hexdigest(), "")


def at_once(seconds: float) -> None:
    """No pause between two tries."""


# The bytes


def test_two_hundred_fault_scripts_end_bit_exact_or_rejected(server: Hub, tmp_path: Path) -> None:
    rng = random.Random(7)
    rejected = 0
    for script in range(200):
        server.faults = [(rng.choice(get_args(Fault)), rng.random()) for _ in range(rng.randint(1, 5))]
        target = tmp_path / str(script) / NAME
        faults = [fault for fault, _ in server.faults]
        try:
            fetch(remote(server), target, tmp_path, pause=at_once)
            assert target.read_bytes() == CONTENT, faults
        except HubError as error:
            rejected += 1
            assert not target.exists(), faults
            assert str(error), faults
            assert set(faults) & {"403", "404", "wrong"}, faults
        server.faults = []
        assert {each.name for each in target.parent.glob("*")} <= {NAME, *parts(target.parent)}
    assert 20 < rejected < 150


def parts(folder: Path) -> set[str]:
    return {each.name for each in folder.glob(".*.part")}


def test_what_only_breaks_off_is_never_fetched_again(server: Hub, tmp_path: Path) -> None:
    rng = random.Random(3)
    for script in range(20):
        server.sent = 0
        server.faults = [
            (rng.choice(("cut", "stall", "500", "429", "redirect", "drop")), rng.random()) for _ in range(5)
        ]
        target = tmp_path / str(script) / NAME
        fetch(remote(server), target, tmp_path, pause=at_once)
        assert target.read_bytes() == CONTENT
        assert server.sent <= 1.2 * len(CONTENT)


def test_a_hub_that_never_gives_anything_is_given_up(server: Hub, tmp_path: Path) -> None:
    server.faults = [("500", 0)] * 20
    with pytest.raises(HubError, match=r"the download of .* failed") as error:
        fetch(remote(server), tmp_path / NAME, tmp_path, pause=at_once)
    assert len(server.asked) == fetch_module.TRIES
    assert "the download continues" in error.value.hint


def test_wrong_bytes_are_thrown_away_and_the_next_try_is_whole(server: Hub, tmp_path: Path) -> None:
    server.faults = [("wrong", 0)]
    with pytest.raises(HubError, match="differs from the hub's file and was deleted"):
        fetch(remote(server), tmp_path / NAME, tmp_path, pause=at_once)
    assert list(tmp_path.iterdir()) == []
    fetch(remote(server), tmp_path / NAME, tmp_path, pause=at_once)
    assert (tmp_path / NAME).read_bytes() == CONTENT


def test_a_file_that_is_there_is_not_fetched_again(server: Hub, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(CONTENT)
    fetch(remote(server), tmp_path / NAME, tmp_path)
    assert server.asked == []
    (tmp_path / NAME).write_bytes(CONTENT[:-1] + b"x")  # damaged since
    fetch(remote(server), tmp_path / NAME, tmp_path)
    assert (tmp_path / NAME).read_bytes() == CONTENT


def test_a_part_longer_than_the_file_is_none(server: Hub, tmp_path: Path) -> None:
    file = remote(server)
    (tmp_path / f".{file.sha256[:24]}.part").write_bytes(b"x" * (len(CONTENT) + 1))
    fetch(file, tmp_path / NAME, tmp_path, pause=at_once)
    assert (tmp_path / NAME).read_bytes() == CONTENT


def test_a_small_file_is_held_against_gits_own_hash(server: Hub, tmp_path: Path) -> None:
    server.repositories[REPOSITORY]["config.json"] = b"{}"
    sha1 = hashlib.sha1(b"blob 2\0{}").hexdigest()
    file = RemoteFile(REPOSITORY, "config.json", 2, server.file_url(REPOSITORY, "config.json"), "", sha1)
    fetch(file, tmp_path / "config.json", tmp_path)
    assert (tmp_path / "config.json").read_bytes() == b"{}"
    with pytest.raises(HubError, match="differs from the hub's file and was deleted"):
        fetch(replace(file, sha1="0" * 40), tmp_path / "other.json", tmp_path)


def test_an_empty_file_is_one(server: Hub, tmp_path: Path) -> None:
    server.repositories[REPOSITORY]["e.json"] = b""
    fetch(remote(server, "e.json", b""), tmp_path / "e.json", tmp_path)
    assert (tmp_path / "e.json").read_bytes() == b""


def test_a_link_in_the_way_leads_nowhere(server: Hub, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    root = tmp_path / "models"
    root.mkdir()
    (root / "maker").symlink_to(outside)
    with pytest.raises(HubError, match="leads out"):
        fetch(remote(server), root / "maker" / "Model-GGUF" / NAME, root)
    (root / "maker").unlink()
    (root / f".{remote(server).sha256[:24]}.part").symlink_to(outside / "x")
    with pytest.raises(HubError, match="cannot be written"):
        fetch(remote(server), root / NAME, root)
    assert list(outside.rglob("*.gguf")) == []
    assert not (outside / "x").exists()


def test_a_full_disk_is_said_before_anything_is_fetched(
    server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = fetch_module.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(fetch_module.shutil, "disk_usage", lambda path: usage._replace(free=len(CONTENT)))
    with pytest.raises(HubError, match="the disk has no room"):
        fetch(remote(server), tmp_path / NAME, tmp_path)
    assert server.sent == 0


def test_a_disk_that_fills_keeps_what_came(server: Hub, tmp_path: Path) -> None:
    """/dev/full answers every write as a full disk does."""
    with Path("/dev/full").open("r+b", buffering=0) as full, pytest.raises(HubError, match="No space left"):
        fetch_module._write(full, b"x")


def test_two_do_not_fetch_the_same_file(server: Hub, tmp_path: Path) -> None:
    file = remote(server)
    with (
        fetch_module._locked(tmp_path / f".{file.sha256[:24]}.part"),
        pytest.raises(HubError, match="another Outrider"),
    ):
        fetch(file, tmp_path / NAME, tmp_path)


def test_what_is_not_wanted_any_more_stays_and_goes_on(server: Hub, tmp_path: Path) -> None:
    seen: list[int] = []
    with pytest.raises(Unwanted):
        fetch(remote(server), tmp_path / NAME, tmp_path, seen.append, lambda: not seen)
    assert not (tmp_path / NAME).exists()
    (part,) = parts(tmp_path)
    came = (tmp_path / part).stat().st_size
    assert 0 < came < len(CONTENT)
    fetch(remote(server), tmp_path / NAME, tmp_path)
    assert (tmp_path / NAME).read_bytes() == CONTENT
    # Not by what the server sent: some of the first try may still be on its way.
    assert server.asked[-1][1]["Range"] == f"bytes={came}-"


def test_progress_only_grows_and_ends_at_the_size(server: Hub, tmp_path: Path) -> None:
    seen: list[int] = []
    server.faults = [("cut", 0.5)]
    fetch(remote(server), tmp_path / NAME, tmp_path, seen.append, pause=at_once)
    assert seen == sorted(seen)
    assert seen[-1] == len(CONTENT)


# Names


def hostile(rng: random.Random) -> str:
    bad = (
        *(
            "..",
            "../",
            "/",
            "\\",
            "\x00",
            "\x1b]52;c;eA==\x07",
            "\n",
            "~",
            ".",
            " ",
            "C:",
            "\u202e",
            "*",
            "?",
        ),
        *("con", "a" * 300, "\ud800", "%2e%2e", "....//", "é", "e\u0301", "|", '"', ".hidden", "x.py"),
    )
    good = ("model", "Q4_K_M", "sub", "x", ".gguf", ".json", ".safetensors", "/")
    return "".join(rng.choice(bad if rng.random() < 0.5 else good) for _ in range(rng.randint(1, 7)))


def test_five_hundred_hostile_names_write_nothing_outside(server: Hub, tmp_path: Path) -> None:
    rng = random.Random(11)
    root = tmp_path / "models"
    root.mkdir()
    for _ in range(500):
        name = hostile(rng) + rng.choice(("", ".gguf", ".json"))
        server.repositories[REPOSITORY] = {}
        if is_harmless(name):
            (target,) = places_for(root, REPOSITORY, [remote(server, name, b"{}")])
            assert target.parent.resolve().is_relative_to(root)
            assert target.name.endswith((".gguf", ".json", ".safetensors")) or target.suffix.isupper()
            server.repositories[REPOSITORY] = {name: b"{}"}
            sha256 = hashlib.sha256(b"{}").hexdigest()
            url = server.file_url(REPOSITORY, quote(name))
            fetch(RemoteFile(REPOSITORY, name, 2, url, sha256, ""), target, root)
            assert target.read_bytes() == b"{}"
    everything = {each for each in tmp_path.rglob("*") if not each.is_relative_to(root)}
    assert everything == set()


@pytest.mark.parametrize(
    "name",
    [
        "",
        "..",
        "a/..",
        "../a/b",
        "/a/b",
        "a",
        "a/b/c",
        "a\\b",
        "a/b\n",
        "a/b\x00",
        "-/x",
        "a/.b",
        "~/x",
        "a/b..c",
    ],
)
def test_a_repository_that_is_none_is_rejected(name: str) -> None:
    with pytest.raises(HubError, match="not a repository name"):
        places_for(Path("/m"), name, [])


def test_code_is_never_offered(server: Hub) -> None:
    files = ("model.py", "pytorch_model.bin", "x.pkl", "x.pt", "setup.sh", "tokenizer.model", "a.gguf.py")
    server.repositories[REPOSITORY] |= dict.fromkeys(files, b"x")
    assert set(listing(REPOSITORY).files) == {NAME}


# What a repository has


def listed(*names: str) -> Listing:
    files = {name: RemoteFile(REPOSITORY, name, len(name), "", "0" * 64, "") for name in names}
    return Listing(REPOSITORY, files, "mit", False)


def test_parts_are_one_choice_and_the_first_comes_last() -> None:
    found = listed(
        "m-00001-of-00002.gguf", "m-00002-of-00002.gguf", "broken-00001-of-00002.gguf", "a-Q8_0.gguf"
    )
    assert [(each.name, each.parts) for each in found.choices()] == [
        ("a-Q8_0.gguf", 1),
        ("m-00001-of-00002.gguf", 2),
    ]
    assert [each.name for each in found.parts("m-00001-of-00002.gguf")] == [
        "m-00002-of-00002.gguf",
        "m-00001-of-00002.gguf",
    ]


def test_projectors_are_no_choice() -> None:
    assert [each.name for each in listed("mmproj-m-F16.gguf", "m-Q4_0.gguf").choices()] == ["m-Q4_0.gguf"]


def test_a_folder_for_mlx_is_one_choice_and_becomes_a_model_last() -> None:
    names = ("config.json", "tokenizer.json", "model.safetensors", "onnx/model.safetensors")
    found = listed(*names)
    assert [(each.name, each.backend, each.parts) for each in found.choices()] == [("", "mlx", 3)]
    assert [each.name for each in found.parts("")][-1] == "config.json"
    assert listed("model.safetensors", "config.json").choices() == ()


def test_of_a_folder_for_mlx_only_what_is_read_is_fetched_and_counted() -> None:
    read = ("chat_template.jinja", "config.json", "generation_config.json", "tokenizer.json",
            "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
            "model.safetensors.index.json", "mtp.safetensors")  # fmt: skip
    more = ("consolidated.safetensors", "adapters.safetensors", "params.json", "original/config.json",
            "consolidated.00.safetensors", "vocab.json", "mtp-adapter.safetensors")  # fmt: skip
    found = listed(*read, *more)
    (choice,) = found.choices()
    assert (choice.size, choice.parts) == (sum(map(len, read)), len(read))
    assert sorted(each.name for each in found.parts("")) == sorted(read)
    assert listed("config.json", "tokenizer.json", "consolidated.safetensors").choices() == ()


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        ("", "M-Q4_K_M.gguf"),
        ("Q8_0", "M-Q8_0.gguf"),
        ("q8_0", "M-Q8_0.gguf"),
        ("M-Q4_K_S", "M-Q4_K_S.gguf"),
        ("m-q4_k_s.gguf", "M-Q4_K_S.gguf"),
        ("f16", "M-f16.gguf"),
    ],
)
def test_a_file_is_named_as_people_do(wanted: str, name: str) -> None:
    found = listed("M-Q4_K_M.gguf", "M-Q4_K_S.gguf", "M-Q8_0.gguf", "M-f16.gguf")
    assert found.named(wanted) == name


def test_a_file_that_may_be_several_names_them() -> None:
    found = listed("M-Q4_K_M.gguf", "M-Q4_K_S.gguf", "M-Q8_0.gguf")
    with pytest.raises(HubError, match="may be several") as error:
        found.named("Q4_K")
    assert "M-Q4_K_M.gguf, M-Q4_K_S.gguf" in error.value.hint
    assert "Q8_0" not in error.value.hint
    with pytest.raises(HubError, match="there is no file 'Q2'"):
        found.named("Q2")
    with pytest.raises(HubError, match="no GGUF file and no MLX folder"):
        listed("README.json").named("")


@pytest.mark.parametrize(
    ("name", "quantization"),
    [
        ("Qwen2.5-7B-Instruct-Q4_K_M.gguf", "Q4_K_M"),
        ("qwen2.5-7b-instruct-q4_k_m-00001-of-00002.gguf", "Q4_K_M"),
        ("sub/Llama-3.2-1B-Instruct-f16.gguf", "F16"),
        ("gpt-oss-20b-mxfp4.gguf", "MXFP4"),
        ("m.IQ3_XXS.gguf", "IQ3_XXS"),
        ("Model-UD-Q4_K_XL.gguf", "UD-Q4_K_XL"),
        ("plain.gguf", ""),
    ],
)
def test_a_quantization_is_read_from_the_name(name: str, quantization: str) -> None:
    assert quantization_of(name) == quantization


def test_a_repository_is_listed_with_what_the_hub_says_of_it(server: Hub) -> None:
    found = listing(REPOSITORY)
    file = found.files[NAME]
    assert (file.size, file.sha256) == (len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
    assert COMMIT in file.url
    assert found.license == "mit"
    assert [each.quantization for each in found.choices()] == ["Q4_K_M"]


@pytest.mark.parametrize("lie", [{"size": -1}, {"size": "9"}, {"size": None}, {"sha256": "../../x"}])
def test_a_file_of_which_the_hub_says_nonsense_is_left_out(server: Hub, lie: dict[str, Any]) -> None:
    server.lies[NAME] = lie
    try:
        assert NAME not in listing(REPOSITORY).files
    except HubError as error:
        assert "cannot be understood" in str(error)


def test_names_that_fall_together_are_one(server: Hub) -> None:
    server.repositories[REPOSITORY] = {"A.gguf": b"1", "a.gguf": b"2"}
    assert len(listing(REPOSITORY).files) == 1


OLD = ("m.Q8_0.gguf-split-a", "m.Q8_0.gguf-split-b", "m.Q6_K.gguf.part1of2", "m.Q6_K.gguf.part2of2")


def test_models_that_are_split_in_the_old_way_are_named(server: Hub, tmp_path: Path) -> None:
    server.repositories[REPOSITORY] = dict.fromkeys(OLD, b"x")
    note = "split in an old way, which no program opens: m.Q6_K.gguf, m.Q8_0.gguf"
    (listed,) = said(ListHub(-1, REPOSITORY), tmp_path)
    assert isinstance(listed, HubListed)
    assert (listed.files, listed.note) == ((), note)
    (failed,) = said(Download(-1, REPOSITORY, "Q8_0"), tmp_path)
    assert isinstance(failed, Failed)
    assert note in failed.message
    assert not list(tmp_path.rglob("*.gguf*"))
    server.repositories[REPOSITORY]["m.Q4_K_M.gguf"] = b"x"
    found = listing(REPOSITORY)
    assert [each.name for each in found.choices()] == ["m.Q4_K_M.gguf"]
    with pytest.raises(HubError, match="there is no file 'Q6_K'; split in an old way"):
        found.named("Q6_K")
    with pytest.raises(HubError, match=r"there is no file 'Q5_0'$"):
        found.named("Q5_0")


def test_a_search_finds_what_runs_here(server: Hub) -> None:
    server.repositories["other/Thing-GGUF"] = {}
    server.gated = {"other/Thing-GGUF"}
    assert {each.name for each in search("")} == {REPOSITORY, "other/Thing-GGUF"}
    (found,) = search("thing")
    assert (found.gated, found.format) == (True, "GGUF")


def test_a_hub_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubError, match="cannot be reached: Connection refused") as error:
        search("x")
    assert error.value.hint == "Check the network."


def test_a_repository_that_does_not_exist_is_said_so() -> None:
    with pytest.raises(HubError, match="the hub has no no/such"):
        listing("no/such")


# A question and its answers


def said(question: Any, root: Path) -> list[Event]:
    events: list[Event] = []
    answer(question, root, events.append)
    return events


def test_a_gated_model_says_what_to_do(server: Hub, tmp_path: Path) -> None:
    server.gated = {REPOSITORY}
    (failed,) = said(Download(-1, REPOSITORY, ""), tmp_path)
    assert isinstance(failed, Failed)
    assert "is gated" in failed.message
    assert f"{server.url}/{REPOSITORY}" in failed.hint
    assert "hf auth login" in failed.hint


def test_a_download_ends_with_what_can_be_loaded(server: Hub, tmp_path: Path) -> None:
    *_, last = said(Download(-1, REPOSITORY, "q4_k_m"), tmp_path)
    path = tmp_path / "maker" / "Model-GGUF" / NAME
    assert last == Downloaded(-1, str(path), len(CONTENT))
    assert path.read_bytes() == CONTENT


def test_a_folder_ends_with_its_path(server: Hub, tmp_path: Path) -> None:
    files = {"config.json": b"{}", "tokenizer.json": b"[]", "model.safetensors": b"weights"}
    server.repositories[REPOSITORY] = files
    *_, last = said(Download(-1, REPOSITORY, ""), tmp_path)
    assert last == Downloaded(-1, str(tmp_path / "maker" / "Model-GGUF"), 11)
    assert {each.name for each in (tmp_path / "maker" / "Model-GGUF").iterdir()} == set(files)


def test_what_is_asked_of_the_hub_is_answered(tmp_path: Path) -> None:
    (found,) = said(SearchHub(-1, "model"), tmp_path)
    (list_,) = said(ListHub(-2, REPOSITORY), tmp_path)
    assert isinstance(found, HubFound)
    assert isinstance(list_, HubListed)
    assert [each.name for each in list_.files] == [NAME]
    assert list_.memory > 0


def answered(file: str, root: Path) -> bool:
    (inside,) = said(LookInside(-3, REPOSITORY, file), root)
    assert isinstance(inside, HubInside), inside
    return inside.head


def test_a_head_inside_is_told_by_the_header_alone(server: Hub, tmp_path: Path) -> None:
    """Not by a name, and not by a claim without the tensors."""
    made = {
        "plain-MTP.gguf": Headed(headless=True),
        "inside.gguf": Headed(),
        "wide-vocabulary.gguf": Headed(vocabulary=20_000),
        "claimed.gguf": Headed(without=("blk.4.nextn.eh_proj",)),
    }
    files = {name: write_headed(tmp_path / name, headed).read_bytes() for name, headed in made.items()}
    server.repositories[REPOSITORY] = files | {NAME: CONTENT, "short.gguf": b"GGUF.nextn_predict_layers"}
    found = {name for name in server.repositories[REPOSITORY] if answered(name, tmp_path)}
    assert found == {"inside.gguf", "wide-vocabulary.gguf"}
    assert not list((tmp_path / "maker").rglob("*")), "nothing is kept"


def test_a_head_inside_a_model_in_several_files_is_in_the_last(server: Hub, tmp_path: Path) -> None:
    headed, parts = Headed(), tmp_path / "parts"
    parts.mkdir()
    writer = gguf.GGUFWriter(parts / "m.gguf", headed.architecture, split_max_tensors=40)
    describe(writer, headed)
    add_vocabulary(writer, Toy(vocabulary=headed.vocabulary))
    for name, each in weights_of(headed).items():
        writer.add_tensor(name, np.ascontiguousarray(each, np.float32))
    finish(writer)
    files = {each.name: each.read_bytes() for each in sorted(parts.iterdir())}
    assert len(files) == 2
    server.repositories[REPOSITORY] = files
    assert answered(min(files), tmp_path)


def test_a_file_that_cannot_be_looked_into_is_an_error(server: Hub, tmp_path: Path) -> None:
    (failed,) = said(LookInside(-3, REPOSITORY, "none.gguf"), tmp_path)
    assert isinstance(failed, Failed) and "no usable file" in failed.message
    server.gated = {REPOSITORY}
    (failed,) = said(LookInside(-3, REPOSITORY, NAME), tmp_path)
    assert isinstance(failed, Failed) and "gated" in failed.message


def test_a_download_tells_whether_its_head_is_inside(server: Hub, tmp_path: Path) -> None:
    inside = write_headed(tmp_path / "inside.gguf").read_bytes()
    server.repositories[REPOSITORY] = {"inside.gguf": inside, "mtp-inside.gguf": b"x" * 9, NAME: CONTENT}
    for name, own in (("inside.gguf", True), (NAME, False)):
        *_, last = said(Download(-1, REPOSITORY, name), tmp_path)
        assert isinstance(last, Downloaded)
        assert (last.inside, last.head) == (own, "" if own else "mtp-inside.gguf")


def test_no_token_leaves_for_another_host(
    server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_canary")
    with hub() as other:
        other.repositories = server.repositories
        server.faults = [("redirect", 0)]
        monkeypatch.setattr(server, "file_url", lambda repository, name: other.file_url(repository, name))
        url = f"{server.url}/{REPOSITORY}/resolve/{COMMIT}/{NAME}"
        fetch(replace(remote(server), url=url), tmp_path / NAME, tmp_path)
        assert any("hf_canary" in str(headers) for _, headers in server.asked)
        assert not any("hf_canary" in str(headers) for _, headers in other.asked)


# A token, and what it is rejected for

STALE = (401, "", "Invalid credentials in Authorization header")
NARROW = (403, "GatedRepo", "Please enable access to public gated repositories in your token's settings.")


@pytest.mark.parametrize(
    "rejection", [STALE, NARROW, (401, "", ""), (401, "RepoNotFound", ""), (403, "", "")]
)
def test_a_token_that_is_rejected_hides_nothing_that_is_public(
    server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rejection: tuple[int, str, str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_old")
    server.rejected = {"hf_old": rejection}
    (found,) = said(SearchHub(-1, "model"), tmp_path)
    assert isinstance(found, HubFound)
    assert [each.name for each in found.repositories] == [REPOSITORY]
    *_, last = said(Download(-2, REPOSITORY, ""), tmp_path)
    assert isinstance(last, Downloaded)
    assert Path(last.path).read_bytes() == CONTENT


@pytest.mark.parametrize("name", ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"])
def test_a_token_that_is_rejected_is_said_where_it_is_needed(
    server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "hf_old")
    server.private = {REPOSITORY: "hf_new"}
    server.rejected = {"hf_old": STALE}
    (failed,) = said(ListHub(-1, REPOSITORY), tmp_path)
    assert isinstance(failed, Failed)
    assert failed.message == f"The hub rejects your token ({name}): {STALE[2]}."
    assert failed.hint == f"Give {name} a token that is valid, or unset it."
    assert "hf_old" not in f"{failed.message}{failed.hint}"


def test_a_token_without_a_permission_is_not_told_to_accept_terms(
    server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_narrow")
    server.rejected = {"hf_narrow": NARROW}
    server.gated = {REPOSITORY}
    with pytest.raises(HubError, match=r"rejects your token .* Please enable access to public gated"):
        fetch(remote(server), tmp_path / NAME, tmp_path, pause=at_once)


def test_a_gated_model_tells_the_owner_of_a_token_to_accept_its_terms(
    server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_sound")
    server.gated = {REPOSITORY}
    with pytest.raises(HubError, match="is gated") as error:
        fetch(remote(server), tmp_path / NAME, tmp_path, pause=at_once)
    assert error.value.hint.endswith(f"/{REPOSITORY}, as the owner of your token.")


def test_a_token_reads_what_is_private(server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.private = {REPOSITORY: "hf_mine"}
    with pytest.raises(HubError, match=f"the hub has no {REPOSITORY}") as error:
        listing(REPOSITORY)
    assert "hf auth login" in error.value.hint
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    *_, last = said(Download(-1, REPOSITORY, ""), tmp_path)
    assert isinstance(last, Downloaded)
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    with pytest.raises(HubError, match=f"the hub has no {REPOSITORY}") as error:
        listing(REPOSITORY)
    assert "a token that may read it" in error.value.hint


def test_what_is_no_token_is_not_sent_and_is_named_where_one_is_needed(
    server: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_ключ")
    assert listing(REPOSITORY).choices()
    server.private = {REPOSITORY: "hf_mine"}
    with pytest.raises(HubError) as error:
        listing(REPOSITORY)
    assert "The token of HF_TOKEN cannot be used" in error.value.hint
    assert "ключ" not in error.value.hint


def test_a_token_file_that_cannot_be_read_hides_nothing_that_is_public(
    server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path))  # a folder
    assert listing(REPOSITORY).choices()
    assert not any("authorization" in map(str.lower, headers) for _, headers in server.asked)


def test_a_search_that_is_rejected_speaks_of_no_repository(
    server: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.busy = [(404, {}), (403, {"X-Error-Message": "Your address is blocked."})]
    for what in ("error \\(404\\)", "rejects the search: Your address is blocked"):
        with pytest.raises(HubError, match=what) as error:
            search("some words")
        assert "some words" not in f"{error.value} {error.value.hint}"


def test_offline_is_said_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE is set"):
        search("x")


# A hub that asks to wait


class Clock:
    """Pauses that pass at once, added up."""

    def __init__(self) -> None:
        self.passed = 0.0

    def pause(self, seconds: float) -> None:
        self.passed += seconds


MINUTE = (429, {"Retry-After": "60"})


def test_a_download_waits_as_long_as_the_hub_asks_and_says_why(server: Hub, tmp_path: Path) -> None:
    clock = Clock()
    events: list[Event] = []
    server.busy = [MINUTE, MINUTE]
    answer(Download(-1, REPOSITORY, ""), tmp_path, events.append, pause=clock.pause)
    assert isinstance(events[-1], Downloaded)
    assert clock.passed == 120
    reasons = [event.reason for event in events if isinstance(event, Downloading)]
    assert reasons[0] == "the hub asks to wait 60 s: too many requests"
    assert "the hub asks to wait 1 s: too many requests" in reasons
    assert reasons[-1] == ""


def test_a_wait_in_the_middle_of_a_file_is_no_failure_and_goes_on_from_there(
    server: Hub, tmp_path: Path
) -> None:
    clock = Clock()
    reasons: list[str] = []

    bytes_came: list[int] = []

    def then_busy(done: int) -> None:
        if not bytes_came:
            server.busy = [(503, {"Retry-After": "7"})] * 9
        bytes_came.append(done)

    server.faults = [("cut", 0.5)]
    fetch(remote(server), tmp_path / NAME, tmp_path, then_busy, pause=clock.pause, report=reasons.append)
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert clock.passed == 9 * 7
    assert reasons[0] == "the hub asks to wait 7 s: it is busy"
    assert server.sent == len(CONTENT)


def test_a_hub_that_asks_to_wait_for_hours_is_given_up_with_its_word(server: Hub, tmp_path: Path) -> None:
    for busy in ([(429, {"Retry-After": "7200"})], [MINUTE] * 61):
        clock = Clock()
        server.busy = list(busy)
        with pytest.raises(HubError, match=r"asks to wait (2 h 0 min|60 s): too many") as error:
            fetch(remote(server), tmp_path / NAME, tmp_path, pause=clock.pause)
        assert error.value.hint == "Try again then."
        assert clock.passed <= 3600


def test_a_search_waits_for_seconds_and_names_minutes(server: Hub, tmp_path: Path) -> None:
    for question in (SearchHub(-1, ""), ListHub(-1, REPOSITORY)):
        clock = Clock()
        events: list[Event] = []
        server.busy = [(429, {"Retry-After": "3"})]
        answer(question, tmp_path, events.append, pause=clock.pause)
        assert isinstance(events[0], HubFound | HubListed)
        assert clock.passed == 3
        server.busy = [MINUTE]
        answer(question, tmp_path, events.append, pause=clock.pause)
        assert events[1] == Failed(-1, "The hub asks to wait 60 s: too many requests.", "Try again then.")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "12"}, 12),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:30 GMT", "Date": "Wed, 21 Oct 2015 07:28:00 GMT"}, 30),
        ({"RateLimit": '"api";r=0;t=55', "RateLimit-Policy": '"fixed window";"api";q=500;w=300'}, 55),
        ({"RateLimit": '"api";r=9;t=55'}, 0),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:30 GMT"}, 0),
        *(({"Retry-After": word}, 0) for word in ("", "0", "-5", "nan", "soon", "inf")),
        ({}, 0),
    ],
)
def test_when_to_ask_again_is_read_as_it_is_written(headers: dict[str, str], seconds: float) -> None:
    assert seconds_to_wait(SimpleNamespace(headers=Headers(headers))) == seconds


def test_a_wait_ends_when_nobody_wants_the_file(server: Hub, tmp_path: Path) -> None:
    server.busy = [MINUTE]
    asked_for = iter([True] * 8)
    with pytest.raises(Unwanted):
        fetch(remote(server), tmp_path / NAME, tmp_path, wanted=lambda: next(asked_for, False), pause=at_once)


# The process


def environment(tmp_path: Path, server: Hub) -> dict[str, str]:
    return engine_environment({**os.environ, "HF_ENDPOINT": server.url, "XDG_DATA_HOME": str(tmp_path)})


def test_an_engine_sees_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = engine_environment({"HF_TOKEN": "x", "HF_ENDPOINT": "y", "HTTPS_PROXY": "z", "https_proxy": "z"})
    assert "HF_TOKEN" not in kept
    assert {"HF_ENDPOINT", "HTTPS_PROXY", "https_proxy"} <= set(kept)


def test_an_engine_that_a_login_started_hands_a_token_to_downloaders_alone(
    server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On another machine nobody chooses what an engine sees."""
    server.private = {REPOSITORY: "hf_theirs"}
    environ = environment(tmp_path, server) | {"HF_TOKEN": "hf_theirs"}
    with subprocess.Popen(
        (sys.executable, "-m", "tui", "engine"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(encode(ListHub(-1, REPOSITORY)))
        child.stdin.flush()
        replies = (decode_event(line) for line in child.stdout)
        listed = next(each for each in replies if isinstance(each, HubListed | Failed))
        child.kill()
    assert isinstance(listed, HubListed)
    for name, value in {"HF_TOKEN": "x", "HF_HOME": "/h", "HF_HUB_OFFLINE": "0"}.items():
        monkeypatch.setenv(name, value)
    assert taken_for_hub()["HF_TOKEN"] == "x"
    left = {name: value for name, value in os.environ.items() if name.startswith("HF_")}
    assert left == {"HF_HOME": "/h", "HF_HUB_OFFLINE": "1", "HF_ENDPOINT": server.url}


def test_a_download_that_was_killed_goes_on(server: Hub, tmp_path: Path) -> None:
    content = random.Random(2).randbytes(6_000_000)
    server.repositories[REPOSITORY][NAME] = content
    server.policy = 0.01
    env = {name: value for name, value in environment(tmp_path, server).items() if name != "HF_HUB_OFFLINE"}
    for kills in range(4):
        with subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write(encode(Download(-1, REPOSITORY, "")))
            child.stdin.flush()
            if kills < 3:
                child.stdout.readline()
                time.sleep(0.15)
                child.kill()
                continue
            server.policy = 0.0
            last = json.loads(child.stdout.readlines()[-1])
    assert last["type"] == "downloaded"
    assert Path(last["path"]).read_bytes() == content
    assert server.sent <= 1.2 * len(content)


def test_a_downloader_ends_with_who_started_it(server: Hub, tmp_path: Path) -> None:
    server.policy = 1.0
    with subprocess.Popen(
        COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(tmp_path, server)
    ) as child:
        assert child.stdin is not None
        child.stdin.write(encode(Download(-1, REPOSITORY, "")))
        child.stdin.close()
        assert child.wait(5) == 0


def test_a_downloader_that_dies_is_said_so() -> None:
    dying = (sys.executable, "-c", "import sys; sys.stdin.readline()")
    (failed,) = relay(Download(-5, REPOSITORY, ""), lambda: True, dying)
    assert isinstance(failed, Failed)
    assert failed.id == -5


async def test_a_model_is_fetched_through_the_engine(server: Hub, tmp_path: Path) -> None:
    async with engine(tmp_path, server) as client:
        events = [event async for event in client.ask(Download(0, REPOSITORY, "Q4_K_M"))]
        assert isinstance(events[-1], Downloaded)
        assert all(isinstance(event, Downloading) for event in events[:-1])
        assert Path(events[-1].path).read_bytes() == CONTENT
        with pytest.raises(EngineError, match="The hub has no"):
            [event async for event in client.ask(ListHub(0, "no/such"))]
        (proposed,) = [event async for event in client.ask(ProposePairs(0))]
        assert isinstance(proposed, PairsProposed)


async def test_a_download_that_nobody_waits_for_stops_and_keeps_what_came(
    server: Hub, tmp_path: Path
) -> None:
    server.repositories[REPOSITORY][NAME] = random.Random(2).randbytes(3_000_000)
    server.policy = 0.05
    async with engine(tmp_path, server) as client:
        replies = client.ask(Download(0, REPOSITORY, ""))
        first = await anext(replies)
        await replies.aclose()  # type: ignore[attr-defined]
        await asyncio.sleep(0.5)
        sent = server.sent
        await asyncio.sleep(0.5)
        assert server.sent <= sent + (1 << 16)
        assert isinstance(first, Downloading)
        assert first.total == 3_000_000
        (part,) = tmp_path.rglob("*.part")
        assert 0 < part.stat().st_size < 3_000_000


def engine(tmp_path: Path, server: Hub) -> AbstractAsyncContextManager[EngineClient]:
    """Run an engine that asks the hub of the test."""
    command = (sys.executable, "-m", "tui", "engine")
    return running(EngineClient(command, tmp_path / "log", environment(tmp_path, server)))


# The catalogue


def test_a_pair_is_proposed_for_the_memory_that_is_there() -> None:
    assert [pair.name for pair in pairs_for(1 << 30)] == ["Qwen2.5 3B Q4_K_M"]
    large = pairs_for(128 << 30)
    assert [pair.size for pair in large] == sorted((pair.size for pair in large), reverse=True)
    for gigabytes in (8, 16, 24, 64):
        assert pairs_for(gigabytes * 10**9)[0].size <= USABLE * gigabytes * 10**9
    for pair in large:
        for name in pair.downloads:
            repository, _, file = name.partition(":")
            places_for(Path("/"), repository, ())
            assert is_harmless(file) or quantization_of(f"m-{file}.gguf") == file, name
            assert "Q4_K" in file or name == pair.draft


def test_a_pair_that_would_crawl_comes_after_those_that_do_not() -> None:
    on_two_cores = pairs_for(128 << 30, lambda size: 20e9 / size)
    fast = [pair for pair in on_two_cores if not pair.slow]
    assert fast == [*on_two_cores[: len(fast)]]
    assert fast[-1].name == "Qwen2.5 3B Q4_K_M"
    bounds = [pair.at_most or 0.0 for pair in on_two_cores[len(fast) :]]
    assert bounds == sorted(bounds, reverse=True)
    assert len(bounds) > 5
    assert [pair.name for pair in pairs_for(128 << 30, lambda size: 1e12 / size)] == [
        pair.name for pair in pairs_for(128 << 30)
    ]


def test_a_mixture_of_experts_reads_a_part_of_its_weights_for_a_token() -> None:
    bounds = {
        pair.name.partition(" ")[2]: pair.at_most for pair in pairs_for(128 << 30, lambda size: 20e9 / size)
    }
    experts, dense = bounds["35B-A3B MTP UD-Q4_K_M"], bounds["27B MTP Q4_K_M"]
    assert experts and dense and experts > 20e9 / 22.7e9 > dense * 0.5
    assert experts == pytest.approx(20e9 / (3 / 35 * 22.7e9), rel=0.02)
    assert dense == pytest.approx(20e9 / 17.1e9)
    assert all(pair.at_most is None for pair in pairs_for(128 << 30))


def test_a_pair_with_its_own_head_is_one_file_to_download() -> None:
    own = [pair for pair in pairs_for(128 << 30) if pair.draft == HEAD]
    assert len(own) >= 3
    for pair in own:
        assert pair.head
        assert pair.downloads == (pair.main,)


def test_a_head_in_a_file_of_its_own_is_named_and_looks_like_one() -> None:
    pairs = [pair for pair in pairs_for(128 << 30) if pair.draft != HEAD]
    for pair in pairs:
        assert pair.downloads == (pair.main, pair.draft)
        file = pair.draft.partition(":")[2]
        model = HubFile("Model-Q4_K_M.gguf", 100, 1, "llama.cpp", "Q4_K_M")
        _, draft = with_heads((model, HubFile(file, 1, 1, "llama.cpp", "")))[-2:]
        assert bool(draft.head) == pair.head, pair.draft
    assert {pair.head for pair in pairs} == {True, False}


def test_the_memory_bounds_what_a_gpu_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bandwidth.sys, "platform", "linux")
    monkeypatch.setattr(bandwidth, "memory_rate", lambda: 20e9)
    monkeypatch.setattr(bandwidth, "memory_bytes", lambda: (64 * 10**9, None))
    monkeypatch.setattr(bandwidth, "all_memory", lambda: 64 * 10**9)
    assert bandwidth.decoding_bound()(10 * 10**9) == 2
    monkeypatch.setattr(bandwidth, "all_memory", lambda: 84 * 10**9)
    assert bandwidth.decoding_bound()(15 * 10**9) is None
    assert bandwidth.decoding_bound()(25 * 10**9) == 2
    monkeypatch.setattr(bandwidth.sys, "platform", "darwin")
    assert bandwidth.decoding_bound()(25 * 10**9) is None


def test_the_memory_of_this_machine_has_a_rate() -> None:
    assert 10**8 < bandwidth.memory_rate() < 10**13
