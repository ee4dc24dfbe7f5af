"""``manage.py delete_unused_files``: what the platform's Celery process does every few hours, now."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from django.utils import timezone

from jobs.services.unused import delete_unused


class Command(BaseCommand):
    help = "Delete files that were stored some days ago and that no version, data set or job refers to."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--days", type=float, default=settings.UNUSED_FILE_DAYS, help="how old they are; default: %(default)s"
        )
        parser.add_argument("--dry-run", action="store_true", help="say how many there are, delete none")

    def handle(self, *args: Any, **options: Any) -> None:
        before = timezone.now() - timedelta(days=options["days"])
        found = delete_unused(before=before, really=not options["dry_run"])
        what = "would be deleted" if options["dry_run"] else "deleted"
        self.stdout.write(f"{found.files:,} files ({found.bytes:,} bytes) {what}.")
