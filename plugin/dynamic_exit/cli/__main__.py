"""`python -m dynamic_exit.cli`."""

from .main import main

main()
