"""An engine that does what no engine should, as a seed has it. Run as a program; imports nothing of ours.

python chaos_engine.py COUNTER PROTOCOL: the seed is how often it was started
"""

import json
import os
import random
import sys
import time
from pathlib import Path

counter = Path(sys.argv[1])
seed = int(counter.read_text()) if counter.exists() else 0
counter.write_text(str(seed + 1))
chance = random.Random(seed)
PLACE = chance.choice(("before", "load", "answer", "answer", "answer", "after", "nowhere"))
MODEL = {"name": "chaos", "path": "", "architecture": "none", "parameters": 0, "quantization": "none",
         "size": 0, "context_length": 0, "vocabulary": 0}  # fmt: skip
WORDS = [f"w{number} " for number in range(40)]


def write(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def send(kind: str, **more: object) -> None:
    write(json.dumps({"type": kind, **more}, separators=(",", ":")).encode() + b"\n")


def row(text: str) -> list[object]:
    return [[[text, 0]], [1], 0, 0, 0, 0.1, 0.0, 0.1, 1]


def rounds(number: int, *texts: str) -> bytes:
    line = {"type": "rounds", "id": number, "rounds": [row(text) for text in texts]}
    return json.dumps(line, separators=(",", ":")).encode() + b"\n"


def wrong() -> object:
    return chance.choice(
        [None, True, -1, 1e308, float("nan"), "WRONG", [], {}, [[["WRONG", 0]]], {"id": "WRONG"}, 10**30]
    )


def misbehave(number: int) -> None:
    """One thing that is wrong; most of them must end the engine, some are to be ignored."""
    valid = rounds(number, "WRONG ")
    match chance.randrange(14):
        case 0:
            write(chance.randbytes(chance.randint(1, 3000)) + b"\n")
        case 1:
            write(valid[: chance.randint(1, len(valid) - 2)] + b"\n")
        case 2:  # half a line, and the end
            write(valid[: chance.randint(1, len(valid) - 2)])
            os._exit(chance.choice((0, 1, 3)))
        case 3:  # what is still an event after this says nothing
            line = json.loads(rounds(number, ""))
            line[chance.choice(list(line))] = wrong()
            write(json.dumps(line).encode() + b"\n")
        case 4:
            line = json.loads(rounds(number, ""))
            happened = line["rounds"][0]
            happened[chance.randrange(len(happened))] = wrong()
            write(json.dumps(line).encode() + b"\n")
        case 5:  # of another answer, of no answer
            for other in (number + 1, number - 1, 0, -7, 2**70):
                write(rounds(other, "WRONG "))
        case 6:
            for other in (number + 1, number - 1, -7):
                send("finished", id=other, reason="stop", statistics={})
                send("failed", id=other, message="WRONG")
        case 7:
            for _ in range(100):
                write(b"x" * (1 << 20))
            write(b"\n")
        case 8:
            write(
                b'{"type":"rounds","id":%d,"rounds":[[[["\xff\xfe\x80 WRONG",0]],[1],0,0,0,0,0,0,1]]}\n'
                % number
            )
        case 9:
            while True:
                time.sleep(60)
        case 10:
            write(b"\n" * chance.randint(1, 100))
        case 11:
            os.kill(os.getpid(), chance.choice((6, 9, 11, 15)))
        case 12:
            os.close(1)
            while True:
                time.sleep(60)
        case 13:
            write(b"[" * 200_000 + b"\n")


def main() -> None:
    if PLACE == "before":
        misbehave(1)
    send("hello", protocol=int(sys.argv[2]), version="chaos", pid=os.getpid())
    for text in sys.stdin.buffer:
        command = json.loads(text)
        if command["type"] == "ping":
            send("pong")
        elif command["type"] == "quit":
            return
        elif command["type"] == "load":
            if PLACE == "load":
                misbehave(0)
            send("loaded", main=MODEL, draft=None, obstacle=None, backend="chaos", device="none",
                 context_length=100, plain_tokens_per_second=None, seconds=0.0)  # fmt: skip
        elif command["type"] == "generate":
            number, bad = command["id"], chance.randrange(len(WORDS))
            for place, word in enumerate(WORDS):
                if PLACE == "answer" and place == bad:
                    misbehave(number)
                write(rounds(number, word))
            send("finished", id=number, reason="stop", statistics={})
            if PLACE == "after":
                misbehave(number)


main()
