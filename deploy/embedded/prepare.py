"""Brings the embedded stack's database up to date: migrations, base model, the nodes' tokens, printed as JSON."""

from __future__ import annotations

import io
import json
import sys

import django


def main() -> None:
    django.setup()
    from django.core.management import call_command

    call_command("migrate", interactive=False, verbosity=0)
    call_command(
        "import_base_model",
        "minilm-l6",
        sys.argv[1],
        title="all-MiniLM-L6-v2 (22.7 M parameters, English)",
        license="apache-2.0",
        source="sentence-transformers/all-MiniLM-L6-v2",
        stdout=sys.stderr,
    )
    tokens = {}
    for kind in ("worker", "serve"):
        out = io.StringIO()
        call_command("node_token", role=kind, name=f"local-{kind}", stdout=out)
        tokens[kind] = out.getvalue().strip()
    print(json.dumps(tokens))


if __name__ == "__main__":
    main()
