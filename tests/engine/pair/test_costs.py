"""What a pair costs: measured, kept on disk, and never believed where it cannot be true."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec import structs

from tui.engine.pair import costs
from tui.engine.pair.costs import RememberedCosts, first_tokens, measure
from tui.engine.speculation.estimates import Costs
from tui.engine.speculation.loop import Pick
from tui.engine.speculation.policy import AdaptiveLength
from tui.protocol import ModelFacts

TABLE = {1: 0.010, 2: 0.011, 3: 0.012, 4: 0.013, 5: 0.014, 6: 0.015, 8: 0.017, 9: 0.030, 12: 0.033, 16: 0.037}


class Timed:
    """A model on a clock of its own: it takes as long as its table says."""

    def __init__(
        self, path: Path, clock: list[float], table: dict[int, float], slow_first: float = 1.0
    ) -> None:
        self.facts = ModelFacts("m", str(path), "llama", 1, "F32", 1, 1, 1)
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


def test_a_slow_model_is_asked_for_one_number_of_rows_only(tmp_path: Path) -> None:
    main, draft, clock = timed(tmp_path)
    main._table = {1: 0.5, 2: 0.6}
    draft._table = {1: 0.1}
    found = measure(main, draft, 0.5, lambda: clock[0])
    assert set(main.asked) == {1, 2}
    assert found.verify[1] == pytest.approx(0.6)
    assert found.draft == pytest.approx(0.1)
    assert clock[0] - 100 < 2 * costs.SECONDS


@pytest.mark.parametrize("one", [0.0005, 0.02, 0.15, 0.7, 5.0])
@pytest.mark.parametrize("row", [0.05, 0.4, 1.0])
@pytest.mark.parametrize("read", [0.1, 1.0])
def test_no_model_is_timed_for_longer_than_was_said(
    tmp_path: Path, one: float, row: float, read: float
) -> None:
    """A draft that takes as long for 64 tokens at once as one by one would be waited for for a minute."""
    main, draft, clock = timed(tmp_path)
    main._table = {rows: one * (1 + row * (rows - 1)) for rows in range(1, 18)}
    draft._table = {size: one * (1 + read * (size - 1)) for size in range(1, 65)}
    measure(main, draft, one, lambda: clock[0])
    assert clock[0] - 100 < 2 * costs.SECONDS + (one > costs.SECONDS) * 2 * one


def test_a_machine_that_slows_down_meanwhile_has_the_same_ratios(tmp_path: Path) -> None:
    main, draft, clock = timed(tmp_path)

    class Slowing(dict[int, float]):
        def __init__(self, table: dict[int, float]) -> None:
            super().__init__(table)

        def get(self, tokens: int, default: Any = None) -> Any:  # 3 times as slow after half a second
            return super().get(tokens, default) * (3 if clock[0] > 100.5 else 1)

    main._table, draft._table = Slowing(TABLE), Slowing(draft._table)
    found = measure(main, draft, None, lambda: clock[0])
    for rows in (2, 3, 4, 8, 16):
        assert found.verify[rows - 1] / found.verify[0] == pytest.approx(TABLE[rows] / TABLE[1], rel=0.1)
    assert found.draft / found.verify[0] == pytest.approx(0.2, rel=0.05)


def test_one_slow_call_of_several_changes_no_ratio(tmp_path: Path) -> None:
    main, draft, clock = timed(tmp_path)
    plain = main.extend

    def extend(tokens: Sequence[int], picks: int) -> list[Pick]:
        clock[0] += 0.2 if main.asked.count(4) == 2 and len(tokens) == 4 else 0.0
        return plain(tokens, picks)  # type: ignore[no-any-return]

    main.extend = extend
    found = measure(main, draft, None, lambda: clock[0])
    assert main.asked.count(4) > 3
    assert found.verify[3] == pytest.approx(TABLE[4])


def test_a_long_call_whose_first_time_seems_dear_is_timed_again(tmp_path: Path) -> None:
    """The calls of a slow model are timed once, and its cost of four rows may be that of a busy moment."""
    main, draft, clock = timed(tmp_path)
    main._table = {rows: 0.2 * (1 + 0.2 * (rows - 1)) for rows in range(1, 18)}
    draft._table = {size: 0.02 * size for size in range(1, 65)}
    plain = main.extend

    def extend(tokens: Sequence[int], picks: int) -> list[Pick]:
        clock[0] += 0.5 if len(tokens) == 4 and main.asked.count(4) == 0 else 0.0
        return plain(tokens, picks)  # type: ignore[no-any-return]

    main.extend = extend
    found = measure(main, draft, 0.2, lambda: clock[0])
    assert main.asked.count(4) == 2
    assert found.verify[3] == pytest.approx(0.32, rel=0.05)
    assert found.doubt()[4] > 0.15, "it is still doubted, and practiced"


def test_a_busy_moment_in_the_single_rows_makes_a_long_call_no_cheaper(tmp_path: Path) -> None:
    """The call of four rows is timed once or twice, and the single row behind it may be slow."""
    main, draft, clock = timed(tmp_path)
    main._table = {rows: 0.25 * rows for rows in range(1, 18)}
    draft._table = {size: 0.15 * size for size in range(1, 65)}
    plain = main.extend

    def extend(tokens: Sequence[int], picks: int) -> list[Pick]:
        busy = len(tokens) == 1 and main.asked[-1:] == [4]
        clock[0] += 1.0 if busy else 0.0
        return plain(tokens, picks)  # type: ignore[no-any-return]

    main.extend = extend
    found = measure(main, draft, 0.25, lambda: clock[0])
    assert found.verify[3] / found.verify[0] == pytest.approx(4.0, rel=0.1)


def test_a_ratio_that_was_timed_often_and_evenly_is_doubted_less(tmp_path: Path) -> None:
    main, draft, clock = timed(tmp_path)
    sure = measure(main, draft, None, lambda: clock[0]).doubt()
    main, draft, clock = timed(tmp_path)
    main._table = {1: 0.5, 2: 0.6}
    unsure = measure(main, draft, 0.5, lambda: clock[0]).doubt()
    assert sure[4] < 0.2 < unsure[4]
    assert sure[4] < sure[15], "never timed"


def test_a_token_that_seems_dearer_than_several_is_not_believed(tmp_path: Path) -> None:
    """The machine was busy when it was timed first."""
    main, draft, clock = timed(tmp_path)
    assert measure(main, draft, 0.8, lambda: clock[0]).verify[0] == pytest.approx(TABLE[1])


def test_what_was_learned_is_found_again_for_the_same_files_and_hardware(tmp_path: Path) -> None:
    main, draft, _ = timed(tmp_path)
    policy = AdaptiveLength(Costs(TABLE, 0.002, 0.0001))
    policy.skill.draft.learn([(0.95, True), (0.15, False)] * 30)
    kept = RememberedCosts(tmp_path / "costs", [main, draft], ["llama.cpp", "CPU"])
    kept.keep(policy)
    found = RememberedCosts(tmp_path / "costs", [main, draft], ["llama.cpp", "CPU"]).recall(0.010)
    assert found is not None
    assert found.as_dict() == policy.as_dict() != AdaptiveLength(Costs(TABLE, 0.002, 0.0001)).as_dict()
    assert RememberedCosts(tmp_path / "costs", [main, draft], ["llama.cpp", "GPU"]).recall(0.010) is None
    (tmp_path / "draft.gguf").write_bytes(b"another model")
    assert RememberedCosts(tmp_path / "costs", [main, draft], ["llama.cpp", "CPU"]).recall(0.010) is None


@pytest.mark.parametrize("place", [0, 70_000, 199_999])
def test_another_model_of_the_same_size_is_told_by_its_ends(tmp_path: Path, place: int) -> None:
    main, draft, _ = timed(tmp_path)
    content = bytearray(200_000)
    Path(main.facts.path).write_bytes(content)
    RememberedCosts(tmp_path / "costs", [main, draft], []).keep(AdaptiveLength(Costs(TABLE, 0.002, 0.0001)))
    content[place] = 1
    Path(main.facts.path).write_bytes(content)
    found = RememberedCosts(tmp_path / "costs", [main, draft], []).recall(0.010)
    assert (found is None) == (place != 70_000), "all of it would take too long to read"


def test_a_folder_is_known_by_the_files_in_it(tmp_path: Path) -> None:
    main, draft, _ = timed(tmp_path)
    folder = tmp_path / "mlx"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_text("weights")
    main.facts = structs.replace(main.facts, path=str(folder))
    RememberedCosts(tmp_path / "costs", [main, draft], []).keep(AdaptiveLength(Costs(TABLE, 0.002, 0.0001)))
    assert RememberedCosts(tmp_path / "costs", [main, draft], []).recall(0.010) is not None
    (folder / "model.safetensors").write_text("Weights")
    assert RememberedCosts(tmp_path / "costs", [main, draft], []).recall(0.010) is None


def test_a_speed_that_is_far_off_has_the_pair_measured_again(tmp_path: Path) -> None:
    main, draft, _ = timed(tmp_path)
    memory = RememberedCosts(tmp_path / "costs", [main, draft], [])
    memory.keep(AdaptiveLength(Costs(TABLE, 0.002, 0.0001)))
    found = memory.recall(0.012)
    assert found is not None
    assert 1 / found.plain_rate == pytest.approx(0.012), "that is as it is now"
    busy = memory.recall(0.030)
    assert busy is not None
    assert busy.costs.draft == pytest.approx(0.006), "a busy machine is as slow for the draft"
    assert memory.recall(0.1) is None
    assert memory.recall(0.001) is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[1, 2]",
        lambda text: re.sub(r'"1": [^,]*,', '"1": "x",', text, count=1),
        lambda text: text.replace('"draft"', '"craft"'),
        lambda text: text.replace('"doubt"', '"debt"'),
        lambda text: json.dumps({**json.loads(text), "costs": {"verify": {"1": -1}}}),
        lambda text: json.dumps({**json.loads(text), "lookup": [[5, 1]] * 10}),
    ],
)
def test_a_damaged_file_is_as_good_as_none(tmp_path: Path, damage: Any) -> None:
    main, draft, _ = timed(tmp_path)
    memory = RememberedCosts(tmp_path / "costs", [main, draft], [])
    memory.keep(AdaptiveLength(Costs(TABLE, 0.002, 0.0001)))
    [file] = (tmp_path / "costs").iterdir()
    file.write_text(damage(file.read_text()))
    assert memory.recall(0.010) is None


def test_a_folder_that_cannot_be_written_is_no_failure(tmp_path: Path) -> None:
    main, draft, _ = timed(tmp_path)
    (tmp_path / "costs").write_text("a file where the folder should be")
    memory = RememberedCosts(tmp_path / "costs", [main, draft], [])
    memory.keep(AdaptiveLength(Costs(TABLE, 0.002, 0.0001)))
    assert memory.recall(0.010) is None
