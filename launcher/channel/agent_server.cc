#include "launcher/channel/agent_server.h"

#include <grpcpp/grpcpp.h>
#include <openssl/crypto.h>

#include <chrono>
#include <map>
#include <optional>
#include <unordered_map>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "launcher/channel/agent_key.h"
#include "launcher/channel/coordinator_search.h"
#include "launcher/channel/front_door.h"
#include "launcher/channel/join_key.h"
#include "launcher/channel/newcomers.h"
#include "launcher/channel/openssl.h"
#include "launcher/channel/protocol.h"
#include "launcher/channel/quiet_grpc.h"
#include "launcher/channel/sequence.h"
#include "launcher/channel/server_calls.h"
#include "muster/v1/agent.grpc.pb.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

using v1::AgentFrame;
using v1::CoordinatorFrame;

constexpr int kStreamsOfAConnectionMax = 128;
constexpr size_t kNonceBytes = 32;
constexpr size_t kSessionNameBytes = 16;
constexpr absl::Duration kJoinTicketGood = absl::Minutes(1);  // the agent is there already
constexpr absl::Duration kShutdownPatience = absl::Seconds(10);

absl::Status CheckVersion(uint32_t version) {
  if (version == kChannelProtocolVersion) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat("protocol version ", version, ", where the coordinator speaks ",
                                                    kChannelProtocolVersion, ": run the same muster on all nodes"));
}

class AgentServerImpl : public AgentServer {
 public:
  AgentServerImpl(EventLoop* loop, AgentServerOptions options, Callbacks callbacks)
      : loop_(loop),
        options_(std::move(options)),
        callbacks_(std::move(callbacks)),
        gate_(std::make_shared<LoopGate>(loop)),
        service_(this),
        newcomers_(loop, options_.handshake_within,
                   {.pause = [this](bool pause) { door_->Pause(pause); },
                    .refused = [this](const std::string& what, const std::string& from) { Refuse(what, from); }}) {}

  ~AgentServerImpl() override {
    gate_->Close();
    door_.reset();
    for (auto& [key, stream] : conversations_) loop_->Cancel(stream.deadline);
    for (auto& [number, node] : nodes_) {
      if (node.session != nullptr) CancelTimers(node.session.get());
    }
    if (flush_timer_.has_value()) loop_->Cancel(*flush_timer_);
    if (server_ != nullptr) server_->Shutdown(std::chrono::system_clock::now());  // cancels what is open
    server_.reset();
    if (!gate_->AwaitEmpty(kShutdownPatience)) Log(LogLevel::kWarning, "gRPC has not let go of the agents' streams");
  }

  absl::Status Start() {
    MakeGrpcQuiet();
    grpc::SslServerCredentialsOptions tls(GRPC_SSL_REQUEST_CLIENT_CERTIFICATE_BUT_DONT_VERIFY);
    tls.pem_root_certs = options_.authority->certificate_pem();
    tls.pem_key_cert_pairs.push_back({options_.authority->server_key_pem(), options_.authority->server_certificate_pem()});
    const int within_ms = static_cast<int>(absl::ToInt64Milliseconds(options_.handshake_within));
    grpc::ServerBuilder builder;
    builder.RegisterService(&service_);
    builder.SetMaxReceiveMessageSize(static_cast<int>(kAgentMessageBytesMax + kFrameBytesMax));
    builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kStreamsOfAConnectionMax);
    builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, within_ms);
    builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_IDLE_MS, within_ms);  // without any call
    acceptor_ = builder.experimental().AddExternalConnectionAcceptor(
        grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD, grpc::SslServerCredentials(tls));
    server_ = builder.BuildAndStart();
    if (server_ == nullptr) return absl::InternalError("gRPC did not start the agents' server");
    MUSTER_ASSIGN_OR_RETURN(
        door_, FrontDoor::Listen(
                   loop_, options_.listen, options_.port, options_.handshake_within,
                   {.admit = [this](UniqueFd connection, const std::string& from) { Admit(std::move(connection), from); },
                    .refuse = [this](const std::string& what, const std::string& from) { Refuse(what, from); },
                    .warn =
                        [this](const std::string& line) {
                          if (callbacks_.log) callbacks_.log(LogLevel::kWarning, line);
                        },
                    .search_answer = SearchAnswer(options_.authority->certificate_pem()),
                    .join = options_.join_key.empty()
                                ? std::function<std::string(absl::string_view, const std::string&)>()
                                : [this](absl::string_view request, const std::string& from) { return AnswerJoin(request, from); }}));
    return absl::OkStatus();
  }

  void Send(uint32_t number, v1::CoordinatorMessage message) override {
    Session* const session = FindSession(number);
    if (session == nullptr || session->over.has_value()) return;
    const size_t bytes = message.ByteSizeLong();
    if (bytes > kCoordinatorMessageBytesMax) {
      return EndLater(number,
                      absl::StrCat("a message of ", bytes, " bytes for it is longer than ", kCoordinatorMessageBytesMax));
    }
    CoordinatorFrame frame;
    *frame.mutable_message() = std::move(message);
    auto kept = session->frames.Send(std::move(frame), bytes);
    CancelAcknowledgement(session);
    if (session->stream != nullptr) session->stream->Write(std::move(kept));
    if (session->frames.kept_bytes() > options_.unacknowledged_bytes_max) {
      EndLater(number, absl::StrCat("it has not acknowledged ", session->frames.kept_bytes(), " bytes sent to it"));
    }
  }

  void Drop(uint32_t number) override {
    Node& node = nodes_[number];
    node.dropped = true;
    node.enrolment.reset();
    if (node.session != nullptr) EndSession(&node, absl::PermissionDeniedError("the coordinator has given this agent up"));
  }

  void Flush(absl::Duration at_most, std::function<void()> done) override {
    MUSTER_CHECK(!flush_timer_.has_value(), "one Flush at a time");
    flushed_ = std::move(done);
    flush_timer_ = loop_->After(at_most, [this] { Flushed(); });
    LoopGate::Post(gate_, [this] { CheckFlush(); });
  }

  uint16_t port() const override { return door_->port(); }
  uint64_t refusals() const override { return refusals_; }

  absl::Duration SilentFor(uint32_t number) const override {
    const auto found = nodes_.find(number);
    if (found == nodes_.end() || found->second.session == nullptr) return absl::InfiniteDuration();
    return absl::Nanoseconds(MonotonicNanoseconds() - found->second.session->heard_ns);
  }

 private:
  using Stream = std::shared_ptr<ServerStream>;

  // Of two agents that come for one node the newer wins: its enrolment ends the other's session, whose certificate is refused then.
  std::string AnswerJoin(absl::string_view request, const std::string& from) {
    const auto number = ReadJoinRequest(options_.join_key, request);
    if (!number.ok()) {
      Refuse(std::string(number.status().message()), from);
      return std::string(4, '\0');
    }
    const std::string text = *number < options_.join_nodes
                                 ? ToText(options_.authority->MakeTicket(*number, kJoinTicketGood))
                                 : absl::StrCat("no: the job has ", options_.join_nodes, " nodes, so none has the number ", *number);
    auto answer = SealJoinAnswer(options_.join_key, request, text);
    return answer.ok() ? *std::move(answer) : "";
  }

  struct Session {
    std::string name;
    Sequence<CoordinatorFrame> frames;
    Stream stream;  // null: broken, and `expiry` runs
    int64_t heard_ns = 0;
    std::optional<EventLoop::TimerId> expiry;
    std::optional<EventLoop::TimerId> acknowledgement;
    std::optional<std::string> over;  // ends as soon as the loop is back: why
  };

  // An answer that may not have arrived: the same agent may ask again until it has shown its certificate.
  struct Enrolment {
    std::string token;
    std::string public_key_der;
    v1::EnrollReply reply;
  };

  struct Node {
    std::string certificate_pem;  // the one that counts: of the last enrolment, else the first shown; empty: none yet
    bool dropped = false;
    std::optional<Enrolment> enrolment;
    std::unique_ptr<Session> session;
  };

  // What is known of a stream's other end.
  struct Conversation {
    Stream stream;
    enum class Step { kHello, kProof, kReady } step = Step::kHello;
    std::optional<AgentFrame> hello;
    std::string nonce;
    uint32_t node = 0;  // proved when ready
    EventLoop::TimerId deadline;
  };

  class Service : public v1::AgentService::CallbackService {
   public:
    explicit Service(AgentServerImpl* server) : server_(server), gate_(server->gate_) {}

    grpc::ServerUnaryReactor* Enroll(grpc::CallbackServerContext* context, const v1::EnrollRequest* request,
                                     v1::EnrollReply* reply) override {
      auto call = std::make_shared<EnrollCall>(gate_, reply);
      call->HoldSelf();
      LoopGate::Post(gate_, [server = server_, call, request = *request, from = FromOfPeer(context->peer())] {
        server->newcomers_.NoteCall(from);
        call->Answer(server->OnEnroll(request, from));
      });
      return call.get();
    }

    grpc::ServerBidiReactor<AgentFrame, CoordinatorFrame>* Connect(grpc::CallbackServerContext* context) override {
      auto stream = std::make_shared<ServerStream>(gate_, context);
      stream->on_ready = [server = server_, key = stream.get()] { server->OnReady(key); };
      LoopGate::Post(gate_, [server = server_, stream] { server->OnStream(stream); });
      stream->Begin();
      return stream.get();
    }

   private:
    AgentServerImpl* const server_;  // only on the loop, behind the gate
    const std::shared_ptr<LoopGate> gate_;
  };

  // --- Turning away ---

  void Refuse(const std::string& what, const std::string& from) {
    ++refusals_;
    if (callbacks_.refused) callbacks_.refused({.what = what, .from = from});
  }

  void Admit(UniqueFd connection, const std::string& from) {
    if (const absl::Status held = newcomers_.Admit(connection.get(), from); !held.ok()) {
      return Refuse(std::string(held.message()), from);
    }
    grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters parameters;
    parameters.listener_fd = door_->listener();
    parameters.fd = connection.Release();
    acceptor_->HandleNewConnection(&parameters);
  }

  // --- Enrolling ---

  absl::StatusOr<v1::EnrollReply> OnEnroll(const v1::EnrollRequest& request, const std::string& from) {
    absl::StatusOr<v1::EnrollReply> reply = Enroll(request);
    if (!reply.ok()) Refuse(std::string(reply.status().message()), from);
    return reply;
  }

  absl::StatusOr<v1::EnrollReply> Enroll(const v1::EnrollRequest& request) {
    MUSTER_RETURN_IF_ERROR(CheckVersion(request.protocol_version()));
    for (const auto& [number, node] : nodes_) {
      if (!node.enrolment.has_value()) continue;
      const Enrolment& open = *node.enrolment;
      if (open.token.size() == request.token().size() && open.public_key_der == request.public_key_der() &&
          CRYPTO_memcmp(open.token.data(), request.token().data(), open.token.size()) == 0) {
        return open.reply;
      }
    }
    if (const absl::Status key = PublicKeyFromDer(request.public_key_der()).status(); !key.ok()) return key;  // costs no token
    MUSTER_ASSIGN_OR_RETURN(const uint32_t number, options_.authority->TakeToken(request.token()));
    if (options_.check_identity) {
      const absl::Status identity = options_.check_identity(number, request.identity_token());
      if (!identity.ok()) return absl::UnauthenticatedError(identity.message());
    }
    MUSTER_ASSIGN_OR_RETURN(std::string certificate_pem, options_.authority->SignAgent(number, request.public_key_der()));
    if (FindSession(number) != nullptr) LoseSession(number, "its agent was started again");
    v1::EnrollReply reply;
    reply.set_certificate_pem(certificate_pem);
    reply.set_node(number);
    Node& node = nodes_[number];
    node.certificate_pem = std::move(certificate_pem);
    node.dropped = false;
    node.enrolment = {request.token(), request.public_key_der(), reply};
    return reply;
  }

  // --- Streams ---

  void OnStream(const Stream& stream) {
    newcomers_.NoteCall(stream->from());
    Conversation& conversation = conversations_[stream.get()];
    conversation.stream = stream;
    conversation.deadline = loop_->After(options_.handshake_within, [this, key = stream.get()] {
      const Conversation& late = conversations_.at(key);
      RefuseStream(key, absl::DeadlineExceededError(late.step == Conversation::Step::kHello
                                                        ? "silence instead of a hello"
                                                        : "silence instead of an answer to the challenge"));
    });
    newcomers_.StreamBegan();
  }

  void OnReady(ServerStream* key) {
    const auto found = conversations_.find(key);
    if (found == conversations_.end()) return;  // closed by us
    const Stream stream = found->second.stream;
    ServerStream::Taken taken = stream->Take();
    for (AgentFrame& frame : taken.frames) {
      OnFrame(key, std::move(frame));
      if (!conversations_.contains(key)) return;
    }
    if (!taken.ended) return;
    if (conversations_.at(key).step == Conversation::Step::kHello) {
      RefuseStream(key, absl::CancelledError("a stream that ended before its hello"));
    } else {
      CloseStream(key, absl::CancelledError("the stream broke"));
    }
    CheckFlush();
  }

  // Forgets the stream; its session, if it has one, waits for the next.
  void CloseStream(ServerStream* key, const absl::Status& status) {
    auto entry = conversations_.extract(key);
    Conversation& conversation = entry.mapped();
    if (conversation.step == Conversation::Step::kReady) {
      Session* const session = FindSession(conversation.node);
      if (session != nullptr && session->stream == conversation.stream) Detach(conversation.node, session);
    } else {
      loop_->Cancel(conversation.deadline);
      newcomers_.StreamDecided();
    }
    conversation.stream->Close(status, /*abruptly=*/false);
    // The other end should read why; one that takes nothing has no claim to it.
    loop_->After(options_.handshake_within,
                 [stream = conversation.stream, status] { stream->Close(status, /*abruptly=*/true); });
  }

  void RefuseStream(ServerStream* key, const absl::Status& why) {
    const std::string from = key->from();
    CloseStream(key, why);
    Refuse(std::string(why.message()), from);
  }

  void OnFrame(ServerStream* key, AgentFrame frame) {
    Conversation& conversation = conversations_.at(key);
    switch (conversation.step) {
      case Conversation::Step::kHello:
        if (const absl::Status hello = OnHello(&conversation, std::move(frame)); !hello.ok()) RefuseStream(key, hello);
        return;
      case Conversation::Step::kProof:
        if (const absl::Status proof = OnProof(&conversation, frame); !proof.ok()) RefuseStream(key, proof);
        return;
      case Conversation::Step::kReady:
        return OnSessionFrame(key, conversation.node, std::move(frame));
    }
  }

  absl::Status OnHello(Conversation* conversation, AgentFrame frame) {
    if (!frame.has_hello()) return absl::InvalidArgumentError("a stream that does not begin with a hello");
    const v1::StreamHello& hello = frame.hello();
    MUSTER_RETURN_IF_ERROR(CheckVersion(hello.protocol_version()));
    if (hello.job_id() != options_.job_id) return absl::PermissionDeniedError("an agent of another job");
    MUSTER_ASSIGN_OR_RETURN(conversation->node, options_.authority->CheckAgent(hello.certificate_pem()));
    MUSTER_RETURN_IF_ERROR(CheckCertificate(conversation->node, hello.certificate_pem()));
    // Where TLS is end to end its certificate must be the agent's as well; behind a proxy there is none.
    if (const std::string& pem = conversation->stream->tls_certificate_pem(); !pem.empty()) {
      MUSTER_ASSIGN_OR_RETURN(const uint32_t node, options_.authority->CheckAgent(pem));
      if (node != conversation->node) {
        return absl::PermissionDeniedError(
            absl::StrCat("TLS with the certificate of node ", node, ", a hello with that of node ", conversation->node));
      }
    }
    conversation->nonce = RandomBytes(kNonceBytes);
    CoordinatorFrame challenge;
    challenge.mutable_challenge()->set_nonce(conversation->nonce);
    conversation->stream->Write(std::make_shared<const CoordinatorFrame>(std::move(challenge)));
    conversation->hello = std::move(frame);
    conversation->step = Conversation::Step::kProof;
    return absl::OkStatus();
  }

  absl::Status CheckCertificate(uint32_t number, const std::string& certificate_pem) {
    const auto found = nodes_.find(number);
    if (found == nodes_.end()) return absl::OkStatus();
    if (found->second.dropped) return absl::PermissionDeniedError("an agent that the coordinator has given up");
    if (!found->second.certificate_pem.empty() && found->second.certificate_pem != certificate_pem) {
      return absl::PermissionDeniedError("a certificate of an agent that was started again");
    }
    return absl::OkStatus();
  }

  absl::Status OnProof(Conversation* conversation, const AgentFrame& frame) {
    if (!frame.has_proof()) return absl::InvalidArgumentError("no answer to the challenge");
    const v1::StreamHello hello = conversation->hello->hello();
    const absl::Status answer =
        CheckChallengeSignature(hello.certificate_pem(), options_.job_id, conversation->nonce, frame.proof().signature());
    if (!answer.ok()) return absl::PermissionDeniedError(answer.message());
    // It may have been dropped or replaced since its hello.
    MUSTER_RETURN_IF_ERROR(CheckCertificate(conversation->node, hello.certificate_pem()));
    return Attach(conversation, hello);
  }

  // --- Sessions ---

  Session* FindSession(uint32_t number) {
    const auto found = nodes_.find(number);
    return found == nodes_.end() ? nullptr : found->second.session.get();
  }

  // The stream's other end has proved who it is.
  absl::Status Attach(Conversation* conversation, const v1::StreamHello& hello) {
    const Stream stream = conversation->stream;
    const uint32_t number = conversation->node;
    Node& node = nodes_[number];
    const bool resumes = node.session != nullptr && !node.session->over.has_value() && node.session->name == hello.session();
    if (resumes) MUSTER_RETURN_IF_ERROR(node.session->frames.Acknowledge(hello.received()));
    node.certificate_pem = hello.certificate_pem();
    node.enrolment.reset();
    newcomers_.NoteProof(stream->from());
    loop_->Cancel(conversation->deadline);
    conversation->step = Conversation::Step::kReady;
    conversation->hello.reset();
    newcomers_.StreamDecided();
    if (!resumes && node.session != nullptr) {
      LoseSession(number, "its agent began a new session");
      MUSTER_RETURN_IF_ERROR(CheckCertificate(number, hello.certificate_pem()));  // who was told may have dropped it
    }
    if (node.session == nullptr) {
      node.session = std::make_unique<Session>();
      node.session->name = absl::BytesToHexString(RandomBytes(kSessionNameBytes));
    }
    Session* const session = node.session.get();
    const Stream before = std::exchange(session->stream, stream);
    if (before != nullptr) CloseStream(before.get(), absl::AbortedError("another stream has taken up this session"));
    if (session->expiry.has_value()) loop_->Cancel(*std::exchange(session->expiry, std::nullopt));
    session->heard_ns = MonotonicNanoseconds();
    CoordinatorFrame welcome;
    welcome.mutable_welcome()->set_session(session->name);
    welcome.mutable_welcome()->set_resumed(resumes);
    welcome.mutable_welcome()->set_received(session->frames.NoteAcknowledging());
    CancelAcknowledgement(session);
    stream->Write(std::make_shared<const CoordinatorFrame>(std::move(welcome)));
    session->frames.ForEachKept([&](const std::shared_ptr<const CoordinatorFrame>& frame) { stream->Write(frame); });
    return absl::OkStatus();
  }

  // The session's stream is gone.
  void Detach(uint32_t number, Session* session) {
    session->stream = nullptr;
    CancelAcknowledgement(session);
    if (session->expiry.has_value()) return;
    session->expiry = loop_->After(options_.resume_within, [this, number, session] {
      session->expiry.reset();
      LoseSession(number, absl::StrCat("its stream broke and it did not come back within ",
                                       absl::FormatDuration(options_.resume_within)));
    });
  }

  void OnSessionFrame(ServerStream* key, uint32_t number, AgentFrame frame) {
    Session* const session = FindSession(number);
    if (session == nullptr || session->stream.get() != key || session->over.has_value()) return;
    session->heard_ns = MonotonicNanoseconds();
    if (const absl::Status known = session->frames.Acknowledge(frame.acknowledged()); !known.ok()) {
      return CloseStream(key, absl::AbortedError(known.message()));
    }
    if (frame.has_end()) return LoseSession(number, "its agent has closed the session");
    if (frame.sequence() != 0) {
      switch (session->frames.Take(frame.sequence())) {
        case Sequence<CoordinatorFrame>::Taken::kRepeated:
          break;
        case Sequence<CoordinatorFrame>::Taken::kGap:
          return CloseStream(key, absl::AbortedError(absl::StrCat("message ", frame.sequence(), " came after ",
                                                                  session->frames.received(), " on this stream")));
        case Sequence<CoordinatorFrame>::Taken::kNew:
          AcknowledgeSoon(session);
          callbacks_.message(number, std::move(*frame.mutable_message()));
          break;
      }
    }
    CheckFlush();
  }

  void AcknowledgeSoon(Session* session) {
    if (session->frames.owed() >= kAcknowledgeAfterMessages) return AcknowledgeNow(session);
    if (session->acknowledgement.has_value()) return;
    session->acknowledgement = loop_->After(kAcknowledgeWithin, [this, session] {
      session->acknowledgement.reset();
      AcknowledgeNow(session);
    });
  }

  void AcknowledgeNow(Session* session) {
    CancelAcknowledgement(session);
    if (session->stream == nullptr || session->frames.owed() == 0) return;
    CoordinatorFrame frame;
    frame.set_acknowledged(session->frames.NoteAcknowledging());
    session->stream->Write(std::make_shared<const CoordinatorFrame>(std::move(frame)));
  }

  void CancelAcknowledgement(Session* session) {
    if (session->acknowledgement.has_value()) loop_->Cancel(*std::exchange(session->acknowledgement, std::nullopt));
  }

  void CancelTimers(Session* session) {
    CancelAcknowledgement(session);
    if (session->expiry.has_value()) loop_->Cancel(*std::exchange(session->expiry, std::nullopt));
  }

  void EndSession(Node* node, const absl::Status& status) {
    const std::unique_ptr<Session> session = std::move(node->session);
    CancelTimers(session.get());
    if (session->stream != nullptr) CloseStream(session->stream.get(), status);
  }

  // From the loop only.
  void LoseSession(uint32_t number, std::string why) {
    EndSession(&nodes_[number], absl::AbortedError(absl::StrCat("this session is over: ", why)));
    callbacks_.lost(number, std::move(why));
    CheckFlush();
  }

  // From inside a call: the session takes and sends nothing any more, and `lost` follows.
  void EndLater(uint32_t number, std::string why) {
    Session* const session = FindSession(number);
    session->over = std::move(why);
    LoopGate::Post(gate_, [this, number, name = session->name] {
      Session* const ending = FindSession(number);
      if (ending != nullptr && ending->name == name) LoseSession(number, *ending->over);
    });
  }

  // --- Flushing ---

  void CheckFlush() {
    if (!flush_timer_.has_value()) return;
    for (const auto& [number, node] : nodes_) {
      if (node.session != nullptr && !node.session->frames.all_acknowledged()) return;
    }
    Flushed();
  }

  void Flushed() {
    loop_->Cancel(*std::exchange(flush_timer_, std::nullopt));
    std::exchange(flushed_, nullptr)();
  }

  EventLoop* const loop_;
  const AgentServerOptions options_;
  const Callbacks callbacks_;
  const std::shared_ptr<LoopGate> gate_;
  Service service_;
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<FrontDoor> door_;

  std::map<uint32_t, Node> nodes_;
  std::unordered_map<ServerStream*, Conversation> conversations_;
  Newcomers newcomers_;
  uint64_t refusals_ = 0;
  std::optional<EventLoop::TimerId> flush_timer_;
  std::function<void()> flushed_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<AgentServer>> AgentServer::Create(EventLoop* loop, AgentServerOptions options,
                                                                 Callbacks callbacks) {
  auto server = std::make_unique<AgentServerImpl>(loop, std::move(options), std::move(callbacks));
  MUSTER_RETURN_IF_ERROR(server->Start());
  return server;
}

}  // namespace muster
