"""What a user sees when a note cannot be sealed or opened: 503 and when to come back, or 500 and an id to report; never a note."""

from __future__ import annotations

import math
import random

from flask import Flask, Response, current_app, jsonify, request
from keyreeve import KeyreeveError

SECONDS = 2
"""Until a visitor should try again, if the error does not say."""


def register(app: Flask) -> None:
    app.register_error_handler(KeyreeveError, answer)


def answer(error: KeyreeveError) -> Response:
    """The error's text goes to the log: it names request id, reason and what to do, and no payload."""
    current_app.logger.error("%s %s: %s", request.method, request.path, error)
    if error.is_temporary:
        wait = error.retry_after or SECONDS
        response = jsonify(error="notes cannot be opened or saved at the moment", request_id=error.request_id)
        response.status_code = 503
        # Spread out, or everybody is back in the same second.
        response.headers["Retry-After"] = str(math.ceil(wait * random.uniform(1, 2)))  # noqa: S311
        return response
    response = jsonify(error="this note cannot be opened or saved", request_id=error.request_id)
    response.status_code = 500
    return response
