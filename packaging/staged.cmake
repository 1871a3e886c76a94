# Run by CPack when the files of all packages are in their folders, before they are packed: what Debian wants of files and
# an installation from source does not need.
file(GLOB roots ${CPACK_TEMPORARY_INSTALL_DIRECTORY}/*)
foreach(root IN LISTS roots)
  get_filename_component(component ${root} NAME)
  set(docs ${root}${CPACK_PACKAGING_INSTALL_PREFIX}/share/doc/tunnel-${component})
  string(TIMESTAMP date "%a, %d %b %Y %H:%M:%S +0000" UTC)
  file(WRITE ${docs}/changelog.Debian "tunnel (${CPACK_PACKAGE_VERSION}-${CPACK_DEBIAN_PACKAGE_RELEASE}) unstable; urgency=medium

  * Built from the source tree; its history is the list of changes.

 -- ${CPACK_PACKAGE_CONTACT}  ${date}\n")
  file(CHMOD ${docs}/changelog.Debian PERMISSIONS OWNER_READ OWNER_WRITE GROUP_READ WORLD_READ)
  file(GLOB pages ${root}${CPACK_PACKAGING_INSTALL_PREFIX}/share/man/man*/*.[0-9])
  execute_process(COMMAND gzip -9n ${docs}/changelog.Debian ${pages} COMMAND_ERROR_IS_FATAL ANY)
endforeach()
