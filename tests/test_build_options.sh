#!/usr/bin/env bash
# The README's table of -DSID2_… options is that of the CMake files, with their defaults.  test_build_options.sh SOURCE
set -euo pipefail
cd "$1"
mapfile -t files < <(find . -path './build*' -prune -o \( -name CMakeLists.txt -o -name '*.cmake' \) -print)
built=$(sed -nE -e 's/^ *option\((SID2_[A-Z_]+) .* (ON|OFF)\)$/\1 \2/p' \
    -e 's/^ *set\((SID2_[A-Z_]+) ("[^"]*"|[^ ]+) CACHE .*/\1 \2/p' "${files[@]}" | sed 's/ ""$/ none/' | sort)
written=$(sed -nE 's/^\| `(SID2_[A-Z_]+)` \| `?([^`|]*[^`| ])`? \|.*/\1 \2/p' README.md | sed 's/ all that sid2 knows$/ none/' | sort)
[ "$(wc -l <<<"$built")" -ge 8 ] || { echo "FAILED: only these options were found: $built"; exit 1; }
diff <(echo "$built") <(echo "$written") || { echo "FAILED: the CMake files (<) and README.md's table (>) differ"; exit 1; }
