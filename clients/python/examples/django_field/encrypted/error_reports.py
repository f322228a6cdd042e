"""Error pages and error mails without values: Django's would show form fields, and the variables of every frame."""

from __future__ import annotations

from types import FrameType
from typing import Any

from django.http import HttpRequest
from django.views.debug import SafeExceptionReporterFilter


class NamesOnly(SafeExceptionReporterFilter):
    """Names of form fields and variables stay. With DEBUG too: error pages are pasted into tickets."""

    def get_post_parameters(self, request: HttpRequest | None) -> dict[str, Any]:
        return {} if request is None else dict.fromkeys(request.POST, self.cleansed_substitute)

    def get_traceback_frame_variables(self, request: Any, tb_frame: FrameType) -> Any:
        return [(name, self.cleansed_substitute) for name in tb_frame.f_locals]
