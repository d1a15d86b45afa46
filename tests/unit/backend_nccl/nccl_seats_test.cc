#include "runtime/backend/nccl/nccl_seats.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/support/fake_nccl.h"

namespace muster::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// What all ranks of a world agree on, which must be one answer.
absl::Status Agree(const std::vector<NcclSeat>& seats) {
  std::vector<absl::Status> answers(seats.size());
  RunRanks(static_cast<int>(seats.size()), [&](Communicator& control) {
    const auto rank = static_cast<size_t>(control.rank());
    const absl::Status answer = AgreeOnSeats(control, seats[rank], absl::InfiniteFuture());
    answers[rank] = absl::Status(answer.code(), answer.message());
  });
  for (const absl::Status& answer : answers) EXPECT_EQ(answer, answers[0]);
  return answers[0];
}

NcclSeat Seat(const std::string& gpu) { return {absl::OkStatus(), "NCCL 2.28.9", gpu}; }

TEST(NcclSeats, EveryRankNeedsALibraryAndAGpuOfItsOwn) {
  EXPECT_TRUE(Agree({Seat("a 01"), Seat("a 02"), Seat("b 01")}).ok());

  std::vector<NcclSeat> seats = {Seat("a 01"), Seat("a 02"), Seat("b 01")};
  seats[1].usable = absl::FailedPreconditionError("no GPU can be used: the driver sees none");
  absl::Status answer = Agree(seats);
  EXPECT_TRUE(absl::IsFailedPrecondition(answer)) << answer;
  EXPECT_THAT(std::string(answer.message()), HasSubstr("rank 1: no GPU can be used: the driver sees none"));

  answer = Agree({Seat("a 01"), Seat("b 01"), Seat("a 01")});
  EXPECT_TRUE(absl::IsFailedPrecondition(answer)) << answer;
  EXPECT_THAT(std::string(answer.message()), HasSubstr("ranks 0 and 2 share the GPU a 01"));

  seats = {Seat("a 01"), Seat("a 02"), Seat("b 01")};
  seats[2].library = "NCCL 2.27.3";
  answer = Agree(seats);
  EXPECT_TRUE(absl::IsFailedPrecondition(answer)) << answer;
  EXPECT_THAT(std::string(answer.message()), HasSubstr("rank 2 has NCCL 2.27.3, rank 0 has NCCL 2.28.9"));
}

TEST(NcclSeats, RootsAreSpreadAsNcclSpreadsThem) {
  EXPECT_THAT(RootsOf(5, 1), ElementsAre(0));
  EXPECT_THAT(RootsOf(10, 3), ElementsAre(0, 4, 7));
  EXPECT_THAT(RootsOf(6, 3), ElementsAre(0, 2, 4));
}

TEST(NcclSeats, LargeWorldsHaveSeveralRootsWhereTheLibraryTakesThem) {
  for (const bool several : {true, false}) {
    FakeCuda cuda({.devices = 5});
    FakeNcclOptions options;
    options.powers.several_roots = several;
    FakeNccl nccl(cuda, options);
    FakeNode node({.ranks = 5});
    RunNcclRanks(
        cuda, nccl, node, [](Communicator& comm) { EXPECT_TRUE(comm.Barrier().ok()); },
        [&](int rank, NcclOptions& options) {
          auto ids = ExchangeNcclIds(*nccl.api(rank), *options.control, absl::InfiniteFuture(), /*ranks_per_root=*/2);
          ASSERT_TRUE(ids.ok()) << ids.status();
          EXPECT_EQ(ids->size(), several ? 3u : 1u);
          options.ids = *std::move(ids);
        });
    EXPECT_THAT(nccl.calls(4), testing::Contains(several ? "Init with 3" : "Init with 1"));
  }
}

}  // namespace
}  // namespace muster::test
