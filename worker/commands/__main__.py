"""`python -m worker.commands` is the command `shopstream`."""

from worker.commands import main

if __name__ == "__main__":
    main()
