# Sourced by scripts/demo and scripts/test: installs what is missing, builds, and says what it does.
# Each step is skipped when its inputs have not changed since it last succeeded.
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$top"
mkdir -p build/log
venv="$top/.venv"
jobs=$(nproc)

say() { printf '\033[1m==> %s\033[0m\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# run LABEL COMMAND...: runs it with its output in build/log/LABEL.log and a line every 15 s while it lasts.
run() {
  local label=$1 start=$SECONDS log; shift
  log=build/log/${label// /-}.log
  "$@" >"$log" 2>&1 &
  local pid=$! waited=0
  while kill -0 "$pid" 2>/dev/null; do
    sleep 0.2; waited=$((waited + 1))
    if [ $((waited % 75)) = 0 ]; then printf '    %s ... %d s (%s)\n' "$label" $((SECONDS - start)) "$(tail -c 300 "$log" | tr '\r' '\n' | tail -n 1 | cut -c 1-80)"; fi
  done
  if ! wait "$pid"; then tail -n 60 "$log" >&2; die "$label failed; the whole output is in $log"; fi
  printf '    %s: %d s\n' "$label" $((SECONDS - start))
}

# changed STAMP PATH...: true if the stamp is missing or a file below the paths is newer.
changed() { local stamp=$1; shift; [ ! -e "$stamp" ] || [ -n "$(find "$@" -newer "$stamp" -type f -print -quit)" ]; }

install_packages() {
  changed build/.packages scripts/packages.txt || return 0
  local wanted missing=() p
  wanted=$(sed 's/#.*//' scripts/packages.txt)
  for p in $wanted; do dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' || missing+=("$p"); done
  if [ ${#missing[@]} -gt 0 ]; then
    local apt="apt-get install -y --no-install-recommends ${missing[*]}" as=()
    command -v apt-get >/dev/null || die "this is not Debian; install the equivalents of: ${missing[*]}"
    if [ "$(id -u)" != 0 ]; then
      if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then as=(sudo)
      else die "packages are missing; run this once as root, then again: apt-get update && $apt"; fi
    fi
    say "Installing ${#missing[@]} Debian packages"
    run "apt update" "${as[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update
    run "apt install" "${as[@]}" env DEBIAN_FRONTEND=noninteractive $apt
  fi
  touch build/.packages
}

install_python() {
  if [ -e "$venv/bin/python" ] && ! changed build/.python scripts/requirements.txt; then return 0; fi
  say "Python environment in .venv (PyTorch is large: some minutes)"
  local python=/usr/bin/python3; [ -x $python ] || python=python3
  [ -e "$venv/bin/python" ] || run "venv" "$python" -m venv "$venv"
  run "pip install" "$venv/bin/pip" install --disable-pip-version-check -r scripts/requirements.txt
  touch build/.python
}

# The wheel compiles the library anew, with the flags of the release build: from a cache, where the caller has chosen none.
cached() {
  if [ -n "${CMAKE_CXX_COMPILER_LAUNCHER:-}" ] || ! command -v ccache >/dev/null; then "$@"
  else CCACHE_DIR="$top/build/ccache" CMAKE_CXX_COMPILER_LAUNCHER=ccache "$@"; fi
}

# build PRESET [TARGET...]
build() {
  local preset=$1 through=; shift
  [ "$preset" != release ] || through=cached  # what is compiled once only gains nothing
  [ -e "build/$preset/build.ninja" ] || run "configure $preset" $through cmake --preset "$preset"
  run "build $preset" $through cmake --build "build/$preset" -j "$jobs" ${@:+--target "$@"}
}

install_package() {
  changed build/.package lib include bindings cmake pyproject.toml CMakeLists.txt || return 0
  rm -rf build/dist
  CXX=${CXX:-c++} run "pip wheel" cached "$venv/bin/pip" wheel --disable-pip-version-check --no-build-isolation --no-deps --config-settings=build-dir=build/wheel --config-settings=cmake.define.CGX_WERROR=ON --wheel-dir build/dist .
  run "pip install cgx" "$venv/bin/pip" install --disable-pip-version-check --no-deps --force-reinstall build/dist/cgx-*.whl
  touch build/.package
}
