# Language level, output folders, warnings and sanitizers: one interface target, `muster_options`, that every room links.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)
set(CMAKE_LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/lib)
set(CMAKE_ARCHIVE_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/lib)
include(GNUInstallDirs)
set(CMAKE_INSTALL_RPATH $ORIGIN/../${CMAKE_INSTALL_LIBDIR})

add_library(muster_options INTERFACE)
target_compile_options(muster_options INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-pthread -Wall -Wextra -Wno-missing-field-initializers -Werror=return-type -Werror=unused-result>
  # GCC 12 takes members of a std::variant's other alternatives for uninitialised reads.
  $<$<AND:$<COMPILE_LANGUAGE:CXX>,$<CXX_COMPILER_ID:GNU>>:-Wno-maybe-uninitialized>
  $<$<AND:$<COMPILE_LANGUAGE:CXX>,$<CXX_COMPILER_ID:Clang>>:-Wthread-safety -Werror=thread-safety>)
if(MUSTER_SANITIZER)
  target_compile_options(muster_options INTERFACE -fsanitize=${MUSTER_SANITIZER} -fno-omit-frame-pointer)
  target_link_options(muster_options INTERFACE -fsanitize=${MUSTER_SANITIZER})
  if(MUSTER_SANITIZER MATCHES "undefined")
    # Not the check of vptrs: to look at memory it needs file descriptors, and tests take them all.
    target_compile_options(muster_options INTERFACE -fno-sanitize-recover=undefined -fno-sanitize=vptr)
  endif()
endif()

find_program(MUSTER_CCACHE ccache)
if(MUSTER_CCACHE)
  # What ccache must be told, and the compilers, so that it keeps precompiled headers and what is compiled with them.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros ${MUSTER_CCACHE})
  target_compile_options(muster_options INTERFACE
    $<$<AND:$<COMPILE_LANGUAGE:CXX>,$<CXX_COMPILER_ID:GNU>>:-fpch-preprocess>
    "$<$<AND:$<COMPILE_LANGUAGE:CXX>,$<CXX_COMPILER_ID:Clang>>:SHELL:-Xclang -fno-pch-timestamp>")
  set(CMAKE_C_COMPILER_LAUNCHER ${MUSTER_CCACHE})
endif()
find_program(MUSTER_MOLD mold)
if(MUSTER_MOLD AND NOT MUSTER_SANITIZER)
  target_link_options(muster_options INTERFACE -fuse-ld=mold)
endif()

# Sanitizers of this age find their shadow memory taken when the kernel randomises addresses widely (vm.mmap_rnd_bits > 28), and
# die with "unexpected memory mapping" in some runs. Where it is allowed, their tests therefore run without randomisation.
set(MUSTER_TEST_LAUNCHER "")
if(MUSTER_SANITIZER)
  if(EXISTS /proc/sys/vm/mmap_rnd_bits)
    execute_process(COMMAND cat /proc/sys/vm/mmap_rnd_bits OUTPUT_VARIABLE MUSTER_RANDOM_BITS ERROR_QUIET
                    OUTPUT_STRIP_TRAILING_WHITESPACE)
  endif()
  execute_process(COMMAND setarch -R true RESULT_VARIABLE result OUTPUT_QUIET ERROR_QUIET)
  if(result EQUAL 0)
    set(MUSTER_TEST_LAUNCHER setarch -R)
  endif()
endif()
