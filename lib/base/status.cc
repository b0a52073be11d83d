#include "base/status.h"

#include <cstdio>
#include <cstdlib>

namespace cgx {

void check_failed(const char* file, int line, const char* condition) {
  std::fprintf(stderr, "cgx: internal error at %s:%d: %s\n", file, line, condition);
  std::abort();
}

}  // namespace cgx
