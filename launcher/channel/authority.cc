#include "launcher/channel/authority.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/x509_vfy.h>

#include <map>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "launcher/channel/openssl.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/mutex.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

using StorePtr = OpensslPtr<X509_STORE, X509_STORE_free>;
using StoreContextPtr = OpensslPtr<X509_STORE_CTX, X509_STORE_CTX_free>;
using ExtensionPtr = OpensslPtr<X509_EXTENSION, X509_EXTENSION_free>;
using NamesPtr = OpensslPtr<GENERAL_NAMES, GENERAL_NAMES_free>;

constexpr size_t kJobIdBytes = 16;
constexpr size_t kTokenBytes = 32;
// The first bytes of a token only find its entry and are no secret; the other 24 are compared in constant time.
constexpr size_t kTokenIndexBytes = 8;

// "muster-ticket-1:" LENGTH ":" base64url(token | job_id | authority_pem | first 8 bytes of SHA-256 over those)
constexpr absl::string_view kTicketPrefix = "muster-ticket-1:";
constexpr size_t kChecksumBytes = 8;
constexpr size_t kTicketTextMax = 64 << 10;

// Clocks of two machines may differ by so much.
constexpr long kValidBeforeSeconds = 5 * 60;
constexpr long kValidForSeconds = 3650L * 24 * 3600;

std::string Checksum(const std::string& payload) {
  unsigned char digest[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(payload.data()), payload.size(), digest);
  return std::string(reinterpret_cast<char*>(digest), kChecksumBytes);
}

struct CertificateContents {
  std::string name;         // CN
  std::string alternative;  // "DNS:..." or "URI:..."; empty: none
  const char* constraints = "critical,CA:FALSE";
  const char* usage = "critical,digitalSignature";
  const char* extended_usage = nullptr;
};

absl::Status AddExtension(X509* certificate, X509* issuer, int id, const char* value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  const ExtensionPtr extension(X509V3_EXT_conf_nid(nullptr, &context, id, value));
  if (extension == nullptr || X509_add_ext(certificate, extension.get(), -1) != 1) {
    return OpensslError(absl::StrCat("adding ", OBJ_nid2sn(id), " to a certificate"));
  }
  return absl::OkStatus();
}

// `issuer` null: signed by itself.
absl::StatusOr<CertificatePtr> MakeCertificate(const CertificateContents& contents, EVP_PKEY* key, X509* issuer,
                                               EVP_PKEY* issuer_key) {
  CertificatePtr certificate(X509_new());
  X509* const x509 = certificate.get();
  const std::string serial = RandomBytes(16);
  const OpensslPtr<BIGNUM, BN_free> number(
      BN_bin2bn(reinterpret_cast<const unsigned char*>(serial.data()), static_cast<int>(serial.size()), nullptr));
  if (x509 == nullptr || number == nullptr || X509_set_version(x509, X509_VERSION_3) != 1 ||
      BN_to_ASN1_INTEGER(number.get(), X509_get_serialNumber(x509)) == nullptr ||
      X509_gmtime_adj(X509_getm_notBefore(x509), -kValidBeforeSeconds) == nullptr ||
      X509_gmtime_adj(X509_getm_notAfter(x509), kValidForSeconds) == nullptr || X509_set_pubkey(x509, key) != 1 ||
      X509_NAME_add_entry_by_txt(X509_get_subject_name(x509), "CN", MBSTRING_ASC,
                                 reinterpret_cast<const unsigned char*>(contents.name.data()),
                                 static_cast<int>(contents.name.size()), -1, 0) != 1 ||
      X509_set_issuer_name(x509, X509_get_subject_name(issuer == nullptr ? x509 : issuer)) != 1) {
    return OpensslError("making a certificate");
  }
  X509* const signer = issuer == nullptr ? x509 : issuer;
  MUSTER_RETURN_IF_ERROR(AddExtension(x509, signer, NID_basic_constraints, contents.constraints));
  MUSTER_RETURN_IF_ERROR(AddExtension(x509, signer, NID_key_usage, contents.usage));
  MUSTER_RETURN_IF_ERROR(AddExtension(x509, signer, NID_subject_key_identifier, "hash"));
  MUSTER_RETURN_IF_ERROR(AddExtension(x509, signer, NID_authority_key_identifier, "keyid:always"));
  if (contents.extended_usage != nullptr) {
    MUSTER_RETURN_IF_ERROR(AddExtension(x509, signer, NID_ext_key_usage, contents.extended_usage));
  }
  if (!contents.alternative.empty()) {
    MUSTER_RETURN_IF_ERROR(AddExtension(x509, signer, NID_subject_alt_name, contents.alternative.c_str()));
  }
  if (X509_sign(x509, issuer_key, EVP_sha256()) == 0) return OpensslError("signing a certificate");
  return certificate;
}

absl::StatusOr<std::string> ToPem(X509* certificate) {
  const BioPtr memory(BIO_new(BIO_s_mem()));
  if (PEM_write_bio_X509(memory.get(), certificate) != 1) return OpensslError("writing a certificate");
  return TextOf(memory.get());
}

// The URI of the subject's alternative names; empty where there is none or more than one.
std::string UriOf(X509* certificate) {
  const NamesPtr names(static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
  if (names == nullptr || sk_GENERAL_NAME_num(names.get()) != 1) return "";
  const GENERAL_NAME* name = sk_GENERAL_NAME_value(names.get(), 0);
  if (name->type != GEN_URI) return "";
  const ASN1_IA5STRING* uri = name->d.uniformResourceIdentifier;
  return std::string(reinterpret_cast<const char*>(ASN1_STRING_get0_data(uri)), static_cast<size_t>(ASN1_STRING_length(uri)));
}

class P256Authority : public Authority {
 public:
  explicit P256Authority(const std::string& job_id) : job_id_(job_id) {}

  absl::Status MakeKeys() {
    const std::string job = absl::BytesToHexString(job_id_);
    key_.reset(EVP_EC_gen("P-256"));
    const KeyPtr server_key(EVP_EC_gen("P-256"));
    if (key_ == nullptr || server_key == nullptr) return OpensslError("making a P-256 key");
    MUSTER_ASSIGN_OR_RETURN(certificate_, MakeCertificate({.name = absl::StrCat("muster job ", job),
                                                           .constraints = "critical,CA:TRUE,pathlen:0",
                                                           .usage = "critical,keyCertSign"},
                                                          key_.get(), nullptr, key_.get()));
    MUSTER_ASSIGN_OR_RETURN(
        const CertificatePtr server,
        MakeCertificate({.name = kServerName, .alternative = absl::StrCat("DNS:", kServerName), .extended_usage = "serverAuth"},
                        server_key.get(), certificate_.get(), key_.get()));
    MUSTER_ASSIGN_OR_RETURN(certificate_pem_, ToPem(certificate_.get()));
    MUSTER_ASSIGN_OR_RETURN(server_certificate_pem_, ToPem(server.get()));
    const BioPtr memory(BIO_new(BIO_s_mem()));
    if (PEM_write_bio_PrivateKey(memory.get(), server_key.get(), nullptr, nullptr, 0, nullptr, nullptr) != 1) {
      return OpensslError("writing a private key");
    }
    server_key_pem_ = TextOf(memory.get());
    store_.reset(X509_STORE_new());
    if (store_ == nullptr || X509_STORE_add_cert(store_.get(), certificate_.get()) != 1) return OpensslError("making a store");
    return absl::OkStatus();
  }

  JoinTicket MakeTicket(uint32_t node, absl::Duration expires_after) override {
    JoinTicket ticket{.token = RandomBytes(kTokenBytes), .authority_pem = certificate_pem_, .job_id = job_id_};
    MutexLock lock(mutex_);
    tickets_[ticket.token.substr(0, kTokenIndexBytes)] = {
        .secret = ticket.token.substr(kTokenIndexBytes),
        .node = node,
        .expires_ns = MonotonicNanoseconds() + absl::ToInt64Nanoseconds(std::min(expires_after, absl::Hours(24 * 3650)))};
    return ticket;
  }

  absl::StatusOr<uint32_t> TakeToken(const std::string& token) override {
    MutexLock lock(mutex_);
    const auto found = token.size() == kTokenBytes ? tickets_.find(token.substr(0, kTokenIndexBytes)) : tickets_.end();
    if (found == tickets_.end() ||
        CRYPTO_memcmp(found->second.secret.data(), token.data() + kTokenIndexBytes, kTokenBytes - kTokenIndexBytes) != 0) {
      return absl::PermissionDeniedError("an unknown token");
    }
    Ticket& ticket = found->second;
    if (ticket.used) return absl::PermissionDeniedError("a token used before");
    if (MonotonicNanoseconds() >= ticket.expires_ns) return absl::PermissionDeniedError("an expired token");
    ticket.used = true;
    return ticket.node;
  }

  absl::StatusOr<std::string> SignAgent(uint32_t node, const std::string& public_key_der) override {
    MUSTER_ASSIGN_OR_RETURN(const KeyPtr key, PublicKeyFromDer(public_key_der));
    MUSTER_ASSIGN_OR_RETURN(const CertificatePtr certificate,
                            MakeCertificate({.name = absl::StrCat("muster agent ", node),
                                             .alternative = absl::StrCat("URI:", UriPrefix(), node),
                                             .extended_usage = "clientAuth"},
                                            key.get(), certificate_.get(), key_.get()));
    return ToPem(certificate.get());
  }

  absl::StatusOr<uint32_t> CheckAgent(const std::string& certificate_pem) override {
    if (certificate_pem.empty()) return absl::PermissionDeniedError("no certificate");
    const absl::StatusOr<CertificatePtr> certificate = CertificateFromPem(certificate_pem);
    if (!certificate.ok()) return absl::PermissionDeniedError(certificate.status().message());
    const std::string uri = UriOf(certificate->get());
    const StoreContextPtr context(X509_STORE_CTX_new());
    if (context == nullptr || X509_STORE_CTX_init(context.get(), store_.get(), certificate->get(), nullptr) != 1) {
      return OpensslError("checking a certificate");
    }
    X509_STORE_CTX_set_purpose(context.get(), X509_PURPOSE_SSL_CLIENT);
    const bool verified = X509_verify_cert(context.get()) == 1;
    const int error = X509_STORE_CTX_get_error(context.get());
    ERR_clear_error();
    if (!verified) {
      switch (error) {
        case X509_V_ERR_CERT_HAS_EXPIRED:
          return absl::PermissionDeniedError("an expired certificate");
        case X509_V_ERR_CERT_NOT_YET_VALID:
          return absl::PermissionDeniedError("a certificate that is not valid yet (look at the clocks)");
        case X509_V_ERR_INVALID_PURPOSE:
          return absl::PermissionDeniedError("a certificate of no agent");
        default:
          break;
      }
      const bool other_job = absl::StartsWith(uri, "muster://") && !absl::StartsWith(uri, UriPrefix());
      return absl::PermissionDeniedError(other_job ? "a certificate of another job" : "a certificate of another authority");
    }
    absl::string_view number = uri;
    uint32_t node = 0;
    if (!absl::ConsumePrefix(&number, UriPrefix()) || !absl::SimpleAtoi(number, &node)) {
      return absl::PermissionDeniedError("a certificate of no agent");
    }
    return node;
  }

  const std::string& certificate_pem() const override { return certificate_pem_; }
  const std::string& server_certificate_pem() const override { return server_certificate_pem_; }
  const std::string& server_key_pem() const override { return server_key_pem_; }

 private:
  struct Ticket {
    std::string secret;
    uint32_t node = 0;
    int64_t expires_ns = 0;
    bool used = false;
  };

  std::string UriPrefix() const { return absl::StrCat("muster://", absl::BytesToHexString(job_id_), "/agent/"); }

  const std::string job_id_;
  KeyPtr key_;
  CertificatePtr certificate_;
  StorePtr store_;
  std::string certificate_pem_;
  std::string server_certificate_pem_;
  std::string server_key_pem_;

  Mutex mutex_;
  std::map<std::string, Ticket> tickets_
      ABSL_GUARDED_BY(mutex_);  // all that were ever made: a used one is told from an unknown
};

}  // namespace

std::string ToText(const JoinTicket& ticket) {
  MUSTER_CHECK(ticket.token.size() == kTokenBytes && ticket.job_id.size() == kJobIdBytes, "a ticket's fields");
  const std::string payload = absl::StrCat(ticket.token, ticket.job_id, ticket.authority_pem);
  const std::string text = absl::WebSafeBase64Escape(absl::StrCat(payload, Checksum(payload)));
  return absl::StrCat(kTicketPrefix, text.size(), ":", text);
}

absl::StatusOr<JoinTicket> JoinTicketFromText(const std::string& text) {
  constexpr absl::string_view kRemedy = "; give the whole line as `muster` printed it, by a file or a descriptor";
  absl::string_view rest = absl::StripAsciiWhitespace(text);
  if (rest.empty()) return absl::InvalidArgumentError(absl::StrCat("the join ticket is empty", kRemedy));
  if (rest.size() > kTicketTextMax || !absl::ConsumePrefix(&rest, kTicketPrefix)) {
    return absl::InvalidArgumentError(
        absl::StrCat("not a join ticket: it does not begin with \"", kTicketPrefix, "\" or is far too long", kRemedy));
  }
  const size_t colon = rest.find(':');
  size_t length = 0;
  if (colon == absl::string_view::npos || !absl::SimpleAtoi(rest.substr(0, colon), &length)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the join ticket is garbled: its length does not follow \"", kTicketPrefix, "\"", kRemedy));
  }
  rest.remove_prefix(colon + 1);
  if (rest.size() < length) {
    return absl::InvalidArgumentError(
        absl::StrCat("the join ticket is cut: ", rest.size(), " of ", length, " characters", kRemedy));
  }
  std::string payload;
  // Escaped again it must be the same text: the last letter may carry bits that no byte takes.
  if (rest.size() > length || !absl::WebSafeBase64Unescape(rest, &payload) ||
      absl::WebSafeBase64Escape(payload) != rest || payload.size() <= kTokenBytes + kJobIdBytes + kChecksumBytes) {
    return absl::InvalidArgumentError(absl::StrCat("the join ticket is garbled", kRemedy));
  }
  const std::string checksum = payload.substr(payload.size() - kChecksumBytes);
  payload.resize(payload.size() - kChecksumBytes);
  if (checksum != Checksum(payload)) {
    return absl::InvalidArgumentError(absl::StrCat("the join ticket is garbled: its checksum does not fit", kRemedy));
  }
  return JoinTicket{.token = payload.substr(0, kTokenBytes),
                    .authority_pem = payload.substr(kTokenBytes + kJobIdBytes),
                    .job_id = payload.substr(kTokenBytes, kJobIdBytes)};
}

absl::StatusOr<std::unique_ptr<Authority>> Authority::Create(const std::string& job_id) {
  if (job_id.size() != kJobIdBytes) {
    return absl::InvalidArgumentError(absl::StrCat("a job id of ", job_id.size(), " bytes; it has ", kJobIdBytes));
  }
  auto authority = std::make_unique<P256Authority>(job_id);
  MUSTER_RETURN_IF_ERROR(authority->MakeKeys());
  return authority;
}

}  // namespace muster
