// muster-pmix: the PMIx server of the MPI programs that one agent runs in one generation. Started by the agent when the first of
// them calls MPI_Init, with a socket to the agent as 0 and the socket that they connect to as 1; ends when the agent closes the
// first. `muster-pmix --version` says which libpmix it has.
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "launcher/mpi/frame_link.h"
#include "launcher/pmix/pmix_server.h"
#include "launcher/pmix/pmix_world.h"
#include "launcher/pmix/relay.h"
#include "muster/v1/mpi.pb.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

constexpr int kControlFd = 0, kListenerFd = 1;
constexpr int kUsage = 64;

class Process {
 public:
  absl::Status Run() {
    MUSTER_ASSIGN_OR_RETURN(loop_, EventLoop::Create());
    FrameLink::Callbacks callbacks;
    callbacks.message = [this](const std::string& bytes) { OnCommand(bytes); };
    callbacks.closed = [this](const absl::Status&) { loop_->Quit(); };
    MUSTER_ASSIGN_OR_RETURN(link_, FrameLink::Create(loop_.get(), UniqueFd(::dup(kControlFd)), std::move(callbacks)));
    loop_->Run();
    return status_;
  }

 private:
  void OnCommand(const std::string& bytes) {
    v1::PmixCommand command;
    if (!command.ParseFromString(bytes)) return Fail(absl::InvalidArgumentError("the agent sent what is no message"));
    if (server_ == nullptr) {
      if (!command.has_world()) return Fail(absl::InvalidArgumentError("the agent did not begin with the world"));
      job_id_ = command.job_id();
      generation_ = command.generation();
      if (const absl::Status started = Start(command.world()); !started.ok()) Fail(started);
      return;
    }
    if (command.job_id() != job_id_ || command.generation() != generation_) return;
    if (command.has_fenced()) server_->OnFenced(std::move(*command.mutable_fenced()));
    if (command.has_asked()) server_->OnAsked(command.asked());
    if (command.has_answer()) server_->OnAnswer(std::move(*command.mutable_answer()));
  }

  absl::Status Start(const v1::PmixWorld& world) {
    MUSTER_RETURN_IF_ERROR(CheckWorld(world));
    MUSTER_ASSIGN_OR_RETURN(
        server_, PmixServer::Start(loop_.get(), world, [this](v1::PmixReport report) { Report(std::move(report)); }));
    MUSTER_ASSIGN_OR_RETURN(
        relay_, Relay::Create(loop_.get(), UniqueFd(::dup(kListenerFd)), server_->port(), [this](const std::string& line) {
          v1::PmixReport report;
          report.mutable_notice()->set_text(line);
          Report(std::move(report));
        }));
    return absl::OkStatus();
  }

  void Report(v1::PmixReport report) {
    report.set_job_id(job_id_);
    report.set_generation(generation_);
    link_->Send(report.SerializeAsString());
  }

  void Fail(absl::Status why) {
    status_ = std::move(why);
    loop_->Quit();
  }

  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<FrameLink> link_;
  std::unique_ptr<PmixServer> server_;
  std::unique_ptr<Relay> relay_;
  std::string job_id_;
  uint64_t generation_ = 0;
  absl::Status status_;
};

int Main(int argc, char** argv) {
  if (argc == 2 && strcmp(argv[1], "--version") == 0) {
    puts(PmixLibrary().c_str());
    return 0;
  }
  if (argc != 1 || ::isatty(kControlFd) == 1) {
    fprintf(stderr, "muster-pmix is started by muster; it is of no use by itself\n");
    return kUsage;
  }
  signal(SIGPIPE, SIG_IGN);
  // Job data goes over the connection: stores in shared memory would have to exist before the clients are started. Maps are plain.
  setenv("PMIX_MCA_gds", "hash", 1);
  setenv("PMIX_MCA_preg", "^compress", 1);
  Process process;
  const absl::Status ended = process.Run();
  if (!ended.ok()) fprintf(stderr, "muster-pmix: %s\n", std::string(ended.message()).c_str());
  // libpmix's threads are not waited for; what it has in files lies in the job's folder, which is removed as a whole.
  fflush(stderr);
  _exit(ended.ok() ? 0 : 1);
}

}  // namespace
}  // namespace muster

int main(int argc, char** argv) { return muster::Main(argc, argv); }
