// A token is believed when the cluster signed it, for us, for a pod of this job, and now; all else is refused and says why.
#include "launcher/identity/token.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/signed_token.h"

namespace muster {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);

// As an API server of 1.33 writes them.
constexpr char kClaims[] = R"({"aud": ["muster/words"], "exp": 1800003600, "iat": 1800000000, "nbf": 1800000000,
  "iss": "https://kubernetes.default.svc.cluster.local", "jti": "8f0b6f5c",
  "kubernetes.io": {"namespace": "train", "node": {"name": "machine-1", "uid": "n"},
                    "pod": {"name": "words-workers-0-abcde", "uid": "p-1"}, "serviceaccount": {"name": "words", "uid": "s"}},
  "sub": "system:serviceaccount:train:words"})";

TokenRules Rules() {
  return {.issuer = "https://kubernetes.default.svc.cluster.local",
          .audience = "muster/words",
          .subject = "system:serviceaccount:train:words"};
}

// Made once: RSA keys take a while.
const TokenSigner& Rsa() {
  static const auto& signer = *new TokenSigner("RS256", "rsa-1");
  return signer;
}
const TokenSigner& Ec() {
  static const auto& signer = *new TokenSigner("ES256", "ec-1");
  return signer;
}
const TokenSigner& Stranger() {
  static const auto& signer = *new TokenSigner("RS256", "rsa-1");  // the same name, another key
  return signer;
}

std::string SetOf(const std::vector<std::string>& keys) {
  std::string text;
  for (const std::string& key : keys) absl::StrAppend(&text, text.empty() ? "" : ", ", key);
  return absl::StrCat(R"({"keys": [)", text, "]}");
}

const KeySet& Keys() {
  static const auto& keys = *new KeySet(*KeySet::Parse("jwks", SetOf({Rsa().Jwk(), Ec().Jwk()})));
  return keys;
}

absl::StatusOr<PodIdentity> Check(const std::string& token, absl::Time now = kNow) {
  return CheckToken(Keys(), Rules(), token, now);
}

std::string With(const std::string& what, const std::string& other) {
  const std::string claims = absl::StrReplaceAll(kClaims, {{what, other}});
  EXPECT_NE(claims, kClaims) << what;
  return claims;
}

TEST(Token, OfTheClusterIsBelievedWithEitherAlgorithm) {
  for (const TokenSigner* signer : {&Rsa(), &Ec()}) {
    const auto identity = Check(signer->Sign(kClaims));
    ASSERT_TRUE(identity.ok()) << identity.status();
    EXPECT_EQ(identity->pod, "words-workers-0-abcde");
    EXPECT_EQ(identity->pod_uid, "p-1");
    EXPECT_EQ(identity->node, "machine-1");
    EXPECT_EQ(identity->expires, kNow + absl::Hours(1));
  }
  // An audience alone, a header without a key's name, a cluster that does not name nodes.
  EXPECT_TRUE(Check(Rsa().Sign(With(R"(["muster/words"])", R"("muster/words")"))).ok());
  EXPECT_TRUE(Check(Ec().Sign(With(R"(["muster/words"])", R"(["other", "muster/words"])"))).ok());
  EXPECT_TRUE(Check(Rsa().Sign(R"({"alg": "RS256", "typ": "JWT"})", kClaims)).ok());
  EXPECT_EQ(Check(Rsa().Sign(With(R"("node": {"name": "machine-1", "uid": "n"},)", "")))->node, "");
}

TEST(Token, OfAnotherKeyIsRefused) {
  const auto refused = Check(Stranger().Sign(kClaims));
  EXPECT_TRUE(absl::IsPermissionDenied(refused.status()));
  EXPECT_EQ(refused.status().message(), "with a signature that is not the cluster's");
  EXPECT_TRUE(absl::IsPermissionDenied(Check(Stranger().Sign(R"({"alg": "RS256"})", kClaims)).status()));
  const auto unknown = Check(TokenSigner("ES256", "ec-2").Sign(kClaims));
  EXPECT_TRUE(absl::IsNotFound(unknown.status()));
  EXPECT_EQ(unknown.status().message(), "signed with a key \"ec-2\" that is not among the cluster's 2");
}

TEST(Token, NobodyChoosesHowItIsChecked) {
  const std::vector<std::string> parts = absl::StrSplit(Rsa().Sign(kClaims), '.');
  const auto with_header = [&](const std::string& header, const std::string& signature) {
    return Check(absl::StrCat(Base64Url(header), ".", parts[1], ".", signature)).status();
  };
  for (const char* algorithm : {"none", "None", "HS256", "RS512", "PS256", "rs256", ""}) {
    EXPECT_TRUE(absl::IsUnimplemented(with_header(absl::StrCat(R"({"alg": ")", algorithm, R"("})"), parts[2]))) << algorithm;
  }
  EXPECT_TRUE(absl::IsInvalidArgument(with_header(R"({"alg": "none"})", ""))) << "no signature at all";
  EXPECT_TRUE(absl::IsUnimplemented(with_header("{}", parts[2])));
  EXPECT_TRUE(absl::IsUnimplemented(with_header(R"({"alg": 7})", parts[2])));
  EXPECT_TRUE(absl::IsUnimplemented(with_header(R"({"alg": "RS256", "crit": ["b64"], "b64": false})", parts[2])));
  // The key of one algorithm under the name of the other.
  EXPECT_TRUE(absl::IsNotFound(with_header(R"({"alg": "ES256", "kid": "rsa-1"})", parts[2])));
  EXPECT_TRUE(absl::IsPermissionDenied(with_header(R"({"alg": "ES256"})", parts[2])));
  EXPECT_TRUE(absl::IsPermissionDenied(with_header(R"({"alg": "ES256"})", Base64Url(std::string(64, '\0'))))) << "r and s of 0";
}

TEST(Token, NoBitOfItCanBeChanged) {
  for (const TokenSigner* signer : {&Rsa(), &Ec()}) {
    const std::string token = signer->Sign(kClaims);
    for (size_t i = 0; i < token.size(); ++i) {
      std::string changed = token;
      changed[i] = changed[i] == 'A' ? 'B' : 'A';
      EXPECT_FALSE(Check(changed).ok()) << i << " " << changed[i];
    }
  }
}

TEST(Token, EachClaimIsLookedAt) {
  const auto refusal = [](const std::string& what, const std::string& other) {
    const auto refused = Check(Rsa().Sign(With(what, other)));
    EXPECT_TRUE(absl::IsPermissionDenied(refused.status())) << refused.status();
    return std::string(refused.status().message());
  };
  const std::string audience = "that was made for another audience than muster/words";
  EXPECT_EQ(refusal(R"(["muster/words"])", R"(["muster/other"])"), audience);
  EXPECT_EQ(refusal(R"(["muster/words"])", R"([])"), audience);
  EXPECT_EQ(refusal(R"(["muster/words"])", R"({"muster/words": 1})"), audience);
  EXPECT_EQ(refusal(R"("aud")", R"("other")"), audience);
  EXPECT_THAT(refusal("https://kubernetes", "https://elsewhere"), StartsWith("of the issuer \"https://elsewhere.default"));
  EXPECT_THAT(refusal(R"("iss")", R"("other")"), StartsWith("of the issuer \"\""));
  EXPECT_EQ(refusal("train:words", "train:default"),
            "of \"system:serviceaccount:train:default\", not of system:serviceaccount:train:words");
  EXPECT_EQ(refusal(R"("exp": 1800003600)", R"("exp": 1799999000)"), "that expired 16m40s ago");
  EXPECT_EQ(refusal(R"("exp": 1800003600, )", ""), "that never expires");
  EXPECT_EQ(refusal("1800003600", R"("1800003600")"), "that never expires");
  EXPECT_EQ(refusal("1800003600", "1e300"), "that never expires");
  EXPECT_EQ(refusal("1800003600", "-1"), "that never expires");
  EXPECT_THAT(refusal(R"("nbf": 1800000000)", R"("nbf": 1800000031)"), HasSubstr("not valid yet (nbf)"));
  EXPECT_THAT(refusal(R"("iat": 1800000000)", R"("iat": null)"), HasSubstr("not valid yet (iat)"));
  EXPECT_EQ(refusal(R"("uid": "p-1")", R"("id": "p-1")"), "that is bound to no pod");
  EXPECT_EQ(refusal(R"("kubernetes.io": {)", R"("kubernetes": {)"), "that is bound to no pod");
}

TEST(Token, ClocksMayBeALittleApart) {
  const std::string token = Rsa().Sign(kClaims);
  EXPECT_TRUE(Check(token, kNow - absl::Seconds(30)).ok());
  EXPECT_FALSE(Check(token, kNow - absl::Seconds(31)).ok());
  EXPECT_TRUE(Check(token, kNow + absl::Hours(1) + absl::Seconds(29)).ok());
  EXPECT_FALSE(Check(token, kNow + absl::Hours(1) + absl::Seconds(30)).ok());
}

TEST(Token, WhatIsNoneIsRefused) {
  for (const std::string& text :
       {std::string(), std::string("a"), std::string("a.b"), std::string("a.b.c"), std::string("..."), std::string(".."),
        std::string("\0.\xff.x", 5), Rsa().Sign(kClaims) + ".", Rsa().Sign(kClaims) + "=", Rsa().Sign("[]", kClaims)}) {
    EXPECT_TRUE(absl::IsInvalidArgument(Check(text).status())) << text;
  }
  // Signed by the cluster, which signs nothing of the kind.
  for (const char* claims : {"", "[]", "7", "{", R"({"iss": "a", "iss": "b"})"}) {
    EXPECT_FALSE(Check(Rsa().Sign(claims)).ok()) << claims;
  }
  EXPECT_THAT(std::string(Check(std::string(kTokenBytesMax + 1, 'a')).status().message()),
              StartsWith("of more than 16384 bytes"));
}

TEST(KeySet, SaysWhatIsWrong) {
  const auto refusal = [](const std::string& text) { return std::string(KeySet::Parse("jwks", text).status().message()); };
  EXPECT_EQ(refusal("{}"), "jwks: is no set of keys; make it with: kubectl get --raw /openid/v1/jwks");
  EXPECT_EQ(refusal("garbage"), refusal("{}"));
  EXPECT_EQ(refusal(SetOf({})), "jwks: has no key for RS256 or ES256");
  EXPECT_EQ(
      refusal(SetOf({R"({"kty": "oct", "k": "AAAA"})", R"({"kty": "EC", "crv": "P-384"})", R"({"kty": "RSA", "use": "enc"})"})),
      "jwks: has no key for RS256 or ES256");
  EXPECT_EQ(refusal(SetOf({"7"})), "jwks: key 1 is no object");
  EXPECT_EQ(refusal(SetOf({Rsa().Jwk(), R"({"kty": "RSA", "n": "AQAB"})"})), "jwks: key 2 has no n and e in base64url");
  EXPECT_THAT(refusal(SetOf({TokenSigner("RS256", "weak", 1024).Jwk()})), HasSubstr("has 1024 bits; less than 2048"));
  const std::string number = Base64Url(std::string(32, '\1'));
  EXPECT_EQ(refusal(SetOf({absl::StrCat(R"({"kty": "EC", "crv": "P-256", "x": ")", number, R"(", "y": ")", number, R"("})")})),
            "jwks: key 1 is no point of P-256");
  EXPECT_EQ(refusal(std::string(KeySet::kBytesMax + 1, ' ')), "jwks: has more than 1048576 bytes");
  EXPECT_EQ(KeySet::Parse("jwks", SetOf({Rsa().Jwk(), R"({"kty": "oct"})", Ec().Jwk()}))->size(), 2u);
}

}  // namespace
}  // namespace muster
