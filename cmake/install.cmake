# What `cmake --install` gives: headers, libcgx.so and libcgx.a, the modules, cgx-bench, and package files for
# find_package(cgx CONFIG) and pkg-config. Nothing in it names the prefix, so that an installed tree may be moved.
include(CMakePackageConfigHelpers)
set(CGX_INSTALL_STATIC_DEFAULT ON)
if(CGX_SANITIZE OR SKBUILD)
  set(CGX_INSTALL_STATIC_DEFAULT OFF)
endif()
option(CGX_INSTALL_STATIC "Install libcgx.a as well (find_package's component \"static\")" ${CGX_INSTALL_STATIC_DEFAULT})

set_target_properties(cgx PROPERTIES EXPORT_NAME cgx)
install(TARGETS cgx EXPORT cgxTargets
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT runtime NAMELINK_COMPONENT development)
if(TARGET cgx_gloo)
  install(TARGETS cgx_gloo LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT runtime)
endif()
install(DIRECTORY include/cgx DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT development
  FILES_MATCHING PATTERN "*.h" PATTERN "*.hpp")

# What a program that links libcgx.a has to link beside it: the imported targets that cgx_core links.
get_target_property(linked cgx_core INTERFACE_LINK_LIBRARIES)
list(TRANSFORM linked REPLACE "^\\$<LINK_ONLY:([A-Za-z0-9_:]+)>$" "\\1")
list(FILTER linked EXCLUDE REGEX "^cgx_|^nlohmann_json::|[^A-Za-z0-9_:]")
set(CGX_STATIC_LIBRARIES ${linked})
set(CGX_STATIC_DEPENDENCIES "")
set(CGX_PC_REQUIRES_PRIVATE "")
foreach(one ${linked})
  if(one MATCHES "^([A-Za-z0-9_]+)::")
    list(APPEND CGX_STATIC_DEPENDENCIES ${CMAKE_MATCH_1})
  endif()
endforeach()
foreach(pair "fmt fmt" "hwy libhwy" "OpenSSL libcrypto")
  string(REPLACE " " ";" pair ${pair})
  list(GET pair 0 package)
  if(package IN_LIST CGX_STATIC_DEPENDENCIES)
    list(GET pair 1 module)
    string(APPEND CGX_PC_REQUIRES_PRIVATE " ${module}")
  endif()
endforeach()
if(CGX_INSTALL_STATIC)
  include(cmake/static.cmake)
endif()

set(CGX_CMAKE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/cgx)
install(EXPORT cgxTargets NAMESPACE cgx:: DESTINATION ${CGX_CMAKE_DIR} COMPONENT development)
configure_package_config_file(cmake/cgxConfig.cmake.in ${PROJECT_BINARY_DIR}/cgxConfig.cmake
  INSTALL_DESTINATION ${CGX_CMAKE_DIR} PATH_VARS CMAKE_INSTALL_LIBDIR CMAKE_INSTALL_INCLUDEDIR)
# Before 1.0 a minor version may change the ABI (its soname then changes, too).
write_basic_package_version_file(${PROJECT_BINARY_DIR}/cgxConfigVersion.cmake COMPATIBILITY SameMinorVersion)
# From the directory of cgx.pc back to the prefix, however deep libdir is.
file(RELATIVE_PATH CGX_PC_PREFIX /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)
configure_file(cmake/cgx.pc.in ${PROJECT_BINARY_DIR}/cgx.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/cgxConfig.cmake ${PROJECT_BINARY_DIR}/cgxConfigVersion.cmake
  DESTINATION ${CGX_CMAKE_DIR} COMPONENT development)
install(FILES ${PROJECT_BINARY_DIR}/cgx.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT development)
if(SKBUILD)
  include(cmake/wheel.cmake)
endif()
