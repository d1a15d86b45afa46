#include "launcher/channel/agent_client.h"

#include <arpa/inet.h>
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "launcher/channel/agent_key.h"
#include "launcher/channel/openssl.h"
#include "launcher/channel/pipe.h"
#include "launcher/channel/protocol.h"
#include "launcher/channel/quiet_grpc.h"
#include "launcher/channel/sequence.h"
#include "muster/v1/agent.grpc.pb.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

using v1::AgentFrame;
using v1::CoordinatorFrame;

constexpr absl::Duration kShutdownPatience = absl::Seconds(10);
constexpr absl::Duration kEndPatience = absl::Seconds(2);  // for the coordinator's answer to StreamEnd

// gRPC's name of "host:port". Numeric addresses are taken as they are, with no resolver asked.
absl::StatusOr<std::string> TargetOf(const std::string& coordinator) {
  const size_t colon = coordinator.rfind(':');
  uint32_t port = 0;
  if (colon == std::string::npos || colon == 0 || !absl::SimpleAtoi(coordinator.substr(colon + 1), &port) || port == 0 ||
      port > 65535) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", coordinator, "\" is no address of a coordinator; give HOST:PORT or [IPV6]:PORT"));
  }
  const std::string host = coordinator.substr(0, colon);
  in6_addr numeric;
  if (::inet_pton(AF_INET, host.c_str(), &numeric) == 1) return absl::StrCat("ipv4:", coordinator);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']' &&
      ::inet_pton(AF_INET6, host.substr(1, host.size() - 2).c_str(), &numeric) == 1) {
    return absl::StrCat("ipv6:", coordinator);
  }
  if (absl::StrContains(host, ':') || absl::StrContains(host, '[')) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", coordinator, "\": an IPv6 address is written in brackets, [::1]:4242"));
  }
  return absl::StrCat("dns:///", coordinator);
}

// Trying again cannot help.
bool IsRefusal(grpc::StatusCode code) {
  switch (code) {
    case grpc::StatusCode::PERMISSION_DENIED:
    case grpc::StatusCode::UNAUTHENTICATED:
    case grpc::StatusCode::FAILED_PRECONDITION:
    case grpc::StatusCode::INVALID_ARGUMENT:
    case grpc::StatusCode::UNIMPLEMENTED:
      return true;
    default:
      return false;
  }
}

// The TLS library's words for a server that does not have our authority's certificate.
bool IsStranger(const grpc::Status& status) {
  const std::string message = absl::AsciiStrToLower(status.error_message());
  return absl::StrContains(message, "certificate verify failed") || absl::StrContains(message, "certificate_verify_failed");
}

// A call of Connect.
class ClientStream : public Pipe<grpc::ClientBidiReactor<AgentFrame, CoordinatorFrame>, CoordinatorFrame, AgentFrame> {
 public:
  ClientStream(std::shared_ptr<LoopGate> gate, const std::shared_ptr<grpc::Channel>& channel)
      : Pipe(std::move(gate)), stub_(v1::AgentService::NewStub(channel)) {}

  void Begin() {
    HoldSelf();
    stub_->async()->Connect(&context_, this);
    AddHold();  // the loop writes and reads; until OnQuiet
    BeginReading();
    StartCall();
  }

  void Cancel() {
    context_.TryCancel();
    MutexLock lock(mutex_);
    Stop();
  }

  // Once Take has told the end.
  grpc::Status status() {
    MutexLock lock(mutex_);
    return status_;
  }

 private:
  void OnQuiet() override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { RemoveHold(); }
  void OnReadingOver() override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {}
  void OnDone(const grpc::Status& status) override {
    {
      MutexLock lock(mutex_);
      status_ = status;
      End();
    }
    LetGoOfSelf();
  }

  const std::unique_ptr<v1::AgentService::Stub> stub_;
  grpc::ClientContext context_;
  grpc::Status status_ ABSL_GUARDED_BY(mutex_);
};

// A call of Enroll.
struct EnrollAttempt {
  std::unique_ptr<v1::AgentService::Stub> stub;
  grpc::ClientContext context;
  v1::EnrollRequest request;
  v1::EnrollReply reply;
};

class AgentClientImpl : public AgentClient {
 public:
  AgentClientImpl(EventLoop* loop, AgentClientOptions options, Callbacks callbacks, std::string target,
                  std::unique_ptr<AgentKey> key)
      : loop_(loop),
        options_(std::move(options)),
        callbacks_(std::move(callbacks)),
        target_(std::move(target)),
        key_(std::move(key)),
        gate_(std::make_shared<LoopGate>(loop)) {
    timer_ = loop_->After(absl::ZeroDuration(), [this] { Try(); });
  }

  ~AgentClientImpl() override {
    gate_->Close();
    StopAll();
    if (!gate_->AwaitEmpty(kShutdownPatience)) Log(LogLevel::kWarning, "gRPC has not let go of the stream to the coordinator");
  }

  void Send(v1::AgentMessage message) override {
    if (session_.empty() || over_ || closing_) return;
    const size_t bytes = message.ByteSizeLong();
    if (bytes > kAgentMessageBytesMax) {
      return GiveUpSession(absl::StrCat("a message of ", bytes, " bytes is longer than ", kAgentMessageBytesMax));
    }
    if (frames_.all_acknowledged()) expecting_since_ns_ = MonotonicNanoseconds();
    AgentFrame frame;
    *frame.mutable_message() = std::move(message);
    auto kept = frames_.Send(std::move(frame), bytes);
    CancelTimer(&acknowledgement_);
    if (ready_) stream_->Write(std::move(kept));
    if (frames_.kept_bytes() > options_.unacknowledged_bytes_max) {
      GiveUpSession(absl::StrCat("the coordinator has not acknowledged ", frames_.kept_bytes(), " bytes"));
    }
  }

  size_t unacknowledged_bytes() const override { return frames_.kept_bytes(); }

  std::vector<v1::AgentMessage> unacknowledged() const override {
    std::vector<v1::AgentMessage> messages;
    frames_.ForEachKept([&](const std::shared_ptr<const AgentFrame>& frame) { messages.push_back(frame->message()); });
    return messages;
  }

  void Close(absl::Duration at_most, std::function<void()> done) override {
    MUSTER_CHECK(!closing_, "Close comes once");
    closing_ = true;
    closed_ = std::move(done);
    close_timer_ = loop_->After(at_most, [this] {
      close_timer_.reset();
      SayEnd();
    });
    LoopGate::Post(gate_, [this] { CheckClosing(); });
  }

 private:
  // --- Attempts ---

  std::shared_ptr<grpc::Channel> MakeChannel() {
    grpc::SslCredentialsOptions tls;
    tls.pem_root_certs = options_.ticket.authority_pem;
    if (!certificate_pem_.empty()) {
      tls.pem_private_key = key_->private_key_pem();
      tls.pem_cert_chain = certificate_pem_;
    }
    const int within_ms = static_cast<int>(absl::ToInt64Milliseconds(options_.connect_within));
    grpc::ChannelArguments arguments;
    arguments.SetSslTargetNameOverride(kServerName);
    arguments.SetMaxReceiveMessageSize(static_cast<int>(kCoordinatorMessageBytesMax + kFrameBytesMax));
    // Every attempt is a connection of its own, and the pauses between them are ours.
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, within_ms);  // also bounds one attempt to connect
    arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
    // Nothing but the address given decides where it goes.
    arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    arguments.SetInt(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);
    channels_.push_back(grpc::CreateCustomChannel(target_, grpc::SslCredentials(tls), arguments));
    return channels_.back();
  }

  // A channel whose last owner were a callback would end gRPC's callback threads from one of them, which it does not survive
  // (src/cpp/common/completion_queue_cc.cc, CallbackAlternativeCQ::Unref). So they end here; but for the newest, with which those
  // threads live on.
  void ForgetOldChannels() {
    std::erase_if(channels_, [this](const std::shared_ptr<grpc::Channel>& channel) {
      return channel != channels_.back() && channel.use_count() == 1;
    });
  }

  void Try() {
    timer_.reset();
    if (certificate_pem_.empty()) {
      Enroll();
    } else {
      Connect();
    }
  }

  void TryLater() {
    const absl::Duration longest =
        std::min(options_.retry_after_max, options_.retry_after_min * (1 << std::min(failures_, 20)));
    ++failures_;
    // Somewhere in the upper half, so that agents that lost the coordinator together do not come back together.
    const auto random = static_cast<unsigned char>(RandomBytes(1)[0]);
    timer_ = loop_->After(longest * (0.5 + random / 512.0), [this] { Try(); });
  }

  void Enroll() {
    auto attempt = std::make_shared<EnrollAttempt>();
    enrolling_ = attempt;
    attempt->stub = v1::AgentService::NewStub(MakeChannel());
    attempt->context.set_deadline(std::chrono::system_clock::now() + absl::ToChronoNanoseconds(options_.connect_within));
    attempt->request.set_token(options_.ticket.token);
    attempt->request.set_public_key_der(key_->public_key_der());
    attempt->request.set_protocol_version(kChannelProtocolVersion);
    if (options_.identity_token) attempt->request.set_identity_token(options_.identity_token());
    gate_->Enter();
    // What the callback holds is let go of before the gate is left.
    auto holder = std::make_shared<std::shared_ptr<EnrollAttempt>>(attempt);
    attempt->stub->async()->Enroll(&attempt->context, &attempt->request, &attempt->reply,
                                   [this, gate = gate_, holder](const grpc::Status& status) {
                                     std::shared_ptr<EnrollAttempt> attempt = std::move(*holder);
                                     LoopGate::Post(gate, [this, attempt, status] { OnEnrolled(attempt, status); });
                                     attempt.reset();
                                     gate->Leave();
                                   });
    ForgetOldChannels();
  }

  void OnEnrolled(const std::shared_ptr<EnrollAttempt>& attempt, const grpc::Status& status) {
    if (enrolling_ != attempt) return;
    enrolling_.reset();
    if (!status.ok()) return OnFailure(status);
    certificate_pem_ = attempt->reply.certificate_pem();
    Connect();
  }

  void Connect() {
    stream_ = std::make_shared<ClientStream>(gate_, MakeChannel());
    stream_->on_ready = [this, key = stream_.get()] { OnReady(key); };
    stream_->Begin();
    ForgetOldChannels();
    timer_ = loop_->After(options_.connect_within, [this] {
      timer_.reset();
      too_late_ = true;
      stream_->Cancel();
    });
    AgentFrame frame;
    v1::StreamHello* const hello = frame.mutable_hello();
    hello->set_job_id(options_.ticket.job_id);
    hello->set_certificate_pem(certificate_pem_);
    hello->set_session(session_);
    hello->set_received(frames_.received());
    hello->set_muster_version(MUSTER_VERSION);
    hello->set_protocol_version(kChannelProtocolVersion);
    stream_->Write(std::make_shared<const AgentFrame>(std::move(frame)));
  }

  // --- Ends of attempts and streams ---

  void OnStreamOver(grpc::Status status) {
    const bool was_ready = std::exchange(ready_, false);
    stream_.reset();
    CancelTimer(&timer_);
    CancelTimer(&acknowledgement_);
    CancelTimer(&silence_);
    if (std::exchange(too_late_, false)) {
      status = grpc::Status(grpc::StatusCode::DEADLINE_EXCEEDED,
                            absl::StrCat("no answer within ", absl::FormatDuration(options_.connect_within)));
    }
    if (end_said_) return FinishClose();
    if (was_ready && !IsRefusal(status.error_code())) {
      Say(LogLevel::kWarning, absl::StrCat("the stream to the coordinator at ", options_.coordinator, " broke (",
                                           status.error_message(), "); connecting again"));
      told_unreachable_ = true;
      if (callbacks_.down) callbacks_.down();
      if (over_) return;
    }
    OnFailure(status);
  }

  void OnFailure(const grpc::Status& status) {
    if (IsRefusal(status.error_code())) {
      const bool ticket_is_wrong = certificate_pem_.empty() && status.error_code() != grpc::StatusCode::UNAUTHENTICATED;
      const char* remedy = ticket_is_wrong ? "; each agent joins once, with a ticket of its own" : "";
      return Refused(absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                                  absl::StrCat("the coordinator at ", options_.coordinator,
                                               " does not take this agent: ", status.error_message(), remedy)));
    }
    if (IsStranger(status) && certificate_pem_.empty()) {
      return Refused(
          absl::PermissionDeniedError(absl::StrCat("what answers at ", options_.coordinator,
                                                   " is not the coordinator of this ticket's job (its certificate is "
                                                   "of another authority); look whether address and ticket belong together")));
    }
    if (!std::exchange(told_unreachable_, true)) {
      Say(LogLevel::kWarning, absl::StrCat("cannot reach the coordinator at ", options_.coordinator, " yet (",
                                           status.error_message(), "); trying again"));
    }
    TryLater();
  }

  void Refused(absl::Status why) {
    over_ = true;
    StopAll();
    if (closing_) return FinishClose();
    if (callbacks_.refused) callbacks_.refused(std::move(why));
  }

  void StopAll() {
    for (std::optional<EventLoop::TimerId>* timer : {&timer_, &acknowledgement_, &silence_, &close_timer_}) CancelTimer(timer);
    ready_ = false;
    if (stream_ != nullptr) std::exchange(stream_, nullptr)->Cancel();
    if (enrolling_ != nullptr) std::exchange(enrolling_, nullptr)->context.TryCancel();
  }

  // --- Frames ---

  void OnReady(ClientStream* key) {
    if (stream_.get() != key) return;
    const std::shared_ptr<ClientStream> stream = stream_;
    ClientStream::Taken taken = stream->Take();
    for (CoordinatorFrame& frame : taken.frames) {
      OnFrame(std::move(frame));
      if (stream_ != stream) return;
    }
    if (taken.ended) OnStreamOver(stream->status());
  }

  void OnFrame(CoordinatorFrame frame) {
    if (!ready_) return OnHandshake(frame);
    expecting_since_ns_ = MonotonicNanoseconds();
    if (!frames_.Acknowledge(frame.acknowledged()).ok()) return stream_->Cancel();
    if (frame.sequence() != 0) {
      switch (frames_.Take(frame.sequence())) {
        case Sequence<AgentFrame>::Taken::kRepeated:
          break;
        case Sequence<AgentFrame>::Taken::kGap:
          return stream_->Cancel();
        case Sequence<AgentFrame>::Taken::kNew:
          AcknowledgeSoon();
          callbacks_.message(std::move(*frame.mutable_message()));
          break;
      }
    }
    if (closing_) CheckClosing();
  }

  void OnHandshake(const CoordinatorFrame& frame) {
    if (frame.has_challenge()) {
      const absl::StatusOr<std::string> signature = key_->SignChallenge(options_.ticket.job_id, frame.challenge().nonce());
      if (!signature.ok()) return Refused(signature.status());
      AgentFrame proof;
      proof.mutable_proof()->set_signature(*signature);
      return stream_->Write(std::make_shared<const AgentFrame>(std::move(proof)));
    }
    if (!frame.has_welcome()) return stream_->Cancel();
    const v1::StreamWelcome& welcome = frame.welcome();
    if (welcome.resumed() && !frames_.Acknowledge(welcome.received()).ok()) return stream_->Cancel();
    CancelTimer(&timer_);
    ready_ = true;
    failures_ = 0;
    if (std::exchange(told_unreachable_, false)) {
      Say(LogLevel::kInfo, absl::StrCat("connected to the coordinator at ", options_.coordinator));
    }
    expecting_since_ns_ = MonotonicNanoseconds();
    WatchSilence();
    if (welcome.resumed()) {
      frames_.NoteAcknowledging();  // the hello told
      frames_.ForEachKept([&](const std::shared_ptr<const AgentFrame>& kept) { stream_->Write(kept); });
      if (callbacks_.resumed) callbacks_.resumed();
    } else {
      frames_ = Sequence<AgentFrame>();
      session_ = welcome.session();
      if (!closing_ && callbacks_.up) callbacks_.up();
    }
    if (!over_ && closing_) CheckClosing();
  }

  void AcknowledgeSoon() {
    if (frames_.owed() >= kAcknowledgeAfterMessages) return AcknowledgeNow();
    if (acknowledgement_.has_value()) return;
    acknowledgement_ = loop_->After(kAcknowledgeWithin, [this] {
      acknowledgement_.reset();
      AcknowledgeNow();
    });
  }

  void AcknowledgeNow() {
    CancelTimer(&acknowledgement_);
    if (!ready_ || frames_.owed() == 0) return;
    AgentFrame frame;
    frame.set_acknowledged(frames_.NoteAcknowledging());
    stream_->Write(std::make_shared<const AgentFrame>(std::move(frame)));
  }

  void WatchSilence() {
    silence_ = loop_->After(options_.silence_max / 4, [this] {
      const int64_t silent_ns = MonotonicNanoseconds() - expecting_since_ns_;
      if (!frames_.all_acknowledged() && silent_ns > absl::ToInt64Nanoseconds(options_.silence_max)) {
        silence_.reset();
        return stream_->Cancel();
      }
      WatchSilence();
    });
  }

  void GiveUpSession(const std::string& why) {
    Say(LogLevel::kError, absl::StrCat(why, ": this session is given up"));
    frames_ = Sequence<AgentFrame>();
    session_.clear();
    if (stream_ != nullptr) stream_->Cancel();  // the next hello asks for a new one
  }

  // --- Closing ---

  void CheckClosing() {
    if (session_.empty() || (ready_ && frames_.all_acknowledged())) SayEnd();
  }

  void SayEnd() {
    if (end_said_ || over_) return;
    if (!ready_) return FinishClose();
    AcknowledgeNow();
    end_said_ = true;
    AgentFrame frame;
    frame.set_acknowledged(frames_.received());
    frame.mutable_end();
    stream_->Write(std::make_shared<const AgentFrame>(std::move(frame)));
    CancelTimer(&close_timer_);
    close_timer_ = loop_->After(kEndPatience, [this] { FinishClose(); });
  }

  void FinishClose() {
    over_ = true;
    StopAll();
    if (closed_) std::exchange(closed_, nullptr)();
  }

  void CancelTimer(std::optional<EventLoop::TimerId>* timer) {
    if (timer->has_value()) loop_->Cancel(*std::exchange(*timer, std::nullopt));
  }

  void Say(LogLevel level, const std::string& line) {
    if (callbacks_.log) callbacks_.log(level, line);
  }

  EventLoop* const loop_;
  const AgentClientOptions options_;
  const Callbacks callbacks_;
  const std::string target_;
  const std::unique_ptr<AgentKey> key_;
  const std::shared_ptr<LoopGate> gate_;

  std::string certificate_pem_;                           // empty: not enrolled yet
  std::string session_;                                   // empty: none
  Sequence<AgentFrame> frames_;                           // of the session
  std::vector<std::shared_ptr<grpc::Channel>> channels_;  // the newest last; all that calls may still hold
  std::shared_ptr<EnrollAttempt> enrolling_;
  std::shared_ptr<ClientStream> stream_;
  bool ready_ = false;                       // stream_ has been welcomed
  bool too_late_ = false;                    // stream_ is ended because its handshake took too long
  bool over_ = false;                        // refused, or closed
  bool told_unreachable_ = false;            // said once an outage
  int failures_ = 0;                         // in a row
  int64_t expecting_since_ns_ = 0;           // when something was heard last, or began to be waited for
  std::optional<EventLoop::TimerId> timer_;  // the next attempt, or the end of this one
  std::optional<EventLoop::TimerId> acknowledgement_;
  std::optional<EventLoop::TimerId> silence_;

  bool closing_ = false;
  bool end_said_ = false;
  std::function<void()> closed_;
  std::optional<EventLoop::TimerId> close_timer_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<AgentClient>> AgentClient::Create(EventLoop* loop, AgentClientOptions options,
                                                                 Callbacks callbacks) {
  MakeGrpcQuiet();
  MUSTER_ASSIGN_OR_RETURN(std::string target, TargetOf(options.coordinator));
  MUSTER_ASSIGN_OR_RETURN(std::unique_ptr<AgentKey> key, AgentKey::Create());
  return std::make_unique<AgentClientImpl>(loop, std::move(options), std::move(callbacks), std::move(target), std::move(key));
}

}  // namespace muster
