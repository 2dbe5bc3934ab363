"""The load generator: wrk with a Lua script that POSTs, the same for every server, and what one run of it saw.

wrk keeps its connections open and sends the next request on each as soon as the answer to the last has come (closed loop). The
figures come from wrk's own `done` hook, not from parsing its text. One answer that is not 2xx, or one broken connection,
makes the whole sample worthless: `run` raises.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bench.processes import Process

_SCRIPT = """\
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.headers[ %(header)s ] = %(token)s
wrk.body = %(body)s
%(request)s
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('\\n@{"requests":%%d,"microseconds":%%d,"status":%%d,"broken":%%d,"p50":%%f,"p99":%%f}\\n',
    summary.requests, summary.duration, e.status, e.connect + e.read + e.write + e.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"""

# Each request makes another thing: its number, behind a tag that no other run has, takes the place of @ in path or body.
_COUNTED = """\
local number, path, body = 0, %(path)s, %(body)s
function request()
  number = number + 1
  local name = %(tag)s .. number
  return wrk.format("POST", (path:gsub("@", name)), nil, (body:gsub("@", name)))
end
"""


class Failed(RuntimeError):
    """Answers that are not 2xx, or broken connections: there is no figure."""


@dataclass(frozen=True)
class Work:
    """Requests to one path. An @ in path or body stands for a name that each request makes new."""

    path: str
    body: str
    items: int = 1  # of a batch

    @property
    def counted(self) -> bool:
        """Tell whether each request is another one."""
        return "@" in self.path or "@" in self.body


@dataclass(frozen=True)
class Endpoint:
    """Where load goes: the server's process, its address, and the header that carries the credential for a piece of work."""

    process: Process
    url: str
    header: Callable[[Work], tuple[str, str]]


@dataclass(frozen=True)
class Sample:
    """What one run of wrk saw. Latencies in milliseconds, CPU in milliseconds of the server for each request."""

    requests_per_second: float
    p50: float
    p99: float
    cpu: float
    cores: float
    requests: int = field(compare=False)


class Wrk:
    """Runs wrk; scripts are written to `folder`."""

    def __init__(self, program: str, folder: Path) -> None:
        self._program = program
        self._folder = folder
        self._runs = 0

    def run(self, at: Endpoint, work: Work, connections: int, seconds: float) -> Sample:
        """Send `work` for `seconds` (whole ones: wrk knows no others) over `connections` connections."""
        self._runs += 1
        script = self._folder / f"wrk-{self._runs}.lua"
        script.write_text(self._script(at.header(work), work))
        command = [self._program, "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "20s"]
        before = at.process.cpu_seconds()
        run = subprocess.run([*command, "-s", str(script), at.url + work.path.replace("@", "x")], capture_output=True, text=True)
        cpu = at.process.cpu_seconds() - before
        script.unlink()
        line = next((line[1:] for line in run.stdout.splitlines() if line.startswith("@")), None)
        if run.returncode or line is None:
            raise Failed(f"wrk failed: {run.stderr.strip() or run.stdout.strip()}")
        seen = json.loads(line)
        if seen["status"] or seen["broken"] or not seen["requests"]:
            raise Failed(f"{seen['status']} answers of {seen['requests']} are not 2xx, {seen['broken']} broken connections")
        duration = seen["microseconds"] / 1e6
        return Sample(
            requests_per_second=seen["requests"] / duration,
            p50=seen["p50"] / 1000,
            p99=seen["p99"] / 1000,
            cpu=cpu * 1000 / seen["requests"],
            cores=cpu / duration,
            requests=seen["requests"],
        )

    def _script(self, header: tuple[str, str], work: Work) -> str:
        values = {"header": _lua(header[0]), "token": _lua(header[1]), "body": _lua(work.body)}
        values |= {"path": _lua(work.path), "tag": _lua(f"b{self._runs}-")}
        values["request"] = _COUNTED % values if work.counted else ""
        return _SCRIPT % values


def _lua(text: str) -> str:
    """Return a Lua string literal; base64 and JSON never hold the closing bracket."""
    return f"[==[{text}]==]"
