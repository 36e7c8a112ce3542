# shellcheck shell=bash
# For tests of the program from outside, to be sourced: an empty folder to be in, $work, that goes at the end, and
# `fail WHY`, which counts into $failures.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failures=0
fail() {
    echo "FAILED: $*"
    failures=$((failures + 1))
}
