"""`python -m tuner` is `gantune`."""

from tuner.cli import main

if __name__ == "__main__":
    main()
