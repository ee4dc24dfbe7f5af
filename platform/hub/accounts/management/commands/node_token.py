"""``manage.py node_token --role worker|serve --name NAME``: a token for a node of the whole installation."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from hub.accounts.models import NODE_KINDS, TokenKind
from hub.accounts.services.tokens import renew_node_token


class Command(BaseCommand):
    help = "Print a new token for a worker or serving node of the installation. The former one of that name ends."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--role", required=True, choices=[kind.value for kind in NODE_KINDS], help="What the token's holder is."
        )
        parser.add_argument("--name", required=True, help="What the token is for, such as the machine's name.")

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(renew_node_token(name=options["name"], kind=TokenKind(options["role"])))
