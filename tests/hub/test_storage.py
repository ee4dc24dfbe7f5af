"""Content-addressed blobs, in a folder and in a bucket.

The bucket is moto's: an S3 server on our own machine, as near as a test without a cloud can come. It checks that the
settings alone switch the storage and that reads can seek.
"""

from __future__ import annotations

import errno
import hashlib
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import SimpleUploadedFile

from hub.core.errors import TooLarge, UserError
from hub.core.storage import blob_name, intact, open_blob, put, stored_at
from tests.factories.accounts import Person
from tests.settings import TEST_DIR

CONTENT = [b"spar", b"se", b"wright" * 1000]
pytestmark = [pytest.mark.django_db, pytest.mark.any_database]  # files, buckets, disks; test_unused_files.py: rows
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


def _environment(folder: Path, **more: str) -> dict[str, str]:
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "SPARSEWRIGHT_DATA_DIR": str(folder),
        "SPARSEWRIGHT_DATABASE_URL": f"sqlite:///{TEST_DIR / 'unused.sqlite3'}",
        "PYTHONPATH": os.pathsep.join(sys.path),
        **more,
    }


def _with_bucket(program: str, endpoint: str, folder: Path) -> str:
    env = _environment(
        folder,
        SPARSEWRIGHT_S3_BUCKET="blobs",
        SPARSEWRIGHT_S3_ENDPOINT=endpoint,
        SPARSEWRIGHT_S3_REGION="eu-west-1",
        SPARSEWRIGHT_S3_ACCESS_KEY="key",
        SPARSEWRIGHT_S3_SECRET_KEY="secret",
        NO_PROXY="127.0.0.1,localhost",
    )
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


USE = f"""
import time
import django; django.setup()
from django.core.files.storage import storages
from hub.core import storage
from hub.core.storage import open_blob, put
assert type(storages["default"]).__name__ == "BucketStorage"
sha, size = put({CONTENT!r}, max_bytes=10_000)
first = storage.stored_at(sha)
time.sleep(1.1)  # a bucket's times are whole seconds
put({CONTENT!r}, max_bytes=10_000)
((listed, when, length),) = storage.stored()
assert (listed, length) == (sha, size) and first < when == storage.stored_at(sha)
assert b"".join(storage.read(sha, 4, 8)) == b"sewright" and b"".join(storage.read(sha, 6000)) == b"wright"
assert storage.intact(sha, size) and not storage.intact(sha, size + 1) and not storage.intact("0" * 64, 1)
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
    assert _with_bucket(USE, bucket, tmp_path).split() == [SHA, "6006", "sewright", "absent", "None"]
    assert not list(tmp_path.iterdir())


ONE_BYTE = """
import resource
import django; django.setup()
from hub.core import storage
size = 64 * 2**20
sha, _ = storage.put((b"\\1" * 2**20 for _ in range(64)), max_bytes=size)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
body = storage.read(sha, size - 1, 1)
assert int(body.stream._content_length) == 1 and list(body) == [b"\\1"]
with storage.open_blob(sha) as file:
    file.seek(size - 1)
    file.read(1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_one_byte_of_a_large_object_costs_one_byte(bucket: str, tmp_path: Path) -> None:
    """A Range request once read the whole object into memory."""
    done = _with_bucket(ONE_BYTE, bucket, tmp_path)
    assert int(done) < 48 * 1024, "KiB"


TORN = """
import os, signal, sys
import django; django.setup()
from django.core.files.storage import default_storage
from hub.core import storage
from hub.core.folder import shutil

def killed(source, target, length):
    target.write(source.read(1000))
    target.flush()
    os.kill(os.getpid(), signal.SIGKILL)

shutil.copyfileobj = killed
storage.put([b"x" * 5000], max_bytes=10_000)
"""


def test_a_process_killed_in_the_middle_leaves_no_blob(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", TORN], env=_environment(tmp_path), capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr[-3000:]
    files = [path for path in (tmp_path / "files").rglob("*") if path.is_file()]
    assert [path.parent.name for path in files] == ["incoming"]
    os.utime(files[0], (0, 0))
    sweep = "import django; django.setup()\nfrom datetime import timedelta\nfrom hub.core import storage\n"
    sweep += "storage.forget_unfinished(older=timedelta(days=1))"
    subprocess.run([sys.executable, "-c", sweep], env=_environment(tmp_path), check=True)
    assert not files[0].exists()


def test_a_full_disk_keeps_nothing_and_says_so(owner: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit on a file's size stands in for the disk's: writing fails in the middle, as on a full one."""
    content = b"text,label\n" + b"".join(b"row %d,a\nrow %d,b\n" % (row, -row) for row in range(2000))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            put([content], max_bytes=10**6)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    sha = hashlib.sha256(content).hexdigest()
    assert stored_at(sha) is None

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("hub.core.folder.shutil.copyfileobj", full)
    answer = owner.client.post(
        "/api/v1/datasets",
        {"file": SimpleUploadedFile("rows.csv", content)},
        format="multipart",
    )
    assert answer.status_code == 507
    assert answer.json()["error"]["code"] == "disk_full"
    assert stored_at(sha) is None
    monkeypatch.undo()
    assert put([content], max_bytes=10**6) == (sha, len(content))
    assert intact(sha, len(content))


def test_a_damaged_blob_is_not_believed_but_written_anew() -> None:
    sha, size = put(CONTENT, max_bytes=10_000)
    path = Path(default_storage.path(blob_name(sha)))
    for damaged in (path.read_bytes()[:100], b"\0" * size):
        path.write_bytes(damaged)
        assert not intact(sha, size)
        assert put(CONTENT, max_bytes=10_000) == (sha, size)
        assert intact(sha, size)
