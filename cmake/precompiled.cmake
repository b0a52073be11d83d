# Headers that nearly every file includes, compiled once, where Clang builds for sanitizers. Not
# for GCC, which gains little, nor for lint and releases, which show that each file includes what it uses.
set(cgx_precompiles FALSE)
if(CGX_SANITIZE AND CMAKE_CXX_COMPILER_ID MATCHES Clang)
  set(cgx_precompiles TRUE)
endif()
set(cgx_common_headers <algorithm> <array> <atomic> <chrono> <condition_variable> <functional> <map> <memory> <mutex>
  <optional> <span> <string> <string_view> <thread> <vector> <fmt/format.h>)
set(cgx_more_test_headers <fstream> <random> <set> <gtest/gtest.h> <nlohmann/json.hpp>)
