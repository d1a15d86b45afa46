#include "runtime/backend/mpi/mpi_engine.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/muster/v1/operation_text.h"
#include "runtime/backend/shared/operations.h"
#include "runtime/backend/shared/pause.h"
#include "runtime/base/clock.h"
#include "runtime/base/status.h"
#include "runtime/kernels/convert.h"
#include "runtime/kernels/reduce.h"

namespace muster {
namespace {

constexpr int64_t kMillisecond = 1'000'000;
constexpr int64_t kTellPatience = 100 * kMillisecond;
// A rank that ends well is soon followed by the others; only where it is not do those have to know.
constexpr int64_t kSplitPatience = 1000 * kMillisecond;
constexpr int64_t kFarewellPatience = 1000 * kMillisecond;

// Callers' buffers may lie at any address.
template <typename T>
void FinishFloats(char* data, int64_t count, int64_t divisor) {
  for (int64_t i = 0; i < count; ++i) {
    T value;
    std::memcpy(&value, data + i * static_cast<int64_t>(sizeof value), sizeof value);
    if (divisor != 1) value /= static_cast<T>(divisor);
    if (value != value) value = std::numeric_limits<T>::quiet_NaN();
    std::memcpy(data + i * static_cast<int64_t>(sizeof value), &value, sizeof value);
  }
}

// What the canonical tree does last: the average's division, and every NaN made the one.
void FinishReduction(void* data, int64_t count, DataType type, int64_t divisor) {
  if (type == DataType::kFloat32) FinishFloats<float>(static_cast<char*>(data), count, divisor);
  if (type == DataType::kFloat64) FinishFloats<double>(static_cast<char*>(data), count, divisor);
}

int64_t DivisorOf(const Operation& operation) { return operation.op() == ReduceOp::kAvg ? operation.leaves->plan.leaves() : 1; }

ReduceOp UndividedOf(const Operation& operation) { return operation.op() == ReduceOp::kAvg ? ReduceOp::kSum : operation.op(); }

std::string During(const Operation& operation) { return Describe(operation.what, v1::Detail::kBrief); }

}  // namespace

MpiEngine::MpiEngine(MpiOptions options, const MpiPlace& place)
    : options_([&options] {
        if (!options.now) options.now = MonotonicNanoseconds;
        if (!options.pause) options.pause = YieldThenNap;
        return std::move(options);
      }()),
      api_(*options_.api),
      place_(place) {
  if (place_.world_size > 1) api_.BeginHear(&memory_->heard, sizeof memory_->heard, &hearing_);
}

MpiEngine::~MpiEngine() {
  if (hearing_ == nullptr && !failure().has_value()) return;
  static auto& mutex = *new Mutex;
  static auto& kept = *new std::vector<std::unique_ptr<Memory>>;
  MutexLock lock(mutex);
  kept.push_back(std::move(memory_));
}

std::optional<Failure> MpiEngine::failure() const {
  MutexLock lock(mutex_);
  return failure_;
}

void MpiEngine::Break(Failure failure) {
  MutexLock lock(mutex_);
  if (failure_.has_value()) return;
  failure_ = std::move(failure);
  is_own_ = true;
}

absl::Status MpiEngine::Fail(Failure failure) {
  Break(std::move(failure));
  return this->failure()->status;
}

absl::Status MpiEngine::Run(const Operation& operation) {
  if (operation.what.kind == v1::OpKind::kNone) {
    TellFailure();
    return absl::OkStatus();
  }
  absl::Status status = failure().has_value() ? failure()->status : Announce(operation);
  if (status.ok()) status = Perform(operation);
  ++operations_;
  TellFailure();
  return status;
}

// --- Operations ---

absl::Status MpiEngine::Announce(const Operation& operation) {
  const auto digest = static_cast<int64_t>(DigestOf(operation.what));
  int64_t* const extremes = memory_->small;
  extremes[0] = digest;
  extremes[1] = ~digest;
  MpiRequest request = nullptr;
  MUSTER_RETURN_IF_ERROR(
      Await(api_.BeginAllReduce(extremes, 2, DataType::kInt64, ReduceOp::kMax, &request), &request, operation));
  if (extremes[0] == ~extremes[1]) return absl::OkStatus();
  std::vector<v1::OpDescriptor>& all = memory_->calls;
  all.resize(static_cast<size_t>(place_.world_size));
  const int64_t bytes = sizeof operation.what;
  MUSTER_RETURN_IF_ERROR(Await(api_.BeginAllGather(&operation.what, all.data(), bytes, bytes, &request), &request, operation));
  std::vector<int> job_ranks;
  for (int rank = 0; rank < place_.world_size; ++rank) job_ranks.push_back(JobRank(rank));
  return Fail(MismatchFailure(DifferentCalls(all, job_ranks)));
}

absl::Status MpiEngine::Perform(const Operation& operation) {
  if (operation.what.count == 0) return absl::OkStatus();
  if (operation.what.kind == v1::OpKind::kCreateWindow) return AgreeOnWindow(operation);
  if (operation.what.kind == v1::OpKind::kSplit) return Split(operation);
  return MoveData(*this, operation);  // of a barrier there is none: announcing it was one
}

bool MpiEngine::Is16Bit(const Operation& operation) const { return operation.element_bytes() == 2; }

char* MpiEngine::Scratch(int64_t bytes) {
  std::vector<char>& scratch = memory_->scratch;
  if (static_cast<int64_t>(scratch.size()) < bytes) scratch.resize(static_cast<size_t>(bytes));
  return scratch.data();
}

absl::Status MpiEngine::ReduceInPlace(void* data, int64_t count, DataType type, const Operation& operation) {
  MpiRequest request = nullptr;
  MUSTER_RETURN_IF_ERROR(Await(api_.BeginAllReduce(data, count, type, UndividedOf(operation), &request), &request, operation));
  FinishReduction(data, count, type, DivisorOf(operation));
  return absl::OkStatus();
}

// The rows of this rank are combined first; of a plain all_reduce there is one.
absl::Status MpiEngine::AllReduce(const Operation& operation) {
  const bool shards = operation.what.kind == v1::OpKind::kAllReduceShards;
  const int rows = shards ? operation.leaves->rows[static_cast<size_t>(place_.rank)] : 1;
  const bool widen = Is16Bit(operation);
  const DataType type = widen ? DataType::kFloat32 : operation.type();
  const int rows_max = shards ? operation.leaves->rows_max : 1;  // all ranks cut alike
  const ReducePlan plan = ReducePlan::ForLeaves(rows);
  const int64_t piece_max = widen ? std::max<int64_t>(1, options_.scratch_bytes / (rows_max * SizeOf(type)))
                                  : std::max<int64_t>(1, options_.piece_bytes / SizeOf(type));
  for (int64_t begin = 0; begin < operation.what.count; begin += piece_max) {
    const int64_t count = std::min(piece_max, operation.what.count - begin);
    std::vector<const void*> sources;
    for (int row = 0; row < rows; ++row) {
      char* const data =
          static_cast<char*>(operation.output) + row * operation.stride_bytes + begin * operation.element_bytes();
      if (widen) {
        auto* const wide = reinterpret_cast<float*>(Scratch(rows * piece_max * SizeOf(type))) + row * piece_max;
        WidenToFloat32(operation.type(), data, wide, count);
        sources.push_back(wide);
      } else {
        sources.push_back(data);
      }
    }
    void* const sum = const_cast<void*>(sources[0]);
    if (rows > 1) Reduce(plan, sources, count, type, UndividedOf(operation), {&sum, 1});
    MUSTER_RETURN_IF_ERROR(ReduceInPlace(sum, count, type, operation));
    if (widen) {
      RoundFromFloat32(operation.type(), static_cast<float*>(sum),
                       static_cast<char*>(operation.output) + begin * operation.element_bytes(), count);
    }
  }
  return absl::OkStatus();
}

// Part by part of every rank's part: what MPI gets is packed, unless it is the whole and lies apart from the result.
absl::Status MpiEngine::ReduceScatter(const Operation& operation) {
  const int64_t ranks = place_.world_size;
  const int64_t part = operation.what.count / ranks;
  const bool widen = Is16Bit(operation);
  const DataType type = widen ? DataType::kFloat32 : operation.type();
  const int64_t size = operation.element_bytes();
  const char* const input = static_cast<const char*>(operation.input);
  char* const output = static_cast<char*>(operation.output);
  const bool apart = output + part * size <= input || input + operation.row_bytes() <= output;
  const bool whole = apart && !widen && part <= options_.piece_bytes / (ranks * size);
  const int64_t piece_max = whole ? part : std::max<int64_t>(1, options_.scratch_bytes / ((ranks + 1) * SizeOf(type)));
  for (int64_t begin = 0; begin < part; begin += piece_max) {
    const int64_t count = std::min(piece_max, part - begin);
    const void* send = input;
    void* result = output;
    if (!whole) {
      char* const packed = Scratch((ranks + 1) * piece_max * SizeOf(type));
      for (int64_t r = 0; r < ranks; ++r) {
        const char* const from = input + (r * part + begin) * size;
        char* const to = packed + r * count * SizeOf(type);
        if (widen) {
          WidenToFloat32(operation.type(), from, reinterpret_cast<float*>(to), count);
        } else {
          std::memcpy(to, from, static_cast<size_t>(count * size));
        }
      }
      send = packed;
      result = packed + ranks * count * SizeOf(type);
    }
    MpiRequest request = nullptr;
    MUSTER_RETURN_IF_ERROR(
        Await(api_.BeginReduceScatter(send, result, count, type, UndividedOf(operation), &request), &request, operation));
    FinishReduction(result, count, type, DivisorOf(operation));
    if (widen) RoundFromFloat32(operation.type(), static_cast<float*>(result), output + begin * size, count);
    if (!whole && !widen) std::memcpy(output + begin * size, result, static_cast<size_t>(count * size));
  }
  return absl::OkStatus();
}

absl::Status MpiEngine::Broadcast(const Operation& operation) {
  for (int64_t begin = 0; begin < operation.row_bytes(); begin += options_.piece_bytes) {
    const int64_t bytes = std::min(options_.piece_bytes, operation.row_bytes() - begin);
    MpiRequest request = nullptr;
    MUSTER_RETURN_IF_ERROR(
        Await(api_.BeginBroadcast(static_cast<char*>(operation.output) + begin, bytes, operation.what.root, &request), &request,
              operation));
  }
  return absl::OkStatus();
}

absl::Status MpiEngine::AllGather(const Operation& operation) {
  const int64_t part = operation.row_bytes();
  const char* const own = static_cast<char*>(operation.output) + place_.rank * part;
  for (int64_t begin = 0; begin < part; begin += options_.piece_bytes) {
    const int64_t bytes = std::min(options_.piece_bytes, part - begin);
    const char* const send = operation.input == own ? nullptr : static_cast<const char*>(operation.input) + begin;
    MpiRequest request = nullptr;
    MUSTER_RETURN_IF_ERROR(Await(api_.BeginAllGather(send, static_cast<char*>(operation.output) + begin, bytes, part, &request),
                                 &request, operation));
  }
  return absl::OkStatus();
}

absl::Status MpiEngine::AgreeOnWindow(const Operation& operation) {
  const bool have = *static_cast<const int64_t*>(operation.input) != 0;
  int64_t& lowest_without = memory_->small[0];
  lowest_without = have ? place_.world_size : place_.rank;
  MpiRequest request = nullptr;
  MUSTER_RETURN_IF_ERROR(
      Await(api_.BeginAllReduce(&lowest_without, 1, DataType::kInt64, ReduceOp::kMin, &request), &request, operation));
  if (lowest_without == place_.world_size) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat("rank ", JobRank(static_cast<int>(lowest_without)),
                                                   " has no memory for a window of ", operation.what.count,
                                                   " bytes: use smaller buffers or fewer ranks a node"));
}

absl::Status MpiEngine::Split(const Operation& operation) {
  MpiSplit& split = *static_cast<MpiSplit*>(operation.output);
  SplitWord& own = memory_->own_split;
  own = {split.call, split.is_full ? 1 : 0, api_.ForSeveralThreads() ? 1 : 0};
  std::vector<SplitWord>& all = memory_->splits;
  all.resize(static_cast<size_t>(place_.world_size));
  MpiRequest request = nullptr;
  MUSTER_RETURN_IF_ERROR(Await(api_.BeginAllGather(&own, all.data(), sizeof own, sizeof own, &request), &request, operation));
  std::vector<SplitCall> calls;
  for (size_t r = 0; r < all.size(); ++r) {
    calls.push_back(all[r].call);
    const std::string who = absl::StrCat("rank ", JobRank(static_cast<int>(r)));
    if (all[r].is_full != 0) {
      return absl::ResourceExhaustedError(
          absl::StrCat(who, " has made ", kMpiChildrenMax,
                       " communicators by Split, the most that the mpi backend makes in a process's "
                       "life; make them once and keep them"));
    }
    if (all[r].for_several_threads == 0) {
      return absl::FailedPreconditionError(
          absl::StrCat(api_.Library(), " on ", who,
                       " is not for several threads at a time (MPI_THREAD_MULTIPLE), which "
                       "communicators made by Split need; use a library that is, or the native backend"));
    }
  }
  split_state_ = kWithin;
  const int code = api_.Split(split.call.color, split.call.key, &split.some, &split.place);
  int within = kWithin;
  if (!split_state_.compare_exchange_strong(within, kElsewhere)) {
    for (;;) ::pause();  // nobody waits for this thread any more, and what it would touch may be gone
  }
  if (code != kMpiOk) return LibraryFailed(code, operation);
  for (const int rank : SplitMembers(calls, split.call.color)) split.job_ranks.push_back(JobRank(rank));
  return absl::OkStatus();
}

bool MpiEngine::GivesUpSplit(int64_t deadline) {
  if (split_state_ != kWithin) return false;
  const int64_t now = options_.now();
  const bool over = failure().has_value() || (options_.interrupted && !options_.interrupted().ok());
  if (over && over_since_ == 0) over_since_ = now;
  const bool is_late = now >= deadline;
  if (!is_late && (!over || now - over_since_ < kSplitPatience)) return false;
  int within = kWithin;
  if (!split_state_.compare_exchange_strong(within, kGivenUp)) return false;
  const absl::Status why = options_.interrupted ? options_.interrupted() : absl::OkStatus();
  if (!why.ok()) {
    Break({why, v1::AbortReason::kGenerationOver});
    return true;
  }
  const std::string text = absl::StrCat("the deadline passed during split on rank ", JobRank(place_.rank),
                                        "; MPI does not say which ranks had not arrived");
  Break({absl::DeadlineExceededError(text), v1::AbortReason::kDeadline, v1::kNoRank, 0, text});
  return true;
}

// --- Waiting, and what ends it ---

absl::Status MpiEngine::Await(int code, MpiRequest* request, const Operation& operation) {
  const int64_t begin = options_.now();
  for (;;) {
    bool done = false;
    if (code == kMpiOk) code = api_.Test(request, &done);
    if (code != kMpiOk) return LibraryFailed(code, operation);
    if (done) return absl::OkStatus();
    if (absl::Status news = LookForNews(operation); !news.ok()) {
      // All may have come since the look before: then the operation is whole, and the news are for later ones.
      return api_.Test(request, &done) == kMpiOk && done ? absl::OkStatus() : news;
    }
    const int64_t now = options_.now();
    if (now >= operation.deadline) {
      const std::string text = absl::StrCat("the deadline passed during ", During(operation), " on rank ", JobRank(place_.rank),
                                            "; MPI does not say which ranks had not arrived");
      return Fail({absl::DeadlineExceededError(text), v1::AbortReason::kDeadline, v1::kNoRank, 0, text});
    }
    options_.pause(now - begin);
  }
}

absl::Status MpiEngine::LibraryFailed(int code, const Operation& operation) {
  char words[200] = "";
  api_.ErrorText(code, words, sizeof words);
  const std::string text =
      absl::StrCat(api_.Library(), " on rank ", JobRank(place_.rank), " during ", During(operation), ": ", words);
  return Fail({absl::UnavailableError(text), v1::AbortReason::kAborted, static_cast<uint32_t>(JobRank(place_.rank)), 0, text});
}

absl::Status MpiEngine::LookForNews(const Operation& operation) {
  if (auto failed = failure(); failed.has_value()) return failed->status;
  if (options_.interrupted) {
    absl::Status over = options_.interrupted();
    if (!over.ok()) {
      MutexLock lock(mutex_);
      if (!failure_.has_value()) failure_ = Failure{over, v1::AbortReason::kGenerationOver};
      return failure_->status;
    }
  }
  return Hear(operation);
}

absl::Status MpiEngine::Hear(const Operation& operation) {
  while (hearing_ != nullptr) {
    bool done = false;
    if (const int code = api_.Test(&hearing_, &done); code != kMpiOk) return LibraryFailed(code, operation);
    if (!done) break;
    const MpiNews news = memory_->heard;
    api_.BeginHear(&memory_->heard, sizeof memory_->heard, &hearing_);
    unended_ = unended_ || news.kind == MpiNews::kLeftUnended;
    if (news.kind != MpiNews::kFailed) {
      left_[news.sender] = news.operations;
      continue;
    }
    const std::string text(news.text, ::strnlen(news.text, sizeof news.text));
    const auto reason = static_cast<v1::AbortReason>(news.reason);
    Failure failure = AbortFailure(v1::PackAbort(reason, news.blamed, 0), options_.generation, "", text, operation.what);
    if (reason == v1::AbortReason::kDeadline) failure.status = absl::DeadlineExceededError(text);
    MutexLock lock(mutex_);
    if (!failure_.has_value()) failure_ = std::move(failure);
    return failure_->status;
  }
  // Who left after it had finished this operation has given its part to it.
  for (const auto& [rank, finished] : left_) {
    if (operation.what.kind == v1::OpKind::kNone || finished > operations_) continue;
    return Fail(PeerLeftFailure(JobRank(static_cast<int>(rank)), "", operation.what));
  }
  return absl::OkStatus();
}

void MpiEngine::TellFailure() {
  MpiNews news;
  std::optional<Failure> told;
  bool is_own = false;
  {
    MutexLock lock(mutex_);
    if (told_ || !failure_.has_value()) return;
    told_ = true;
    told = failure_;
    is_own = is_own_;
  }
  // What `interrupted` said is known where it came from.
  if (options_.failed && told->reason != v1::AbortReason::kGenerationOver) options_.failed(*told);
  if (!is_own || told->reason == v1::AbortReason::kMismatch) return;  // which all have seen
  news.kind = MpiNews::kFailed;
  news.reason = static_cast<uint32_t>(told->reason);
  news.blamed = told->rank;
  told->text.copy(news.text, sizeof news.text - 1);
  TellAll(news);
}

// Small messages leave at once or wait for a peer that may be dead: nobody waits for that long.
void MpiEngine::TellAll(MpiNews news) {
  news.sender = static_cast<uint32_t>(place_.rank);
  news.operations = operations_;
  // The library may still send what it could not within our patience.
  auto* const kept = new MpiNews(news);
  std::vector<MpiRequest> requests;
  for (int rank = 0; rank < place_.world_size; ++rank) {
    MpiRequest request = nullptr;
    if (rank != place_.rank && api_.BeginTell(kept, sizeof *kept, rank, &request) == kMpiOk) requests.push_back(request);
  }
  const int64_t begin = options_.now();
  while (!requests.empty() && options_.now() - begin < kTellPatience) {
    std::erase_if(requests, [this](MpiRequest& request) {
      bool done = false;
      return api_.Test(&request, &done) != kMpiOk || done;
    });
    if (!requests.empty()) options_.pause(options_.now() - begin);
  }
  if (requests.empty()) delete kept;
}

void MpiEngine::LeaveAtOnce(bool unended) {
  TellFailure();
  if (failure().has_value()) return;
  MpiNews news;
  news.kind = unended ? MpiNews::kLeftUnended : MpiNews::kLeft;
  TellAll(news);
  api_.StopHearing(&hearing_);
}

void MpiEngine::Leave() {
  TellFailure();
  if (failure().has_value()) return;
  Operation leaving;
  leaving.what.kind = v1::OpKind::kNone;
  MpiRequest request = nullptr;
  if (api_.BeginFarewell(&request) != kMpiOk) return;
  bool told = false;
  for (const int64_t begin = options_.now();;) {
    bool done = false;
    if (api_.Test(&request, &done) != kMpiOk) return;
    if (done) break;
    if (!LookForNews(leaving).ok() || unended_) return;
    const int64_t waited = options_.now() - begin;
    if (!told && waited > kFarewellPatience) {
      MpiNews news;
      news.kind = MpiNews::kLeft;
      TellAll(news);
      told = true;
    }
    options_.pause(waited);
  }
  api_.StopHearing(&hearing_);
  api_.End();
}

}  // namespace muster
