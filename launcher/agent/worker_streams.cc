#include "launcher/agent/worker_streams.h"

#include <errno.h>
#include <fcntl.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

constexpr size_t kPieceBytesMax = 16 << 10;

}  // namespace

absl::StatusOr<std::unique_ptr<WorkerStreams>> WorkerStreams::Create(EventLoop* loop, StreamOptions options,
                                                                     std::function<void(bool closed)> input_taken) {
  std::unique_ptr<WorkerStreams> streams(new WorkerStreams(loop, std::move(options), std::move(input_taken)));
  OutputOptions output = streams->options_.output;
  if (streams->files_) output.files = &*streams->files_;
  MUSTER_ASSIGN_OR_RETURN(streams->output_, OutputForwarder::Create(loop, std::move(output)));
  return streams;
}

WorkerStreams::WorkerStreams(EventLoop* loop, StreamOptions options, std::function<void(bool closed)> input_taken)
    : loop_(loop), options_(std::move(options)), input_taken_(std::move(input_taken)) {
  if (options_.file_pattern.empty()) return;
  OutputPattern::Place place;
  place.ranks = options_.output.marks.ranks;
  place.host = options_.output.host;
  place.job_id = options_.job_id;
  files_.emplace(OutputPattern(options_.file_pattern), std::move(place));
  workers_write_files_ = options_.output.files_only && !options_.output.marks.any();
}

// --- Output ---

absl::Status WorkerStreams::CheckFiles() const {
  const absl::Status made = files_ ? files_->Check() : absl::OkStatus();
  if (made.ok()) return made;
  return absl::Status(made.code(), absl::StrCat("the workers' output cannot be written on host ", options_.output.host, ": ",
                                                made.message(), "; choose another --output-filename"));
}

absl::Status WorkerStreams::BeginGeneration(uint64_t generation, bool is_first, const std::vector<uint32_t>& ranks) {
  readers_expected_ = static_cast<size_t>(
      std::count_if(ranks.begin(), ranks.end(), [this](uint32_t rank) { return options_.stdin_readers.reads(rank); }));
  for (const uint32_t rank : ranks) {
    if (files_) MUSTER_RETURN_IF_ERROR(files_->Open(rank, generation, is_first));
  }
  return absl::OkStatus();
}

absl::Status WorkerStreams::Open(uint32_t rank, SpawnRequest* request, UniqueFd* pty) {
  MUSTER_RETURN_IF_ERROR(OpenOutput(rank, request, pty));
  return OpenInput(rank, request);
}

absl::Status WorkerStreams::OpenOutput(uint32_t rank, SpawnRequest* request, UniqueFd* pty) {
  if (workers_write_files_) {
    MUSTER_ASSIGN_OR_RETURN(request->stdout_fd, files_->WorkerEnd(rank, OutputStream::kStdout));
  } else if (options_.pty_stdout) {
    MUSTER_ASSIGN_OR_RETURN(OutputChannel channel, OpenOutputPty(options_.output.stdout_fd));
    pty->Reset(::fcntl(channel.our_end.get(), F_DUPFD_CLOEXEC, 0));
    request->stdout_fd = std::move(channel.worker_end);
    request->controlling_terminal = true;
    MUSTER_RETURN_IF_ERROR(output_->AddStream(rank, OutputStream::kStdout, std::move(channel.our_end)));
  } else {
    MUSTER_ASSIGN_OR_RETURN(OutputChannel channel, OpenOutputPipe());
    request->stdout_fd = std::move(channel.worker_end);
    MUSTER_RETURN_IF_ERROR(output_->AddStream(rank, OutputStream::kStdout, std::move(channel.our_end)));
  }
  if (options_.merge_stderr) {
    request->stderr_fd.Reset(::fcntl(request->stdout_fd.get(), F_DUPFD_CLOEXEC, 0));
    return request->stderr_fd.valid() ? absl::OkStatus() : ErrnoToStatus(errno, "a worker's standard error");
  }
  if (workers_write_files_) {
    MUSTER_ASSIGN_OR_RETURN(request->stderr_fd, files_->WorkerEnd(rank, OutputStream::kStderr));
    return absl::OkStatus();
  }
  MUSTER_ASSIGN_OR_RETURN(OutputChannel errors, OpenOutputPipe());
  request->stderr_fd = std::move(errors.worker_end);
  return output_->AddStream(rank, OutputStream::kStderr, std::move(errors.our_end));
}

void WorkerStreams::EndGeneration() {
  output_->DrainAll();
  stdin_.reset();
  fan_out_.reset();  // what comes from here on waits for the next readers
  TellTaken(false);  // of what the last ones had not read the rest is lost with them
}

// --- Input ---

absl::Status WorkerStreams::OpenInput(uint32_t rank, SpawnRequest* request) {
  const bool more = input_ || !input_ended_;
  if (!options_.stdin_readers.reads(rank) || (options_.stdin_fd < 0 && !options_.fed_stdin) || !more) {
    MUSTER_ASSIGN_OR_RETURN(request->stdin_fd, OpenEmptyStdin());
    return absl::OkStatus();
  }
  MUSTER_ASSIGN_OR_RETURN(StdinPipe input, OpenStdinPipe());
  request->stdin_fd = std::move(input.worker_end);
  if (options_.stdin_fd >= 0 && options_.stdin_readers.kind == StdinReaders::Kind::kOne) {
    MUSTER_ASSIGN_OR_RETURN(stdin_, StdinForwarder::Start(loop_, options_.stdin_fd, std::move(input.our_end)));
    return absl::OkStatus();
  }
  if (fan_out_ == nullptr) fan_out_ = std::make_unique<StdinFanOut>(loop_, [this](bool closed) { TellTaken(closed); });
  MUSTER_RETURN_IF_ERROR(fan_out_->Add(std::move(input.our_end)));
  if (options_.stdin_fd >= 0 && fan_out_->readers() == readers_expected_) MUSTER_RETURN_IF_ERROR(ReadPieces());
  FeedReaders();
  return absl::OkStatus();
}

// All readers of a generation are there.
absl::Status WorkerStreams::ReadPieces() {
  if (pieces_ == nullptr) {
    MUSTER_ASSIGN_OR_RETURN(pieces_, StdinPieces::Start(loop_, options_.stdin_fd, kPieceBytesMax,
                                                        [this](std::string bytes, bool end) { Feed(std::move(bytes), end); }));
  }
  if (!input_) pieces_->Next();
  return absl::OkStatus();
}

void WorkerStreams::Feed(std::string bytes, bool end) {
  input_ended_ = input_ended_ || end;
  input_ = {std::move(bytes), end};
  FeedReaders();
}

void WorkerStreams::FeedReaders() {
  if (fan_out_ == nullptr || fan_out_->readers() < readers_expected_ || !input_) return;
  input_owed_ = true;
  const Input input = *std::exchange(input_, std::nullopt);
  fan_out_->Feed(input.bytes, input.end);
}

void WorkerStreams::TellTaken(bool closed) {
  if (!std::exchange(input_owed_, false)) return;
  if (pieces_ == nullptr) return input_taken_(closed);
  // Where nobody reads, the next piece waits for the next generation.
  if (!closed) pieces_->Next();
}

}  // namespace muster
