# The wheel (component "wheel", installed into the package by scikit-build-core): the libraries, the C++ sources
# of the PyTorch backend with the header they need, and that backend prebuilt where the Python that builds the wheel has PyTorch.
install(FILES $<TARGET_FILE:cgx> DESTINATION lib RENAME libcgx.so COMPONENT wheel)
if(TARGET cgx_gloo)
  install(FILES $<TARGET_FILE:cgx_gloo> DESTINATION lib COMPONENT wheel)
endif()
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
