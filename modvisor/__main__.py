"""`python -m modvisor`: the `modvisor` command, where its script is not on the PATH."""

from .supervisor.cli import main  # pyright: ignore[reportMissingImports]

if __name__ == "__main__":
    main()
