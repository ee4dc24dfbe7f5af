"""What every view shares: pagination and the reading of a request by a serializer."""

from __future__ import annotations

from rest_framework.pagination import PageNumberPagination


class Pages(PageNumberPagination):
    """``{"count", "next", "previous", "results"}``; ``?page=`` and ``?page_size=`` (at most 200)."""

    page_size = 25
    page_size_query_param = "page_size"
    max_page_size = 200
