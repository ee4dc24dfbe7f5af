"""Reading JSON bodies: at most so many bytes, not nested without end, no characters that a database cannot hold."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import IO, Any

from django.conf import settings
from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser

from hub.core.errors import TooLarge
from hub.core.language import say
from pst.messages import Message

# Escapes of NUL and of surrogates: the only way into a JSON text for characters that PostgreSQL or UTF-8 refuse.
SUSPECT = re.compile(rb"\\u(0000|[dD][89a-fA-F][0-9a-fA-F]{2})")


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


class JSONParser(BaseParser):
    media_type = "application/json"

    def parse(
        self, stream: IO[bytes], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        """The body's value. Raises TooLarge and ParseError (400)."""
        limit: int = settings.JSON_MAX_BYTES
        raw = stream.read(limit + 1)
        if len(raw) > limit:
            raise TooLarge(Message("A JSON body may have at most {limit:,} bytes.", limit=limit))
        try:
            value = json.loads(raw, parse_constant=_refuse_constant)
            if SUSPECT.search(raw):
                text = json.dumps(value, ensure_ascii=False)
                text.encode()
                if "\\u0000" in text.replace("\\\\", ""):
                    raise ValueError("a text holds a NUL character")
        except UnicodeEncodeError:
            raise ParseError(say(Message("The body is not valid JSON: a text holds half a surrogate pair."))) from None
        except RecursionError:
            raise ParseError(say(Message("The body is not valid JSON: it is nested too deeply."))) from None
        except ValueError as error:
            raise ParseError(say(Message("The body is not valid JSON: {error}.", error=error))) from None
        return value
