"""Views that take files in a form."""

from __future__ import annotations

from typing import Any

from rest_framework.request import Request

from hub.accounts.actor import require_somewhere
from hub.accounts.models import Role


class EditorsUpload:
    """Asks who sends a POST before its body is read; the workspace may be named in the body alone."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)  # type: ignore[misc]
        if request.method == "POST":
            require_somewhere(request, Role.EDITOR)
