#include "launcher/identity/key_set.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>

#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

constexpr int kRsaBitsMin = 2048;
constexpr int kRsaBitsMax = 16384;
constexpr size_t kCoordinateBytes = 32;  // of P-256

template <auto free_function>
struct Free {
  template <class T>
  void operator()(T* object) const {
    free_function(object);
  }
};
template <class T, auto free_function>
using Owned = std::unique_ptr<T, Free<free_function>>;

const unsigned char* Bytes(absl::string_view text) { return reinterpret_cast<const unsigned char*>(text.data()); }

absl::Status Wrong(const std::string& name, absl::string_view what) {
  ::ERR_clear_error();
  return absl::InvalidArgumentError(absl::StrCat(name, ": ", what));
}

// Empty: it is not there, or no text.
std::string TextOf(const nlohmann::json& object, const char* member) {
  const auto found = object.find(member);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

std::optional<std::string> NumberOf(const nlohmann::json& object, const char* member) {
  const std::string text = TextOf(object, member);
  std::string bytes;
  if (text.empty() || !absl::WebSafeBase64Unescape(text, &bytes) || bytes.empty()) return std::nullopt;
  return bytes;
}

std::shared_ptr<EVP_PKEY> FromParameters(const char* type, OSSL_PARAM_BLD* builder) {
  const Owned<OSSL_PARAM, OSSL_PARAM_free> parameters(OSSL_PARAM_BLD_to_param(builder));
  const Owned<EVP_PKEY_CTX, EVP_PKEY_CTX_free> context(EVP_PKEY_CTX_new_from_name(nullptr, type, nullptr));
  EVP_PKEY* key = nullptr;
  if (parameters == nullptr || context == nullptr || EVP_PKEY_fromdata_init(context.get()) != 1 ||
      EVP_PKEY_fromdata(context.get(), &key, EVP_PKEY_PUBLIC_KEY, parameters.get()) != 1) {
    ::ERR_clear_error();
    return nullptr;
  }
  return std::shared_ptr<EVP_PKEY>(key, EVP_PKEY_free);
}

std::shared_ptr<EVP_PKEY> RsaKey(const std::string& modulus, const std::string& exponent) {
  const Owned<OSSL_PARAM_BLD, OSSL_PARAM_BLD_free> builder(OSSL_PARAM_BLD_new());
  const Owned<BIGNUM, BN_free> n(BN_bin2bn(Bytes(modulus), static_cast<int>(modulus.size()), nullptr));
  const Owned<BIGNUM, BN_free> e(BN_bin2bn(Bytes(exponent), static_cast<int>(exponent.size()), nullptr));
  if (builder == nullptr || n == nullptr || e == nullptr ||
      OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_N, n.get()) != 1 ||
      OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_E, e.get()) != 1) {
    return nullptr;
  }
  return FromParameters("RSA", builder.get());
}

// A point that is not on the curve is refused by OpenSSL.
std::shared_ptr<EVP_PKEY> P256Key(const std::string& x, const std::string& y) {
  const std::string point = absl::StrCat("\x04", x, y);  // uncompressed: SEC 1, section 2.3.3
  const Owned<OSSL_PARAM_BLD, OSSL_PARAM_BLD_free> builder(OSSL_PARAM_BLD_new());
  if (builder == nullptr || OSSL_PARAM_BLD_push_utf8_string(builder.get(), OSSL_PKEY_PARAM_GROUP_NAME, "prime256v1", 0) != 1 ||
      OSSL_PARAM_BLD_push_octet_string(builder.get(), OSSL_PKEY_PARAM_PUB_KEY, point.data(), point.size()) != 1) {
    return nullptr;
  }
  return FromParameters("EC", builder.get());
}

// RFC 7518, section 3.4: the two numbers behind each other, where OpenSSL wants them as DER.
std::string DerOf(absl::string_view signature) {
  if (signature.size() != 2 * kCoordinateBytes) return "";
  const Owned<ECDSA_SIG, ECDSA_SIG_free> numbers(ECDSA_SIG_new());
  BIGNUM* const r = BN_bin2bn(Bytes(signature), kCoordinateBytes, nullptr);
  BIGNUM* const s = BN_bin2bn(Bytes(signature) + kCoordinateBytes, kCoordinateBytes, nullptr);
  if (numbers == nullptr || r == nullptr || s == nullptr || ECDSA_SIG_set0(numbers.get(), r, s) != 1) {
    BN_free(r);
    BN_free(s);
    return "";
  }
  unsigned char* der = nullptr;
  const int length = i2d_ECDSA_SIG(numbers.get(), &der);
  if (length <= 0) return "";
  std::string text(reinterpret_cast<const char*>(der), static_cast<size_t>(length));
  OPENSSL_free(der);
  return text;
}

bool Verifies(EVP_PKEY* key, absl::string_view text, absl::string_view signature) {
  const Owned<EVP_MD_CTX, EVP_MD_CTX_free> context(EVP_MD_CTX_new());
  const bool verifies = context != nullptr && EVP_DigestVerifyInit(context.get(), nullptr, EVP_sha256(), nullptr, key) == 1 &&
                        EVP_DigestVerify(context.get(), Bytes(signature), signature.size(), Bytes(text), text.size()) == 1;
  ::ERR_clear_error();
  return verifies;
}

}  // namespace

absl::StatusOr<SignatureAlgorithm> SignatureAlgorithmFromText(absl::string_view name) {
  if (name == "RS256") return SignatureAlgorithm::kRs256;
  if (name == "ES256") return SignatureAlgorithm::kEs256;
  return absl::UnimplementedError(
      absl::StrCat("signatures by \"", absl::CHexEscape(name.substr(0, 20)), "\"; known are RS256 and ES256"));
}

absl::StatusOr<KeySet> KeySet::Parse(const std::string& name, absl::string_view text) {
  if (text.size() > kBytesMax) return Wrong(name, absl::StrCat("has more than ", kBytesMax, " bytes"));
  const auto root = nlohmann::json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  const auto list = root.is_object() ? root.find("keys") : root.end();
  if (!root.is_object() || list == root.end() || !list->is_array()) {
    return Wrong(name, "is no set of keys; make it with: kubectl get --raw /openid/v1/jwks");
  }
  if (list->size() > kKeysMax) return Wrong(name, absl::StrCat("has more than ", kKeysMax, " keys"));
  KeySet set;
  for (size_t i = 0; i < list->size(); ++i) {
    const nlohmann::json& one = (*list)[i];
    const std::string place = absl::StrCat("key ", i + 1);
    if (!one.is_object()) return Wrong(name, absl::StrCat(place, " is no object"));
    const std::string use = TextOf(one, "use"), type = TextOf(one, "kty"), said = TextOf(one, "alg");
    if (!use.empty() && use != "sig") continue;
    Key key{TextOf(one, "kid"), SignatureAlgorithm::kRs256, nullptr};
    if (type == "RSA" && (said.empty() || said == "RS256")) {
      const auto n = NumberOf(one, "n"), e = NumberOf(one, "e");
      if (!n || !e) return Wrong(name, absl::StrCat(place, " has no n and e in base64url"));
      const size_t bits_at_most = 8 * n->size();
      key.key = bits_at_most > kRsaBitsMax ? nullptr : RsaKey(*n, *e);
      if (key.key == nullptr) return Wrong(name, absl::StrCat(place, " is no RSA key"));
      const int bits = EVP_PKEY_get_bits(key.key.get());
      if (bits < kRsaBitsMin)
        return Wrong(name, absl::StrCat(place, " has ", bits, " bits; less than ", kRsaBitsMin, " are no protection"));
    } else if (type == "EC" && TextOf(one, "crv") == "P-256" && (said.empty() || said == "ES256")) {
      const auto x = NumberOf(one, "x"), y = NumberOf(one, "y");
      if (!x || !y || x->size() != kCoordinateBytes || y->size() != kCoordinateBytes) {
        return Wrong(name, absl::StrCat(place, " has no x and y of ", kCoordinateBytes, " bytes in base64url"));
      }
      key.algorithm = SignatureAlgorithm::kEs256;
      key.key = P256Key(*x, *y);
      if (key.key == nullptr) return Wrong(name, absl::StrCat(place, " is no point of P-256"));
    } else {
      continue;
    }
    set.keys_.push_back(std::move(key));
  }
  if (set.keys_.empty()) return Wrong(name, "has no key for RS256 or ES256");
  return set;
}

absl::Status KeySet::Check(SignatureAlgorithm algorithm, absl::string_view id, absl::string_view text,
                           absl::string_view signature) const {
  const std::string der = algorithm == SignatureAlgorithm::kEs256 ? DerOf(signature) : std::string(signature);
  bool found = false;
  for (const Key& one : keys_) {
    if (one.algorithm != algorithm || (!id.empty() && one.id != id)) continue;
    found = true;
    if (!der.empty() && Verifies(one.key.get(), text, der)) return absl::OkStatus();
  }
  if (!found) {
    return absl::NotFoundError(absl::StrCat("signed with a key",
                                            id.empty() ? "" : absl::StrCat(" \"", absl::CHexEscape(id.substr(0, 80)), "\""),
                                            " that is not among the cluster's ", keys_.size()));
  }
  return absl::PermissionDeniedError("with a signature that is not the cluster's");
}

}  // namespace muster
