"""Heads that lie beside a model on the hub: offered as its draft, and never taken for the model."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.head_models import Headed, write_headed
from tests.support.hub import hub
from tests.support.models import Toy, write_model
from tui.engine.downloader import answer
from tui.engine.library.describe import holds_only_head
from tui.engine.library.hub import Listing, RemoteFile
from tui.engine.library.hub_access import HubError
from tui.protocol import Download, Downloaded, Event

GB = 10**9


def listing(**sizes: float) -> Listing:
    files = {
        name: RemoteFile("m/m", name, round(size * GB), "", "a" * 64, "") for name, size in sizes.items()
    }
    return Listing("m/m", files, "mit", False)


def heads(found: Listing) -> dict[str, str]:
    return {each.name: each.head for each in found.choices() if each.head}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("mtp-Model-Q8_0.gguf", "mtp"),
        ("MTP/Model-Q8_0.gguf", "mtp"),
        ("Model-EAGLE3-Q8_0.gguf", "eagle3"),
        ("eagle-3/model.gguf", "eagle3"),
        ("gemma-4-assistant-Q8_0.gguf", "assistant"),
        ("Model-MTP-Q8_0.gguf", ""),
        ("amtp-Model.gguf", ""),
        ("Model-assistants-Q8_0.gguf", ""),
        ("Model-Q2_K.gguf", ""),
    ],
)
def test_a_head_is_recognized_by_its_name_beside_a_model(name: str, kind: str) -> None:
    found = listing(**{"Model-Q4_K_M.gguf": 5, name: 0.4})
    assert heads(found) == ({name: kind} if kind else {})
    if kind:
        assert [each.name for each in found.choices()] == ["Model-Q4_K_M.gguf", name], "heads come last"


def test_without_a_larger_model_beside_it_nothing_is_a_head() -> None:
    """A repository of heads alone, and a model whose name only sounds like one."""
    assert heads(listing(**{"mtp-a-Q8_0.gguf": 1, "mtp-a-F16.gguf": 2})) == {}
    assert heads(listing(**{"My-Assistant-Q4_K_M.gguf": 5, "My-Assistant-Q8_0.gguf": 9})) == {}
    assert heads(listing(**{"Small-Q4_K_M.gguf": 1, "My-assistant-Q8_0.gguf": 9})) == {}


def test_a_quantization_means_the_model_and_a_name_means_the_head() -> None:
    found = listing(
        **{
            "Model-Q4_K_M.gguf": 5,
            "Model-Q8_0.gguf": 9,
            "mtp-Model-Q4_K_M.gguf": 0.3,
            "mtp-Model-Q8_0.gguf": 0.5,
        }
    )
    assert found.named("") == "Model-Q4_K_M.gguf"
    assert found.named("q8_0") == "Model-Q8_0.gguf"
    assert found.named("mtp-model-q8_0") == "mtp-Model-Q8_0.gguf"
    with pytest.raises(HubError, match="may be several files"):
        found.named("mtp")
    assert listing(**{"Model-F16.gguf": 9, "mtp-Model-F16.gguf": 1}).named("") == "Model-F16.gguf"


def test_a_head_at_the_top_is_told_from_the_same_head_in_a_folder() -> None:
    found = listing(
        **{
            "Model-UD-Q4_K_XL.gguf": 6,
            "mtp-Model.gguf": 0.2,
            "MTP/mtp-Model-Q4_0.gguf": 0.2,
            "MTP/mtp-Model.gguf": 0.4,
        }
    )
    assert found.named("UD-Q4_K_XL") == "Model-UD-Q4_K_XL.gguf"
    assert found.named("mtp-Model.gguf") == "mtp-Model.gguf"
    assert found.named("MTP/mtp-Model.gguf") == "MTP/mtp-Model.gguf"


def test_the_head_of_the_same_quantization_is_offered_or_else_the_usual_one() -> None:
    found = listing(
        **{
            "Model-Q4_K_M.gguf": 5,
            "Model-Q6_K.gguf": 7,
            "mtp-Model-F16.gguf": 1,
            "mtp-Model-Q8_0.gguf": 0.5,
            "mtp-Model-Q4_K_M.gguf": 0.3,
        }
    )
    assert found.head_beside("Model-Q4_K_M.gguf") == "mtp-Model-Q4_K_M.gguf"
    assert found.head_beside("Model-Q6_K.gguf") == "mtp-Model-Q8_0.gguf"
    assert found.head_beside("mtp-Model-F16.gguf") == ""
    assert listing(**{"Model-Q4_K_M.gguf": 5}).head_beside("Model-Q4_K_M.gguf") == ""


def test_no_second_mtp_head_is_offered_to_a_model_with_one_inside() -> None:
    found = listing(**{"Model-MTP-Q8_0.gguf": 9, "Model-Q8_0.gguf": 9, "mtp-Model-Q8_0.gguf": 1})
    assert found.head_beside("Model-MTP-Q8_0.gguf") == "", "its name tells"
    assert found.head_beside("Model-Q8_0.gguf") == "mtp-Model-Q8_0.gguf"
    assert found.head_beside("Model-Q8_0.gguf", inside=True) == ""
    other = listing(**{"Model-Q8_0.gguf": 9, "mtp-Model-Q8_0.gguf": 1, "Model-EAGLE3.gguf": 1.1})
    assert other.head_beside("Model-Q8_0.gguf", inside=True) == "Model-EAGLE3.gguf", "a head of another kind"


def test_the_metadata_of_a_download_tell_that_its_head_is_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = write_headed(tmp_path / "whole.gguf", Headed("glm4moe", layers=8))
    alone = write_headed(tmp_path / "alone.gguf", Headed("glm4moe", layers=8, without=Headed(layers=8).trunk))
    with hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        contents = {"Model-Q8_0.gguf": whole.read_bytes(), "mtp-Model-Q8_0.gguf": alone.read_bytes()}
        server.repositories = {"maker/M": contents}
        events: list[Event] = []
        answer(Download(-1, "maker/M", "Model-Q8_0.gguf"), tmp_path / "models", events.append)
    assert isinstance(events[-1], Downloaded), events
    assert events[-1].head == ""


def test_a_download_names_the_head_and_the_metadata_decide_about_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One file is a head. The other one only has the name of one: here it is a model like any other."""
    whole = write_headed(tmp_path / "whole.gguf", Headed("glm4moe", layers=8, headless=True))
    alone = write_headed(tmp_path / "alone.gguf", Headed("glm4moe", layers=8, without=Headed(layers=8).trunk))
    plain = write_model(tmp_path / "plain.gguf", Toy())
    contents = {"Model-Q8_0.gguf": whole, "mtp-Model-Q8_0.gguf": alone, "mtp-other-Q4_0.gguf": plain}
    with hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        server.repositories = {"maker/M": {name: path.read_bytes() for name, path in contents.items()}}
        told: dict[str, str] = {}
        found: dict[str, bool] = {}
        for name in contents:
            events: list[Event] = []
            answer(Download(-1, "maker/M", name), tmp_path / "models", events.append)
            assert isinstance(events[-1], Downloaded), events
            told[name] = events[-1].head
            found[name] = holds_only_head(events[-1].path)
    assert told == {"Model-Q8_0.gguf": "mtp-Model-Q8_0.gguf", **dict.fromkeys([*contents][1:], "")}
    assert found == {"Model-Q8_0.gguf": False, "mtp-Model-Q8_0.gguf": True, "mtp-other-Q4_0.gguf": False}
