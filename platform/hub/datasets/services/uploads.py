"""Files that arrive in pieces: a connection that breaks costs what was in flight, and no more.

The file on the disk is the truth of how much has come; its lock keeps two connections from writing at once.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import IO
from uuid import UUID

import structlog
from django.conf import settings
from django.db import transaction
from django.http import UnreadablePostError
from django.utils import timezone

from hub.accounts.actor import Actor
from hub.accounts.models import Role, User, Workspace
from hub.core.errors import Conflict, NotFound, TooLarge, UserError
from hub.core.streams import chunks
from hub.core.sweeps import each
from hub.datasets.models import Upload
from pst.messages import Message

log = structlog.get_logger(__name__)

MOST = 20
"""Uploads that a user may have under way at once."""
SPARE_BYTES = 1024 * 1024 * 1024
"""What must stay free on the disk."""


class Locked(UserError):
    """Another connection writes to the same upload; its client asks again in a moment."""

    status = 423
    code = "locked"


def path_of(upload_id: UUID) -> Path:
    folder: Path = settings.UPLOAD_DIR
    return folder / f"{upload_id.hex}.part"


def received(upload: Upload) -> int:
    """How many bytes have arrived. Raises NotFound where the file is gone."""
    try:
        return path_of(upload.id).stat().st_size
    except FileNotFoundError:
        raise NotFound(Message("This upload is gone; begin it again.")) from None


def _lifetime() -> timedelta:
    return timedelta(hours=settings.UPLOAD_HOURS)


@transaction.atomic
def begin_upload(*, actor: Actor, workspace: Workspace, name: str, size: int) -> Upload:
    """Make room for a file of ``size`` bytes. Raises TooLarge, UserError, and Conflict for too many at once."""
    actor.require(workspace, Role.EDITOR)
    if actor.user is None:
        raise UserError(Message("Only a user can upload files."))
    if size < 1:
        raise UserError(
            Message("The file is empty."),
            details=[{"field": "Upload-Length", "message": Message("must be at least 1")}],
        )
    if size > settings.UPLOAD_MAX_BYTES:
        raise TooLarge(
            Message(
                "The file is larger than the {most:,} bytes that are taken.",
                most=settings.UPLOAD_MAX_BYTES,
            )
        )
    User.objects.select_for_update(no_key=True).get(pk=actor.user.pk)  # of two at once, the second counts the first
    if Upload.objects.filter(created_by=actor.user, expires_at__gt=timezone.now()).count() >= MOST:
        raise Conflict(Message("You have {most} uploads under way; finish or cancel one of them first.", most=MOST))
    folder: Path = settings.UPLOAD_DIR
    folder.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(folder).free < size + SPARE_BYTES:
        raise TooLarge(
            Message("There is no room for this file on the server's disk; tell whoever runs this installation.")
        )
    upload = Upload(
        workspace=workspace, name=name, size=size, created_by=actor.user, expires_at=timezone.now() + _lifetime()
    )
    upload.full_clean()
    upload.save(force_insert=True)
    path_of(upload.id).touch(mode=0o640)
    return upload


@contextmanager
def _writing(upload: Upload) -> Iterator[IO[bytes]]:
    try:
        file = path_of(upload.id).open("r+b", buffering=0)
    except FileNotFoundError:
        raise NotFound(Message("This upload is gone; begin it again.")) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Locked(Message("Another connection is writing to this upload.")) from None
        yield file


def append(*, upload: Upload, offset: int, parts: Iterable[bytes]) -> int:
    """Write ``parts`` from ``offset`` on and return how much is there then: what came before a break is kept.

    Raises Conflict when ``offset`` is not where the file ends, TooLarge past the size that was announced, and Locked.
    """
    with _writing(upload) as file:
        end = file.seek(0, os.SEEK_END)
        if offset != end:
            raise Conflict(
                Message("The upload stands at {end:,} bytes, not at {offset:,}.", end=end, offset=offset),
                code="wrong_offset",
            )
        try:
            for part in parts:
                if end + len(part) > upload.size:
                    raise TooLarge(Message("More came than the {size:,} bytes that were announced.", size=upload.size))
                end += file.write(part)
        except UnreadablePostError:
            log.info("upload_broke_off", upload=str(upload.id), received=end)
    Upload.objects.filter(pk=upload.pk).update(expires_at=timezone.now() + _lifetime())
    return end


def finished(*, actor: Actor, workspace: Workspace, upload_id: UUID) -> Upload:
    """The upload, complete and meant for ``workspace``. Raises NotFound, and Conflict while bytes are missing."""
    upload = Upload.objects.visible_to(actor).filter(pk=upload_id, workspace=workspace).first()
    if upload is None:
        raise NotFound(Message("There is no upload {upload_id}, or you have no access to it.", upload_id=upload_id))
    have = received(upload)
    if have != upload.size:
        raise Conflict(
            Message(
                "The upload of {upload} is not complete: {have:,} of {size:,} bytes are here.",
                upload=upload.name,
                have=have,
                size=upload.size,
            ),
            code="incomplete",
        )
    return upload


def contents(upload: Upload) -> Iterator[bytes]:
    with path_of(upload.id).open("rb") as file:
        yield from chunks(file)


def discard(*, upload: Upload) -> None:
    """Forget an upload, finished or not."""
    Upload.objects.filter(pk=upload.pk).delete()
    path_of(upload.id).unlink(missing_ok=True)


def sweep() -> int:
    """Discard what nobody has continued in time, and files without a row. Returns how many files went."""
    each("discard_upload", Upload.objects.filter(expires_at__lte=timezone.now()), lambda upload: discard(upload=upload))
    known = {path_of(pk).name for pk in Upload.objects.values_list("pk", flat=True)}
    old = timezone.now().timestamp() - _lifetime().total_seconds()
    gone = 0
    folder: Path = settings.UPLOAD_DIR
    for path in folder.glob("*.part"):
        if path.name not in known and path.stat().st_mtime <= old:
            path.unlink(missing_ok=True)
            gone += 1
    return gone
