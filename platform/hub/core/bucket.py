"""Files in an S3 bucket: an object is written whole or not at all."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import datetime, timedelta

from botocore.exceptions import ClientError
from storages.backends.s3 import S3Storage

from hub.core.streams import Reading


class BucketStorage(S3Storage):  # type: ignore[misc]  # django-storages has no types
    """A bucket writes an object whole or not at all; what was sent in part is the bucket's lifecycle rule to delete."""

    def renew(self, name: str) -> bool:
        return False  # only storing it again gives an object a new time

    def read(self, name: str, first: int, length: int | None) -> Reading:
        if length == 0:
            return Reading(io.BytesIO())
        last = "" if length is None else str(first + length - 1)
        wanted = {} if first == 0 and length is None else {"Range": f"bytes={first}-{last}"}
        try:
            body = self.bucket.Object(self._normalize_name(name)).get(**wanted)["Body"]
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                raise FileNotFoundError(name) from None
            raise
        return Reading(body)

    def listed(self, folder: str) -> Iterator[tuple[str, datetime, int]]:
        for item in self.bucket.objects.filter(Prefix=f"{folder}/"):
            yield item.key.rpartition("/")[2], item.last_modified, item.size

    def forget_unfinished(self, *, older: timedelta) -> None:
        pass

    def reachable(self) -> None:
        self.connection.meta.client.head_bucket(Bucket=self.bucket_name)
