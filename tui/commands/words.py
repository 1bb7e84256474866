"""Reads the words after `outrider` before argparse does: a question needs no `ask`, and typos get a
suggestion.

All words that are no command are a question, with three exceptions: a word similar to a command, a command of
other programs, and a file. A model should not answer these. This module runs nothing.
"""

from __future__ import annotations

import difflib
from argparse import Action, ArgumentParser, Namespace, _SubParsersAction
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NoReturn

from ..choices import meant
from ..files import there, typed

ELSEWHERE: Final[Mapping[str, tuple[int, str]]] = {
    "help": (1, "outrider --help"),
    "version": (1, "outrider --version"),
    "chat": (1, "outrider"),
    "list": (1, "outrider models"),
    "ls": (1, "outrider models"),
    "run": (2, "outrider --main MODEL"),
    "download": (2, "outrider pull MODEL"),
}
"""Commands of other programs: the largest number of words with which each counts as a command and not as a
question, and our command for it."""
_LIKE = 0.75
_COMMAND_AND_ONE = 2
"""Most words of a command line with a mistyped command. More words are a question without quotes."""


class Parser(ArgumentParser):
    """Reports a fault in one line, with a suggestion."""

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Namespace | None = None
    ) -> Namespace:
        words = self._with_command(list(args or ()))
        found, unknown = self.parse_known_args(words, namespace)
        if unknown:
            command = self._commands.get(getattr(found, "command", None) or "", self)
            options = [*command._option_string_actions, *self._option_string_actions]
            command.error(f"{unknown[0]} is not known here{meant(unknown[0].partition('=')[0], options)}")
        return found

    def error(self, message: str) -> NoReturn:
        end = "" if message.endswith("?") else "."
        self.exit(2, f"{self.prog}: {message}{end} `{self.prog} --help` lists all options.\n")

    def _with_command(self, words: list[str]) -> list[str]:
        """Return `words` with `ask` before a question."""
        plain = list(self._plain(words))
        if not plain or words[plain[0]] in self._commands:
            return words
        first = words[plain[0]]
        if line := self._no_question(first, len(plain)):
            self.exit(2, f"{self.prog}: {line}\n")
        known = self._option_string_actions
        own = (at for at, word in enumerate(words) if word[:1] == "-" and word.partition("=")[0] not in known)
        begin = min(plain[0], next(own, plain[0]))
        return [*words[:begin], "ask", *words[begin:]]

    def _no_question(self, word: str, count: int) -> str:
        """Return why `word`, the first of `count`, is not a question; empty if it is one."""
        if not word and count == 1:
            return f'the question is empty. Write it behind the command: {self.prog} "Why is the sky blue?"'
        if any(letter.isspace() for letter in word):
            return ""
        ask = f'To ask it: {self.prog} ask "{word}"'
        most, here = ELSEWHERE.get(word.lower(), (0, ""))
        if count <= most:
            return f"{word} is no command here; `{here}` does that. {ask}"
        commands = [each for each in self._commands if each != "engine"]
        near = difflib.get_close_matches(word.lower(), commands, 1, _LIKE)
        if near and count <= _COMMAND_AND_ONE:
            return f"there is no command {word}; did you mean `{self.prog} {near[0]}`? {ask}"
        path = typed(word)
        if count == 1 and (word.endswith(".gguf") or there(path)):
            kind = "a folder" if path.is_dir() else "a file"
            return f"{word} is {kind}. To chat with a model in it: `{self.prog} --main {word}`. {ask}"
        return ""

    def _plain(self, words: Sequence[str]) -> Iterator[int]:
        """Yield the indexes of the words that are neither options nor values of options."""
        skipped = 0
        for at, word in enumerate(words):
            if skipped:
                skipped -= 1
            elif word == "--":
                yield from range(at + 1, len(words))
                return
            elif word.startswith("-") and word != "-":
                option = self._option(word)
                takes = option is not None and option.nargs != 0 and "=" not in word
                optional = option is not None and option.nargs == "?"
                follows = at + 1 < len(words) and not words[at + 1].startswith("-")
                skipped = int(takes and (follows or not optional))
            else:
                yield at

    def _option(self, word: str) -> Action | None:
        """Return the option of this name, here or of `ask`."""
        name = word.partition("=")[0]
        asks: ArgumentParser = self._commands.get("ask", self)
        return (asks._option_string_actions | self._option_string_actions).get(name)

    @property
    def _commands(self) -> Mapping[str, Any]:
        found = (each for each in self._actions if isinstance(each, _SubParsersAction))
        return next((each.choices for each in found), {})
