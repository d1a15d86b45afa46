// The process of one node's agent: Agent behind a stream to a coordinator that is another process.
#ifndef MUSTER_LAUNCHER_PROCESS_AGENT_PROCESS_H_
#define MUSTER_LAUNCHER_PROCESS_AGENT_PROCESS_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "launcher/agent/agent.h"
#include "launcher/channel/agent_client.h"
#include "launcher/channel/join_key.h"
#include "launcher/process/output_batch.h"
#include "launcher/process/session_folder.h"
#include "runtime/base/event_loop.h"
#include "runtime/base/fd.h"

namespace muster {

struct AgentProcessOptions {
  std::string coordinator;  // "HOST:PORT"
  JoinTicket ticket;
  std::string host;     // empty: as gethostname says
  std::string address;  // numeric, where other nodes reach this one
  uint32_t slots = 0;   // workers that this node may hold; 0: as many as the coordinator wants here
  // Without a stream for so long, at the start or later, the workers are ended and the process with them.
  absl::Duration orphan_after = absl::Seconds(40);
  UniqueFd line;                   // what ends with whoever started us: then we end too; invalid: nobody
  bool signals_stop_job = false;   // an ending signal is told to the coordinator, as long as it is there, and does not end us
  bool home_if_no_folder = false;  // where the job's working directory does not exist workers start in HOME
  // Who stands now where our coordinator stood: one of another job, or of ours, which goes on from its record with the workers that run
  // here. Asked again and again, on a thread of its own, while there is no stream; takes a few seconds at most. Null: nobody asks.
  std::function<absl::StatusOr<FetchedTicket>()> ask_for_successor;
  std::function<std::string()> identity_token;  // as AgentClientOptions
  std::string guard_path;
  std::unique_ptr<SessionFolder> session_folder;  // of the workers' TMPDIR
  std::vector<std::string> environment;           // "NAME=value", the process's own: workers inherit it
  // The path of the program `argv[0]` as a worker in `working_directory` would start it. Where an interpreter runs it that stands
  // before the words of `argv` then.
  std::function<absl::StatusOr<std::string>(std::vector<std::string>* argv, const std::string& working_directory)> find_program;
};

// One at a time in a process: it takes the process's signals.
class AgentProcess {
 public:
  static absl::StatusOr<std::unique_ptr<AgentProcess>> Create(AgentProcessOptions options);
  ~AgentProcess();

  // Runs until the job is over, or no coordinator is to be had, or a signal ends this node's part. Returns the exit status of the
  // process: 0, kExitUnavailable, kExitRefused, kExitInternal, or 128 + the signal; what is not 0 has been said on stderr.
  int Run();
  // After Run() with kExitUnavailable and `ask_for_successor`: the coordinator has left its place to another, which is to be joined.
  bool has_successor() const { return has_successor_; }
  // Its ticket, where it has been found already.
  std::optional<FetchedTicket> TakeSuccessor() { return std::move(successor_); }

 private:
  explicit AgentProcess(AgentProcessOptions options) : options_(std::move(options)) {}

  absl::Status TakeSignals();
  absl::Status WatchLine();
  absl::Status MakeClient();
  absl::Status MakeAgent();
  absl::Status TakeJob(const v1::JobSpec& job, AgentOptions* agent);
  std::string FolderHere(const std::string& wanted) const;
  void OnMessage(v1::CoordinatorMessage message);
  void Send(v1::AgentMessage message);
  bool MustWait() const;
  void WaitForCoordinator();
  void StopWaiting();
  void LookForSuccessor();
  void OnSuccessor(absl::StatusOr<FetchedTicket> fetched);
  void Rejoin(FetchedTicket fetched);
  void SendOutput(v1::Output output);
  void OnRefused(const absl::Status& why);
  void OnGone(const absl::Status& status);
  void OnSignal(int signal, const std::string& by);
  void Fail(int exit_code, const std::string& sentence);
  void Leave();

  const AgentProcessOptions options_;
  std::string coordinator_;  // of the newest that we have joined, or try to
  JoinTicket ticket_;
  std::string host_;
  std::unique_ptr<EventLoop> loop_;
  UniqueFd signals_;
  std::unique_ptr<AgentClient> client_;
  std::unique_ptr<Agent> agent_;
  std::unique_ptr<OutputBatch> output_;
  std::optional<EventLoop::TimerId> orphan_;
  std::optional<EventLoop::TimerId> look_;
  std::thread asker_;  // while somebody asks for the successor
  bool has_successor_ = false;
  std::optional<FetchedTicket> successor_;
  bool joined_ = false;  // there was a session
  bool stream_is_up_ = false;
  bool rejoining_ = false;           // to a coordinator that was started again: it has no session of ours yet
  std::vector<v1::Output> waiting_;  // for that session
  bool refused_ = false;
  bool told_to_stop_ = false;
  bool hold_output_ = false;
  bool leaving_ = false;
  bool asked_ = false;         // to end, by a signal
  v1::EndingSettings ending_;  // the job's
  uint64_t incarnation_ = 0;   // greatest that a coordinator has had
  int exit_code_ = 0;
};

// The numeric address of ours from which packets to `coordinator` ("HOST:PORT") would leave. Errors: NotFound (no such host),
// Unavailable (no way there).
absl::StatusOr<std::string> AddressTowards(const std::string& coordinator);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_PROCESS_AGENT_PROCESS_H_
