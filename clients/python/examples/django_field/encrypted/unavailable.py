"""What a visitor sees when a value could not be encrypted or opened: 503 where trying again helps, 500 otherwise; never a value."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from keyreeve import KeyreeveError

log = logging.getLogger(__name__)

SECONDS = 5
"""To wait, if the error does not say."""


class TryLater:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self._get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        if not isinstance(error, KeyreeveError):
            return None
        log.error("%s %s: %s", request.method, request.path, error)
        if not error.is_temporary:
            return HttpResponse(f"this cannot be shown: request {error.request_id}", status=500)
        wait = math.ceil(error.retry_after or SECONDS)
        return HttpResponse("try again in a moment", status=503, headers={"Retry-After": str(wait)})
