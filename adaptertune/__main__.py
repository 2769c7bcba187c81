"""The command: ``adaptertune``, or ``python -m adaptertune``."""

import sys


def main() -> None:
    """Run the command line; Ctrl-C before it has begun ends it as quietly as later."""
    if sys.platform == "win32":  # no locks, signals and pipes as here
        sys.exit("error: adaptertune needs Linux or macOS; on Windows use WSL")
    try:
        from adaptertune.cli import main as command_line

        command_line()
    except KeyboardInterrupt:
        print("error: stopped", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
