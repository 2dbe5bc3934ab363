"""`python -m keyclave_verify` is the command `keyclave-verify`."""

import sys

from keyclave_verify.main import main

sys.exit(main())
