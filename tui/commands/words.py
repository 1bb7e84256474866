"""The words behind `outrider` before they are parsed: a question needs no `ask`, and who mistypes a command
or an option is told which one is like it. It runs nothing.

What is no command is a question, but for three kinds of words: one that is like a command, one that other
programs have as a command, and a file. Nobody wants these answered by a model.
"""

from __future__ import annotations

import difflib
from argparse import Action, ArgumentParser, Namespace, _SubParsersAction
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NoReturn

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
"""Commands of other programs: with how many words they are one and no question, and what it is here."""
_LIKE = 0.75
_COMMAND_AND_ONE = 2
"""Words of a command line with a mistyped command, at most. With more it is a question without quotes."""


class Parser(ArgumentParser):
    """Says in one line what is wrong, and what may have been meant."""

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Namespace | None = None
    ) -> Namespace:
        words = self._with_command(list(args or ()))
        found, unknown = self.parse_known_args(words, namespace)
        if unknown:
            command = self._commands.get(getattr(found, "command", None) or "", self)
            command.error(f"{unknown[0]} is not known here{_meant(unknown[0], self._options(command))}")
        return found

    def error(self, message: str) -> NoReturn:
        end = "" if message.endswith("?") else "."
        self.exit(2, f"{self.prog}: {message}{end} `{self.prog} --help` lists all options.\n")

    def _with_command(self, words: list[str]) -> list[str]:
        """`words` with `ask` in front of a question."""
        plain = list(self._plain(words))
        if not plain or words[plain[0]] in self._commands:
            return words
        first = words[plain[0]]
        if line := self._no_question(first, len(plain)):
            self.exit(2, f"{self.prog}: {line}\n")
        own = (at for at, word in enumerate(words) if word.startswith("-") and not self._knows(self, word))
        begin = min(plain[0], next(own, plain[0]))
        return [*words[:begin], "ask", *words[begin:]]

    def _no_question(self, word: str, count: int) -> str:
        """Why `word`, the first of `count`, is not asked; empty if it is a question."""
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
        """The places of words that are no options and no values of one."""
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
        """What an option is, here or behind `ask`."""
        name = word.partition("=")[0]
        return next(
            (
                known[name]
                for parser in (self, self._commands.get("ask", self))
                if name in (known := parser._option_string_actions)
            ),
            None,
        )

    @staticmethod
    def _knows(parser: ArgumentParser, word: str) -> bool:
        return word.partition("=")[0] in parser._option_string_actions

    def _options(self, command: ArgumentParser) -> list[str]:
        return [*command._option_string_actions, *self._option_string_actions]

    @property
    def _commands(self) -> Mapping[str, Any]:
        found = (each for each in self._actions if isinstance(each, _SubParsersAction))
        return next((each.choices for each in found), {})


def _meant(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word.partition("=")[0], known, 1)
    return f"; did you mean {near[0]}?" if near else ""
