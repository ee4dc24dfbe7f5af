"""Content-addressed blobs, in a folder and in a bucket.

The bucket is moto's: an S3 server on our own machine, as near as a test without a cloud can come. It checks that the
settings alone switch the storage and that reads can seek.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.core.errors import TooLarge, UserError
from hub.core.storage import blob_name, open_blob, put
from tests.settings import TEST_DIR

CONTENT = [b"spar", b"se", b"wright" * 1000]
pytestmark = pytest.mark.django_db
SHA = hashlib.sha256(b"".join(CONTENT)).hexdigest()


def test_put_names_a_blob_by_its_content_and_open_reads_it() -> None:
    assert put(CONTENT, max_bytes=10_000) == (SHA, 6006)
    assert put(CONTENT, max_bytes=10_000, expected_sha256=SHA) == (SHA, 6006)
    with open_blob(SHA) as file:
        file.seek(4)
        assert file.read(8) == b"sewright"


def test_put_refuses_what_is_too_large_or_damaged() -> None:
    with pytest.raises(TooLarge, match="6,005 bytes"):
        put(CONTENT, max_bytes=6005)
    with pytest.raises(UserError, match="send the file again"):
        put([b"other"], max_bytes=100, expected_sha256=SHA)
    with pytest.raises(FileNotFoundError):
        open_blob("0" * 64)


@pytest.mark.parametrize("name", ["../../etc/passwd", "A" * 64, "0" * 63, ""])
def test_a_blob_has_no_other_name_than_a_sha256(name: str) -> None:
    with pytest.raises(ValueError, match="sha256"):
        blob_name(name)


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    import boto3  # here, since every process of the suite reads this file and one makes the bucket
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    client = boto3.client(
        "s3", endpoint_url=endpoint, region_name="eu-west-1", aws_access_key_id="key", aws_secret_access_key="secret"
    )
    client.create_bucket(Bucket="blobs", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    yield endpoint
    server.stop()


USE = f"""
import time
import django; django.setup()
from django.core.files.storage import storages
from hub.core import storage
from hub.core.storage import open_blob, put
assert type(storages["default"]).__name__ == "S3Storage"
sha, size = put({CONTENT!r}, max_bytes=10_000)
first = storage.stored_at(sha)
time.sleep(1.1)  # a bucket's times are whole seconds
put({CONTENT!r}, max_bytes=10_000)
((listed, when, length),) = storage.stored()
assert (listed, length) == (sha, size) and first < when == storage.stored_at(sha)
with open_blob(sha) as file:
    file.seek(4)
    print(sha, size, file.read(8).decode())
with storage.alone(sha):
    storage.delete(sha)
try:
    open_blob(sha)
except FileNotFoundError:
    print("absent", storage.stored_at(sha))
"""


def test_a_bucket_by_environment_alone(bucket: str, tmp_path: Path) -> None:
    env = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "SPARSEWRIGHT_DATA_DIR": str(tmp_path),
        "SPARSEWRIGHT_DATABASE_URL": f"sqlite:///{TEST_DIR / 'unused.sqlite3'}",
        "SPARSEWRIGHT_S3_BUCKET": "blobs",
        "SPARSEWRIGHT_S3_ENDPOINT": bucket,
        "SPARSEWRIGHT_S3_REGION": "eu-west-1",
        "SPARSEWRIGHT_S3_ACCESS_KEY": "key",
        "SPARSEWRIGHT_S3_SECRET_KEY": "secret",
        "NO_PROXY": "127.0.0.1,localhost",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = subprocess.run([sys.executable, "-c", USE], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == [SHA, "6006", "sewright", "absent", "None"]
    assert not list(tmp_path.iterdir())
