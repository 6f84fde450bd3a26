"""`python -m swm`, which takes back the working folder that Python put on the path for it.

Until that is done nothing is imported: a `json.py` beside a recipe would be run in place of Python's own.
"""

import os
import sys

if not sys.flags.safe_path and sys.path[:1] == [os.getcwd()]:
    folder = sys.path.pop(0)
    if os.path.dirname(os.path.dirname(os.path.abspath(__file__))) == folder:
        # A bare checkout: swm itself is found only there.
        sys.path.append(folder)

from swm.cli import main

main()
