"""`python -m launcher`: the `shardline` command."""

from launcher.cli.main import main

if __name__ == "__main__":
    main()
