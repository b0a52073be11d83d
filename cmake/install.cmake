# What `cmake --install` gives: headers, libcgx.so, the Gloo module beside it, and package files for
# find_package(cgx CONFIG) and pkg-config.
include(CMakePackageConfigHelpers)

set_target_properties(cgx PROPERTIES EXPORT_NAME cgx)
install(TARGETS cgx EXPORT cgxTargets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
if(TARGET cgx_gloo)
  install(TARGETS cgx_gloo LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
endif()
install(DIRECTORY include/cgx DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h" PATTERN "*.hpp")

set(CGX_CMAKE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/cgx)
install(EXPORT cgxTargets NAMESPACE cgx:: DESTINATION ${CGX_CMAKE_DIR})
configure_package_config_file(cmake/cgxConfig.cmake.in ${PROJECT_BINARY_DIR}/cgxConfig.cmake INSTALL_DESTINATION ${CGX_CMAKE_DIR})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/cgxConfigVersion.cmake COMPATIBILITY SameMinorVersion)
configure_file(cmake/cgx.pc.in ${PROJECT_BINARY_DIR}/cgx.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/cgxConfig.cmake ${PROJECT_BINARY_DIR}/cgxConfigVersion.cmake DESTINATION ${CGX_CMAKE_DIR})
install(FILES ${PROJECT_BINARY_DIR}/cgx.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
if(SKBUILD)
  include(cmake/wheel.cmake)
endif()
