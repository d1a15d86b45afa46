# Target `programs`: every executable of ours but the tests.
function(muster_executables folder result)
  get_property(targets DIRECTORY ${folder} PROPERTY BUILDSYSTEM_TARGETS)
  set(found "")
  foreach(target IN LISTS targets)
    get_target_property(type ${target} TYPE)
    if(type STREQUAL "EXECUTABLE")
      list(APPEND found ${target})
    endif()
  endforeach()
  get_property(subfolders DIRECTORY ${folder} PROPERTY SUBDIRECTORIES)
  foreach(subfolder IN LISTS subfolders)
    muster_executables(${subfolder} below)
    list(APPEND found ${below})
  endforeach()
  set(${result} ${found} PARENT_SCOPE)
endfunction()

muster_executables(${PROJECT_SOURCE_DIR}/launcher commands)
muster_executables(${PROJECT_SOURCE_DIR}/runtime found)
list(APPEND commands ${found})
set(programs ${commands})
if(MUSTER_BUILD_EXAMPLES)
  muster_executables(${PROJECT_SOURCE_DIR}/examples found)
  list(APPEND programs ${found})
endif()
add_custom_target(programs DEPENDS ${programs})

set(CMAKE_INSTALL_DEFAULT_COMPONENT_NAME muster)
include(MusterManual)

install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/muster RENAME copyright)

# The MPI backend, a package of its own: who wants it has Open MPI, everybody else needs neither.
if(TARGET muster_mpi)
  add_dependencies(programs muster_mpi)
  install(TARGETS muster_mpi LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT mpi)
  install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/muster-mpi RENAME copyright COMPONENT mpi)
endif()

# The CUDA kernels, a package of their own: they are big, and only nodes with GPUs use them.
if(TARGET muster_cuda)
  add_dependencies(programs muster_cuda)
  install(TARGETS muster_cuda LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT cuda)
  install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/muster-cuda RENAME copyright COMPONENT cuda)
endif()

if(NOT TARGET muster)
  return()
endif()

# Installed: the public headers, the library, the commands, and what find_package(muster) reads.
include(CMakePackageConfigHelpers)
set(config_folder ${CMAKE_INSTALL_LIBDIR}/cmake/muster)
install(TARGETS muster EXPORT muster_targets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/runtime/include/muster DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(EXPORT muster_targets NAMESPACE muster:: DESTINATION ${config_folder} FILE musterTargets.cmake)
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/musterConfig.cmake.in ${PROJECT_BINARY_DIR}/musterConfig.cmake
                              INSTALL_DESTINATION ${config_folder})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/musterConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/musterConfig.cmake ${PROJECT_BINARY_DIR}/musterConfigVersion.cmake DESTINATION ${config_folder})
foreach(program IN LISTS commands)
  install(TARGETS ${program} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endforeach()
