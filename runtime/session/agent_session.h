// A session under an agent: carries out what the session's table decides (runtime/session/table).
#ifndef MUSTER_RUNTIME_SESSION_AGENT_SESSION_H_
#define MUSTER_RUNTIME_SESSION_AGENT_SESSION_H_

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "muster/session.h"
#include "proto/muster/v1/control_memory.h"
#include "runtime/base/mutex.h"
#include "runtime/rendezvous/agent_line.h"
#include "runtime/rendezvous/life_line.h"
#include "runtime/session/agent_link.h"
#include "runtime/session/table/session_table.h"
#include "runtime/session/window_inbox.h"
#include "runtime/transport/mesh.h"

namespace muster {

// The user's threads, the line's thread and exit handlers step the table, one at a time under `mutex_`; no action blocks.
class AgentSession : public Session {
 public:
  static absl::StatusOr<std::unique_ptr<Session>> Create(const SessionOptions& options);
  ~AgentSession() override;

  int rank() const override { return static_cast<int>(membership_.rank); }
  int world_size() const override { return static_cast<int>(membership_.world_size); }
  int local_rank() const override { return static_cast<int>(membership_.local_rank); }
  int local_world_size() const override { return static_cast<int>(membership_.local_world_size); }
  uint64_t generation() const override { return membership_.generation; }
  int restarts() const override { return static_cast<int>(membership_.restarts); }
  const std::string& job_id() const override { return options_.job_id; }
  Communicator& world() override { return *parts_->world; }
  const CheckpointSettings& checkpoint() const override { return checkpoint_; }
  void ReportStep(int64_t committed_step, int64_t checkpoint_step) override;

 private:
  // Not destroyed in a forked child, where neither their threads nor their memory exist. Destroyed from the last to the first.
  struct Parts {
    ~Parts();
    std::unique_ptr<LifeLine> life;
    v1::ControlHeader* control = nullptr;  // mapped on entering the generation
    int64_t control_bytes = 0;
    std::unique_ptr<AgentLine> line;
    std::unique_ptr<AgentLink> link;
    std::unique_ptr<Communicator> world;
    MeshList meshes;
  };

  explicit AgentSession(const SessionOptions& options);
  absl::Status Join();
  absl::Status AwaitMembership();
  absl::Status MakeWorld();
  absl::Status MakeNativeWorld();
  absl::Status MakeMpiWorld();
  absl::Status MakeNcclWorldOrLeaveIt();  // of the native world, as the options say
  absl::Status WhyOver();                 // for whoever is in a collective; OK while the generation goes on
  absl::StatusOr<std::unique_ptr<Mesh>> ConnectMesh(const std::vector<int>& node_of_rank);
  bool IsMember();
  AgentLine::Events LineEvents();

  void Step(const session::Event& event);
  void StepLocked(const session::Event& event) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Do(const session::SendHello& action) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Do(const session::EnterGeneration& action) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Do(const session::BreakCommunicators& action) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Do(const session::SendBlame& action) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Do(const session::SendStep& action) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Do(const session::SendLeave& action) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Do(const session::MarkLeft& action) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Do(const session::CloseSocket& action) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Do(const session::FailJoin& action) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Do(const session::SetTimer& action) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Do(const session::CancelTimer& action) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Do(const session::Warn& action) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status MapControl() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // The agent knows the word; what it does not is that this rank's calls fail because of it, and so its end may.
  void BlameFor(uint64_t abort_word);
  void ReportBlame(uint32_t rank, v1::AbortReason reason, uint64_t op_seq, const std::string& message);

  const pid_t owner_;
  const SessionOptions options_;
  const absl::Time join_deadline_;
  WindowInbox inbox_;
  bool has_seat_ = false;

  Mutex mutex_;
  CondVar changed_;
  SessionTable table_ ABSL_GUARDED_BY(mutex_);
  absl::Status join_failure_ ABSL_GUARDED_BY(mutex_);
  absl::Status break_ ABSL_GUARDED_BY(mutex_);  // why this session's communicators are broken
  // Only looked at while Create waits: no other state of the table needs time.
  std::array<absl::Time, 2> timers_ ABSL_GUARDED_BY(mutex_) = {absl::InfiniteFuture(), absl::InfiniteFuture()};
  std::vector<session::Event> raised_ ABSL_GUARDED_BY(mutex_);  // by actions, for the table

  CheckpointSettings checkpoint_;
  Membership membership_;  // written before the table says MEMBER, constant afterwards
  std::unique_ptr<Parts> parts_ = std::make_unique<Parts>();
};

}  // namespace muster

#endif  // MUSTER_RUNTIME_SESSION_AGENT_SESSION_H_
