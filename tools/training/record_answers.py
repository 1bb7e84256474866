"""Records answers of a model, as a text to train a head for that model.

    python -m tools.training.record_answers MODEL OUT.jsonl [--answers 400] [--tokens 128]

With `--read`, the model writes nothing: the answers are documentation, which takes much less time. The
questions are on functions of Python's standard library, with their documentation, and on everyday
subjects. Several are answered at once, because a call for several tokens takes little longer than a call for
one. Each line has the tokens of a chat and the number of those before the answer. It needs Outrider's
environment and no PyTorch. The same arguments ask the same questions with the same seeds.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import llama_cpp
import numpy as np

from tui.engine.answer.prompt import prompt_of
from tui.engine.answer.templates import TemplateRenderer
from tui.engine.backends import Options
from tui.engine.backends.llama_cpp import LlamaBackend
from tui.engine.speculation.sampling import Chain, Sampler
from tui.protocol import Generate, Message

MODULES = (
    "argparse", "bisect", "calendar", "collections", "csv", "datetime", "decimal", "fractions",
    "functools", "hashlib", "heapq", "html", "itertools", "json", "logging", "math", "operator",
    "pathlib", "pickle", "pprint", "queue", "random", "re", "secrets", "shutil", "socket", "statistics",
    "string", "struct", "subprocess", "tempfile", "textwrap", "threading", "time", "unittest",
    "urllib.parse", "zipfile",
)  # fmt: skip
ABOUT_FUNCTIONS = (
    "What does `{name}` do in Python?",
    "Write a short example of `{name}` in Python.",
    "Explain this documentation of `{name}` in your own words:\n\n{doc}",
)
SUBJECTS = (
    "the moon", "a good breakfast", "learning to swim", "the French Revolution", "electric cars",
    "a small garden", "black holes", "jazz", "a job interview", "recursion", "the stock market",
    "vaccines", "a weekend in Rome", "photosynthesis", "sleep", "chess openings", "climate change",
    "a lost dog", "the Roman Empire", "baking bread", "databases", "the human heart", "public speaking",
    "volcanoes", "running a marathon", "saving money", "owls", "the printing press", "a haunted house",
    "sorting a list", "gravity", "coffee", "a birthday party", "poetry",
)  # fmt: skip
FRAMES = (
    "Explain {} in simple terms.", "Write a short story about {}.", "Give me three facts about {}.",
    "What should a beginner know about {}?", "Write a friendly email about {}.", "Make a list of tips on {}.",
)  # fmt: skip
AT_ONCE = 16
MOST_DOC = 500
"""Characters of a documentation that is shown."""


def documented() -> Iterator[tuple[str, str]]:
    """Names of functions and classes with their documentation."""
    for module in MODULES:
        for name, each in sorted(vars(importlib.import_module(module)).items()):
            doc = inspect.getdoc(each) if callable(each) and not name.startswith("_") else None
            if doc:
                yield f"{module}.{name}", doc


def all_questions(seed: int) -> list[str]:
    """All questions, in an order that the seed decides."""
    found = [frame.format(subject) for subject, frame in product(SUBJECTS, FRAMES)]
    for name, doc in documented():
        found += [frame.format(name=name, doc=doc[:MOST_DOC]) for frame in ABOUT_FUNCTIONS]
    random.Random(seed).shuffle(found)
    return found


def documentation(seed: int) -> list[tuple[str, str]]:
    """Questions with a documentation as the answer, in an order that the seed decides."""
    found = [(ABOUT_FUNCTIONS[0].format(name=name), doc) for name, doc in documented()]
    random.Random(seed).shuffle(found)
    return found


@dataclass
class Chat:
    """One answer while it grows."""

    tokens: list[int]
    start: int
    sampler: Sampler
    unread: int
    """The first token that the model has not read."""
    row: int = -1
    """The row of the last call with the scores of the next token."""


class Parallel:
    """A model that continues several chats in one call."""

    def __init__(self, path: Path, room: int, threads: int) -> None:
        """`room` is the number of tokens of the longest chat."""
        self._model = llama_cpp.llama_model_load_from_file(
            str(path).encode(), llama_cpp.llama_model_default_params()
        )
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_seq_max, params.n_batch = AT_ONCE * room, AT_ONCE, AT_ONCE * room
        params.n_threads = params.n_threads_batch = threads
        self._context = llama_cpp.llama_init_from_model(self._model, params)
        self._batch = llama_cpp.llama_batch_init(AT_ONCE * room, 0, 1)
        self._width = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self._model))

    def read(self, chats: Sequence[Chat | None]) -> None:
        """Read the unread tokens of all chats, and choose the next token of each."""
        batch, count = self._batch, 0
        held = [(slot, chat) for slot, chat in enumerate(chats) if chat]
        for slot, chat in held:
            for place in range(chat.unread, len(chat.tokens)):
                batch.token[count], batch.pos[count] = chat.tokens[place], place
                batch.n_seq_id[count], batch.seq_id[count][0] = 1, slot
                batch.logits[count] = place == len(chat.tokens) - 1
                chat.row, count = count, count + 1
        batch.n_tokens = count
        if answer := llama_cpp.llama_decode(self._context, batch):
            raise SystemExit(f"llama_decode: {answer}")
        for _, chat in held:
            scores = llama_cpp.llama_get_logits_ith(self._context, chat.row)
            row = np.ctypeslib.as_array(scores, (self._width,))
            chat.unread = len(chat.tokens)
            chat.tokens.append(chat.sampler.pick(row, chat.tokens, len(chat.tokens)).token)

    def forget(self, slot: int) -> None:
        """Empty the cache of one chat."""
        llama_cpp.llama_memory_seq_rm(llama_cpp.llama_get_memory(self._context), slot, -1, -1)


def answered(model: Parallel, chats: Iterator[Chat], longest: int, ends: frozenset[int]) -> Iterator[Chat]:
    """Yield the chats, each as soon as its answer is complete or has `longest` tokens."""
    running: list[Chat | None] = [next(chats, None) for _ in range(AT_ONCE)]
    while any(running):
        model.read(running)
        for slot, chat in enumerate(running):
            if chat and (chat.tokens[-1] in ends or len(chat.tokens) - chat.start >= longest):
                yield chat
                model.forget(slot)
                running[slot] = next(chats, None)


def main() -> None:
    parser = argparse.ArgumentParser(description="Record answers of a model.")
    add = parser.add_argument
    add("model", type=Path)
    add("out", type=Path)
    add("--answers", type=int, default=400)
    add("--tokens", type=int, default=128, help="of an answer, at most")
    add("--room", type=int, default=512, help="tokens of a chat, at most")
    add("--temperature", type=float, default=0.8)
    add("--threads", type=int, default=1)
    add("--seed", type=int, default=1)
    add("--read", action="store_true", help="answers from the documentation, which the model only reads")
    options = parser.parse_args()
    single = LlamaBackend().load(str(options.model), Options("main", options.room, threads=1), lambda _: True)
    renderer, ends = TemplateRenderer(), frozenset(single.vocabulary.end_tokens)

    def begun() -> Iterator[Chat]:
        for seed, question in enumerate(all_questions(options.seed)[: options.answers]):
            prompt = prompt_of(Generate(1, (Message("user", question),), seed), single, renderer)
            if len(prompt) + options.tokens <= options.room:
                yield Chat(prompt, len(prompt), Sampler(Chain(options.temperature), seed, len(prompt)), 0)

    def read() -> Iterator[Chat]:
        for question, doc in documentation(options.seed)[: options.answers]:
            prompt = prompt_of(Generate(1, (Message("user", question),), 0), single, renderer)
            answer = single.vocabulary.encode(doc)[: options.tokens]
            yield Chat(prompt + answer, len(prompt), Sampler(Chain(), 0, 0), 0)

    with options.out.open("w", encoding="utf-8") as file:
        if options.read:
            chats = read()
        else:
            model = Parallel(options.model, options.room, options.threads)
            chats = answered(model, begun(), options.tokens, ends)
        for chat in chats:
            print(json.dumps({"answer": chat.start, "tokens": chat.tokens}), file=file, flush=True)
    renderer.close()
    single.close()


if __name__ == "__main__":
    main()
