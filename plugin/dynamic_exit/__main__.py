"""`python -m dynamic_exit`."""

from .cli.main import main

main()
