#!/bin/sh
# Installs cgx to a fresh prefix, moves that, and builds the two example programs against it as outside projects do: with
# find_package (shared; C alone; static) and with pkg-config. Each runs as two ranks; so does the installed cgx-bench.
#   run.sh SOURCE_DIR BUILD_DIR SCRATCH_DIR
set -eu
source_dir=$1
build_dir=$2
scratch=$3
rm -rf "$scratch"
mkdir -p "$scratch"
trap 'rm -rf "$scratch"' EXIT

fail() {
  echo "FAILED: $*"
  exit 1
}

# logged NAME COMMAND...: its output is shown only if it fails.
logged() {
  log="$scratch/$1.log"
  shift
  "$@" >"$log" 2>&1 || {
    cat "$log"
    fail "$*"
  }
}

logged install cmake --install "$build_dir" --prefix "$scratch/first"
mkdir "$scratch/elsewhere"
mv "$scratch/first" "$scratch/elsewhere/moved"
prefix="$scratch/elsewhere/moved"
libdir=$(dirname "$(find "$prefix" -name libcgx.so)")
! grep -rl "$scratch/first" "$prefix" || fail "these files name the prefix, and cannot be moved"
for file in include/cgx/cgx.h include/cgx/cgx.hpp bin/cgx-bench; do
  [ -e "$prefix/$file" ] || fail "$file was not installed"
done
objdump -p "$libdir/libcgx.so" | grep -q "SONAME *libcgx.so.0$" || fail "the soname is not libcgx.so.0"
[ "$(readlink "$libdir/libcgx.so")" = libcgx.so.0 ] || fail "libcgx.so is not a link to its soname"

run_pair() {
  program=$1
  store="$scratch/store-$(basename "$(dirname "$program")")-$(basename "$program")"
  CGX_SIZE=2 CGX_RANK=1 CGX_STORE="file:$store" CGX_TIMEOUT_MS=60000 "$program" >"$scratch/rank1.txt" 2>&1 &
  other=$!
  CGX_SIZE=2 CGX_RANK=0 CGX_STORE="file:$store" CGX_TIMEOUT_MS=60000 "$program" >"$scratch/rank0.txt" 2>&1 || true
  wait "$other" || true
  cat "$scratch/rank0.txt" "$scratch/rank1.txt"
  for rank in 0 1; do
    grep -q "^rank $rank of 2 over .*: ok\$" "$scratch/rank$rank.txt" || fail "$program, rank $rank"
  done
}

# With find_package: the examples' own project, then one without C++, then libcgx.a.
consumer() {
  name=$1
  shift
  logged "configure-$name" cmake -B "$scratch/$name" -DCMAKE_PREFIX_PATH="$prefix" -DSOURCES="$source_dir/examples/c" "$@"
  logged "build-$name" cmake --build "$scratch/$name"
  for program in "$scratch/$name"/allreduce_c*; do run_pair "$program"; done
}
consumer examples -S "$source_dir/examples/c"
consumer c-only -S "$source_dir/tests/install/consumer"
if [ -e "$libdir/libcgx.a" ]; then
  consumer static -S "$source_dir/tests/install/consumer" -DSTATIC=ON
  ! ldd "$scratch/static/allreduce_cc" | grep libcgx || fail "the static program still links libcgx.so"
fi

# With pkg-config, as strictly as compilers are.
export PKG_CONFIG_PATH="$libdir/pkgconfig"
export LD_LIBRARY_PATH="$libdir"
mkdir "$scratch/pkg"
[ "$(pkg-config --modversion cgx)" = "$("$prefix/bin/cgx-bench" --version | cut -d' ' -f2)" ] || fail "cgx.pc's version"
# shellcheck disable=SC2046  # the flags are words
logged pkg-c ${CC:-cc} -std=c99 -Wall -Wextra -pedantic -Werror "$source_dir/examples/c/allreduce.c" \
  -o "$scratch/pkg/allreduce_c" $(pkg-config --cflags --libs cgx)
# shellcheck disable=SC2046
logged pkg-cc ${CXX:-c++} -std=c++17 -Wall -Wextra -pedantic -Werror "$source_dir/examples/c/allreduce.cc" \
  -o "$scratch/pkg/allreduce_cc" $(pkg-config --cflags --libs cgx)
for program in "$scratch"/pkg/allreduce_c*; do run_pair "$program"; done
unset LD_LIBRARY_PATH

# cgx-bench finds its library by itself.
logged bench "$prefix/bin/cgx-bench" allreduce -g 2 -b 4K --rounds 2 -n 2 --codec maxmin:bits=4 --baseline openmpi
grep -q "Out of bounds values : 0 OK" "$scratch/bench.log" || fail "the installed cgx-bench"
echo "installed package: ok"
