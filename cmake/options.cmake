# Warnings, hardening and sanitizers: one interface target that everything of ours links.
set(TUNNEL_SANITIZE "" CACHE STRING "Sanitizers for everything of ours: address,undefined or thread")
option(TUNNEL_WERROR "Treat warnings as errors" ON)
option(TUNNEL_FUZZ "Build the libFuzzer targets (clang only)" OFF)

add_library(tunnel_flags INTERFACE)
target_compile_definitions(tunnel_flags INTERFACE _GNU_SOURCE TUNNEL_VERSION="${PROJECT_VERSION}")
target_compile_options(tunnel_flags INTERFACE
  -Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wstrict-prototypes -Wmissing-prototypes
  -Wpointer-arith -Wcast-qual -Wwrite-strings -Wformat=2 -Wundef -Wvla
  -fno-strict-aliasing -fno-common -fvisibility=hidden -fstack-protector-strong)
if(TUNNEL_WERROR)
  target_compile_options(tunnel_flags INTERFACE -Werror)
endif()
if(TUNNEL_SANITIZE)
  target_compile_options(tunnel_flags INTERFACE -fsanitize=${TUNNEL_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(tunnel_flags INTERFACE -fsanitize=${TUNNEL_SANITIZE})
else()
  target_compile_definitions(tunnel_flags INTERFACE $<$<NOT:$<CONFIG:Debug>>:_FORTIFY_SOURCE=2>)
endif()
if(TUNNEL_FUZZ) # coverage for libFuzzer, and some speed
  target_compile_options(tunnel_flags INTERFACE -O1 -fsanitize=fuzzer-no-link)
  target_link_options(tunnel_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()
target_link_options(tunnel_flags INTERFACE -Wl,-z,relro,-z,now)
if(CMAKE_C_COMPILER_ID STREQUAL "GNU")
  # Texts for people are cut to their buffers on purpose: that is what snprintf is for here.
  target_compile_options(tunnel_flags INTERFACE -Wlogical-op -Wduplicated-cond -Wno-format-truncation)
endif()

include(CheckPIESupported)
check_pie_supported(LANGUAGES C)
