"""What `python -m memlane` runs."""

from memlane.cli import main

main()
