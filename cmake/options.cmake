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
# Jumps and returns that the processor checks. clang takes the other processor's option, and warns of it.
set(TUNNEL_CHECKED_JUMPS "")
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|amd64|AMD64|i.86")
  set(TUNNEL_CHECKED_JUMPS -fcf-protection=full)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
  set(TUNNEL_CHECKED_JUMPS -mbranch-protection=standard)
endif()
include(CheckCCompilerFlag)
foreach(flag -fstack-clash-protection ${TUNNEL_CHECKED_JUMPS})
  string(MAKE_C_IDENTIFIER "TUNNEL_HAS${flag}" has)
  check_c_compiler_flag(${flag} ${has})
  if(${has})
    target_compile_options(tunnel_flags INTERFACE ${flag})
  endif()
endforeach()
if(TUNNEL_WERROR)
  target_compile_options(tunnel_flags INTERFACE -Werror)
endif()
if(TUNNEL_SANITIZE)
  target_compile_options(tunnel_flags INTERFACE -fsanitize=${TUNNEL_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  # GNU ld needs nearly twice the time, and there are some 150 programs to link.
  target_link_options(tunnel_flags INTERFACE -fsanitize=${TUNNEL_SANITIZE} $<$<C_COMPILER_ID:Clang>:-fuse-ld=lld>)
else()
  # Level 3 is for gcc 12 and clang 9; the C library takes 2 with what is older. Some compilers come with a level of their own.
  target_compile_options(tunnel_flags INTERFACE $<$<NOT:$<CONFIG:Debug>>:-U_FORTIFY_SOURCE> $<$<NOT:$<CONFIG:Debug>>:-D_FORTIFY_SOURCE=3>)
endif()
if(TUNNEL_FUZZ) # coverage for libFuzzer, and some speed
  target_compile_options(tunnel_flags INTERFACE -O1 -fsanitize=fuzzer-no-link)
  target_link_options(tunnel_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()
target_link_options(tunnel_flags INTERFACE -Wl,-z,relro,-z,now,-z,noexecstack)
if(CMAKE_C_COMPILER_ID STREQUAL "GNU")
  # Texts for people are cut to their buffers on purpose: that is what snprintf is for here.
  target_compile_options(tunnel_flags INTERFACE -Wlogical-op -Wduplicated-cond -Wno-format-truncation)
endif()

include(CheckPIESupported)
check_pie_supported(LANGUAGES C)
