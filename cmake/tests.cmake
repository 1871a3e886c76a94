# What has one thread, in which ThreadSanitizer has nothing to find, is no part of the build under it.
function(tunnel_one_thread)
  if(TUNNEL_SANITIZE MATCHES "thread")
    set_target_properties(${ARGN} PROPERTIES EXCLUDE_FROM_ALL TRUE)
  endif()
endfunction()

# tunnel_unit_test(<area> [ONE_THREAD] [FAILING_ALLOC] SOURCES test_x.c … LIBS tunnel_x …)
# Builds unit_<area> from cmocka sources; the first source has main(). Every `cmocka_unit_test*(test_case)` line in the
# sources becomes the ctest case <area>.<case>, which runs alone: `ctest -R '^link.resume_after_cut$'`. ONE_THREAD: ThreadSanitizer has nothing to find.
# FAILING_ALLOC: support/failing_alloc.h.
function(tunnel_unit_test area)
  cmake_parse_arguments(T "ONE_THREAD;FAILING_ALLOC" "TIMEOUT" "SOURCES;LIBS" ${ARGN})
  string(REPLACE "." "_" program "unit_${area}")
  add_executable(${program} ${T_SOURCES})
  target_link_libraries(${program} PRIVATE tunnel_flags tunnel_test_support ${T_LIBS} PkgConfig::CMOCKA)
  if(T_FAILING_ALLOC)
    target_link_libraries(${program} PRIVATE tunnel_failing_alloc)
  endif()
  if(NOT T_TIMEOUT)
    set(T_TIMEOUT 300)
  endif()
  set(labels unit)
  if(T_ONE_THREAD)
    list(APPEND labels notsan)
    tunnel_one_thread(${program})
  endif()
  list(FILTER T_SOURCES EXCLUDE REGEX "TARGET_OBJECTS")
  foreach(source IN LISTS T_SOURCES)
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${source})
    file(READ ${source} text)
    string(REGEX MATCHALL "cmocka_unit_test[a-z_]*\\([ \t\n]*test_[a-z0-9_]+" cases "${text}")
    foreach(case IN LISTS cases)
      string(REGEX REPLACE ".*[^a-z0-9_]test_" "" case "${case}")
      add_test(NAME ${area}.${case} COMMAND ${program} test_${case})
      set_tests_properties(${area}.${case} PROPERTIES TIMEOUT ${T_TIMEOUT} LABELS "${labels}"
        SKIP_REGULAR_EXPRESSION "\\[  SKIPPED \\] test_")
    endforeach()
  endforeach()
endfunction()

# python_cases(<area> <script> <program> [ARGUMENT …]): each test_* function of the script is the ctest case <area>.<name>, run
# as: script program [ARGUMENT …] name. Exit code 77: skipped. python_cases_environment: NAME=value … for the calls behind it.
function(python_cases area script program)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${script})
  file(STRINGS ${script} lines REGEX "^def test_")
  foreach(line IN LISTS lines)
    string(REGEX REPLACE "^def test_([a-z0-9_]+).*" "\\1" case "${line}")
    add_test(NAME ${area}.${case}
      COMMAND /usr/bin/python3 ${CMAKE_CURRENT_SOURCE_DIR}/${script} $<TARGET_FILE:${program}> ${ARGN} ${case})
    set_tests_properties(${area}.${case} PROPERTIES TIMEOUT 300 LABELS unit SKIP_RETURN_CODE 77 ENVIRONMENT "TZ=UTC;${python_cases_environment}")
  endforeach()
endfunction()
