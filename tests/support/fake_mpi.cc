#include "tests/support/fake_mpi.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <set>
#include <thread>

#include "runtime/base/log.h"
#include "runtime/kernels/reduce.h"

namespace muster::test {

class FakeMpi::Rank : public MpiApi {
 public:
  Rank(FakeMpi& mpi, Group& group, int rank) : mpi_(mpi), group_(group), ranks_(group.ranks()), rank_(rank) {}

  int Start(MpiPlace* place) override {
    *place = {rank_, mpi_.options_.ranks, true};
    return mpi_.options_.start_code;
  }
  bool ForSeveralThreads() override { return mpi_.options_.for_several_threads; }

  int Split(int color, int key, MpiApi** some, MpiPlace* place) override {
    MutexLock lock(mpi_.mutex_);
    Splitting& split = group_.splits[splits_++];
    if (mpi_.options_.dies_in_split && mpi_.options_.dies_in_split(group_.world_rank[static_cast<size_t>(rank_)])) {
      while (split.arrived < ranks_ - 1) mpi_.changed_.Wait(mpi_.mutex_);
      return 77;
    }
    split.asked.resize(static_cast<size_t>(ranks_));
    split.asked[static_cast<size_t>(rank_)] = {color, key};
    if (++split.arrived == ranks_) Finish(split);
    mpi_.changed_.SignalAll();
    while (!split.is_done) mpi_.changed_.Wait(mpi_.mutex_);
    Rank* const made = split.some[static_cast<size_t>(rank_)];
    *some = made;
    if (made != nullptr) *place = {made->rank_, made->ranks_, false};
    return kMpiOk;
  }
  int End() override {
    MutexLock lock(mpi_.mutex_);
    MUSTER_CHECK(group_.number == 0, "only the channels of all ranks end MPI");
    mpi_.ended_[static_cast<size_t>(rank_)] = 1;
    return kMpiOk;
  }

  int BeginAllReduce(void* buffer, int64_t count, DataType type, ReduceOp op, MpiRequest* request) override {
    return Begin(buffer, count * SizeOf(type), request, [=, this](Collective& all) {
      Combine(all, count, type, op);
      std::memcpy(buffer, all.result.data(), all.result.size());
    });
  }
  int BeginReduceScatter(const void* send, void* receive, int64_t count, DataType type, ReduceOp op,
                         MpiRequest* request) override {
    return Begin(send, ranks_ * count * SizeOf(type), request, [=, this](Collective& all) {
      Combine(all, ranks_ * count, type, op);
      const auto bytes = static_cast<size_t>(count * SizeOf(type));
      std::memcpy(receive, all.result.data() + bytes * static_cast<size_t>(rank_), bytes);
    });
  }
  int BeginBroadcast(void* buffer, int64_t bytes, int root, MpiRequest* request) override {
    return Begin(buffer, bytes, request, [=](Collective& all) {
      std::memcpy(buffer, all.inputs[static_cast<size_t>(root)].data(), static_cast<size_t>(bytes));
    });
  }
  int BeginAllGather(const void* send, void* receive, int64_t bytes, int64_t stride_bytes, MpiRequest* request) override {
    char* const to = static_cast<char*>(receive);
    return Begin(send == nullptr ? to + rank_ * stride_bytes : send, bytes, request, [=](Collective& all) {
      for (size_t r = 0; r < all.inputs.size(); ++r) {
        std::memcpy(to + static_cast<int64_t>(r) * stride_bytes, all.inputs[r].data(), static_cast<size_t>(bytes));
      }
    });
  }

  int BeginFarewell(MpiRequest* request) override {
    MutexLock lock(mpi_.mutex_);
    ++group_.farewells;
    *request = others_.insert(std::make_unique<Request>(Request{.is_farewell = true})).first->get();
    return kMpiOk;
  }
  int BeginTell(const void* news, int64_t bytes, int rank, MpiRequest* request) override {
    MutexLock lock(mpi_.mutex_);
    group_.news[rank].emplace_back(static_cast<const char*>(news), static_cast<size_t>(bytes));
    *request = others_.insert(std::make_unique<Request>(Request{.is_told = true})).first->get();
    return kMpiOk;
  }
  int BeginHear(void* news, int64_t bytes, MpiRequest* request) override {
    MUSTER_CHECK(hearing_ == nullptr, "one at a time");
    hearing_ = std::make_unique<Request>(Request{.heard = news, .heard_bytes = bytes});
    *request = hearing_.get();
    return kMpiOk;
  }
  void StopHearing(MpiRequest* request) override {
    hearing_.reset();
    *request = nullptr;
  }

  int Test(MpiRequest* request, bool* done) override {
    auto* const asked = static_cast<Request*>(*request);
    MutexLock lock(mpi_.mutex_);
    const int code = Look(*asked, done);
    if (code == kMpiOk && !*done) return kMpiOk;
    *request = nullptr;
    if (asked == hearing_.get()) {
      hearing_.reset();
    } else if (asked->deliver) {
      requests_.erase(asked->collective);
    } else {
      std::erase_if(others_, [asked](const auto& other) { return other.get() == asked; });
    }
    return code;
  }

  void ErrorText(int code, char* text, size_t bytes) override { std::snprintf(text, bytes, "fake error %d", code); }
  const char* Library() override { return "Fake MPI v1"; }

  int64_t begun() const { return begun_; }

 private:
  struct Request {
    bool is_farewell = false;
    bool is_told = false;
    void* heard = nullptr;
    int64_t heard_bytes = 0;
    int64_t collective = 0;
    std::function<void(Collective&)> deliver;  // of a collective
  };

  int Begin(const void* input, int64_t bytes, MpiRequest* request, std::function<void(Collective&)> deliver) {
    MutexLock lock(mpi_.mutex_);
    Collective& all = group_.collectives[begun_];
    all.inputs.resize(static_cast<size_t>(ranks_));
    all.inputs[static_cast<size_t>(rank_)].assign(static_cast<const char*>(input), static_cast<size_t>(bytes));
    ++all.arrived;
    auto& made = requests_[begun_];
    made = std::make_unique<Request>(Request{.collective = begun_, .deliver = std::move(deliver)});
    ++begun_;
    *request = made.get();
    return kMpiOk;
  }

  int Look(Request& asked, bool* done) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mpi_.mutex_) {
    *done = asked.is_told || (asked.is_farewell && group_.farewells == ranks_);
    if (asked.heard != nullptr) {
      std::deque<std::string>& news = group_.news[rank_];
      if (news.empty()) return kMpiOk;
      std::memcpy(asked.heard, news.front().data(), static_cast<size_t>(asked.heard_bytes));
      news.pop_front();
      *done = true;
    }
    if (!asked.deliver) return kMpiOk;
    const int code = mpi_.options_.look && group_.number == 0 ? mpi_.options_.look(rank_, asked.collective) : kMpiOk;
    if (code == kHangs) return kMpiOk;
    if (code != kMpiOk) return code;
    Collective& all = group_.collectives[asked.collective];
    if (all.arrived < ranks_) return kMpiOk;
    asked.deliver(all);
    *done = true;
    return kMpiOk;
  }

  void Combine(Collective& all, int64_t count, DataType type, ReduceOp op) {
    if (!all.result.empty() || count == 0) return;
    all.result.resize(static_cast<size_t>(count * SizeOf(type)));
    std::vector<const void*> sources;
    for (const std::string& input : all.inputs) sources.push_back(input.data());
    void* const result = all.result.data();
    Reduce(ReducePlan::ForLeaves(ranks_), sources, count, type, op, {&result, 1});
  }

  // All ranks are there: makes the groups.
  void Finish(Splitting& split) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mpi_.mutex_) {
    std::map<int, std::vector<std::pair<int, int>>> members;  // by color: key and rank
    for (int r = 0; r < ranks_; ++r) {
      const auto [color, key] = split.asked[static_cast<size_t>(r)];
      if (color >= 0) members[color].emplace_back(key, r);
    }
    split.some.assign(static_cast<size_t>(ranks_), nullptr);
    for (auto& [color, ranks] : members) {
      std::sort(ranks.begin(), ranks.end());
      Group& group = mpi_.groups_.emplace_back();
      group.number = static_cast<int>(mpi_.groups_.size()) - 1;
      for (const auto& [key, rank] : ranks) group.world_rank.push_back(group_.world_rank[static_cast<size_t>(rank)]);
      for (size_t r = 0; r < ranks.size(); ++r) {
        mpi_.ranks_.push_back(std::make_unique<Rank>(mpi_, group, static_cast<int>(r)));
        split.some[static_cast<size_t>(ranks[r].second)] = mpi_.ranks_.back().get();
      }
    }
    split.is_done = true;
  }

  FakeMpi& mpi_;
  Group& group_;  // what changes of it is guarded by mpi_.mutex_
  const int ranks_;
  const int rank_;
  int64_t begun_ = 0;
  int64_t splits_ = 0;
  std::map<int64_t, std::unique_ptr<Request>> requests_;  // collectives that are not done
  std::unique_ptr<Request> hearing_;
  std::set<std::unique_ptr<Request>> others_;
};

FakeMpi::FakeMpi(FakeMpiOptions options) : options_(std::move(options)), ended_(static_cast<size_t>(options_.ranks), 0) {
  MutexLock lock(mutex_);
  Group& all = groups_.emplace_back();
  for (int rank = 0; rank < options_.ranks; ++rank) all.world_rank.push_back(rank);
  for (int rank = 0; rank < options_.ranks; ++rank) ranks_.push_back(std::make_unique<Rank>(*this, all, rank));
}

FakeMpi::~FakeMpi() = default;

MpiApi& FakeMpi::api(int rank) {
  MutexLock lock(mutex_);
  return *ranks_[static_cast<size_t>(rank)];
}

bool FakeMpi::ended(int rank) const {
  MutexLock lock(mutex_);
  return ended_[static_cast<size_t>(rank)] != 0;
}

int64_t FakeMpi::collectives(int rank) const {
  MutexLock lock(mutex_);
  return ranks_[static_cast<size_t>(rank)]->begun();
}

void RunRanks(FakeMpi& mpi, int ranks, const std::function<void(Communicator&)>& body,
              const std::function<void(int rank, MpiOptions&)>& change) {
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank) {
    threads.emplace_back([&mpi, &body, &change, rank] {
      MpiOptions options;
      options.api = &mpi.api(rank);
      options.generation = 7;
      if (change) change(rank, options);
      auto made = CreateMpiCommunicator(std::move(options));
      MUSTER_CHECK(made.ok(), made.status().ToString());
      body(**made);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace muster::test
