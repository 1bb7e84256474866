"""A file that holds only a head: seen in its header, offered as a draft where it fits, never as a model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gguf
import pytest
from msgspec import structs

from tests.support import models
from tests.support.assistant_models import write_assistant, write_gemma
from tests.support.eagle_models import Eagle, write_eagle
from tests.support.head_models import Headed, write_headed
from tui.choices import HEAD, LOOKUP, NONE
from tui.engine.library.describe import describe, holds_only_head
from tui.engine.library.find import candidate
from tui.engine.library.head_files import LAST_OUTPUTS, LAYER_INPUTS, RowReader, Shape, misfit
from tui.engine.library.header import BadModelFile, read_header
from tui.engine.library.local import Library, LibraryError
from tui.engine.library.pairing import Judge, best_draft
from tui.engine.library.records import Measured, Records
from tui.engine.library.shared_cells import LayerCells
from tui.engine.library.shared_cells import misfit as other_cells
from tui.protocol import DraftVerdict, FoundModel, Load
from tui.screens.model_rows import ModelRows

READER = RowReader((2, 16, 29), 4096, 4096, borrows=True)
MAIN = Shape("llama", 32, 4096, 128_256)


def described(path: Path) -> FoundModel:
    return describe(candidate(path))


def test_it_is_seen_in_the_header(tmp_path: Path) -> None:
    found = read_header(write_eagle(tmp_path / "eagle.gguf", Eagle(reduced=1000)))
    assert (found.facts.head, found.facts.only_head) == ("eagle3", True)
    assert found.reader == RowReader((0, 2, 3), 64, 64, borrows=True)
    own = read_header(write_eagle(tmp_path / "own.gguf", Eagle(own_embeddings=True)))
    assert own.reader and not own.reader.borrows
    assert "EAGLE-3 head" in described(tmp_path / "own.gguf").traits
    assert holds_only_head(tmp_path / "eagle.gguf")
    mtp = write_headed(tmp_path / "mtp.gguf")
    assert not read_header(mtp).facts.only_head
    for other in (mtp, tmp_path, tmp_path / "nothing.gguf", Path("scripted:sample")):
        assert not holds_only_head(other)


@pytest.mark.parametrize(
    ("main", "reader", "tokens", "reason"),
    [
        (MAIN, READER, 128_256, ""),
        (Shape("llama", 29, 4096, 128_256), READER, 128_256, "layer 29"),
        (Shape("gpt-oss", 29, 4096, 128_256), READER, 128_256, ""),
        (Shape("gemma3", 32, 4096, 128_256), READER, 128_256, "'gemma3'"),
        (Shape("qwen4exp", 32, 4096, 128_256), READER, 128_256, "'qwen4exp'"),
        (Shape("llama", 32, 5120, 128_256), READER, 128_256, "rows of 4,096 numbers, these have 5,120"),
        (MAIN, RowReader((2, 16, 29), 4096, 2048, borrows=True), 128_256, "rows of 2,048"),
        (MAIN, RowReader((2, 16, 29), 4096, 2048, borrows=False), 128_256, ""),
        (MAIN, READER, 32_000, "32,000 tokens, this one 128,256"),
    ],
)
def test_it_fits_a_main_model_by_its_numbers(
    main: Shape, reader: RowReader, tokens: int, reason: str
) -> None:
    found = misfit(main, Shape("eagle3", 1, 4096, tokens), reader)
    assert reason in found and bool(found) == bool(reason)


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (("qwen35", 32, 2560, 248_320), ""),
        (("qwen35moe", 32, 2560, 248_320), "architecture 'qwen35moe'"),
        (("qwen35", 24, 2560, 248_320), "24 layers; this one has 32"),
        (("qwen35", 32, 4096, 248_320), "rows of 4,096 numbers, these have 2,560"),
        (("qwen35", 32, 2560, 151_936), "151,936 tokens, this one 248,320"),
    ],
)
def test_an_mtp_head_fits_the_model_that_it_was_cut_from(
    head: tuple[str, int, int, int], reason: str
) -> None:
    found = misfit(Shape("qwen35", 32, 2560, 248_320), Shape(*head), None)
    assert reason in found and bool(found) == bool(reason)


def test_an_assistant_fits_by_the_last_cells_of_a_model() -> None:
    window, full = LayerCells(True, 2, 256), LayerCells(False, 1, 512)
    main, head = (full, window, window, full), (window, window, full)
    assert other_cells(main, head) == ""
    assert "1 keys of 512, this one has 2 keys of 256" in other_cells(
        (*main[:-1], replace(window, windowed=False)), head
    )
    assert "1 keys of 256, this one has 2 keys of 256" in other_cells(main, (replace(window, keys=1), full))
    for wrong in ((full,), (), (window, window), (full, full), (full, window)):
        assert "last layers" in other_cells(wrong, head)


def test_the_last_output_counts_only_where_inputs_are_given() -> None:
    assert LAST_OUTPUTS < LAYER_INPUTS


def test_a_head_of_a_kind_that_cannot_be_used_yet_ends_in_a_line(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "head.gguf", "dflash")
    writer.add_block_count(1)
    models.add_vocabulary(writer, models.Toy())
    models.finish(writer)
    with pytest.raises(BadModelFile, match="drafts only inside its main model"):
        read_header(tmp_path / "head.gguf")


# As a draft


def order(main: FoundModel, drafts: list[FoundModel], past: dict[str, Measured]) -> list[DraftVerdict]:
    verdicts = Judge(main, lambda _, each: past.get(each), 0.05).all(drafts)
    assert best_draft(verdicts) in (verdicts[0].draft, LOOKUP)
    return list(verdicts)


def test_it_is_proposed_where_it_fits_and_ranked_by_its_speed_up(tmp_path: Path) -> None:
    main = structs.replace(described(write_headed(tmp_path / "main.gguf", Headed("llama"))), size=1 << 30)
    head = described(write_eagle(tmp_path / "eagle.gguf"))
    other = described(write_eagle(tmp_path / "other.gguf", Eagle(layers=(0, 2, 9))))
    small = described(models.write_model(tmp_path / "small.gguf", models.Toy(vocabulary=2048, width=32)))

    def names(past: dict[str, Measured]) -> list[str]:
        return [Path(each.draft).stem for each in order(main, [small, head, other], past)]

    first = order(main, [small, head, other], {})[0]
    assert (first.draft, first.judgement, first.answers) == (head.path, "recommended", 0)
    assert first.speed_up and first.speed_up > 1.5
    assert "EAGLE-3" in first.reason
    assert names({}) == ["eagle", "small", LOOKUP, NONE, "other"]
    fast, faster, slow = Measured(1.5, 3), Measured(1.9, 3), Measured(0.8, 9)
    assert names({head.path: fast})[:2] == ["small", "eagle"]
    assert names({head.path: fast, small.path: faster})[:2] == ["small", "eagle"]
    assert names({head.path: slow})[0] == "small"
    last = order(main, [other], {})[-1]
    assert (last.judgement, last.reason) == (
        "no",
        "the head of another model: it reads layer 9, this one has 4",
    )


def test_the_head_in_the_file_itself_comes_first(tmp_path: Path) -> None:
    main = structs.replace(described(write_headed(tmp_path / "main.gguf")), size=1 << 30)
    head = described(write_eagle(tmp_path / "eagle.gguf"))
    same = {HEAD: Measured(1.4, 3), head.path: Measured(1.4, 3)}
    assert [each.draft for each in order(main, [head], same)] == [HEAD, head.path, LOOKUP, NONE]
    past = {HEAD: Measured(1.2, 3), head.path: Measured(1.6, 3)}
    assert order(main, [head], past)[0].draft == head.path


@pytest.mark.parametrize("kind", ["MTP", "Gemma 4 assistant"])
def test_every_kind_is_proposed(tmp_path: Path, kind: str) -> None:
    if kind == "MTP":
        main, head = Headed(headless=True), Headed(without=Headed().trunk)
        files = write_headed(tmp_path / "main.gguf", main), write_headed(tmp_path / "head.gguf", head)
    else:
        files = write_gemma(tmp_path / "main.gguf"), write_assistant(tmp_path / "head.gguf")
    found = structs.replace(described(files[0]), size=1 << 30)
    first = order(found, [described(files[1])], {})[0]
    assert (first.draft, first.reason) == (str(files[1]), f"a head ({kind}) that fits this model")


# As a model


def test_it_is_no_main_model(tmp_path: Path) -> None:
    head = write_eagle(tmp_path / "eagle.gguf")
    library = Library((), tmp_path / "index", Records(tmp_path / "records"), 0.3)
    with pytest.raises(LibraryError, match="only the head"):
        library.described(Load(str(head)))
    listed = list(library.models([str(tmp_path)]))
    assert any(isinstance(each, FoundModel) and each.path == str(head) for each in listed)
    found = ModelRows()
    found.add(each for each in listed if isinstance(each, FoundModel))
    assert str(head) not in [row.key for row in found.rows("")]
    assert len(found) == len(found.rows("")) and found.model(str(head))


def test_the_word_head_finds_the_head_of_a_model_by_its_metadata(tmp_path: Path) -> None:
    """In the model's own file, else in the one that fits, whatever the names say; else the word stays."""
    library = Library((), tmp_path / "index.json", Records(tmp_path / "records"), 0.05)
    (folder := tmp_path / "models").mkdir()
    main = write_headed(folder / "main.gguf", Headed("llama"))

    def found(main: Path) -> str:
        return library.resolved(Load(str(main), HEAD)).draft

    write_eagle(folder / "main-eagle3.gguf", Eagle(layers=(0, 2, 9)))
    models.write_model(folder / "small.gguf", models.Toy(vocabulary=2048, width=32))
    assert found(main) == HEAD, "only the head of another model is there"
    fits = write_eagle(folder / "other-name.gguf")
    assert found(main) == str(fits)
    assert found(write_headed(folder / "inside.gguf")) == HEAD, "this file has an MTP head"
