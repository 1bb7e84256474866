"""Files of ours: whole or as they were, for their owner alone; and paths as people type them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tui import files
from tui.chat.requests import load_request
from tui.config import change_config, read_config
from tui.config.last import keep_last
from tui.config.settings import Models, Settings
from tui.engine.library.local import Library
from tui.engine.library.records import Records
from tui.engine.machine.stored_facts import StoredFact
from tui.store.database import connect


@pytest.fixture
def open_to_all() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.mark.usefixtures("open_to_all")
def test_nobody_else_may_enter_or_write_whatever_the_umask_is(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o755)
    keep_last(Settings(), home / "state" / "outrider" / "pair.json")
    StoredFact(home / "cache" / "outrider" / "costs", (), ("x",)).write(1)
    change_config(home / "config" / "outrider" / "config.toml", ("generation", "seed"), 1)
    connect(home / "data" / "outrider" / "chats.db").close()
    made = list(home.rglob("*"))
    assert len(made) >= 10
    assert {mode(path) for path in made if path.is_dir()} == {0o700}
    assert {mode(path) for path in made if path.is_file()} == {0o600}


def test_a_link_that_somebody_planted_leads_nowhere(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_text("untouched")
    place = tmp_path / "pair.json"
    for name in (f"pair.{os.getpid()}", "pair.json"):
        (tmp_path / name).symlink_to(theirs)
    keep_last(Settings(), place)
    assert theirs.read_text() == "untouched"
    assert not place.is_symlink() and place.read_text().startswith("{")


def test_a_settings_file_that_is_a_link_stays_one_and_keeps_its_mode(tmp_path: Path) -> None:
    dotfile = tmp_path / "dotfiles" / "outrider.toml"
    dotfile.parent.mkdir()
    dotfile.write_text("[generation]\nseed = 1  # mine\n")
    dotfile.chmod(0o644)
    config = tmp_path / "config.toml"
    config.symlink_to(Path("dotfiles") / "outrider.toml")
    change_config(config, ("generation", "seed"), 7)
    assert config.is_symlink() and dotfile.read_text() == "[generation]\nseed = 7  # mine\n"
    assert mode(dotfile) == 0o644
    assert [each.name for each in dotfile.parent.iterdir()] == ["outrider.toml"]


def test_a_file_that_cannot_be_written_stays_as_it_was(tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.write_text("before")
    with pytest.raises(UnicodeEncodeError):
        files.replace(place, "\ud800")
    assert place.read_text() == "before" and list(tmp_path.iterdir()) == [place]


@pytest.mark.parametrize("name", ["~nobody-of-this-name/models", "x" * 300, "x" * 300 + "/y", "a\0b", "~"])
def test_any_text_may_stand_for_a_model_or_a_folder(name: str) -> None:
    files.there(files.typed(name))
    load = load_request(Settings(models=Models(main=name, draft=name, folders=(name,))))
    assert load.main and load.folders


def test_folders_that_cannot_be_are_named_and_the_others_are_read(tmp_path: Path) -> None:
    library = Library((), tmp_path / "index.json", Records(tmp_path / "records"), lambda: 0)
    found = list(library.models(("~nobody-of-this-name/models", "x" * 300)))
    assert any(getattr(each, "demo", False) for each in found)


@pytest.mark.parametrize("lookup", ["", "\n[generation]\nlookup = true\n"])
def test_a_draft_called_none_is_plain_decoding_in_the_file_too(lookup: str, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'[models]\ndraft = "none"\n{lookup}')
    settings, problems = read_config(config)
    assert not problems
    assert (settings.models.draft, load_request(settings).draft) == ("none", "none")
