# libcgx.a: all of cgx_core as one object, in which everything but the C interface is local, as in libcgx.so. Without that
# the names of lib/ would meet those of a program: cgx.hpp and lib/ both have a cgx::Communicator.
find_program(CGX_LD NAMES ${CMAKE_LINKER} ld REQUIRED)
set(object ${PROJECT_BINARY_DIR}/lib/cgx_static.o)
set(archive ${PROJECT_BINARY_DIR}/lib/libcgx.a)
add_custom_command(OUTPUT ${archive}
  # Groups (of inline functions) become plain sections: a linker would drop a group that another file has, too.
  COMMAND ${CGX_LD} -r --force-group-allocation -o ${object} --whole-archive $<TARGET_FILE:cgx_core>
  COMMAND ${CMAKE_OBJCOPY} --localize-hidden ${object}
  COMMAND ${CMAKE_COMMAND} -E rm -f ${archive}
  COMMAND ${CMAKE_AR} rcs ${archive} ${object}
  COMMAND ${CMAKE_COMMAND} -E rm ${object}
  DEPENDS cgx_core COMMENT "Linking libcgx.a" VERBATIM)
add_custom_target(cgx_static ALL DEPENDS ${archive})
install(FILES ${archive} DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT development)
