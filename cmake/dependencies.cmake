# Every library that cgx builds with, and why. All are Debian packages.
#   fmt             error messages; linked, as header-only it makes every file compile six times longer
#   OpenSSL         libcrypto's HMAC-SHA256, with which ranks that share a secret prove it: no cryptography of our own
#   Random123       the counter-based random numbers whose definition the wire format freezes; header only
#   Highway         run-time choice among CPU instruction sets
#   Gloo            sockets between hosts; only in its own module (docs/GOTCHAS.md says why)
#   nlohmann-json   JSON of the codec list and of cgx-bench
#   Boost.Program_options   cgx-bench's command line
#   GoogleTest      tests
find_package(Threads REQUIRED)
find_package(fmt 9 REQUIRED)
find_package(hwy REQUIRED)
find_package(OpenSSL 3.0 REQUIRED COMPONENTS Crypto)
find_package(nlohmann_json 3.10 REQUIRED)
find_path(CGX_RANDOM123_INCLUDE Random123/philox.h REQUIRED)

set(CGX_HAVE_GLOO OFF)
if(NOT CGX_WITH_GLOO STREQUAL OFF)
  find_path(CGX_GLOO_INCLUDE gloo/context.h)
  find_library(CGX_GLOO_LIBRARY gloo)
  if(CGX_GLOO_INCLUDE AND CGX_GLOO_LIBRARY)
    set(CGX_HAVE_GLOO ON)
  elseif(CGX_WITH_GLOO STREQUAL ON)
    message(FATAL_ERROR "CGX_WITH_GLOO=ON, but Gloo was not found (Debian: libgloo-dev)")
  else()
    message(STATUS "cgx: no Gloo transport (Debian: libgloo-dev)")
  endif()
endif()

set(CGX_HAVE_NVCC OFF)
if(NOT CGX_WITH_CUDA STREQUAL OFF)
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    set(CGX_HAVE_NVCC ON)
  elseif(CGX_WITH_CUDA STREQUAL ON)
    message(FATAL_ERROR "CGX_WITH_CUDA=ON, but nvcc was not found")
  else()
    message(STATUS "cgx: no nvcc, device code is not compiled")
  endif()
endif()

if(CGX_BUILD_BENCH)
  find_package(Boost 1.74 REQUIRED COMPONENTS program_options)
endif()
if(CGX_BUILD_TESTS)
  find_package(GTest REQUIRED)
endif()
