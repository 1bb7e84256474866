"""The options of the command line, and their `--help` texts. It runs no command."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, get_args

from .. import __version__
from ..choices import (
    AUTO,
    COPY_FORMAT,
    LONGEST_DRAFT,
    MOST_BIAS,
    MOST_TOKENS,
    SAMPLING,
    SEED,
    BackendName,
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
  outrider --workers gpu2,gpu3 --main big.gguf  one model over three machines

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

_QUANTIZE = """\
Writes a copy of a model in another number format, as a faster draft: a draft never changes the text, only the
time. The copy is in the list of models from then on. Its path goes to stdout.
"""
_QUANTIZE_EXAMPLES = """\
examples:
  outrider quantize "coder 0.5b q4_k_m"         a copy in Q4_0, the fastest format on most processors
  outrider quantize draft.gguf --format Q2_K    a smaller one, which is accepted less often
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


def _within(kind: Callable[[str], float], low: float, high: float) -> Callable[[str], float]:
    """Return a parser for numbers from `low` to `high`."""

    def number(text: str) -> float:
        value = kind(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text} is not from {low} to {high}")
        return value

    number.__name__ = "number"  # argparse shows it: invalid number value
    return number


def _draft_length(text: str) -> DraftLength:
    return AUTO if text == AUTO else int(_within(int, 0, LONGEST_DRAFT)(text))


_draft_length.__name__ = "draft length"  # argparse shows it: invalid draft length value


def _bias(text: str) -> tuple[int | str, float | None]:
    """Parse `TOKEN=BIAS` to the protocol's form: an id or a text, and a number or None for a ban."""
    token, _, bias = text.rpartition("=")
    if not token:
        raise argparse.ArgumentTypeError(f"{text} is not of the form TOKEN=BIAS")
    value = None if bias in ("-inf", "false") else _within(float, -MOST_BIAS, MOST_BIAS)(bias)
    return int(token) if token.isdecimal() and token.isascii() else token, value


_bias.__name__ = "bias"  # argparse shows it: invalid bias value


def _names(text: str) -> tuple[str, ...]:
    """Parse names with commas between; an empty text is none."""
    return tuple(filter(None, (name.strip() for name in text.split(","))))


_names.__name__ = "list of hosts"  # argparse shows it: invalid list of hosts value


Options = Mapping[str, dict[str, Any]]
"""Names of options, each with the words of `add_argument`."""


def _value(metavar: str, about: str, **more: Any) -> dict[str, Any]:
    return {"metavar": metavar, "help": about, **more}


def _number(kind: Callable[[str], float], low: float, high: float, about: str, **more: Any) -> dict[str, Any]:
    return _value("N", about, type=_within(kind, low, high), **more)


def _flag(about: str) -> dict[str, Any]:
    return {"action": "store_true", "help": about}


def _sampling(*names: str) -> Options:
    """The options for numbers of the sampling chain."""
    whole = ("top_k", "penalty_last_n")
    return {
        f"--{name.replace('_', '-')}": _number(int if name in whole else float, *SAMPLING[name])
        for name in names
    }


_HOST: Options = {
    "--host": _value(
        "HOST", "let the engine run there, by ssh: me@gpu, or a name under [hosts] in config.toml"
    )
}
_WORKERS: Options = {
    "--workers": _value(
        "HOSTS",
        "share the main model with these machines, by ssh: gpu2,me@gpu3 (docs/several-machines.md)",
        type=_names,
    )
}
_DRAFT = (
    'a smaller model of the same family and form, a file with a head for it, "auto", "head" (the head in the '
    'main model\'s file, or a file with one that fits), "lookup" (no draft model) or "none"'
)
_MODEL_OPTIONS: Options = {
    "--main": _value(
        "MODEL", 'a GGUF file, an MLX folder, a name of `outrider models`, or "starter", the built-in demo'
    ),
    "--draft": _value("MODEL", _DRAFT, type=read_draft),
    "--backend": {
        "choices": get_args(BackendName),
        "help": "the library that runs the models; auto goes by the model",
    },
    "--exact": _flag("draft only as far as the text cannot change, not even by rounding"),
    "--draft-length": _value(
        "N",
        f"tokens drafted in a round, 0 to {LONGEST_DRAFT}, or auto; 0 is plain decoding",
        type=_draft_length,
    ),
    "--seed": _number(
        int, *SEED[:2], "the same seed gives the same text; a draft changes it only by rounding (see --exact)"
    ),
}
"""The options of all commands that answer."""
_SEVERAL_DRAFTS: Options = {
    **_MODEL_OPTIONS,
    "--draft": _value(
        "MODEL",
        f"{_DRAFT}; may be given again, to compare",
        type=read_draft,
        dest="drafts",
        action="append",
        default=None,
    ),
}
"""The same for a benchmark, which takes any number of drafts."""
_SAMPLING_OPTIONS: Options = {
    **_sampling("temperature", "top_k", "top_p", "min_p"),
    "--max-tokens": _number(int, 0, MOST_TOKENS, "0 answers until the model stops or the context is full"),
    "--stop": _value("TEXT", "end the answer before this text; may be given again", action="append"),
    "--thinking": {
        "choices": get_args(Thinking),
        "help": "think before the answer, where the model can be told",
    },
    "--effort": {"choices": get_args(Effort), "help": "how much to think, where it can be told"},
    **_sampling("repeat_penalty", "presence_penalty", "frequency_penalty", "penalty_last_n"),
    "--logit-bias": _value(
        "TOKEN=BIAS",
        "added to a token's score, -inf bans it; TOKEN is an id or the token's text; may be given again",
        type=_bias,
        action="append",
    ),
}
_FORM: Options = {
    "--grammar": _value("FILE", "the answer follows this GBNF grammar", type=Path),
    "--json-schema": _value("FILE", "the answer is JSON that follows this JSON schema", type=Path),
}
_END: Options = {
    "--ignore-eos": _flag("go on where the model would end"),
    "--raw": _flag("continue the prompt as it is, without chat template"),
}
_MEASUREMENT: Options = {
    "--no-lookup": _flag("draft with the draft model alone, without the lookup"),
    "--prompts": _value("FILE", "other prompts than the 27 built in", type=Path),
    "--quick": _flag("only the first prompt of each category"),
    "--temperature": _number(
        float, *SAMPLING["temperature"][:2], "may be given again; 0 and 0.8 if not given", action="append"
    ),
    "--max-tokens": _number(int, 2, MOST_TOKENS, "longest answer (default: %(default)s)", default=128),
    "--runs": _number(int, 1, 1000, "answers of each prompt each way (default: %(default)s)", default=3),
}


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line. Options that are not given are None."""
    outrider = _new_parser(Parser, prog="outrider", description=_CHAT, epilog=_CHAT_EXAMPLES)
    outrider.add_argument(
        "--version", action="version", version=f"outrider {__version__}", help="print the version"
    )
    _add_models(outrider, None)
    go_on = "go on with the latest chat, or with one of `outrider history` or by words of it"
    options = {
        "--theme": _value("NAME", "a theme, for this chat (F9 shows them)"),
        "--continue": _value("CHAT", go_on, dest="go_on", nargs="?", const=""),
    }
    _add(outrider, options)
    commands = outrider.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name, (about, description, examples, fill) in _COMMANDS.items():
        make = partial(commands.add_parser, name, help=about)
        fill(_new_parser(make, description=description, epilog=examples))
    commands.add_parser("engine", help="the process that runs the models; the chat starts it by itself")
    about = "the process that computes some layers for another machine; an engine there starts it by ssh"
    commands.add_parser("worker", help=about)
    return outrider


def _new_parser(make: Callable[..., argparse.ArgumentParser], **words: Any) -> argparse.ArgumentParser:
    return make(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **words)


def _add(group: argparse._ActionsContainer, options: Options, **more: Any) -> None:
    for name, words in options.items():
        group.add_argument(name, **(more | words))


def _add_models(
    parser: argparse.ArgumentParser, default: str | None, options: Options = _MODEL_OPTIONS
) -> None:
    """Add the options of all commands that answer. An option that is not given is `default`."""
    _add(parser, {**_HOST, **_WORKERS}, default=default)
    _add(parser.add_argument_group("models"), options, default=default)


def _fill_ask(parser: argparse.ArgumentParser) -> None:
    _add_models(parser, argparse.SUPPRESS)
    parser.add_argument("prompt", nargs="*", metavar="PROMPT", help="the question; may be piped in instead")
    _add(parser, {"--system": _value("TEXT", "said to the model before the question")})
    group = parser.add_argument_group("sampling")
    _add(group, _SAMPLING_OPTIONS)
    _add(group.add_mutually_exclusive_group(), _FORM)
    _add(group, _END)
    output = {
        "--json": _flag("one JSON object: text, seed, token ids, figures"),
        "--no-color": _flag("no colors on a terminal (NO_COLOR does it too)"),
    }
    _add(parser.add_argument_group("output"), output)


def _fill_bench(parser: argparse.ArgumentParser) -> None:
    _add_models(parser, argparse.SUPPRESS, _SEVERAL_DRAFTS)
    _add(parser.add_argument_group("measurement"), _MEASUREMENT)
    group = parser.add_argument_group("output")
    kinds = {
        "--json": _flag("one JSON object instead of the table"),
        "--markdown": _flag("the table as Markdown"),
    }
    _add(group.add_mutually_exclusive_group(), kinds)
    _add(group, {"--svg": _value("FILE", "also draw a chart", type=Path)})


def _fill_models(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("main", nargs="?", metavar="MAIN", help="a main model, by path or name")
    options = {
        "--drafts": _flag("the worth of every model as a draft for MAIN"),
        "--json": _flag("one JSON object instead of the table"),
    }
    _add(parser, options)
    _add(parser, _HOST, default=argparse.SUPPRESS)


def _fill_pull(parser: argparse.ArgumentParser) -> None:
    about = "OWNER/NAME, or OWNER/NAME:FILE with a file or a quantization"
    parser.add_argument("models", nargs="*", metavar="MODEL", help=about)
    _add(parser, _HOST, default=argparse.SUPPRESS)
    _add(parser, {"--list": _flag("only list the files of the repositories")})


def _fill_quantize(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("main", metavar="MODEL", help="a GGUF file, or a name of `outrider models`")
    about = "a format of llama.cpp (default: %(default)s)"
    _add(parser, {"--format": _value("FORMAT", about, default=COPY_FORMAT)})
    _add(parser, _HOST, default=argparse.SUPPRESS)


def _fill_history(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="*", metavar="WORD", help="only chats with all of these")
    _add(parser, {"--json": _flag("one JSON array instead of the table")})


def _fill_doctor(parser: argparse.ArgumentParser) -> None:
    _add(parser, {**_HOST, **_WORKERS}, default=argparse.SUPPRESS)
    _add(parser, {"--json": _flag("one JSON object instead of text")})
    _add(parser, {"--forget": _flag("first remove the saved caches of chats from the disk; the chats stay")})


_COMMANDS: Mapping[str, tuple[str, str | None, str | None, Callable[[argparse.ArgumentParser], None]]] = {
    "ask": ("answer one question on stdout", _ASK, _ASK_EXAMPLES, _fill_ask),
    "bench": ("measure the gain of drafting on this machine", _BENCH, _BENCH_EXAMPLES, _fill_bench),
    "models": (
        "list the models on this machine, and the drafts for each",
        _MODELS,
        _MODELS_EXAMPLES,
        _fill_models,
    ),
    "pull": ("fetch models from the Hugging Face hub", _PULL, _PULL_EXAMPLES, _fill_pull),
    "quantize": ("write a faster copy of a draft", _QUANTIZE, _QUANTIZE_EXAMPLES, _fill_quantize),
    "history": ("list or search earlier chats", _HISTORY, _HISTORY_EXAMPLES, _fill_history),
    "doctor": ("describe this machine, and changes that would make it faster", None, None, _fill_doctor),
}
"""The commands, each with its line in the list, its description, its examples and its options."""
