#include "tests/support/signed_token.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>

#include <cstdlib>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace muster {
namespace {

void Must(bool good) {
  if (!good) std::abort();
}

std::string BytesOf(const BIGNUM* number, int length) {
  std::string bytes(static_cast<size_t>(length), '\0');
  Must(BN_bn2binpad(number, reinterpret_cast<unsigned char*>(bytes.data()), length) == length);
  return bytes;
}

std::string NumberOf(EVP_PKEY* key, const char* name, int length = 0) {
  BIGNUM* number = nullptr;
  Must(EVP_PKEY_get_bn_param(key, name, &number) == 1);
  const std::string bytes = BytesOf(number, length > 0 ? length : BN_num_bytes(number));
  BN_free(number);
  return bytes;
}

}  // namespace

std::string Base64Url(const std::string& bytes) {
  std::string text;
  absl::WebSafeBase64Escape(bytes, &text);
  while (absl::EndsWith(text, "=")) text.pop_back();
  return text;
}

TokenSigner::TokenSigner(const std::string& algorithm, const std::string& id, unsigned int bits)
    : algorithm_(algorithm), id_(id) {
  EVP_PKEY* const key = algorithm == "ES256" ? EVP_EC_gen("P-256") : EVP_RSA_gen(bits);
  Must(key != nullptr);
  key_.reset(key, EVP_PKEY_free);
}

std::string TokenSigner::Jwk() const {
  const std::string head = absl::StrCat(R"({"use": "sig", "kid": ")", id_, R"(", "alg": ")", algorithm_, R"(", )");
  if (algorithm_ == "ES256") {
    return absl::StrCat(head, R"("kty": "EC", "crv": "P-256", "x": ")",
                        Base64Url(NumberOf(key_.get(), OSSL_PKEY_PARAM_EC_PUB_X, 32)), R"(", "y": ")",
                        Base64Url(NumberOf(key_.get(), OSSL_PKEY_PARAM_EC_PUB_Y, 32)), R"("})");
  }
  return absl::StrCat(head, R"("kty": "RSA", "n": ")", Base64Url(NumberOf(key_.get(), OSSL_PKEY_PARAM_RSA_N)), R"(", "e": ")",
                      Base64Url(NumberOf(key_.get(), OSSL_PKEY_PARAM_RSA_E)), R"("})");
}

std::string TokenSigner::Sign(const std::string& header, const std::string& claims) const {
  const std::string text = absl::StrCat(Base64Url(header), ".", Base64Url(claims));
  EVP_MD_CTX* const context = EVP_MD_CTX_new();
  size_t length = 0;
  const auto* const bytes = reinterpret_cast<const unsigned char*>(text.data());
  Must(EVP_DigestSignInit(context, nullptr, EVP_sha256(), nullptr, key_.get()) == 1);
  Must(EVP_DigestSign(context, nullptr, &length, bytes, text.size()) == 1);
  std::string signature(length, '\0');
  Must(EVP_DigestSign(context, reinterpret_cast<unsigned char*>(signature.data()), &length, bytes, text.size()) == 1);
  signature.resize(length);
  EVP_MD_CTX_free(context);
  if (algorithm_ == "ES256") {
    const auto* der = reinterpret_cast<const unsigned char*>(signature.data());
    ECDSA_SIG* const numbers = d2i_ECDSA_SIG(nullptr, &der, static_cast<long>(signature.size()));
    Must(numbers != nullptr);
    signature = BytesOf(ECDSA_SIG_get0_r(numbers), 32) + BytesOf(ECDSA_SIG_get0_s(numbers), 32);
    ECDSA_SIG_free(numbers);
  }
  return absl::StrCat(text, ".", Base64Url(signature));
}

std::string TokenSigner::Sign(const std::string& claims) const {
  return Sign(absl::StrCat(R"({"alg": ")", algorithm_, R"(", "kid": ")", id_, R"("})"), claims);
}

}  // namespace muster
