"""``python -m feasible`` is the command ``feasible``."""

import sys

from feasible.workbook.cli import main

if __name__ == "__main__":
    sys.exit(main())
