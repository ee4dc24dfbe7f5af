"""Django settings of every way to run: embedded, compose, Helm, tests. Values come from the environment (env.py)."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import structlog
from django.core.exceptions import ImproperlyConfigured

from config import env

BASE_DIR = Path(__file__).resolve().parents[2]
DATA_DIR = Path(env.text("DATA_DIR", str(BASE_DIR / ".data"))).resolve()

DEBUG = env.flag("DEBUG")
SECRET_KEY = env.text("SECRET_KEY")
if not SECRET_KEY:
    if not DEBUG:
        raise ImproperlyConfigured(
            "Set SPARSEWRIGHT_SECRET_KEY to a long random text (or SPARSEWRIGHT_DEBUG=1 to try)."
        )
    SECRET_KEY = "debug-only-" + "0" * 50  # refused above unless DEBUG is set
ALLOWED_HOSTS = env.words(
    "ALLOWED_HOSTS", "127.0.0.1,localhost,[::1],testserver" if DEBUG else "127.0.0.1,localhost,[::1]"
)
CSRF_TRUSTED_ORIGINS = env.words("TRUSTED_ORIGINS")

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "rest_framework",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_structlog",
    "hub.accounts",
    "hub.datasets",
    "hub.registry",
    "hub.serving",
    "jobs",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "hub.core.headers.ContentSecurityPolicyMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django_structlog.middlewares.RequestMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "hub.core.bodies.BodyLimitMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "config.urls"
APPEND_SLASH = False
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

DATABASES = {
    "default": env.database(env.text("DATABASE_URL", f"sqlite:///{quote(str(DATA_DIR / 'sparsewright.sqlite3'))}"))
}
# The API answers in these, as Accept-Language asks; everything that is stored or logged is English.
LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("zh-hans", "简体中文")]
LOCALE_PATHS = [Path(__file__).parents[1] / "locale"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_USER_MODEL = "accounts.User"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

REDIS_URL = env.text("REDIS_URL", "redis://127.0.0.1:6379/0")
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        # redis-py says unix:// where Celery says redis+socket://.
        "LOCATION": REDIS_URL.replace("redis+socket://", "unix://", 1),
        # Redis grants by these prefixes: of all this a worker may touch only its own (docs/guides/production.md).
        "KEY_PREFIX": "cache",
        "OPTIONS": {"serializer": "hub.core.cache.JSONSerializer", "socket_connect_timeout": 5, "socket_timeout": 10},
    }
}

CELERY_BROKER_URL = REDIS_URL
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_DEFAULT_QUEUE = "platform"
CELERY_WORKER_ENABLE_REMOTE_CONTROL = False
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_ACKS_LATE = False
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "socket_connect_timeout": 5,
    "retry_on_timeout": True,
    "global_keyprefix": "platform:",
}
CELERY_BEAT_SCHEDULE_FILENAME = str(DATA_DIR / "beat-schedule")
CELERY_BEAT_SCHEDULE = {
    "jobs.reap": {"task": "jobs.reap", "schedule": timedelta(seconds=env.integer("REAPER_SECONDS", 5))},
    "webhooks.sweep": {"task": "webhooks.sweep", "schedule": timedelta(seconds=10)},
    "webhooks.forget": {"task": "webhooks.forget", "schedule": timedelta(hours=6)},
    "datasets.sweep": {"task": "datasets.sweep", "schedule": timedelta(seconds=30)},
    "uploads.sweep": {"task": "uploads.sweep", "schedule": timedelta(minutes=10)},
    "files.sweep": {"task": "files.sweep", "schedule": timedelta(hours=6)},
}

# Files lie under their sha256 in the default storage: a folder, or a bucket.
if env.text("S3_BUCKET"):
    from botocore.config import Config  # heavy, and needed here alone

    blob_storage: dict[str, Any] = {
        "BACKEND": "hub.core.bucket.BucketStorage",
        "OPTIONS": {
            "bucket_name": env.text("S3_BUCKET"),
            "endpoint_url": env.text("S3_ENDPOINT") or None,
            "region_name": env.text("S3_REGION") or None,
            "access_key": env.text("S3_ACCESS_KEY") or None,
            "secret_key": env.text("S3_SECRET_KEY") or None,
            "addressing_style": env.text("S3_ADDRESSING", "auto"),
            "file_overwrite": True,
            "default_acl": None,
            # A file that is opened to be sought in goes to the disk past this, not into memory.
            "max_memory_size": 8 * 1024 * 1024,
            "client_config": Config(connect_timeout=5, read_timeout=30, retries={"max_attempts": 3}),
        },
    }
else:
    blob_storage = {
        "BACKEND": "hub.core.folder.FolderStorage",
        "OPTIONS": {"location": str(DATA_DIR / "files"), "file_permissions_mode": 0o640},
    }
STORAGES = {
    "default": blob_storage,
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
STATIC_URL = "/static/"
FRONTEND_DIR = Path(env.text("FRONTEND_DIR", str(BASE_DIR / "frontend" / "dist")))
# Straight from the packages: nothing to collect.
WHITENOISE_USE_FINDERS = True
# What the frontend's build names by its content, compressed beforehand; config.spa answers for all other addresses.
WHITENOISE_ROOT = FRONTEND_DIR if FRONTEND_DIR.is_dir() else None
WHITENOISE_IMMUTABLE_FILE_TEST = r"^/assets/"
WHITENOISE_ALLOW_ALL_ORIGINS = False
FILE_UPLOAD_TEMP_DIR = env.text("UPLOAD_TEMP_DIR") or None
DATA_UPLOAD_MAX_MEMORY_SIZE = 2 * 1024 * 1024

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "hub.accounts.authentication.TokenAuthentication",
        "hub.accounts.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["hub.accounts.permissions.IsMember"],
    "DEFAULT_PAGINATION_CLASS": "hub.core.pagination.Pages",
    "DEFAULT_FILTER_BACKENDS": [
        "django_filters.rest_framework.DjangoFilterBackend",
        "rest_framework.filters.OrderingFilter",
    ],
    "DEFAULT_SCHEMA_CLASS": "hub.core.schema.Schema",
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": [
        "hub.core.parsers.JSONParser",
        "rest_framework.parsers.MultiPartParser",
        "rest_framework.parsers.FormParser",
    ],
    "DEFAULT_THROTTLE_CLASSES": ["hub.accounts.throttles.UserThrottle", "hub.accounts.throttles.AnonymousThrottle"],
    "DEFAULT_THROTTLE_RATES": {
        "user": env.text("THROTTLE_USER", "1200/min"),
        "anonymous": env.text("THROTTLE_ANONYMOUS", "120/min"),
        "sign_in": env.text("THROTTLE_SIGN_IN", "20/min"),
    },
    "EXCEPTION_HANDLER": "hub.core.errors.exception_handler",
    "NUM_PROXIES": env.integer("PROXIES", 0),
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Sparsewright API",
    "DESCRIPTION": "Upload rows, name a sparsity or a budget, get a sparse model that serving nodes pull.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_ADD_EXPLICIT_BLANK_NULL_CHOICE": False,
    "ENUM_NAME_OVERRIDES": {
        "Role": "hub.accounts.models.Role",
        "TokenKind": "hub.accounts.models.TokenKind",
        "WebhookEvent": "hub.accounts.api.webhooks.EVENTS",
        "DeliveryState": "hub.accounts.models.DeliveryState",
        "NewTokenKind": "hub.accounts.api.tokens.KINDS",
        "DatasetState": "hub.datasets.models.DatasetState",
        "Split": "hub.datasets.models.Split",
        "DatasetFormat": "hub.datasets.api.serializers.READ",
        "DatasetReadAs": "hub.datasets.api.serializers.READ_AS",
        "DatasetEncodedAs": "hub.datasets.api.serializers.ENCODED_AS",
        "DatasetHeader": "hub.datasets.api.serializers.HEADER",
        "ModelKind": "hub.registry.models.ModelKind",
        "NodeKind": "hub.serving.models.NodeKind",
        "HeldState": "hub.serving.models.HeldState",
    },
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
}

# What a user may send.
JSON_MAX_BYTES = env.integer("JSON_MAX_BYTES", 8 * 1024 * 1024)
UPLOAD_MAX_BYTES = env.integer("UPLOAD_MAX_BYTES", 200 * 1024 * 1024)
# Files on their way in pieces; where several web processes share the load they must share this folder.
UPLOAD_DIR = Path(env.text("UPLOAD_DIR", str(DATA_DIR / "uploads")))
UPLOAD_HOURS = env.integer("UPLOAD_HOURS", 24)
# Files that nothing refers to any more rest so long: the longest that may pass from storing one to referring to it.
UNUSED_FILE_DAYS = env.integer("UNUSED_FILE_DAYS", 7)
DATASET_MAX_ROWS = env.integer("DATASET_MAX_ROWS", 200_000)
DATASET_MAX_COLUMNS = env.integer("DATASET_MAX_COLUMNS", 200)
DATASET_MAX_CELL_CHARS = env.integer("DATASET_MAX_CELL_CHARS", 20_000)
DATASET_MAX_CLASSES = env.integer("DATASET_MAX_CLASSES", 1_000)
BASE_MODEL_MAX_BYTES = env.integer("BASE_MODEL_MAX_BYTES", 200 * 1024**3)
# Fetching a model by name from the public Hub is a user's explicit wish; an installation can forbid it.
ALLOW_PUBLIC_MODELS = env.flag("ALLOW_PUBLIC_MODELS", True)

# What a workspace names, receivers of webhooks and its own serving nodes, is called at public addresses only, unless an
# installation has such in its own network.
ALLOW_PRIVATE_ADDRESSES = env.flag("ALLOW_PRIVATE_ADDRESSES")

# How jobs and nodes are watched.
LEASE_SECONDS = env.integer("LEASE_SECONDS", 30)
JOB_MAX_ATTEMPTS = env.integer("JOB_MAX_ATTEMPTS", 2)
JOB_RING_AGAIN_SECONDS = env.integer("JOB_RING_AGAIN_SECONDS", 30)
NODE_HEARTBEAT_SECONDS = env.integer("NODE_HEARTBEAT_SECONDS", 5)
NODE_OFFLINE_SECONDS = env.integer("NODE_OFFLINE_SECONDS", 20)

# Base64 of the 32 private bytes of the Ed25519 key that signs manifests; empty: DATA_DIR/signing.key, made when needed.
SIGNING_KEY = env.text("SIGNING_KEY")

# Whoever knows this code may make the first owner; empty: only `manage.py createsuperuser` can.
SETUP_CODE = env.text("SETUP_CODE")

SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = env.flag("HTTPS")
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
if env.flag("HTTPS"):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_HSTS_SECONDS = 31_536_000

LOG_FORMAT = env.text("LOG_FORMAT", "console")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "structlog": {
            "()": structlog.stdlib.ProcessorFormatter,
            "foreign_pre_chain": [
                structlog.contextvars.merge_contextvars,
                structlog.stdlib.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
            ],
            "processor": structlog.processors.JSONRenderer()
            if LOG_FORMAT == "json"
            # Plain tracebacks: the default ones print local variables, and with them passwords and tokens.
            else structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
        }
    },
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "structlog"}},
    "root": {"handlers": ["console"], "level": env.text("LOG_LEVEL", "INFO")},
    "loggers": {"django.server": {"handlers": ["console"], "propagate": False}},
}
structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.filter_by_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
    ],
    logger_factory=structlog.stdlib.LoggerFactory(),
    cache_logger_on_first_use=True,
)
