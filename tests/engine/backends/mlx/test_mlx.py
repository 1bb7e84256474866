"""The MLX backend: the same heart on other weights, on real folders with random or trained weights."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import models
from tests.support.grammars import ConstrainedGapSampler
from tests.support.models import Toy
from tests.support.rows import some_tokens
from tests.support.starter import PROMPTS, TIE, GapSampler, answer, load, tokens_of

pytest.importorskip("mlx_lm")

import mlx.core as mx
import mlx.nn
from mlx.utils import tree_flatten
from mlx_lm.models.cache import KVCache
from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers import models as kinds

from tests.support import mlx_models
from tui.engine.answer.templates import MARK, TemplateRenderer, encode_conversation, puts_space
from tui.engine.answer.text import TextStream
from tui.engine.backends import GivenUp, ModelError, Options
from tui.engine.backends import mlx as backend
from tui.engine.backends.grammars import of_gbnf, of_schema
from tui.engine.backends.mlx import MlxBackend
from tui.engine.backends.mlx.model import MlxModel
from tui.engine.backends.mlx.picking import best_of, pick_rows
from tui.engine.backends.mlx.vocabulary import MlxVocabulary
from tui.engine.backends.selection import open_backend
from tui.engine.eligibility import OTHER_LIBRARY
from tui.engine.library.gguf import BadModelFile
from tui.engine.library.mlx_folder import read_folder
from tui.engine.pair.cache_check import trial
from tui.engine.pair.memory_plan import _folder_need
from tui.engine.pair.pair import load_pair
from tui.engine.session import Session
from tui.engine.speculation.loop import Pick, generate
from tui.engine.speculation.policy import FixedLength
from tui.engine.speculation.proposers import DraftModel
from tui.engine.speculation.sampling import Chain, InvalidLogits, Sampler
from tui.engine.starter import DRAFT, MAIN
from tui.engine.starter.mlx import starter_folder, write_folder
from tui.protocol import Event, Failed, Finished, Generate, Load, Loaded, Message, Origin, Prefill, Rounds

GREEDY = Chain(temperature=0)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mlx_models.write_folder(tmp_path_factory.mktemp("models") / "toy")


@pytest.fixture(scope="module")
def starter(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    cache = tmp_path_factory.mktemp("cache")
    return starter_folder(MAIN, cache), starter_folder(DRAFT, cache)


def opened(path: Path, role: str = "main", **options: Any) -> MlxModel:
    options = {"context_length": 512, **options}
    return MlxBackend().load(str(path), Options(role, **options), lambda _: True)  # type: ignore[arg-type]


def assert_same(found: list[int], expected: list[int], gaps: dict[int, float]) -> None:
    """That two answers are one, or part where two choices were as good as equal."""
    if found != expected:
        pairs = enumerate(zip(found, expected, strict=False))
        place = next(i for i, (ours, theirs) in pairs if ours != theirs)
        assert gaps[place] < TIE, (place, gaps[place])


# The same numbers as in a GGUF


@pytest.mark.parametrize("seed", range(3))
def test_the_same_weights_give_the_same_200_tokens_as_llama_cpp(tmp_path: Path, seed: int) -> None:
    file = models.write_model(tmp_path / "m.gguf", Toy(seed=seed, layers=3))
    write_folder(file, tmp_path / "mlx")
    context = some_tokens(30, seed)
    answers = []
    for path in (file, tmp_path / "mlx"):
        model = load(path, "main")
        sampler = GapSampler(GREEDY, 0, len(context))
        model.start(sampler)
        text = list(context)
        while len(text) < len(context) + 200:
            text.append(model.extend(text[model.length :], picks=1)[0].token)
        answers.append((text, {place + len(context): gap for place, gap in sampler.gaps.items()}))
    assert len(set(answers[0][0][30:])) > 30, "no loop of few tokens"
    assert_same(answers[1][0], *answers[0])


def test_the_starter_pair_says_in_mlx_what_it_says_in_llama_cpp(starter: tuple[Path, Path]) -> None:
    gguf, main, draft = load(MAIN, "main"), load(starter[0], "main"), load(starter[1], "draft")
    assert MlxBackend().mismatch(main, draft) is None
    same = 0
    for prompt in PROMPTS[::25]:
        context = tokens_of(gguf, prompt)
        assert tokens_of(main, prompt) == context
        expected = answer(gguf, None, list(context), 0, Sampler(GREEDY, 0, len(context)))
        plain = GapSampler(GREEDY, 0, len(context))
        alone = answer(main, None, list(context), 0, plain)
        # llama.cpp rounds what goes into a product with Q8_0 to 8 bits; MLX does not.
        same += alone == expected
        assert_same(
            answer(main, draft, list(context), 3, Sampler(GREEDY, 0, len(context))), alone, plain.gaps
        )
    assert same >= 7


def test_the_starter_folder_is_made_once_and_keeps_the_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = starter_folder(DRAFT, tmp_path)
    assert folder.name == "Starter draft (demo)"
    weights = mx.load(str(folder / "model.safetensors"))
    name = "model.layers.0.self_attn.q_proj"
    ours = mx.dequantize(*(weights[f"{name}.{part}"] for part in ("weight", "scales", "biases")), 32, 8)
    from gguf import GGUFReader
    from gguf.quants import dequantize

    theirs = next(each for each in GGUFReader(DRAFT).tensors if each.name == "blk.0.attn_q.weight")
    np.testing.assert_array_equal(np.array(ours), dequantize(theirs.data, theirs.tensor_type))
    monkeypatch.setattr("tui.engine.starter.mlx.write_folder", None)
    assert starter_folder(DRAFT, tmp_path) == folder


@pytest.mark.parametrize("made", [Toy("gemma3"), Toy("mamba")])
def test_only_a_llama_can_be_written_as_a_folder(tmp_path: Path, made: Toy) -> None:
    with pytest.raises(BadModelFile, match=r"no place in a Llama|only a Llama"):
        write_folder(models.write_model(tmp_path / "m.gguf", made), tmp_path / "mlx")


# Text


TEXTS = [
    "Hello", " leading", "two  spaces", "\n\n\ttabs", "don't I'll we've", "1234567 3.14", "ÄÖÜ ß é",
    "日本語の文", "👩\u200d👩\u200d👧 emoji 🤖", "a" * 300, "x = [i for i in range(10)]", "", " ", "\r\n",
    "<|im_start|>user\nHi<|im_end|>\n", "<|im_start", "\ufffd\ufdd0\u200b", "end<|endoftext|>",
    "MiXeD CaSe_and-signs!?;:", "e\u0301\u0301",
]  # fmt: skip


def test_text_becomes_the_same_tokens_and_bytes_as_in_llama_cpp(starter: tuple[Path, Path]) -> None:
    ours, theirs = opened(starter[0]).vocabulary, load(MAIN, "main").vocabulary
    for text in (*TEXTS, *PROMPTS):
        assert ours.encode(text) == theirs.encode(text), text
    assert [ours.piece(token) for token in range(ours.size)] == [
        theirs.piece(token) for token in range(ours.size)
    ]
    assert ours.encode_start() == theirs.encode_start() == []
    assert (ours.bos_text, ours.eos_text) == (theirs.bos_text, theirs.eos_text)
    assert ours.control_tokens == theirs.control_tokens
    assert set(ours.control_texts) == set(theirs.control_texts)
    assert ours.end_tokens == theirs.end_tokens
    assert ours.chat_template == theirs.chat_template


def test_every_text_comes_back_from_its_tokens(toy: Path) -> None:
    vocabulary = opened(toy).vocabulary
    for text in TEXTS:
        if "<|" not in text:
            assert b"".join(map(vocabulary.piece, vocabulary.encode(text))) == text.encode()
    with pytest.raises(IndexError):
        vocabulary.piece(vocabulary.size)
    with pytest.raises(IndexError):
        vocabulary.piece(-1)
    with pytest.raises(ModelError, match="too long"):
        vocabulary.encode("a" * (2 << 20) + "b")
    assert vocabulary.encode("\ud800") == vocabulary.encode("?")


def test_a_draft_shares_the_tokenizer_of_its_main_model_if_the_files_agree(tmp_path: Path) -> None:
    """A large file takes seconds to open."""
    folders = [mlx_models.write_folder(tmp_path / name) for name in ("main", "draft", "other")]
    values = json.loads((folders[2] / "tokenizer.json").read_text())
    values["added_tokens"][0]["content"] = "<|other|>"
    mlx_models.write_json(folders[2] / "tokenizer.json", values)
    engine = MlxBackend()
    main, draft, other = (
        engine.load(str(each), Options("main", 0), lambda _: True).vocabulary for each in folders
    )
    assert main._tokenizer is draft._tokenizer is not other._tokenizer
    assert main.encode("<|other|>") == draft.encode("<|other|>") != other.encode("<|other|>")


def sentence_pieces() -> Tokenizer:
    """As SentencePiece makes them: spaces as a character of their own, bytes for what is no piece."""
    words = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "▁He", "l", "lo", "o"]
    tokenizer = Tokenizer(
        kinds.BPE({word: i for i, word in enumerate(words)}, [], unk_token="<unk>", byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken(word, normalized=False) for word in words[:3]])
    return tokenizer


def word_pieces() -> Tokenizer:
    words = ["[UNK]", "play", "##ing", "##ed", "go", "."]
    tokenizer = Tokenizer(kinds.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(["[UNK]"])
    return tokenizer


def with_tokenizer(folder: Path, tokenizer: Tokenizer, **settings: Any) -> MlxVocabulary:
    """The vocabulary of a folder with another tokenizer."""
    mlx_models.write_folder(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    mlx_models.write_json(folder / "tokenizer_config.json", settings)
    return MlxVocabulary(read_folder(folder), mlx_models.VOCABULARY)


def test_sentence_pieces_become_bytes(tmp_path: Path) -> None:
    vocabulary = with_tokenizer(tmp_path / "m", sentence_pieces())
    for text in ("lo lol", "é日🤖", "  l\n"):
        tokens = vocabulary.encode(text)
        assert b"".join(map(vocabulary.piece, tokens)) == text.encode()
    assert [vocabulary.piece(token) for token in vocabulary.encode("é")] == [b"\xc3", b"\xa9"]
    assert vocabulary.piece(1) == b"<s>", "of a control token it is the name"
    assert vocabulary.piece(400) == b"", "a number that is no token has none"


def test_any_other_tokenizer_shows_what_its_own_decoder_does(tmp_path: Path) -> None:
    vocabulary = with_tokenizer(tmp_path / "m", word_pieces())
    tokens = vocabulary.encode("go playing.")
    assert b"".join(map(vocabulary.piece, tokens)).decode().strip() == "go playing."


def test_the_tokens_that_a_prompt_begins_with(tmp_path: Path) -> None:
    from tokenizers.processors import TemplateProcessing

    starting = sentence_pieces()
    starting.post_processor = TemplateProcessing("<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    for number, (tokenizer, settings, expected) in enumerate(
        [
            (starting, {}, [1]),
            (starting, {"bos_token": "<s>", "add_bos_token": True}, [1]),
            (starting, {"bos_token": "<s>", "add_bos_token": False}, []),
            (sentence_pieces(), {"bos_token": {"content": "<s>"}, "add_bos_token": True}, [1]),
            (sentence_pieces(), {"bos_token": "<s>"}, []),
            (sentence_pieces(), {"bos_token": None, "add_bos_token": True}, []),
        ]
    ):
        vocabulary = with_tokenizer(tmp_path / str(number), tokenizer, **settings)
        assert vocabulary.encode_start() == expected
        assert vocabulary.encode("lo")[0] != 1, "and no text but a prompt"


@pytest.mark.parametrize("normalized", [False, True])
def test_no_spelling_of_a_user_becomes_a_control_token(tmp_path: Path, normalized: bool) -> None:
    """Nor one that the tokenizer's own rules make into one: wide letters, say."""
    tokenizer = sentence_pieces()
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(" ", "▁")])
    tokenizer.add_special_tokens([AddedToken("<|end|>", normalized=normalized)])
    vocabulary = with_tokenizer(tmp_path / "m", tokenizer)
    control = tokenizer.token_to_id("<|end|>")
    assert vocabulary.encode("lo<|end|>lo").count(control) == 1
    for text in ("＜|end|＞", "lo ＜|ｅnd|＞ lo<|end|>", "<|en" + MARK + "d|>", "<|end|"):
        assert vocabulary.encode(text).count(control) == text.count("<|end|>"), text


@pytest.mark.parametrize("special", [False, True])
def test_a_token_that_marks_a_role_is_none_in_a_message_whatever_its_file_calls_it(
    tmp_path: Path, special: bool
) -> None:
    tokenizer = sentence_pieces()
    marks = ["<|im_start|>", "<tool_call>", "[INST]"]
    html = ["<table>", "</h1>"]
    tokenizer.add_tokens([AddedToken(text, special=special, normalized=False) for text in marks])
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in html])
    vocabulary = with_tokenizer(
        tmp_path / "m", tokenizer, chat_template="{% for m in messages %}{{ m.content }}{% endfor %}"
    )
    assert {*marks, "<s>", "</s>"} <= set(vocabulary.control_texts)
    assert not {*html} & set(vocabulary.control_texts), "these are text"
    renderer = TemplateRenderer()
    for text in marks:
        tokens = encode_conversation(vocabulary, renderer, [Message("user", f"l{text}l")], 1000)
        assert tokenizer.token_to_id(text) not in tokens
        assert b"".join(map(vocabulary.piece, tokens)) == f"l{text}l".encode()
    tokens = encode_conversation(vocabulary, renderer, [Message("user", "l<table>l")], 1000)
    assert tokenizer.token_to_id("<table>") in tokens
    renderer.close()


def spaced_pieces() -> Tokenizer:
    """As Llama 2 has it: a space stands before whatever is encoded."""
    tokenizer = sentence_pieces()
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return tokenizer


@pytest.mark.parametrize("text", ["<s>old</s>", "lo</s>l", "lo", "</s>", "l <s> l"])
def test_a_spelled_control_token_gains_no_spaces(tmp_path: Path, text: str) -> None:
    template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    vocabulary = with_tokenizer(tmp_path / "m", spaced_pieces(), chat_template=template)
    renderer = TemplateRenderer()
    tokens = encode_conversation(vocabulary, renderer, [Message("user", text)], 1000)
    renderer.close()
    assert not {1, 2} & set(tokens)
    assert b"".join(map(vocabulary.piece, tokens)) == f" {text}".encode()


def test_the_space_that_the_tokenizer_adds_is_no_part_of_an_answer(tmp_path: Path) -> None:
    spaced = with_tokenizer(tmp_path / "a", spaced_pieces())
    assert puts_space(spaced)
    assert not puts_space(with_tokenizer(tmp_path / "b", sentence_pieces()))
    stream = TextStream(spaced.piece, spaced=True)
    tokens = [*spaced.encode("Hello"), *spaced.encode("lo")]
    assert "".join(piece.text for token in tokens for piece in stream.feed(token, Origin.PLAIN)) == "Hello lo"


def test_a_text_that_is_cut_short_by_its_file_is_read_whole(tmp_path: Path) -> None:
    tokenizer = sentence_pieces()
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=50)
    assert len(with_tokenizer(tmp_path / "m", tokenizer).encode("l" * 9)) == 9


def test_every_end_that_any_file_names_ends_an_answer(tmp_path: Path) -> None:
    folder = mlx_models.write_folder(tmp_path / "m", settings={"eos_token_id": 10})
    mlx_models.write_json(folder / "generation_config.json", {"eos_token_id": [11, 12, "x", None, -1, 10**9]})
    mlx_models.write_json(folder / "tokenizer_config.json", {"eos_token": {"content": "<|im_start|>"}})
    ends = MlxVocabulary(read_folder(folder), 512).end_tokens
    assert ends == {10, 11, 12, 256, 257, 258}, "256 and 258 are <|endoftext|> and <|im_end|>"
    mlx_models.write_json(folder / "special_tokens_map.json", {"eos_token": "a"})
    mlx_models.write_json(folder / "tokenizer_config.json", {})
    assert MlxVocabulary(read_folder(folder), 512).end_tokens > {10, 11, 12}


@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize(
    "text", ["<|end|>", "<|eot|>", "<|return|>", "<turn|>", "<|im_end|>", "<｜end▁of▁sentence｜>"]
)
def test_an_end_that_no_file_names_is_known_by_its_text(tmp_path: Path, text: str, special: bool) -> None:
    tokenizer = sentence_pieces()
    tokenizer.add_tokens([AddedToken(text, special=special, normalized=False)])
    vocabulary = with_tokenizer(tmp_path / "m", tokenizer, eos_token="</s>")
    assert {2, tokenizer.token_to_id(text)} <= vocabulary.end_tokens


def test_html_that_a_vocabulary_has_as_a_word_ends_nothing(tmp_path: Path) -> None:
    """Gemma and Qwen have `</s>`; it ends answers of models that begin or end texts with such a token."""
    tokenizer = sentence_pieces()
    for number, (settings, ends) in enumerate(
        [
            ({"bos_token": "<s>", "eos_token": "lo"}, True),
            ({"eos_token": "</s>"}, True),
            ({"bos_token": "l", "eos_token": "lo"}, False),
        ]
    ):
        vocabulary = with_tokenizer(tmp_path / str(number), tokenizer, **settings)
        assert (2 in vocabulary.end_tokens) is ends


def test_the_end_of_a_harmony_message_is_not_that_of_the_answer(tmp_path: Path) -> None:
    tokenizer = sentence_pieces()
    tokenizer.add_special_tokens(["<|end|>", "<|return|>", "<|call|>"])
    ends = with_tokenizer(tmp_path / "m", tokenizer).end_tokens
    assert [tokenizer.token_to_id(text) in ends for text in ("<|end|>", "<|return|>", "<|call|>")] == [
        False,
        True,
        True,
    ]


def test_the_chat_template_is_found_wherever_it_stands(tmp_path: Path) -> None:
    folder = mlx_models.write_folder(tmp_path / "m")
    assert read_folder(folder).chat_template == models.CHATML
    mlx_models.write_json(folder / "tokenizer_config.json", {})
    assert read_folder(folder).chat_template is None
    mlx_models.write_json(folder / "chat_template.json", {"chat_template": "from chat_template.json"})
    assert read_folder(folder).chat_template == "from chat_template.json"
    named = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "from a list"}]
    mlx_models.write_json(folder / "tokenizer_config.json", {"chat_template": named})
    assert read_folder(folder).chat_template == "from a list"
    (folder / "chat_template.jinja").write_text("from a file")
    assert read_folder(folder).chat_template == "from a file"


def test_a_draft_with_other_tokens_is_rejected_with_the_first_of_them(tmp_path: Path, toy: Path) -> None:
    other = mlx_models.write_folder(tmp_path / "other")
    values = json.loads((other / "tokenizer.json").read_text())
    vocabulary = values["model"]["vocab"]
    vocabulary["A"], vocabulary["B"] = vocabulary["B"], vocabulary["A"]
    mlx_models.write_json(other / "tokenizer.json", values)
    obstacle = MlxBackend().mismatch(opened(toy), opened(other, "draft"))
    assert obstacle and obstacle.text.endswith("(differs at id 65: 'A' against 'B')")
    assert MlxBackend().mismatch(opened(toy), opened(toy, "draft")) is None
    gguf = load(models.write_model(tmp_path / "m.gguf"), "draft")
    assert MlxBackend().mismatch(opened(toy), gguf) == OTHER_LIBRARY


# Choosing


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "float16"])
def test_10000_rows_give_the_choices_of_the_shared_chain(kind: str) -> None:
    """With many exact ties: scores of few bits, and rows of equal scores."""
    rng = np.random.default_rng(1)
    rows = mx.array(rng.normal(0, 3, (10_000, 300)).round(0).astype(np.float32)).astype(getattr(mx, kind))
    rows[:100] = 1.0
    plain = np.array(rows.astype(mx.float32))
    best = np.sort(plain, axis=1)
    assert (best[:, -1] == best[:, -2]).sum() > 1000, "ties that the lower id must win"
    tokens = some_tokens(50)
    chains = [
        Chain(0),
        Chain(0.8),
        Chain(1.5, top_k=0),
        Chain(0, bias={3: 5.0}),
        Chain(0, repeat_penalty=1.3),
    ]
    for begin in range(0, 10_000, 20):
        sampler = Sampler(chains[begin // 20 % 5 if begin > 5000 else begin // 20 % 2], begin, 10)
        part = rows[begin : begin + 20]
        found = pick_rows(part, [], sampler, tokens)
        if sampler.takes_best:
            assert best_of(part, [], 21) == found
        assert found == [
            sampler.pick(plain[begin + place], tokens, len(tokens) - 19 + place) for place in range(20)
        ]


@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_no_numbers_are_found_at_their_place(temperature: float, bad: float) -> None:
    rows = np.random.default_rng(0).normal(0, 1, (5, 300)).astype(np.float32)
    if bad == -np.inf:
        rows[3] = bad
    else:
        rows[3, 250] = bad
    tokens = some_tokens(20)
    with pytest.raises(InvalidLogits) as caught:
        pick_rows(mx.array(rows), [], Sampler(Chain(temperature), 0, 10), tokens)
    with pytest.raises(InvalidLogits) as expected:
        Sampler(Chain(temperature), 0, 10).pick(rows[3], tokens, 19)
    assert caught.value.index == expected.value.index == 9
    with pytest.raises(InvalidLogits) as caught:
        best_of(mx.array(rows), [], 6)
    assert caught.value.index == 9


def test_only_a_plain_choice_of_the_best_is_left_to_the_device() -> None:
    class Own(Sampler):
        def pick(self, logits: Any, tokens: Sequence[int], length: int) -> Pick:
            return Pick(7, 0.5)

    assert Sampler(GREEDY, 0, 0).takes_best
    for sampler in (
        Sampler(Chain(0.1), 0, 0),
        Sampler(GREEDY, 0, 0, confident=True),
        Sampler(Chain(0, bias={1: 1.0}), 0, 0),
        Sampler(Chain(0, presence_penalty=0.1), 0, 0),
        Own(GREEDY, 0, 0),
    ):
        assert not sampler.takes_best
    assert pick_rows(mx.zeros((2, 9)), [], Own(GREEDY, 0, 0), [1, 2]) == [Pick(7, 0.5)] * 2


@pytest.mark.parametrize("on_gpu", [False, True])
@pytest.mark.parametrize("width", [3, 5000])
def test_a_gpu_looks_for_the_best_itself_and_so_does_a_processor_in_a_narrow_row(
    monkeypatch: pytest.MonkeyPatch, width: int, on_gpu: bool
) -> None:
    chosen: list[int] = []
    choose = Sampler._choice
    monkeypatch.setattr(Sampler, "_choice", lambda *given: chosen.append(1) or choose(*given))
    if on_gpu:
        monkeypatch.setattr(mx, "default_device", lambda: mx.Device(mx.gpu))
    row = mx.array([[1.0, 5.0, 5.0, *[0.0] * (width - 3)]])
    assert pick_rows(row, [], Sampler(GREEDY, 0, 0), [1]) == [Pick(1, 1.0)]
    assert len(chosen) == (width == 5000 and not on_gpu)


@pytest.mark.parametrize("on_gpu", [False, True])
@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_a_round_is_waited_for_once(
    toy: Path, monkeypatch: pytest.MonkeyPatch, temperature: float, on_gpu: bool
) -> None:
    model = opened(toy)
    model.start(Sampler(Chain(temperature), 0, 0))
    model.extend(some_tokens(20), picks=0)
    waits: list[int] = []
    evaluate = mx.eval
    if on_gpu:
        monkeypatch.setattr(mx, "default_device", lambda: mx.Device(mx.gpu))
    monkeypatch.setattr(mx, "eval", lambda *arrays: waits.append(1) or evaluate(*arrays))
    model.extend(some_tokens(9), picks=9)
    model.rewind(25)
    model.extend(some_tokens(3), picks=3)
    assert len(waits) == 2


def sizes_of_waits(patch: pytest.MonkeyPatch, model: MlxModel) -> list[int]:
    """How many calls of the network each wait of MLX is for, from now on."""
    calls, waits = [0], []
    evaluate, network = mx.eval, model._network

    def counted(tokens: mx.array, cache: Any) -> mx.array:
        calls[0] += 1
        return network(tokens, cache=cache)

    def waited(*arrays: Any) -> None:
        waits.append(calls[0])
        calls[0] = 0
        evaluate(*arrays)

    patch.setattr(model, "_network", counted)
    patch.setattr(mx, "eval", waited)
    return waits


@pytest.mark.parametrize("confident", [False, True])
def test_a_round_of_a_fixed_length_waits_once_for_all_drafts_and_once_for_the_main_model(
    toy: Path, monkeypatch: pytest.MonkeyPatch, confident: bool
) -> None:
    main, draft, context = opened(toy), opened(toy, "draft"), some_tokens(20)
    main.start(Sampler(GREEDY, 0, 20))
    draft.start(Sampler(GREEDY, 0, 20, confident=confident))
    for each in (main, draft):
        each.extend(context[:-1], picks=0)
    rounds = generate(
        main, DraftModel(draft, ()), context, policy=FixedLength(4), end_tokens=(), max_tokens=40
    )
    waits = sizes_of_waits(monkeypatch, draft)
    for happened in rounds:
        assert happened.accepted == len(happened.drafted) == 4
        assert waits == [4, 0], "four steps of the draft, then the main model's"
        waits.clear()


def test_choices_that_need_the_host_are_waited_for_one_by_one(
    toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = opened(toy, "draft")
    draft.extend(some_tokens(20), picks=0)
    waits = sizes_of_waits(monkeypatch, draft)
    for chain in (Chain(0.8), Chain(0, repeat_penalty=1.3), Chain(0, bias={3: 5.0})):
        draft.start(Sampler(chain, 0, 20))
        assert len(draft.draft([1], 4)) == 1
    assert waits == [1] * 3


def test_a_chain_of_choices_ends_with_the_cache(toy: Path) -> None:
    draft = opened(toy, "draft", context_length=32)
    draft.start(Sampler(GREEDY, 0, 20))
    assert len(draft.draft(some_tokens(29), 8)) == 4
    assert draft.length == 32
    with pytest.raises(ModelError, match="full"):
        draft.draft([1], 8)
    draft.rewind(31)
    with pytest.raises(ModelError, match="not among"):
        draft.draft([512], 8)
    assert draft.length == 31


def test_a_chain_of_choices_finds_scores_that_are_no_numbers_at_their_place(
    toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft, context = opened(toy, "draft"), some_tokens(24)
    network, calls = draft._network, [0]

    def spoiled(tokens: mx.array, cache: Any) -> mx.array:
        calls[0] += 1
        return network(tokens, cache=cache) * (np.nan if calls[0] == 3 else 1.0)

    monkeypatch.setattr(draft, "_network", spoiled)
    draft.start(Sampler(GREEDY, 0, 20))
    with pytest.raises(InvalidLogits) as caught:
        draft.draft(context, 4)
    assert caught.value.index == 6
    assert draft.length == 0, "it holds a token that was chosen among no numbers"
    chained = draft.draft(context, 4)
    draft.rewind(0)
    picks = draft.extend(context, picks=1)
    while len(picks) < 4:
        picks += draft.extend([picks[-1].token], picks=1)
    assert chained == picks


def test_mlx_begins_with_a_short_call_before_all_of_it_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = opened(mlx_models.write_folder(tmp_path / "m", settings={"num_hidden_layers": 10}))
    model.start(Sampler(GREEDY, 0, 0))
    begun: list[int] = []
    begin = mx.async_eval

    def began(*arrays: Any) -> None:
        begun.append(sum(leaf.offset == model.length for leaf in model._cache._leaves))
        begin(*arrays)

    monkeypatch.setattr(mx, "async_eval", began)
    model.extend(some_tokens(17), picks=1)
    assert begun == [1, 5, 9], "the caches that were reached before"
    model.extend(some_tokens(18), picks=0)
    assert len(begun) == 3


# Loading


def test_a_folder_says_what_it_holds(toy: Path) -> None:
    model = opened(toy)
    facts = model.facts
    assert (facts.name, facts.path, facts.architecture) == ("toy F32", str(toy), "llama")
    assert (facts.quantization, facts.context_length, facts.vocabulary) == ("F32", 512, 512)
    assert facts.size == 4 * facts.parameters
    assert MlxBackend().device()
    snapshot = toy.parent / "models--mlx-community--Some-Model-4bit" / "snapshots" / "0123abcd"
    snapshot.parent.mkdir(parents=True)
    (snapshot.parent.parent / "blobs").mkdir()
    snapshot.mkdir()
    for file in toy.iterdir():
        (blob := snapshot.parent.parent / "blobs" / f"{len(file.name)}beef").write_bytes(file.read_bytes())
        (snapshot / file.name).symlink_to(Path("../../blobs") / blob.name)
    assert opened(snapshot).facts.name == "Some-Model F32"


@pytest.mark.parametrize(("bits", "mode"), [(4, "affine"), (8, "affine"), (4, "mxfp4")])
def test_quantized_weights_with_tied_embeddings(tmp_path: Path, bits: int, mode: str) -> None:
    folder = mlx_models.write_folder(tmp_path / "m", settings={"tie_word_embeddings": True})
    whole = opened(folder)
    network = whole.runner.network
    mlx.nn.quantize(network, 32, bits, mode=mode)
    mx.save_safetensors(str(folder / "model.safetensors"), dict(tree_flatten(network.parameters())))
    config = json.loads((folder / "config.json").read_text())
    mlx_models.write_json(
        folder / "config.json", config | {"quantization": {"group_size": 32, "bits": bits, "mode": mode}}
    )
    model = opened(folder)
    assert model.facts.quantization == (f"{bits} bits" if mode == "affine" else mode)
    assert model.facts.parameters == whole.facts.parameters
    assert model.facts.size < whole.facts.size / 2
    assert trial(model) is None


def test_weights_in_several_files(tmp_path: Path) -> None:
    folder = mlx_models.write_folder(tmp_path / "m")
    model = opened(folder)
    weights = mx.load(str(folder / "model.safetensors"))
    names = sorted(weights)
    index = {}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        file = f"model-{number:05d}-of-00002.safetensors"
        mx.save_safetensors(str(folder / file), {name: weights[name] for name in part})
        index |= dict.fromkeys(part, file)
    (folder / "model.safetensors").unlink()
    mlx_models.write_json(folder / "model.safetensors.index.json", {"weight_map": index})
    assert opened(folder).facts.parameters == model.facts.parameters
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ModelError, match=r"model-00002-of-00002\.safetensors is missing"):
        opened(folder)


SHARDS = tuple(f"model-{number:05d}-of-00003.safetensors" for number in (1, 2, 3))


def sharded(place: Path, files: Sequence[str], indexed: Sequence[str], drop: Collection[str] = ()) -> Path:
    """A folder whose weights lie in `files`, with an index that names others; `drop` are gone."""
    folder = mlx_models.write_folder(place / "m")
    weights = mx.load(str(folder / "model.safetensors"))
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    for number, file in enumerate(files):
        if file not in drop:
            part = {name: weights[name] for name in names[number :: len(files)]}
            mx.save_safetensors(str(folder / file), part)
    index = {name: indexed[place % len(indexed)] for place, name in enumerate(names)}
    mlx_models.write_json(folder / "model.safetensors.index.json", {"weight_map": index})
    return folder


@pytest.mark.parametrize(
    ("files", "indexed"),
    [
        (("model.safetensors",), SHARDS),
        (("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"), SHARDS),
        (("model.safetensors",), ("pytorch-1.safetensors", "pytorch-2.safetensors")),
    ],
)
def test_an_index_of_the_model_before_quantization_does_no_harm(
    tmp_path: Path, files: Sequence[str], indexed: Sequence[str]
) -> None:
    assert opened(sharded(tmp_path, files, indexed)).vocabulary.size


def test_a_shard_that_is_missing_is_named_with_a_current_index_and_with_a_stale_one(tmp_path: Path) -> None:
    for number, indexed in enumerate((SHARDS, ("model-00001-of-00009.safetensors",))):
        folder = sharded(tmp_path / str(number), SHARDS, indexed, drop=SHARDS[1:2])
        with pytest.raises(ModelError, match=r"model-00002-of-00003\.safetensors is missing"):
            opened(folder)


@pytest.mark.skipif(mx.default_device() == mx.gpu, reason="a GPU computes with scales of 16 bits")
@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16])
def test_a_quantized_model_computes_with_scales_of_32_bits_on_a_processor(tmp_path: Path, dtype: Any) -> None:
    folder = mlx_models.quantized(tmp_path / "short", dtype)
    exact = mlx_models.widened(folder, tmp_path / "long")
    short, long = opened(folder), opened(exact)
    types = {str(each.dtype) for _, each in tree_flatten(short.runner.network.parameters())}
    assert types == {"mlx.core.uint32", "mlx.core.float32"}, "MLX multiplies by scales of 16 bits slowly"
    for model in (short, long):
        model.start(Sampler(GREEDY, 0, 0))
    assert short.extend(some_tokens(30, 1), 8) == long.extend(some_tokens(30, 1), 8)
    read = read_folder(folder)
    grown = sum(file.stat().st_size for file in exact.glob("*.safetensors"))
    grown -= sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    assert abs(read.widened - grown) < 2000, "all numbers of 16 bits grow, besides the header of the file"
    processor, gpu = (_folder_need(read, "main", 100, "f16", gpu=each) for each in (False, True))
    assert processor.weights - gpu.weights == read.widened
    assert processor.cache == 2 * gpu.cache, "keys and values have the type of the numbers"


def test_only_a_quantized_model_is_widened(tmp_path: Path) -> None:
    folder = mlx_models.write_folder(tmp_path / "m")
    mlx_models.converted(folder, mx.bfloat16)
    assert read_folder(folder).widened == 0
    assert {each.dtype for _, each in tree_flatten(opened(folder).runner.network.parameters())} == {
        mx.bfloat16
    }


@pytest.mark.parametrize("window", [{"layer_types": ["sliding_attention", "full_attention"]}, {}])
def test_a_cache_with_windows_is_planned_as_it_will_be(tmp_path: Path, window: dict[str, Any]) -> None:
    """A long context: windows that kept all of it would take more than their share of the weights."""
    folder = mlx_models.write_folder(tmp_path / "m")
    plain = _folder_need(read_folder(folder), "main", 100_000, "f16").cache
    set_config(folder, sliding_window=64, **(window or {"sliding_window_pattern": 2}))
    planned = _folder_need(read_folder(folder), "main", 100_000, "f16").cache
    assert plain / 2 < planned < 0.51 * plain
    assert _folder_need(read_folder(folder), "main", 60, "f16").cache == plain // 100_000 * 60
    set_config(folder, layer_types=None, sliding_window_pattern=None)
    assert _folder_need(read_folder(folder), "main", 100_000, "f16").cache == plain


def test_a_folder_that_mlx_would_not_find_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="in its path"):
        opened(mlx_models.write_folder(tmp_path / "a [4 bits]"))


def test_a_load_can_be_given_up(toy: Path) -> None:
    with pytest.raises(GivenUp, match="given up"):
        MlxBackend().load(str(toy), Options("main", 0), lambda _: False)
    done: list[float] = []
    MlxBackend().load(str(toy), Options("main", 0), lambda fraction: done.append(fraction) or True)
    assert done == sorted(done)
    assert 1 in done and 1 < done[-1] <= 2, "the weights, and then the first calls"


def test_weights_that_do_not_fit_are_rejected_before_they_are_read(
    toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mx, "device_info", lambda: {"max_recommended_working_set_size": 1000})
    with pytest.raises(ModelError, match="the weights need"):
        opened(toy)


def test_memory_is_wired_where_there_is_a_gpu_of_apple(monkeypatch: pytest.MonkeyPatch) -> None:
    wired: list[int] = []
    monkeypatch.setattr(mx, "set_wired_limit", wired.append)
    MlxBackend()
    assert wired == []
    monkeypatch.setattr(mx.metal, "is_available", lambda: True)
    monkeypatch.setattr(mx, "device_info", lambda: {"max_recommended_working_set_size": 12 << 30})
    MlxBackend()
    assert wired == [12 << 30]


def test_backends_are_chosen_by_path_and_by_wish(
    tmp_path: Path, toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = models.write_model(tmp_path / "m.gguf")
    assert open_backend(str(toy)).name == open_backend(str(toy), "mlx").name == "MLX"
    assert open_backend(str(file)).name == open_backend(str(file), "llama.cpp").name == "llama.cpp"
    with pytest.raises(ModelError, match=r"llama\.cpp opens GGUF files"):
        open_backend(str(toy), "llama.cpp")
    with pytest.raises(ModelError, match="MLX opens folders"):
        open_backend(str(file), "mlx")
    with pytest.raises(ModelError, match="is no folder, and MLX"):
        opened(file)
    monkeypatch.delitem(sys.modules, "tui.engine.backends.mlx")
    monkeypatch.setitem(sys.modules, "mlx.core", None)
    monkeypatch.setitem(sys.modules, "mlx", None)
    with pytest.raises(ModelError) as caught:
        open_backend(str(toy))
    assert str(caught.value) == "MLX is not installed"
    assert "pip install" in caught.value.hint


# In a session


class Ear:
    """A session, and what it sends."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.session = Session(self.events.append, lambda _: False)

    def do(self, command: Load | Generate) -> Event:
        self.session.do(command)
        return self.events[-1]


@pytest.fixture
def ear() -> Iterator[Ear]:
    ear = Ear()
    yield ear
    ear.session.close()


def question(text: str = "What is a draft model?", **more: Any) -> Generate:
    return Generate(1, (Message("user", text),), 7, max_tokens=8, **more)


def test_the_starter_pair_answers_and_everything_runs_on_one_thread(
    ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: set[int] = set()
    evaluate = mx.eval
    monkeypatch.setattr(mx, "eval", lambda *arrays: threads.add(threading.get_ident()) or evaluate(*arrays))
    loaded = ear.do(Load("starter", "starter", 256, backend="mlx"))
    assert isinstance(loaded, Loaded)
    assert (loaded.backend, loaded.obstacle, loaded.main.demo) == ("MLX", None, True)
    assert loaded.main.name == "Starter (demo)"
    finished = ear.do(question())
    assert isinstance(finished, Finished)
    assert finished.statistics.accepted > 0
    assert threads == {threading.get_ident()}
    again = ear.do(question())
    assert isinstance(again, Finished)
    assert again.statistics.prompt_reused == again.statistics.prompt_tokens - 1


def test_a_model_whose_cache_is_unknown_answers_without_drafts_and_says_why(
    ear: Ear, toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Odd(KVCache):  # type: ignore[misc]
        pass

    monkeypatch.setattr(backend, "make_prompt_cache", lambda network: [Odd(), Odd()])
    loaded = ear.do(Load(str(toy), str(toy), 256))
    assert isinstance(loaded, Loaded)
    assert loaded.obstacle and "cannot be cut back (Odd)" in loaded.obstacle.text
    texts = []
    for asked in ("One", "One", "Two"):
        finished = ear.do(question(asked, draft_length=4))
        assert isinstance(finished, Finished)
        assert finished.statistics.drafted == 0
        texts.append(
            [each.tokens for event in ear.events if isinstance(event, Rounds) for each in event.rounds][-8:]
        )
    assert texts[0] == texts[1]


def test_a_long_prompt_is_read_in_chunks_and_can_be_cancelled_between_them(toy: Path) -> None:
    events: list[Event] = []
    session = Session(events.append, lambda answer: answer == 1 and isinstance(events[-1], Prefill))
    session.do(Load(str(toy), context_length=512))
    session.do(question("long " * 90, raw=True))
    assert isinstance(events[-1], Finished)
    assert events[-1].reason == "cancelled"
    session.close()


def broken(change: Callable[[Path], object]) -> Callable[[Path], Path]:
    def make(place: Path) -> Path:
        folder = mlx_models.write_folder(place / "model")
        change(folder)
        return folder

    return make


def set_config(folder: Path, **values: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    mlx_models.write_json(folder / "config.json", config | values)


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "tokenizer.json is missing"),
    "another tokenizer": (lambda f: (f / "tokenizer.json").write_text("{}"), "tokenizer.json cannot be used"),
    "missing shard": (
        lambda f: mlx_models.write_json(
            f / "model.safetensors.index.json", {"weight_map": {"a": "model-2.safetensors"}}
        ),
        "model-2.safetensors is missing",
    ),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "there are no weights"),
    "cut off": (
        lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-9]),
        "model.safetensors is cut off",
    ),
    "wrong shapes": (lambda f: set_config(f, hidden_size=32), "the model cannot be loaded"),
    "missing weights": (lambda f: set_config(f, num_hidden_layers=3), "the model cannot be loaded"),
    "no heads": (lambda f: set_config(f, num_attention_heads=0, head_dim=0), "the model cannot be"),
    "settings of a wrong kind": (lambda f: set_config(f, hidden_size="wide"), "the model cannot be loaded"),
    "unknown architecture": (lambda f: set_config(f, model_type="hal9000"), "no architecture 'hal9000'"),
    "code": (lambda f: set_config(f, model_file="m.py"), "model_file"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_folder_is_rejected_in_one_line_and_the_session_goes_on(
    tmp_path: Path, toy: Path, ear: Ear, name: str
) -> None:
    change, reason = BROKEN[name]
    failed = ear.do(Load(str(broken(change)(tmp_path)), context_length=64))
    assert isinstance(failed, Failed)
    assert reason.lower() in failed.message.lower()
    assert "bug" not in failed.hint
    assert "\n" not in failed.message
    assert len(failed.message) < 300
    rejected = ear.do(Load(str(toy), str(tmp_path / "model"), 64))
    assert isinstance(rejected, Loaded)
    assert rejected.obstacle and reason in rejected.obstacle.text


@pytest.mark.parametrize("name", ["no tokenizer", "wrong shapes", "code"])
def test_ask_says_what_is_wrong_with_a_folder(tmp_path: Path, name: str) -> None:
    change, reason = BROKEN[name]
    command = [sys.executable, "-m", "tui", "ask", "--main", str(broken(change)(tmp_path)), "Hello"]
    asked = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)
    assert (asked.returncode, asked.stdout) == (1, "")
    assert reason.lower() in asked.stderr.lower()
    assert asked.stderr.count("\n") == 1


def test_ask_answers_with_the_backend_that_is_wished_for() -> None:
    asked = ["ask", "--json", "--seed", "1", "--temperature", "0", "--max-tokens", "12", "What is a seed?"]
    answers = []
    for wish in ("llama.cpp", "mlx"):
        command = [sys.executable, "-m", "tui", *asked, "--backend", wish]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120)
        assert done.returncode == 0, done.stderr
        answers.append(json.loads(done.stdout))
    assert [each["backend"] for each in answers] == ["llama.cpp", "MLX"]
    assert answers[0]["text"] == answers[1]["text"]


SCHEMA = json.dumps({
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}, "kind": {"enum": ["draft", 'a "b"', "ö"]}},
    "required": ["name", "kind"],
})  # fmt: skip


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_a_schema_gives_the_same_json_with_a_draft_and_without(
    starter: tuple[Path, Path], temperature: float
) -> None:
    main, draft = load(starter[0], "main"), load(starter[1], "draft")
    grammar, ended = of_schema(SCHEMA), 0

    def by_grammar(start: int, seed: int) -> ConstrainedGapSampler:
        chain = Chain(temperature=temperature)
        return ConstrainedGapSampler(chain, seed, start, constraint=main.constraint(grammar))

    for seed, prompt in enumerate(PROMPTS[::50]):
        context = tokens_of(main, prompt)
        plain = by_grammar(len(context), seed)
        alone = answer(main, None, list(context), 0, plain, 80)
        for length in (1, 4):
            drafted = by_grammar(len(context), seed)
            assert_same(answer(main, draft, list(context), length, drafted, 80), alone, plain.gaps)
        if alone[-1] in main.vocabulary.end_tokens:
            found = json.loads(b"".join(map(main.vocabulary.piece, alone[:-1])))
            assert found["kind"] in ("draft", 'a "b"', "ö")
            assert len(found["name"]) <= 12
            ended += 1
    assert ended


def test_a_grammar_allows_the_same_tokens_in_mlx_as_in_llama_cpp(starter: tuple[Path, Path]) -> None:
    gguf, folder = load(MAIN, "main"), load(starter[0], "main")
    every = np.arange(gguf.vocabulary.size)
    for grammar in (of_schema(SCHEMA), of_gbnf('root ::= [^a]+ "a"')):
        ours, theirs = folder.constraint(grammar), gguf.constraint(grammar)
        written: list[int] = []
        for place in range(30):
            allowed = theirs.allowed(written, every)
            np.testing.assert_array_equal(ours.allowed(written, every), allowed)
            choices = [token for token in every[allowed] if token not in gguf.vocabulary.end_tokens]
            written = [*written, int(choices[place * 7 % len(choices)])] if choices else []


def test_a_grammar_in_mlx_never_writes_a_token_without_text(toy: Path) -> None:
    model = opened(toy)
    every = np.arange(model.vocabulary.size)
    allowed = set(every[model.constraint(of_gbnf("root ::= .*")).allowed([], every)].tolist())
    ends = model.vocabulary.end_tokens
    assert ends <= allowed
    assert not (model.vocabulary.control_tokens - ends) & allowed
    assert all(model.vocabulary.piece(token) for token in allowed)


def test_a_pair_remembers_what_it_costs_until_its_weights_change(tmp_path: Path) -> None:
    folder = mlx_models.write_folder(tmp_path / "m")
    places = []
    for seed in (0, 1, 1):
        mlx_models.write_folder(folder, seed=seed)
        pair = load_pair(Load(str(folder), context_length=64), lambda stage, fraction: True)
        assert pair.memory is not None
        places.append(pair.memory._note._path)
        pair.close()
    assert places[0] != places[1] == places[2]
