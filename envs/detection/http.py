"""JSON to an endpoint and back, with limits."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping

from envs.types import Json, ToolError

MAX_ANSWER_BYTES = 1 << 20
TRIES = 3
PAUSE_SECONDS = 0.5
NO_ANSWER = ("the endpoint gave no answer", "the endpoint refused")
"""How the errors of an endpoint that answers nothing begin."""


def post(url: str, value: Mapping[str, Json], *, timeout: float) -> dict[str, Json]:
    """Send an object and read the object that answers.

    Tried again after a refused connection, a timeout or an error of the server, at most TRIES times in all.

    Raises:
        ToolError: no object came back.
    """
    if not url.startswith(("http://", "https://")):
        raise ToolError(f"{url}: expected a URL that begins with http:// or https://")
    request = urllib.request.Request(
        url, data=json.dumps(value).encode(), headers={"Content-Type": "application/json"}, method="POST"
    )
    for attempt in range(TRIES):
        if attempt:
            time.sleep(PAUSE_SECONDS * 2 ** (attempt - 1))
        try:
            with urllib.request.urlopen(request, timeout=timeout) as response:
                data = response.read(MAX_ANSWER_BYTES + 1)
            break
        except urllib.error.HTTPError as error:
            reason = f"status {error.code}"
            if error.code < 500 and error.code != 429:
                raise ToolError(f"{NO_ANSWER[1]}: {reason}") from error
        except OSError as error:
            reason = str(error)
    else:
        raise ToolError(f"{NO_ANSWER[0]}: {reason}")
    if len(data) > MAX_ANSWER_BYTES:
        raise ToolError(f"the endpoint's answer is longer than {MAX_ANSWER_BYTES >> 10} KiB")
    try:
        answer = json.loads(data)
    except ValueError as error:
        raise ToolError("the endpoint's answer is not JSON") from error
    if not isinstance(answer, dict):
        raise ToolError("the endpoint's answer is no JSON object")
    return answer
