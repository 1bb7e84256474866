"""A file has a head where its metadata and its tensors say so, and llama.cpp can run it."""

from __future__ import annotations

from pathlib import Path

import gguf
import pytest
from msgspec import structs

from tests.support import models
from tests.support.head_models import Headed, write_headed
from tui.choices import HEAD, LOOKUP, NONE
from tui.engine.library.describe import describe
from tui.engine.library.find import candidate
from tui.engine.library.header import BadModelFile, read_header
from tui.engine.library.heads import usable_heads
from tui.engine.library.pairing import Judge, best_draft
from tui.engine.library.records import Measured
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


def test_the_head_is_the_first_proposal_until_another_draft_was_measured_faster(
    headed: Path, tmp_path: Path
) -> None:
    main = described(headed)
    assert main.head == "mtp"
    small = models.write_model(tmp_path / "small.gguf")
    draft = structs.replace(describe(candidate(small)), fingerprint=main.fingerprint)

    def order(past: dict[str, Measured]) -> list[str]:
        verdicts = Judge(main, lambda _, each: past.get(each), 0.05).all([draft])
        names = {str(small): "small"}
        assert best_draft(verdicts) in (verdicts[0].draft, LOOKUP)
        return [names.get(each.draft, each.draft) for each in verdicts]

    fast, faster, slow = Measured(1.5, 3), Measured(1.9, 3), Measured(0.8, 9)
    assert order({}) == [HEAD, "small", LOOKUP, NONE]
    assert order({HEAD: fast}) == [HEAD, "small", LOOKUP, NONE], "the other draft is only predicted"
    assert order({HEAD: fast, str(small): faster}) == ["small", HEAD, LOOKUP, NONE]
    assert order({HEAD: faster, str(small): fast}) == [HEAD, "small", LOOKUP, NONE]
    assert order({HEAD: slow, str(small): fast})[0] == "small"
    assert order({HEAD: slow})[0] == "small"


def test_a_model_without_a_head_is_offered_none(tmp_path: Path) -> None:
    main = described(models.write_model(tmp_path / "toy.gguf"))
    verdicts = Judge(main, lambda *_: None, 0.05).all([])
    assert [each.draft for each in verdicts] == [LOOKUP, NONE]
