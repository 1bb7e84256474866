"""The files of saved states: found by the longest beginning, checked, and never more than their budget."""

from __future__ import annotations

import errno
import os
import random
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tui.engine.backends import common_prefix
from tui.engine.states import state_file, state_folder
from tui.engine.states.state_file import ReadingRule, SavedState, StateHead, pieces, read_state
from tui.engine.states.state_folder import Candidate, ModelMark, StateFolder

MARK = ModelMark("model.gguf f16", "the file", "llama.cpp 1")
LARGE = 1 << 40


def state(tokens: list[int], size: int = 1000, mark: ModelMark = MARK, cut_from: int = 0) -> SavedState:
    copies = (bytes(range(50)), b"")
    rule = ReadingRule(32, 3, ((4, 9), (12, sys.maxsize)))
    head = StateHead(mark.model, mark.library, len(tokens), cut_from, ((2, 50), (3, 0)), size, rule)
    return SavedState(head, tokens, copies, random.Random(size).randbytes(size))


def saved(folder: StateFolder, chat: str, content: SavedState, mark: ModelMark = MARK) -> None:
    writer = folder.begin(mark, chat, content)
    assert writer is not None
    while not writer.step():
        pass


def found(folder: StateFolder, context: list[int], mark: ModelMark = MARK) -> list[int]:
    """The usable tokens of each state, the most first."""
    each = folder.candidates(mark, lambda head, tokens: head.reach(common_prefix(tokens, context)))
    return [candidate.usable for candidate in each]


def found_files(folder: StateFolder, context: list[int]) -> list[Candidate]:
    return folder.candidates(MARK, lambda head, tokens: head.reach(common_prefix(tokens, context)))


def best(folder: StateFolder, context: list[int]) -> Candidate:
    return found_files(folder, context)[0]


def files(path: Path) -> list[str]:
    return sorted(each.name for each in path.iterdir())


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    return StateFolder(tmp_path / "states", LARGE)


def test_a_state_comes_back_as_it_was_and_nobody_else_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "a" / "states"
    folder = StateFolder(path, LARGE)
    content = state([5, 0, (1 << 31) - 1], size=3 * state_file.PIECE // 2)
    saved(folder, "chat", content)
    (name,) = files(path)
    assert "chat" not in name
    assert (path / name).stat().st_size == content.size
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert stat.S_IMODE((path / name).stat().st_mode) == 0o600
    back = StateFolder(path, LARGE).load(path / name)
    assert back is not None
    assert (back.head, list(back.tokens)) == (content.head, content.tokens)
    assert [bytes(each) for each in back.copies] == list(content.copies)
    assert back.cells == content.cells


def test_the_longest_usable_beginning_comes_first(folder: StateFolder) -> None:
    saved(folder, "a", state([1, 2, 3, 4]))
    saved(folder, "b", state([1, 2, 3, 4, 5, 6]))
    saved(folder, "c", state([1, 2, 3, 4, 5, 6, 7, 8], cut_from=8))
    saved(folder, "d", state([9, 9, 9], cut_from=3))
    assert found(folder, [1, 2, 3, 4, 5, 9]) == [5, 4, 3, 0]
    assert found(folder, [1, 2, 3, 4, 5, 6, 7, 8, 9])[0] == 8
    assert found(folder, [1, 2, 7]) == [2, 2, 2, 0]


def test_a_chat_has_one_state_for_each_model_and_setting(folder: StateFolder, tmp_path: Path) -> None:
    other = ModelMark("model.gguf q8_0", "the file", "llama.cpp 1")
    saved(folder, "a", state([1, 2]))
    saved(folder, "a", state([1, 2, 3, 4]))
    saved(folder, "a", state([1, 2, 3], mark=other), other)
    assert folder.usage().files == 2
    assert (found(folder, [1, 2, 3, 4, 5]), found(folder, [1, 2, 3, 4, 5], other)) == ([4], [3])


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        (ModelMark(MARK.group, "another file", MARK.library), "the file of its model has changed"),
        (ModelMark(MARK.group, MARK.model, "llama.cpp 2"), "it is of llama.cpp 1, and this is llama.cpp 2"),
    ],
)
def test_a_state_that_no_one_can_use_again_is_removed_with_the_reason(
    folder: StateFolder, now: ModelMark, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(folder, "a", state([1, 2]))
    assert found(folder, [1, 2, 3], now) == []
    assert reason in capsys.readouterr().err
    assert folder.usage().files == 0


def test_a_torn_or_changed_file_is_never_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Cut at each of many places, changed by one bit at each, with bytes behind it, and no state at all."""
    folder, chance = StateFolder(tmp_path, LARGE), random.Random(1)
    saved(folder, "a", state(list(range(20))))
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    places = [*range(80), *(chance.randrange(len(whole)) for _ in range(150)), *range(-20, 0)]
    damaged = [whole[: at % len(whole)] for at in places]
    for at in places:
        changed = bytearray(whole)
        changed[at] ^= 1 << chance.randrange(8)
        damaged.append(bytes(changed))
    for content in [*damaged, whole + b"\0", b"", b"\0" * 5000, os.urandom(5000)]:
        path.write_bytes(content)
        fresh = StateFolder(tmp_path, LARGE)
        for candidate in fresh.candidates(MARK, lambda head, tokens: head.tokens):
            assert fresh.load(candidate.path) is None
        assert not path.exists()
        assert "is removed: " in capsys.readouterr().err
    path.write_bytes(whole)
    assert folder.load(path) is not None


def test_a_load_that_is_stopped_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_file, "PIECE", 100)
    folder, looks = StateFolder(tmp_path, LARGE), list[int]()
    saved(folder, "a", state([1, 2], size=1000))
    (path,) = tmp_path.iterdir()
    assert folder.load(path, lambda: looks.append(1) or len(looks) > 5) is None
    assert len(looks) == 6
    assert folder.load(path) is not None


def test_other_files_in_the_folder_are_left_alone(folder: StateFolder, tmp_path: Path) -> None:
    saved(folder, "a", state([1, 2]))
    mine = tmp_path / "states" / "mine.txt"
    mine.write_text("x")
    assert folder.usage().files == 1
    assert folder.forget().files == 1
    assert files(tmp_path / "states") == ["mine.txt"]


def test_the_least_recently_used_states_make_room(tmp_path: Path) -> None:
    now = [1000.0]
    folder = StateFolder(tmp_path, 4500, now=lambda: now[0])
    for number, chat in enumerate("abc"):
        saved(folder, chat, state([number]))
        os.utime(next(each for each in tmp_path.iterdir() if each.stat().st_mtime > 2000), (number, number))
    assert folder.load(best(folder, [0]).path) is not None
    saved(folder, "d", state([3]))
    kept = [1 in found(folder, [number]) for number in range(4)]
    assert kept == [True, False, True, True]
    assert folder.usage().size <= 4500


def test_half_of_the_free_disk_stays_free(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    free = [2100]
    folder = StateFolder(tmp_path, LARGE, free=lambda path: free[0])
    assert folder.begin(MARK, "a", state([1], size=1200)) is None
    assert "there is room for 1,050" in capsys.readouterr().err
    free[0] = 6000
    for chat in "abc":
        saved(folder, chat, state([1]))
    assert folder.usage().files == 3
    free[0] = 1500
    saved(folder, "d", state([1]))
    assert folder.usage().files == 2
    assert "there is room" not in capsys.readouterr().err


def test_a_state_is_removed_after_a_month_without_use(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path, LARGE)
    saved(folder, "a", state([1]))
    (path,) = tmp_path.iterdir()
    old = time.time() - state_folder.OLDEST - 10
    os.utime(path, (old, old))
    saved(folder, "b", state([2]))
    assert not path.exists()
    assert folder.usage().files == 1


def test_after_a_clock_that_went_back_states_get_old_again(tmp_path: Path) -> None:
    """A state of the future counts as used now. It must not stay for ever, and make all others leave."""
    now = [time.time()]
    folder = StateFolder(tmp_path, 3500, now=lambda: now[0])
    saved(folder, "future", state([1]))
    (path,) = tmp_path.iterdir()
    ahead = now[0] + 10 * state_folder.OLDEST
    os.utime(path, (ahead, ahead))
    saved(folder, "b", state([2]))
    assert path.stat().st_mtime == now[0]
    now[0] += 10
    folder.use(MARK, "b")
    saved(folder, "c", state([3]))
    saved(folder, "d", state([4]))
    assert not path.exists()
    assert folder.usage().files == 2, "each has more than 1,000 bytes"


def test_a_leftover_of_the_future_is_removed(tmp_path: Path) -> None:
    leftover = tmp_path / ".a.b.part"
    leftover.write_bytes(b"x")
    StateFolder(tmp_path, LARGE)._remove_leftovers()
    assert leftover.exists(), "its engine may be about to lock it"
    ahead = time.time() + 1000
    os.utime(leftover, (ahead, ahead))
    StateFolder(tmp_path, LARGE)._remove_leftovers()
    assert not leftover.exists()


def test_a_chat_is_forgotten_with_every_model(folder: StateFolder) -> None:
    other = ModelMark("other.gguf", "x", "y")
    for chat in "ab":
        saved(folder, chat, state([1]))
        saved(folder, chat, state([1], mark=other), other)
    assert folder.forget("a").files == 2
    assert folder.usage().files == 2
    assert folder.forget("a").files == 0
    assert folder.forget().size > 2000
    assert folder.usage() == (0, 0)


def test_a_forgotten_chat_leaves_no_unfinished_file(folder: StateFolder, tmp_path: Path) -> None:
    """Neither that of an engine that has just been killed, nor that of one that still writes."""
    begun = [folder.begin(MARK, chat, state([1, 2])) for chat in "abc"]
    killed, living, other = (each for each in begun if each)
    killed._file.close()  # as its end would: the file is no longer locked
    folder.forget("a")
    folder.forget("b")
    left = files(tmp_path / "states")
    assert [other._part.name] == left
    with pytest.raises(FileNotFoundError):
        while not living.step():
            pass
    folder.forget()
    living.drop()
    other.drop()
    assert files(tmp_path / "states") == []


def test_files_are_their_owners_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        folder = StateFolder(tmp_path / "a" / "states", LARGE)
        writer = folder.begin(MARK, "a", state([1, 2]))
        assert writer
        parts = list((tmp_path / "a").rglob(".*.part"))
        modes = [
            stat.S_IMODE(each.stat().st_mode) for each in (tmp_path / "a", tmp_path / "a" / "states", *parts)
        ]
        while not writer.step():
            pass
    finally:
        os.umask(before)
    assert modes == [0o700, 0o700, 0o600]
    (path,) = (tmp_path / "a" / "states").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def read_only(path: Path, patch: pytest.MonkeyPatch) -> None:
    """Let every change of the folder fail, as on a disk that is mounted to be read only."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    for holder, name in ((os, "utime"), (Path, "unlink"), (state_folder.tempfile, "mkstemp")):
        patch.setattr(holder, name, fail)


def test_a_folder_that_is_read_only_still_wakes_chats(
    folder: StateFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(folder, "a", state([1, 2]))
    with monkeypatch.context() as patch:
        read_only(tmp_path, patch)
        loaded = folder.load(best(folder, [1, 2, 3]).path)
        folder.use(MARK, "a")
        with pytest.raises(OSError, match="Read-only"):
            folder.begin(MARK, "a", state([1, 2, 3]))
    assert loaded is not None
    assert list(loaded.tokens) == [1, 2]
    assert capsys.readouterr().err == ""


def test_a_bad_file_that_cannot_be_removed_is_read_once(
    folder: StateFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The log tells it once, and other states still wake."""
    saved(folder, "a", state([1, 2, 3]))
    saved(folder, "b", state([1, 2]))
    path = best(folder, [1, 2, 3, 4]).path
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    reads: list[Path] = []
    read = state_folder.read_state
    monkeypatch.setattr(
        state_folder, "read_state", lambda path, stopped: reads.append(path) or read(path, stopped)
    )
    with monkeypatch.context() as patch:
        read_only(tmp_path, patch)
        for _ in range(3):
            loaded = [folder.load(each.path) for each in found_files(folder, [1, 2, 3, 4])]
            assert [list(each.tokens) for each in loaded if each] == [[1, 2]]
    assert reads.count(path) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot be used (its checksum is wrong) nor removed: Read-only file system" in line
    saved(folder, "a", state([1, 2, 3]))
    assert found(folder, [1, 2, 3, 4]) == [3, 2], "a file that replaces it is read"


def test_a_write_that_is_given_up_leaves_nothing(folder: StateFolder, tmp_path: Path) -> None:
    saved(folder, "a", state([1]))
    writer = folder.begin(MARK, "a", state([1, 2]))
    assert writer is not None
    writer.step()
    writer.drop()
    writer.drop()
    assert found(folder, [1, 2, 3]) == [1]
    assert len(files(tmp_path / "states")) == 1


def test_two_engines_use_one_folder(tmp_path: Path) -> None:
    """Both write the same chat; one reads a file that the other replaces and removes."""
    one, other = StateFolder(tmp_path, LARGE), StateFolder(tmp_path, LARGE)
    saved(one, "a", state([1, 2]))
    assert found(other, [1, 2, 3, 4]) == [2]
    writers = [each.begin(MARK, "a", state([1, 2, 3, number])) for number, each in enumerate((one, other))]
    done = [False, False]
    while not all(done):
        for number, writer in enumerate(writers):
            assert writer is not None
            done[number] = done[number] or writer.step()
    assert found(one, [1, 2, 3, 1]) == found(other, [1, 2, 3, 1]) == [4]
    path = best(one, [1, 2, 3, 1]).path
    assert other.forget("a").files == 1
    assert one.load(path) is None
    assert found(one, [1, 2, 3]) == []


def killed_while_it_writes(path: Path, chance: random.Random) -> None:
    """Let a process save states for ever, and kill it at some moment of a write."""
    code = f"""
import sys
from pathlib import Path
from tui.engine.states import state_file
from tui.engine.states.state_file import ReadingRule, SavedState, StateHead
from tui.engine.states.state_folder import ModelMark, StateFolder
state_file.PIECE = 100
folder, number = StateFolder(Path({str(path)!r}), 1 << 40), 0
mark = ModelMark({MARK.group!r}, {MARK.model!r}, {MARK.library!r})
while True:
    number += 1
    head = StateHead(mark.model, mark.library, number, 0, (), 3000)
    writer = folder.begin(mark, "a", SavedState(head, range(number), (), bytes([number % 256]) * 3000))
    while not writer.step():
        print(number, flush=True)
"""
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT)
    assert child.stdout is not None
    for _ in range(chance.randrange(1, 120)):
        assert child.stdout.readline()
    child.send_signal(signal.SIGKILL)
    assert child.wait(60) == -signal.SIGKILL
    child.stdout.close()


def test_a_kill_in_the_middle_of_a_write_leaves_the_old_state_or_the_new_one(tmp_path: Path) -> None:
    chance = random.Random(os.environ.get("SEED", "3"))
    for _ in range(int(os.environ.get("KILLS", "4"))):
        killed_while_it_writes(tmp_path, chance)
        folder = StateFolder(tmp_path, LARGE, now=lambda: time.time() + 100)
        whole = [path for path in tmp_path.iterdir() if path.suffix == ".state"]
        for path in whole:
            content = read_state(path)
            assert content is not None
            assert content.cells == bytes([content.head.tokens % 256]) * 3000
        if chance.random() < 0.5:
            saved(folder, "b", state([1]))
        else:
            folder.forget("b")
        assert [name for name in files(tmp_path) if name.endswith(".part")] == []
        folder.forget("b")


def test_the_file_of_a_living_engine_is_not_removed(tmp_path: Path) -> None:
    later = StateFolder(tmp_path, LARGE, now=lambda: time.time() + 100)
    writer = StateFolder(tmp_path, LARGE).begin(MARK, "a", state([1]))
    assert writer is not None
    writer.step()
    saved(later, "b", state([2]))
    while not writer.step():
        pass
    assert later.usage().files == 2


def test_a_folder_that_cannot_be_read_is_empty(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "nowhere", tmp_path / "file"):
        folder = StateFolder(path, LARGE)
        assert folder.usage() == (0, 0)
        assert found(folder, [1]) == []
        assert folder.forget().files == 0
    with pytest.raises(OSError, match="file"):
        StateFolder(tmp_path / "file", LARGE).begin(MARK, "a", state([1]))


def test_a_file_is_written_in_pieces_of_a_bounded_size() -> None:
    sizes = [len(piece) for piece in pieces(state([1] * 10, size=2 * state_file.PIECE + 5))]
    assert max(sizes) == state_file.PIECE
    assert sum(size > 1000 for size in sizes) == 2
