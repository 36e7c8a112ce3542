# shellcheck shell=bash
# For tests of the program from outside, to be sourced: an empty folder to be in, $work, that goes at the end, and
# `fail WHY`, which counts into $failures, and `expect`, of the program $sid2.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failures=0
fail() {
    echo "FAILED: $*"
    failures=$((failures + 1))
}

# expect CODE PATTERN ARGUMENTS...: the exit code, and a line of the output that matches; an error is one line.
expect() {
    local code=$1 pattern=$2 got
    shift 2
    timeout 120 "$sid2" "$@" >out 2>err </dev/null
    got=$?
    [ "$got" -eq "$code" ] || fail "sid2 $*: exit code $got, not $code: $(tail -n 2 err)"
    grep -q -- "$pattern" out err || fail "sid2 $*: nothing says '$pattern': $(tail -n 3 out err)"
    if [ "$code" -ne 0 ] && [ "$(grep -c '^sid2' err)" -ne 1 ]; then fail "sid2 $*: not one line: $(cat err)"; fi
}
