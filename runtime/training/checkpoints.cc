#include "runtime/training/checkpoints.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "runtime/base/library_thread.h"
#include "runtime/base/log.h"
#include "runtime/base/status.h"
#include "runtime/checkpoint/load.h"

namespace muster {

std::vector<CheckpointTensor> TensorsOf(std::span<const ParameterSpec> parameters, int moments) {
  std::vector<CheckpointTensor> tensors;
  for (int section = 0; section <= moments; ++section) {
    for (const ParameterSpec& parameter : parameters) {
      const std::string name = section == 0 ? parameter.name : absl::StrCat("moment", section, "/", parameter.name);
      tensors.push_back({name, DataType::kFloat32, parameter.shape});
    }
  }
  return tensors;
}

Checkpoints::Checkpoints(Communicator& communicator, FileSystem& files, const CheckpointOptions& options,
                         absl::Duration timeout, TrainingState& state, std::vector<CheckpointTensor> tensors,
                         std::map<std::string, std::string> fixed)
    : communicator_(communicator),
      files_(files),
      options_(options),
      timeout_(timeout),
      state_(state),
      tensors_(std::move(tensors)),
      parameters_(static_cast<int>(tensors_.size()) / (1 + static_cast<int>(state.header(0).moments))),
      fixed_(std::move(fixed)) {}

Checkpoints::~Checkpoints() {
  if (thread_ == nullptr) return;
  if (thread_process_ == ::getpid()) {
    thread_->join();
  } else {
    static_cast<void>(thread_.release());
  }
}

// --- What one rank knows, all know ---

// The status of the lowest rank that has one, on every rank.
absl::Status Checkpoints::Share(const absl::Status& mine) {
  int64_t code = static_cast<int64_t>(mine.code());
  std::vector<int64_t> codes(static_cast<size_t>(communicator_.world_size()));
  MUSTER_RETURN_IF_ERROR(
      communicator_.AllGather(MakeTensor(&code, 1), MakeTensor(codes.data(), static_cast<int64_t>(codes.size())), Deadline()));
  const auto failed = std::find_if(codes.begin(), codes.end(), [](int64_t c) { return c != 0; });
  if (failed == codes.end()) return absl::OkStatus();
  std::array<uint8_t, 1024> text = {};
  const std::string message(mine.message());
  std::memcpy(text.data(), message.data(), std::min(message.size(), text.size() - 1));
  const int root = static_cast<int>(failed - codes.begin());
  MUSTER_RETURN_IF_ERROR(communicator_.Broadcast(MakeTensor(text.data(), static_cast<int64_t>(text.size())), root, Deadline()));
  failure_ = absl::Status(static_cast<absl::StatusCode>(*failed), reinterpret_cast<const char*>(text.data()));
  return failure_;
}

// Whether every rank's thread has done its work, and how it went if one failed.
absl::Status Checkpoints::ShareProgress(bool wait, bool* all_done) {
  constexpr int64_t kRunning = -1;
  int64_t mine;
  {
    MutexLock lock(mutex_);
    while (wait && !thread_done_) changed_.Wait(mutex_);
    mine = thread_done_ ? static_cast<int64_t>(thread_status_.code()) : kRunning;
  }
  std::vector<int64_t> all(static_cast<size_t>(communicator_.world_size()));
  MUSTER_RETURN_IF_ERROR(
      communicator_.AllGather(MakeTensor(&mine, 1), MakeTensor(all.data(), static_cast<int64_t>(all.size())), Deadline()));
  *all_done = std::find(all.begin(), all.end(), kRunning) == all.end();
  if (!*all_done) return absl::OkStatus();
  if (thread_ != nullptr) thread_->join();
  thread_.reset();
  const bool one_failed = std::any_of(all.begin(), all.end(), [](int64_t code) { return code != 0; });
  if (!one_failed) return absl::OkStatus();
  phase_ = Phase::kIdle;
  absl::Status status;
  {
    MutexLock lock(mutex_);
    status = thread_status_;
  }
  return Share(status);
}

// --- Saving ---

std::span<std::byte> Checkpoints::TensorBytes(int block, int tensor) const {
  float* const first = state_.host(block, SectionOf(tensor), ParameterOf(tensor));
  return {reinterpret_cast<std::byte*>(first), static_cast<size_t>(tensors_[static_cast<size_t>(tensor)].bytes())};
}

absl::Status Checkpoints::Begin(int64_t step, int block, std::map<std::string, std::string> attributes) {
  MUSTER_RETURN_IF_ERROR(Complete());
  if (step == last_step_) return absl::OkStatus();
  failure_ = absl::OkStatus();
  // Every writer names its files by it.
  int32_t save_id = 0;
  if (communicator_.rank() == 0) MUSTER_CHECK(::getentropy(&save_id, sizeof(save_id)) == 0, "getentropy");
  MUSTER_RETURN_IF_ERROR(communicator_.Broadcast(MakeTensor(&save_id, 1), 0, Deadline()));
  content_ = CheckpointContent();
  content_.step = step;
  content_.generation = communicator_.generation();
  content_.save_id = static_cast<uint32_t>(save_id);
  content_.attributes = std::move(attributes);
  content_.attributes.insert(fixed_.begin(), fixed_.end());
  content_.tensors = tensors_;
  plan_ = PlanFiles(content_);
  written_.assign(plan_.size(), WrittenFile());
  block_ = block;
  absl::Status started;
  if (communicator_.rank() == 0) started = StartSave(files_, options_.folder, content_);
  // Only rank 0 knows what was damaged when it resumed.
  if (absl::IsAlreadyExists(started) && damaged_steps_.contains(step)) started = absl::DataLossError(started.message());
  const absl::Status shared = Share(started);
  if (absl::IsAlreadyExists(failure_) || absl::IsDataLoss(failure_)) {
    // A writer that is lost to us had come as far as this. A damaged one stays as it is, too: the next save is soon enough.
    if (absl::IsAlreadyExists(failure_)) last_step_ = step;
    failure_ = absl::OkStatus();
    return absl::OkStatus();
  }
  MUSTER_RETURN_IF_ERROR(shared);
  int mine = 0;
  for (size_t file = 0; file < plan_.size(); ++file) {
    mine += static_cast<int>(file) % communicator_.world_size() == communicator_.rank();
  }
  {
    MutexLock lock(mutex_);
    unread_files_ = mine;
  }
  phase_ = Phase::kWriting;
  StartThread([this] { return WriteShare(); });
  return absl::OkStatus();
}

void Checkpoints::StartThread(std::function<absl::Status()> work) {
  {
    MutexLock lock(mutex_);
    thread_done_ = false;
  }
  thread_process_ = ::getpid();
  const auto done = [this](const absl::Status& status) {
    MutexLock lock(mutex_);
    thread_status_ = status;
    thread_done_ = true;
    unread_files_ = 0;
    changed_.SignalAll();
  };
  auto thread = StartLibraryThread("the thread that writes checkpoints", [done, work = std::move(work)] { done(work()); });
  if (!thread.ok()) return done(thread.status());
  thread_ = *std::move(thread);
}

absl::Status Checkpoints::WriteShare() {
  for (size_t file = 0; file < plan_.size(); ++file) {
    if (static_cast<int>(file) % communicator_.world_size() != communicator_.rank()) continue;
    const auto data = [this](int tensor) -> std::span<const std::byte> { return TensorBytes(block_, tensor); };
    const auto read = [this] {
      MutexLock lock(mutex_);
      --unread_files_;
      changed_.SignalAll();
    };
    for (const int tensor : plan_[file].tensors) {
      MUSTER_RETURN_IF_ERROR(state_.Fetch(block_, SectionOf(tensor), ParameterOf(tensor)));
    }
    MUSTER_ASSIGN_OR_RETURN(written_[file],
                            WriteCheckpointFile(files_, options_.folder, content_, plan_, static_cast<int>(file), data, read));
  }
  return absl::OkStatus();
}

void Checkpoints::AwaitRead(int block) {
  if (phase_ != Phase::kWriting || block != block_) return;
  MutexLock lock(mutex_);
  while (unread_files_ > 0) changed_.Wait(mutex_);
}

absl::Status Checkpoints::Advance() {
  if (phase_ == Phase::kIdle) return absl::OkStatus();
  bool all_done = false;
  MUSTER_RETURN_IF_ERROR(ShareProgress(/*wait=*/false, &all_done));
  return all_done ? NextPhase() : absl::OkStatus();
}

absl::Status Checkpoints::Complete() {
  while (phase_ != Phase::kIdle) {
    bool all_done = false;
    MUSTER_RETURN_IF_ERROR(ShareProgress(/*wait=*/true, &all_done));
    if (all_done) MUSTER_RETURN_IF_ERROR(NextPhase());
  }
  return absl::OkStatus();
}

absl::Status Checkpoints::NextPhase() {
  if (phase_ == Phase::kCommitting) {
    last_step_ = content_.step;
    phase_ = Phase::kIdle;
    return absl::OkStatus();
  }
  // Each checksum is known to one rank; the others add nothing.
  std::vector<int64_t> checksums;
  for (size_t file = 0; file < plan_.size(); ++file) {
    const std::vector<uint64_t>& known = written_[file].chunk_checksums;
    for (int64_t chunk = 0; chunk < ChunksOf(plan_[file]); ++chunk) {
      checksums.push_back(known.empty() ? 0 : static_cast<int64_t>(known[static_cast<size_t>(chunk)]));
    }
  }
  MUSTER_RETURN_IF_ERROR(communicator_.AllReduce(MakeTensor(checksums.data(), static_cast<int64_t>(checksums.size())),
                                                 ReduceOp::kSum, Deadline()));
  size_t next = 0;
  for (size_t file = 0; file < plan_.size(); ++file) {
    std::vector<uint64_t>& known = written_[file].chunk_checksums;
    known.resize(static_cast<size_t>(ChunksOf(plan_[file])));
    for (uint64_t& checksum : known) checksum = static_cast<uint64_t>(checksums[next++]);
  }
  phase_ = Phase::kCommitting;
  if (communicator_.rank() == 0) StartThread([this] { return CommitAndPrune(); });
  return absl::OkStatus();
}

absl::Status Checkpoints::CommitAndPrune() {
  MUSTER_RETURN_IF_ERROR(CommitSave(files_, options_.folder, content_, plan_, written_));
  // What cannot be removed now will be the next time; the checkpoint is there.
  PruneCheckpoints(files_, options_.folder, content_, options_.keep, damaged_steps_).IgnoreError();
  return absl::OkStatus();
}

// --- Resuming ---

absl::StatusOr<std::map<std::string, std::string>> Checkpoints::Resume(const absl::Status& own) {
  std::map<std::string, std::string> attributes;
  int64_t step = -1;
  absl::Status status = own;
  if (communicator_.rank() == 0 && own.ok()) {
    absl::StatusOr<int64_t> loaded = FindAndLoad(&attributes);
    status = loaded.status();
    if (loaded.ok()) step = *loaded;
  }
  MUSTER_RETURN_IF_ERROR(Share(status));
  std::string text;
  for (const auto& [name, value] : attributes) absl::StrAppend(&text, name, "\n", value, "\n");
  int64_t sizes[2] = {step, static_cast<int64_t>(text.size())};
  MUSTER_RETURN_IF_ERROR(communicator_.Broadcast(MakeTensor(sizes, 2), 0, Deadline()));
  if (sizes[0] < 0) return std::map<std::string, std::string>();
  text.resize(static_cast<size_t>(sizes[1]));
  auto* const bytes = reinterpret_cast<uint8_t*>(text.data());
  MUSTER_RETURN_IF_ERROR(communicator_.Broadcast(MakeTensor(bytes, sizes[1]), 0, Deadline()));
  attributes.clear();
  for (size_t at = 0; at < text.size();) {
    const size_t name_end = text.find('\n', at);
    const size_t value_end = text.find('\n', name_end + 1);
    attributes[text.substr(at, name_end - at)] = text.substr(name_end + 1, value_end - name_end - 1);
    at = value_end + 1;
  }
  last_step_ = sizes[0];
  state_.Restore(last_step_);
  MUSTER_RETURN_IF_ERROR(state_.SpreadAll(state_.live(), Deadline()));
  return attributes;
}

// Rank 0. -1: there is none.
absl::StatusOr<int64_t> Checkpoints::FindAndLoad(std::map<std::string, std::string>* attributes) {
  MUSTER_ASSIGN_OR_RETURN(std::vector<CheckpointEntry> entries, ListCheckpoints(files_, options_.folder));
  std::erase_if(entries, [](const CheckpointEntry& entry) { return !entry.committed; });
  if (entries.empty()) return -1;
  if (!options_.resume) {
    return absl::FailedPreconditionError(
        absl::StrFormat("%s holds checkpoints up to step %d; resume (--resume) to go on from there, or name another folder",
                        options_.folder, entries.back().step));
  }
  for (auto entry = entries.rbegin(); entry != entries.rend(); ++entry) {
    absl::Status status = entry->damage;
    if (status.ok()) {
      MUSTER_RETURN_IF_ERROR(CheckFixed(*entry->content, entry->path));
      const int block = static_cast<int>(entry->step % 2);
      status = ReadCheckpoint(files_, *entry, [&](int tensor) { return TensorBytes(block, tensor); });
    }
    if (status.ok()) {
      *attributes = entry->content->attributes;
      return entry->step;
    }
    if (!absl::IsDataLoss(status)) return status;
    damaged_.emplace_back(status.message());
    damaged_steps_.insert(entry->step);
  }
  return absl::DataLossError(absl::StrCat("no checkpoint in ", options_.folder, " is whole (muster checkpoint verify ",
                                          options_.folder, " names each damage); the newest: ", damaged_.front()));
}

absl::Status Checkpoints::CheckFixed(const CheckpointContent& content, const std::string& path) const {
  const auto other = [&](absl::string_view what, absl::string_view there, absl::string_view here) {
    return absl::FailedPreconditionError(absl::StrCat(path, " is of another run: ", what, " is ", there, " there and ", here,
                                                      " here; name another folder, or start with the options of that run"));
  };
  for (const auto& [name, value] : fixed_) {
    const auto there = content.attributes.find(name);
    if (there == content.attributes.end()) return other(name, "not said", value);
    if (there->second != value) return other(name, there->second, value);
  }
  if (content.tensors.size() != tensors_.size()) {
    return other("the number of tensors", absl::StrCat(content.tensors.size()), absl::StrCat(tensors_.size()));
  }
  for (size_t i = 0; i < tensors_.size(); ++i) {
    const CheckpointTensor& there = content.tensors[i];
    const CheckpointTensor& here = tensors_[i];
    if (there.name != here.name) return other(absl::StrCat("the name of tensor ", i), there.name, here.name);
    if (there.shape != here.shape || there.type != here.type) {
      return other(absl::StrCat("the size of ", here.name), absl::StrCat(there.bytes(), " bytes"),
                   absl::StrCat(here.bytes(), " bytes"));
    }
  }
  return absl::OkStatus();
}

}  // namespace muster
