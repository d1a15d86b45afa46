#include "launcher/channel/agent_key.h"

#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "launcher/channel/openssl.h"
#include "runtime/base/log.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

using DigestPtr = OpensslPtr<EVP_MD_CTX, EVP_MD_CTX_free>;

constexpr size_t kCertificatePemBytesMax = 16 << 10;

std::string SignedText(const std::string& job_id, const std::string& nonce) {
  return absl::StrCat("muster stream", job_id, nonce);
}

const unsigned char* Bytes(const std::string& text) { return reinterpret_cast<const unsigned char*>(text.data()); }

class P256AgentKey : public AgentKey {
 public:
  P256AgentKey(KeyPtr key, std::string public_key_der, std::string private_key_pem)
      : key_(std::move(key)), public_key_der_(std::move(public_key_der)), private_key_pem_(std::move(private_key_pem)) {}

  absl::StatusOr<std::string> SignChallenge(const std::string& job_id, const std::string& nonce) const override {
    const std::string text = SignedText(job_id, nonce);
    const DigestPtr context(EVP_MD_CTX_new());
    size_t size = 0;
    if (EVP_DigestSignInit(context.get(), nullptr, EVP_sha256(), nullptr, key_.get()) != 1 ||
        EVP_DigestSign(context.get(), nullptr, &size, Bytes(text), text.size()) != 1) {
      return OpensslError("signing a challenge");
    }
    std::string signature(size, '\0');
    if (EVP_DigestSign(context.get(), reinterpret_cast<unsigned char*>(signature.data()), &size, Bytes(text), text.size()) !=
        1) {
      return OpensslError("signing a challenge");
    }
    signature.resize(size);
    return signature;
  }

  const std::string& public_key_der() const override { return public_key_der_; }
  const std::string& private_key_pem() const override { return private_key_pem_; }

 private:
  const KeyPtr key_;
  const std::string public_key_der_;
  const std::string private_key_pem_;
};

}  // namespace

absl::Status OpensslError(absl::string_view what) {
  char reason[256] = "no reason given";
  if (const unsigned long code = ERR_get_error(); code != 0) ERR_error_string_n(code, reason, sizeof reason);
  ERR_clear_error();
  return absl::InternalError(absl::StrCat(what, ": ", reason));
}

std::string TextOf(BIO* memory) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(memory, &data);
  return size > 0 ? std::string(data, static_cast<size_t>(size)) : std::string();
}

absl::StatusOr<CertificatePtr> CertificateFromPem(const std::string& pem) {
  if (pem.size() > kCertificatePemBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("a certificate of ", pem.size(), " bytes; at most ", kCertificatePemBytesMax));
  }
  const BioPtr memory(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  CertificatePtr certificate(PEM_read_bio_X509(memory.get(), nullptr, nullptr, nullptr));
  const CertificatePtr second(certificate == nullptr ? nullptr : PEM_read_bio_X509(memory.get(), nullptr, nullptr, nullptr));
  ERR_clear_error();
  if (certificate == nullptr || second != nullptr) return absl::InvalidArgumentError("not one certificate in PEM");
  return certificate;
}

absl::StatusOr<KeyPtr> PublicKeyFromDer(const std::string& der) {
  const unsigned char* at = Bytes(der);
  KeyPtr key(d2i_PUBKEY(nullptr, &at, static_cast<long>(der.size())));
  ERR_clear_error();
  char group[32] = "";
  if (key == nullptr || at != Bytes(der) + der.size() || EVP_PKEY_get_base_id(key.get()) != EVP_PKEY_EC ||
      EVP_PKEY_get_group_name(key.get(), group, sizeof group, nullptr) != 1 ||
      absl::string_view(group) != SN_X9_62_prime256v1) {
    ERR_clear_error();
    return absl::InvalidArgumentError("not a public key of curve P-256");
  }
  return key;
}

std::string RandomBytes(size_t bytes) {
  std::string random(bytes, '\0');
  MUSTER_CHECK(RAND_bytes(reinterpret_cast<unsigned char*>(random.data()), static_cast<int>(bytes)) == 1, "no random numbers");
  return random;
}

absl::StatusOr<std::unique_ptr<AgentKey>> AgentKey::Create() {
  KeyPtr key(EVP_EC_gen("P-256"));
  if (key == nullptr) return OpensslError("making a P-256 key");
  unsigned char* der = nullptr;
  const int der_bytes = i2d_PUBKEY(key.get(), &der);
  if (der_bytes <= 0) return OpensslError("writing a public key");
  std::string public_key_der(reinterpret_cast<char*>(der), static_cast<size_t>(der_bytes));
  OPENSSL_free(der);
  const BioPtr memory(BIO_new(BIO_s_mem()));
  if (PEM_write_bio_PrivateKey(memory.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr) != 1) {
    return OpensslError("writing a private key");
  }
  std::string private_key_pem = TextOf(memory.get());
  return std::make_unique<P256AgentKey>(std::move(key), std::move(public_key_der), std::move(private_key_pem));
}

absl::Status CheckChallengeSignature(const std::string& certificate_pem, const std::string& job_id, const std::string& nonce,
                                     const std::string& signature) {
  MUSTER_ASSIGN_OR_RETURN(const CertificatePtr certificate, CertificateFromPem(certificate_pem));
  const std::string text = SignedText(job_id, nonce);
  const DigestPtr context(EVP_MD_CTX_new());
  if (EVP_DigestVerifyInit(context.get(), nullptr, EVP_sha256(), nullptr, X509_get0_pubkey(certificate.get())) != 1) {
    return OpensslError("checking a signature");
  }
  const int verified = EVP_DigestVerify(context.get(), Bytes(signature), signature.size(), Bytes(text), text.size());
  ERR_clear_error();
  if (verified != 1) return absl::PermissionDeniedError("a signature that does not answer the challenge");
  return absl::OkStatus();
}

}  // namespace muster
