#include "launcher/mpi/mpi_world.h"

#include <gmock/gmock.h>

#include <random>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace muster {
namespace {

using ::testing::ElementsAre;

v1::Place Place(uint32_t rank, uint32_t node, uint32_t local_rank, uint32_t application = 0) {
  v1::Place place;
  place.set_rank(rank);
  place.set_node(node);
  place.set_local_rank(local_rank);
  place.set_application(application);
  return place;
}

void AddNode(v1::Members* members, uint32_t number, const std::string& host) {
  v1::Node& node = *members->add_nodes();
  node.set_node(number);
  node.set_host(host);
}

TEST(MpiWorld, OneNodeNeedsNoMembers) {
  v1::Prepare prepare;
  prepare.set_world_size(2);
  *prepare.add_places() = Place(0, 4, 0);
  *prepare.add_places() = Place(1, 4, 1);
  const auto world = MakeMpiWorld("job", 1, prepare, nullptr, "here", {});
  ASSERT_TRUE(world.ok()) << world.status();
  EXPECT_THAT(world->nodes, ElementsAre(4));
  EXPECT_THAT(world->hosts, ElementsAre("here"));
  EXPECT_THAT(world->LocalRanks(), ElementsAre(0, 1));
  EXPECT_THAT(world->application_workers, ElementsAre(2));
}

TEST(MpiWorld, SeveralNodesAreCountedFromZeroAndHaveNamesOfTheirOwn) {
  v1::Prepare prepare;
  prepare.set_world_size(4);
  *prepare.add_places() = Place(1, 3, 0);
  *prepare.add_places() = Place(3, 3, 1, 1);
  v1::Members members;
  for (const auto& place : {Place(0, 1, 0), Place(1, 3, 0), Place(2, 1, 1), Place(3, 3, 1, 1)}) *members.add_places() = place;
  AddNode(&members, 1, "same");
  AddNode(&members, 3, "same");
  AddNode(&members, 9, "idle");
  const auto world = MakeMpiWorld("job", 2, prepare, &members, "same", {3, 1});
  ASSERT_TRUE(world.ok()) << world.status();
  EXPECT_THAT(world->nodes, ElementsAre(1, 3));
  EXPECT_THAT(world->hosts, ElementsAre("same-node1", "same-node3"));
  EXPECT_EQ(world->node, 1u);
  EXPECT_THAT(world->LocalRanks(), ElementsAre(1, 3));
  EXPECT_EQ(world->places[3].application, 1u);
}

TEST(MpiWorld, TablesThatDoNotFitAreRefused) {
  v1::Prepare prepare;
  prepare.set_world_size(2);
  EXPECT_FALSE(MakeMpiWorld("job", 1, prepare, nullptr, "here", {}).ok());
  *prepare.add_places() = Place(0, 0, 0);
  EXPECT_FALSE(MakeMpiWorld("job", 1, prepare, nullptr, "here", {}).ok());  // no rank 1
  *prepare.add_places() = Place(0, 0, 1);
  EXPECT_FALSE(MakeMpiWorld("job", 1, prepare, nullptr, "here", {}).ok());  // rank 0 twice
}

std::vector<MpiPlace> On(const std::vector<uint32_t>& nodes) {
  std::vector<MpiPlace> places;
  for (const uint32_t node : nodes) places.push_back({node, 0, 0});
  return places;
}

TEST(ProcessMapping, IsAsMpichWritesIt) {
  EXPECT_EQ(ProcessMapping(On({0, 0, 0, 0}), 1000), "(vector,(0,1,4))");
  EXPECT_EQ(ProcessMapping(On({0, 0, 1, 1}), 1000), "(vector,(0,2,2))");
  EXPECT_EQ(ProcessMapping(On({0, 0, 1}), 1000), "(vector,(0,1,2),(1,1,1))");
  EXPECT_EQ(ProcessMapping(On({0, 1, 0, 1}), 1000), "(vector,(0,2,1))");
  EXPECT_EQ(ProcessMapping(On({0, 0, 1}), 10), "");
}

// As a reader takes it (MPICH, src/util/mpir_pmi.c): block after block, and from the beginning again.
std::vector<uint32_t> ReadMapping(const std::string& text, size_t ranks) {
  std::vector<uint32_t> numbers;
  for (const absl::string_view word : absl::StrSplit(text, absl::ByAnyChar("(),"), absl::SkipEmpty())) {
    uint32_t number = 0;
    if (absl::SimpleAtoi(word, &number)) numbers.push_back(number);
  }
  std::vector<uint32_t> nodes;
  while (true) {
    for (size_t i = 0; i + 2 < numbers.size(); i += 3) {
      for (uint32_t node = 0; node < numbers[i + 1]; ++node) {
        for (uint32_t rank = 0; rank < numbers[i + 2]; ++rank) {
          if (nodes.size() == ranks) return nodes;
          nodes.push_back(numbers[i] + node);
        }
      }
    }
    if (nodes.size() == ranks) return nodes;
  }
}

TEST(ProcessMapping, SaysOfEveryRankWhereItIs) {
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937 random(seed);
  for (int i = 0; i < 2000; ++i) {
    std::vector<uint32_t> nodes(1 + random() % 20);
    const uint32_t count = 1 + random() % 4;
    for (uint32_t& node : nodes) node = random() % count;
    if (random() % 2 == 0) std::sort(nodes.begin(), nodes.end());
    EXPECT_EQ(ReadMapping(ProcessMapping(On(nodes), 1000), nodes.size()), nodes);
  }
}

}  // namespace
}  // namespace muster
