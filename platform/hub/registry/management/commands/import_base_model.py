"""``manage.py import_base_model NAME FOLDER``: a folder that transformers wrote becomes a base model for everybody."""

from __future__ import annotations

from argparse import ArgumentParser
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from hub.accounts.services.workspaces import base_workspace
from hub.core.errors import UserError
from hub.registry.services.base_models import Source, add_base_model
from pst_client.layout import unsafe


class Command(BaseCommand):
    help = "Import a base model (config.json, *.safetensors, tokenizer files) into the workspace that everybody reads."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="Name of the model; its repository is base/NAME.")
        parser.add_argument("folder", type=Path)
        parser.add_argument("--title", default="", help="One line about the model.")
        parser.add_argument("--license", default="", help="Identifier such as apache-2.0.")
        parser.add_argument("--source", default="", help="Where the model comes from.")

    def handle(self, *args: Any, **options: Any) -> None:
        folder: Path = options["folder"]
        if not folder.is_dir():
            raise CommandError(f"There is no folder {folder}.")
        paths = sorted(path for path in folder.iterdir() if path.is_file())
        skipped = [path.name for path in paths if unsafe(path.name)]
        with ExitStack() as stack:
            sources = [
                Source(path.name, stack.enter_context(path.open("rb")), path.stat().st_size)
                for path in paths
                if not unsafe(path.name)
            ]
            workspace = base_workspace()
            try:
                version, new, left_out = add_base_model(
                    workspace=workspace,
                    name=options["name"],
                    sources=sources,
                    title=options["title"],
                    license=options["license"],
                    source=options["source"],
                )
            except UserError as error:
                raise CommandError(error.message) from None
        if skipped or left_out:
            self.stdout.write(f"Left out: {', '.join([*skipped, *left_out])}")
        self.stdout.write(f"{version} {version.commit} {'imported' if new else 'is there already'}")
