# The wheel (component "wheel", installed into the package by scikit-build-core): the libraries with all that a bare
# system lacks, the C++ sources of the PyTorch backend with the header they need, and that backend prebuilt where the
# Python that builds the wheel has PyTorch.
set_target_properties(cgx PROPERTIES BUILD_WITH_INSTALL_RPATH ON INSTALL_RPATH "$ORIGIN")
install(FILES $<TARGET_FILE:cgx> DESTINATION lib RENAME libcgx.so COMPONENT wheel)
if(TARGET cgx_gloo)
  # Without libgloo itself: its dependencies reach into drivers. Where the system has none, the transport "gloo" says so.
  set_target_properties(cgx_gloo PROPERTIES BUILD_WITH_INSTALL_RPATH ON INSTALL_RPATH "$ORIGIN")
  install(FILES $<TARGET_FILE:cgx_gloo> DESTINATION lib COMPONENT wheel)
endif()

# Shared libraries that not every system has (fmt, Highway), beside libcgx.so, under the names that it asks for. Where
# static ones were linked there are none. libc, libm, libstdc++ and libgcc_s every Python wheel may rely on.
install(CODE "set(library \"$<TARGET_FILE:cgx>\")" COMPONENT wheel)
install(CODE [[
  file(GET_RUNTIME_DEPENDENCIES LIBRARIES ${library} RESOLVED_DEPENDENCIES_VAR found UNRESOLVED_DEPENDENCIES_VAR unresolved
    PRE_EXCLUDE_REGEXES "^ld-linux" "^lib(c|m|dl|rt|pthread|gcc_s)\\.so" "^libstdc\\+\\+\\.so")
  if(unresolved)
    message(FATAL_ERROR "libcgx.so needs ${unresolved}, which was not found: the wheel would not work")
  endif()
  foreach(path ${found})
    get_filename_component(name ${path} NAME)
    file(MAKE_DIRECTORY ${CMAKE_INSTALL_PREFIX}/lib)
    file(REAL_PATH ${path} real)
    file(COPY_FILE ${real} ${CMAKE_INSTALL_PREFIX}/lib/${name})
    message(STATUS "Bundling ${name}")
    string(REPLACE ".so." "" package ${name})  # libfmt.so.9: libfmt9
    if(EXISTS /usr/share/doc/${package}/copyright)
      file(MAKE_DIRECTORY ${CMAKE_INSTALL_PREFIX}/lib/licenses)
      file(COPY_FILE /usr/share/doc/${package}/copyright ${CMAKE_INSTALL_PREFIX}/lib/licenses/${package}.txt)
    endif()
  endforeach()
]] COMPONENT wheel)

install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/cgx DESTINATION include COMPONENT wheel)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/bindings/torch/ DESTINATION torch/csrc COMPONENT wheel
        FILES_MATCHING PATTERN "*.cc" PATTERN "*.h")

find_package(Python REQUIRED COMPONENTS Interpreter)
execute_process(COMMAND ${Python_EXECUTABLE} -c "import torch" RESULT_VARIABLE cgx_no_torch OUTPUT_QUIET ERROR_QUIET)
if(cgx_no_torch)
  message(STATUS "cgx: no PyTorch in ${Python_EXECUTABLE}: cgx.torch will be compiled at its first import")
else()
  set(prebuilt ${PROJECT_BINARY_DIR}/prebuilt)
  add_custom_target(cgx_torch_prebuilt ALL
    COMMAND ${Python_EXECUTABLE} ${PROJECT_SOURCE_DIR}/bindings/python/cgx/torch/_build.py
            --directory ${prebuilt} --library $<TARGET_FILE:cgx>
    COMMENT "cgx.torch for the PyTorch of ${Python_EXECUTABLE}" VERBATIM)
  add_dependencies(cgx_torch_prebuilt cgx)
  install(DIRECTORY ${prebuilt}/ DESTINATION torch/prebuilt COMPONENT wheel FILES_MATCHING PATTERN "_shim.so")
endif()
