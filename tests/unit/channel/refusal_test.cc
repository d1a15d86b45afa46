// Everybody who has no business with the coordinator is turned away, counted and named, while a good agent's messages go on.
#include <arpa/inet.h>
#include <grpcpp/grpcpp.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launcher/channel/agent_key.h"
#include "launcher/channel/front_door.h"
#include "launcher/channel/protocol.h"
#include "muster/v1/agent.grpc.pb.h"
#include "runtime/base/fd.h"
#include "tests/support/channel_parties.h"

namespace muster {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr uint32_t kGood = 0;
constexpr uint32_t kOther = 7;

TEST(Opening, IsKnownFromTheFirstBytes) {
  const std::string hello("\x16\x03\x01\x02\x00\x01", 6);
  EXPECT_EQ(OpeningOf(hello), Opening::kTls);
  EXPECT_EQ(OpeningOf(hello + "more"), Opening::kTls);
  for (size_t bytes = 0; bytes < hello.size(); ++bytes)
    EXPECT_EQ(OpeningOf(hello.substr(0, bytes)), Opening::kUndecided) << bytes;
  EXPECT_EQ(OpeningOf(std::string("\x16\x03\x01\x02\x00\x02", 6)), Opening::kPlainText);  // a ServerHello
  EXPECT_EQ(OpeningOf(std::string("\x16\x04", 2)), Opening::kPlainText);
  EXPECT_EQ(OpeningOf("GET / HTTP/1.1\r\n"), Opening::kHttp);
  EXPECT_EQ(OpeningOf("PRI * HTTP/2.0\r\n"), Opening::kHttp);
  EXPECT_EQ(OpeningOf("PO"), Opening::kUndecided);
  EXPECT_EQ(OpeningOf("PORT"), Opening::kPlainText);
  EXPECT_EQ(OpeningOf("SSH-2.0-"), Opening::kPlainText);
  EXPECT_EQ(OpeningOf("must"), Opening::kUndecided);
  EXPECT_EQ(OpeningOf("muster"), Opening::kSearch);
  EXPECT_EQ(OpeningOf("mustard"), Opening::kPlainText);
  EXPECT_EQ(OpeningOf(std::string(1, '\0')), Opening::kPlainText);
}

// Somebody with gRPC and TLS, who may do everything wrong.
struct Stranger {
  std::string roots;                     // whose server it trusts
  std::string key_pem, certificate_pem;  // for TLS; empty: none

  std::unique_ptr<v1::AgentService::Stub> Stub(const std::string& address) const {
    grpc::SslCredentialsOptions tls;
    tls.pem_root_certs = roots;
    tls.pem_private_key = key_pem;
    tls.pem_cert_chain = certificate_pem;
    grpc::ChannelArguments arguments;
    arguments.SetSslTargetNameOverride(kServerName);
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    return v1::AgentService::NewStub(grpc::CreateCustomChannel(address, grpc::SslCredentials(tls), arguments));
  }
};

using RawStream = grpc::ClientReaderWriter<v1::AgentFrame, v1::CoordinatorFrame>;

class Refusals : public ::testing::Test {
 protected:
  void SetUp() override {
    Begin({.check_identity = [this](uint32_t node,
                                    absl::string_view token) { return identity_ ? identity_(node, token) : absl::OkStatus(); },
           .handshake_within = absl::Seconds(60)});
  }

  void Begin(AgentServerOptions options) {
    good_.client.reset();
    coordinator_.Start(authority_.get(), options);
    coordinator_.echo = true;
    good_.Start(coordinator_.address(), authority_->MakeTicket(kGood, absl::Minutes(10)));
    ASSERT_TRUE(Await([&] { return good_.ups == 1; }));
    Speak();
  }

  void Speak() {
    timer_ = loop_->After(absl::Milliseconds(2), [this] {
      good_.Send(++sent_);
      Speak();
    });
  }

  void TearDown() override {
    loop_->Cancel(timer_);
    EXPECT_TRUE(Await([&] { return good_.got.size() >= sent_; }));
    for (uint64_t i = 0; i < good_.got.size(); ++i) ASSERT_EQ(good_.got[i], i + 1);
    EXPECT_EQ(good_.got.size(), sent_);
    EXPECT_EQ(good_.downs, 0);
    EXPECT_EQ(good_.ups, 1);
    EXPECT_TRUE(good_.refused.ok()) << good_.refused;
    ForgetRefused();
    EXPECT_EQ(coordinator_.server->refusals(), told_);
  }

  bool Await(const std::function<bool()>& condition) { return test::Await(loop_.get(), condition); }

  // That `what` is counted once, and nobody else is turned away.
  void ExpectOnly(const std::string& what) {
    EXPECT_TRUE(Await([&] { return !coordinator_.refused.empty(); }));
    EXPECT_EQ(coordinator_.Refused(what), 1) << what;
    for (const ServerRefusal& refusal : coordinator_.refused) EXPECT_EQ(refusal.what, what);
    EXPECT_EQ(coordinator_.refused.size(), 1u);
    ForgetRefused();
  }

  void ForgetRefused() {
    for (const ServerRefusal& refusal : coordinator_.refused) EXPECT_THAT(refusal.from, ::testing::StartsWith("127.0.0.1:"));
    told_ += coordinator_.refused.size();
    coordinator_.refused.clear();
  }

  // A plain connection that sends `bytes`.
  UniqueFd Call(const std::string& bytes) {
    UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(coordinator_.server->port());
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(::send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()));
    return fd;
  }

  Stranger Anybody() const { return {.roots = authority_->certificate_pem()}; }

  grpc::Status Enroll(const Stranger& stranger, const v1::EnrollRequest& request, v1::EnrollReply* reply) {
    grpc::Status status;
    EXPECT_TRUE(test::RunBeside(loop_.get(), [&, address = coordinator_.address()] {
      grpc::ClientContext context;
      status = stranger.Stub(address)->Enroll(&context, request, reply);
    }));
    return status;
  }

  grpc::Status Connect(const Stranger& stranger, const std::function<void(RawStream*)>& talk) {
    grpc::Status status;
    EXPECT_TRUE(test::RunBeside(loop_.get(), [&, address = coordinator_.address()] {
      grpc::ClientContext context;
      const auto stub = stranger.Stub(address);
      const auto stream = stub->Connect(&context);
      talk(stream.get());
      v1::CoordinatorFrame frame;
      while (stream->Read(&frame)) {
      }
      status = stream->Finish();
    }));
    return status;
  }

  v1::EnrollRequest EnrollRequestOf(const std::string& token, const AgentKey& key) const {
    v1::EnrollRequest request;
    request.set_token(token);
    request.set_public_key_der(key.public_key_der());
    request.set_protocol_version(kChannelProtocolVersion);
    return request;
  }

  v1::AgentFrame HelloOf(const std::string& certificate_pem) const {
    v1::AgentFrame frame;
    frame.mutable_hello()->set_job_id(test::kTestJob);
    frame.mutable_hello()->set_certificate_pem(certificate_pem);
    frame.mutable_hello()->set_protocol_version(kChannelProtocolVersion);
    return frame;
  }

  std::unique_ptr<EventLoop> loop_ = EventLoop::Create().value();
  std::unique_ptr<Authority> authority_ = Authority::Create(test::kTestJob).value();
  std::unique_ptr<AgentKey> key_ = AgentKey::Create().value();
  test::TestCoordinator coordinator_{loop_.get()};
  test::TestAgent good_{loop_.get()};
  uint64_t sent_ = 0;
  uint64_t told_ = 0;  // refusals that were looked at
  EventLoop::TimerId timer_;
  std::function<absl::Status(uint32_t node, absl::string_view token)> identity_;  // what the coordinator asks; null: nothing
};

TEST_F(Refusals, PlainText) {
  const UniqueFd fd = Call("hello?\n");
  ExpectOnly("plain text");
  char byte;
  EXPECT_LE(::recv(fd.get(), &byte, 1, 0), 0) << "is answered";
}

TEST_F(Refusals, HttpWithoutTls) {
  const UniqueFd fd = Call("GET / HTTP/1.1\r\n\r\n");
  ExpectOnly("HTTP without TLS");
}

TEST_F(Refusals, GrpcWithoutTls) {
  EXPECT_TRUE(test::RunBeside(loop_.get(), [&, address = coordinator_.address()] {
    grpc::ClientContext context;
    v1::EnrollReply reply;
    const auto stub = v1::AgentService::NewStub(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));
    EXPECT_EQ(stub->Enroll(&context, {}, &reply).error_code(), grpc::StatusCode::UNAVAILABLE);
  }));
  EXPECT_TRUE(Await([&] { return !coordinator_.refused.empty(); }));
  EXPECT_GE(coordinator_.Refused("HTTP without TLS"), 1);
}

TEST_F(Refusals, AConnectionClosedWithoutAWord) {
  Call("").Reset();
  ExpectOnly("a connection closed without a word");
}

TEST_F(Refusals, AGreetingThatIsCutShort) {
  const UniqueFd fd = Call(std::string("\x16\x03\x01", 3));
  ASSERT_EQ(::shutdown(fd.get(), SHUT_WR), 0);
  ExpectOnly("a TLS greeting cut short");
}

TEST_F(Refusals, ByteByByteIsStillTls) {
  // A good agent's greeting may come in pieces.
  const UniqueFd fd = Call("\x16");
  for (const char byte : std::string("\x03\x01\x02\x00\x01", 5)) {
    int rounds = 2;
    ASSERT_TRUE(Await([&] { return rounds-- == 0; }));
    ASSERT_EQ(::send(fd.get(), &byte, 1, MSG_NOSIGNAL), 1);
  }
  int rounds = 10;
  ASSERT_TRUE(Await([&] { return rounds-- == 0; }));
  EXPECT_THAT(coordinator_.refused, IsEmpty());
}

TEST_F(Refusals, TooManySilentOnes) {
  std::vector<UniqueFd> silent;
  for (size_t i = 0; i < FrontDoor::kSilentMax + 10; ++i) silent.push_back(Call(""));
  ASSERT_TRUE(Await([&] { return coordinator_.refused.size() == 10; }));
  EXPECT_EQ(coordinator_.Refused("silence, when too many were silent"), 10);
  test::TestAgent late(loop_.get());
  late.Start(coordinator_.address(), authority_->MakeTicket(kOther, absl::Minutes(10)));
  ASSERT_TRUE(Await([&] { return late.ups == 1; })) << "the silent ones keep a good agent out";
  ForgetRefused();
  silent.clear();
  ASSERT_TRUE(Await([&] { return coordinator_.refused.size() == FrontDoor::kSilentMax - 1; }));
}

TEST_F(Refusals, AnUnknownToken) {
  v1::EnrollReply reply;
  const grpc::Status status = Enroll(Anybody(), EnrollRequestOf(std::string(32, 't'), *key_), &reply);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::PERMISSION_DENIED);
  ExpectOnly("an unknown token");
}

TEST_F(Refusals, AnExpiredToken) {
  v1::EnrollReply reply;
  const std::string token = authority_->MakeTicket(kOther, absl::ZeroDuration()).token;
  EXPECT_FALSE(Enroll(Anybody(), EnrollRequestOf(token, *key_), &reply).ok());
  ExpectOnly("an expired token");
}

TEST_F(Refusals, AKeyOfNoUseCostsNoToken) {
  v1::EnrollReply reply;
  const std::string token = authority_->MakeTicket(kOther, absl::Minutes(10)).token;
  v1::EnrollRequest request = EnrollRequestOf(token, *key_);
  request.set_public_key_der("key");
  EXPECT_EQ(Enroll(Anybody(), request, &reply).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  ExpectOnly("not a public key of curve P-256");
  EXPECT_TRUE(Enroll(Anybody(), EnrollRequestOf(token, *key_), &reply).ok());
}

TEST_F(Refusals, ATokenThatWasUsedByAnother) {
  v1::EnrollReply reply;
  const std::string token = authority_->MakeTicket(kOther, absl::Minutes(10)).token;
  ASSERT_TRUE(Enroll(Anybody(), EnrollRequestOf(token, *key_), &reply).ok());
  EXPECT_EQ(reply.node(), kOther);
  const auto thief = AgentKey::Create().value();
  v1::EnrollReply stolen;
  EXPECT_FALSE(Enroll(Anybody(), EnrollRequestOf(token, *thief), &stolen).ok());
  EXPECT_EQ(stolen.certificate_pem(), "");
  ExpectOnly("a token used before");
}

TEST_F(Refusals, AnAnswerThatWasLostIsGivenAgainUntilTheCertificateIsShown) {
  const std::string token = authority_->MakeTicket(kOther, absl::Minutes(10)).token;
  v1::EnrollReply first, second, third;
  ASSERT_TRUE(Enroll(Anybody(), EnrollRequestOf(token, *key_), &first).ok());
  ASSERT_TRUE(Enroll(Anybody(), EnrollRequestOf(token, *key_), &second).ok());
  EXPECT_EQ(first.certificate_pem(), second.certificate_pem());
  EXPECT_THAT(coordinator_.refused, IsEmpty());
  const grpc::Status ended = Connect(Anybody(), [&](RawStream* stream) {
    v1::CoordinatorFrame frame;
    EXPECT_TRUE(stream->Write(HelloOf(first.certificate_pem())));
    EXPECT_TRUE(stream->Read(&frame));
    v1::AgentFrame proof;
    proof.mutable_proof()->set_signature(key_->SignChallenge(test::kTestJob, frame.challenge().nonce()).value());
    EXPECT_TRUE(stream->Write(proof));
    EXPECT_TRUE(stream->Read(&frame) && frame.has_welcome());
    v1::AgentFrame end;
    end.mutable_end();
    EXPECT_TRUE(stream->Write(end));
  });
  EXPECT_EQ(ended.error_code(), grpc::StatusCode::ABORTED);
  // From here on it is a replay, though the key is the same.
  EXPECT_FALSE(Enroll(Anybody(), EnrollRequestOf(token, *key_), &third).ok());
  ExpectOnly("a token used before");
}

TEST_F(Refusals, AnAgentWithAWrongTicketIsToldWhy) {
  const JoinTicket ticket = authority_->MakeTicket(kOther, absl::Minutes(10));
  test::TestAgent first(loop_.get()), second(loop_.get());
  first.Start(coordinator_.address(), ticket);
  ASSERT_TRUE(Await([&] { return first.ups == 1; }));
  second.Start(coordinator_.address(), ticket);
  ASSERT_TRUE(Await([&] { return !second.refused.ok(); }));
  EXPECT_THAT(std::string(second.refused.message()),
              HasSubstr("does not take this agent: a token used before; each agent joins"));
  ExpectOnly("a token used before");
}

TEST_F(Refusals, AnAgentWhoseIdentityIsNotBelieved) {
  identity_ = [](uint32_t node, absl::string_view token) {
    if (node == kOther && token == "theirs") return absl::OkStatus();
    return absl::PermissionDeniedError(absl::StrCat("node ", node, ": a token of ", token.size(), " bytes"));
  };
  const auto refusal = [this](AgentClientOptions options) {
    test::TestAgent agent(loop_.get());
    agent.Start(coordinator_.address(), authority_->MakeTicket(kOther, absl::Minutes(10)), std::move(options));
    EXPECT_TRUE(Await([&] { return !agent.refused.ok(); }));
    return agent.refused;
  };
  const absl::Status without = refusal({});
  EXPECT_TRUE(absl::IsUnauthenticated(without));
  EXPECT_THAT(std::string(without.message()), ::testing::EndsWith("does not take this agent: node 7: a token of 0 bytes"));
  ExpectOnly("node 7: a token of 0 bytes");
  EXPECT_TRUE(absl::IsUnauthenticated(refusal({.identity_token = [] { return "another"; }})));
  ExpectOnly("node 7: a token of 7 bytes");
  test::TestAgent agent(loop_.get());
  agent.Start(coordinator_.address(), authority_->MakeTicket(kOther, absl::Minutes(10)),
              {.identity_token = [] { return "theirs"; }});
  EXPECT_TRUE(Await([&] { return agent.ups == 1; }));
}

TEST_F(Refusals, AnAgentOfAnotherCoordinatorIsToldWhy) {
  auto other = Authority::Create(test::kTestJob).value();
  test::TestAgent lost(loop_.get());
  lost.Start(coordinator_.address(), other->MakeTicket(kOther, absl::Minutes(10)));
  ASSERT_TRUE(Await([&] { return !lost.refused.ok(); }));
  EXPECT_THAT(std::string(lost.refused.message()), HasSubstr("is not the coordinator of this ticket's job"));
}

TEST_F(Refusals, AnotherProtocolVersion) {
  const std::string what = "protocol version 99, where the coordinator speaks 1: run the same muster on all nodes";
  v1::EnrollReply reply;
  v1::EnrollRequest request = EnrollRequestOf(authority_->MakeTicket(kOther, absl::Minutes(10)).token, *key_);
  request.set_protocol_version(99);
  EXPECT_EQ(Enroll(Anybody(), request, &reply).error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  ExpectOnly(what);
  v1::AgentFrame hello = HelloOf(authority_->SignAgent(kOther, key_->public_key_der()).value());
  hello.mutable_hello()->set_protocol_version(99);
  EXPECT_FALSE(Connect(Anybody(), [&](RawStream* stream) { stream->Write(hello); }).ok());
  ExpectOnly(what);
}

TEST_F(Refusals, CertificatesThatAreNotOurs) {
  auto same_job = Authority::Create(test::kTestJob).value();
  auto other_job = Authority::Create(std::string(16, '\x5b')).value();
  const std::pair<std::string, std::string> cases[] = {
      {"", "no certificate"},
      {same_job->SignAgent(kOther, key_->public_key_der()).value(), "a certificate of another authority"},
      {other_job->SignAgent(kOther, key_->public_key_der()).value(), "a certificate of another job"},
      {authority_->server_certificate_pem(), "a certificate of no agent"},
      // Signed by us, but node 0 has another by now.
      {authority_->SignAgent(kGood, key_->public_key_der()).value(), "a certificate of an agent that was started again"},
  };
  for (const auto& [certificate_pem, what] : cases) {
    const v1::AgentFrame hello = HelloOf(certificate_pem);
    const grpc::Status status = Connect(Anybody(), [&](RawStream* stream) { stream->Write(hello); });
    EXPECT_EQ(status.error_code(), grpc::StatusCode::PERMISSION_DENIED);
    EXPECT_EQ(status.error_message(), what);
    ExpectOnly(what);
  }
}

TEST_F(Refusals, TlsWithAnothersCertificateAndAHelloWithOurs) {
  auto same_job = Authority::Create(test::kTestJob).value();
  const std::string ours = authority_->SignAgent(kOther, key_->public_key_der()).value();
  Stranger stranger = Anybody();
  stranger.key_pem = key_->private_key_pem();
  stranger.certificate_pem = same_job->SignAgent(kOther, key_->public_key_der()).value();
  EXPECT_FALSE(Connect(stranger, [&](RawStream* stream) { stream->Write(HelloOf(ours)); }).ok());
  ExpectOnly("a certificate of another authority");
  stranger.certificate_pem = authority_->SignAgent(kOther + 1, key_->public_key_der()).value();
  EXPECT_FALSE(Connect(stranger, [&](RawStream* stream) { stream->Write(HelloOf(ours)); }).ok());
  ExpectOnly("TLS with the certificate of node 8, a hello with that of node 7");
}

TEST_F(Refusals, AnotherJob) {
  v1::AgentFrame hello = HelloOf(authority_->SignAgent(kOther, key_->public_key_der()).value());
  hello.mutable_hello()->set_job_id(std::string(16, '\x5b'));
  EXPECT_FALSE(Connect(Anybody(), [&](RawStream* stream) { stream->Write(hello); }).ok());
  ExpectOnly("an agent of another job");
}

TEST_F(Refusals, AMessageInsteadOfAHello) {
  v1::AgentFrame frame;
  frame.set_sequence(1);
  frame.mutable_message()->mutable_join();
  EXPECT_FALSE(Connect(Anybody(), [&](RawStream* stream) { stream->Write(frame); }).ok());
  ExpectOnly("a stream that does not begin with a hello");
  EXPECT_EQ(coordinator_.server->SilentFor(kOther), absl::InfiniteDuration());
}

TEST_F(Refusals, AMessageInsteadOfAnAnswerToTheChallenge) {
  v1::AgentFrame frame;
  frame.set_sequence(1);
  frame.mutable_message()->mutable_join();
  const std::string certificate_pem = authority_->SignAgent(kOther, key_->public_key_der()).value();
  EXPECT_FALSE(Connect(Anybody(), [&](RawStream* stream) {
                 stream->Write(HelloOf(certificate_pem));
                 stream->Write(frame);
               }).ok());
  ExpectOnly("no answer to the challenge");
}

TEST_F(Refusals, AStreamThatSaysNothingAndEnds) {
  EXPECT_FALSE(Connect(Anybody(), [&](RawStream* stream) { stream->WritesDone(); }).ok());
  ExpectOnly("a stream that ended before its hello");
}

TEST_F(Refusals, AWrongSignatureAndAReplayedProof) {
  const std::string certificate_pem = authority_->SignAgent(kOther, key_->public_key_der()).value();
  const auto thief = AgentKey::Create().value();
  v1::CoordinatorFrame frame;
  v1::AgentFrame proof;
  EXPECT_FALSE(Connect(Anybody(), [&](RawStream* stream) {
                 EXPECT_TRUE(stream->Write(HelloOf(certificate_pem)) && stream->Read(&frame));
                 proof.mutable_proof()->set_signature(thief->SignChallenge(test::kTestJob, frame.challenge().nonce()).value());
                 stream->Write(proof);
               }).ok());
  ExpectOnly("a signature that does not answer the challenge");

  // A good one, kept by somebody who sees everything, and sent again.
  Connect(Anybody(), [&](RawStream* stream) {
    EXPECT_TRUE(stream->Write(HelloOf(certificate_pem)) && stream->Read(&frame));
    proof.mutable_proof()->set_signature(key_->SignChallenge(test::kTestJob, frame.challenge().nonce()).value());
    EXPECT_TRUE(stream->Write(proof) && stream->Read(&frame) && frame.has_welcome());
    stream->WritesDone();
  });
  EXPECT_THAT(coordinator_.refused, IsEmpty());
  EXPECT_FALSE(Connect(Anybody(), [&](RawStream* stream) {
                 EXPECT_TRUE(stream->Write(HelloOf(certificate_pem)) && stream->Read(&frame));
                 stream->Write(proof);
               }).ok());
  ExpectOnly("a signature that does not answer the challenge");
}

TEST(RefusalsOverIpv6, AreNamedByTheSameAddressBeforeAndAfterTls) {
  auto loop = EventLoop::Create().value();
  auto authority = Authority::Create(test::kTestJob).value();
  std::vector<ServerRefusal> refused;
  auto server = AgentServer::Create(loop.get(), {.job_id = test::kTestJob, .listen = "::1", .authority = authority.get()},
                                    {.refused = [&](const ServerRefusal& refusal) { refused.push_back(refusal); }});
  if (absl::IsUnavailable(server.status()) || absl::IsInternal(server.status()))
    GTEST_SKIP() << "no IPv6 here: " << server.status();
  ASSERT_TRUE(server.ok()) << server.status();
  test::TestAgent good(loop.get()), bad(loop.get());
  const std::string address = absl::StrCat("[::1]:", (*server)->port());
  JoinTicket ticket = authority->MakeTicket(1, absl::Minutes(10));
  good.Start(address, ticket);
  ASSERT_TRUE(test::Await(loop.get(), [&] { return good.ups == 1; }));
  bad.Start(address, ticket);
  ASSERT_TRUE(test::Await(loop.get(), [&] { return !bad.refused.ok(); }));
  UniqueFd fd(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in6 to = {.sin6_family = AF_INET6, .sin6_port = htons((*server)->port()), .sin6_addr = in6addr_loopback};
  ASSERT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&to), sizeof to), 0);
  ASSERT_EQ(::send(fd.get(), "hello?", 6, MSG_NOSIGNAL), 6);
  ASSERT_TRUE(test::Await(loop.get(), [&] { return refused.size() == 2; }));
  for (const ServerRefusal& refusal : refused) EXPECT_THAT(refusal.from, ::testing::StartsWith("[::1]:"));
}

// Those that are only known by what they do not do.
class Silences : public Refusals {
 protected:
  void SetUp() override { Begin({.handshake_within = absl::Seconds(1)}); }
};

TEST_F(Silences, AreCountedAndNamedInTime) {
  const UniqueFd nothing = Call("");
  const UniqueFd piece = Call("\x16");
  const UniqueFd greeting = Call(std::string("\x16\x03\x01\x02\x00\x01", 6));  // and never the rest of it
  const std::string certificate_pem = authority_->SignAgent(kOther, key_->public_key_der()).value();
  EXPECT_EQ(Connect(Anybody(), [](RawStream*) {}).error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_EQ(Connect(Anybody(), [&](RawStream* stream) { stream->Write(HelloOf(certificate_pem)); }).error_code(),
            grpc::StatusCode::DEADLINE_EXCEEDED);
  // A client that trusts another authority ends TLS itself.
  auto other = Authority::Create(test::kTestJob).value();
  v1::EnrollReply reply;
  EXPECT_EQ(Enroll({.roots = other->certificate_pem()}, {}, &reply).error_code(), grpc::StatusCode::UNAVAILABLE);
  ASSERT_TRUE(Await([&] { return coordinator_.Refused("TLS that was broken off, or used for no call of ours") >= 2; }));
  EXPECT_EQ(coordinator_.Refused("silence"), 1);
  EXPECT_EQ(coordinator_.Refused("a TLS greeting cut short"), 1);
  EXPECT_EQ(coordinator_.Refused("silence instead of a hello"), 1);
  EXPECT_EQ(coordinator_.Refused("silence instead of an answer to the challenge"), 1);
}

TEST_F(Silences, ACrowdOfThemHoldsUpNobodyForLong) {
  // More greetings than connections that may be unproven: the door is shut until some are decided.
  std::vector<UniqueFd> crowd;
  for (int i = 0; i < 300; ++i) crowd.push_back(Call(std::string("\x16\x03\x01\x02\x00\x01", 6)));
  const size_t before = good_.got.size();
  ASSERT_TRUE(Await([&] { return good_.got.size() > before + 10; }));
  test::TestAgent late(loop_.get());
  late.Start(coordinator_.address(), authority_->MakeTicket(kOther, absl::Minutes(10)));
  ASSERT_TRUE(Await([&] { return late.ups == 1; }));
  ASSERT_TRUE(Await([&] { return coordinator_.Refused("TLS that was broken off, or used for no call of ours") >= 300; }));
}

}  // namespace
}  // namespace muster
