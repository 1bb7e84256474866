"""An MLX folder has a head where its tensors say so. It is listed, proposed and planned like other drafts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("mlx_lm")

from msgspec import structs

from tests.support import mlx_models
from tests.support.assistant_models import Gemma
from tests.support.head_models import WIDTH, Headed
from tests.support.mlx_assistant_models import write_assistant_folder, write_gemma_folder
from tests.support.mlx_head_models import write_head_folder, write_headed_folder
from tui.choices import AUTO, HEAD, LOOKUP, NONE
from tui.engine.library.describe import describe, holds_only_head
from tui.engine.library.find import candidate
from tui.engine.library.local import Library
from tui.engine.library.mlx_folder import BadModelFile, read_folder
from tui.engine.library.mlx_heads import head_in, misfit
from tui.engine.library.names import LibraryError
from tui.engine.library.pairing import Judge, best_draft
from tui.engine.library.records import Measured, Records
from tui.engine.pair.memory_plan import plan
from tui.protocol import FoundModel, Load

HYBRID = Headed("qwen35", layers=2)
GLM = Headed("glm4moe", layers=2)


def described(path: Path) -> FoundModel:
    return describe(candidate(path))


@pytest.mark.parametrize("form", ["inside", "beside", "parts", "experts"])
def test_a_head_is_seen_by_its_tensors(tmp_path: Path, form: str) -> None:
    for headed in (replace(HYBRID, architecture="qwen35moe"), replace(GLM, architecture="qwen3next")):
        folder = read_folder(write_headed_folder(tmp_path / headed.architecture, headed, form=form))
        head = head_in(folder)
        assert head and not head.alone and head.width == WIDTH
        assert 0 < head.size < folder.weight_bytes
        found = described(folder.path)
        assert (found.head, found.only_head, "MTP heads" in found.traits) == ("mtp", False, True)


def test_a_claim_without_tensors_is_no_head(tmp_path: Path) -> None:
    """The settings of a converted folder still name the head that mlx-lm has left out."""
    for number, headed in enumerate((HYBRID, GLM)):
        found = described(write_headed_folder(tmp_path / str(number), headed, form="none"))
        assert found.head == "" and "MTP heads" not in found.traits
    for name in ("eh_proj", "hnorm", "shared_head", "self_attn"):
        lacking = replace(GLM, without=(f"model.layers.2.{name}",))
        assert head_in(read_folder(write_headed_folder(tmp_path / name, lacking))) is None, name
    assert head_in(read_folder(mlx_models.write_folder(tmp_path / "llama"))) is None


def test_two_heads_in_a_row_are_not_used(tmp_path: Path) -> None:
    folder = read_folder(write_headed_folder(tmp_path / "main", GLM))
    second = [replace(each, name=each.name.replace("layers.2.", "layers.3.")) for each in folder.tensors]
    assert head_in(replace(folder, tensors=(*folder.tensors, *second))) is None


@pytest.mark.parametrize("prefix", ["", "mtp.", "language_model.mtp."])
def test_a_folder_with_nothing_but_a_head_is_seen(tmp_path: Path, prefix: str) -> None:
    path = write_head_folder(tmp_path / "head", HYBRID, prefix=prefix)
    head = head_in(read_folder(path))
    assert head and head.alone and head.size == read_folder(path).weight_bytes
    found = described(path)
    assert (found.head, found.only_head) == ("mtp", True)
    assert holds_only_head(path) and holds_only_head(str(path))
    assert not holds_only_head(write_headed_folder(tmp_path / "main", HYBRID))
    assert not holds_only_head(tmp_path)


def test_a_folder_with_the_settings_of_its_main_model_may_hold_only_the_head(tmp_path: Path) -> None:
    path = write_headed_folder(tmp_path / "main", replace(HYBRID, without=("language_model.",)))
    assert described(path).only_head


def test_a_damaged_file_of_the_head_is_named(tmp_path: Path) -> None:
    path = write_headed_folder(tmp_path / "main", HYBRID, form="beside")
    (path / "mtp.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0")
    with pytest.raises(BadModelFile, match=r"mtp\.safetensors is cut off"):
        read_folder(path)


def test_an_index_may_name_the_file_of_the_head(tmp_path: Path) -> None:
    path = write_headed_folder(tmp_path / "main", HYBRID, form="beside")
    names = {"language_model.lm_head.weight": "model.safetensors", "mtp.fc.weight": "mtp.safetensors"}
    mlx_models.write_json(path / "model.safetensors.index.json", {"weight_map": names})
    assert head_in(read_folder(path))
    (path / "mtp.safetensors").unlink()
    with pytest.raises(BadModelFile, match=r"mtp\.safetensors is missing"):
        read_folder(path)


def test_it_fits_a_main_model_by_its_numbers(tmp_path: Path) -> None:
    head = read_folder(write_head_folder(tmp_path / "head", HYBRID))
    main = read_folder(write_headed_folder(tmp_path / "main", HYBRID, form="none"))
    assert misfit(main, head) == ""
    wide = mlx_models.write_folder(tmp_path / "wide", "qwen3_next", settings={"hidden_size": 128})
    assert "rows of 64 numbers, these have 128" in misfit(read_folder(wide), head)
    glm = read_folder(write_headed_folder(tmp_path / "glm", GLM))
    assert "does not draft for the architecture 'glm4_moe'" in misfit(glm, head)
    assert "no head" in misfit(main, main)


def test_an_assistant_fits_by_the_keys_of_a_model(tmp_path: Path) -> None:
    path = write_assistant_folder(tmp_path / "head")
    head = read_folder(path)
    found = described(path)
    assert (found.head, found.only_head) == ("assistant", True)
    for number, nested in enumerate((False, True)):
        main = read_folder(write_gemma_folder(tmp_path / f"{number}", Gemma(), nested=nested))
        assert misfit(main, head) == "" and head_in(main) is None
    differing = {
        "keys (full_attention)": Gemma(full=()),
        "keys (sliding_attention)": Gemma(size=32),
        "does not draft": HYBRID,
    }
    for reason, other in differing.items():
        folder = tmp_path / reason
        write = write_gemma_folder if isinstance(other, Gemma) else write_headed_folder
        assert reason in misfit(read_folder(write(folder, other)), head)  # type: ignore[operator]
    for changed, reason in (({"hidden_size": 128}, "these have 128"), ({"num_key_value_heads": 3}, "keys (")):
        config = {**main.config, "text_config": main.config["text_config"] | changed}
        assert reason in misfit(replace(main, config=config), head)
    model, both = described(main.path), described(path)
    first = Judge(structs.replace(model, size=1 << 30), lambda *_: None, 0.05).all([both])[0]
    assert (first.draft, first.reason) == (str(path), "a head (Gemma 4 assistant) that fits this model")


def test_it_is_ranked_by_its_speed_up(tmp_path: Path) -> None:
    main = described(write_headed_folder(tmp_path / "main", HYBRID))
    plain = described(write_headed_folder(tmp_path / "plain", HYBRID, form="none"))
    head = described(write_head_folder(tmp_path / "head", HYBRID))
    other = described(write_head_folder(tmp_path / "other", replace(HYBRID, seed=1)))
    wrong = structs.replace(described(write_headed_folder(tmp_path / "glm", GLM)), size=1 << 30)

    def order(model: FoundModel, drafts: list[FoundModel], past: dict[str, Measured]) -> list[str]:
        judge = Judge(structs.replace(model, size=1 << 30), lambda _, each: past.get(each), 0.05)
        verdicts = judge.all(drafts)
        assert best_draft(verdicts) in (verdicts[0].draft, LOOKUP)
        return [Path(each.draft).name for each in verdicts if each.judgement != "no"]

    assert order(main, [], {}) == [HEAD, LOOKUP, NONE]
    assert order(main, [], {HEAD: Measured(0.8, 9)})[0] == LOOKUP
    assert order(plain, [head], {}) == ["head", LOOKUP, NONE]
    assert order(plain, [head, other], {other.path: Measured(1.9, 3)})[0] == "head", "not measured yet"
    assert order(wrong, [head], {}) == [HEAD, LOOKUP, NONE]


def test_it_is_no_main_model(tmp_path: Path) -> None:
    head = write_head_folder(tmp_path / "models" / "head", HYBRID)
    library = Library((), tmp_path / "index", Records(tmp_path / "records"), 0.3)
    with pytest.raises(LibraryError, match="only the head"):
        library.described(Load(str(head)))
    found = [each for each in library.models([str(tmp_path / "models")]) if each.path == str(head)]
    assert len(found) == 1 and isinstance(found[0], FoundModel) and found[0].only_head


def test_auto_takes_it(tmp_path: Path) -> None:
    main = write_headed_folder(tmp_path / "models" / "main", HYBRID)
    library = Library((), tmp_path / "index", Records(tmp_path / "records"), 0.3)
    assert library.resolved(Load(str(main), AUTO)).draft == HEAD


def test_its_cache_and_its_file_are_planned(tmp_path: Path) -> None:
    cells = 2 * 2 * 2 * 16 * 1024  # keys and values of 16 bits: two heads of 16 numbers
    for form in ("inside", "beside"):
        path = str(write_headed_folder(tmp_path / form, HYBRID, form=form))
        with_head, without = (plan(Load(path, draft, 1024)).uses[-1] for draft in (HEAD, NONE))
        assert with_head.cache - without.cache == cells
        added = with_head.main - without.main
        assert (added > 0) == (form == "beside")
    main, head = write_headed_folder(tmp_path / "plain", HYBRID, form="none"), tmp_path / "head"
    both = plan(Load(str(main), str(write_head_folder(head, HYBRID)), 1024)).uses[-1]
    alone = plan(Load(str(main), NONE, 1024)).uses[-1]
    assert both.cache - alone.cache == cells
    gemma = str(write_gemma_folder(tmp_path / "gemma", Gemma()))
    assistant = str(write_assistant_folder(tmp_path / "assistant"))
    with_one, without = (plan(Load(gemma, draft, 1024)).uses[-1] for draft in (assistant, NONE))
    assert with_one.cache == without.cache, "it looks at the main model's"
    assert with_one.draft > 0
