"""Child processes that answer one line of JSON with another, for engines that are measured without a server."""

import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from evaluation.support.servers import process

Json = dict[str, Any]
_MARK = ">"  # starts each line of an answer, since libraries print lines of their own


@dataclass(frozen=True)
class JsonChild:
    """The parent's end of the pipes."""

    program: str
    log: Path
    stdin: IO[str]
    stdout: IO[str]

    def ask(self, request: Json) -> Json:
        """Send `request` and wait for its answer."""
        self.stdin.write(json.dumps(request) + "\n")
        self.stdin.flush()
        return self.read()

    def read(self) -> Json:
        """Wait for the next answer; SystemExit with the end of the log if the child ends first."""
        for line in self.stdout:
            if line.startswith(_MARK):
                answer: Json = json.loads(line.removeprefix(_MARK))
                return answer
        raise SystemExit(f"{self.program} ended:\n{self.log.read_text()[-3000:]}")


@contextmanager
def json_child(program: str, argument: Json, log: Path, **environment: str) -> Iterator[JsonChild]:
    """Run the module `program` while the block runs; yield at once, while it still starts.

    Args:
        program: a module's name; its `main` reads `argument` and calls `answer_lines`.
        argument: what the program gets as JSON on its command line.
        log: the file that its standard error goes to.
        environment: variables to set besides this process's own.
    """
    with process([sys.executable, "-m", program, json.dumps(argument)], log, **environment) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        yield JsonChild(program, log, child.stdin, child.stdout)


def argument_of_child() -> Json:
    """Return, in the child, the `argument` that `json_child` was called with."""
    argument: Json = json.loads(sys.argv[1])
    # Exit in the ordinary way at SIGTERM, so that engines end their own processes too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    return argument


def answer_lines(answer: Callable[[Json], Json]) -> None:
    """Answer, in the child, each line of standard input until it is closed."""
    for line in sys.stdin:
        say(answer(json.loads(line)))


def say(answer: Json) -> None:
    """Write one answer."""
    print("\n" + _MARK + json.dumps(answer), flush=True)
