"""``manage.py node_token --name NAME``: a token for a worker or serving node of the whole installation."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from hub.accounts.services import renew_node_token


class Command(BaseCommand):
    help = "Print a new node token for the whole installation. The former token of the same name ends."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--name", required=True, help="What the token is for, such as the machine's name.")

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(renew_node_token(name=options["name"]))
