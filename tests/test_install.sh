#!/usr/bin/env bash
# What `cmake --install` gives, and nothing else: exported names, the examples built and run, papers, any locale.
#   test_install.sh BUILD-FOLDER C-COMPILER [C++-COMPILER]
set -euo pipefail
build=$1 cc=$2 cxx=${3:-}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "FAILED: $*"; exit 1; }

# It may be moved, and its path may have spaces.
cmake --install "$build" --prefix "$work/first" >"$work/install.log"
prefix="$work/a moved prefix"
mv "$work/first" "$prefix"
library=$(dirname "$(find "$prefix" -name libsid2.so)")
export PKG_CONFIG_PATH="$library/pkgconfig" LD_LIBRARY_PATH="$library" OMP_NUM_THREADS=2
grep -rIlF -e "$build" -e "$work/first" "$prefix" >"$work/leaks" && fail "the build's folder is in $(cat "$work/leaks")"

# Exported is what the headers declare, by the shared library and by the static one.
cat "$prefix"/include/sid2/*.h | tr '\n' ' ' | grep -oE 'SID2_API [^;(]*\(' | sed -E 's/.*[ *](sid2_[a-z0-9_]+)\($/\1/' |
    grep ^sid2_ | sort -u >"$work/declared"
nm -D --defined-only "$library/libsid2.so" | awk '{print $3}' | sort >"$work/exported"
nm -g --defined-only "$library/libsid2.a" | awk 'NF == 3 {print $3}' | sort >"$work/archived"
diff "$work/declared" "$work/exported" || fail "libsid2.so exports other names than the headers declare"
diff "$work/declared" "$work/archived" || fail "libsid2.a has other global names than the headers declare"
[ "$(wc -l <"$work/declared")" -gt 80 ] || fail "only $(wc -l <"$work/declared") functions were found in the headers"
readelf -d "$library/libsid2.so" | grep -q 'SONAME.*\[libsid2\.so\.0\]' || fail "the soname is not libsid2.so.0"
echo '#include "graph.h"' | "$cc" -fsyntax-only -I"$prefix/include" -I"$prefix/include/sid2" -x c - 2>/dev/null && fail "a private header"
[ "$(ls "$prefix/include")" = sid2 ] || fail "headers beside include/sid2"

# Modules for MPIs, each found by the program from where it lies.
for module in "$build"/libsid2_*.so; do
    [ -e "$module" ] || continue
    [ -e "$library/sid2/$(basename "$module")" ] || fail "$(basename "$module") is not installed"
    name=$(basename "$module" .so)
    if [ "$name" = libsid2_mpich ] && command -v mpiexec.mpich >/dev/null; then
        said=$("$prefix/bin/sid2" train --preset quickstart --data "$work/none.zip" --out "$work/none" --device cpu --ranks 2 2>&1 || true)
        [[ $said = *none.zip:* ]] || fail "the installed program does not find $name: $said"
    fi
done

# The program, and what it says about itself.
"$prefix/bin/sid2" --version | grep -q '^sid2 ' || fail "the program does not start"
[ -s "$prefix/share/man/man1/sid2.1" ] || fail "no manual page"
if command -v man >/dev/null; then
    [ -z "$(man --warnings -l "$prefix/share/man/man1/sid2.1" 2>&1 >/dev/null)" ] || fail "the manual page has troff warnings"
fi
complete_words() { # WORD...: what bash offers for the last one
    bash -c 'source "$1"; shift; COMP_WORDS=(sid2 "$@"); COMP_CWORD=$#; _sid2; echo "${COMPREPLY[*]}"' - \
        "$prefix/share/bash-completion/completions/sid2" "$@"
}
[ "$(complete_words tr)" = train ] || fail "bash does not complete a command"
[ "$(complete_words data syn)" = synth ] || fail "bash does not complete data synth"
[ "$(complete_words data synth --co)" = --count ] || fail "bash does not complete an option of data synth"
[ "$(complete_words train --preset quick)" = quickstart ] || fail "bash does not complete a preset"
for shell in zsh fish; do
    file=$(find "$prefix/share" -name _sid2 -o -name sid2.fish | grep "$shell")
    [ -s "$file" ] || fail "no completion for $shell"
    ! command -v $shell >/dev/null || $shell -n "$file" || fail "$shell does not read its completion"
done

# The same as a Debian package.
if command -v cpack >/dev/null && command -v dpkg-shlibdeps >/dev/null; then
    cpack --config "$build/CPackConfig.cmake" -G DEB -B "$work/package" >"$work/cpack.log" 2>&1 || { cat "$work/cpack.log"; fail "cpack"; }
    dpkg-deb -I "$work"/package/*.deb >"$work/control"
    grep -q '^ Depends: .*libc6.*libjansson4' "$work/control" || fail "the package names no libraries: $(cat "$work/control")"
    dpkg-deb -c "$work"/package/*.deb >"$work/content"
    for file in bin/sid2 lib/libsid2.so.0 include/sid2/sid2.h share/man/man1/sid2.1; do
        grep -q " ./usr/$file" "$work/content" || fail "the package has no /usr/$file"
    done
else
    echo "no cpack or dpkg-shlibdeps (Debian, Ubuntu: dpkg-dev): the package is left out"
fi

# The examples from there alone.
cp -r "$prefix/share/sid2/examples" "$work/examples"
cd "$work/examples"
eval "'$cc' -std=c17 -Wall -Wextra -Wpedantic -Werror train_and_sample.c -o c.out $(pkg-config --cflags --libs sid2)"
./c.out c.png
if [ -n "$cxx" ]; then
    eval "'$cxx' -std=c++17 -Wall -Wextra -Wpedantic -Werror run_and_sample.cpp -o cpp.out $(pkg-config --cflags --libs sid2)"
    mkdir cpp.data
    ./cpp.out cpp.data cpp.png
    for static in OFF ON; do
        cmake -S . -B "cmake $static" -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_C_COMPILER="$cc" -DCMAKE_CXX_COMPILER="$cxx" \
            -DSTATIC=$static >"cmake-$static.log" 2>&1 || { cat "cmake-$static.log"; fail "find_package, static $static"; }
        cmake --build "cmake $static" >"cmake-$static.log" 2>&1 || { cat "cmake-$static.log"; fail "building, static $static"; }
        "cmake $static/train_and_sample" "cmake-$static.png" >/dev/null
        cmp c.png "cmake-$static.png"
    done
    ! readelf -d "cmake ON/train_and_sample" | grep -q libsid2 || fail "the static example needs libsid2.so"
else
    echo "no C++ compiler: the examples in C++ and by CMake are left out"
fi
if command -v python3 >/dev/null; then
    python3 train_and_sample.py python.png
    cmp c.png python.png
else
    echo "no python3: the example in Python is left out"
fi
for picture in *.png; do
    [ "$(head -c 8 "$picture" | od -An -tx1)" = " 89 50 4e 47 0d 0a 1a 0a" ] || fail "$picture is no PNG"
done

# The same where numbers have a comma.
mkdir locales
localedef -i de_DE -f UTF-8 "$PWD/locales/de_DE.UTF-8" >/dev/null 2>&1 || true
comma=(env "LOCPATH=$PWD/locales" LC_ALL=de_DE.UTF-8)
if [ "$("${comma[@]}" printf %.1f 0,5 2>/dev/null)" != 0,5 ]; then
    echo "no German locale can be made here (Debian, Ubuntu: locales): the comma is left out"
    exit 0
fi
"${comma[@]}" ./c.out comma.png >comma.log
grep -q ', loss 0,' comma.log || fail "the example did not run under a comma"
cmp c.png comma.png
if [ -n "$cxx" ]; then
    mkdir comma.data
    "${comma[@]}" ./cpp.out comma.data comma.png
    cmp cpp.png comma.png
    cut -d , -f 1-3 cpp.data/run/stats.jsonl | diff - <(cut -d , -f 1-3 comma.data/run/stats.jsonl)
    diff cpp.data/run/config.ini comma.data/run/config.ini
fi
if command -v python3 >/dev/null; then
    "${comma[@]}" python3 train_and_sample.py comma.png >/dev/null
    cmp c.png comma.png
fi
