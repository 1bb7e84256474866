"""What real typing adds to a question: greetings, punctuation, case and slips of the keyboard.

This module knows no facts; `MAYBE_BEFORE` and `MAYBE_AFTER` recognise what
`decorate` puts around a question.
"""

from __future__ import annotations

import random
import re

BEFORE = (
    "ok,",
    "so",
    "and",
    "well,",
    "hi,",
    "hey,",
    "hello,",
    "quick question:",
    "one question:",
    "please",
    "um,",
    "now",
    "excuse me,",
    "sorry,",
    "tell me,",
    "question:",
    "alright,",
    "hey outrider,",
    "also,",
    "but",
    "then",
    "oh,",
    "another question:",
    "out of curiosity,",
    "i wonder,",
    "could you help?",
    "dear model,",
    "just curious,",
    "say,",
    "i'm new here.",
    "i just installed this.",
    "one more thing:",
    "cool,",
    "thanks,",
    "great,",
    "listen,",
    "next:",
)
AFTER = (
    "please",
    "thanks",
    "here",
    "in outrider",
    "in this app",
    "in this program",
    "in the chat",
    "with outrider",
    "thank you",
    "in this chat",
    "in here",
    "now",
    "exactly",
    "again",
    "in this thing",
    "in this tool",
    "for me",
    "right now",
    "then",
    "in the terminal",
    "quickly",
    "in short",
    "actually",
    "pls",
    "in this application",
    "if possible",
    "anyway",
    "btw",
)
MAYBE_BEFORE = "(?:(?:" + "|".join(re.escape(word.rstrip(",:.?")) for word in BEFORE) + r")\s*[,:.?!]*\s+)?"
MAYBE_AFTER = r"(?:\s*,?\s+(?:" + "|".join(AFTER) + "))?"
NEAR = {
    "a": "sq",
    "b": "vn",
    "c": "xv",
    "d": "sf",
    "e": "wr",
    "f": "dg",
    "g": "fh",
    "h": "gj",
    "i": "uo",
    "k": "jl",
    "l": "k",
    "m": "n",
    "n": "bm",
    "o": "ip",
    "p": "o",
    "r": "et",
    "s": "ad",
    "t": "ry",
    "u": "yi",
    "v": "cb",
    "w": "qe",
}


def decorate(question: str, rng: random.Random) -> str:
    """Add what surrounds a question; about a third stay as they are."""
    if rng.random() < 0.15:
        question = f"{rng.choice(BEFORE)} {question}"
    if rng.random() < 0.15:
        question = f"{question} {rng.choice(AFTER)}"
    if rng.random() < 0.15:
        question = _slip(question, rng)
    if rng.random() < 0.06:
        question = _drop_word(question, rng)
    case = rng.random()
    if case < 0.45:
        question = question[:1].upper() + question[1:]
    elif case < 0.48:
        question = question.upper()
    elif case < 0.75:
        question = question.lower()
    if rng.random() < 0.15:
        question = question.replace("'", "")
    return question + rng.choice(("", "", "?", "?", "?", ".", "!", " ?", "??"))


def _slip(text: str, rng: random.Random) -> str:
    """Leave out, double, swap or miss one letter of a longer word."""
    places = [place for place in range(1, len(text) - 2) if text[place : place + 2].isalpha()]
    if not places:
        return text
    place = rng.choice(places)
    letter = text[place]
    kind = rng.randrange(4)
    if kind == 0:
        return text[:place] + text[place + 1 :]
    if kind == 1:
        return text[:place] + letter + text[place:]
    if kind == 2:
        return text[:place] + text[place + 1] + letter + text[place + 2 :]
    return text[:place] + rng.choice(NEAR.get(letter, letter)) + text[place + 1 :]


def _drop_word(text: str, rng: random.Random) -> str:
    words = text.split()
    if len(words) < 4:
        return text
    del words[rng.randrange(len(words) - 1)]
    return " ".join(words)


SYLLABLES = (
    "ba",
    "be",
    "bi",
    "bo",
    "bra",
    "cal",
    "cor",
    "da",
    "den",
    "dor",
    "el",
    "fa",
    "fen",
    "flo",
    "ga",
    "gle",
    "gor",
    "ha",
    "hil",
    "im",
    "jo",
    "ka",
    "kel",
    "kri",
    "la",
    "len",
    "lo",
    "lu",
    "ma",
    "mer",
    "mi",
    "mo",
    "na",
    "nel",
    "no",
    "nu",
    "or",
    "pa",
    "per",
    "pli",
    "po",
    "qua",
    "ra",
    "rel",
    "ri",
    "ro",
    "sa",
    "sel",
    "shi",
    "so",
    "sta",
    "ta",
    "ten",
    "tor",
    "tri",
    "tu",
    "ul",
    "va",
    "vel",
    "vi",
    "vo",
    "wa",
    "wen",
    "xi",
    "ya",
    "yor",
    "za",
    "zel",
    "zo",
)


def made_up_words(count: int, seed: int) -> list[str]:
    """Words that mean nothing, so that an unknown word is known to be unknown."""
    rng = random.Random(seed)
    endings = ("", "", "", "n", "s", "t", "x", "r", "ing", "er", "ic", "ium", "y")
    lengths = (1, 2, 2, 3)
    return [
        "".join(rng.choices(SYLLABLES, k=rng.choice(lengths))) + rng.choice(endings) for _ in range(count)
    ]
