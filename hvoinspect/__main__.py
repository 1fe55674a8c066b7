"""`python -m hvoinspect` is the `hvoinspect` command."""

from hvoinspect.cli.main import main

if __name__ == "__main__":
    main()
