"""The short name of a model, from the names that real files, folders, repositories and tags have."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.support.names import FILES, HASH
from tui.engine.library.short_name import LONGEST, quantization_in, short_name, told_apart
from tui.protocol import FoundModel

BLOB = "models/blobs/sha256-" + "ab" * 32

STEMS = [
    # File without its ending, its quantization, the short name.
    ("Qwen3-VL-8B-Instruct-Q4_K_M", "Q4_K_M", "Qwen3-VL 8B Q4_K_M"),
    ("Qwen3-Next-80B-A3B-Instruct-UD-Q4_K_XL-00001-of-00002", "Q4_K_M", "Qwen3-Next 80B-A3B UD-Q4_K_XL"),
    ("gemma-2-9b-it-Q4_K_M-fp16", "Q4_K_M", "Gemma-2 9B Q4_K_M"),
    ("Nous-Hermes-2-Mixtral-8x7B-DPO.Q4_K_M", "Q4_K_M", "Nous-Hermes-2-Mixtral 8x7B DPO Q4_K_M"),
    ("dolphin-2.9-llama3-8b-q4_K_M", "Q4_K_M", "Dolphin-2.9-Llama-3 8B Q4_K_M"),
    ("Meta-Llama-3-8B-Instruct.Q8_0", "Q8_0", "Llama-3 8B Q8_0"),
    ("Phi-3.5-MoE-instruct-Q4_K_M", "Q4_K_M", "Phi-3.5-MoE Q4_K_M"),
    ("codellama-7b-instruct.Q4_K_S", "Q4_K_S", "CodeLlama 7B Q4_K_S"),
    ("starcoder2-3b.Q4_K_M", "Q4_K_M", "StarCoder2 3B Q4_K_M"),
    ("Llama-3.1-Nemotron-70B-Instruct-HF-Q4_K_M", "Q4_K_M", "Llama-3.1-Nemotron 70B Q4_K_M"),
    ("SmolLM3-Q4_K_M", "Q4_K_M", "SmolLM3 Q4_K_M"),
    ("SmolLM3-3B-128K-UD-Q4_K_XL", "Q4_K_M", "SmolLM3 3B 128K UD-Q4_K_XL"),
    ("Devstral-Small-2507_gguf-Q4_K_M", "Q4_K_M", "Devstral-Small-2507 Q4_K_M"),
    ("internlm2_5-7b-chat-q4_k_m", "Q4_K_M", "internlm2.5 7B Q4_K_M"),
    ("OLMo-2-1124-7B-Instruct-Q4_K_M", "Q4_K_M", "OLMo-2-1124 7B Q4_K_M"),
    ("Qwen2.5-14B-Instruct-1M-Q4_K_M", "Q4_K_M", "Qwen2.5 14B 1M Q4_K_M"),
    ("openai_gpt-oss-20b-MXFP4", "MXFP4", "gpt-oss 20B MXFP4"),
    ("Falcon3-7B-Instruct-1.58bit-i2_s", "I2_S", "Falcon3 7B I2_S"),
    ("bitnet_b1_58-large-TQ2_0", "TQ2_0", "bitnet-b1.58-large TQ2_0"),
    ("Qwen_Qwen3-0.6B-bf16", "BF16", "Qwen3 0.6B BF16"),
    ("NousResearch_Hermes-4-14B-Q4_K_M", "Q4_K_M", "Hermes-4 14B Q4_K_M"),
    ("command-r-08-2024-Q4_K_M", "Q4_K_M", "command-r-08-2024 Q4_K_M"),
    ("mamba-130m-Q8_0", "Q8_0", "mamba 130M Q8_0"),
    ("Mistral_7B_Instruct_v0.2_Q4_K_M", "Q4_K_M", "Mistral 7B v0.2 Q4_K_M"),
]
FOLDERS = [
    ("mlx-community/Qwen2.5-7B-Instruct-4bit", "4 bits", "Qwen2.5 7B 4bit"),
    ("mlx-community/Qwen3-4B-Instruct-2507-4bit-DWQ", "4 bits", "Qwen3 4B 2507 4bit"),
    ("mlx-community/Llama-3.2-1B-Instruct-bf16", "BF16", "Llama-3.2 1B BF16"),
    ("mlx-community/gpt-oss-20b-MXFP4-Q8", "mxfp4", "gpt-oss 20B MXFP4"),
    ("mlx-community/gemma-3-27b-it-qat-4bit", "4 bits", "Gemma-3 27B QAT 4bit"),
    ("lmstudio-community/Qwen3-30B-A3B-MLX-4bit", "4 bits", "Qwen3 30B-A3B 4bit"),
    (f"hub/models--mlx-community--SmolLM-135M-Instruct-8bit/snapshots/{HASH}", "8 bits", "SmolLM 135M 8bit"),
    ("outputs/fused_model", "BF16", "fused_model BF16"),
]
TAGS = [
    ("smollm2:135m", "Smollm2 135M 8k Lc100K Mix1 Ep2", "F16", "SmolLM2 135M F16"),
    ("qwen2.5-coder:1.5b", "Qwen2.5 Coder 1.5B Instruct", "Q4_K_M", "Qwen2.5-Coder 1.5B Q4_K_M"),
    ("llama3.2:latest", "Llama 3.2 3B Instruct", "Q4_K_M", "Llama-3.2 3B Q4_K_M"),
    ("gemma3:270m", "Gemma 3 270m It", "Q8_0", "Gemma-3 270M Q8_0"),
    ("phi4-mini:latest", "Phi 4 Mini Instruct", "Q4_K_M", "Phi-4-mini Q4_K_M"),
    ("deepseek-r1:7b", "DeepSeek R1 Distill Qwen 7B", "Q4_K_M", "DeepSeek-R1 7B Q4_K_M"),
    ("gpt-oss:20b", "", "MXFP4", "gpt-oss 20B MXFP4"),
    ("mistral:7b-instruct-v0.3-q4_0", "Mistral 7B Instruct v0.3", "Q4_0", "Mistral 7B v0.3 Q4_0"),
    ("qwen3:30b-a3b-instruct-2507-q4_K_M", "", "Q4_K_M", "Qwen3 30B-A3B 2507 Q4_K_M"),
    ("llama3.1:8b-instruct-q8_0", "Meta Llama 3.1 8B Instruct", "Q8_0", "Llama-3.1 8B Q8_0"),
    ("bartowski/Llama-3.2-3B-Instruct-GGUF:Q4_K_M", "Llama 3.2 3B Instruct", "Q4_K_M", "Llama-3.2 3B Q4_K_M"),
    ("my-helper:latest", "Smollm2 135M 8k Lc100K Mix1 Ep2", "F16", "my-helper F16"),
]


@pytest.mark.parametrize(("path", "title", "quantization", "name"), FILES)
def test_a_file_goes_by_the_name_that_people_gave_it(
    path: str, title: str, quantization: str, name: str
) -> None:
    assert short_name(Path("/home/me") / path, title, quantization) == name


@pytest.mark.parametrize(("stem", "quantization", "name"), STEMS)
def test_a_file_alone_is_enough(stem: str, quantization: str, name: str) -> None:
    assert short_name(Path("/home/me/Downloads") / f"{stem}.gguf", "", quantization) == name


@pytest.mark.parametrize(("path", "quantization", "name"), FOLDERS)
def test_an_mlx_folder_goes_by_its_own_name_or_its_repository(
    path: str, quantization: str, name: str
) -> None:
    assert short_name(Path("/home/me") / path, Path(path).name, quantization) == name


@pytest.mark.parametrize(("tag", "title", "quantization", "name"), TAGS)
def test_a_blob_goes_by_its_tag(tag: str, title: str, quantization: str, name: str) -> None:
    assert short_name(Path("/usr/share/ollama") / BLOB, title, quantization, tag) == name


def test_a_blob_without_a_tag_goes_by_its_title() -> None:
    assert short_name(Path("/o") / BLOB, "Llama 3.2 3B Instruct", "Q4_K_M") == "Llama-3.2 3B Q4_K_M"


def test_a_file_may_be_called_anything_and_its_header_stands() -> None:
    """A file of 8 bits that is called Q4_K_M is one of 8 bits."""
    assert short_name(Path("/m/Qwen3-8B-Q4_K_M.gguf"), "", "Q8_0") == "Qwen3 8B Q8_0"
    assert short_name(Path("/m/Qwen3-8B-BF16.gguf"), "", "F16") == "Qwen3 8B F16"


def test_a_name_has_an_end() -> None:
    assert len(short_name(Path("/m/x.gguf"), "y" * 100_000, "Q8_0")) == LONGEST
    assert len(short_name(Path("/m/x.gguf"), "y " * 100_000 + "7B", "Q8_0")) <= LONGEST


@pytest.mark.parametrize("text", ["-_-.:", "\x1b]0;x\x07-7B", "7b", "Q4_K_M", "(((", "é" * 300, "a/b/../c"])
def test_no_text_breaks_it(text: str) -> None:
    path = Path("/m/" + text.replace("/", "-") + ".gguf")
    assert short_name(path, text, "Q8_0", text).endswith("Q8_0") or len(text) > LONGEST


def test_a_quantization_is_found_in_a_name() -> None:
    assert quantization_in("Qwen3-8B-UD-q4_k_xl.gguf") == "UD-Q4_K_XL"
    assert quantization_in("qwen3-8b.gguf") == ""


# Names that would read alike


def model(path: str, quantization: str = "Q4_K_M", *, source: str = "LM Studio", tag: str = "") -> FoundModel:
    name = short_name(Path(path), "", quantization, tag)
    facts = (name, path, "llama", 1, quantization, 1, 1, 1)
    rest = {"source": source, "backend": "llama.cpp", "tokenizer": "gpt2", "fingerprint": "f", "tag": tag}
    return FoundModel(*facts, **rest)  # type: ignore[arg-type]


def names(*models: FoundModel) -> list[str]:
    """All names once those that read alike are told apart."""
    told = {each.path: each.name for each in told_apart(models)}
    return [told.get(each.path, each.name) for each in models]


def test_different_names_stay() -> None:
    assert told_apart([model("/m/Qwen3-8B-Q4_K_M.gguf"), model("/m/Qwen3-4B-Q4_K_M.gguf")]) == ()


def test_the_words_that_were_left_out_come_first() -> None:
    assert names(model("/m/gemma-3-4b-Q4_K_M.gguf"), model("/m/gemma-3-4b-it-Q4_K_M.gguf")) == [
        "Gemma-3 4B Q4_K_M",
        "Gemma-3 4B it Q4_K_M",
    ]


def test_a_tag_that_does_not_say_instruct_says_nothing() -> None:
    """The same model of two programs: only where it was found tells them apart."""
    file = model("/m/qwen2.5-coder-0.5b-instruct-q4_k_m.gguf")
    tagged = model("/o/blobs/sha256-aa", tag="qwen2.5-coder:0.5b", source="Ollama")
    base = model("/m/qwen2.5-coder-0.5b-q4_k_m.gguf")
    short = "Qwen2.5-Coder 0.5B"
    assert names(file, tagged) == [f"{short} Q4_K_M (LM Studio)", f"{short} Q4_K_M (Ollama)"]
    assert names(file, tagged, base) == [
        f"{short} Instruct Q4_K_M",
        f"{short} Q4_K_M (Ollama)",
        f"{short} Q4_K_M (LM Studio)",
    ]


def test_then_where_it_was_found() -> None:
    file = "Qwen3-8B-Instruct-Q4_K_M.gguf"
    assert names(model(f"/a/{file}"), model(f"/b/{file}", source="Hugging Face")) == [
        "Qwen3 8B Q4_K_M (LM Studio)",
        "Qwen3 8B Q4_K_M (Hugging Face)",
    ]


def test_capitals_alone_tell_nobody_apart() -> None:
    told = names(model("/a/Foo-8B-Q4_K_M.gguf"), model("/b/foo-8b-Q4_K_M.gguf"))
    assert told == ["Foo 8B Q4_K_M (a)", "foo 8B Q4_K_M (b)"]


def test_then_the_folder_or_who_made_it() -> None:
    file, hub = "Qwen3-8B-Q4_K_M.gguf", "/c/models--unsloth--Qwen3-8B-GGUF/snapshots"
    assert names(
        model(f"/a/bartowski/Qwen3-8B-GGUF/{file}"),
        model(f"/a/lmstudio-community/Qwen3-8B-GGUF/{file}"),
        model(f"{hub}/{HASH}/{file}", source="Hugging Face"),
        model(f"/a/mine/{file}"),
    ) == [
        "Qwen3 8B Q4_K_M (LM Studio, Qwen3-8B-GGUF, bartowski)",
        "Qwen3 8B Q4_K_M (LM Studio, Qwen3-8B-GGUF, lmstudio-community)",
        "Qwen3 8B Q4_K_M (Hugging Face)",
        "Qwen3 8B Q4_K_M (LM Studio, mine)",
    ]


def test_at_last_the_tag_the_file_or_the_path() -> None:
    blobs = [f"/o/blobs/sha256-{digit * 64}" for digit in "ab"]
    assert names(
        model(blobs[0], tag="qwen3:8b", source="Ollama"),
        model(blobs[1], tag="qwen3:8b-q4_K_M", source="Ollama"),
    ) == ["Qwen3 8B Q4_K_M (qwen3:8b)", "Qwen3 8B Q4_K_M (qwen3:8b-q4_K_M)"]
    assert len(set(names(*(model(f"/m/{way}/a/b/x-8B-Q4_K_M.gguf") for way in "123")))) == 3


def test_no_two_models_read_alike_whatever_lies_there() -> None:
    """Random sets of real names at random places, in any order: each name once, and always the same ones."""
    chance = random.Random(7)
    paths = [f"/{chance.choice('abc')}/{path}" for path, *_ in FILES for _ in range(3)]
    models = [model(path, source=chance.choice(["folder", "Ollama"])) for path in dict.fromkeys(paths)]
    told = dict(zip((each.path for each in models), names(*models), strict=True))
    assert len({name.casefold() for name in told.values()}) == len(models)
    chance.shuffle(models)
    assert dict(zip((each.path for each in models), names(*models), strict=True)) == told
