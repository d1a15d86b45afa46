#include "launcher/mpi/mpi_environment.h"

#include <gmock/gmock.h>

namespace muster {
namespace {

using ::testing::Contains;
using ::testing::Key;
using ::testing::Not;
using ::testing::Pair;

TEST(MpiEnvironment, SaysWhereTheServersAreAndWhoTheRankIs) {
  const auto variables = MpiPlaceVariables({"muster-ab-3", 4001, 4002}, "node1", "/tmp/job", 5, 8, 1, 4);
  for (const char* name :
       {"PMIX_SERVER_URI2", "PMIX_SERVER_URI21", "PMIX_SERVER_URI3", "PMIX_SERVER_URI4", "PMIX_SERVER_URI41"}) {
    EXPECT_THAT(variables, Contains(Pair(name, "muster-ab-3-server.0;tcp4://127.0.0.1:4001")));
  }
  EXPECT_THAT(variables, Contains(Pair("PMIX_NAMESPACE", "muster-ab-3")));
  EXPECT_THAT(variables, Contains(Pair("PMIX_RANK", "5")));
  EXPECT_THAT(variables, Contains(Pair("PMIX_GDS_MODULE", "hash")));
  EXPECT_THAT(variables, Contains(Pair("PMI_PORT", "127.0.0.1:4002")));
  EXPECT_THAT(variables, Contains(Pair("PMI_ID", "5")));
  EXPECT_THAT(variables, Contains(Pair("PMI_SIZE", "8")));
  EXPECT_THAT(variables, Contains(Pair("MPI_LOCALRANKID", "1")));
  EXPECT_THAT(variables, Not(Contains(Key("PMI_FD"))));
}

TEST(MpiEnvironment, OpenMpiIsToldToAskAndToYieldWhereItMust) {
  EXPECT_THAT(MpiDefaults("", "", false), ::testing::ElementsAre(Pair("OMPI_MCA_schizo", "^orte,slurm")));
  const auto variables = MpiDefaults("/tmp/job", "/dev/shm/job", true);
  EXPECT_THAT(variables, Contains(Pair("OMPI_MCA_mpi_yield_when_idle", "1")));
  EXPECT_THAT(variables, Contains(Pair("OMPI_MCA_orte_tmpdir_base", "/tmp/job")));
  EXPECT_THAT(variables, Contains(Pair("OMPI_MCA_btl_vader_backing_directory", "/dev/shm/job")));
}

TEST(MpiEnvironment, WhatSaysWhereARankStandsCannotBeChosen) {
  EXPECT_TRUE(IsMpiPlaceVariable("PMIX_RANK"));
  EXPECT_TRUE(IsMpiPlaceVariable("PMIX_SERVER_TMPDIR"));
  EXPECT_TRUE(IsMpiPlaceVariable("PMI_PORT"));
  EXPECT_FALSE(IsMpiPlaceVariable("PMIX_MCA_ptl_base_verbose"));
  EXPECT_FALSE(IsMpiPlaceVariable("OMPI_MCA_schizo"));
}

}  // namespace
}  // namespace muster
