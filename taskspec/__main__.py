"""`python -m taskspec`, and what `torchrun -m taskspec` starts."""

from taskspec.cli.main import main

if __name__ == "__main__":
    main()
