// Compiles simd/drivers-inl.h for each instruction set and chooses among them at run time.
#include "codec/drivers.h"

// Fuzzed are the definition and the widest vectors: each path takes Clang's sanitizers half a minute.
#ifdef CGX_FUZZ
#define HWY_DISABLED_TARGETS \
  (HWY_SSSE3 | HWY_SSE4 | HWY_AVX2 | HWY_AVX3_DL | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)
#else
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_AVX3_DL | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)
#endif
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "codec/drivers.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "codec/simd/drivers-inl.h"

#if HWY_ONCE
namespace cgx {

HWY_EXPORT(driver_table);
const Drivers& drivers() { return *HWY_DYNAMIC_DISPATCH(driver_table)(); }

namespace {

struct CpuPath {
  std::string_view name;
  int64_t target;
};
constexpr CpuPath kPaths[] = {
    {"scalar", HWY_EMU128}, {"sse4", HWY_SSE4}, {"avx2", HWY_AVX2}, {"avx512", HWY_AVX3}, {"neon", HWY_NEON}};

// What was compiled in and this CPU has; the fallback is always there.
int64_t usable_targets() { return (hwy::SupportedTargets() & HWY_TARGETS) | HWY_EMU128; }

void use_targets(int64_t targets) {
  hwy::SetSupportedTargetsForTest(targets);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

}  // namespace

std::vector<std::string_view> cpu_paths() {
  const int64_t usable = usable_targets();
  std::vector<std::string_view> names;
  for (const CpuPath& path : kPaths) {
    if ((path.target & usable) != 0) names.push_back(path.name);
  }
  return names;
}

Status force_cpu_path(std::string_view name) {
  use_targets(0);
  if (name.empty()) return {};
  std::string known;
  const int64_t usable = usable_targets();
  for (const CpuPath& path : kPaths) {
    if ((path.target & usable) == 0) continue;
    if (path.name == name) {
      use_targets(path.target);
      return {};
    }
    known += known.empty() ? "" : ", ";
    known += path.name;
  }
  return error(Code::kInvalidArgument, "no CPU path \"{}\" here: there are {}", name, known);
}

}  // namespace cgx
#endif
