"""`python -m langmem_plugin.cli`."""

import sys

from langmem_plugin.cli import main

sys.exit(main())
