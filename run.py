#!/usr/bin/env python3
"""Everything a newcomer needs, with the standard library alone: `python3 run.py demo`, `python3 run.py test`.

Makes an environment in .venv, installs what constraints.txt pins, again only when the dependencies changed, and runs
the verb in it. Works on Linux, macOS and Windows with Python 3.11 or newer.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
STAMP = VENV / "installed.sha256"
CONSTRAINTS = ROOT / "constraints.txt"
# Tools of the tests that name dependencies they do not need here (Zennit wants torchvision, whose wheels do not load
# beside a CPU build of torch); installed without them.
BARE = ROOT / "Testing" / "requirements-bare.txt"
DECLARED = (ROOT / "pyproject.toml", CONSTRAINTS, BARE)
EXTRAS = "demo,dicom,test,lint"

Command = list[str]
LINT: list[Command] = [
    ["-m", "ruff", "check", "."],
    ["-m", "ruff", "format", "--check", "."],
    ["-m", "mypy", "LRPExplain/LRPExplainLib"],
]
# On all cores up to four: a process of the tests takes up to 4 GB. `Testing/conftest.py` says what goes together, and
# in which order. The last command's last line is pytest's own summary. Coverage, a quarter slower: `run.py test --cov`.
SHARED = ["--numprocesses", "logical", "--maxprocesses", "4", "--dist", "loadfile", "--no-loadscope-reorder"]
TEST: list[Command] = [*LINT, ["-m", "pytest", *SHARED]]
VERBS: dict[str, tuple[str, list[Command]]] = {
    "demo": ("explain the bundled model on a real brain volume", [["-m", "LRPExplainLib", "demo"]]),
    "test": ("lint, check types and run every test", TEST),
    "lint": ("lint and check types", LINT),
    "format": ("format the code", [["-m", "ruff", "check", "--fix", "."], ["-m", "ruff", "format", "."]]),
    "benchmark": ("measure side by side with peers", [["-m", "benchmarks.peers"]]),
}


def main(arguments: list[str]) -> int:
    if sys.version_info < (3, 11):  # noqa: UP036 - this is where it is checked
        print(
            f"LRPExplain needs Python 3.11 or newer; this is {sys.version.split()[0]}. Run this file with a newer one."
        )
        return 2
    if not arguments or arguments[0] not in VERBS:
        print("usage: python3 run.py VERB [options]\n")
        for verb, (what, _) in VERBS.items():
            print(f"  {verb:10} {what}")
        return 0 if arguments in (["--help"], ["-h"]) else 2
    verb, *options = arguments
    try:
        ensure_environment()
    except subprocess.CalledProcessError as error:
        print(f"Installing failed (exit code {error.returncode}); its last lines above say why. Run the same again.")
        return 1
    commands = VERBS[verb][1]
    for i, command in enumerate(commands):
        last = i == len(commands) - 1
        code = run([str(PYTHON), *command, *(options if last else [])])
        if code:
            return code
    return 0


def ensure_environment() -> None:
    """Make .venv and install into it, unless that was done for exactly these dependencies."""
    wanted = fingerprint()
    if PYTHON.exists() and STAMP.exists() and STAMP.read_text() == wanted:
        return
    if not PYTHON.exists():
        say(f"making an environment in {VENV}")
        venv.create(VENV, with_pip=True, clear=VENV.exists())
    STAMP.unlink(missing_ok=True)
    say("installing dependencies (some minutes the first time)")
    pip = [
        str(PYTHON),
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--quiet",
        "--constraint",
        str(CONSTRAINTS),
    ]
    subprocess.run([*pip, "--editable", f"{ROOT}[{EXTRAS}]"], check=True, cwd=ROOT)
    subprocess.run([*pip, "--no-deps", "--requirement", str(BARE)], check=True, cwd=ROOT)
    STAMP.write_text(wanted)


def fingerprint() -> str:
    """Changes when the Python or any declared dependency does."""
    digest = hashlib.sha256(f"{sys.version_info[:2]} {EXTRAS}".encode())
    for path in DECLARED:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def run(command: Command) -> int:
    say(" ".join([Path(command[0]).name, *command[1:]]))
    return subprocess.run(command, cwd=ROOT).returncode


def say(text: str) -> None:
    print(f"run.py: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
