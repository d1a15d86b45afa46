// Standard input, output and error of one node's workers: pipes, ptys or files, made before a worker is spawned.
#ifndef MUSTER_LAUNCHER_AGENT_WORKER_STREAMS_H_
#define MUSTER_LAUNCHER_AGENT_WORKER_STREAMS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "launcher/agent/output.h"
#include "launcher/agent/output_files.h"
#include "launcher/agent/stdin_fan_out.h"
#include "launcher/agent/stdin_forwarder.h"
#include "launcher/guard/guard_client.h"
#include "runtime/base/event_loop.h"
#include "runtime/base/fd.h"

namespace muster {

struct StreamOptions {
  OutputOptions output;       // but for `files`
  bool pty_stdout = false;    // a worker's stdout is a pty
  bool merge_stderr = false;  // a worker's stderr is its stdout
  // OutputPattern's text, absolute; empty: no files. With output.files_only and no marks workers write to the files themselves, and
  // nothing of it passes through this process.
  std::string file_pattern;
  std::string job_id;  // hexadecimal, for file names
  StdinReaders stdin_readers;
  int stdin_fd = -1;       // borrowed; -1: none
  bool fed_stdin = false;  // instead: what Feed brings
};

// Belongs to the loop's thread.
class WorkerStreams {
 public:
  // `input_taken`: the last Feed is in the pipes of all readers here; `closed`: none of them reads any more.
  static absl::StatusOr<std::unique_ptr<WorkerStreams>> Create(EventLoop* loop, StreamOptions options,
                                                               std::function<void(bool closed)> input_taken);

  // Whether output files can be made here: before any rank is known. Errors: one sentence.
  absl::Status CheckFiles() const;

  // Before the first worker of a generation: `ranks` are this node's. Opens their output files. Errors: one sentence.
  absl::Status BeginGeneration(uint64_t generation, bool is_first, const std::vector<uint32_t>& ranks);
  // Fills in the request's descriptors 0, 1 and 2, and `pty` with one more of the pty's master, if it has one.
  absl::Status Open(uint32_t rank, SpawnRequest* request, UniqueFd* pty);
  // No worker of the generation is left: its output is read to the end. What its readers left of the input is lost with them.
  void EndGeneration();

  // Input may come before its readers. The next follows `input_taken`.
  void Feed(std::string bytes, bool end);

  OutputForwarder& output() { return *output_; }

 private:
  struct Input {
    std::string bytes;
    bool end = false;
  };
  WorkerStreams(EventLoop* loop, StreamOptions options, std::function<void(bool closed)> input_taken);
  absl::Status OpenOutput(uint32_t rank, SpawnRequest* request, UniqueFd* pty);
  absl::Status OpenInput(uint32_t rank, SpawnRequest* request);
  absl::Status ReadPieces();
  void FeedReaders();
  void TellTaken(bool closed);

  EventLoop* const loop_;
  const StreamOptions options_;
  const std::function<void(bool closed)> input_taken_;
  std::optional<OutputFiles> files_;
  bool workers_write_files_ = false;
  std::unique_ptr<OutputForwarder> output_;

  std::unique_ptr<StdinForwarder> stdin_;  // of one reader in this process
  std::unique_ptr<StdinPieces> pieces_;    // of several
  std::unique_ptr<StdinFanOut> fan_out_;   // this generation's readers here
  size_t readers_expected_ = 0;
  std::optional<Input> input_;  // not fed yet
  bool input_owed_ = false;     // its `input_taken`, of what was fed last
  bool input_ended_ = false;
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_AGENT_WORKER_STREAMS_H_
