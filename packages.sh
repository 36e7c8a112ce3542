# shellcheck shell=bash disable=SC2034
# Read by quickstart.sh and test.sh: installing packages, and steps that show that they are alive.

# run LABEL LOG COMMAND...: the command's output goes to LOG; a dot every two seconds; the log's end where it fails.
run() {
    local label=$1 log=$2 start=$SECONDS status=0
    shift 2
    mkdir -p "$(dirname "$log")"
    printf '%s ' "$label"
    "$@" >"$log" 2>&1 &
    local job=$!
    while kill -0 "$job" 2>/dev/null; do
        sleep 2
        printf '.'
    done
    wait "$job" || status=$?
    printf ' %d s\n' $((SECONDS - start))
    if [ "$status" -ne 0 ]; then
        tail -n 30 "$log"
        echo "failed; the whole log is $log"
        exit 1
    fi
}

# install LOG PACKAGE...: what is missing, by apt.
install() {
    local log=$1 missing=() package
    shift
    if ! command -v apt-get >/dev/null; then
        echo "This is not Debian or Ubuntu: install the equivalents of $* yourself if the build misses them."
        return
    fi
    for package in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    local sudo=()
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || { echo "Not root, and no sudo: please install ${missing[*]}"; exit 1; }
        sudo=(sudo)
        sudo -v
    fi
    run "updating the package lists" "$log" "${sudo[@]}" apt-get update
    run "installing ${missing[*]}" "$log" "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y --no-install-recommends "${missing[@]}"
}

# swiftshader FOLDER: a second CPU driver for Vulkan, with the smallest limits. It comes inside Debian's Chromium; only
# the driver is unpacked, nothing is installed. Elsewhere its tests are left out.
swiftshader() {
    local folder=$1
    [ ! -e /usr/lib/chromium/vk_swiftshader_icd.json ] || return 0
    [ ! -e "$folder/usr/lib/chromium/vk_swiftshader_icd.json" ] || return 0
    if ! apt-cache show chromium-common >/dev/null 2>&1; then
        echo "no SwiftShader here (Debian's package chromium-common): the tests on it are left out"
        return 0
    fi
    mkdir -p "$folder"
    (cd "$folder" && run "fetching SwiftShader" ./fetch.log apt-get download chromium-common)
    dpkg-deb --fsys-tarfile "$folder"/chromium-common_*.deb |
        tar -x -C "$folder" ./usr/lib/chromium/libvk_swiftshader.so ./usr/lib/chromium/vk_swiftshader_icd.json
    rm "$folder"/chromium-common_*.deb
}

# gpu_drivers FOLDER: Mesa's compilers for AMD and NVIDIA GPUs of Debian sid, with shims that stand in for the hardware, and its
# validation layers, from where this machine has its own packages from. Only unpacked, with the C library that they want; nothing is
# installed. Elsewhere the tests of budgets and under these layers are left out.
gpu_drivers() {
    local folder=$1 keys=/usr/share/keyrings/debian-archive-keyring.gpg package source
    [ ! -e "$folder/usr/share/vulkan/explicit_layer.d/VkLayer_khronos_validation.json" ] || return 0
    source=$(apt-get indextargets --format '$(ORIGIN) $(COMPONENT) $(RELEASE) $(REPO_URI)' |
        sed -n 's/^Debian main [a-z]* \([^ ]*\)$/\1/p' | head -n 1)
    if [ "$(dpkg --print-architecture)" != amd64 ] || [ ! -e $keys ] || [ -z "$source" ]; then
        echo "no compilers for GPUs here (Debian's amd64 has them): the tests with them are left out"
        return 0
    fi
    mkdir -p "$folder"/apt/{lists,archives}/partial
    folder=$(realpath "$folder")
    echo "deb [signed-by=$keys] $source sid main" >"$folder/apt/sources.list"
    : >"$folder/apt/status"
    cat >"$folder/apt/conf" <<END
Dir::State::lists "$folder/apt/lists";
Dir::State::status "$folder/apt/status";
Dir::Cache "$folder/apt";
Dir::Etc::sourcelist "$folder/apt/sources.list";
Dir::Etc::sourceparts "-";
APT::Install-Recommends "false";
Acquire::Retries "1";
Acquire::http::Timeout "20";
END
    if ! APT_CONFIG=$folder/apt/conf apt-get update >"$folder/fetch.log" 2>&1 || ! APT_CONFIG=$folder/apt/conf apt-get -y \
        --download-only install mesa-vulkan-drivers mesa-drm-shim libvulkan1 vulkan-validationlayers >>"$folder/fetch.log" 2>&1; then
        echo "compilers for GPUs cannot be fetched ($folder/fetch.log): the tests with them are left out"
        return 0
    fi
    for package in "$folder"/apt/archives/*.deb; do dpkg-deb -x "$package" "$folder"; done
    rm -r "$folder/apt"
}

build_packages=(cmake ninja-build gcc g++ libc6-dev pkg-config libpng-dev libturbojpeg0-dev libjpeg-dev libwebp-dev libexif-dev libarchive-dev libmicrohttpd-dev nettle-dev libzip-dev
    zlib1g-dev libjansson-dev libprotobuf-c-dev protobuf-c-compiler libxxhash-dev libutf8proc-dev libinih-dev liblapacke-dev libdnnl-dev libvulkan-dev libvulkan-volk-dev)
test_packages=(libcmocka-dev locales g++ dpkg-dev python3 librandom123-dev libvulkan1 mesa-vulkan-drivers vulkan-validationlayers glslang-tools
    spirv-tools clang clang-format clang-tidy libomp-dev libclang-rt-dev mpich libmpich-dev)
