"""`python -m LRPExplainLib` is the shell command `lrpexplain`."""

from .cli import main

if __name__ == "__main__":
    raise SystemExit(main())
