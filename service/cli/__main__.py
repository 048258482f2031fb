"""`python -m service.cli COMMAND`, as `fengni COMMAND`."""

from service.cli import main

if __name__ == "__main__":
    main()
