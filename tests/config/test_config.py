"""config.toml: every bad value costs itself only, a broken file costs nothing and stays as it is."""

from __future__ import annotations

import random
import re
import signal
import subprocess
import sys
import time
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from tui.chat.requests import load_request
from tui.config import (
    Appearance,
    CacheSpace,
    ConfigError,
    Engine,
    Generation,
    Keys,
    Models,
    Preset,
    Settings,
    change_config,
    example,
    read_config,
    read_value,
    show_setting,
    show_value,
)
from tui.config.byte_size import ByteSize
from tui.config.file import MAX_SIZE
from tui.paths import shipped


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


def read(path: Path, text: str) -> tuple[Settings, list[str]]:
    path.write_text(text)
    settings, problems = read_config(path)
    return settings, [str(problem) for problem in problems]


def test_the_example_is_what_the_code_says(path: Path) -> None:
    assert shipped("config.example.toml").read_text() == example()
    assert read(path, example()) == (Settings(), [])


def test_without_a_file_the_defaults_are_used(path: Path) -> None:
    assert read_config(path) == (Settings(), ())


def test_what_the_file_says_is_used(path: Path) -> None:
    text = '[models]\nmain = "a.gguf"\n[generation]\ntemperature = 1\nstop = ["END"]\n'
    settings, problems = read(path, text)
    assert problems == []
    assert settings.models == Models(main="a.gguf")
    assert settings.generation == Generation(temperature=1.0, stop=("END",))


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ('top_k = "many"', "top_k must be a whole number"),
        ("top_k = 1.5", "top_k must be a whole number"),
        ("top_k = true", "top_k must be a whole number"),
        ("top_k = -1", "from 0 to"),
        ("temperature = nan", "temperature must be a number"),
        ("temperature = inf", "temperature must be a number"),
        ("draft_length = 17", 'a whole number from 0 to 16 or "auto"'),
        ('draft_length = "some"', 'or "auto"'),
        ("draft_length = true", 'or "auto"'),
        ("seed = -2", "seed must be"),
        ('stop = "END"', "a list of texts"),
        ("stop = [1]", "a list of texts"),
        ("system_prompt = 3", "system_prompt must be a text"),
        ("temprature = 1", "did you mean temperature?"),
    ],
)
def test_a_bad_value_keeps_its_default_and_names_file_line_and_key(path: Path, line: str, named: str) -> None:
    settings, problems = read(path, f"[models]\n[generation]\nmin_p = 0.5\n{line}\n")
    assert settings == Settings(generation=Generation(min_p=0.5))
    assert len(problems) == 1
    assert problems[0].startswith("config.toml, line 4: generation.")
    assert named in problems[0]


def test_closed_sets_name_what_they_hold(path: Path) -> None:
    settings, problems = read(path, '[appearance]\nhighlight = "loud"\nsidebar = "shown"\n')
    assert settings.appearance == Appearance(sidebar="shown")
    assert '"quiet" or "full" or "off"' in problems[0]


def test_unknown_sections_and_stray_values_are_named(path: Path) -> None:
    settings, problems = read(path, 'theme = "x"\nmodels = 3\n[modles]\nmain = "x"\n')
    assert settings == Settings()
    assert [problem.split(": ")[0] for problem in problems] == [
        f"config.toml, line {line}" for line in (1, 2, 3)
    ]
    assert "did you mean models?" in problems[2]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b'[models]\nmain = "a\n', "line 2"),
        (b"[models]\n[models]\n", "line 2"),
        (b'[models]\nmain = "\xff"\n', "line 2: not UTF-8"),
        (b"\x00" * 100, "line 1"),
        (b"#" * (MAX_SIZE + 1), "larger than 1 MB"),
        (b"x = " + b"[" * 100_000, "recursion"),
    ],
    ids=["text", "section", "encoding", "nul", "size", "depth"],
)
def test_a_file_that_cannot_be_read_is_reported_and_never_overwritten(
    path: Path, content: bytes, named: str
) -> None:
    path.write_bytes(content)
    settings, problems = read_config(path)
    assert settings == Settings()
    assert named in str(problems[0])
    with pytest.raises(ConfigError):
        change_config(path, ("generation", "seed"), 3)
    assert path.read_bytes() == content


def test_windows_files_are_read(path: Path) -> None:
    path.write_bytes(b'\xef\xbb\xbf[models]\r\nmain = "a.gguf"\r\n')
    assert read_config(path) == (Settings(models=Models(main="a.gguf")), ())


def mutated(rng: random.Random, content: bytes) -> bytes:
    """A config file as accidents and hands leave it."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(7):
            case 0:
                del data[at:]
            case 1:
                data[at:] = bytes(len(data) - at)
            case 2:
                data[at:at] = rng.randbytes(rng.randint(1, 8))
            case 3:
                data[at : at + 1] = rng.choice([b'"', b"[", b"]", b"=", b"\n", b"9e999", b"\xe9"])
            case 4:
                data[at:at] = data[: rng.randrange(200)]
            case 5:
                data = bytearray(data.replace(b"= 0", rng.choice([b"= -1", b"= true", b'= "0"', b"= []"])))
            case _:
                data = bytearray(data.replace(b"\n", b"\r\n"))
    return bytes(data)


def test_three_hundred_damaged_files_all_start_and_stay_as_they_are(path: Path) -> None:
    rng = random.Random(5)
    hurt = 0
    for _ in range(300):
        content = mutated(rng, example().encode())
        path.write_bytes(content)
        settings, problems = read_config(path)
        assert isinstance(settings, Settings)
        assert all("\n" not in str(problem) for problem in problems)
        assert path.read_bytes() == content
        hurt += bool(problems)
    assert hurt > 150, "the damage must be damage"


def test_one_setting_is_changed_and_all_else_stays_to_the_letter(path: Path) -> None:
    text = """\
# mine
[generation]
seed = 4   # a lucky one
future = 1
top_k    = 7

[tomorrow]  # not known yet
x = {a = 1, b = [1, 2]}
"""
    path.write_text(text)
    change_config(path, ("generation", "seed"), 5)
    assert path.read_text() == text.replace("seed = 4", "seed = 5")
    change_config(path, ("generation", "seed"), None)
    assert path.read_text() == text.replace("seed = 4   # a lucky one\n", "")
    change_config(path, ("appearance", "theme"), "terminal")
    change_config(path, ("presets", "code", "stop"), ("a", "b"))
    change_config(path, ("keys", "chat.race"), "ctrl+y")
    settings, problems = read_config(path)
    assert settings.appearance == Appearance(theme="terminal")
    assert settings.presets == (Preset("code", (("stop", ("a", "b")),)),)
    assert settings.keys == Keys(bound=(("chat.race", "ctrl+y"),))
    assert settings.generation == Generation(top_k=7)
    assert len(problems) == 2 and "# mine" in path.read_text()


def test_a_setting_is_written_where_there_is_no_file_and_not_over_what_is_no_section(path: Path) -> None:
    change_config(path, ("generation", "seed"), None)
    change_config(path, ("generation", "seed"), 5)
    assert read_config(path) == (Settings(generation=Generation(seed=5)), ())
    path.write_text("generation = 3\n")
    with pytest.raises(ConfigError):
        change_config(path, ("generation", "seed"), 5)
    assert path.read_text() == "generation = 3\n"


def test_every_setting_of_the_example_can_be_changed_and_changed_back(path: Path) -> None:
    text = example()
    path.write_text(text)
    for section in fields(Settings):
        for entry in fields(value) if is_dataclass(value := getattr(Settings(), section.name)) else ():
            if entry.metadata:
                place, now = (section.name, entry.name), getattr(value, entry.name)
                change_config(path, place, read_value(type(value), entry.name, show_value(now)))
                assert path.read_text() == text
                change_config(path, place, None)
                assert read_config(path) == (Settings(), ())
                path.write_text(text)


@pytest.mark.parametrize(
    ("key", "typed", "value"),
    [
        ("temperature", " 0.5 ", 0.5),
        ("temperature", "1", 1.0),
        ("seed", "7", 7),
        ("lookup", "off", False),
        ("lookup", "True", True),
        ("system_prompt", 'Say "hi".', 'Say "hi".'),
        ("stop", '["a", "b"]', ("a", "b")),
        ("stop", "END", ("END",)),
        ("stop", "", None),
        ("seed", "many", None),
        ("seed", "1.5", None),
        ("temperature", "9", None),
        ("lookup", "perhaps", None),
        ("top_k", "1\ntop_p = 3", None),
    ],
)
def test_what_is_typed_is_read_or_rejected(key: str, typed: str, value: object) -> None:
    if value is None:
        with pytest.raises(ConfigError):
            read_value(Generation, key, typed)
    else:
        assert read_value(Generation, key, typed) == value


def test_presets_and_keys_name_what_is_wrong_with_them(path: Path) -> None:
    text = """\
[presets.code]
temperature = 0.2
seed = "x"
preset = "other"
[presets]
prose = 3
[keys]
set = "emacs"
"chat.race" = "ctrl+y"
"chat.new" = 3
"""
    settings, problems = read(path, text)
    assert settings.presets == (Preset("code", (("temperature", 0.2),)),)
    assert settings.keys.bound == (("chat.race", "ctrl+y"),)
    assert Preset("code", (("temperature", 0.2),)).applied(Generation()) == Generation(temperature=0.2)
    assert [problem.partition(": ")[0] for problem in problems] == [
        f"config.toml, line {line}" for line in (3, 4, 6, 10, 8)
    ]


WRITER = """
import sys
from pathlib import Path
from tui.config import change_config
for number in range(1_000_000):
    change_config(Path(sys.argv[1]), ("generation", "system_prompt"), "x" * (number % 50_000))
    if not number:
        print("writing", flush=True)
"""


def test_a_kill_in_the_middle_of_a_write_leaves_a_whole_file(path: Path) -> None:
    rng = random.Random(6)
    for _ in range(12):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
        assert writer.stdout and writer.stdout.readline()
        time.sleep(rng.uniform(0, 0.05))
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        assert read_config(path)[1] == ()
    change_config(path, ("generation", "seed"), 1)
    assert list(path.parent.iterdir()) == [path], "what a kill left behind is cleared"


@pytest.mark.parametrize(
    ("section", "key", "value", "word"),
    [
        (Generation, "seed", -1, "random"),
        (Generation, "draft_length", "auto", "auto"),
        (Generation, "draft_length", 0, "never"),
        (Generation, "max_tokens", 0, "unlimited"),
        (Generation, "repeat_penalty", 1.0, "off"),
        (Generation, "presence_penalty", 0.0, "off"),
        (Generation, "top_k", 0, "all"),
        (Models, "context_length", 0, "auto"),
        (Engine, "threads", 0, "auto"),
        (Engine, "gpu_layers", -1, "all"),
    ],
)
def test_a_number_that_means_something_else_is_a_word_to_read_and_to_type(
    section: type, key: str, value: float | str, word: str
) -> None:
    assert show_setting(section, key, value) == word
    read = read_value(section, key, f" {word.upper()} ")
    assert read == value and type(read) is type(value)


def test_other_values_are_shown_as_they_are() -> None:
    assert show_setting(Generation, "seed", 7) == "7"
    assert show_setting(Generation, "stop", ()) == show_setting(Generation, "system_prompt", "") == "empty"
    assert show_setting(Models, "draft", "none") == "none"
    with pytest.raises(ConfigError):
        read_value(Generation, "seed", "auto")


def test_every_help_says_what_the_setting_is_and_not_only_a_value_of_it() -> None:
    for section in (Models, Generation, Appearance, Engine):
        for entry in fields(section):
            assert not re.fullmatch(r"-?\d+ is \w+", entry.metadata["about"]), entry.name


@pytest.mark.parametrize(
    ("written", "bytes_", "shown"),
    [
        ('"4 GiB"', 4 << 30, "4 GiB"),
        ('"1.5gib"', 3 << 29, "1.5 GiB"),
        ('"500 MB"', 500_000_000, "500 MB"),
        ('"0"', 0, "off"),
        ("0", 0, "off"),
        ("1000", 1000, "1 kB"),
        ("123456789", 123_456_789, "123456789 B"),
    ],
)
def test_a_size_has_a_unit(path: Path, written: str, bytes_: int, shown: str) -> None:
    settings, problems = read(path, f"[cache]\ndisk = {written}\n")
    assert (int(settings.cache.disk), problems) == (bytes_, [])
    assert show_setting(CacheSpace, "disk", settings.cache.disk) == shown
    change_config(path, ("cache", "disk"), settings.cache.disk)
    assert read_config(path)[0] == settings


@pytest.mark.parametrize(
    "written", ['"much"', '"-1 GiB"', "-1", "1.5", "true", '"9999999 TiB"', '"4 GiB x"', "[]"]
)
def test_a_size_that_is_none_is_reported_and_the_default_holds(path: Path, written: str) -> None:
    settings, problems = read(path, f"[cache]\ndisk = {written}\n")
    assert settings.cache.disk == 4 << 30
    assert len(problems) == 1
    assert 'cache.disk must be a size such as "4 GiB", or 0' in problems[0]


def test_every_size_reads_back_as_it_was_written() -> None:
    chance = random.Random(5)
    for _ in range(2000):
        size = ByteSize(chance.randrange(1 << chance.randrange(1, 50)))
        assert ByteSize.read(str(size)) == size


@pytest.mark.parametrize(
    ("written", "value", "asked", "shown"),
    [
        ('"auto"', "auto", -1, "auto"),
        ('"2 GiB"', 2 << 30, 2 << 30, "2 GiB"),
        ("0", 0, 0, "off"),
        ("5000", 5000, 5000, "5 kB"),
    ],
)
def test_the_memory_for_chats_is_a_size_or_auto(
    path: Path, written: str, value: object, asked: int, shown: str
) -> None:
    settings, problems = read(path, f"[cache]\nmemory = {written}\n")
    assert (settings.cache.memory, problems) == (value, [])
    assert load_request(settings).memory_cache == asked
    assert show_setting(CacheSpace, "memory", settings.cache.memory) == shown
    assert read_value(CacheSpace, "memory", shown) == value
    change_config(path, ("cache", "memory"), settings.cache.memory)
    assert read_config(path)[0] == settings


def test_a_memory_for_chats_that_is_none_is_reported(path: Path) -> None:
    settings, problems = read(path, '[cache]\nmemory = "half"\n')
    assert settings.cache.memory == "auto"
    assert 'cache.memory must be a size such as "4 GiB", or 0 or "auto"' in problems[0]
