"""What a slow line leaves of Outrider: the whole app inside ssh, and the engine alone by ssh.

    python -m tools.bench.slow_line [--keys 15]

Needs openssh-server, openssh-client and root. Each line has its rate, and its delay on both ways together.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from statistics import median

from tests.support.slow_line import SlowLine, keys_while_streaming
from tests.support.sshd import Server
from tests.support.terminal import Terminal

PLAIN = "[generation]\ndraft_length = 0\n[models]\ncontext_length = 65536\n"


def report(name: str, waits: list[float]) -> None:
    ordered = sorted(waits)
    print(
        f"{name}: key to screen {1000 * median(waits):.0f} ms (median), {1000 * ordered[-1]:.0f} ms (most)",
        flush=True,
    )


def whole_app(server: Server, output: str, keys: int, rate: float, delay: float) -> None:
    with SlowLine(server.port, rate, delay / 2) as line:
        server.configure(port=line.port)
        config = server.home / "config" / "outrider"
        config.mkdir(parents=True, exist_ok=True)
        (config / "config.toml").write_text(f'[appearance]\noutput = "{output}"\n{PLAIN}')
        command = ["ssh", "-t", "gpu", f"{server.program} --main 'scripted:sample?rate=100&tokens=60000'"]
        with Terminal(command, rows=40, columns=120, env={"PATH": server.path}) as terminal:
            waits, carried = keys_while_streaming(terminal, line, keys, 8)
            report(f"the app in ssh, {output} output, {carried / 1000:.1f} KB/s on the line", waits)


def engine_alone(server: Server, keys: int, rate: float, delay: float, tokens_per_second: int) -> None:
    with SlowLine(server.port, rate, delay / 2) as line, tempfile.TemporaryDirectory() as folder:
        server.configure(port=line.port)
        config = Path(folder) / "outrider"
        config.mkdir()
        entry = f'gpu = {{ address = "gpu", program = "{server.program}" }}'
        (config / "config.toml").write_text(f"[hosts]\n{entry}\n{PLAIN}")
        env = dict.fromkeys(("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME"), folder)
        main = f"scripted:sample?rate={tokens_per_second}&tokens=60000"
        command = [sys.executable, "-m", "tui", "--host", "gpu", "--main", main]
        with Terminal(command, rows=40, columns=120, env=env | {"PATH": server.path}) as terminal:
            waits, carried = keys_while_streaming(terminal, line, keys, 8)
            name = f"the engine by ssh, {carried / tokens_per_second:.0f} bytes a token on the line"
            report(name, waits)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=15)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder))
        try:
            for rate, delay in ((40_000, 0.15), (125_000, 0.08)):
                print(f"{rate / 1000:.0f} KB/s, {1000 * delay:.0f} ms, 100 tokens/s", flush=True)
                for output in ("lean", "stock"):
                    whole_app(server, output, options.keys, rate, delay)
            print("125 KB/s, 80 ms, 50 tokens/s")
            engine_alone(server, options.keys, 125_000, 0.08, 50)
        finally:
            server.close()


if __name__ == "__main__":
    main()
