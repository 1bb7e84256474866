"""The protocol: what one side writes, the other reads; anything else is a `ProtocolError`, never a crash."""

from __future__ import annotations

import inspect
import json
import math
from typing import Any, get_args

import pytest
from msgspec import Struct
from msgspec.structs import replace

from tui import protocol
from tui.protocol import Command, Event, Origin, ProtocolError, decode_command, decode_event, encode

INFO = protocol.ModelFacts(
    "n\x1b]52;c;x\x07\u202e🚀\ud800\n", "/a b.gguf", "llama", 1, "Q4_0", 2**40, 8192, 3, True, "text"
)
STATISTICS = protocol.Statistics(10, 5, 7, 3, 9, 4, 2, 1, 0.5, 0.1, 0.2, 0.03, None, 12.5, 17, 2**40)
FOUND = protocol.FoundModel(
    *("n", "/a b.gguf", "llama", 7, "Q4_0", 2**40, 8192, 9, False, "chatml"),
    source="Ollama",
    backend="mlx",
    tokenizer="gpt2",
    fingerprint="0f",
    traits=("recurrent",),
    license="mit",
)
CANDIDATE = protocol.TokenCandidate(7, "\u2028x", 0.25)
MESSAGES: list[Any] = [
    protocol.Load("starter"),
    protocol.Load("/m.gguf", "/d.gguf", 4096, 0, 3),
    protocol.Generate(
        4,
        (protocol.Message("system", "be\nbrief"), protocol.Message("user", "¿qué? \0")),
        seed=-(2**62),
        sampling=protocol.Sampling(0, 1, 0.5, 0.25, 1.5, -1, 2, 8, ((5, None), ("5", -1.5), ("\n é", 2))),
        draft_length=16,
        max_tokens=9,
        stop=("\n\n", "é"),
        raw=True,
        ignore_eos=True,
        grammar='root ::= "é"\n',
        json_schema='{"type": "string"}',
        chat="0f",
    ),
    protocol.Cancel(4),
    protocol.SetDraftLength(4, 3),
    protocol.SetDraftLength(4, "auto"),
    protocol.Unload(),
    protocol.Ping(),
    protocol.Ping(60),
    protocol.Quit(),
    protocol.Hello(protocol.PROTOCOL, "1.2", 345),
    protocol.Loading("weights"),
    protocol.Loading("weights", 0.5),
    protocol.Loaded(INFO, None, protocol.Obstacle("load", "too large"), "llama.cpp", "CPU", 4096, None, 1.5),
    protocol.Loaded(INFO, INFO, None, "llama.cpp", "CPU", 4096, 31.5, 1.5),
    protocol.Unloaded(),
    protocol.Prefill(1, 512, 4096),
    protocol.Rounds(
        3, (protocol.TextRound((("a\u2028b", 1), ("", 3)), (5, 2**60), 4, 2, 1, 0.1, 0.02, 0.03, 99),)
    ),
    protocol.Finished(1, "context", STATISTICS),
    protocol.Failed(0, "no", "do this"),
    protocol.Notice(3, "on"),
    protocol.Busy(3, 1, 2),
    protocol.NotDrafting(3, protocol.Obstacle("policy", "does not pay")),
    protocol.NotDrafting(3, None),
    protocol.Pong(),
    protocol.ListModels(-1, ("/models", "~/more")),
    protocol.ModelsFound(-1, (FOUND, replace(FOUND, demo=True))),
    protocol.ModelsListed(-1, (protocol.Skipped("/m/x.gguf", "cut off"),), 0.25),
    protocol.DescribeModel(-2, protocol.Load("llama 8b")),
    protocol.ModelDescribed(-2, FOUND),
    protocol.JudgeDrafts(-2, protocol.Load("/m.gguf", folders=("/models",))),
    protocol.SearchHub(-4, "qwen"),
    protocol.HubFound(-4, (protocol.HubRepository("a/b", 9, 2, True, "GGUF"),)),
    protocol.ListHub(-5, "a/b"),
    protocol.HubListed(-5, "a/b", (protocol.HubFile("m.gguf", 2**33, 2, "llama.cpp", "Q4_0"),), "mit", 9),
    protocol.LookInside(-5, "a/b", "m.gguf"),
    protocol.HubInside(-5, True),
    protocol.Download(-6, "a/b", "Q4_0"),
    protocol.Downloading(-6, "m.gguf", 5, 2**40),
    protocol.Downloading(-6, "Q4_K_M", 0, 0, "the hub asks to wait 40 s"),
    protocol.Downloaded(-6, "/m.gguf", 2**40),
    protocol.Requantize(-8, protocol.Load("/m.gguf"), "Q4_0"),
    protocol.Requantizing(-8, 5, 2**33),
    protocol.Requantized(-8, "/copies/m.gguf", 2**33),
    protocol.ProposePairs(-7),
    protocol.PairsProposed(-7, (protocol.HubPair("M", "a/b:Q4_0", "a/c:Q4_0", 7),)),
    protocol.PairsProposed(-7, (protocol.HubPair("M", "a/b:Q4_0", "head", 7, 9.5, True),)),
    protocol.PlanMemory(-3, protocol.Load("/m.gguf", "/d.gguf"), protocol.Load("starter")),
    protocol.MemoryPlanned(
        -3, protocol.Load("/m.gguf"), 4096, False, (protocol.MemoryUse("GPU", 2**35, 2**36, 9, 8, 7, 6),)
    ),
    protocol.SurveyWorkers(-3, (protocol.WorkerHost("gpu2", "me@gpu2", "/opt/outrider"),)),
    protocol.WorkersSurveyed(
        -3,
        (
            protocol.SurveyedWorker("gpu2", ("H200",), 2**37, 2**38, 0.001),
            protocol.SurveyedWorker("x", fault="no"),
        ),
    ),
    protocol.CountStates(-8),
    protocol.StatesCounted(-8, 3, 2**40),
    protocol.ForgetStates(-9, "0f"),
    protocol.StatesForgotten(-9, 1, 2**30),
    protocol.Count(9, "caf\u00e9"),
    protocol.Counted(9, 2**40),
    protocol.Inspect(8, protocol.Generate(8, (), 0, resume=(3, 2**40)), 1, 1),
    protocol.Inspected(8, ("a", "<0xE2>"), (protocol.TokenInspection(0.5, 0.0, False, (CANDIDATE,), ()),)),
    protocol.DraftsJudged(-2, (protocol.DraftVerdict("lookup", "lookup", "possible", "always", 1.5, 3),)),
]


def test_every_kind_of_message_is_tried() -> None:
    assert {type(message) for message in MESSAGES} == {*get_args(Command), *get_args(Event)}


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_survives_the_way_there(message: Any) -> None:
    line = encode(message)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert max(line) < 0x80
    decode = decode_command if isinstance(message, get_args(Command)) else decode_event
    assert decode(line) == message


def test_a_line_is_written_as_other_versions_of_this_protocol_write_it() -> None:
    assert (
        encode(protocol.SetDraftLength(-4, "auto"))
        == b'{"type":"setdraftlength","id":-4,"draft_length":"auto"}\n'
    )
    rounds = (protocol.TextRound((("é\ud800\n", Origin.MAIN),), (5,), 4, 2, 1, 0.1, 0.0, 0.5, 9),)
    row = rb'[[["\u00e9\ud800\n",2]],[5],4,2,1,0.1,0.0,0.5,9,null]'
    line = b'{"type":"rounds","id":3,"rounds":[' + row + b"]}\n"
    assert encode(protocol.Rounds(3, rounds)) == line
    older = line.replace(b",9,null]", b",9]")
    assert decode_event(line) == decode_event(older) == protocol.Rounds(3, rounds)
    inside = (
        b'{"type":"describemodel","id":-2,"load":{"main":"x"}}'  # without a type, as version 0.1.0 writes it
    )
    assert decode_command(inside) == protocol.DescribeModel(-2, protocol.Load("x"))


def test_a_text_need_not_be_escaped() -> None:
    assert decode_command('{"type": "count", "id": 1, "text": "é🚀"}'.encode()) == protocol.Count(1, "é🚀")


def test_a_setting_that_is_no_number_reaches_the_engine_which_says_so() -> None:
    for wrong in (math.inf, -math.inf, 10.0**300):
        sampling = protocol.Sampling(temperature=wrong, logit_bias=((1, wrong),), top_k=10**30)
        request = protocol.Generate(1, (), 0, sampling)
        assert decode_command(encode(request)) == request
    read = decode_command(encode(protocol.Generate(1, (), 0, protocol.Sampling(logit_bias=((1, math.nan),)))))
    assert isinstance(read, protocol.Generate)
    ((_, bias),) = read.sampling.logit_bias
    assert bias is not None and math.isnan(bias)  # None would ban the token


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_field_of_a_newer_version_is_ignored_at_every_level(message: Any) -> None:
    def add(value: Any) -> Any:
        if isinstance(value, dict):
            return {"newer": {"deep": [1]}, **{key: add(item) for key, item in value.items()}}
        return [add(item) for item in value] if isinstance(value, list) else value

    line = json.dumps(add(json.loads(encode(message)))).encode()
    assert (decode_command if isinstance(message, get_args(Command)) else decode_event)(line) == message


def test_fields_with_a_default_may_be_missing_and_others_may_not() -> None:
    assert decode_command(b'{"type": "load", "main": "x"}') == protocol.Load("x")
    with pytest.raises(ProtocolError, match="main"):
        decode_command(b'{"type": "load"}')


def test_a_command_is_no_event_and_an_event_no_command() -> None:
    for message in MESSAGES:
        with pytest.raises(ProtocolError):
            (decode_event if isinstance(message, get_args(Command)) else decode_command)(encode(message))


WRONG: list[Any] = [
    None,
    True,
    1,
    1.5,
    10**400,
    -(10**400),
    math.nan,
    "text",
    [],
    [[]],
    {},
    [1, 2],
    {"a": [{}]},
]


def _paths(value: Any, hint: Any = None) -> list[list[Any]]:
    found: list[list[Any]] = [[]]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += [[key, *rest] for rest in _paths(item)]
    return found


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_any_value_anywhere_is_read_as_its_type_or_rejected(message: Any) -> None:
    decode = decode_command if isinstance(message, get_args(Command)) else decode_event
    rejected = 0
    for path in _paths(json.loads(encode(message))):
        for wrong in WRONG:
            data = json.loads(encode(message))
            if path:
                holder = data
                for key in path[:-1]:
                    holder = holder[key]
                holder[path[-1]] = wrong
            else:
                data = wrong
            try:
                read = decode(json.dumps(data).encode())
            except ProtocolError:
                rejected += 1
            else:
                _assert_typed(read)
    assert rejected >= len(WRONG)  # none of them is a whole message


def _assert_typed(value: Any) -> None:
    """Fields hold what their annotations promise (of the simple kinds)."""
    kinds = {"Unsigned": int, "Signed": int, "Finite": float, "int": int, "str": str, "float": float}
    for name, hint in inspect.get_annotations(type(value)).items():
        item = getattr(value, name)
        if isinstance(item, Struct):
            _assert_typed(item)
        elif kind := (kinds | {"bool": bool}).get(hint):
            assert type(item) is kind, (name, item)
            assert hint != "Unsigned" or 0 <= item < 2**63, (name, item)
            assert hint != "Finite" or -(2**63) < item < 2**63, (name, item)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"null",
        b"0",
        b"[]",
        b'"load"',
        b"{}",
        b'{"type": 1}',
        b'{"type": ["load"]}',
        b'{"type": "no"}',
        b'{"type": null}',
        b"Welcome to host!",
        b'{"type": "ping"',
        b'{"type": "ping"} {}',
        b"\xff\xfe\x00",
        b"\x00" * 99,
        b'{"type": "\xff"}',
        b'{"type": "cancel", "id": ' + b"9" * 5000 + b"}",
        b'{"type": "cancel", "id": 1e999}',
        b'{"type": "cancel", "id": true}',
        b'{"type": "cancel", "id": 1.0}',
        b'{"type": "cancel"}',
        b'{"type": "generate", "id": 1, "seed": 1, "messages": [{"role": "root", "content": "x"}]}',
        b'{"type": "generate", "id": 1, "seed": 1, "messages": [["user", "x"]]}',
        b'{"type": "generate", "id": 1, "seed": 1, "messages": [], "stop": "x"}',
        b'{"type": "generate", "id": 1, "seed": 1, "messages": [], "sampling": {"logit_bias": [[1.0, 1]]}}',
        b'{"type": "generate", "id": 1, "seed": 1, "messages": [], "sampling": {"logit_bias": [[null, 1]]}}',
        b'{"type": "generate", "id": 1, "seed": 1, "messages": [], "sampling": {"logit_bias": [[1, "0"]]}}',
        b'{"type": "generate", "id": 1, "seed": 1, "messages": [], "sampling": {"temperature": 1'
        + b"0" * 400
        + b"}}",
    ],
)
def test_anything_else_is_a_protocol_error(line: bytes) -> None:
    for decode in (decode_command, decode_event):
        with pytest.raises(ProtocolError):
            decode(line)


@pytest.mark.parametrize(
    "line",
    [
        b'{"type": "' + b"x\\n" * 10_000 + b'"}',
        b'{"type": "load", "main": "m", "cache_type": "' + b"x\\n" * 10_000 + b'"}',
        b'{"type": "load", "main": "m", "folders": [' + b'"a", ' * 10_000 + b"1]}",
        b'{"type": "load", "main": ' + b"[" * 10_000,
        b"\xff" * 10_000,
    ],
    ids=range(5),
)
def test_a_refusal_is_one_short_line(line: bytes) -> None:
    with pytest.raises(ProtocolError) as rejected:
        decode_command(line)
    assert len(str(rejected.value)) <= 200
    assert str(rejected.value).isprintable()


def test_nesting_of_any_depth_is_a_protocol_error() -> None:
    for depth in (10, 100, *range(900, 1010), 100_000):
        for line in (
            b"[" * depth + b"]" * depth,
            b'{"type": "cancel", "id": ' + b"[" * depth + b"]" * depth + b"}",
            b'{"type": ' + b'{"a":' * depth + b"1" + b"}" * depth + b"}",
        ):
            with pytest.raises(ProtocolError):
                decode_command(line)


@pytest.mark.parametrize("place", [2, 4, 8])
@pytest.mark.parametrize("count", [-1, -(10**300), 2**63, 10**300])
def test_what_an_engine_counts_is_neither_negative_nor_without_end(place: int, count: int) -> None:
    row: list[Any] = [[["text", 0]], [1], 0, 0, 0, 0.1, 0.0, 0.1, 1]
    line = {"type": "rounds", "id": 1, "rounds": [row]}
    decode_event(json.dumps(line).encode())
    row[place] = count
    with pytest.raises(ProtocolError):
        decode_event(json.dumps(line).encode())


@pytest.mark.parametrize("seconds", [math.nan, math.inf, -math.inf, 1e308, 1e19])
def test_a_time_is_a_number_that_can_be_added_up(seconds: float) -> None:
    line = {"type": "finished", "id": 1, "reason": "stop", "statistics": {"seconds": seconds}}
    with pytest.raises(ProtocolError):
        decode_event(json.dumps(line).encode())


def test_ids_and_layers_may_be_negative() -> None:
    for message in (protocol.Downloading(-6, "m.gguf", 5, 9), protocol.Busy(-1, 1, 2)):
        assert decode_event(encode(message)) == message
