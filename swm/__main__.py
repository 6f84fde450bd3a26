"""`python -m swm`."""

from swm.cli import main

main()
