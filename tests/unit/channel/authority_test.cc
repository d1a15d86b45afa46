#include "launcher/channel/authority.h"

#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launcher/channel/agent_key.h"

namespace muster {
namespace {

using ::testing::HasSubstr;

const std::string kJob(16, '\x5a');
const std::string kOtherJob(16, '\x5b');

std::string WhyNot(const absl::Status& status) { return std::string(status.message()); }

TEST(Authority, SignsAnAgentAndKnowsItAgain) {
  auto authority = Authority::Create(kJob).value();
  const auto key = AgentKey::Create().value();
  const std::string certificate = authority->SignAgent(7, key->public_key_der()).value();
  EXPECT_EQ(authority->CheckAgent(certificate).value(), 7u);
}

TEST(Authority, NamesWhatIsWrongWithACertificate) {
  auto authority = Authority::Create(kJob).value();
  auto same_job = Authority::Create(kJob).value();
  auto other_job = Authority::Create(kOtherJob).value();
  const auto key = AgentKey::Create().value();
  EXPECT_EQ(WhyNot(authority->CheckAgent("").status()), "no certificate");
  EXPECT_EQ(WhyNot(authority->CheckAgent("PEM").status()), "not one certificate in PEM");
  EXPECT_EQ(WhyNot(authority->CheckAgent(same_job->SignAgent(1, key->public_key_der()).value()).status()),
            "a certificate of another authority");
  EXPECT_EQ(WhyNot(authority->CheckAgent(other_job->SignAgent(1, key->public_key_der()).value()).status()),
            "a certificate of another job");
  EXPECT_EQ(WhyNot(authority->CheckAgent(authority->server_certificate_pem()).status()), "a certificate of no agent");
  EXPECT_FALSE(authority->CheckAgent(authority->certificate_pem()).ok());
  const std::string two = absl::StrCat(authority->SignAgent(1, key->public_key_der()).value(), authority->certificate_pem());
  EXPECT_EQ(WhyNot(authority->CheckAgent(two).status()), "not one certificate in PEM");
}

TEST(Authority, SignsNoKeyButP256) {
  auto authority = Authority::Create(kJob).value();
  EXPECT_EQ(authority->SignAgent(1, "").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(authority->SignAgent(1, "key").status().code(), absl::StatusCode::kInvalidArgument);
  const auto key = AgentKey::Create().value();
  EXPECT_FALSE(authority->SignAgent(1, key->public_key_der() + "x").ok());
}

TEST(Authority, TakesATokenOnceAndSaysWhyNotAgain) {
  auto authority = Authority::Create(kJob).value();
  const JoinTicket ticket = authority->MakeTicket(3, absl::Hours(1));
  const JoinTicket other = authority->MakeTicket(4, absl::InfiniteDuration());
  const JoinTicket late = authority->MakeTicket(5, absl::ZeroDuration());
  EXPECT_EQ(authority->TakeToken(ticket.token).value(), 3u);
  EXPECT_EQ(WhyNot(authority->TakeToken(ticket.token).status()), "a token used before");
  EXPECT_EQ(WhyNot(authority->TakeToken(late.token).status()), "an expired token");
  EXPECT_EQ(WhyNot(authority->TakeToken("").status()), "an unknown token");
  std::string wrong = other.token;
  wrong.back() ^= 1;
  EXPECT_EQ(WhyNot(authority->TakeToken(wrong).status()), "an unknown token");
  EXPECT_EQ(authority->TakeToken(other.token).value(), 4u);
}

TEST(JoinTicket, IsOnePrintableLineAndComesBack) {
  auto authority = Authority::Create(kJob).value();
  const JoinTicket ticket = authority->MakeTicket(3, absl::Hours(1));
  const std::string text = ToText(ticket);
  for (const char letter : text) EXPECT_TRUE(absl::ascii_isgraph(static_cast<unsigned char>(letter)));
  const JoinTicket back = JoinTicketFromText(text + "\n").value();
  EXPECT_EQ(back.token, ticket.token);
  EXPECT_EQ(back.job_id, ticket.job_id);
  EXPECT_EQ(back.authority_pem, ticket.authority_pem);
}

TEST(JoinTicket, EveryCutAndEveryWrongLetterIsNoticed) {
  constexpr absl::string_view kLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  auto authority = Authority::Create(kJob).value();
  for (size_t filler = 0; filler < 3; ++filler) {  // base64 ends in three ways: with no, two or four bits to spare
    JoinTicket ticket = authority->MakeTicket(3, absl::Hours(1));
    ticket.authority_pem = std::string(300 + filler, 'a');
    const std::string text = ToText(ticket);
    ASSERT_EQ(JoinTicketFromText(text).value().authority_pem, ticket.authority_pem);
    for (size_t length = 0; length < text.size(); ++length) {
      const absl::Status cut = JoinTicketFromText(text.substr(0, length)).status();
      ASSERT_EQ(cut.code(), absl::StatusCode::kInvalidArgument) << length;
      if (length > 30) {
        ASSERT_THAT(WhyNot(cut), HasSubstr("cut")) << length;
      }
    }
    for (size_t at = 0; at < text.size(); ++at) {
      for (const char letter : kLetters) {
        if (letter == text[at]) continue;
        std::string garbled = text;
        garbled[at] = letter;
        ASSERT_EQ(JoinTicketFromText(garbled).status().code(), absl::StatusCode::kInvalidArgument) << at << letter;
      }
    }
    EXPECT_FALSE(JoinTicketFromText(text + "x").ok());
  }
  EXPECT_THAT(WhyNot(JoinTicketFromText("hello").status()), HasSubstr("not a join ticket"));
  EXPECT_THAT(WhyNot(JoinTicketFromText("").status()), HasSubstr("empty"));
}

TEST(AgentKey, AnswersOneChallengeOnly) {
  auto authority = Authority::Create(kJob).value();
  const auto key = AgentKey::Create().value();
  const auto other = AgentKey::Create().value();
  const std::string certificate = authority->SignAgent(7, key->public_key_der()).value();
  const std::string answer = key->SignChallenge(kJob, "nonce").value();
  EXPECT_TRUE(CheckChallengeSignature(certificate, kJob, "nonce", answer).ok());
  EXPECT_FALSE(CheckChallengeSignature(certificate, kJob, "other", answer).ok());
  EXPECT_FALSE(CheckChallengeSignature(certificate, kOtherJob, "nonce", answer).ok());
  EXPECT_FALSE(CheckChallengeSignature(certificate, kJob, "nonce", other->SignChallenge(kJob, "nonce").value()).ok());
  EXPECT_FALSE(CheckChallengeSignature(certificate, kJob, "nonce", "").ok());
}

}  // namespace
}  // namespace muster
