"""Twenty turns with the starter pair by keys alone, in tmux: ask, edit, branch, ask again, search, copy,
export, race, see inside, settings, files, delete, go on another day. Run as a script.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

from tools.tmux import Tmux

SIZES = ((120, 40), (80, 24))
QUESTIONS = (
    "What is a draft model?",
    "What is a seed?",
    "What do the colors mean?",
    "Write quicksort in Python.",
)


class Visit:
    """One sitting, and how many answers it brought."""

    def __init__(self, columns: int, rows: int, home: Path, *options: str) -> None:
        self.tmux = Tmux(columns, rows, home, *options)
        self.home = home
        self.turns = 0
        self.tmux.wait_for("ready")

    def answered(self, before: str) -> None:
        """Wait for the end of an answer. `before` is the screen before it was asked for."""
        self.turns += 1
        self.tmux.wait(lambda: self._new_answer(before), "the end of the answer")

    def _new_answer(self, before: str) -> bool:
        # The composer is empty and "ready" is shown for a moment before the answer begins.
        shown = self.tmux.shown
        return "● ready" in shown and bool(last_note(shown)) and last_note(shown) != last_note(before)

    def ask(self, prompt: str) -> None:
        before = self.tmux.shown
        self.tmux.types(prompt)
        self.tmux.wait_for(prompt[-20:])
        self.tmux.keys("Enter")
        self.answered(before)

    def command(self, words: str, *seen: str) -> None:
        self.tmux.types(words)
        self.tmux.wait_for(words)
        self.tmux.keys("Enter")
        self.tmux.wait_for(*seen)

    def leave(self) -> None:
        self.tmux.keys("C-q")
        self.tmux.wait(lambda: not self.tmux.alive, "the end")


def main() -> int:
    for columns, rows in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            turns = first_day(columns, rows, Path(folder)) + second_day(columns, rows, Path(folder))
            assert turns >= 20, turns
            print(f"{turns} turns at {columns}x{rows}")
    return 0


def first_day(columns: int, rows: int, home: Path) -> int:
    config = home / ".config" / "outrider" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text("[generation]\nseed = 7\n")  # sampled answers, but the same ones every time
    visit = Visit(columns, rows, home)
    tmux = visit.tmux
    for question in QUESTIONS:
        visit.ask(question)
    copy(visit)
    branches(visit)
    screens(visit)
    print(tmux.shown)
    visit.leave()
    return visit.turns


def copy(visit: Visit) -> None:
    tmux = visit.tmux
    tmux.keys("Tab")
    tmux.wait_for("Again")
    tmux.keys("y")
    tmux.wait(lambda: "def quicksort" in tmux.copied, "the answer in the clipboard")
    tmux.keys("b")
    tmux.wait(lambda: tmux.copied.startswith("def quicksort"), "its code in the clipboard")
    tmux.keys("Escape")
    tmux.wait_for("Send")


def branches(visit: Visit) -> None:
    """An edited prompt, other answers, and the way between them."""
    tmux = visit.tmux
    tmux.keys("Tab", "Up", "e")
    tmux.wait_for("an earlier prompt")
    tmux.keys("C-u")
    visit.ask("Write merge sort in Python.")
    tmux.wait_for("‹ 2 of 2 ›", "merge_sort")
    tmux.keys("Tab", "Up", "Left")
    tmux.wait_for("‹ 1 of 2 ›", "quicksort")
    tmux.keys("Escape")
    tmux.wait_for("Send")
    for want, place in (("/again", "2 of 2"), ("/same", "3 of 3"), ("/again", "4 of 4")):
        before = tmux.shown
        visit.command(want, place)
        visit.answered(before)
    visit.command("/delete", "3 of 3")
    visit.command("/undo", "4 of 4")
    visit.ask("What is the acceptance rate?")
    visit.ask("What is temperature?")


def screens(visit: Visit) -> None:
    """Race, seeing inside, settings, files, export."""
    tmux, home = visit.tmux, visit.home
    tmux.keys("C-r")
    tmux.wait_for("as fast, the same")
    tmux.keys("Escape")  # what follows an Esc at once is taken for a key with Alt
    tmux.wait_for("Send")
    tmux.keys("C-g")
    tmux.wait_for("by itself", "round 1 of")
    tmux.keys("Right", "End")
    tmux.wait(lambda: re.search(r"token (\d+) of \1\b", tmux.shown), "the last token")
    tmux.keys("C-e")
    tmux.wait(lambda: list(home.glob("outrider-trace*.jsonl")), "the trace")
    tmux.keys("Escape")
    tmux.wait_for("Send")
    tmux.keys("F2")
    tmux.wait_for("Settings")
    tmux.types("temperature")
    tmux.wait_for("0 always takes")
    tmux.keys("Enter")
    tmux.wait_for("─ generation.temperature")
    tmux.wait(lambda: emptied(tmux), "an empty line to type into")
    tmux.types("0")
    tmux.keys("Enter")
    tmux.wait_for("generation.temperature ●")
    tmux.keys("Escape")
    tmux.wait_for("Settings", "filter")
    tmux.keys("Escape")
    tmux.wait_for("Send")
    assert "temperature = 0" in next(home.rglob("config.toml")).read_text()
    visit.command("/top_k 5", "top_k 5")
    visit.ask("What is a round?")
    (home / "notes.txt").write_text("Outrider rides ahead.\n")
    tmux.types("What is a draft? See @no")
    tmux.wait_for("notes.txt")
    tmux.keys("Tab")
    tmux.wait_for("@notes.txt", " tokens · top_k 5")
    before = tmux.shown
    tmux.keys("Enter")
    tmux.wait_for("▤ notes.txt  1 line")
    visit.answered(before)
    visit.command("/export", "Written")
    tmux.wait(lambda: list(home.glob("*.md")), "the export")
    assert "Outrider rides ahead." in next(home.glob("*.md")).read_text()


def second_day(columns: int, rows: int, home: Path) -> int:
    """Going on with the chat, another one, and the search for the first."""
    visit = Visit(columns, rows, home, "--continue")
    tmux = visit.tmux
    tmux.wait_for("▤ notes.txt", "top_k 5")
    visit.ask("How do I stop an answer?")
    visit.ask("What is the KV cache?")
    tmux.keys("C-n")
    tmux.wait_for("stops the answer")
    for question in ("Who are you?", "What is GGUF?", "What is llama.cpp?", "What is speculative decoding?"):
        visit.ask(question)
    visit.command("/title Another day", "Titled.")
    tmux.keys("C-o")
    tmux.wait_for("Another day", "Chats  2")
    tmux.types("merge")
    tmux.wait_for("Chats  1")
    tmux.keys("Enter")
    tmux.wait_for("What is the KV cache?")
    visit.ask("What is a palindrome?")
    visit.ask("Thank you")
    print(tmux.shown)
    visit.leave()
    return visit.turns


def last_note(shown: str) -> str:
    """The line below the last answer on the screen: its tokens, its speed, and its number among several."""
    notes = re.findall(r"^.*\d tokens? · .*tok/s.*$", shown, re.MULTILINE)
    return notes[-1].strip() if notes else ""


def emptied(tmux: Tmux) -> bool:
    """Whether the line of the open dialog is empty; it is cleared anew if a key came too early for it."""
    tmux.keys("C-u")
    _, _, below = tmux.shown.partition("─ generation.temperature")
    return "0.8" not in below.partition("\n")[2].partition("\n")[0]


if __name__ == "__main__":
    sys.exit(main())
