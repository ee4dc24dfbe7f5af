"""Filter of lock.sh: torch without local version and hashes, since CPU and CUDA builds differ in both."""

import sys

inside = False
for line in sys.stdin:
    if not line.startswith((" ", "\t")):
        inside = line.startswith("torch==")
        if inside:
            sys.stdout.write(line.split("+")[0].split(" ")[0].strip() + "\n")
            continue
    if not inside:
        sys.stdout.write(line)
