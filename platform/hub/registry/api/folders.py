"""Forms whose files keep their folders."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

from django.http.multipartparser import MultiPartParser as DjangoParser
from django.http.multipartparser import MultiPartParserError
from rest_framework.exceptions import ParseError
from rest_framework.parsers import DataAndFiles, MultiPartParser

from pst.messages import Message


class _Parser(DjangoParser):
    """Django keeps the last part of a file's name; here the rest stays with the file, as its ``path``."""

    _path = ""

    def sanitize_file_name(self, file_name: str) -> str | None:
        parts = html.unescape(file_name).replace("\\", "/").split("/")
        self._path = "/".join(part for part in parts if part not in {"", "."})
        return super().sanitize_file_name(file_name)

    def handle_file_complete(self, old_field_name: str, counters: list[int]) -> None:
        super().handle_file_complete(old_field_name, counters)
        self._files.getlist(old_field_name)[-1].path = self._path  # type: ignore[attr-defined]


class FolderParser(MultiPartParser):
    def parse(
        self, stream: Any, media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> DataAndFiles[Any, Any]:
        request = (parser_context or {})["request"]
        meta = {**request.META, "CONTENT_TYPE": media_type}
        try:
            return DataAndFiles(*_Parser(meta, stream, request.upload_handlers, request.encoding).parse())
        except MultiPartParserError as error:
            raise ParseError(Message("Multipart form parse error - {error}", error=error)) from None
