#!/usr/bin/env bash
# test_shaders.sh FOLDER: the modules in FOLDER/spirv are what the sources there give; with the newer compiler that made
# those with cooperative matrices, these. Skipped (77) without either, for another version makes other bytes.
set -euo pipefail
cd "$1"
command -v glslangValidator spirv-opt >/dev/null || { echo "skipped: no glslangValidator or spirv-opt"; exit 77; }
have=$(glslangValidator --version | sed -n 's/^Glslang Version: */glslang /p')
cooperative=$(sed -n 's/^SHADER(\([a-z0-9_]*\),.*COOP.*/\1/p' shaders.def)
case $(<spirv/VERSION) in
"$have"*) only=() ;;
*": $have") read -ra only <<<"${cooperative//$'\n'/ }" ;;
*) echo "skipped: this is $have, the modules are from others: $(paste -sd' ' spirv/VERSION)"; exit 77 ;;
esac

fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
./compile --to "$fresh" "${only[@]}"
status=0
for module in "$fresh"/*.spv; do
    name=${module##*/}
    cmp -s "$module" "spirv/$name" || { echo "spirv/$name is not what its source gives: run shaders/compile"; status=1; }
done
for module in spirv/*.spv; do
    name=${module##*/}
    shader=${name%.spv} shader=${shader%_bf16} shader=${shader%_16*} shader=${shader%_sub*} shader=${shader%_tex*}
    [ -e "$fresh/$name" ] || [ ${#only[@]} -gt 0 ] || grep -qx "$shader" <<<"$cooperative" || { echo "spirv/$name has no source"; status=1; }
done
count=$(find spirv -name '*.spv' | wc -l) bytes=$(cat spirv/*.spv | wc -c)
echo "$count modules, $bytes bytes"
[ "$count" -lt 140 ] && [ "$bytes" -lt 5000000 ] || { echo "too many or too large"; status=1; }
exit $status
