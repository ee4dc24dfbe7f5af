"""Django settings of the tests: the product's own, with throw-away folders and services started by conftest.py."""

import os
import tempfile
from pathlib import Path

from embedded.services import Valkey

# A short path: a Unix socket's name may have 107 bytes. Readable by PostgreSQL's user when the tests run as root.
TEST_DIR = Path(tempfile.mkdtemp(prefix="swt-"))
TEST_DIR.chmod(0o755)
VALKEY = Valkey(TEST_DIR)
USE_POSTGRES = os.environ.get("SPARSEWRIGHT_TEST_POSTGRES") == "1"

for name in [name for name in os.environ if name.startswith("SPARSEWRIGHT_")]:
    if name not in {
        "SPARSEWRIGHT_AUTHORS_LAYER",
        "SPARSEWRIGHT_DATA",
        "SPARSEWRIGHT_MINILM",
        "SPARSEWRIGHT_MPNET",
        "SPARSEWRIGHT_SMOLLM2",
        "SPARSEWRIGHT_TEST_POSTGRES",
    }:
        del os.environ[name]
os.environ |= {
    "SPARSEWRIGHT_SECRET_KEY": "the tests' key, used nowhere else, 0123456789abcdefghijklmnop",
    "SPARSEWRIGHT_ALLOWED_HOSTS": "testserver,127.0.0.1,localhost",
    "SPARSEWRIGHT_DATA_DIR": str(TEST_DIR / "data"),
    "SPARSEWRIGHT_DATABASE_URL": (
        f"postgresql://sparsewright@/postgres?host={TEST_DIR / 'pg'}"
        if USE_POSTGRES
        else f"sqlite:///{TEST_DIR / 'db.sqlite3'}"
    ),
    "SPARSEWRIGHT_REDIS_URL": VALKEY.platform_url,
    "SPARSEWRIGHT_SETUP_CODE": "let-me-in",
    "SPARSEWRIGHT_LOG_LEVEL": "WARNING",
    "SPARSEWRIGHT_THROTTLE_USER": "100000/min",
    "SPARSEWRIGHT_THROTTLE_ANONYMOUS": "100000/min",
    "SPARSEWRIGHT_THROTTLE_SIGN_IN": "100000/min",
}

from config.settings import *  # noqa: E402, F403

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # fast; the tests make many users
if USE_POSTGRES:
    # Else the threads of live servers still hold the database when it is to be dropped.
    DATABASES["default"]["CONN_MAX_AGE"] = 0  # noqa: F405
else:
    # A file, not memory: live-server threads and the test share it.
    DATABASES["default"]["TEST"] = {"NAME": str(TEST_DIR / "test.sqlite3")}  # noqa: F405
