"""`python -m govmiddleware`: the command line."""

from govmiddleware.cli import main

main()
