"""The llama.cpp backend, on real files with random weights."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import models
from tests.support.models import Toy
from tests.support.paths import ROOT
from tests.support.rows import GREEDY, Watching, assert_close, rows_of, some_tokens
from tui.engine.answer.templates import TemplateRenderer, encode_conversation
from tui.engine.backends import GivenUp, LoadedModel, ModelError, Options, asking
from tui.engine.backends.llama_cpp import LlamaBackend, native
from tui.engine.backends.llama_cpp.model import LlamaModel
from tui.engine.backends.llama_cpp.reserve import CacheShape
from tui.engine.backends.selection import open_backend
from tui.engine.speculation.sampling import InvalidLogits, Sampler
from tui.protocol import CacheType, Message

PLAIN = Toy()

Load = Callable[..., LlamaModel]


@pytest.fixture(scope="module")
def backend() -> LlamaBackend:
    return LlamaBackend()


@pytest.fixture
def load(backend: LlamaBackend, tmp_path: Path) -> Iterator[Load]:
    """Make a toy model and load it."""
    loaded: list[LoadedModel] = []

    def make(toy: Toy = PLAIN, role: str = "main", context_length: int = 512) -> LlamaModel:
        path = models.write_model(tmp_path / f"{len(loaded)}.gguf", toy)
        options = Options(role, context_length, threads=1)  # type: ignore[arg-type]
        model = backend.load(str(path), options, lambda _: True)
        model.start(Sampler(GREEDY, 0, 0))
        loaded.append(model)
        return model

    yield make
    for model in loaded:
        model.close()


# Running tokens


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "mamba", "lfm2"])
def test_picks_are_made_at_the_last_rows_in_order(load: Load, architecture: str) -> None:
    model, tokens = load(Toy(architecture)), some_tokens(60)  # type: ignore[arg-type]
    model.start(watching := Watching())
    model.extend(tokens[:50], picks=0)
    picks = model.extend(tokens[50:], picks=10)
    assert [pick.token for pick in picks] == [int(watching.rows[n].argmax()) for n in range(51, 61)]
    assert watching.contexts == {n: tokens[:n] for n in range(51, 61)}
    assert_close(watching.rows, rows_of(model, tokens, 50))


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "mamba", "lfm2"])
def test_a_rewound_cache_is_like_a_fresh_one(load: Load, architecture: str) -> None:
    model, tokens = load(Toy(architecture)), some_tokens(150)  # type: ignore[arg-type]
    model.extend(tokens, picks=0)
    for length in (149, 140, 100, 99, 40, 1):
        model.rewind(length)
        assert model.tokens == tokens[:length]
        model.start(watching := Watching())
        model.extend([7, 8, 9], picks=3)
        rows = watching.rows
        model.rewind(length)
        assert_close(rows, rows_of(model, [*tokens[:length], 7, 8, 9], length))
        model.rewind(0)
        model.extend(tokens[:length], picks=0)


def test_rewinding_to_nothing_and_to_the_same_length(load: Load) -> None:
    model, tokens = load(), some_tokens(20)
    model.extend(tokens, picks=0)
    model.rewind(20)
    assert model.tokens == tokens
    model.rewind(0)
    assert (list(model.tokens), model.length) == ([], 0)
    with pytest.raises(ValueError, match="rewind 0 tokens to 1"):
        model.rewind(1)
    with pytest.raises(ValueError, match="to -1"):
        model.rewind(-1)


def test_long_prompts_are_run_in_batches(load: Load) -> None:
    model, tokens = load(Toy(context_length=2048), context_length=2048), some_tokens(1290)
    model.start(watching := Watching())
    model.extend(tokens, picks=12)
    assert model.tokens == tokens
    assert_close(watching.rows, rows_of(model, tokens, 1278))


def test_picks_reach_back_over_the_border_of_a_batch(load: Load) -> None:
    model, tokens = load(Toy(context_length=1024), context_length=1024), some_tokens(520)
    model.start(watching := Watching())
    model.extend(tokens, picks=17)
    assert_close(watching.rows, rows_of(model, tokens, 503))


def test_a_draft_model_decodes_like_a_main_model(load: Load) -> None:
    tokens = some_tokens(30)
    main, draft = load(), load(role="draft")
    assert draft.extend(tokens, picks=1) == main.extend(tokens, picks=1)
    with pytest.raises(ValueError, match="2 picks"):
        draft.extend(tokens, picks=2)


def test_extending_by_nothing_is_allowed(load: Load) -> None:
    model = load()
    assert model.extend([], picks=0) == []
    with pytest.raises(ValueError, match="1 picks in 0 tokens"):
        model.extend([], picks=1)


def test_a_window_that_lost_tokens_is_computed_again(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokens = load(Toy("gemma3")), some_tokens(100)
    model.extend(tokens, picks=0)
    expected = rows_of(model, tokens, 99)
    decoded: list[int] = []
    decode = model._library.llama_decode
    monkeypatch.setattr(model._library, "llama_memory_seq_pos_min", lambda *_: 59)
    monkeypatch.setattr(
        model._library, "llama_decode", lambda *call: decoded.append(call[1].n_tokens) or decode(*call)
    )
    model.start(watching := Watching())
    model.rewind(90)  # the next token sees the cells from 59 on
    model.extend(tokens[90:94], picks=0)
    model.rewind(89)
    model.extend(tokens[89:99], picks=0)
    assert decoded == [4, 99]
    model.extend(tokens[99:], picks=1)
    assert_close(watching.rows, expected)


# A cache that is larger than the memory

LONG = 1 << 14


@pytest.mark.parametrize("cache_type", ["f16", "q8_0"])
def test_windows_drop_what_the_memory_has_no_room_for(
    backend: LlamaBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache_type: CacheType
) -> None:
    toy = Toy("gemma3", context_length=LONG, layers=6, width=128, heads=4)
    path = str(models.write_model(tmp_path / "m.gguf", toy))
    options = Options("main", LONG, threads=1, cache_type=cache_type)
    (full,) = backend.rehearse(path, options, [CacheShape(LONG, cache_type)])
    assert full is not None
    monkeypatch.setattr(native, "memory_bytes", lambda: int(full.cache * 0.8))
    (small,) = backend.rehearse(path, options, [CacheShape(LONG, cache_type)])
    assert small is not None
    assert small.cache < 0.7 * full.cache
    model = backend.load(path, options, lambda _: True)
    assert model.capacity == LONG
    assert model.drops_from > 0
    model.start(Watching())
    assert len(model.extend(some_tokens(40), picks=1)) == 1
    model.close()
    monkeypatch.setattr(native, "memory_bytes", lambda: small.cache - (1 << 20))
    with pytest.raises(
        ModelError, match=r"the context needs \d+ MiB, and this machine has \d+ MiB"
    ) as caught:
        backend.load(path, options, lambda _: True)
    assert caught.value.hint == f"Load with a context shorter than {LONG}, or a smaller model."


def test_a_plain_cache_that_is_too_large_is_rejected_with_its_size(
    backend: LlamaBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(models.write_model(tmp_path / "m.gguf", Toy(context_length=LONG)))
    monkeypatch.setattr(native, "memory_bytes", lambda: 1 << 20)
    with pytest.raises(ModelError, match=r"the context needs \d+ MiB, and this machine has 1 MiB"):
        backend.load(path, Options("main", LONG, threads=1), lambda _: True)


# What would end the process


def test_the_context_can_be_filled_to_the_last_token(load: Load) -> None:
    model = load(context_length=256)
    assert model.capacity == 256
    model.extend(some_tokens(254), picks=1)
    assert len(model.extend([1, 2], picks=2)) == 2
    with pytest.raises(ModelError, match="context is full") as caught:
        model.extend([3], picks=1)
    assert caught.value.hint
    assert model.length == 256
    model.rewind(255)
    assert len(model.extend([3], picks=1)) == 1


@pytest.mark.parametrize("token", [-1, 512, 1 << 31, 1 << 40])
def test_tokens_outside_the_vocabulary_never_reach_the_library(load: Load, token: int) -> None:
    model = load()
    with pytest.raises(ModelError, match="not among the 512 of toy"):
        model.extend([1, token], picks=1)
    assert model.length == 0
    with pytest.raises(IndexError):
        model.vocabulary.piece(token)


def test_more_picks_than_the_library_has_room_for_are_rejected(load: Load) -> None:
    model = load()
    assert len(model.extend(some_tokens(17), picks=17)) == 17
    with pytest.raises(ValueError, match="18 picks"):
        model.extend(some_tokens(18), picks=18)


def test_tokens_and_cache_stay_in_step_when_the_library_refuses(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokens = load(Toy(context_length=2048), context_length=2048), some_tokens(600)
    decode = model._library.llama_decode
    answers = iter((0, -3))
    monkeypatch.setattr(model._library, "llama_decode", lambda *call: decode(*call) or next(answers))
    with pytest.raises(ModelError, match="llama_decode: -3"):
        model.extend(tokens, picks=1)
    monkeypatch.undo()
    assert model.tokens == tokens[:512]
    model.start(watching := Watching())
    model.extend(tokens[512:], picks=1)
    assert_close(watching.rows, rows_of(model, tokens, 599))


@pytest.mark.parametrize("where", ["output", "everywhere"])
def test_a_model_that_computes_nonsense_is_noticed(load: Load, where: str) -> None:
    model = load(Toy(not_a_number=where))  # type: ignore[arg-type]
    with pytest.raises(InvalidLogits):
        model.extend([1, 2, 3], picks=1)
    assert model.tokens == [1, 2, 3]


# Text


def test_the_pieces_of_all_tokens_are_their_texts(load: Load) -> None:
    vocabulary = load(Toy(vocabulary=2000)).vocabulary
    pieces = [vocabulary.piece(token) for token in range(2000)]
    assert sorted(pieces[:256]) == [bytes([value]) for value in range(256)]
    assert pieces[256:259] == [text.encode() for text in models.CONTROL], (
        "those of control tokens their names"
    )
    assert pieces[260:262] == [b" b", b" c"]
    assert pieces[-1] == b" word1038"


def test_a_piece_longer_than_the_buffer_is_whole(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    texts, merges = models._vocabulary(512)
    monkeypatch.setattr(models, "_vocabulary", lambda _: ((*texts[:-1], "x" * 5000), merges))
    assert load().vocabulary.piece(511) == b"x" * 5000


def test_text_comes_back_from_its_tokens(load: Load) -> None:
    vocabulary = load().vocabulary
    text = "Hello, the wörld — 日本語 🚴\n\n\tdef f(x):\x00 e\u0301"
    tokens = vocabulary.encode(text)
    assert b"".join(map(vocabulary.piece, tokens)).decode() == text
    assert len(tokens) < len(text.encode())
    assert vocabulary.encode("") == []


def test_control_tokens_are_recognised_and_known(load: Load) -> None:
    vocabulary = load().vocabulary
    assert vocabulary.encode("<|im_start|>a<|im_end|>") == [257, 97, 258]
    assert vocabulary.control_texts == models.CONTROL
    assert vocabulary.end_tokens == {256, 258}
    assert (vocabulary.bos_text, vocabulary.eos_text) == ("<|endoftext|>", "<|im_end|>")
    assert vocabulary.encode_start() == []


@pytest.mark.parametrize(
    "names",
    [
        ("<|start|>", "<|channel|>", "<|message|>"),
        ("<|end|>", "<|constrain|>", "<|call|>"),
        ("<think>", "<|channel>", "[INST]"),
    ],
    ids=str,
)
def test_no_spelling_of_a_user_becomes_a_token_that_the_library_calls_user_defined(
    load: Load, names: tuple[str, str, str]
) -> None:
    """It makes harmony's marks such, so that they are found in any text."""
    template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    vocabulary = load(Toy(controls=names, chat_template=template)).vocabulary
    assert set(vocabulary.control_texts) == set(names)
    renderer = TemplateRenderer()
    for name in names:
        assert vocabulary.encode(name)[0] in (256, 257, 258)
        tokens = encode_conversation(vocabulary, renderer, [Message("user", f"a{name}b")], 1000)
        assert b"".join(map(vocabulary.piece, tokens)) == f"a{name}b".encode()
        assert not {256, 257, 258} & set(tokens)
    renderer.close()


@pytest.mark.parametrize("names", [("<|a|>", "</s>", "<|b|>"), ("<s>", "</s>", "<|b|>")], ids=str)
def test_html_that_the_library_takes_for_an_end_is_text_where_no_text_begins_with_its_like(
    load: Load, names: tuple[str, str, str]
) -> None:
    vocabulary = load(Toy(controls=names, end=258)).vocabulary
    is_end = names[0] == "<s>"
    assert (257 in vocabulary.end_tokens) is is_end
    assert (257 in vocabulary.control_tokens) is is_end
    assert vocabulary.piece(257) == b"</s>"
    assert ("</s>" in vocabulary.control_texts) is is_end


@pytest.mark.parametrize("splitting", ["gpt-2", "deepseek-llm"])
@pytest.mark.parametrize("text", ["A", " ", "\n", "中", "e\u0301", "👩\u200d👩\u200d👧"])
def test_a_pasted_megabyte_is_read(load: Load, text: str, splitting: str) -> None:
    vocabulary = load(Toy(splitting=splitting)).vocabulary
    pasted = text * (1_000_000 // len(text.encode()))
    assert b"".join(map(vocabulary.piece, vocabulary.encode(pasted))).decode() == pasted


def test_a_text_that_no_stack_could_hold_is_rejected(load: Load) -> None:
    with pytest.raises(ModelError, match="too long"):
        load().vocabulary.encode("A" * (3 << 20))


@pytest.mark.parametrize("template", [None, models.CHATML, "x" * 100_000, b"{{ '\xff' }}"], ids=range(4))
def test_the_chat_template_is_read_whole(load: Load, template: str | bytes | None) -> None:
    expected = template.decode("utf-8", "replace") if isinstance(template, bytes) else template
    assert load(Toy(chat_template=template)).vocabulary.chat_template == expected


def test_metadata_that_is_not_unicode_breaks_nothing(load: Load, backend: LlamaBackend) -> None:
    model = load(Toy(name=b"evil\xff\x1b]0;PWNED\x07"))
    assert model.facts.name == "evil\ufffd\x1b]0;PWNED\x07 F32"
    assert any("evil" in line for line in backend.log.lines)


# Pairs


@pytest.mark.parametrize(
    ("toy", "reason"),
    [
        (Toy(), ""),
        (Toy(seed=3, layers=1, width=32), ""),
        (Toy(padding=128), ""),
        (Toy(vocabulary=500), ""),
        (Toy(unused=(300, 301), end=256), ""),
        (Toy(unused=(300, 400), swapped=(300, 400)), ""),
        (Toy(controls=models.OTHER_CONTROL), ""),
        (
            Toy(swapped=(300, 400)),
            "another tokenizer: only models of one family can draft (differs at id 300: 'ap' against 'el')",
        ),
        (
            Toy(swapped=(97, 257)),
            "another tokenizer: only models of one family can draft (differs at id 97: '",
        ),
        (Toy("mamba"), ""),
        (Toy("lfm2"), ""),
        (Toy("gemma3"), ""),
    ],
)
def test_a_draft_must_share_the_vocabulary(load: Load, backend: LlamaBackend, toy: Toy, reason: str) -> None:
    found = backend.mismatch(load(), load(toy, role="draft"))
    assert found and found.text.startswith(reason) if reason else found is None


def test_a_model_may_draft_for_itself(backend: LlamaBackend, tmp_path: Path) -> None:
    path = str(models.write_model(tmp_path / "m.gguf"))
    main = backend.load(path, Options("main", 0), lambda _: True)
    draft = backend.load(path, Options("draft", 0), lambda _: True)
    assert backend.mismatch(main, draft) is None
    main.close()
    draft.start(Sampler(GREEDY, 0, 0))
    assert draft.extend([1, 2], picks=1)
    draft.close()
    draft.close()


# Loading


def test_what_a_model_says_about_itself(load: Load) -> None:
    model = load(Toy(context_length=384), context_length=0)
    facts = model.facts
    assert (facts.name, facts.architecture, facts.quantization) == ("toy F32", "llama", "F32")
    assert (facts.context_length, model.capacity, facts.vocabulary) == (384, 512, 512)
    assert facts.size == 4 * facts.parameters > 100_000


def test_a_context_is_at_most_8192_tokens_unless_asked(load: Load) -> None:
    assert load(Toy(context_length=100_000), context_length=0).capacity == 8192


def test_loading_reports_progress_and_can_be_given_up(backend: LlamaBackend, tmp_path: Path) -> None:
    path = str(models.write_model(tmp_path / "m.gguf", Toy(layers=8)))
    seen: list[float] = []
    backend.load(path, Options("main", 0), lambda fraction: seen.append(fraction) or True).close()  # type: ignore[func-returns-value]
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    with pytest.raises(GivenUp, match="given up"):
        backend.load(path, Options("main", 0), lambda fraction: fraction < 0.5)


def test_an_error_in_the_progress_callback_comes_out_of_the_load(
    backend: LlamaBackend, tmp_path: Path
) -> None:
    def broken(_: float) -> bool:
        raise BrokenPipeError

    path = str(models.write_model(tmp_path / "m.gguf"))
    with pytest.raises(BrokenPipeError):
        backend.load(path, Options("main", 0), broken)


def test_the_reason_of_a_failed_load_comes_from_the_library(backend: LlamaBackend, tmp_path: Path) -> None:
    whole = models.write_model(tmp_path / "m.gguf").read_bytes()
    (path := tmp_path / "n.gguf").write_bytes(whole.replace(b"ffn_down", b"ffn_sown"))
    with pytest.raises(ModelError, match=r"tensor 'blk\.0\.ffn_down\.weight' not found") as caught:
        backend.load(str(path), Options("main", 0), lambda _: True)
    assert caught.value.hint


def test_a_context_that_does_not_fit_is_an_error(backend: LlamaBackend, tmp_path: Path) -> None:
    path = str(models.write_model(tmp_path / "m.gguf", Toy(width=1024, layers=4)))
    with pytest.raises(ModelError) as caught:
        backend.load(path, Options("main", 2_000_000_000), lambda _: True)
    assert "and this machine has" in str(caught.value)
    assert "shorter than 2000000000" in caught.value.hint
    shapes = [CacheShape(2_000_000_000, "f16"), CacheShape(512, "f16")]
    huge, small = backend.rehearse(path, Options("main", 0), shapes)
    assert huge is None and small is not None


def test_callbacks_survive_the_garbage_collector(load: Load) -> None:
    for _ in range(3):
        LlamaBackend()
        gc.collect()
    assert load().extend([1], picks=1)


def test_the_device_is_named(backend: LlamaBackend, load: Load) -> None:
    load()
    assert backend.device() == "CPU, 1 thread"


def test_backends_are_chosen_by_path(tmp_path: Path) -> None:
    (mlx := tmp_path / "mlx").mkdir()
    (mlx / "config.json").touch()
    for path, reason in (
        (tmp_path, "is a folder"),
        (tmp_path / "none.gguf", r"the file does not exist \(.*none\.gguf\)"),
        (mlx, r"config\.json is not JSON .* \(.*mlx\)"),
    ):
        with pytest.raises(ModelError, match=reason):
            open_backend(str(path))
    assert open_backend(str(models.write_model(tmp_path / "m.gguf"))).name == "llama.cpp"


def test_the_library_writes_nothing_to_the_terminal(tmp_path: Path) -> None:
    path = models.write_model(tmp_path / "m.gguf")
    (bad := tmp_path / "bad.gguf").write_bytes(path.read_bytes().replace(b"ffn_down", b"ffn_sown"))
    program = """
import sys
from tui.engine.backends import ModelError, Options
from tui.engine.backends.selection import open_backend
from tui.engine.speculation.sampling import Chain, Sampler
good, bad = sys.argv[1:]
backend = open_backend(good)
try:
    open_backend(good).load(bad, Options("main", 0), lambda _: True)
except ModelError:
    pass
model = backend.load(good, Options("main", 0), lambda _: True)
model.start(Sampler(Chain(), 0, 0))
model.extend(model.vocabulary.encode("hello" * 50), picks=5)
model.rewind(0)
backend.device()
model.close()
"""
    child = subprocess.run(
        [sys.executable, "-c", program, path, bad],
        capture_output=True,
        timeout=60,
        cwd=ROOT,
        env={"PYTHONWARNINGS": "error"},
        check=False,
    )
    assert (child.returncode, child.stdout, child.stderr) == (0, b"", b"")


def test_only_the_bare_bindings_are_imported(tmp_path: Path) -> None:
    program = (
        "import sys; from tui.engine.backends.llama_cpp import LlamaBackend; LlamaBackend(); "
        "print(sorted(n for n in sys.modules if n.split('.')[0] in ('llama_cpp', 'diskcache', 'jinja2')))"
    )
    child = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    assert child.stdout == "['llama_cpp._ctypes_extensions', 'llama_cpp.llama_cpp']\n"


def test_threads_change_between_two_calls(tmp_path: Path) -> None:
    path = str(models.write_model(tmp_path / "toy.gguf"))
    model = LlamaBackend().load(path, Options("main", 256, threads=2), lambda _: True)
    library, context = model._library, model.context
    model.start(Sampler(GREEDY, 0, 0))
    tokens = model.vocabulary.encode("Threads wait for one another at every node.")
    expected = model.extend(tokens, 1)[0].token
    assert model.threads == 2
    model.set_threads(1)
    assert (library.llama_n_threads(context), library.llama_n_threads_batch(context)) == (1, 1)
    assert model.threads == 2, "what it has, whatever is used of it"
    model.rewind(0)
    assert model.extend(tokens, 1)[0].token == expected
    model.close()


@pytest.mark.parametrize(
    ("given", "spins"),
    [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "passive"}, "")],
    ids=["by itself", "as the user says", "a policy of the user's"],
)
def test_threads_spin_little_unless_the_user_says_how(given: dict[str, str], spins: str) -> None:
    code = (
        "import os; from tui.engine.backends.llama_cpp.native import bindings; bindings(); "
        "print(os.environ.get('GOMP_SPINCOUNT', ''))"
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GOMP_", "OMP_"))}
    asked = subprocess.run([sys.executable, "-c", code], env=kept | given, capture_output=True, check=True)
    assert asked.stdout.decode().strip() == spins


def test_the_library_is_found_while_another_thread_imports_it() -> None:
    """The list of models asks where the package lies, while the first load imports a part of it."""
    code = """if True:
        import importlib, importlib.util
        from tui.engine.backends.llama_cpp import native
        real = importlib.import_module
        def watched(name):
            assert importlib.util.find_spec("llama_cpp").submodule_search_locations
            return real(name)
        importlib.import_module = watched
        native.bindings()
        print("found")
    """
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert asked.stdout.strip() == "found", asked.stderr


@pytest.mark.parametrize("length", [1, 4, 5, 8, 20, 100, 255, 256, 257, 300, 511, 513])
def test_a_context_of_any_length_can_be_filled(length: int, tmp_path: Path) -> None:
    """The library makes caches of whole blocks and shortens its calls to what it was asked for."""
    path = models.write_model(tmp_path / "model.gguf", Toy(layers=1))
    model = LlamaBackend().load(str(path), Options("main", length), lambda fraction: True)
    assert length <= model.capacity < length + 256
    model.start(Sampler(GREEDY, 0, 0))
    model.extend([5] * (model.capacity - 17), 0)
    assert len(model.extend([5] * 17, 17)) == 17
    assert model.length == model.capacity
    model.close()


@pytest.mark.parametrize("chances", [1, 2, 12])
def test_a_long_call_is_ended_when_nobody_wants_it_and_the_cache_stays_sound(
    load: Load, chances: int
) -> None:
    model, text = load(), some_tokens(300)
    expected = rows_of(model, text, 290)
    model.rewind(0)
    model.start(Sampler(GREEDY, 0, 0))
    model.extend(text[:50], 0)
    asked = 0

    def wanted(tokens: float) -> bool:
        nonlocal asked
        asked += 1
        return asked <= chances

    with asking([model], wanted), pytest.raises(GivenUp):
        model.extend(some_tokens(200, 9), 0)
    assert asked == chances + 1, "it is asked within the call"
    assert list(model.tokens) == text[:50]
    model.start(watching := Watching())
    model.extend(text[50:290], 0)
    for token in text[290:]:
        model.extend([token], 1)
    assert_close(watching.rows, expected)


def test_a_short_call_is_not_asked_about_by_the_library(load: Load) -> None:
    """Each question takes some thousandths of a millisecond, and a round has a thousand nodes."""
    model, asked = load(), list[float]()
    with asking([model], lambda tokens: asked.append(tokens) is None):  # type: ignore[func-returns-value]
        model.extend(some_tokens(17), 0)
    assert asked == [0.0, 17.0], "before the call and after it"


def test_a_library_with_rpc_alone_was_not_built_for_a_gpu() -> None:
    """Its parts are libraries of their own, so their files tell which ones there are."""
    library = native.bindings()
    folder = Path(library.__file__).parent / "lib"
    parts = {path.stem.partition("ggml-")[2].partition(".")[0] for path in folder.glob("*ggml-*")}
    assert {"base", "cpu"} <= parts
    assert native.knows_gpus(library) == bool(parts - {"base", "cpu", "blas", "rpc"})
