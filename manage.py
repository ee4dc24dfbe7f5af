#!/usr/bin/env python
"""Django's command line."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
# platform/ and workers/ are source roots: packages inside them are imported by their own names.
for source_root in ("workers", "platform"):
    sys.path.insert(0, str(ROOT / source_root))


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
