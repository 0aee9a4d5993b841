"""`python -m ingressd` is `ingressd`."""

import sys

from ingressd.cli.main import main

sys.exit(main())
