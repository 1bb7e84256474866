"""The options of the command line, and their `--help` texts. It runs no command."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from ..choices import (
    AUTO,
    LONGEST_DRAFT,
    MOST_BIAS,
    MOST_TOKENS,
    SAMPLING,
    SEED,
    DraftLength,
    Effort,
    Thinking,
    read_draft,
)
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
  outrider bench --main big.gguf --draft small.gguf --draft tiny.gguf --draft lookup
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
    make = commands.add_parser
    _add_ask(_new_parser(make, "ask", _ASK, _ASK_EXAMPLES, help="answer one question on stdout"))
    text = "measure the gain of drafting on this machine"
    _add_bench(_new_parser(make, "bench", _BENCH, _BENCH_EXAMPLES, help=text))
    text = "list the models on this machine, and the drafts for each"
    _add_list(_new_parser(make, "models", _MODELS, _MODELS_EXAMPLES, help=text))
    text = "fetch models from the Hugging Face hub"
    _add_pull(_new_parser(make, "pull", _PULL, _PULL_EXAMPLES, help=text))
    text = "list or search earlier chats"
    _add_history(_new_parser(make, "history", _HISTORY, _HISTORY_EXAMPLES, help=text))
    text = "describe this machine, and changes that would make it faster"
    _add_doctor(make("doctor", help=text, allow_abbrev=False))
    make("engine", help="the process that runs the models; the chat starts it by itself")
    return outrider


def _add_list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("main", nargs="?", metavar="MAIN", help="a main model, by path or name")
    parser.add_argument("--drafts", action="store_true", help="the worth of every model as a draft for MAIN")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    _add_host(parser, argparse.SUPPRESS)


def _add_pull(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "models",
        nargs="*",
        metavar="MODEL",
        help="OWNER/NAME, or OWNER/NAME:FILE with a file or a quantization",
    )
    _add_host(parser, argparse.SUPPRESS)
    parser.add_argument("--list", action="store_true", help="only list the files of the repositories")


def _add_history(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="*", metavar="WORD", help="only chats with all of these")
    parser.add_argument("--json", action="store_true", help="one JSON array instead of the table")


def _add_doctor(parser: argparse.ArgumentParser) -> None:
    _add_host(parser, argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")


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
        type=read_draft,
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
    _add_drafting(group, default)


def _add_drafting(group: argparse._ArgumentGroup, default: str | None) -> None:
    group.add_argument(
        "--exact",
        action="store_true",
        default=default,
        help="draft only as far as the text cannot change, not even by rounding",
    )
    group.add_argument(
        "--draft-length",
        metavar="N",
        type=_draft_length,
        default=default,
        help=f"tokens drafted in a round, 0 to {LONGEST_DRAFT}, or auto; 0 is plain decoding",
    )
    group.add_argument(
        "--seed",
        metavar="N",
        type=_number(int, *SEED[:2]),
        default=default,
        help="the same seed gives the same text; a draft changes it only by rounding (see --exact)",
    )


def _add_ask(parser: argparse.ArgumentParser) -> None:
    _add_models(parser, argparse.SUPPRESS)
    parser.add_argument("prompt", nargs="*", metavar="PROMPT", help="the question; may be piped in instead")
    parser.add_argument("--system", metavar="TEXT", help="said to the model before the question")
    group = parser.add_argument_group("sampling")
    for name in ("temperature", "top_k", "top_p", "min_p"):
        _add_sampling(group, name)
    group.add_argument(
        "--max-tokens",
        metavar="N",
        type=_number(int, 0, MOST_TOKENS),
        help="0 answers until the model stops or the context is full",
    )
    group.add_argument(
        "--stop", metavar="TEXT", action="append", help="end the answer before this text; may be given again"
    )
    group.add_argument(
        "--thinking", choices=get_args(Thinking), help="think before the answer, where the model can be told"
    )
    group.add_argument("--effort", choices=get_args(Effort), help="how much to think, where it can be told")
    for name in ("repeat_penalty", "presence_penalty", "frequency_penalty", "penalty_last_n"):
        _add_sampling(group, name)
    group.add_argument(
        "--logit-bias",
        metavar="TOKEN=BIAS",
        type=_bias,
        action="append",
        help="added to a token's score, -inf bans it; TOKEN is an id or the token's text; may be given again",
    )
    _add_form(group)
    group = parser.add_argument_group("output")
    group.add_argument("--json", action="store_true", help="one JSON object: text, seed, token ids, figures")
    group.add_argument(
        "--no-color", action="store_true", help="no colors on a terminal (NO_COLOR does it too)"
    )


def _add_form(group: argparse._ArgumentGroup) -> None:
    """The form that an answer must have."""
    form = group.add_mutually_exclusive_group()
    form.add_argument("--grammar", metavar="FILE", type=Path, help="the answer follows this GBNF grammar")
    form.add_argument(
        "--json-schema", metavar="FILE", type=Path, help="the answer is JSON that follows this JSON schema"
    )
    group.add_argument("--ignore-eos", action="store_true", help="go on where the model would end")
    group.add_argument(
        "--raw", action="store_true", help="continue the prompt as it is, without chat template"
    )


def _add_sampling(group: argparse._ArgumentGroup, name: str) -> None:
    low, high, about = SAMPLING[name]
    kind = int if name in ("top_k", "penalty_last_n") else float
    group.add_argument(f"--{name.replace('_', '-')}", metavar="N", type=_number(kind, low, high), help=about)


def _add_bench(parser: argparse.ArgumentParser) -> None:
    _add_models(parser, argparse.SUPPRESS, several_drafts=True)
    group = parser.add_argument_group("measurement")
    group.add_argument(
        "--no-lookup", action="store_true", help="draft with the draft model alone, without the lookup"
    )
    group.add_argument("--prompts", metavar="FILE", type=Path, help="other prompts than the 27 built in")
    group.add_argument("--quick", action="store_true", help="only the first prompt of each category")
    group.add_argument(
        "--temperature",
        metavar="N",
        type=_number(float, *SAMPLING["temperature"][:2]),
        action="append",
        help="may be given again; 0 and 0.8 if not given",
    )
    group.add_argument(
        "--max-tokens",
        metavar="N",
        type=_number(int, 2, MOST_TOKENS),
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


def _draft_length(text: str) -> DraftLength:
    return AUTO if text == AUTO else int(_number(int, 0, LONGEST_DRAFT)(text))


_draft_length.__name__ = "draft length"  # argparse shows it: invalid draft length value


def _bias(text: str) -> tuple[int | str, float | None]:
    """Parse `TOKEN=BIAS` to the protocol's form: an id or a text, and a number or None for a ban."""
    token, _, bias = text.rpartition("=")
    if not token:
        raise argparse.ArgumentTypeError(f"{text} is not of the form TOKEN=BIAS")
    value = None if bias in ("-inf", "false") else _number(float, -MOST_BIAS, MOST_BIAS)(bias)
    return int(token) if token.isdecimal() and token.isascii() else token, value


_bias.__name__ = "bias"  # argparse shows it: invalid bias value


class _Version(argparse.Action):
    """Prints the version. `importlib.metadata` is imported only for this."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib import metadata

        print(f"outrider {metadata.version('outrider')}")
        parser.exit()
