# A Debian package: `cmake --build build/release --target package`, or `cpack -G DEB` in the build folder.
#
# One package holds commands, library and headers. The library's interface is that of one version (find_package wants the same minor
# version), workers are built where they run, and a job needs the same muster on every node: a runtime package beside a development
# package would be two that must always be installed together. Apart are muster-mpi, the MPI backend, which
# needs Open MPI, and muster-cuda, the kernels for GPUs.
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME muster)
set(CPACK_PACKAGE_CONTACT "The muster developers <muster@localhost>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "launcher and collective runtime for distributed training")
set(CPACK_DEBIAN_PACKAGE_DESCRIPTION
"muster starts a training program on several ranks, on one machine or on
many, watches over it, starts it again after failures and ends it cleanly.
Its library gives training programs collectives, checkpoints and an order
of data that do not depend on how many ranks there are.")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
# What the programs link is asked of dpkg-shlibdeps, with the versions that are here.
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_MUSTER_PACKAGE_RECOMMENDS "iproute2, openssh-client")
# What the public headers include.
set(CPACK_DEBIAN_MUSTER_PACKAGE_SUGGESTS "libabsl-dev, cmake, muster-mpi, muster-cuda")
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_COMPONENTS_ALL muster)
set(CPACK_DEBIAN_MUSTER_PACKAGE_NAME muster)
if(TARGET muster_mpi)
  list(APPEND CPACK_COMPONENTS_ALL mpi)
  set(CPACK_DEBIAN_MPI_PACKAGE_NAME muster-mpi)
  set(CPACK_DEBIAN_MPI_PACKAGE_DEPENDS "muster (= ${PROJECT_VERSION})")
  set(CPACK_DEBIAN_MPI_DESCRIPTION
"MPI backend of muster, over Open MPI
 Runs the collectives of libmuster by Open MPI, for programs that mpirun
 starts and for muster run --backend mpi.")
endif()
if(TARGET muster_cuda)
  list(APPEND CPACK_COMPONENTS_ALL cuda)
  set(CPACK_DEBIAN_CUDA_PACKAGE_NAME muster-cuda)
  set(CPACK_DEBIAN_CUDA_PACKAGE_DEPENDS "muster (= ${PROJECT_VERSION})")
  set(CPACK_DEBIAN_CUDA_DESCRIPTION
"kernels of muster for NVIDIA GPUs
 Lets libmuster train in a GPU's memory. Holds the part of the CUDA runtime
 it needs; NVIDIA's driver has to be there.")
endif()
include(CPack)
