#include "tests/support/fake_nccl.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "runtime/backend/native/native.h"
#include "runtime/backend/nccl/nccl_seats.h"
#include "runtime/base/log.h"
#include "runtime/kernels/convert.h"

namespace muster::test {
namespace {

template <typename T>
T Combined(ReduceOp op, T a, T b, T scale) {
  switch (op) {
    case ReduceOp::kProd:
      return static_cast<T>(a * b);
    case ReduceOp::kMin:
      return static_cast<T>(std::fmin(a, b));
    case ReduceOp::kMax:
      return static_cast<T>(std::fmax(a, b));
    case ReduceOp::kAvg:
      return static_cast<T>(a + b * scale);
    case ReduceOp::kSum:
      break;
  }
  return static_cast<T>(a + b);
}

template <>
int64_t Combined(ReduceOp op, int64_t a, int64_t b, int64_t) {
  const auto x = static_cast<uint64_t>(a), y = static_cast<uint64_t>(b);
  return op == ReduceOp::kMin   ? std::min(a, b)
         : op == ReduceOp::kMax ? std::max(a, b)
                                : static_cast<int64_t>(op == ReduceOp::kProd ? x * y : x + y);
}

template <>
int32_t Combined(ReduceOp op, int32_t a, int32_t b, int32_t) {
  return static_cast<int32_t>(Combined<int64_t>(op, a, b, 1));
}

template <typename T>
std::string Reduced(const std::vector<std::string>& inputs, ReduceOp op) {
  std::vector<T> result(inputs[0].size() / sizeof(T)), next(result.size());
  const T scale = op == ReduceOp::kAvg ? static_cast<T>(1.0 / static_cast<double>(inputs.size())) : T{1};
  for (size_t r = 0; r < inputs.size(); ++r) {
    std::memcpy(next.data(), inputs[r].data(), inputs[r].size());
    for (size_t i = 0; i < next.size(); ++i) {
      result[i] =
          r == 0 ? (op == ReduceOp::kAvg ? static_cast<T>(next[i] * scale) : next[i]) : Combined(op, result[i], next[i], scale);
    }
  }
  return std::string(reinterpret_cast<const char*>(result.data()), result.size() * sizeof(T));
}

// Rounded after each addition, as a ring does.
std::string Reduced16(DataType type, const std::vector<std::string>& inputs, ReduceOp op) {
  const auto count = static_cast<int64_t>(inputs[0].size() / 2);
  std::vector<float> result(static_cast<size_t>(count)), next(result.size());
  std::string rounded = inputs[0];
  const auto scale = static_cast<float>(1.0 / static_cast<double>(inputs.size()));
  for (size_t r = 0; r < inputs.size(); ++r) {
    WidenToFloat32(type, inputs[r].data(), next.data(), count);
    WidenToFloat32(type, rounded.data(), result.data(), count);
    for (size_t i = 0; i < next.size(); ++i) {
      result[i] = r == 0 ? (op == ReduceOp::kAvg ? next[i] * scale : next[i]) : Combined(op, result[i], next[i], scale);
    }
    RoundFromFloat32(type, result.data(), rounded.data(), count);
  }
  return rounded;
}

std::string ReducedAs(DataType type, const std::vector<std::string>& inputs, ReduceOp op) {
  switch (type) {
    case DataType::kFloat32:
      return Reduced<float>(inputs, op);
    case DataType::kFloat64:
      return Reduced<double>(inputs, op);
    case DataType::kInt32:
      return Reduced<int32_t>(inputs, op);
    case DataType::kInt64:
      return Reduced<int64_t>(inputs, op);
    case DataType::kUint8:
      return Reduced<uint8_t>(inputs, op);
    case DataType::kBFloat16:
    case DataType::kFloat16:
      break;
  }
  return Reduced16(type, inputs, op);
}

}  // namespace

struct FakeNccl::Collective {
  std::string what;                 // of who came first
  std::vector<std::string> inputs;  // by rank
  int arrived = 0;
  std::string result;
};

// What the members of one communicator share.
struct FakeNccl::Clique {
  explicit Clique(int ranks) : ranks(ranks) {}
  const int ranks;
  int begun = 0;  // members that have begun to make it
  std::map<int64_t, Collective> collectives;
  struct Offspring {                                 // of a split or shrink
    std::map<int, std::pair<int, int>> members;      // by rank: colour, key
    std::map<int, std::shared_ptr<Clique>> cliques;  // by colour, once all have come
  };
  std::map<int64_t, Offspring> offspring;
};

struct FakeNccl::Comm {
  int world_rank = 0;
  int rank = 0;
  std::shared_ptr<Clique> clique;   // null: of a split that not all have called yet
  std::function<bool()> to_clique;  // looks whether it is there
  bool hangs = false;
  int error = kNcclOk;
  bool stopped = false;  // aborted or revoked: what runs comes to its end without a result
  bool ended = false;
  int running = 0;
  int looks = 0;  // for which it is still in progress
  int64_t begun = 0;
  int64_t children = 0;
  std::function<void()> launch;  // at the next look
};

struct FakeNccl::Shared {
  Shared(FakeCuda& cuda, FakeNcclOptions options) : cuda(cuda), options(std::move(options)) {}
  FakeCuda& cuda;
  const FakeNcclOptions options;
  mutable Mutex mutex;
  CondVar changed;
  bool ending ABSL_GUARDED_BY(mutex) = false;
  int hanging ABSL_GUARDED_BY(mutex) = 0;  // threads in an abort that hangs
  int64_t ids ABSL_GUARDED_BY(mutex) = 0;
  int64_t registered ABSL_GUARDED_BY(mutex) = 0;
  std::map<std::string, std::shared_ptr<Clique>> cliques ABSL_GUARDED_BY(mutex);  // by id
  std::map<NcclComm, std::shared_ptr<Comm>> comms ABSL_GUARDED_BY(mutex);
  std::map<int, std::vector<std::string>> calls ABSL_GUARDED_BY(mutex);
};

class FakeNccl::Rank : public NcclApi {
 public:
  Rank(std::shared_ptr<Shared> shared, int rank) : shared_(std::move(shared)), s_(*shared_), rank_(rank) {}

  const std::string& library() const override { return library_; }
  const NcclPowers& powers() const override { return s_.options.powers; }

  int GetId(NcclId* id) override {
    MutexLock lock(s_.mutex);
    Note("GetId");
    const std::string text = absl::StrCat("id ", ++s_.ids);
    id->fill(0);
    text.copy(id->data(), id->size());
    return kNcclOk;
  }

  int Init(NcclComm* comm, int ranks, int rank, std::span<const NcclId> ids) override {
    const int code = s_.options.start ? s_.options.start(rank_) : kNcclOk;
    MutexLock lock(s_.mutex);
    Note(absl::StrCat("Init with ", ids.size()));
    MUSTER_CHECK(ids.size() == 1 || s_.options.powers.several_roots, "this library takes one id");
    std::string key;
    for (const NcclId& id : ids) key.append(id.data(), id.size());
    auto& clique = s_.cliques[key];
    if (clique == nullptr) clique = std::make_shared<Clique>(ranks);
    MUSTER_CHECK(clique->ranks == ranks, "ranks of one id differ in how many they are");
    auto made = std::make_shared<Comm>();
    made->world_rank = rank_;
    made->rank = rank;
    made->clique = clique;
    made->looks = 2;
    made->hangs = code == kNcclHangs;
    if (code != kNcclOk && code != kNcclHangs) made->error = code;
    if (code == kNcclOk) ++clique->begun;
    *comm = made.get();
    s_.comms[made.get()] = made;
    return kNcclInProgress;
  }

  int Split(NcclComm comm, int color, int key, NcclComm* made) override {
    MutexLock lock(s_.mutex);
    Note("Split");
    MUSTER_CHECK(s_.options.powers.splits, "this library cannot split");
    return Bear(Of(comm), color, key, /*parents=*/Of(comm).clique->ranks, made);
  }

  int Shrink(NcclComm comm, std::span<const int> excluded, NcclComm* made) override {
    MutexLock lock(s_.mutex);
    Note("Shrink");
    MUSTER_CHECK(s_.options.powers.shrinks, "this library cannot shrink");
    Comm& parent = Of(comm);
    MUSTER_CHECK(parent.running == 0, "a communicator is shrunk while a collective runs on it");
    return Bear(parent, 0, 0, parent.clique->ranks - static_cast<int>(excluded.size()), made);
  }

  int Revoke(NcclComm comm) override {
    const bool fails = s_.options.revoke_fails && s_.options.revoke_fails(rank_);
    MutexLock lock(s_.mutex);
    Note("Revoke");
    if (fails) return kNcclInternalError;
    Stop(Of(comm));
    Of(comm).looks = 1;
    return kNcclInProgress;
  }

  int Finalize(NcclComm comm) override {
    MutexLock lock(s_.mutex);
    Note("Finalize");
    Of(comm).looks = 1;
    return kNcclInProgress;
  }

  int Destroy(NcclComm comm) override {
    MutexLock lock(s_.mutex);
    Note("Destroy");
    MUSTER_CHECK(Of(comm).running == 0, "a communicator is destroyed while a collective runs on it");
    s_.comms.erase(comm);
    return kNcclOk;
  }

  int Abort(NcclComm comm) override {
    const bool hangs = s_.options.abort_hangs && s_.options.abort_hangs(rank_);
    MutexLock lock(s_.mutex);
    Note("Abort");
    std::shared_ptr<Comm> aborted = s_.comms[comm];
    MUSTER_CHECK(aborted != nullptr, "a communicator that has ended is aborted");
    ++s_.hanging;
    while (hangs && !s_.ending) s_.changed.Wait(s_.mutex);
    Stop(*aborted);
    while (aborted->running > 0) s_.changed.Wait(s_.mutex);
    s_.comms.erase(comm);
    --s_.hanging;
    s_.changed.SignalAll();
    return kNcclOk;
  }

  int AsyncError(NcclComm comm, int* state) override {
    std::function<void()> launch;
    {
      MutexLock lock(s_.mutex);
      Comm& asked = Of(comm);
      *state = asked.error;
      if (*state != kNcclOk) return kNcclOk;
      *state = kNcclInProgress;
      if (asked.hangs) return kNcclOk;
      if (asked.stopped && asked.running > 0) return kNcclOk;
      if (asked.to_clique && !asked.to_clique()) return kNcclOk;
      asked.to_clique = nullptr;
      if (asked.clique != nullptr && asked.clique->begun < asked.clique->ranks) return kNcclOk;
      if (asked.looks > 0) {
        --asked.looks;
        return kNcclOk;
      }
      launch = std::exchange(asked.launch, nullptr);
      if (!launch) *state = kNcclOk;
    }
    if (launch) launch();
    return kNcclOk;
  }

  int AllReduce(const void* send, void* receive, int64_t count, DataType type, ReduceOp op, NcclComm comm,
                CudaStream stream) override {
    return Run(comm, stream, absl::StrCat("all_reduce ", count, Name(type), Name(op)), send, count * SizeOf(type),
               [=, this](Comm&, Collective& all) {
                 if (all.result.empty()) all.result = ReducedAs(type, all.inputs, op);
                 std::memcpy(s_.cuda.HostView(receive), all.result.data(), all.result.size());
               });
  }
  int ReduceScatter(const void* send, void* receive, int64_t count, DataType type, ReduceOp op, NcclComm comm,
                    CudaStream stream) override {
    const int64_t ranks = Ranks(comm);
    return Run(comm, stream, absl::StrCat("reduce_scatter ", count, Name(type), Name(op)), send, ranks * count * SizeOf(type),
               [=, this](Comm& member, Collective& all) {
                 if (all.result.empty()) all.result = ReducedAs(type, all.inputs, op);
                 const auto bytes = static_cast<size_t>(count * SizeOf(type));
                 std::memcpy(s_.cuda.HostView(receive), all.result.data() + bytes * static_cast<size_t>(member.rank), bytes);
               });
  }
  int Broadcast(void* buffer, int64_t bytes, int root, NcclComm comm, CudaStream stream) override {
    return Run(comm, stream, absl::StrCat("broadcast ", bytes, " of ", root), buffer, bytes, [=, this](Comm&, Collective& all) {
      std::memcpy(s_.cuda.HostView(buffer), all.inputs[static_cast<size_t>(root)].data(), static_cast<size_t>(bytes));
    });
  }
  int AllGather(const void* send, void* receive, int64_t bytes, NcclComm comm, CudaStream stream) override {
    return Run(comm, stream, absl::StrCat("all_gather ", bytes), send, bytes, [=, this](Comm&, Collective& all) {
      char* to = static_cast<char*>(s_.cuda.HostView(receive));
      for (const std::string& input : all.inputs) to = std::copy(input.begin(), input.end(), to);
    });
  }

  int Allocate(void** memory, int64_t bytes) override { return s_.cuda.Allocate(memory, bytes) == kCudaOk ? kNcclOk : 1; }
  int Free(void* memory) override { return s_.cuda.Free(memory) == kCudaOk ? kNcclOk : 1; }
  int Register(NcclComm comm, void* memory, int64_t bytes, void** handle) override {
    return RegisterWindow(comm, memory, bytes, handle);
  }
  int Deregister(NcclComm comm, void* handle) override { return DeregisterWindow(comm, handle); }
  int RegisterWindow(NcclComm comm, void* memory, int64_t bytes, NcclWindow* window) override {
    MutexLock lock(s_.mutex);
    MUSTER_CHECK(reinterpret_cast<uintptr_t>(memory) % 4096 == 0 && bytes % 4096 == 0, "windows are whole pages");
    Of(comm).looks = 1;
    ++s_.registered;
    *window = memory;
    return kNcclInProgress;
  }
  int DeregisterWindow(NcclComm, NcclWindow) override {
    MutexLock lock(s_.mutex);
    --s_.registered;
    return kNcclOk;
  }

  std::string ErrorText(int code) override {
    if (s_.options.is_asked_for_words) s_.options.is_asked_for_words(rank_);
    return absl::StrCat("fake NCCL error ", code);
  }

 private:
  void Note(std::string call) ABSL_EXCLUSIVE_LOCKS_REQUIRED(s_.mutex) { s_.calls[rank_].push_back(std::move(call)); }

  Comm& Of(NcclComm comm) ABSL_EXCLUSIVE_LOCKS_REQUIRED(s_.mutex) {
    const auto found = s_.comms.find(comm);
    MUSTER_CHECK(found != s_.comms.end(), "a communicator is used after its end");
    return *found->second;
  }

  int64_t Ranks(NcclComm comm) {
    MutexLock lock(s_.mutex);
    return Of(comm).clique->ranks;
  }

  void Stop(Comm& comm) ABSL_EXCLUSIVE_LOCKS_REQUIRED(s_.mutex) {
    comm.stopped = true;
    comm.launch = nullptr;
    s_.changed.SignalAll();
  }

  int Bear(Comm& parent, int color, int key, int parents, NcclComm* made) ABSL_EXCLUSIVE_LOCKS_REQUIRED(s_.mutex) {
    const int64_t index = parent.children++;
    const std::shared_ptr<Clique> of = parent.clique;
    const int rank = parent.rank;
    of->offspring[index].members[rank] = {color, key};
    const auto all_there = [of, index, parents] { return static_cast<int>(of->offspring[index].members.size()) == parents; };
    parent.to_clique = all_there;
    *made = nullptr;
    if (color < 0) return kNcclInProgress;
    auto child = std::make_shared<Comm>();
    child->world_rank = rank_;
    child->looks = 1;
    child->to_clique = [of, index, color, rank, all_there, self = child.get()] {
      if (!all_there()) return false;
      Clique::Offspring& offspring = of->offspring[index];
      std::vector<std::pair<int, int>> order;  // key, rank
      for (const auto& [member, wish] : offspring.members) {
        if (wish.first == color) order.emplace_back(wish.second, member);
      }
      std::sort(order.begin(), order.end());
      auto& clique = offspring.cliques[color];
      if (clique == nullptr) clique = std::make_shared<Clique>(static_cast<int>(order.size()));
      while (order[static_cast<size_t>(self->rank)].second != rank) ++self->rank;
      self->clique = clique;
      ++clique->begun;
      return true;
    };
    *made = child.get();
    s_.comms[child.get()] = std::move(child);
    return kNcclInProgress;
  }

  int Run(NcclComm handle, CudaStream stream, const std::string& what, const void* send, int64_t bytes,
          std::function<void(Comm&, Collective&)> deliver) {
    MutexLock lock(s_.mutex);
    std::shared_ptr<Comm> comm = s_.comms[handle];
    MUSTER_CHECK(comm != nullptr, "a communicator is used after its end");
    MUSTER_CHECK(!comm->launch, "a call was not waited for before the next");
    const int64_t index = comm->begun++;
    comm->launch = [shared = shared_, comm, index, stream, what, send = s_.cuda.HostView(send), bytes,
                    deliver = std::move(deliver)] {
      {
        MutexLock lock(shared->mutex);
        ++comm->running;
      }
      const int code = shared->cuda.Enqueue(stream, [=] { RunOnStream(*shared, *comm, index, what, send, bytes, deliver); });
      if (code == kCudaOk) return;
      MutexLock lock(shared->mutex);
      comm->error = kNcclUnhandledCudaError;
      --comm->running;
      shared->changed.SignalAll();
    };
    return kNcclInProgress;
  }

  static void RunOnStream(Shared& s, Comm& comm, int64_t index, const std::string& what, const void* send, int64_t bytes,
                          const std::function<void(Comm&, Collective&)>& deliver) {
    const int code = s.options.runs ? s.options.runs(comm.world_rank, index) : kNcclOk;
    MutexLock lock(s.mutex);
    Collective& all = comm.clique->collectives[index];
    all.inputs.resize(static_cast<size_t>(comm.clique->ranks));
    if (all.what.empty()) all.what = what;
    if (!comm.stopped) {
      MUSTER_CHECK(all.what == what, absl::StrCat("ranks call ", all.what, " and ", what, ": NCCL would hang"));
      all.inputs[static_cast<size_t>(comm.rank)].assign(static_cast<const char*>(send), static_cast<size_t>(bytes));
      if (code == kNcclOk) ++all.arrived;  // the peers of what hangs or fails wait for it
      s.changed.SignalAll();
    }
    if (code != kNcclOk && code != kNcclHangs) comm.error = code;
    while (!comm.stopped && (code != kNcclOk || all.arrived < comm.clique->ranks)) s.changed.Wait(s.mutex);
    if (!comm.stopped) deliver(comm, all);
    --comm.running;
    s.changed.SignalAll();
  }

  const std::shared_ptr<Shared> shared_;
  Shared& s_;
  const int rank_;
  const std::string library_ = "NCCL 2.99.0";
};

FakeNccl::FakeNccl(FakeCuda& cuda, FakeNcclOptions options) : shared_(std::make_shared<Shared>(cuda, std::move(options))) {}

FakeNccl::~FakeNccl() {
  MutexLock lock(shared_->mutex);
  shared_->ending = true;
  shared_->changed.SignalAll();
  while (shared_->hanging > 0) shared_->changed.Wait(shared_->mutex);
}

std::shared_ptr<NcclApi> FakeNccl::api(int rank) { return std::make_shared<Rank>(shared_, rank); }

std::vector<std::string> FakeNccl::calls(int rank) const {
  MutexLock lock(shared_->mutex);
  return shared_->calls[rank];
}

int64_t FakeNccl::communicators() const {
  MutexLock lock(shared_->mutex);
  return static_cast<int64_t>(shared_->comms.size());
}

int64_t FakeNccl::registered() const {
  MutexLock lock(shared_->mutex);
  return shared_->registered;
}

// --- Worlds ---

void RunNcclRanks(FakeCuda& cuda, FakeNccl& nccl, FakeNode& node, const std::function<void(Communicator&)>& body,
                  const std::function<void(int rank, NcclOptions&)>& change,
                  const std::function<void(int rank, const absl::Status&)>& failed) {
  std::vector<std::thread> threads;
  for (int rank = 0; rank < node.options().ranks; ++rank) {
    threads.emplace_back([&, rank] {
      NcclOptions options;
      options.nccl = nccl.api(rank);
      // The fake outlives whoever has it.
      options.cuda = std::shared_ptr<CudaApi>(&cuda, [](CudaApi*) {});
      options.control = node.Join(rank);
      options.device = rank;
      options.interrupted = WhyNativeIsOver;
      auto ids = ExchangeNcclIds(*options.nccl, *options.control, absl::InfiniteFuture());
      MUSTER_CHECK(ids.ok(), ids.status().ToString());
      options.ids = *std::move(ids);
      if (change) change(rank, options);
      auto made = CreateNcclCommunicator(std::move(options));
      if (made.ok()) {
        body(**made);
      } else {
        MUSTER_CHECK(failed != nullptr, made.status().ToString());
        failed(rank, made.status());
      }
      if (made.ok()) made->reset();
      node.Leave(rank);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace muster::test
