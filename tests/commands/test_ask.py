"""`outrider ask` with a real engine: clean in a pipe, harmless on a terminal, one line when it fails."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.terminal import Terminal
from tui.commands.ask import with_options
from tui.commands.options import parser
from tui.config import Models, Settings

SAMPLE = ("--main", "scripted:sample?tokens=40", "--draft", "scripted:draft?acceptance=0.6")
ECHO = ("--main", "scripted:echo", "--draft", "scripted:draft?acceptance=0.6")
HOSTILE = "a\x1b]52;c;QUFB\x07b\x1b[2Jc\x9b31md\u202ee\x00\x7f"
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """The environment of somebody who has no settings."""
    folders = {"HOME": "", "XDG_CONFIG_HOME": ".config", "XDG_STATE_HOME": ".state"}
    return {name: str(tmp_path / folder) for name, folder in folders.items()}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "tui", "ask", *arguments]


def ask(
    home: dict[str, str], *arguments: str, piped: bytes = b"", **more: str
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        command(*arguments), input=piped, capture_output=True, timeout=30, env=os.environ | home | more
    )


def on_terminal(home: dict[str, str], *arguments: str, **more: str) -> str:
    """What a terminal gets, without what is shown while there is nothing to see yet."""
    with Terminal(command(*arguments), env=home | more) as terminal:
        assert terminal.exit() == 0
        return re.sub(r"(\r\x1b\[K[\w ]+%?)*\r\x1b\[K", "", terminal.output.decode())


def test_a_pipe_gets_the_text_and_nothing_else(home: dict[str, str]) -> None:
    answer = ask(home, *ECHO, "Grüße,", "世界 🌍", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert (answer.stdout.decode("utf-8"), answer.stderr, answer.returncode) == ("Grüße, 世界 🌍\n", b"", 0)


def test_a_pipe_gets_the_text_as_the_model_wrote_it(home: dict[str, str]) -> None:
    text = HOSTILE.replace("\x00", "")  # no argument can hold it
    assert ask(home, *ECHO, text).stdout.decode() == text + "\n"


def test_the_prompt_may_be_piped_in_or_follow_the_question(home: dict[str, str]) -> None:
    assert ask(home, *ECHO, piped=b"from a pipe\n\n").stdout == b"from a pipe\n"
    assert ask(home, *ECHO, "Sum this up:", piped=b"one\ntwo\n").stdout == b"Sum this up:\n\none\ntwo\n"
    assert ask(home, *ECHO, piped=b"\xff\n").stdout.decode() == "\ufffd\n"


def test_without_a_question_there_is_an_example(home: dict[str, str]) -> None:
    answer = ask(home, *ECHO, piped=b" \n")
    assert (answer.returncode, answer.stdout) == (2, b"")
    assert b"outrider ask" in answer.stderr


def test_json_is_one_object_with_all_figures(home: dict[str, str]) -> None:
    answer = ask(home, *SAMPLE, "--seed", "7", "--json", "?")
    assert answer.returncode == 0
    assert answer.stdout.count(b"\n") == 1
    found = json.loads(answer.stdout)
    assert set(found) >= {
        *("text", "seed", "token_ids", "rounds", "drafted", "accepted", "tokens_per_second"),
        *("time_to_first_token", "main", "draft", "backend"),
    }
    assert found["seed"] == 7
    assert found["text"].startswith("# Speculative decoding")
    assert (found["main"], found["draft"], found["reason"]) == ("scripted:sample", "scripted:draft", "stop")
    assert 0 < found["accepted"] < found["drafted"]
    assert len(found["token_ids"]) == found["rounds"] + found["accepted"]
    plain = ask(home, *SAMPLE[:2], "--draft", "none", "--json", "?")
    alone = json.loads(plain.stdout)
    assert (alone["text"], alone["token_ids"]) == (found["text"], found["token_ids"])
    assert (alone["draft"], alone["drafted"]) == (None, alone["looked_up"])
    assert found["looked_up"] < found["drafted"]


def test_a_rejected_draft_is_one_line_beside_the_answer(home: dict[str, str]) -> None:
    answer = ask(home, *ECHO[:2], "--draft", "nothing.gguf", "hello")
    assert (answer.stdout, answer.returncode) == (b"hello\n", 0)
    assert answer.stderr.startswith(b"outrider: no draft: ")
    assert answer.stderr.count(b"\n") == 1


def test_a_missing_model_is_one_line(home: dict[str, str]) -> None:
    answer = ask(home, "--main", "no\x1b]0;such\x07.gguf", "hello")
    assert (answer.stdout, answer.returncode) == (b"", 1)
    assert answer.stderr.startswith(b"outrider: ")
    assert answer.stderr.count(b"\n") == 1
    assert b"\x1b" not in answer.stderr


def test_a_crash_is_one_line_and_keeps_the_text(home: dict[str, str]) -> None:
    answer = ask(home, "--main", "scripted:sample?rate=100&die=segv", "--draft", "none", "?")
    assert answer.returncode == 1
    assert answer.stdout.startswith(b"# Speculative decoding")
    assert answer.stdout.endswith(b"\n")
    assert answer.stderr.startswith(b"outrider: The engine crashed while answering (SIGSEGV)")
    assert answer.stderr.count(b"\n") == 1


@pytest.mark.parametrize(
    "wrong", [("--top-p", "2"), ("--draft-length", "17"), ("--nonsense",), ("--seed", "x")]
)
def test_wrong_usage_ends_with_two(home: dict[str, str], wrong: tuple[str, ...]) -> None:
    answer = ask(home, *wrong, "hello")
    assert (answer.returncode, answer.stdout) == (2, b"")


# Grammars, JSON schemas and what else bears on the choice of a token

STARTER = ("--main", "starter", "--draft", "starter", "--seed", "1")
PICKY = ["5=1.5", "the=-inf", "=\n=false", "a=b=-2"]


def test_an_answer_follows_a_json_schema_or_a_grammar(home: dict[str, str], tmp_path: Path) -> None:
    (schema := tmp_path / "s.json").write_text('\ufeff{"enum": ["x", {"a": [1, null]}]}', "utf-8")
    (grammar := tmp_path / "g.gbnf").write_text('root ::= "é" [0-9]{3} # three\n', "utf-8")
    answer = ask(home, *STARTER, "--json-schema", str(schema), "hi")
    assert (json.loads(answer.stdout) in ["x", {"a": [1, None]}], answer.stderr) == (True, b"")
    answers = [
        ask(home, *STARTER, "--grammar", str(grammar), "--draft-length", length, "hi").stdout.decode()
        for length in "04"
    ]
    assert re.fullmatch(r"é\d{3}\n", answers[0])
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("tmp", "This is a folder, not a model (PATH)."),
        ("pipe", "This is not a file (PATH)."),
        ("Passwd", "Not a model file: it does not begin with GGUF (PATH)."),
        ("none.gguf", "The file does not exist (PATH)."),
        ("empty", "The file is empty (PATH)."),
    ],
)
def test_what_is_no_model_is_named_by_its_path(
    home: dict[str, str], tmp_path: Path, path: str, line: str
) -> None:
    (tmp_path / "tmp").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "Passwd").write_text("root:x:0:0:root:/root:/bin/bash\n" * 9)
    (tmp_path / "empty").touch()
    answer = ask(home, "--main", str(tmp_path / path), "hello")
    assert (answer.returncode, answer.stdout) == (1, b"")
    said = answer.stderr.decode()
    assert said.startswith(f"outrider: {line} ".replace("PATH", str(tmp_path / path)))
    assert "No model is loaded" not in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("option", ["--grammar", "--json-schema"])
@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("none", None, "No such file or directory"),
        ("folder", ..., "Is a directory"),
        ("empty", b" \n", "empty"),
        ("bytes", b"root \xff", "not UTF-8 text"),
        ("large", b"a" * ((1 << 20) + 1), "longer than 1 MiB"),
    ],
    ids=range(5),
)
def test_a_file_that_cannot_be_used_is_wrong_usage(
    home: dict[str, str], tmp_path: Path, option: str, name: str, content: Any, line: str
) -> None:
    path = tmp_path / name
    if content is ...:
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    answer = ask(home, *ECHO, option, str(path), "hello")
    assert (answer.returncode, answer.stdout) == (2, b"")
    assert answer.stderr.decode() == f"outrider: {path}: {line}\n"


@pytest.mark.parametrize(
    ("option", "text", "line"),
    [
        ("--grammar", 'root ::= "a"\nb ::= [', "The grammar cannot be used: line 2: expected"),
        ("--grammar", "root ::= root", "The grammar cannot be used: it allows no text"),
        ("--json-schema", '{"type": ', "The JSON schema cannot be used: not JSON: "),
        ("--json-schema", '{"type": "unknown"}', "The JSON schema cannot be used: Invalid type: unknown"),
        (
            "--json-schema",
            '{"type": "string", "maxLength": -1}',
            "cannot be used: Expected positive integer for 'maxLength'",
        ),
    ],
)
def test_a_form_that_no_answer_can_have_is_one_line(
    home: dict[str, str], tmp_path: Path, option: str, text: str, line: str
) -> None:
    (path := tmp_path / "form").write_text(text)
    answer = ask(home, *STARTER, option, str(path), "hello")
    assert (answer.returncode, answer.stdout, answer.stderr.count(b"\n")) == (1, b"", 1)
    assert answer.stderr.startswith(b"outrider: ")
    assert line in answer.stderr.decode()


def test_a_bias_of_what_is_no_token_is_one_line(home: dict[str, str]) -> None:
    for token in ("no single token", "999999"):
        answer = ask(home, *STARTER, "--logit-bias", f"{token}=1", "hello")
        assert (answer.returncode, answer.stdout, answer.stderr.count(b"\n")) == (1, b"", 1)
        assert b"logit-bias" in answer.stderr


@pytest.mark.parametrize(
    "wrong",
    [
        *("5", "=1", "5=", "5=x", "5=nan", "5=inf", "5=1e400", "5=100000"),
        ("--grammar", "a", "--json-schema", "b"),
        ("--repeat-penalty", "0"),
        ("--presence-penalty", "nan"),
        ("--frequency-penalty", "1000"),
        ("--penalty-last-n", "-1"),
    ],
)
def test_wrong_sampling_is_wrong_usage(wrong: str | tuple[str, ...]) -> None:
    given = ("--logit-bias", wrong) if isinstance(wrong, str) else wrong
    with pytest.raises(SystemExit) as caught:
        parser().parse_args(["ask", *given, "hello"])
    assert caught.value.code == 2


def test_biases_are_ids_or_texts_with_numbers_or_bans() -> None:
    given = [part for bias in PICKY for part in ("--logit-bias", bias)]
    assert parser().parse_args(["ask", *given, "x"]).logit_bias == [
        (5, 1.5), ("the", None), ("=\n", None), ("a=b", -2.0),
    ]  # fmt: skip


@pytest.fixture
def interruptible() -> Iterator[None]:
    """In a script's background SIGINT is ignored, and so it would be in a child."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@linux
@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_ends_the_answer_and_the_engine(home: dict[str, str]) -> None:
    slow = command("--main", "scripted:sample?rate=50&tokens=5000", "--draft", "none", "?")
    with subprocess.Popen(
        slow,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | home,
    ) as asking:
        assert asking.stdout is not None
        assert asking.stderr is not None
        begun = asking.stdout.read(10)
        engines = Path(f"/proc/{asking.pid}/task/{asking.pid}/children").read_text().split()
        asking.send_signal(signal.SIGINT)
        rest, errors = asking.stdout.read(), asking.stderr.read()
        assert asking.wait(5) == 130
    assert begun + rest.rstrip() != b""
    assert (rest[-1:], errors) == (b"\n", b"")
    assert engines
    assert not any(Path("/proc", pid).exists() for pid in engines)


def test_a_reader_that_has_enough_is_no_error(home: dict[str, str]) -> None:
    many = command("--main", "scripted:sample?rate=200&tokens=2000", "--draft", "none", "?")
    with subprocess.Popen(
        many, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | home
    ) as asking:
        assert asking.stdout is not None
        assert asking.stderr is not None
        asking.stdout.read(10)
        asking.stdout.close()
        assert asking.stderr.read() == b""
        assert asking.wait(5) == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_line(home: dict[str, str]) -> None:
    with Path("/dev/full").open("wb") as full:
        answer = subprocess.run(
            command(*ECHO, "hello"),
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            env=os.environ | home,
            timeout=30,
        )
    assert (answer.returncode, answer.stderr) == (1, b"outrider: No space left on device\n")


def test_a_terminal_shows_whose_token_it_is(home: dict[str, str]) -> None:
    shown = on_terminal(home, *SAMPLE, "--seed", "7", "?")
    text, _, figures = shown.partition("\x1b[2m")
    assert "\x1b[33m" in text
    assert re.sub(r"\x1b\[\d*m", "", text).startswith("# Speculative decoding\r\n")
    assert re.sub(r"\x1b\[33m.*?\x1b\[0m", "", text, flags=re.DOTALL).strip()
    assert re.search(r"\d+ tokens · .* of drafts accepted · seed 7\x1b\[0m", figures)


@pytest.mark.parametrize("how", ["--no-color", "NO_COLOR", "TERM"])
def test_colors_can_be_had_without(home: dict[str, str], how: str) -> None:
    environ = {"NO_COLOR": "1"} if how == "NO_COLOR" else {"TERM": "dumb"} if how == "TERM" else {}
    options = ("--no-color",) if how == "--no-color" else ()
    assert "\x1b" not in on_terminal(home, *SAMPLE, *options, "?", **environ)


def test_hostile_text_is_harmless_on_a_terminal(home: dict[str, str]) -> None:
    shown = on_terminal(home, *ECHO, HOSTILE.replace("\x00", "") + "👩\u200d👩")
    text = re.sub(r"\x1b\[(33|2|0)m", "", shown)
    assert "\x1b" not in text
    assert not set(text) & set("\x07\x7f\x9b\u202e")
    assert text.startswith("a\ufffd]52;c;QUFB\ufffdb\ufffd[2Jc\ufffd31md\ufffde\ufffd👩\u200d👩\r\n")


def test_the_answer_can_be_limited(home: dict[str, str]) -> None:
    found = json.loads(ask(home, *SAMPLE, "--max-tokens", "5", "--json", "?").stdout)
    assert (len(found["token_ids"]), found["reason"]) == (5, "length")
    found = json.loads(ask(home, *SAMPLE, "--stop", "decoding", "--json", "?").stdout)
    assert (found["text"], found["reason"]) == ("# Speculative ", "stop")


def test_what_is_not_given_comes_from_the_config(home: dict[str, str]) -> None:
    config = Path(home["XDG_CONFIG_HOME"], "outrider", "config.toml")
    config.parent.mkdir(parents=True)
    config.write_text(
        '[models]\nmain = "scripted:sample"\n[generation]\nmax_tokens = 5\nseed = 9\ntop_k = "x"'
    )
    answer = ask(home, "--json", "?", XDG_CONFIG_HOME=home["XDG_CONFIG_HOME"])
    found = json.loads(answer.stdout)
    assert (found["main"], len(found["token_ids"]), found["seed"]) == ("scripted:sample", 5, 9)
    assert b"config.toml, line 6: generation.top_k" in answer.stderr


def options(arguments: Sequence[str]) -> Settings:
    return with_options(Settings(), parser().parse_args(["ask", *arguments]))


def test_every_option_reaches_the_settings() -> None:
    models = "--main m --draft d --draft-length 2 --seed 3"
    sampling = "--temperature 0.5 --top-k 6 --top-p 0.7 --min-p 0.1 --max-tokens 8"
    given = options([*models.split(), *sampling.split(), "--system", "s", "--stop", "a", "--stop", "b", "x"])
    assert (given.models.main, given.models.draft) == ("m", "d")
    generation = given.generation
    assert (generation.draft_length, generation.seed, generation.temperature) == (2, 3, 0.5)
    assert (generation.top_k, generation.top_p, generation.min_p) == (6, 0.7, 0.1)
    assert (generation.max_tokens, generation.system_prompt, generation.stop) == (8, "s", ("a", "b"))
    penalties = "--repeat-penalty 1.5 --presence-penalty -1 --frequency-penalty 0.25 --penalty-last-n 9"
    generation = options([*penalties.split(), "x"]).generation
    assert (generation.repeat_penalty, generation.presence_penalty) == (1.5, -1)
    assert (generation.frequency_penalty, generation.penalty_last_n) == (0.25, 9)
    assert options(["--draft", "none", "x"]) == Settings(models=Models(draft="none"))
    assert options(["--draft", "ngram", "x"]) == Settings(models=Models(draft="lookup"))
    assert options(["x"]) == Settings()


def test_no_more_is_read_from_a_pipe_than_anybody_can_mean() -> None:
    command = [sys.executable, "-m", "tui", "ask"]
    with Path("/dev/zero").open("rb") as endless:
        asked = subprocess.run(command, stdin=endless, capture_output=True, timeout=60, check=False)
    assert asked.returncode == 2 and asked.stderr.count(b"\n") == 1 and b"longer than 2 MiB" in asked.stderr


@pytest.mark.parametrize("main", ["~nobody-of-this-name/x", "x" * 300, f"/{'x' * 300}/y", "/\N{BULLET}" * 90])
def test_a_model_that_cannot_be_is_one_line(main: str) -> None:
    command = [sys.executable, "-m", "tui", "ask", "--main", main, "hi"]
    asked = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
    assert asked.returncode == 1 and asked.stderr.count(b"\n") == 1
    assert b"Error" not in asked.stderr and not asked.stdout
