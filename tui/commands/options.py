"""The options of the command line, and their `--help` texts. It runs no command."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from ..protocol import Effort, Thinking
from .words import Parser

_CHAT = """\
A chat for the terminal that makes local language models answer sooner: a small draft model proposes
tokens, the main model checks them all in one pass. Every token is the main model's choice.
"""
_CHAT_EXAMPLES = """\
examples:
  outrider                                      chat, with the models of config.toml or the built-in demo
  outrider --main big.gguf --draft small.gguf   chat with your own pair
  outrider --continue                           go on with the latest chat
  outrider "What is a draft model?"             answer one question on stdout, as `outrider ask` does
  outrider bench --quick                        measure the gain of drafting on this machine
  outrider doctor                               this machine, and changes that would make it faster
  outrider --host me@gpu                        the chat here, the models there

exit codes: 0 done, 1 failed (one line on stderr says why), 2 wrong usage, 130 ctrl+c
"""
_ASK = """\
Answers one question and exits. The answer streams to stdout: on a terminal the main model's own tokens are
colored, in a pipe there is the text and nothing else. Text piped in goes below the prompt.
"""
_ASK_EXAMPLES = """\
examples:
  outrider ask "Write a haiku about GPUs"
  git diff | outrider ask "Write a commit message for this diff:"
  outrider ask --json --seed 7 "Name three rivers" | jq .tokens_per_second

All other settings come from config.toml; `outrider doctor` shows its path.
"""

_BENCH = """\
Measures the speed-up from drafting with these models on this machine: the same prompts with the same seed,
answered plain and drafted in turn, each from empty caches. The median speeds, the speed-up and a comparison
of the texts go to stdout, the progress to stderr. Ctrl+C ends it and prints the results so far.
"""
_BENCH_EXAMPLES = """\
examples:
  outrider bench --quick                               the models of config.toml, or the built-in demo
  outrider bench --main big.gguf --draft small.gguf --svg bench.svg
  outrider bench --main big.gguf --draft small.gguf --draft tiny.gguf --draft ngram
  outrider bench --prompts mine.toml --temperature 0 --json | jq '.results[].ratio'

A file of prompts is TOML, each category with its list: chat = ["What is a reef?", "Plan a trip."]
"""

_MODELS = """\
Lists the models of LM Studio, Hugging Face, Ollama and llama.cpp, and those in the folders of config.toml.
With MAIN, shows which of them can draft for it, the reason, and the expected or measured speed-up.
"""
_MODELS_EXAMPLES = """\
examples:
  outrider models                               the models on this machine
  outrider models "llama 8b"                    drafts for the one model whose name holds these words
  outrider models --json | jq -r '.models[].path'
"""

_PULL = """\
Downloads models from the Hugging Face hub: a GGUF file with all its parts, or a folder for MLX. An
interrupted download continues; a file that differs from the hub's is deleted. Without MODEL, proposes pairs
for this machine.
"""
_PULL_EXAMPLES = """\
examples:
  outrider pull                                              pairs that fit into this machine's memory
  outrider pull bartowski/Qwen2.5-7B-Instruct-GGUF:Q4_K_M    one quantization of a repository
  outrider pull bartowski/Qwen2.5-7B-Instruct-GGUF --list    its files
"""

_HISTORY = """\
Lists the chats on this machine, latest first; with words, only those that hold all of them.
"""
_HISTORY_EXAMPLES = """\
examples:
  outrider history                              all of them
  outrider history quicksort python             those with both words
  outrider --continue quicksort                 go on with the latest of those
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line. Options that are not given are None."""
    outrider = _new_parser(Parser, "outrider", _CHAT, _CHAT_EXAMPLES)
    outrider.add_argument(
        "--version", action=_Version, nargs=0, default=argparse.SUPPRESS, help="print the version"
    )
    _add_models(outrider, None)
    outrider.add_argument("--theme", metavar="NAME", help="a theme, for this chat (F9 shows them)")
    outrider.add_argument(
        "--continue",
        dest="go_on",
        nargs="?",
        const="",
        metavar="CHAT",
        help="go on with the latest chat, or with one of `outrider history` or by words of it",
    )
    commands = outrider.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    ask = _new_parser(commands.add_parser, "ask", _ASK, _ASK_EXAMPLES, help="answer one question on stdout")
    _add_models(ask, argparse.SUPPRESS)
    _add_ask(ask)
    bench = _new_parser(
        commands.add_parser,
        "bench",
        _BENCH,
        _BENCH_EXAMPLES,
        help="measure the gain of drafting on this machine",
    )
    _add_models(bench, argparse.SUPPRESS, several_drafts=True)
    _add_bench(bench)
    models = _new_parser(
        commands.add_parser,
        "models",
        _MODELS,
        _MODELS_EXAMPLES,
        help="list the models on this machine, and the drafts for each",
    )
    models.add_argument("main", nargs="?", metavar="MAIN", help="a main model, by path or name")
    models.add_argument("--drafts", action="store_true", help="every model's verdict as a draft for MAIN")
    models.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    pull = _new_parser(
        commands.add_parser, "pull", _PULL, _PULL_EXAMPLES, help="download models from the Hugging Face hub"
    )
    pull.add_argument(
        "models",
        nargs="*",
        metavar="MODEL",
        help="OWNER/NAME, or OWNER/NAME:FILE with a file or a quantization",
    )
    for each in (models, pull):
        _add_host(each, argparse.SUPPRESS)
    pull.add_argument("--list", action="store_true", help="only list the files of the repositories")
    history = _new_parser(
        commands.add_parser, "history", _HISTORY, _HISTORY_EXAMPLES, help="list or search earlier chats"
    )
    history.add_argument("words", nargs="*", metavar="WORD", help="only chats with all of these")
    history.add_argument("--json", action="store_true", help="one JSON array instead of the table")
    doctor = commands.add_parser(
        "doctor", help="describe this machine, and changes that would make it faster", allow_abbrev=False
    )
    _add_host(doctor, argparse.SUPPRESS)
    doctor.add_argument("--json", action="store_true", help="one JSON object instead of text")
    commands.add_parser("engine", help="the process that runs the models; the chat starts it by itself")
    return outrider


def _new_parser(
    make: Any, name: str, description: str, examples: str, **more: str
) -> argparse.ArgumentParser:
    layout = argparse.RawDescriptionHelpFormatter
    names = {"prog": name} if make is Parser else {"name": name}
    parser: argparse.ArgumentParser = make(
        **names, description=description, epilog=examples, formatter_class=layout, allow_abbrev=False, **more
    )
    return parser


def _add_host(parser: argparse.ArgumentParser, default: str | None) -> None:
    parser.add_argument(
        "--host",
        metavar="HOST",
        default=default,
        help="let the engine run there, by ssh: me@gpu, or a name under [hosts] in config.toml",
    )


def _add_models(
    parser: argparse.ArgumentParser, default: str | None, *, several_drafts: bool = False
) -> None:
    """Add the options of all commands that answer. An option that is not given is `default`.

    `several_drafts` collects them as `drafts`, None if there are none.
    """
    draft: dict[str, Any] = {"dest": "drafts", "action": "append"} if several_drafts else {"default": default}
    _add_host(parser, default)
    group = parser.add_argument_group("models")
    group.add_argument(
        "--main",
        metavar="MODEL",
        default=default,
        help='a GGUF file, an MLX folder, a name of `outrider models`, or "starter", the built-in demo',
    )
    group.add_argument(
        "--draft",
        metavar="MODEL",
        help='a smaller model of the same family and form, "auto", "lookup" (no draft model) or "none"'
        + ("; may be given again, to compare" if several_drafts else ""),
        **draft,
    )
    group.add_argument(
        "--backend",
        choices=("auto", "llama.cpp", "mlx"),
        default=default,
        help="the library that runs the models; auto goes by the model",
    )
    group.add_argument(
        "--exact",
        action="store_true",
        default=default,
        help="draft only as far as the text cannot change, not even by rounding",
    )
    group.add_argument(
        "--draft-length",
        metavar="N",
        type=_number(int, 0, 16),
        default=default,
        help="most tokens drafted in a round, 0 to 16; 0 is plain decoding",
    )
    group.add_argument(
        "--seed",
        metavar="N",
        type=_number(int, 0, 2**32 - 1),
        default=default,
        help="the same seed gives the same text; a draft changes it only by rounding (see --exact)",
    )


def _add_ask(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prompt", nargs="*", metavar="PROMPT", help="the question; may be piped in instead")
    parser.add_argument("--system", metavar="TEXT", help="said to the model before the question")
    group = parser.add_argument_group("sampling")
    numbers: list[tuple[str, Callable[[str], float], str]] = [
        ("--temperature", _number(float, 0, 5), "0 always takes the most probable token"),
        ("--top-k", _number(int, 0, 1_000_000), "keep the k best tokens; 0 keeps all"),
        ("--top-p", _number(float, 0, 1), "keep the smallest set whose probability reaches p; 1 keeps all"),
        ("--min-p", _number(float, 0, 1), "drop tokens below this share of the best one's probability"),
        ("--max-tokens", _number(int, 0, 2**24), "0 answers until the model stops or the context is full"),
    ]
    for name, kind, text in numbers:
        group.add_argument(name, metavar="N", type=kind, help=text)
    group.add_argument(
        "--stop", metavar="TEXT", action="append", help="end the answer before this text; may be given again"
    )
    group.add_argument(
        "--thinking", choices=get_args(Thinking), help="think before the answer, where the model can be told"
    )
    group.add_argument("--effort", choices=get_args(Effort), help="how much to think, where it can be told")
    _add_penalties(group)
    group.add_argument(
        "--logit-bias",
        metavar="TOKEN=BIAS",
        type=_bias,
        action="append",
        help="added to a token's score, -inf bans it; TOKEN is an id or the token's text; may be given again",
    )
    form = group.add_mutually_exclusive_group()
    form.add_argument("--grammar", metavar="FILE", type=Path, help="the answer follows this GBNF grammar")
    form.add_argument(
        "--json-schema", metavar="FILE", type=Path, help="the answer is JSON that follows this JSON schema"
    )
    group.add_argument("--ignore-eos", action="store_true", help="go on where the model would end")
    group.add_argument(
        "--raw", action="store_true", help="continue the prompt as it is, without chat template"
    )
    group = parser.add_argument_group("output")
    group.add_argument("--json", action="store_true", help="one JSON object: text, seed, token ids, figures")
    group.add_argument(
        "--no-color", action="store_true", help="no colors on a terminal (NO_COLOR does it too)"
    )


def _add_penalties(group: argparse._ArgumentGroup) -> None:
    numbers: list[tuple[str, Callable[[str], float], str]] = [
        ("repeat", _number(float, 0.01, 100), "divides the scores of tokens already seen; 1 is off"),
        ("presence", _number(float, -100, 100), "taken off the scores of tokens already seen; 0 is off"),
        ("frequency", _number(float, -100, 100), "the same, for each time that they were seen"),
    ]
    for name, kind, text in numbers:
        group.add_argument(f"--{name}-penalty", metavar="N", type=kind, help=text)
    group.add_argument(
        "--penalty-last-n",
        metavar="N",
        type=_number(int, 0, 2**24),
        help="how many of the latest tokens the penalties look at",
    )


def _add_bench(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("measurement")
    group.add_argument(
        "--no-lookup", action="store_true", help="draft with the draft model alone, without the lookup"
    )
    group.add_argument("--prompts", metavar="FILE", type=Path, help="other prompts than the 27 built in")
    group.add_argument("--quick", action="store_true", help="only the first prompt of each category")
    group.add_argument(
        "--temperature",
        metavar="N",
        type=_number(float, 0, 5),
        action="append",
        help="may be given again; 0 and 0.8 if not given",
    )
    group.add_argument(
        "--max-tokens",
        metavar="N",
        type=_number(int, 2, 2**24),
        default=128,
        help="longest answer (default: %(default)s)",
    )
    group.add_argument(
        "--runs",
        metavar="N",
        type=_number(int, 1, 1000),
        default=3,
        help="answers of each prompt each way (default: %(default)s)",
    )
    group = parser.add_argument_group("output")
    kinds = group.add_mutually_exclusive_group()
    kinds.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    kinds.add_argument("--markdown", action="store_true", help="the table as Markdown")
    group.add_argument("--svg", metavar="FILE", type=Path, help="also draw a chart")


def _number(kind: Callable[[str], float], low: float, high: float) -> Callable[[str], float]:
    """Return a parser for numbers from `low` to `high`."""

    def number(text: str) -> float:
        value = kind(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text} is not from {low} to {high}")
        return value

    number.__name__ = "number"  # argparse shows it: invalid number value
    return number


def _bias(text: str) -> tuple[int | str, float | None]:
    """Parse `TOKEN=BIAS` to the protocol's form: an id or a text, and a number or None for a ban."""
    token, _, bias = text.rpartition("=")
    if not token:
        raise argparse.ArgumentTypeError(f"{text} is not of the form TOKEN=BIAS")
    value = None if bias in ("-inf", "false") else _number(float, -10_000, 10_000)(bias)
    return int(token) if token.isdecimal() and token.isascii() else token, value


_bias.__name__ = "bias"  # argparse shows it: invalid bias value


class _Version(argparse.Action):
    """Prints the version. `importlib.metadata` is imported only for this."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib import metadata

        print(f"outrider {metadata.version('outrider')}")
        parser.exit()
