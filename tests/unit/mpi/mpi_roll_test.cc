#include "launcher/mpi/mpi_roll.h"

#include <gmock/gmock.h>

#include "absl/strings/str_cat.h"

namespace muster {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr MpiProtocol kPmix = MpiProtocol::kPmix, kPmi = MpiProtocol::kPmi;

// "rank RANK WHY (CODE)" of each complaint.
std::vector<std::string> TextOf(const MpiRoll::Complaints& complaints) {
  std::vector<std::string> texts;
  for (const auto& one : complaints) texts.push_back(absl::StrCat("rank ", one.rank, " ", one.why, " (", one.exit_code, ")"));
  return texts;
}

TEST(MpiRoll, WhoComesAndGoesInGoodOrderIsNotComplainedOf) {
  MpiRoll roll;
  EXPECT_THAT(roll.Awaited(kPmix, "rank 5"), IsEmpty());
  for (const uint32_t rank : {0u, 1u}) EXPECT_THAT(roll.Joined(kPmix, rank), IsEmpty());
  for (const uint32_t rank : {0u, 1u}) roll.Left(rank);
  for (const uint32_t rank : {0u, 1u}) EXPECT_THAT(roll.Ended(rank), IsEmpty());
}

TEST(MpiRoll, ProgramsWithoutMpiAreNotComplainedOf) {
  MpiRoll roll;
  for (const uint32_t rank : {0u, 1u}) EXPECT_THAT(roll.Ended(rank), IsEmpty());
}

TEST(MpiRoll, OneThatWentWithoutFinalizeIsNamedAlsoAfterASecondInit) {
  MpiRoll roll;
  roll.Joined(kPmi, 1);
  roll.Left(1);
  roll.Joined(kPmi, 1);
  EXPECT_THAT(TextOf(roll.Ended(1)), ElementsAre("rank 1 ended with status 0 and never called MPI_Finalize (0)"));
}

TEST(MpiRoll, OneThatNeverCameIsNamedOnceWhetherItsEndOrTheOthersComingIsFirst) {
  constexpr char kWhy[] = "rank 1 ended with status 0 and never called MPI_Init, as rank 0 did (0)";
  MpiRoll before;
  EXPECT_THAT(before.Ended(1), IsEmpty());
  EXPECT_THAT(TextOf(before.Joined(kPmi, 0)), ElementsAre(kWhy));
  EXPECT_THAT(before.Joined(kPmi, 2), IsEmpty());
  MpiRoll after;
  EXPECT_THAT(after.Joined(kPmix, 0), IsEmpty());
  EXPECT_THAT(TextOf(after.Ended(1)), ElementsAre(kWhy));
}

TEST(MpiRoll, OneThatOnlyRanksOfOtherNodesWaitForIsNamed) {
  MpiRoll before;
  EXPECT_THAT(before.Ended(4), IsEmpty());
  EXPECT_THAT(TextOf(before.Awaited(kPmix, "rank 0")),
              ElementsAre("rank 4 ended with status 0 and never called MPI_Init, as rank 0 did (0)"));
  EXPECT_THAT(before.Awaited(kPmix, "rank 0"), IsEmpty());
  MpiRoll after;
  EXPECT_THAT(after.Awaited(kPmi, "a rank on host b"), IsEmpty());
  EXPECT_THAT(TextOf(after.Ended(4)),
              ElementsAre("rank 4 ended with status 0 and never called MPI_Init, as a rank on host b did (0)"));
}

TEST(MpiRoll, AbortHasTheCodeThatTheKernelWouldPass) {
  MpiRoll roll;
  EXPECT_THAT(TextOf(roll.Aborted(2, 263)), ElementsAre("rank 2 called MPI_Abort with code 263 (7)"));
  EXPECT_THAT(roll.Ended(2), IsEmpty());
  EXPECT_THAT(roll.Aborted(2, 1), IsEmpty());
}

TEST(MpiRoll, AMixOfLibrariesIsNamedOnceByTheRankThatSpeaksPmi) {
  for (const bool pmi_first : {true, false}) {
    MpiRoll roll;
    EXPECT_THAT(roll.Joined(pmi_first ? kPmi : kPmix, pmi_first ? 1 : 0), IsEmpty());
    const auto told = TextOf(roll.Joined(pmi_first ? kPmix : kPmi, pmi_first ? 0 : 1));
    ASSERT_THAT(told, ElementsAre(HasSubstr("rank 1 speaks PMI-1, as programs of MPICH do, and rank 0 speaks PMIx, as those of "
                                            "Open MPI do: they cannot be one MPI world")));
    EXPECT_THAT(roll.Joined(kPmix, 2), IsEmpty());
  }
}

TEST(MpiRoll, AMixOfNodesIsNamedWhereItsRanksSpeakPmi) {
  MpiRoll of_pmi, of_pmix;
  EXPECT_THAT(of_pmi.Awaited(kPmix, "rank 0"), IsEmpty());
  EXPECT_THAT(TextOf(of_pmi.Joined(kPmi, 2)),
              ElementsAre(HasSubstr("rank 2 speaks PMI-1, as programs of MPICH do, and rank 0")));
  EXPECT_THAT(of_pmix.Joined(kPmix, 0), IsEmpty());
  EXPECT_THAT(of_pmix.Awaited(kPmi, "rank 2"), IsEmpty());
}

// A script may run a program of each library after the other, and ranks do not go from one to the next at the same time.
TEST(MpiRoll, ProgramsOfBothLibrariesMayFollowEachOther) {
  MpiRoll first_pmi;
  for (const uint32_t rank : {0u, 1u}) EXPECT_THAT(first_pmi.Joined(kPmi, rank), IsEmpty());
  first_pmi.MetByPmi();
  EXPECT_THAT(first_pmi.Awaited(kPmix, "rank 5"), IsEmpty());
  first_pmi.Left(0);
  EXPECT_THAT(first_pmi.Joined(kPmix, 0), IsEmpty());
  first_pmi.Left(1);
  EXPECT_THAT(first_pmi.Joined(kPmix, 1), IsEmpty());
  MpiRoll first_pmix;
  EXPECT_THAT(first_pmix.Awaited(kPmix, "rank 5"), IsEmpty());
  for (const uint32_t rank : {0u, 1u}) EXPECT_THAT(first_pmix.Joined(kPmix, rank), IsEmpty());
  for (const uint32_t rank : {0u, 1u}) {
    first_pmix.Left(rank);
    EXPECT_THAT(first_pmix.Joined(kPmi, rank), IsEmpty());
  }
}

}  // namespace
}  // namespace muster
