# Debian packages: scripts/package builds them all. One for each program and one for who writes plugins.
set(TUNNEL_PACKAGE_RELEASE "1" CACHE STRING "Debian revision of the packages")

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_CONTACT "tunnel maintainers <maintainers@tunnel.invalid>")
set(CPACK_PACKAGE_VERSION ${PROJECT_VERSION})
set(CPACK_PACKAGING_INSTALL_PREFIX ${CMAKE_INSTALL_PREFIX})
set(CPACK_STRIP_FILES ON)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS
  OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
set(CPACK_PRE_BUILD_SCRIPTS ${PROJECT_SOURCE_DIR}/packaging/staged.cmake)

set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_RELEASE ${TUNNEL_PACKAGE_RELEASE})
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_COMPRESSION_TYPE xz)
set(CPACK_DEBIAN_PACKAGE_SECTION net)
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)

# package(<component> SUMMARY <line> TEXT <lines> [DEPENDS …] [RECOMMENDS …] [SUGGESTS …] [SECTION …]): the package tunnel-<component>,
# with what was installed as that component and the maintainer scripts of packaging/tunnel-<component>.
set(CPACK_COMPONENTS_ALL "")
macro(package component)
  cmake_parse_arguments(P "" "SUMMARY;TEXT;DEPENDS;RECOMMENDS;SUGGESTS;SECTION" "" ${ARGN})
  string(TOUPPER ${component} upper)
  list(APPEND CPACK_COMPONENTS_ALL ${component})
  set(CPACK_DEBIAN_${upper}_PACKAGE_NAME tunnel-${component})
  set(CPACK_DEBIAN_${upper}_DESCRIPTION "${P_SUMMARY}\n${P_TEXT}")
  foreach(field DEPENDS RECOMMENDS SUGGESTS SECTION)
    if(P_${field})
      set(CPACK_DEBIAN_${upper}_PACKAGE_${field} "${P_${field}}")
    endif()
  endforeach()
  file(GLOB scripts CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/packaging/tunnel-${component}/*)
  set(CPACK_DEBIAN_${upper}_PACKAGE_CONTROL_EXTRA "${scripts}")
  install(FILES ${PROJECT_SOURCE_DIR}/packaging/copyright DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/tunnel-${component}
    COMPONENT ${component})
endmacro()

# Loaded when it is needed (lib/net/curl.h), so dpkg-shlibdeps does not see it.
set(libcurl "libcurl4 (>= 7.75.0) | libcurl4t64")

package(server SUMMARY "control plane and relay of secure tunnels"
  TEXT "Gives people SSH and TCP connections into machines that accept none. It
knows who may reach what, and joins what both ends dialled; what they say to
each other it cannot read. Plugins decide who calls and where sessions are kept."
  DEPENDS "adduser, libwebsockets-evlib-uv" RECOMMENDS "ca-certificates" SUGGESTS "redis-server, tunnel-cli")
package(agent SUMMARY "makes this machine a target of secure tunnels"
  TEXT "Dials out to a tunnel-server and listens on no port. Serves the sessions
that the server's policy and this machine's own list permit, each in a process
of its own."
  DEPENDS "${libcurl}" RECOMMENDS "ca-certificates, openssh-server")
package(cli SUMMARY "opens secure tunnels to machines without inbound ports"
  TEXT "Starts, resumes and ends sessions with the targets of a tunnel-server: a
shell, a command, forwarded ports; and administers policies, targets and the
audit log."
  DEPENDS "${libcurl}" RECOMMENDS "ca-certificates, openssh-client")
package(dev SUMMARY "headers and checks for plugins of tunnel-server"
  TEXT "What it takes to write an auth provider or a session store: the C headers,
their pkg-config file, tunnel-plugin-check and two examples."
  SECTION libdevel RECOMMENDS "gcc | c-compiler, pkgconf | pkg-config" SUGGESTS "tunnel-server")

include(CPack)
