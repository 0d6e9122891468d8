"""``python -m rarefy`` is the command line."""

from rarefy.flows.cli import main

if __name__ == "__main__":
    main()
