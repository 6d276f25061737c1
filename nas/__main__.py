"""`python -m nas` is the `nas` command."""

import os
import sys

if __name__ == "__main__":
    # -m looks for modules in the current folder first: if that is a stranger's run, it may hold a numpy.py.
    if not sys.flags.safe_path and sys.path[0] != os.path.dirname(os.path.dirname(os.path.abspath(__file__))):
        del sys.path[0]
    from nas.cli.entry import main

    main()
