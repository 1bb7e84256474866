"""The library: every model of every program is found, described and judged, and nothing hostile does harm."""

from __future__ import annotations

import json
import os
import random
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from tests.support.mlx_models import write_folder
from tests.support.models import OTHER_CONTROL, Toy, write_model
from tui.choices import HEAD, LOOKUP, NONE
from tui.engine.eligibility import no_room, vocabularies
from tui.engine.library import index as index_module
from tui.engine.library import local
from tui.engine.library.describe import LastVocabulary, describe, folder_tokens, tokens_of
from tui.engine.library.find import ModelFile, ModelFolder, candidate, find, known_places
from tui.engine.library.index import list_models
from tui.engine.library.local import Library
from tui.engine.library.names import LibraryError, resolve
from tui.engine.library.pairing import SMALLEST, Judge, best_draft
from tui.engine.library.records import SHORTEST, Measured, Records
from tui.engine.library_service import answer as answer_question
from tui.engine.session import Session
from tui.engine.starter import DRAFT, MAIN
from tui.engine.starter import HEAD as STARTER_HEAD
from tui.protocol import (
    DraftVerdict,
    Event,
    Failed,
    Finished,
    FoundModel,
    Load,
    Loaded,
    MemoryPlanned,
    PlanMemory,
    Reason,
    Skipped,
    Statistics,
)

DIGEST = "0123456789abcdef" * 4


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models of one vocabulary: small, middle, large; of another: other; with padding: padded."""
    folder = tmp_path_factory.mktemp("toys")
    write_model(folder / "small.gguf", Toy(layers=1, width=32, name="Small"))
    write_model(folder / "middle.gguf", Toy(layers=6, width=128, name="Middle"))
    write_model(folder / "large.gguf", Toy(layers=9, width=128, name="Large"))
    write_model(folder / "other.gguf", Toy(layers=1, width=32, name="Other", swapped=(300, 301)))
    write_model(folder / "padded.gguf", Toy(layers=1, width=32, name="Padded", padding=64))
    write_model(folder / "recurrent.gguf", Toy(architecture="mamba", width=32, layers=1, name="Recurrent"))
    return folder


def listed(places: list[ModelFolder], memory: Path) -> tuple[list[FoundModel], list[Skipped]]:
    """The list as it is in the end: a model may come again, under another name."""
    found = {each.path: each for each in list_models(places, memory)}.values()
    models = [each for each in found if isinstance(each, FoundModel)]
    return models, [each for each in found if isinstance(each, Skipped)]


def linked(target: Path, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    os.link(target, path)
    return path


def home_of_all(home: Path, toys: Path) -> list[ModelFolder]:
    """A home folder in which every program has a model."""
    small = toys / "small.gguf"
    places = known_places({"LLAMA_CACHE": str(home / "llama")}, home, home / "own", mac=False)

    def copy(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(small.read_bytes())

    copy(home / ".lmstudio" / "models" / "maker" / "repo" / "studio.gguf")
    copy(home / "llama" / "cached.gguf")
    copy(home / "own" / "maker" / "repo" / "fetched.gguf")
    repository = home / ".cache" / "huggingface" / "hub" / "models--maker--hub"
    copy(repository / "blobs" / DIGEST)
    revision = repository / "snapshots" / ("a" * 40)
    revision.mkdir(parents=True)
    (revision / "hub.gguf").symlink_to(Path("../../blobs") / DIGEST)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    ollama = home / ".ollama" / "models"
    copy(ollama / "blobs" / f"sha256-{DIGEST}")
    manifest = ollama / "manifests" / "registry.ollama.ai" / "library" / "tiny" / "1b"
    manifest.parent.mkdir(parents=True)
    layer = {"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{DIGEST}"}
    manifest.write_text(json.dumps({"layers": [{"mediaType": "text", "digest": "x"}, layer]}))
    return places


def test_a_model_of_every_program_is_found(tmp_path: Path, toys: Path) -> None:
    models, skipped = listed(home_of_all(tmp_path, toys), tmp_path / "index.json")
    assert {(model.source, model.name) for model in models} == {
        ("Outrider", "Small F32 (Outrider)"),
        ("LM Studio", "Small F32 (LM Studio)"),
        ("Hugging Face", "Small F32 (Hugging Face)"),
        ("Ollama", "tiny 1B F32"),
        ("llama.cpp", "Small F32 (llama.cpp)"),
    }
    assert not skipped


def test_the_environment_moves_the_places() -> None:
    environ = {"HF_HOME": "/hf", "OLLAMA_MODELS": "/o", "XDG_CACHE_HOME": "/c"}
    places = {place.source: place.path for place in known_places(environ, Path("/h"), Path("/d"), mac=False)}
    assert places["Hugging Face"] == Path("/hf/hub")
    assert places["Ollama"] == Path("/o")
    assert places["llama.cpp"] == Path("/c/llama.cpp")
    moved = known_places({"HF_HUB_CACHE": "/hub"}, Path("/h"), Path("/d"), mac=True)
    assert ModelFolder("Hugging Face", Path("/hub"), "hub") in moved
    assert ModelFolder("llama.cpp", Path("/h/Library/Caches/llama.cpp")) in moved


@pytest.mark.parametrize(
    ("kind", "closed"),
    [
        ("tree", "."),
        ("hub", "."),
        ("hub", "models--a--b/snapshots"),
        ("ollama", "manifests"),
        ("ollama", "manifests/registry.ollama.ai/library"),
        ("ollama", "manifests/registry.ollama.ai/library/m"),
        ("ollama", "manifests/registry.ollama.ai/library/m/latest"),
    ],
)
def test_a_place_that_cannot_be_read_is_said_whatever_program_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Any, closed: str
) -> None:
    """Root may read everything, so what the system would say is put in."""
    for name in ("models--a--b/snapshots/1", "manifests/registry.ollama.ai/library/m"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "manifests/registry.ollama.ai/library/m/latest").write_text("{}")
    kept = tmp_path / closed

    def denied(call: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(path: Any, *arguments: Any, **named: Any) -> Any:
            if Path(path) == kept:
                raise PermissionError(13, "Permission denied")
            return call(path, *arguments, **named)

        return guarded

    monkeypatch.setattr(Path, "iterdir", denied(Path.iterdir))
    monkeypatch.setattr(Path, "read_bytes", denied(Path.read_bytes))
    monkeypatch.setattr(os, "scandir", denied(os.scandir))
    (skipped,) = find([ModelFolder("x", tmp_path, kind)])
    assert isinstance(skipped, Skipped)
    assert "cannot be read: Permission denied" in skipped.reason
    assert Path(skipped.path) in (kept, kept.parent)


def test_a_place_that_is_not_there_is_no_news(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for kind in ("tree", "flat", "hub", "ollama"):
        for name in ("nothing", "file"):
            assert list(find([ModelFolder("x", tmp_path / name, kind)])) == []  # type: ignore[arg-type]


def test_folders_that_other_programs_were_told_of_are_looked_through(tmp_path: Path) -> None:
    home, units = tmp_path / "home", tmp_path / "units"
    (home / "elsewhere").mkdir(parents=True)
    (units / "ollama.service.d").mkdir(parents=True)

    def places() -> list[str]:
        return [str(each.path) for each in known_places({}, home, home / "own", mac=False, services=units)]

    plain = places()
    assert str(home / ".lmstudio" / "models") in plain
    (home / ".lmstudio-home-pointer").write_text(f"{home}/elsewhere\n")
    (home / "elsewhere" / "settings.json").write_text('{"downloadsFolder": "/disk/lm"}')
    (units / "ollama.service").write_text('[Service]\nEnvironment="PATH=/bin"\nExecStart=ollama serve\n')
    override = units / "ollama.service.d" / "override.conf"
    override.write_text('[Service]\nEnvironment="OLLAMA_HOST=::" "OLLAMA_MODELS=/disk/ollama"\n')
    assert set(places()) - set(plain) == {"/disk/lm", str(home / "elsewhere" / "models"), "/disk/ollama"}
    override.write_text('# Environment="OLLAMA_MODELS=/disk/old"\n')
    (home / "elsewhere" / "settings.json").write_text("[" * 9999)
    assert set(places()) - set(plain) == {str(home / "elsewhere" / "models")}


def test_pieces_of_the_old_kind_are_said_to_be_some(tmp_path: Path) -> None:
    for name in ("m.gguf-split-a", "m.gguf-split-b", "n.gguf.part1of2", "n.gguf.part2of2", "o.gguf.py"):
        (tmp_path / name).write_bytes(b"x")
    models, skipped = listed([ModelFolder("folder", tmp_path)], tmp_path / "index.json")
    assert models == []
    assert [Path(each.path).name for each in skipped] == ["m.gguf", "n.gguf"]
    assert "cat PIECES > m.gguf" in skipped[0].reason
    (tmp_path / "m.gguf").write_bytes(b"x")  # joined by now: no longer worth a word
    _, skipped = listed([ModelFolder("folder", tmp_path)], tmp_path / "index.json")
    assert ["old way" in each.reason for each in skipped if each.path.endswith("m.gguf")] == [False]


def test_a_folder_for_mlx_is_one_model(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "maker" / "model")
    (model,), skipped = listed([ModelFolder("folder", tmp_path)], tmp_path / "index.json")
    assert (model.path, model.backend, model.name) == (str(folder), "mlx", "model F32")
    assert model.parameters > 0
    assert model.fingerprint
    assert not skipped


def test_a_folder_for_mlx_is_as_large_as_what_is_read_of_it(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model")
    (before,), _ = listed([ModelFolder("folder", tmp_path)], tmp_path / "index.json")
    for name in ("consolidated.safetensors", "adapters.safetensors", "vocab.json"):
        (folder / name).write_bytes(bytes(1_000_000))
    (model,), skipped = listed([ModelFolder("folder", tmp_path)], tmp_path / "index.json")
    assert (model.size, skipped) == (before.size, [])


def test_a_model_in_parts_is_one_model(tmp_path: Path, toys: Path) -> None:
    """The sizes of all parts count; a part whose first is missing is no model."""
    for part in (1, 2):
        linked(toys / "small.gguf", tmp_path / f"whole-{part:05d}-of-00002.gguf")
    linked(toys / "small.gguf", tmp_path / "torn-00002-of-00002.gguf")
    found = list(find([ModelFolder("folder", tmp_path)]))
    whole = [each for each in found if isinstance(each, ModelFile)]
    assert [len(each.files) for each in whole] == [2]
    assert [Path(each.path).name for each in found if isinstance(each, Skipped)] == [
        "torn-00002-of-00002.gguf"
    ]


def test_links_that_lead_in_a_circle_end(tmp_path: Path, toys: Path) -> None:
    linked(toys / "small.gguf", tmp_path / "a" / "small.gguf")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "self").symlink_to(tmp_path / "a" / "self")
    (tmp_path / "again.gguf").symlink_to(tmp_path / "a" / "small.gguf")
    models, skipped = listed([ModelFolder("folder", tmp_path)], tmp_path / "index.json")
    assert len(models) == 1
    assert not skipped


def test_what_is_no_model_is_left_out_with_its_reason(tmp_path: Path, toys: Path) -> None:
    (tmp_path / "empty.gguf").touch()
    (tmp_path / "text.gguf").write_text("hello, this is no model")
    (tmp_path / "gone.gguf").symlink_to(tmp_path / "nowhere")
    whole = (toys / "small.gguf").read_bytes()
    (tmp_path / "cut.gguf").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "mmproj.gguf").write_bytes(whole.replace(b"general.architecture", b"general.architectura"))
    models, skipped = listed([ModelFolder("folder", tmp_path)], tmp_path / "index.json")
    assert not models
    reasons = {Path(each.path).stem: each.reason for each in skipped}
    assert "empty" in reasons["empty"]
    assert "GGUF" in reasons["text"]
    assert "cut off" in reasons["cut"]
    assert reasons.keys() == {"empty", "text", "cut", "mmproj", "gone"}


@pytest.mark.parametrize(
    "digest", ["../../../../etc/passwd", "sha256:../../x", "sha256:" + "g" * 64, "sha256:abc", 7, None]
)
def test_a_manifest_cannot_name_a_file_elsewhere(tmp_path: Path, digest: object) -> None:
    manifest = tmp_path / "manifests" / "registry" / "library" / "evil" / "latest"
    manifest.parent.mkdir(parents=True)
    layer = {"mediaType": "application/vnd.ollama.image.model", "digest": digest}
    manifest.write_text(json.dumps({"layers": [layer]}))
    assert [type(each) for each in find([ModelFolder("Ollama", tmp_path, "ollama")])] == [Skipped]


def test_a_broken_manifest_is_skipped(tmp_path: Path) -> None:
    for number, text in enumerate(("", "[]", "{", '{"layers": 3}', '{"layers": [3]}', "[" * 100_000)):
        manifest = tmp_path / "manifests" / "registry" / "library" / "evil" / f"tag{number}"
        manifest.parent.mkdir(parents=True, exist_ok=True)
        manifest.write_text(text)
    found = list(find([ModelFolder("Ollama", tmp_path, "ollama")]))
    assert [type(each) for each in found] == [Skipped] * 6


def test_two_thousand_models_are_listed_each_once(tmp_path: Path, toys: Path) -> None:
    """In all five layouts, and a second time without opening one of them."""
    small = toys / "small.gguf"
    home = tmp_path / "home"
    for number in range(400):
        linked(small, home / ".lmstudio" / "models" / "maker" / f"repo{number}" / f"m{number}.gguf")
        linked(small, home / "llama" / f"m{number}.gguf")
        linked(small, home / "own" / f"m{number}.gguf")
        revision = home / ".cache/huggingface/hub" / f"models--maker--m{number}" / "snapshots" / ("b" * 40)
        linked(small, revision / "m.gguf")
        digest = f"{number:064x}"
        linked(small, home / ".ollama" / "models" / "blobs" / f"sha256-{digest}")
        manifest = home / ".ollama/models/manifests/registry/library" / f"m{number}" / "latest"
        manifest.parent.mkdir(parents=True)
        layer = {"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{digest}"}
        manifest.write_text(json.dumps({"layers": [layer]}))
    places = known_places({"LLAMA_CACHE": str(home / "llama")}, home, home / "own", mac=False)
    memory = tmp_path / "index.json"
    models, skipped = listed(places, memory)
    assert len({model.path for model in models}) == len(models) == 2000
    assert not skipped
    small_now = small.stat()
    small.chmod(0o600)
    os.utime(small, ns=(small_now.st_atime_ns, small_now.st_mtime_ns))
    assert listed(places, memory)[0] == models


def test_a_description_is_read_once_until_the_file_changes(
    tmp_path: Path, toys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "models" / "model.gguf"
    path.parent.mkdir()
    path.write_bytes((toys / "small.gguf").read_bytes())
    places, memory = [ModelFolder("folder", path.parent)], tmp_path / "index.json"
    before = listed(places, memory)
    opened: list[ModelFile] = []
    describe = index_module.describe

    def counted(what: ModelFile, last: LastVocabulary) -> FoundModel:
        opened.append(what)
        return describe(what, last)

    monkeypatch.setattr(index_module, "describe", counted)
    assert listed(places, memory) == before
    assert not opened
    path.write_bytes((toys / "middle.gguf").read_bytes())
    assert [model.name for model in listed(places, memory)[0]] == ["Middle F32"]
    assert len(opened) == 1
    path.unlink()
    assert listed(places, memory) == ([], [])


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"version": VERSION, "models": 3}', '{"version": VERSION, "models": {"P": 1}}']
)
def test_a_broken_memory_is_no_memory(tmp_path: Path, toys: Path, text: str) -> None:
    linked(toys / "small.gguf", tmp_path / "models" / "small.gguf")
    memory = tmp_path / "index.json"
    text = text.replace("VERSION", json.dumps(index_module._VERSION))
    memory.write_text(text.replace("P", str(tmp_path / "models" / "small.gguf")))
    models, _ = listed([ModelFolder("folder", tmp_path / "models")], memory)
    assert [model.name for model in models] == ["Small F32"]


def hostile_headers(whole: bytes, count: int) -> Iterator[bytes]:
    """Headers with absurd counts, sizes and offsets, and with random bytes changed."""
    rng = random.Random(0)
    head = struct.pack("<4sI", b"GGUF", 3)
    yield head + struct.pack("<QQ", 1 << 60, 1)
    yield head + struct.pack("<QQ", 1, 1 << 60)
    yield head + struct.pack("<QQ", 0, 1) + struct.pack("<Q", 1 << 62)
    yield head + struct.pack("<QQQ", 0, 1, 12) + b"general.name" + struct.pack("<IQ", 8, 64 << 20) + b"x"
    yield head + struct.pack("<QQQ", 0, 1, 1) + b"a" + struct.pack("<IIQ", 9, 8, 1 << 61)
    for _ in range(count - 5):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            place = rng.randrange(4, 3000)
            size = rng.choice((1, 4, 8))
            data[place : place + size] = rng.choice((b"\xff" * size, rng.randbytes(size), b"\0" * size))
        yield bytes(data)


def test_hostile_headers_end_in_a_reason(tmp_path: Path, toys: Path) -> None:
    whole = (toys / "small.gguf").read_bytes()
    for number, data in enumerate(hostile_headers(whole, 300)):
        (tmp_path / f"{number:03d}.gguf").write_bytes(data)
    began = time.process_time()
    models, skipped = listed([ModelFolder("folder", tmp_path)], tmp_path / "index.json")
    assert len(models) + len(skipped) == 300
    assert len(skipped) > 100
    assert all(each.reason and "\n" not in each.reason and len(each.reason) < 300 for each in skipped)
    assert time.process_time() - began < 20  # of a machine in trouble; it takes a fraction of a second


def test_a_very_long_text_is_cut(tmp_path: Path) -> None:
    write_model(tmp_path / "long.gguf", Toy(name="x" * 1_000_000))
    (model,), _ = listed([ModelFolder("folder", tmp_path)], tmp_path / "index.json")
    assert len(model.name) <= 200


# Pairing


def described(path: Path) -> FoundModel:
    return describe(candidate(path))


def nothing(main: str, draft: str) -> Measured | None:
    return None


def verdicts(main: Path, toys: Path, past: dict[str, Measured] | None = None) -> dict[str, DraftVerdict]:
    known = past or {}
    models = [described(path) for path in sorted(toys.glob("*.gguf")) if path != main]
    judge = Judge(described(main), lambda main, draft: known.get(Path(draft).stem), row_cost=0.05)
    return {Path(each.draft).stem: each for each in judge.all(models)}


def test_every_model_gets_a_verdict_with_its_reason(toys: Path) -> None:
    found = verdicts(toys / "large.gguf", toys)
    assert found.keys() == {"small", "middle", "other", "padded", "recurrent", LOOKUP, NONE}
    assert all(each.reason for each in found.values())
    assert found["small"].judgement == found["padded"].judgement == "recommended"
    assert found["middle"].judgement == "possible"
    assert "third" in found["middle"].reason
    assert found["other"].judgement == "no"
    assert "differs at id 300" in found["other"].reason
    assert found["recurrent"].judgement == "possible"
    assert all(each.speed_up is None for name, each in found.items() if name != NONE)


def test_tokens_that_are_no_text_need_not_agree(tmp_path: Path, toys: Path) -> None:
    toy = Toy(layers=1, width=32, controls=OTHER_CONTROL, swapped=(300, 301), unused=(300, 301))
    draft = described(write_model(tmp_path / "draft.gguf", toy))
    verdict = Judge(described(toys / "large.gguf"), nothing, 0.05).verdict(draft)
    assert (verdict.judgement, verdict.reason[:14]) == ("recommended", "same tokenizer")
    folder = write_folder(tmp_path / "folder")
    values = json.loads((folder / "tokenizer.json").read_text())
    (special, *_) = [each for each in values["added_tokens"] if each["special"]]
    before = tokens_of(folder)
    special["content"] = "<other>"
    (folder / "tokenizer.json").write_text(json.dumps(values))
    assert tokens_of(folder) == before
    assert special["id"] not in before


def change_tokenizer(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    values = json.loads((folder / "tokenizer.json").read_text())
    change(values)
    (folder / "tokenizer.json").write_text(json.dumps(values))
    return folder


def test_folders_of_one_model_read_their_vocabulary_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "d"):
        write_folder(tmp_path / "models" / name)
    changed = change_tokenizer(write_folder(tmp_path / "models" / "c"), lambda own: own["model"].update(x=1))
    change_tokenizer(changed, lambda own: own["added_tokens"][0].update(content="<else>"))
    read: list[str] = []

    def counting(path: Path, *, words: bool = False) -> Any:
        read.append(path.name)
        return folder_tokens(path, words=words)

    monkeypatch.setattr("tui.engine.library.describe.folder_tokens", counting)
    places = [ModelFolder("folder", tmp_path / "models", "tree")]
    found = {Path(each.path).name: each for each in list_models(places, tmp_path / "index")}
    prints = {name: model.fingerprint for name, model in found.items() if isinstance(model, FoundModel)}
    assert read == ["a", "c", "d"]
    assert prints["a"] == prints["b"] == prints["d"] != prints["c"]


@pytest.mark.parametrize("half", ["\ud83d", "x"])
@pytest.mark.parametrize("as_list", [False, True])
def test_every_form_of_a_vocabulary_is_read(tmp_path: Path, half: str, as_list: bool) -> None:
    """A list of texts with scores, as of Unigram, and half a character, which json lets pass."""

    def change(values: dict[str, Any]) -> None:
        own = values["model"]["vocab"]
        own[half] = len(own) + 9
        if as_list:
            values["model"]["vocab"] = [[text, 0.5] for text in own]

    folder = change_tokenizer(write_folder(tmp_path / "m"), change)
    values = json.loads((folder / "tokenizer.json").read_text())
    own = values["model"]["vocab"]
    expected = {i: text for i, (text, _) in enumerate(own)} if as_list else {i: t for t, i in own.items()}
    expected |= {each["id"]: each["content"] for each in values["added_tokens"]}
    assert folder_tokens(folder) == {i: t.encode("utf-8", "surrogatepass") for i, t in expected.items()}


def test_a_few_words_that_differ_make_no_other_tokenizer() -> None:
    """As in two sizes of one family that call one token in 256,000 otherwise."""
    mine = {token: str(token).encode() for token in range(10_000)}
    for count, same in ((1, True), (10, True), (11, False)):
        theirs = mine | {token: b"?%d" % token for token in range(7, 7 + count)}
        assert (vocabularies(mine, theirs, "headers") is None) == same
        found = vocabularies(theirs, mine, "load")
        assert (found is None) == same
    assert found and found.stage == "load"
    assert "differs at id 7: '?7' against '7'" in found.text


def test_what_a_draft_would_bring_is_predicted_for_a_main_model_of_some_size(toys: Path) -> None:
    """In a small one the calls cost more than the weights: the built-in pair's draft makes it slower."""
    main, draft = described(toys / "large.gguf"), described(toys / "small.gguf")

    def brought(size: int, row_cost: float) -> DraftVerdict:
        judge = Judge(structs.replace(main, size=size), nothing, row_cost)
        return judge.verdict(structs.replace(draft, size=size // 20))

    assert brought(SMALLEST - 1, row_cost=0.05).speed_up is None
    fast, dear = brought(SMALLEST, row_cost=0.05), brought(SMALLEST, row_cost=1.0)
    assert fast.judgement == "recommended"
    assert fast.answers == 0
    assert fast.speed_up == pytest.approx(1.6, abs=0.3)
    assert (dear.judgement, dear.speed_up) == ("possible", 1.0)


@pytest.mark.parametrize("size", [SMALLEST - 1, SMALLEST])
def test_a_draft_that_is_as_slow_as_its_main_model_is_not_recommended(toys: Path, size: int) -> None:
    """By its size alone it would be: some number formats have slow kernels on some devices."""
    main = structs.replace(described(toys / "large.gguf"), size=size)
    draft = structs.replace(described(toys / "small.gguf"), size=size // 20)

    def verdict(cost: float | None) -> DraftVerdict:
        return Judge(main, nothing, 0.05, cost=lambda *pair: cost).verdict(draft)

    assert verdict(None).judgement == verdict(0.1).judgement == "recommended"
    assert verdict(1.0).judgement == "possible"
    assert "take longer" in verdict(1.0).reason
    if size == SMALLEST:
        assert 1 < (verdict(0.4).speed_up or 0) < (verdict(None).speed_up or 0)
    past = Judge(main, lambda *pair: Measured(1.3, 4), 0.05, cost=lambda *pair: 1.2)
    assert past.verdict(draft).judgement == "recommended", "answers tell more than a single token"


def test_the_cost_of_a_drafted_token_is_remembered_for_each_pair(tmp_path: Path) -> None:
    records = Records(tmp_path / "measured")
    assert records.cost("/main", "/draft") is None
    records.keep_cost("/main", "/draft", 1.25)
    assert Records(tmp_path / "measured").cost("/main", "/draft") == 1.25
    assert records.cost("/main", "/other") is None
    assert records.measured("/main", "/draft") is None
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        records.keep_cost("/main", "/draft", wrong)
        assert records.cost("/main", "/draft") is None


def test_a_load_keeps_the_cost_of_its_draft(toys: Path, tmp_path: Path) -> None:
    library = Library((ModelFolder("LM Studio", toys),), tmp_path / "i.json", Records(tmp_path / "r"), 0.05)
    main, draft = str(toys / "large.gguf"), str(toys / "small.gguf")
    events: list[Event] = []
    session = Session(events.append, lambda number: False, library=library)
    session.do(Load(main, draft, context_length=256, threads=1))
    assert isinstance(events[-1], Loaded) and events[-1].draft
    cost = library.records.cost(main, draft)
    assert cost and 0.01 < cost < 10
    session.close()


def test_the_best_draft_stands_first_and_none_is_never_missing(toys: Path) -> None:
    order = list(verdicts(toys / "large.gguf", toys).values())
    rank = {"recommended": 0, "possible": 1, "no": 2}
    assert [rank[each.judgement] for each in order] == sorted(rank[each.judgement] for each in order)
    assert Path(best_draft(order)).stem in ("small", "padded")
    alone = Judge(described(toys / "large.gguf"), nothing, 0.05).all([])
    assert [each.draft for each in alone] == [LOOKUP, NONE]
    assert alone[0].judgement == "recommended"
    assert best_draft(alone) == LOOKUP


def test_a_measurement_counts_for_more_than_a_prediction(toys: Path) -> None:
    past = {"small": Measured(0.9, 14), "middle": Measured(1.7, 3), LOOKUP: Measured(1.2, 5)}
    found = verdicts(toys / "large.gguf", toys, past)
    assert (found["small"].judgement, found["small"].speed_up, found["small"].answers) == (
        "possible",
        0.9,
        14,
    )
    assert (found["middle"].judgement, found["middle"].answers) == ("recommended", 3)
    assert found[LOOKUP].speed_up == 1.2


def test_a_larger_model_cannot_draft(toys: Path) -> None:
    found = verdicts(toys / "small.gguf", toys)
    assert found["large"].judgement == "no"
    assert "no smaller" in found["large"].reason


def test_what_does_not_fit_beside_the_main_model_cannot_draft(toys: Path) -> None:
    large = no_room(9 * 10**9, 6 * 10**9)
    judge = Judge(described(toys / "large.gguf"), nothing, 0.05, room=lambda draft: large)
    assert judge.verdict(described(toys / "small.gguf")).reason == large.text
    assert "9.0 GB of 6.0 GB" in large.text


def test_forms_do_not_mix(tmp_path: Path, toys: Path) -> None:
    folder = described(toys / "small.gguf")
    judge = Judge(described(toys / "large.gguf"), nothing, 0.05)
    assert judge.verdict(structs.replace(folder, backend="mlx")).judgement == "no"


def test_vocabularies_of_one_shape_but_other_special_tokens_pair(toys: Path, tmp_path: Path) -> None:
    """As they do when they are loaded: the main model alone says where an answer ends."""
    path = write_model(tmp_path / "end.gguf", Toy(layers=1, width=32, end=257))
    assert described(path).fingerprint != described(toys / "small.gguf").fingerprint
    judge = Judge(described(toys / "large.gguf"), nothing, 0.05)
    assert judge.verdict(described(path)).judgement == "recommended"


# Names


def named(*names: tuple[str, str]) -> list[FoundModel]:
    """Models whose files hold all that is known of them, and whose names are short."""
    base = described_starter()
    return [
        structs.replace(
            base,
            path=f"/m/{i}/{name}-{kind}.gguf".replace(" ", "-"),
            name=f"{name.removeprefix('Meta ').removesuffix(' Instruct')} {kind}",
            quantization=kind,
        )
        for i, (name, kind) in enumerate(names)
    ]


def described_starter() -> FoundModel:
    facts = ("n", "/m", "llama", 1, "Q8_0", 1, 1, 1)
    return FoundModel(*facts, source="folder", backend="llama.cpp", tokenizer="gpt2", fingerprint="f")


MODELS = named(
    ("Meta Llama 3.1 8B Instruct", "Q4_K_M"),
    ("Qwen2.5-Coder 7B", "Q4_K_M"),
    ("Qwen2.5-Coder 7B", "Q8_0"),
    ("Qwen2.5 0.5B", "Q8_0"),
)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("llama 8b", 0),
        ("LLAMA", 0),
        ("coder q8_0", 2),
        ("qwen 2.5 0.5b", 3),
        ("qwen2.5-0.5b", 3),
        ("Qwen2.5 0.5B", 3),
        ("/m/1/Qwen2.5-Coder-7B-Q4_K_M.gguf", 1),
        ("Qwen2.5-Coder-7B-Q4_K_M", 1),
    ],
)
def test_names_are_matched_as_people_type_them(name: str, wanted: int) -> None:
    assert resolve(name, MODELS) == MODELS[wanted]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "qwen",
            "3 models are called 'qwen': Qwen2.5-Coder 7B Q4_K_M, Qwen2.5-Coder 7B Q8_0, Qwen2.5 0.5B Q8_0",
        ),
        ("mixtral", "no model here is called 'mixtral'"),
        ("Qwen2.5 0.6B", "similar: "),
        ("", "no model here"),
        ("???", "no model here"),
    ],
)
def test_a_name_that_means_none_or_several_says_which(name: str, said: str) -> None:
    with pytest.raises(LibraryError) as error:
        resolve(name, MODELS)
    assert said in str(error.value)


# Records


def answer(
    speed_up: float, tokens: int = SHORTEST, reason: Reason = "length", drafted: int = 40, rounds: int = 1
) -> Finished:
    done = Statistics(tokens=tokens, rounds=rounds, drafted=drafted, seconds=1.0, plain_seconds=speed_up)
    return Finished(1, reason, done)


def test_what_drafting_brought_is_the_mean_of_the_last_answers(tmp_path: Path) -> None:
    records = Records(tmp_path / "measured")
    assert records.measured("/main", "/draft") is None
    records.keep("/main", "/draft", answer(1.0))
    records.keep("/main", "/draft", answer(4.0, reason="stop"))
    found = Records(tmp_path / "measured").measured("/main", "/draft")
    assert found is not None
    assert found.speed_up == pytest.approx(2.0)
    assert found.answers == 2
    assert records.measured("/main", LOOKUP) is None
    for _ in range(100):
        records.keep("/main", "/draft", answer(3.0))
    assert records.measured("/main", "/draft") == Measured(pytest.approx(3.0), 64)
    assert next((tmp_path / "measured").iterdir()).stat().st_size < 1000


@pytest.mark.parametrize(
    "finished",
    [
        answer(2.0, SHORTEST - 1),
        answer(2.0, drafted=0),
        answer(2.0, reason="cancelled"),
        answer(2.0, reason="context"),
        answer(0.01),
        answer(0.0),
        answer(1e9, tokens=1000),
    ],
    ids=["short", "no drafts", "stopped", "cut", "absurd", "not known", "endless"],
)
def test_an_answer_that_says_nothing_of_drafting_is_not_kept(tmp_path: Path, finished: Finished) -> None:
    records = Records(tmp_path)
    records.keep("/main", "/draft", finished)
    assert records.measured("/main", "/draft") is None


def test_what_is_kept_is_what_was_shown(tmp_path: Path) -> None:
    records, finished = Records(tmp_path), answer(2.0, rounds=20)
    records.keep("/main", "/draft", finished)
    assert records.measured("/main", "/draft") == Measured(pytest.approx(1.6), 1)
    assert finished.statistics.speed_up == 1.6


@pytest.mark.parametrize("text", ["", "{}", "[1, 2]", '["a"]', "[NaN]", "[1e300]", "[" * 9000])
def test_a_broken_record_is_none(tmp_path: Path, text: str) -> None:
    records = Records(tmp_path)
    records.keep("/main", "/draft", answer(2.0))
    next(tmp_path.iterdir()).write_text(text)
    assert records.measured("/main", "/draft") is None


def test_another_model_at_the_same_path_has_its_own_record(tmp_path: Path) -> None:
    main = tmp_path / "main"
    main.write_bytes(b"1")
    records = Records(tmp_path / "measured")
    records.keep(str(main), LOOKUP, answer(2.0))
    main.write_bytes(b"22")
    assert records.measured(str(main), LOOKUP) is None


# Together


@pytest.fixture
def library(tmp_path: Path, toys: Path) -> Library:
    return Library((ModelFolder("LM Studio", toys),), tmp_path / "i.json", Records(tmp_path / "r"), 0.05)


def test_the_demo_stands_in_the_list(library: Library) -> None:
    models = [each for each in library.models(()) if isinstance(each, FoundModel)]
    assert [model.path for model in models if model.demo] == [str(DRAFT), str(STARTER_HEAD), str(MAIN)]


@pytest.mark.parametrize(
    ("main", "draft", "found"),
    [
        ("starter", "auto", ("starter", "starter")),
        ("starter", LOOKUP, ("starter", LOOKUP)),
        ("starter", NONE, ("starter", NONE)),
        ("starter", HEAD, ("starter", "head.gguf")),
        (str(MAIN), HEAD, ("starter", "head.gguf")),
        ("large", HEAD, ("large.gguf", HEAD)),
        ("/no/such.gguf", HEAD, ("such.gguf", HEAD)),
        ("scripted:x", HEAD, ("scripted:x", HEAD)),
        (str(MAIN), str(DRAFT), ("starter", "starter")),
        ("large", LOOKUP, ("large.gguf", LOOKUP)),
        ("large", NONE, ("large.gguf", NONE)),
        ("large", "small", ("large.gguf", "small.gguf")),
        ("large", "auto", ("large.gguf", "small.gguf")),
        ("small", "auto", ("small.gguf", LOOKUP)),
        ("/no/such.gguf", LOOKUP, ("such.gguf", LOOKUP)),
        ("/no/such.gguf", "auto", ("such.gguf", LOOKUP)),
        ("scripted:x", "auto", ("scripted:x", LOOKUP)),
    ],
)
def test_names_become_paths(library: Library, main: str, draft: str, found: tuple[str, str]) -> None:
    load = library.resolved(Load(main, draft))
    assert (Path(load.main).name, Path(load.draft).name) == found


@pytest.mark.parametrize(
    ("main", "draft", "times"),
    [("large", "auto", 1), ("large", "small", 1), ("large", NONE, 1), ("starter", "auto", 0)],
)
def test_a_load_lists_the_library_at_most_once(
    library: Library, monkeypatch: pytest.MonkeyPatch, main: str, draft: str, times: int
) -> None:
    lists = counted(monkeypatch)
    library.resolved(Load(main, draft))
    assert len(lists) == times


def test_a_verdict_lists_the_library_once(
    library: Library, toys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the name of the main model as by its path, and with the same result."""
    lists = counted(monkeypatch)
    by_name, by_path = library.verdicts(Load("large")), library.verdicts(Load(str(toys / "large.gguf")))
    assert len(lists) == 2
    assert {each.draft: each for each in by_name} == {each.draft: each for each in by_path}
    library.described(Load(str(toys / "large.gguf")))
    assert len(lists) == 2, "a path needs no list"


def counted(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """One item for each list of the library that is made from now on."""
    lists: list[None] = []

    def listing(*given: Any) -> Any:
        lists.append(None)
        return list_models(*given)

    monkeypatch.setattr(local, "list_models", listing)
    return lists


def test_an_unknown_name_says_what_to_do(library: Library) -> None:
    with pytest.raises(LibraryError, match="no model here is called 'mixtral'") as error:
        library.resolved(Load("mixtral"))
    assert "outrider models" in error.value.hint


def test_models_beside_the_main_model_are_judged_too(tmp_path: Path, toys: Path) -> None:
    """Also what only looks like a model, with its reason."""
    main = linked(toys / "large.gguf", tmp_path / "mine" / "large.gguf")
    linked(toys / "small.gguf", tmp_path / "mine" / "small.gguf")
    (tmp_path / "mine" / "cut.gguf").write_bytes(b"GGUF")
    library = Library((), tmp_path / "i.json", Records(tmp_path / "r"), 0.05)
    found = {Path(each.draft).name: each for each in library.verdicts(Load(str(main)))}
    assert found["small.gguf"].judgement == "recommended"
    assert "cut off" in found["cut.gguf"].reason
    assert found["main.gguf"].judgement == "no"  # the demo's vocabulary is another


def test_a_draft_for_which_there_is_no_memory_is_rejected_with_the_numbers(
    library: Library, toys: Path
) -> None:
    size = (toys / "large.gguf").stat().st_size
    verdicts = replace(library, memory=lambda: size + 1).verdicts(Load(str(toys / "large.gguf")))
    found = {Path(each.draft).name: each for each in verdicts}
    assert found["small.gguf"].judgement == "no"
    assert found["small.gguf"].reason.startswith("it does not fit beside the main model: ")


def test_the_librarian_plans_memory_for_names(toys: Path) -> None:
    said: list[Event] = []
    load = Load("large", "small", folders=(str(toys),))
    answer_question(PlanMemory(-1, load, Load("starter", "auto")), said.append, lambda: True)
    assert [type(each) for each in said] == [MemoryPlanned]
    assert isinstance(said[0], MemoryPlanned)
    assert said[0].fits
    assert said[0].uses[0].main > said[0].uses[0].draft > 0
    (toys / "no.gguf").write_bytes(b"GGUF")
    answer_question(PlanMemory(-2, Load(str(toys / "no.gguf"))), said.append, lambda: True)
    (toys / "no.gguf").unlink()
    assert isinstance(said[1], Failed)
    assert said[1].id == -2
    assert "cut off" in said[1].message


def test_a_candidate_is_made_of_a_path(tmp_path: Path, toys: Path) -> None:
    assert candidate(toys / "small.gguf").files == (toys / "small.gguf",)
    folder = write_folder(tmp_path / "m")
    assert folder / "config.json" in candidate(folder).files


# One name in all places


def test_a_model_of_ollama_goes_by_its_tag(tmp_path: Path, toys: Path) -> None:
    """In the list, by its blob's path, and when it is typed."""
    places = home_of_all(tmp_path, toys)
    library = Library(tuple(places), tmp_path / "i.json", Records(tmp_path / "r"), 0.05)
    blob = tmp_path / ".ollama" / "models" / "blobs" / f"sha256-{DIGEST}"
    assert describe(candidate(blob)).name == "tiny 1B F32"
    assert library.resolved(Load("tiny:1b")).main == str(blob)
    models, _ = listed(places, tmp_path / "i.json")
    assert [model.tag for model in models if model.path == str(blob)] == ["tiny:1b"]
    manifest = next((tmp_path / ".ollama" / "models" / "manifests").rglob("1b"))
    manifest.rename(manifest.with_name("2b"))
    models, _ = listed(places, tmp_path / "i.json")
    assert [model.name for model in models if model.path == str(blob)] == ["tiny 2B F32"]


def test_a_loaded_model_has_the_name_that_the_list_has(tmp_path: Path, toys: Path) -> None:
    places = home_of_all(tmp_path, toys)
    library = Library(tuple(places), tmp_path / "i.json", Records(tmp_path / "r"), 0.05)
    said: list[Event] = []
    session = Session(said.append, lambda _: False, library=library)

    def loaded(path: str) -> str:
        session.do(Load(path, threads=1, context_length=64))
        return next(each.main.name for each in reversed(said) if isinstance(each, Loaded))

    try:
        models, _ = listed(places, tmp_path / "elsewhere.json")
        assert {loaded(model.path) for model in models} == {"Small F32", "tiny 1B F32"}
        models, _ = listed(places, library.index)
        assert {model.path: loaded(model.path) for model in models} == {
            each.path: each.name for each in models
        }
        own = [model for model in models if model.source == "Outrider"]
        models, _ = listed([place for place in places if place.source == "Outrider"], library.index)
        assert (own[0].name, loaded(own[0].path)) == ("Small F32 (Outrider)", "Small F32")
    finally:
        session.close()


def test_verdicts_name_drafts_as_the_list_does(tmp_path: Path, toys: Path) -> None:
    library = Library(tuple(home_of_all(tmp_path, toys)), tmp_path / "i.json", Records(tmp_path / "r"), 0.05)
    names = [each.name for each in library.verdicts(Load(str(toys / "large.gguf")))]
    assert len(set(names)) == len(names)
    assert {"Small F32 (LM Studio)", "tiny 1B F32"} < set(names)
