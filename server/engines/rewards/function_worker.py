"""The process of one reward function: `python -m server.engines.rewards.function_worker MODULE:NAME PARENT`.

It reads a line of JSON for each call, [arguments, keywords], and writes one: {"rewards": [...]} or {"error": "..."}.
The first line that it writes says that the function is imported.
"""

import json
import os
import sys
from typing import Any

from decoders.errors import RewardFailed
from server.engines.parent_process import be_killed_with_thread
from server.engines.rewards.function_call import RewardCall
from server.engines.rewards.function_reward import import_function
from server.settings import SettingsError


def main(name: str, parent: int) -> None:
    be_killed_with_thread(parent)
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # what the function prints is no answer

    def answer(**fields: Any) -> None:
        answers.write(json.dumps(fields) + "\n")
        answers.flush()

    try:
        function = RewardCall(import_function(name), None)
    except SettingsError as error:
        answer(error=str(error))
        return
    answer(rewards=[])
    for line in sys.stdin:
        arguments, keywords = json.loads(line)
        try:
            rewards = function.call(arguments, keywords)
        except RewardFailed as error:
            answer(error=str(error), public=error.public)
        except Exception as error:
            answer(error=f"{type(error).__name__}: {error}")
        else:
            answer(rewards=rewards)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
