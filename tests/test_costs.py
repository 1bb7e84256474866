"""What a pair costs: measured, kept on disk, and never believed where it cannot be true."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tui.engine import costs
from tui.engine.costs import Memory, first_tokens, measure
from tui.engine.speculation.estimates import Costs
from tui.engine.speculation.loop import Pick
from tui.engine.speculation.pacing import Auto

TABLE = {1: 0.010, 2: 0.011, 3: 0.012, 4: 0.013, 5: 0.014, 6: 0.015, 8: 0.017, 9: 0.030, 12: 0.033, 16: 0.037}


class Timed:
    """A model on a clock of its own: it takes as long as its table says."""

    def __init__(
        self, path: Path, clock: list[float], table: dict[int, float], slow_first: float = 1.0
    ) -> None:
        self.path = str(path)
        self.capacity = 512
        self.length = 0
        self.asked: list[int] = []
        self.vocabulary = SimpleNamespace(encode_start=lambda: [7], encode=lambda text: [8])
        self._clock, self._table, self._slow_first = clock, table, slow_first
        self._started = False

    def start(self, sampler: Any) -> None:
        assert self.length == 0
        self._started = True

    def rewind(self, length: int) -> None:
        self.length = length

    def extend(self, tokens: Sequence[int], picks: int) -> list[Pick]:
        assert self.length == 0 and self._started
        assert set(tokens) == {7}
        assert picks in (1, len(tokens))
        self.length += len(tokens)
        assert self.length < self.capacity
        first = len(tokens) not in self.asked
        self.asked.append(len(tokens))
        seconds = self._table.get(len(tokens), 0.001 * len(tokens))
        self._clock[0] += seconds * (self._slow_first if first else 1.0)
        return [Pick(1, 1.0)] * picks


def timed(folder: Path, **kind: Any) -> tuple[Any, Any, list[float]]:
    clock = [100.0]
    for name in ("main", "draft"):
        (folder / f"{name}.gguf").write_bytes(name.encode() * 100)
    main = Timed(folder / "main.gguf", clock, TABLE, **kind)
    draft = Timed(folder / "draft.gguf", clock, {1: 0.002, 64: 0.002 + 63 * 0.0001})
    return main, draft, clock


def test_each_number_of_rows_gets_its_time_without_the_call_that_warms_up(tmp_path: Path) -> None:
    main, draft, clock = timed(tmp_path, slow_first=5.0)
    found = measure(main, draft, None, lambda: clock[0])
    for rows, seconds in TABLE.items():
        assert found.verify[rows - 1] == pytest.approx(seconds), rows
    assert found.draft == pytest.approx(0.002)
    assert found.read == pytest.approx(0.0001)
    assert main.length == draft.length == 0


def test_a_small_cache_is_not_asked_for_more_than_it_holds(tmp_path: Path) -> None:
    main, draft, clock = timed(tmp_path)
    main.capacity, draft.capacity = 6, 11
    draft._table = {1: 0.002, 10: 0.002 + 9 * 0.0001}
    found = measure(main, draft, None, lambda: clock[0])
    assert set(main.asked) == {1, 2, 3, 4, 5}
    assert set(draft.asked) == {1, 10}
    assert found.read == pytest.approx(0.0001)


def test_a_text_begins_with_what_the_model_wants_there_or_with_some_token(tmp_path: Path) -> None:
    main, _, _ = timed(tmp_path)
    words = main.vocabulary
    words.encode_start = lambda: [7, 9]
    assert first_tokens(main) == [7]
    words.encode_start = lambda: []
    assert first_tokens(main) == [8]
    words.encode = lambda text: []
    assert first_tokens(main) == [0]


def test_a_slow_model_is_asked_for_two_points_only(tmp_path: Path) -> None:
    main, draft, clock = timed(tmp_path)
    main._table = {1: 0.8, 4: 1.1}
    measure(main, draft, 0.8, lambda: clock[0])
    assert set(main.asked) == {4}
    assert clock[0] - 100 < 2 * 1.1 + costs.SECONDS


def test_a_token_that_seems_dearer_than_several_is_timed_again(tmp_path: Path) -> None:
    """The machine was busy when it was timed first."""
    main, draft, clock = timed(tmp_path)
    assert measure(main, draft, 0.8, lambda: clock[0]).verify[0] == pytest.approx(TABLE[1])


def test_what_was_learned_is_found_again_for_the_same_files_and_hardware(tmp_path: Path) -> None:
    main, draft, _ = timed(tmp_path)
    pace = Auto(Costs(TABLE, 0.002, 0.0001))
    pace.draft.learn([(0.95, True), (0.15, False)] * 30)
    kept = Memory(tmp_path / "costs", [main, draft], ["llama.cpp", "CPU"])
    kept.keep(pace)
    found = Memory(tmp_path / "costs", [main, draft], ["llama.cpp", "CPU"]).recall(0.010)
    assert found is not None
    assert found.as_dict() == pace.as_dict() != Auto(Costs(TABLE, 0.002, 0.0001)).as_dict()
    assert Memory(tmp_path / "costs", [main, draft], ["llama.cpp", "GPU"]).recall(0.010) is None
    (tmp_path / "draft.gguf").write_bytes(b"another model")
    assert Memory(tmp_path / "costs", [main, draft], ["llama.cpp", "CPU"]).recall(0.010) is None


@pytest.mark.parametrize("place", [0, 70_000, 199_999])
def test_another_model_of_the_same_size_is_told_by_its_ends(tmp_path: Path, place: int) -> None:
    main, draft, _ = timed(tmp_path)
    content = bytearray(200_000)
    Path(main.path).write_bytes(content)
    Memory(tmp_path / "costs", [main, draft], []).keep(Auto(Costs(TABLE, 0.002, 0.0001)))
    content[place] = 1
    Path(main.path).write_bytes(content)
    found = Memory(tmp_path / "costs", [main, draft], []).recall(0.010)
    assert (found is None) == (place != 70_000), "all of it would take too long to read"


def test_a_folder_is_known_by_the_files_in_it(tmp_path: Path) -> None:
    main, draft, _ = timed(tmp_path)
    folder = tmp_path / "mlx"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_text("weights")
    main.path = str(folder)
    Memory(tmp_path / "costs", [main, draft], []).keep(Auto(Costs(TABLE, 0.002, 0.0001)))
    assert Memory(tmp_path / "costs", [main, draft], []).recall(0.010) is not None
    (folder / "model.safetensors").write_text("Weights")
    assert Memory(tmp_path / "costs", [main, draft], []).recall(0.010) is None


def test_a_speed_that_is_far_off_has_the_pair_measured_again(tmp_path: Path) -> None:
    main, draft, _ = timed(tmp_path)
    memory = Memory(tmp_path / "costs", [main, draft], [])
    memory.keep(Auto(Costs(TABLE, 0.002, 0.0001)))
    found = memory.recall(0.012)
    assert found is not None
    assert 1 / found.plain_rate == pytest.approx(0.012), "that is as it is now"
    assert memory.recall(0.030) is None
    assert memory.recall(0.003) is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[1, 2]",
        lambda text: text.replace("0.01,", '"x",'),
        lambda text: text.replace('"draft"', '"craft"'),
        lambda text: json.dumps({**json.loads(text), "costs": {"verify": {"1": -1}}}),
        lambda text: json.dumps({**json.loads(text), "lookup": [[5, 1]] * 10}),
    ],
)
def test_a_damaged_file_is_as_good_as_none(tmp_path: Path, damage: Any) -> None:
    main, draft, _ = timed(tmp_path)
    memory = Memory(tmp_path / "costs", [main, draft], [])
    memory.keep(Auto(Costs(TABLE, 0.002, 0.0001)))
    [file] = (tmp_path / "costs").iterdir()
    file.write_text(damage(file.read_text()))
    assert memory.recall(0.010) is None


def test_a_folder_that_cannot_be_written_is_no_failure(tmp_path: Path) -> None:
    main, draft, _ = timed(tmp_path)
    (tmp_path / "costs").write_text("a file where the folder should be")
    memory = Memory(tmp_path / "costs", [main, draft], [])
    memory.keep(Auto(Costs(TABLE, 0.002, 0.0001)))
    assert memory.recall(0.010) is None
