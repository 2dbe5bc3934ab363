"""`python -m keyclave_cli`: the same as the `keyclave` command."""

from keyclave_cli.main import main

if __name__ == "__main__":
    main()
