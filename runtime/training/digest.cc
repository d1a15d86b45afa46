#include "runtime/training/digest.h"

#include <openssl/evp.h>

#include "absl/strings/escaping.h"
#include "absl/strings/string_view.h"
#include "runtime/base/log.h"

namespace muster {

struct Sha256::Context {
  EVP_MD_CTX* evp = EVP_MD_CTX_new();
  ~Context() { EVP_MD_CTX_free(evp); }
};

Sha256::Sha256() : context_(std::make_unique<Context>()) {
  MUSTER_CHECK(context_->evp != nullptr && EVP_DigestInit_ex(context_->evp, EVP_sha256(), nullptr) == 1,
               "OpenSSL has no SHA-256");
}

Sha256::~Sha256() = default;

void Sha256::Update(const void* data, size_t bytes) {
  MUSTER_CHECK(EVP_DigestUpdate(context_->evp, data, bytes) == 1, "SHA-256 of more data");
}

Digest Sha256::Finish() {
  Digest digest;
  unsigned int length = 0;
  MUSTER_CHECK(EVP_DigestFinal_ex(context_->evp, digest.data(), &length) == 1 && length == digest.size(), "SHA-256 of the end");
  return digest;
}

std::string ToHex(const Digest& digest) {
  return absl::BytesToHexString(absl::string_view(reinterpret_cast<const char*>(digest.data()), digest.size()));
}

}  // namespace muster
