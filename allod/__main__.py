"""``python -m allod`` is the command ``allod``."""

from allod.gateway.cli import main

main()
