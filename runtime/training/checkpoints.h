// When a trainer saves and how it resumes: which rank writes what, in step with the others. What lies on disk is the matter of
// runtime/checkpoint.
#ifndef MUSTER_RUNTIME_TRAINING_CHECKPOINTS_H_
#define MUSTER_RUNTIME_TRAINING_CHECKPOINTS_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "muster/communicator.h"
#include "muster/trainer.h"
#include "runtime/base/file_system.h"
#include "runtime/base/mutex.h"
#include "runtime/checkpoint/content.h"
#include "runtime/checkpoint/save.h"
#include "runtime/training/state.h"

namespace muster {

// Names and shapes as they stand in a checkpoint: every parameter, then each moment of all.
std::vector<CheckpointTensor> TensorsOf(std::span<const ParameterSpec> parameters, int moments);

// A save runs beside training: rank 0 makes the folder (Begin), each rank writes its share of the files on a thread of its own
// straight from the state block (from a device: copied there), which nobody changes until AwaitRead, and when all are done rank 0
// commits. How far each rank is
// they tell one another in Advance, one small collective between two steps, and only while a save is under way.
//
// Every rank makes the same calls in the same order, from one thread, except the destructor. After an error of the communicator
// nothing but the destructor may be called; all other errors are the same on all ranks and leave no save under way.
class Checkpoints {
 public:
  // `state` and `communicator` outlive this object. `fixed` are the attributes that a run may only resume with when they are
  // equal.
  Checkpoints(Communicator& communicator, FileSystem& files, const CheckpointOptions& options, absl::Duration timeout,
              TrainingState& state, std::vector<CheckpointTensor> tensors, std::map<std::string, std::string> fixed);
  // Waits for this rank's own writing; not in a forked child, which has none.
  ~Checkpoints();

  // Collective. Loads the newest complete checkpoint into the state, on every rank, and returns its attributes; none: there is
  // nothing to resume from, and the state is untouched. Without options.resume only looks that there is none. `own`: what this rank has
  // against beginning at all; the lowest rank's is the error of all, and should name it.
  // Errors: FailedPrecondition, DataLoss as Trainer::Create.
  absl::StatusOr<std::map<std::string, std::string>> Resume(const absl::Status& own = absl::OkStatus());

  // Collective. Begins to save the state in `block`. Completes the save before, if one is under way.
  absl::Status Begin(int64_t step, int block, std::map<std::string, std::string> attributes);

  // Collective while a save is under way, else nothing. Call it between steps.
  absl::Status Advance();

  // This rank may write to `block` from here on. Not collective.
  void AwaitRead(int block);

  // Collective. Blocks until a save under way is committed.
  absl::Status Complete();

  // Why the last save could not be written; OK if it could, or none was tried.
  const absl::Status& failure() const { return failure_; }
  int64_t last_step() const { return last_step_; }  // newest on disk, -1: none
  const std::vector<std::string>& damaged() const { return damaged_; }

 private:
  enum class Phase { kIdle, kWriting, kCommitting };

  absl::Status Share(const absl::Status& mine);
  absl::Status ShareProgress(bool wait, bool* all_done);
  absl::Status NextPhase();
  absl::StatusOr<int64_t> FindAndLoad(std::map<std::string, std::string>* attributes);
  absl::Status CheckFixed(const CheckpointContent& content, const std::string& path) const;
  // A tensor's place in the state.
  int SectionOf(int tensor) const { return tensor / parameters_; }
  int ParameterOf(int tensor) const { return tensor % parameters_; }
  std::span<std::byte> TensorBytes(int block, int tensor) const;  // as the host sees them
  void StartThread(std::function<absl::Status()> work);
  absl::Status WriteShare();
  absl::Status CommitAndPrune();
  absl::Time Deadline() const { return absl::Now() + timeout_; }

  Communicator& communicator_;
  FileSystem& files_;
  const CheckpointOptions options_;
  const absl::Duration timeout_;
  TrainingState& state_;
  const std::vector<CheckpointTensor> tensors_;
  const int parameters_;
  const std::map<std::string, std::string> fixed_;

  Phase phase_ = Phase::kIdle;
  int64_t last_step_ = -1;
  absl::Status failure_;
  std::vector<std::string> damaged_;
  std::set<int64_t> damaged_steps_;

  // Of the save under way; what the thread shares is under the mutex.
  CheckpointContent content_;
  std::vector<CheckpointFilePlan> plan_;
  int block_ = -1;
  std::vector<WrittenFile> written_;
  std::unique_ptr<std::thread> thread_;
  pid_t thread_process_ = 0;  // a forked child has no such thread
  Mutex mutex_;
  CondVar changed_;
  int unread_files_ ABSL_GUARDED_BY(mutex_) = 0;
  bool thread_done_ ABSL_GUARDED_BY(mutex_) = true;
  absl::Status thread_status_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace muster

#endif  // MUSTER_RUNTIME_TRAINING_CHECKPOINTS_H_
