"""The bench is a folder beside the package and is not installed: these tests find it there.

Appended, never put first: the ingressd under test must stay the installed one.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))
