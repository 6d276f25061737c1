"""`python -m nas` is the `nas` command."""

from nas.cli.entry import main

if __name__ == "__main__":
    main()
