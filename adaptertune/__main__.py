"""``python -m adaptertune``."""

from adaptertune.cli import main

if __name__ == "__main__":
    main()
