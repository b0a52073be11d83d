# Warnings for our own code (errors when CGX_WERROR) and the sanitizers, as one interface target.
add_library(cgx_warnings INTERFACE)
target_compile_options(cgx_warnings INTERFACE
  $<$<COMPILE_LANGUAGE:C,CXX>:-Wall;-Wextra;-Wshadow;-Wconversion;-Wno-sign-conversion>
  $<$<COMPILE_LANGUAGE:CXX>:-Wnon-virtual-dtor;-Woverloaded-virtual>
  # GCC 12 warns of "text" + std::string at -O3, wrongly (its bug 105329).
  $<$<AND:$<CXX_COMPILER_ID:GNU>,$<COMPILE_LANGUAGE:CXX>>:-Wno-restrict>
  $<$<AND:$<BOOL:${CGX_WERROR}>,$<COMPILE_LANGUAGE:C,CXX>>:-Werror>)
set(cgx_no_undefined -Wl,--no-undefined)
if(CGX_SANITIZE)
  set(cgx_no_undefined "")  # Clang leaves a sanitizer's symbols in a shared library to the executable
  add_compile_options(-fsanitize=${CGX_SANITIZE} -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${CGX_SANITIZE})
endif()
if(CGX_SANITIZE MATCHES undefined AND CMAKE_CXX_COMPILER_ID MATCHES Clang)
  # These look for types by name across modules that hide theirs, and need a runtime that C programs lack.
  add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-fno-sanitize=vptr,function>)
endif()
if(CGX_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
  add_link_options(-fsanitize=fuzzer-no-link)
endif()
