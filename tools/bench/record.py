"""Records what `tests/support/replay.py` plays: answers of a real pair, or how long its calls take.

    python -m tools.bench.record answers MAIN DRAFT OUT.json [--tokens 96] [--threads 2]
    python -m tools.bench.record times MAIN DRAFT OUT.json [--seconds 60] [--threads 2]

An answer is the main model's plain one, with the token that the draft chooses at each place of it and how
sure it is of that. Times are ticks: one call of each kind in turn, in milliseconds, on the machine as it is.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

from tui.engine.backends import LoadedModel, Options
from tui.engine.backends.llama_cpp import LlamaBackend
from tui.engine.backends.selection import open_backend
from tui.engine.speculation.loop import generate, prefill
from tui.engine.speculation.policy import FixedLength
from tui.engine.speculation.proposers import NullProposer
from tui.engine.speculation.sampling import Chain, Sampler

FILE = """import csv
import sys

def read_rows(path):
    rows = []
    with open(path) as file:
        for row in csv.reader(file):
            rows.append(row)
    return rows

def total(rows, column):
    result = 0
    for row in rows:
        result += float(row[column])
    return result

if __name__ == "__main__":
    rows = read_rows(sys.argv[1])
    print(total(rows, 2))
"""
PROMPTS = {
    "quicksort": "Write quicksort in Python with a short explanation.",
    "train": "A train leaves at 9:40 and travels 210 km at 84 km/h. When does it arrive? Explain it.",
    "rename": "Rename the variable `rows` to `records` everywhere and return the file:\n"
    f"```python\n{FILE}```",
    "poem": "Write a short story about a lighthouse keeper who finds a message in a bottle.",
    "table": "Make a Markdown table of the planets: diameter, distance from the sun, number of moons.",
    "sql": "Explain the difference between INNER JOIN and LEFT JOIN with an example.",
}
ASKED = (
    *(("rename", 0.0), ("quicksort", 0.8), ("train", 0.0), ("poem", 0.8)),
    *(("sql", 0.0), ("table", 0.8), ("quicksort", 0.0), ("poem", 0.0)),
)
ROWS = (1, 2, 3, 4, 5, 6, 8, 9, 12, 16)
SEED = 7


def answer(main: LoadedModel, draft: LoadedModel, name: str, temperature: float, most: int) -> dict[str, Any]:
    """One answer, for the replay."""
    turn = f"<|im_start|>user\n{PROMPTS[name]}<|im_end|>\n<|im_start|>assistant\n"
    prompt = main.vocabulary.encode(f"<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{turn}")
    context, end = prompt.copy(), main.vocabulary.end_tokens
    for model, confident in ((main, False), (draft, True)):
        model.rewind(0)
        model.start(Sampler(Chain(temperature), SEED, len(prompt), confident=confident))
        prefill(model, prompt, end=lambda at: at + 512, cancelled=lambda: False, progress=lambda *_: None)
    rounds = generate(main, NullProposer(), context, policy=FixedLength(0), end_tokens=end, max_tokens=most)
    tokens = [token for happened in rounds for token in happened.tokens]
    picks = [draft.extend([token], picks=1)[0] for token in [prompt[-1], *tokens[:-1]]]
    pairs = enumerate(zip(picks, tokens, strict=True))
    return {
        "prompt": name,
        "temperature": temperature,
        "context": prompt,
        "tokens": tokens,
        "wrong": {place: pick.token for place, (pick, token) in pairs if pick.token != token},
        "confidence": [round(100 * pick.probability) for pick in picks],
    }


def ticks(main: LoadedModel, draft: LoadedModel, seconds: float) -> Iterator[list[float]]:
    """The milliseconds of `ROWS` of the main model, then of one, two and one token of the draft."""
    text = main.vocabulary.encode("The quick brown fox jumps over the lazy dog and runs away. " * 20)[:140]
    calls = [*((main, rows, rows) for rows in ROWS), *((draft, tokens, 1) for tokens in (1, 2, 1))]
    for model in (main, draft):
        model.start(Sampler(Chain(), SEED, 1, confident=model is draft))
        model.extend(text[:100], picks=0)
    until = perf_counter() + seconds
    while perf_counter() < until:
        tick = []
        for model, tokens, picks in calls:
            model.rewind(100)
            began = perf_counter()
            model.extend(text[100 : 100 + tokens], picks)
            tick.append(round(1000 * (perf_counter() - began), 2))
        yield tick


def main() -> None:
    parser = argparse.ArgumentParser(description="Record a real pair for the replay.")
    parser.add_argument("what", choices=["answers", "times"])
    parser.add_argument("main")
    parser.add_argument("draft")
    parser.add_argument("out", type=Path)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    backend = open_backend(options.main)
    assert isinstance(backend, LlamaBackend)
    main = backend.load(options.main, Options("main", 2048, threads=options.threads), lambda _: True)
    draft = backend.load(options.draft, Options("draft", 2048, threads=options.threads), lambda _: True)
    names = {"main": main.facts.name, "draft": draft.facts.name}
    if options.what == "times":
        found = {**names, "rows": ROWS, "ticks": list(ticks(main, draft, options.seconds))}
    else:
        barriers = sorted(main.vocabulary.end_tokens)
        told = [answer(main, draft, name, heat, options.tokens) for name, heat in ASKED]
        found = {**names, "barriers": barriers, "answers": told}
    options.out.write_text(json.dumps(found, separators=(",", ":")), encoding="utf-8")


if __name__ == "__main__":
    main()
