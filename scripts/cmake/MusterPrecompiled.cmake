# muster_precompiled(<target> room|busy_room|test|busy_test)
#
# What nearly every file includes (the standard library, abseil; for tests GoogleTest) is parsed once for all rooms and once for all
# tests: half of a build's time would go there. Files with compiler options of their own say SKIP_PRECOMPILE_HEADERS. To see whether
# a file includes all it needs, configure with -DMUSTER_PRECOMPILED=OFF.
option(MUSTER_PRECOMPILED "Parse the headers of libraries once" ON)

function(muster_precompiled target kind)
  if(MUSTER_PRECOMPILED)
    target_precompile_headers(${target} REUSE_FROM muster_precompiled_${kind})
  endif()
endfunction()

if(NOT MUSTER_PRECOMPILED)
  return()
endif()
set(standard <algorithm> <array> <atomic> <cstdint> <cstring> <deque> <functional> <map> <memory> <optional> <set> <span> <string>
  <string_view> <thread> <utility> <variant> <vector>)
set(abseil absl/functional/function_ref.h absl/status/status.h absl/status/statusor.h absl/strings/match.h absl/strings/numbers.h
  absl/strings/str_cat.h absl/strings/str_format.h absl/strings/str_join.h absl/strings/str_split.h absl/strings/string_view.h
  absl/time/clock.h absl/time/time.h)
list(TRANSFORM abseil PREPEND "<")
list(TRANSFORM abseil APPEND ">")
set(source ${PROJECT_SOURCE_DIR}/scripts/cmake/precompiled.cc)

foreach(kind room busy_room)
  add_library(muster_precompiled_${kind} OBJECT EXCLUDE_FROM_ALL ${source})
  target_link_libraries(muster_precompiled_${kind} PRIVATE muster_options absl::statusor absl::strings absl::time)
  target_precompile_headers(muster_precompiled_${kind} PRIVATE ${standard} ${abseil})
endforeach()
target_compile_options(muster_precompiled_busy_room PRIVATE -O1)
if(MUSTER_BUILD_TESTS)
  foreach(kind test busy_test)
    add_library(muster_precompiled_${kind} OBJECT EXCLUDE_FROM_ALL ${source})
    # As a program is compiled.
    set_target_properties(muster_precompiled_${kind} PROPERTIES POSITION_INDEPENDENT_CODE OFF COMPILE_OPTIONS -fPIE)
    target_link_libraries(muster_precompiled_${kind} PRIVATE muster_options absl::statusor absl::strings absl::time GTest::gmock)
    target_precompile_headers(muster_precompiled_${kind} PRIVATE ${standard} ${abseil} <random> <gmock/gmock.h> <gtest/gtest.h>)
  endforeach()
  target_compile_options(muster_precompiled_busy_test PRIVATE -O1)
endif()
