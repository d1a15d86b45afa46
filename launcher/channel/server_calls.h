// The calls of agents as gRPC's threads bring them to the coordinator, which answers them from its loop.
#ifndef MUSTER_LAUNCHER_CHANNEL_SERVER_CALLS_H_
#define MUSTER_LAUNCHER_CHANNEL_SERVER_CALLS_H_

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "launcher/channel/pipe.h"
#include "muster/v1/agent.pb.h"
#include "runtime/base/mutex.h"

namespace muster {

// Numeric address and port, as FrontDoor writes them, of gRPC's "ipv4:127.0.0.1:4242" and "ipv6:%5B::1%5D:4242".
std::string FromOfPeer(absl::string_view peer);

grpc::Status ToGrpc(const absl::Status& status);

// A call of Enroll, answered by the loop.
class EnrollCall : public grpc::ServerUnaryReactor, public std::enable_shared_from_this<EnrollCall> {
 public:
  EnrollCall(std::shared_ptr<LoopGate> gate, v1::EnrollReply* reply) : gate_(std::move(gate)), reply_(reply) { gate_->Enter(); }

  void HoldSelf() { self_ = shared_from_this(); }  // before the loop hears of it

  void Answer(const absl::StatusOr<v1::EnrollReply>& reply) {
    MutexLock lock(mutex_);
    if (std::exchange(finished_, true)) return;
    if (reply.ok()) *reply_ = *reply;
    Finish(ToGrpc(reply.status()));
  }

 private:
  void OnCancel() override { Answer(absl::CancelledError("the call was cancelled")); }
  void OnDone() override {
    const std::shared_ptr<LoopGate> gate = gate_;
    std::exchange(self_, nullptr).reset();
    gate->Leave();
  }

  const std::shared_ptr<LoopGate> gate_;
  std::shared_ptr<EnrollCall> self_;
  Mutex mutex_;
  v1::EnrollReply* const reply_;  // gRPC's; until finished
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
};

// A call of Connect.
class ServerStream
    : public Pipe<grpc::ServerBidiReactor<v1::AgentFrame, v1::CoordinatorFrame>, v1::AgentFrame, v1::CoordinatorFrame> {
 public:
  ServerStream(std::shared_ptr<LoopGate> gate, grpc::CallbackServerContext* context)
      : Pipe(std::move(gate)), from_(FromOfPeer(context->peer())), context_(context) {
    for (const grpc::string_ref& pem : context->auth_context()->FindPropertyValues("x509_pem_cert")) {
      tls_certificate_pem_.assign(pem.data(), pem.size());
    }
  }

  void Begin() {
    HoldSelf();
    BeginReading();
  }

  // Ends the stream with `status`, soon; `abruptly` even when the other end takes nothing.
  void Close(const absl::Status& status, bool abruptly) {
    MutexLock lock(mutex_);
    status_ = ToGrpc(status);
    if (abruptly && writing_ && context_ != nullptr) context_->TryCancel();
    Stop();
  }

  const std::string& from() const { return from_; }
  const std::string& tls_certificate_pem() const { return tls_certificate_pem_; }  // empty: none; not verified

 private:
  void OnQuiet() override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { Finish(status_); }
  void OnReadingOver() override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { End(); }
  void OnCancel() override {
    MutexLock lock(mutex_);
    Stop();
    End();
  }
  void OnDone() override {
    {
      MutexLock lock(mutex_);
      context_ = nullptr;
    }
    LetGoOfSelf();
  }

  const std::string from_;
  std::string tls_certificate_pem_;
  grpc::CallbackServerContext* context_ ABSL_GUARDED_BY(mutex_);  // until OnDone
  grpc::Status status_ ABSL_GUARDED_BY(mutex_) = grpc::Status(grpc::StatusCode::CANCELLED, "the stream is over");
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_CHANNEL_SERVER_CALLS_H_
