#include "launcher/process/pod_tokens.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/signed_token.h"

namespace muster {
namespace {

using ::testing::HasSubstr;

class PodTokens : public ::testing::Test {
 protected:
  PodTokens() {
    std::string name = (std::filesystem::temp_directory_path() / "muster-tokens-XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
    demand_.set_keys_folder(folder_);
    demand_.set_audience("muster/words");
    demand_.set_subject("system:serviceaccount:train:words");
  }
  ~PodTokens() override { std::filesystem::remove_all(folder_); }

  void Write(const std::string& name, const std::string& text) { std::ofstream(absl::StrCat(folder_, "/", name)) << text; }
  void Publish(const TokenSigner& signer) { Write("jwks", absl::StrCat(R"({"keys": [)", signer.Jwk(), "]}")); }

  absl::StatusOr<PodIdentity> Check(const std::string& token) const {
    return CheckPodToken(demand_, token, absl::FromUnixSeconds(1'800'000'000));
  }
  std::string Refusal(const std::string& token) const { return std::string(Check(token).status().message()); }

  std::string folder_;
  v1::TokenDemand demand_;
};

constexpr char kClaims[] =
    R"({"iss": "https://cluster", "aud": ["muster/words"], "sub": "system:serviceaccount:train:words", "exp": 1800000600,
  "kubernetes.io": {"pod": {"name": "words-workers-0-abcde", "uid": "u"}}})";

TEST_F(PodTokens, AreCheckedWithTheKeysThatTheClusterHasNow) {
  const TokenSigner first("ES256", "1"), second("ES256", "2");
  Write("issuer", "https://cluster\n");
  Publish(first);
  ASSERT_TRUE(Check(first.Sign(kClaims)).ok()) << Refusal(first.Sign(kClaims));
  EXPECT_EQ(Check(first.Sign(kClaims))->pod, "words-workers-0-abcde");
  EXPECT_EQ(Refusal(second.Sign(kClaims)), "a token signed with a key \"2\" that is not among the cluster's 1");
  Publish(second);
  EXPECT_TRUE(Check(second.Sign(kClaims)).ok());
  EXPECT_FALSE(Check(first.Sign(kClaims)).ok());
}

TEST_F(PodTokens, SayWhatIsMissing) {
  EXPECT_THAT(Refusal("a.b.c"), HasSubstr("/jwks cannot be read; the folder holds `jwks` (kubectl get --raw /openid/v1/jwks)"));
  Publish(TokenSigner("ES256", "1"));
  EXPECT_THAT(Refusal("a.b.c"), HasSubstr("/issuer cannot be read"));
  Write("issuer", " \n");
  EXPECT_THAT(Refusal("a.b.c"), HasSubstr("/issuer is empty"));
  Write("issuer", "https://cluster");
  EXPECT_THAT(Refusal("a.b.c"), ::testing::StartsWith("a token that is none"));
  EXPECT_EQ(Refusal(""), "no token of its pod; give its agent --token-file");
}

}  // namespace
}  // namespace muster
