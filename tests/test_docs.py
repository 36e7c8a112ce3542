#!/usr/bin/env python3
"""Commands in README.md and docs/ exist, with the options and keys that they are given.  test_docs.py SID2 SOURCE

A command is what follows `sid2` in a line of code, up to whatever ends it for a shell. Pages that others have printed
(docs/options.md, docs/operators.md) are left out, so is what was tried and is told as history."""

import pathlib
import re
import subprocess
import sys

sid2, source = sys.argv[1], pathlib.Path(sys.argv[2])
HISTORY = {"options.md", "operators.md", "speed-log.md"}
failed = []


def ask(*words):
    return subprocess.run([sid2, *words], capture_output=True, text=True, check=False).stdout


commands = re.findall(r"^  (\w+) ", ask("--help").split("Presets:")[0], re.M)
keys = set(re.findall(r"\b\w+\.\w+\b", ask("help", "train")))
known = {}


def options_of(command):
    if command not in known:
        text = ask("help", *command.split())
        known[command] = set(re.findall(r"(?<![\w-])--([a-z][a-z0-9-]*)", text)) | {"help"}
    return known[command]


def code_of(page):
    """Lines that are indented or between ticks, continued lines joined."""
    text = re.sub(r" *\\\n *", " ", page)
    yield from re.findall(r"^ {4,}(.*)$", text, re.M)
    yield from re.findall(r"`([^`\n]*(?:\n[^`\n]+)?)`", re.sub(r"^ {4,}.*$", "", text, flags=re.M))


def check(page, line):
    for match in re.finditer(r"(?:^|[\s/\"'(])sid2 +(\w+)(?: (synth|inspect|pack)\b)?([^|;`#]*)", line):
        command, part, rest = match.groups()
        if command == "help":
            continue
        if command not in commands:
            if re.match(r" *--|$", rest) and not re.match(r"\w+\.", command):
                failed.append(f"{page}: no command 'sid2 {command}': {line.strip()}")
            continue
        command = f"{command} {part}" if part and command == "data" else command
        rest = re.split(r"\s&&?\s|\s>|\)", rest)[0]
        for option in re.findall(r"(?:^|\s)--([a-z][a-z0-9-]*)", rest):
            if option not in options_of(command):
                failed.append(f"{page}: sid2 {command} has no --{option}: {line.strip()}")
    for key in re.findall(r"--set ['\"]?([\w.]+)=", line):
        if key not in keys:
            failed.append(f"{page}: no key {key}: {line.strip()}")


count = 0
for page in [source / "README.md", *sorted((source / "docs").glob("*.md"))]:
    if page.name in HISTORY:
        continue
    for line in code_of(page.read_text(encoding="utf-8")):
        count += "sid2 " in line
        check(page.name, line)
print("\n".join(failed) or f"{count} commands, all known")
sys.exit(bool(failed) or count < 50)
