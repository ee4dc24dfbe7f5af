"""A program of its own that loads the tokenizer.json on its standard input with the library that jobs read it with, and
encodes a text: what the library refuses ends with the status 1 and its words. Its
arguments are the seconds of processor time and the bytes of memory that it may take.

A file may hold a regular expression or a size that no end of work or memory is enough for, and native code may crash:
so it runs in a process with limits, which nothing of the platform is imported into.
"""

from __future__ import annotations

import resource
import sys

TEXT = "Hello, World! It's 2024-05-01; naïve café 你好世界 привет\n\ta b  c 👍 " + "a" * 60 + "! " + "1" * 60


def main(seconds: int, memory: int) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    from tokenizers import Tokenizer

    content = sys.stdin.buffer.read().decode()
    try:
        Tokenizer.from_str(content).encode(TEXT)
    except MemoryError:
        sys.exit(2)
    except BaseException as error:  # a panic of the library is no Exception
        sys.stdout.buffer.write(str(error)[:200].encode("utf-8", "replace"))
        sys.stdout.flush()
        sys.exit(1)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
