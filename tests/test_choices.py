"""A draft, and a draft length, have one spelling from the settings file to the loaded pair and the answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support import models
from tui.chat.requests import generate_request, load_request
from tui.choices import AUTO, HEAD, LONGEST_DRAFT, LOOKUP, NONE, DraftLength, names_model
from tui.commands.ask import with_options
from tui.commands.options import parser
from tui.commands.setup import with_models
from tui.config import (
    ConfigError,
    Generation,
    Models,
    Preset,
    Settings,
    change_config,
    read_config,
    read_value,
)
from tui.config.last import PairSettings, keep_last, with_last
from tui.engine.pair.pair import load_pair
from tui.protocol import Load, SetDraftLength
from tui.protocol.lines import decode_command, encode

DRAFTS = (AUTO, LOOKUP, NONE, HEAD, "/models/small.gguf")
OLD = [("", LOOKUP), ("ngram", LOOKUP)]
"""How earlier versions spelled a draft, and the present spelling."""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


def on_the_command_line(*words: str) -> Settings:
    arguments = parser().parse_args(["ask", *words, "question"])
    return with_models(Settings(), arguments.main, arguments.draft, arguments.backend)


@pytest.mark.parametrize("draft", DRAFTS)
def test_a_draft_is_spelled_alike_in_the_file_on_the_command_line_and_in_a_load(
    draft: str, config: Path, tmp_path: Path
) -> None:
    main, last = tmp_path / "main.gguf", tmp_path / "pair.json"
    main.touch()
    change_config(config, ("models", "draft"), draft)
    settings, problems = read_config(config)
    assert not problems and settings == Settings(models=Models(draft=draft))
    assert on_the_command_line("--draft", draft) == settings
    load = load_request(settings)
    assert load.draft == draft and decode_command(encode(load)) == load
    keep_last(PairSettings(str(main), draft).applied(Settings()), last)
    assert json.loads(last.read_text())["draft"] == draft
    assert with_last(Settings(), last).models == Models(main=str(main), draft=draft)
    assert names_model(draft) == draft.endswith(".gguf")


@pytest.mark.parametrize(("old", "draft"), OLD)
def test_a_draft_as_it_was_spelled_is_still_read(old: str, draft: str, config: Path, tmp_path: Path) -> None:
    main, last = tmp_path / "main.gguf", tmp_path / "pair.json"
    main.touch()
    config.write_text(f'[models]\ndraft = "{old}"\n')
    assert read_config(config) == (Settings(models=Models(draft=draft)), ())
    assert on_the_command_line("--draft", old).models.draft == draft
    assert read_value(Models, "draft", old) == draft
    last.write_text(json.dumps({"main": str(main), "draft": old, "lookup": True}))
    assert with_last(Settings(), last).models.draft == draft


def test_a_pair_that_was_kept_without_draft_and_lookup_is_still_plain_decoding(tmp_path: Path) -> None:
    last = tmp_path / "pair.json"
    kept = {"main": str(tmp_path), "context_length": 512, "cache_type": "q8_0", "gpu_layers": 0}
    last.write_text(json.dumps({**kept, "draft": "lookup", "lookup": False}))
    settings = with_last(Settings(), last)
    assert settings.models == Models(str(tmp_path), NONE, context_length=512, cache_type="q8_0")
    assert (settings.engine.gpu_layers, settings.generation) == (0, Generation())


@pytest.mark.parametrize("draft", [AUTO, NONE, "/models/small.gguf"])
def test_a_lookup_that_is_switched_off_stays_off_beside_another_draft(draft: str, config: Path) -> None:
    config.write_text(f'[models]\ndraft = "{draft}"\n[generation]\nlookup = false\n')
    settings, _ = read_config(config)
    assert (settings.models.draft, settings.generation.lookup) == (draft, False)
    assert PairSettings("/main.gguf", draft).applied(settings).generation.lookup is False


def test_who_chooses_the_lookup_as_the_draft_switches_it_on() -> None:
    off = Settings(generation=Generation(lookup=False))
    assert PairSettings("/main.gguf", LOOKUP).applied(off).generation.lookup


@pytest.mark.parametrize("length", [AUTO, 0, 1, LONGEST_DRAFT])
def test_a_draft_length_is_spelled_alike_in_the_file_on_the_command_line_and_in_a_command(
    length: DraftLength, config: Path
) -> None:
    wanted = Settings(generation=Generation(draft_length=length))
    change_config(config, ("generation", "draft_length"), length)
    assert read_config(config) == (wanted, ())
    assert read_value(Generation, "draft_length", str(length)) == length
    arguments = parser().parse_args(["ask", "--draft-length", str(length), "question"])
    assert with_options(Settings(), arguments) == wanted
    command = generate_request(1, (), 7, wanted.generation)
    assert command.draft_length == length and decode_command(encode(command)) == command
    change = SetDraftLength(1, length)
    assert decode_command(encode(change)) == change


def test_a_draft_length_as_it_was_spelled_is_still_read(config: Path) -> None:
    config.write_text("[generation]\ndraft_length = -1\n[presets.code]\ndraft_length = -1\n")
    settings, problems = read_config(config)
    assert not problems and settings.generation == Generation(draft_length=AUTO)
    assert settings.presets == (Preset("code", (("draft_length", AUTO),)),)
    assert read_value(Generation, "draft_length", "-1") == AUTO


@pytest.mark.parametrize("length", ["-2", str(LONGEST_DRAFT + 1), "some", "1.5", "true"])
def test_other_draft_lengths_are_rejected_with_the_allowed_ones(length: str, config: Path) -> None:
    with pytest.raises(ConfigError, match=r'^a whole number from 0 to 16 or "auto"$'):
        read_value(Generation, "draft_length", length)
    with pytest.raises(SystemExit):
        parser().parse_args(["ask", "--draft-length", length, "question"])


def test_the_command_line_can_undo_a_fixed_draft_length_of_the_file() -> None:
    fixed = Settings(generation=Generation(draft_length=4))
    arguments = parser().parse_args(["ask", "--draft-length", "auto", "question"])
    assert with_options(fixed, arguments).generation.draft_length == AUTO


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("toys") / "main.gguf"
    return str(models.write_model(path, models.Toy(context_length=512)))


@pytest.mark.parametrize(
    ("draft", "proposers"), [(NONE, {}), (LOOKUP, {"lookup"}), ("itself", {"lookup", "draft"})]
)
def test_a_pair_has_the_proposers_that_its_draft_names(toy: str, draft: str, proposers: set[str]) -> None:
    draft = toy if draft == "itself" else draft
    pair = load_pair(Load(toy, draft, 256, threads=1), lambda *_: True)
    try:
        assert {name for name in ("lookup", "draft") if getattr(pair, name)} == set(proposers)
        assert pair.obstacle is None
    finally:
        pair.close()
