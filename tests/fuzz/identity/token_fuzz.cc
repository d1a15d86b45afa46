// Tokens and sets of keys from strangers: the first byte chooses. Whatever they are there is an error with words, and nothing is believed that
// the key did not sign: 's' signs the rest as claims, so that what a signer lets through is looked at as well.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "launcher/identity/token.h"
#include "tests/support/signed_token.h"

namespace muster {
namespace {

void Expect(bool good) {
  if (!good) std::abort();
}

const TokenSigner& Signer() {
  static const auto& signer = *new TokenSigner("ES256", "k");
  return signer;
}

const KeySet& Keys() {
  static const auto& keys = *new KeySet(*KeySet::Parse("jwks", absl::StrCat(R"({"keys": [)", Signer().Jwk(), "]}")));
  return keys;
}

void CheckOne(const std::string& token, bool may_be_believed) {
  const TokenRules rules = {.issuer = "i", .audience = "a", .subject = "s"};
  const auto identity = CheckToken(Keys(), rules, token, absl::FromUnixSeconds(1000));
  if (!identity.ok()) return Expect(!identity.status().message().empty());
  Expect(may_be_believed && !identity->pod.empty() && !identity->pod_uid.empty() &&
         identity->expires > absl::FromUnixSeconds(970));
}

}  // namespace
}  // namespace muster

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string text(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] == 's') {
    muster::CheckOne(muster::Signer().Sign(text), true);
  } else if (data[0] == 'k') {
    const auto keys = muster::KeySet::Parse("jwks", text);
    muster::Expect(keys.ok() ? keys->size() > 0 && keys->size() <= muster::KeySet::kKeysMax : !keys.status().message().empty());
  } else {
    muster::CheckOne(text, false);
  }
  return 0;
}
