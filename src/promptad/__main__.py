"""`python -m promptad`: the same as the `promptad` script."""

from promptad.cli import main

if __name__ == "__main__":
    main()
