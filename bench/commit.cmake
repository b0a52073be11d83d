# Writes OUT, a header with the commit of SOURCE, where that has changed since: cmake -DSOURCE=... -DOUT=... -P commit.cmake
execute_process(COMMAND git describe --always --dirty --abbrev=12 WORKING_DIRECTORY ${SOURCE}
  OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
if(failed)
  set(commit "unknown")
endif()
file(CONFIGURE OUTPUT ${OUT} CONTENT "#pragma once\n#define CGX_BENCH_COMMIT \"${commit}\"\n")
