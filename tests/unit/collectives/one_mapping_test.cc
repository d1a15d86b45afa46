// Ranks as threads whose windows are one mapping, so that the thread sanitizer sees every access of every algorithm to the
// memory that ranks share: what the exchange, the steps and the claims do not order would be reported as a race.
#include <gtest/gtest.h>

#include <memory>
#include <thread>
#include <vector>

#include "proto/muster/v1/waiting_policy.h"
#include "runtime/backend/native/local_control.h"
#include "runtime/collectives/across_nodes.h"
#include "runtime/collectives/registry.h"
#include "tests/support/memory_mesh.h"

namespace muster {
namespace {

constexpr int kRounds = 20;
constexpr int64_t kPart = 3000;  // elements; more than a slot for a rank's whole vector

class OneMapping : public testing::TestWithParam<int> {
 protected:
  OneMapping() : ranks_(GetParam()), control_(*LocalControl::Create(1, ranks_, 1024, 8192)) {
    // Ranks take over each other's chunks.
    v1::StoreWaitingAdvice({0, 8, true}, control_->header()->waiting);
    for (int r = 0; r < ranks_; ++r) memory_.emplace_back(static_cast<size_t>(2 * count()), 0.0f);
  }

  int64_t count() const { return kPart * ranks_; }

  std::unique_ptr<Member> Join(int rank) {
    auto member = std::make_unique<Member>(control_->header(), rank, "host");
    std::vector<Mapping> mappings;
    for (std::vector<float>& m : memory_) {
      mappings.push_back(Mapping::Borrow(reinterpret_cast<char*>(m.data()), static_cast<int64_t>(m.size() * sizeof(float))));
    }
    member->windows().Add(0, rank, std::move(mappings));
    return member;
  }

  // `rank`'s call of `kind` on its window: input at its front, output behind it.
  Operation Call(v1::OpKind kind, int rank, const Leaves& leaves) {
    std::vector<float>& own = memory_[static_cast<size_t>(rank)];
    Operation operation;
    operation.what.kind = kind;
    operation.what.count = kind == v1::OpKind::kAllGather ? kPart : count();
    operation.what.window = 0;
    operation.input = operation.output = own.data();
    if (kind == v1::OpKind::kAllReduce || kind == v1::OpKind::kReduceScatter) operation.leaves = &leaves;
    if (kind == v1::OpKind::kAllGather || kind == v1::OpKind::kReduceScatter) operation.output = own.data() + count();
    return operation;
  }

  void Run(v1::OpKind kind, float expected_over_ranks, float expected_alone) {
    std::vector<std::thread> threads;
    for (int rank = 0; rank < ranks_; ++rank) {
      threads.emplace_back([=, this] {
        const Leaves leaves = Leaves::ForRanks(ranks_);
        const auto member = Join(rank);
        const Operation operation = Call(kind, rank, leaves);
        std::vector<float>& own = memory_[static_cast<size_t>(rank)];
        for (int round = 0; round < kRounds; ++round) {
          std::fill_n(own.begin(), count(), static_cast<float>(rank + round));
          ASSERT_TRUE(RunCollective(*member, operation, nullptr).ok());
          const float* output = static_cast<const float*>(operation.output);
          const int64_t outputs = kind == v1::OpKind::kReduceScatter ? kPart : count();
          for (int64_t i = 0; i < outputs; ++i) {
            const float owner = kind == v1::OpKind::kAllGather ? static_cast<float>(i / kPart) : 0.0f;
            ASSERT_EQ(output[i], expected_over_ranks + expected_alone * static_cast<float>(round) + owner);
          }
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
  }

  float SumOfRanks() const { return static_cast<float>(ranks_ * (ranks_ - 1) / 2); }

  const int ranks_;
  const std::unique_ptr<LocalControl> control_;
  std::vector<std::vector<float>> memory_;
};

TEST_P(OneMapping, AllReduce) { Run(v1::OpKind::kAllReduce, SumOfRanks(), static_cast<float>(ranks_)); }
TEST_P(OneMapping, ReduceScatter) { Run(v1::OpKind::kReduceScatter, SumOfRanks(), static_cast<float>(ranks_)); }
TEST_P(OneMapping, AllGather) { Run(v1::OpKind::kAllGather, 0.0f, 1.0f); }
TEST_P(OneMapping, Broadcast) { Run(v1::OpKind::kBroadcast, 0.0f, 1.0f); }

// The same for the lanes between two nodes, which read and write the vectors of all their local ranks.
TEST_P(OneMapping, AllReduceAndBroadcastOfTwoNodes) {
  const int world = 2 * ranks_;
  std::vector<int> node_of_rank(static_cast<size_t>(ranks_), 0);
  node_of_rank.resize(static_cast<size_t>(world), 1);
  const auto other_control = *LocalControl::Create(1, ranks_, 1024, 8192);
  while (static_cast<int>(memory_.size()) < world) memory_.emplace_back(memory_[0].size());
  test::MemoryNetwork wires;
  const Leaves leaves = Leaves::ForRanks(world);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < world; ++rank) {
    threads.emplace_back([&, rank] {
      const int node = rank / ranks_;
      const int local = rank % ranks_;
      Member member((node == 0 ? control_ : other_control)->header(), local, "host", node * ranks_, world);
      std::vector<Mapping> mappings;
      for (int r = node * ranks_; r < (node + 1) * ranks_; ++r) {
        std::vector<float>& m = memory_[static_cast<size_t>(r)];
        mappings.push_back(Mapping::Borrow(reinterpret_cast<char*>(m.data()), static_cast<int64_t>(m.size() * sizeof(float))));
      }
      member.windows().Add(0, local, std::move(mappings));
      Network network(Nodes::Of(node_of_rank, rank), wires.Join(rank, {(1 - node) * ranks_ + local}),
                      /*outer_wait_nanoseconds=*/50'000'000);
      std::vector<float>& own = memory_[static_cast<size_t>(rank)];
      for (int round = 0; round < kRounds; ++round) {
        std::fill_n(own.begin(), count(), static_cast<float>(rank + round));
        ASSERT_TRUE(RunAcrossNodes(member, network, Call(v1::OpKind::kAllReduce, rank, leaves), nullptr).ok());
        const auto sum = static_cast<float>(world * round + world * (world - 1) / 2);
        for (int64_t i = 0; i < count(); ++i) ASSERT_EQ(own[static_cast<size_t>(i)], sum);
        own[0] = static_cast<float>(rank);
        ASSERT_TRUE(RunAcrossNodes(member, network, Call(v1::OpKind::kBroadcast, rank, leaves), nullptr).ok());
        ASSERT_EQ(own[0], 0.0f);
      }
      network.Leave(static_cast<uint32_t>(rank));
    });
  }
  for (std::thread& thread : threads) thread.join();
}

INSTANTIATE_TEST_SUITE_P(Ranks, OneMapping, testing::Values(2, 3, 5));

}  // namespace
}  // namespace muster
