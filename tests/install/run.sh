#!/bin/sh
# Installs cgx to a fresh prefix, builds both example programs against it with find_package and with
# pkg-config, and runs each in two processes.
#   run.sh SOURCE_DIR BUILD_DIR SCRATCH_DIR
set -eu
source_dir=$1
build_dir=$2
scratch=$3
rm -rf "$scratch"
mkdir -p "$scratch"
trap 'rm -rf "$scratch"' EXIT

cmake --install "$build_dir" --prefix "$scratch/prefix" >"$scratch/install.log"
libdir=$(dirname "$(find "$scratch/prefix" -name libcgx.so)")
export LD_LIBRARY_PATH="$libdir"

cmake -S "$source_dir/examples/c" -B "$scratch/cmake" -DCMAKE_PREFIX_PATH="$scratch/prefix" >"$scratch/configure.log"
cmake --build "$scratch/cmake" >"$scratch/build.log"

export PKG_CONFIG_PATH="$libdir/pkgconfig"
mkdir "$scratch/pkg"
# shellcheck disable=SC2046  # the flags are words
${CC:-cc} -std=c99 -Wall -Wextra -pedantic -Werror "$source_dir/examples/c/allreduce.c" -o "$scratch/pkg/allreduce_c" \
  $(pkg-config --cflags --libs cgx)
# shellcheck disable=SC2046
${CXX:-c++} -std=c++17 -Wall -Wextra -pedantic -Werror "$source_dir/examples/c/allreduce.cc" -o "$scratch/pkg/allreduce_cc" \
  $(pkg-config --cflags --libs cgx)

run_pair() {
  program=$1
  store="$scratch/store-$(basename "$(dirname "$program")")-$(basename "$program")"
  CGX_SIZE=2 CGX_RANK=1 CGX_STORE="file:$store" CGX_TIMEOUT_MS=60000 "$program" >"$scratch/rank1.txt" 2>&1 &
  other=$!
  CGX_SIZE=2 CGX_RANK=0 CGX_STORE="file:$store" CGX_TIMEOUT_MS=60000 "$program" >"$scratch/rank0.txt" 2>&1 || true
  wait "$other" || true
  cat "$scratch/rank0.txt" "$scratch/rank1.txt"
  for rank in 0 1; do
    grep -q "^rank $rank of 2 over .*: ok\$" "$scratch/rank$rank.txt" || {
      echo "FAILED: $program, rank $rank"
      exit 1
    }
  done
}

for directory in cmake pkg; do
  run_pair "$scratch/$directory/allreduce_c"
  run_pair "$scratch/$directory/allreduce_cc"
done
echo "installed package: ok"
