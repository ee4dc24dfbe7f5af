"""Reading uploaded rows. Pure: bytes and options in, rows, a report and problems out; no database, no settings.

``decoding`` bytes to text; ``delimited`` and ``jsonrows`` text to records; ``tables`` one file with its columns;
``columns`` which column is which; ``rows``, ``splits`` and ``report`` what is made of them; ``validation`` all of it.
"""
