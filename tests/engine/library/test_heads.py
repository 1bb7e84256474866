"""A file has a head where its metadata and its tensors say so, and llama.cpp can run it."""

from __future__ import annotations

from pathlib import Path

import gguf
import pytest
from msgspec import structs

from tests.support import models
from tests.support.assistant_models import write_assistant, write_gemma
from tests.support.eagle_models import Eagle, write_eagle
from tests.support.head_models import Headed, write_headed
from tui.choices import HEAD, LOOKUP, NONE
from tui.engine.library.describe import describe
from tui.engine.library.find import candidate
from tui.engine.library.head_bytes import bytes_of_step
from tui.engine.library.header import BadModelFile, read_header
from tui.engine.library.heads import usable_heads
from tui.engine.library.pairing import SMALLEST, Judge, best_draft
from tui.engine.library.records import Measured
from tui.engine.starter import MAIN
from tui.protocol import FoundModel

WHOLE = tuple(f"blk.4.nextn.{name}.weight" for name in ("eh_proj", "enorm", "hnorm"))


@pytest.fixture(scope="module")
def headed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_headed(tmp_path_factory.mktemp("headed") / "headed.gguf")


def test_a_head_is_seen_by_its_tensors(headed: Path, tmp_path: Path) -> None:
    found = read_header(headed)
    assert (found.facts.head, found.heads, found.block_count) == ("mtp", 1, 5)
    assert {tensor.name.split(".")[1] for tensor in found.of_head} == {"4"}
    assert 0 < sum(tensor.bytes for tensor in found.of_head) < found.facts.size / 3
    assert read_header(models.write_model(tmp_path / "toy.gguf")).facts.head == ""
    for name in ("eh_proj", "enorm", "hnorm"):
        path = write_headed(tmp_path / f"{name}.gguf", Headed(without=(f"blk.4.nextn.{name}",)))
        assert read_header(path).facts.head == ""


def test_only_heads_that_the_library_can_run_count() -> None:
    assert usable_heads("qwen35", 5, 1, WHOLE) == 1
    assert usable_heads("step35", 6, 2, WHOLE) == 1, "the second of two heads lacks its tensors"
    assert usable_heads("qwen35", 6, 2, WHOLE) == 0
    assert usable_heads("qwen35", 5, 0, WHOLE) == 0
    assert usable_heads("qwen35", 1, 1, WHOLE) == 0
    assert usable_heads("qwen35", 4, 1, WHOLE) == 0, "the tensors are of another block"
    assert usable_heads("glm5-next", 5, 1, WHOLE) == 0
    assert usable_heads("glm4moe", 5, 1, WHOLE) == 0
    assert usable_heads("glm4moe", 5, 1, (*WHOLE, "blk.4.ffn_gate_inp.weight")) == 1


def test_the_head_of_a_model_in_several_files_is_seen_in_the_last_one(headed: Path, tmp_path: Path) -> None:
    reader = gguf.GGUFReader(headed)
    first, second = (tmp_path / f"m-0000{number}-of-00002.gguf" for number in (1, 2))
    head = [tensor for tensor in reader.tensors if tensor.name.startswith("blk.4.")]
    rest = [tensor for tensor in reader.tensors if not tensor.name.startswith("blk.4.")]
    for path, tensors, number in ((first, rest, 0), (second, head, 1)):
        writer = gguf.GGUFWriter(path, "qwen35")
        writer.add_uint16("split.count", 2)
        writer.add_uint16("split.no", number)
        if not number:
            writer.add_block_count(5)
            writer.add_embedding_length(64)
            writer.add_uint32("qwen35.nextn_predict_layers", 1)
            models.add_vocabulary(writer, models.Toy())
        for tensor in tensors:
            writer.add_tensor(tensor.name, tensor.data)
        models.finish(writer)
    found = read_header(first)
    assert found.facts.head == "mtp"
    assert len(found.of_head) == len(head)


@pytest.mark.parametrize(
    ("of", "heads", "reason"),
    [
        (Headed(without=(*Headed().trunk, "blk.4.nextn.hnorm")), 1, "only the head"),
        (Headed(), 5, "only the head"),
        (Headed(), 6, "6 heads in 5 layers"),
    ],
)
def test_a_head_without_its_model_is_rejected(tmp_path: Path, of: Headed, heads: int, reason: str) -> None:
    path = write_headed(tmp_path / "bad.gguf", of)
    field = gguf.GGUFReader(path, "r+").get_field("qwen35.nextn_predict_layers")
    assert field
    field.parts[field.data[0]][0] = heads
    with pytest.raises(BadModelFile, match=reason):
        read_header(path)


# As a draft


def described(path: Path) -> FoundModel:
    return structs.replace(describe(candidate(path)), size=1 << 30)


def test_a_head_is_ranked_by_its_measured_or_predicted_speed_up(headed: Path, tmp_path: Path) -> None:
    main = described(headed)
    assert main.head == "mtp"
    small = models.write_model(tmp_path / "small.gguf")
    draft = structs.replace(describe(candidate(small)), fingerprint=main.fingerprint)

    def order(
        past: dict[str, Measured], costs: dict[str, float] | None = None, size: int = 1 << 30
    ) -> list[str]:
        judge = Judge(
            structs.replace(main, size=size), lambda _, each: past.get(each), 0.05,
            cost=lambda _, each: (costs or {}).get(each),
        )  # fmt: skip
        verdicts = judge.all([draft])
        names = {str(small): "small"}
        assert best_draft(verdicts) in (verdicts[0].draft, LOOKUP)
        good = [each.speed_up or 0 for each in verdicts if each.judgement == "recommended"]
        assert good == sorted(good, reverse=True)
        return [names.get(each.draft, each.draft) for each in verdicts]

    fast, faster, slow = Measured(1.5, 3), Measured(1.9, 3), Measured(0.8, 9)
    assert order({}) == [HEAD, "small", LOOKUP, NONE], "it is right more often, and both cost little"
    assert order({HEAD: fast}) == ["small", HEAD, LOOKUP, NONE]
    assert order({HEAD: fast, str(small): faster}) == ["small", HEAD, LOOKUP, NONE]
    assert order({HEAD: faster, str(small): fast}) == [HEAD, "small", LOOKUP, NONE]
    assert order({HEAD: fast, str(small): fast}) == [HEAD, "small", LOOKUP, NONE]
    assert order({HEAD: slow, str(small): fast})[0] == "small"
    assert order({HEAD: slow})[0] == "small"
    assert order({}, {HEAD: 0.4, str(small): 0.1})[0] == "small", "the costs of their tokens are known"
    assert order({}, {HEAD: 1.2})[0] == "small"
    assert order({}, size=SMALLEST - 1) == ["small", HEAD, LOOKUP, NONE], "nothing is known"
    assert order({HEAD: fast}, size=SMALLEST - 1) == [HEAD, "small", LOOKUP, NONE]


def test_the_demo_takes_its_draft_model_until_its_head_was_faster() -> None:
    main, draft, head = (
        describe(candidate(MAIN.with_name(f"{name}.gguf"))) for name in ("main", "draft", "head")
    )

    def first(past: dict[str, Measured]) -> str:
        return Path(Judge(main, lambda _, each: past.get(each), 0.3).all([head, draft])[0].draft).stem

    assert first({}) == "draft"
    assert first({draft.path: Measured(1.17, 5), head.path: Measured(1.14, 5)}) == "draft"
    assert first({draft.path: Measured(1.17, 5), head.path: Measured(1.17, 5)}) == "head"


def test_the_bytes_of_a_step_are_those_of_the_head_and_of_its_output_layer(
    headed: Path, tmp_path: Path
) -> None:
    """In these toys each number has 4 bytes."""
    output = 4 * 64 * 2048
    found = read_header(headed)
    own = sum(each.bytes for each in found.tensors if each.name.startswith("blk.4."))
    assert bytes_of_step(described(headed)) == own + output
    several = described(write_headed(tmp_path / "several.gguf", Headed("hy_v3", heads=2)))
    heads = read_header(several.path).of_head
    assert bytes_of_step(several) == sum(each.bytes for each in heads), "they have output layers of their own"
    main = described(write_headed(tmp_path / "llama.gguf", Headed("llama")))
    for eagle, outputs in ((Eagle(), 1), (Eagle(own_embeddings=True), 0)):
        head = describe(candidate(write_eagle(tmp_path / f"{outputs}.gguf", eagle)))
        weights = read_header(head.path).facts.size
        assert bytes_of_step(main, head) == weights - (1 - outputs) * output + outputs * output
    head = describe(candidate(write_assistant(tmp_path / "assistant.gguf")))
    gemma = describe(candidate(write_gemma(tmp_path / "gemma.gguf")))
    assert bytes_of_step(gemma, head) == read_header(head.path).facts.size
    (tmp_path / "gemma.gguf").unlink()
    assert bytes_of_step(gemma, head) is None


def test_a_model_without_a_head_is_offered_none(tmp_path: Path) -> None:
    main = described(models.write_model(tmp_path / "toy.gguf"))
    verdicts = Judge(main, lambda *_: None, 0.05).all([])
    assert [each.draft for each in verdicts] == [LOOKUP, NONE]
