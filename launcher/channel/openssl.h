// Owning OpenSSL's objects, and its error queue as a Status.
#ifndef MUSTER_LAUNCHER_CHANNEL_OPENSSL_H_
#define MUSTER_LAUNCHER_CHANNEL_OPENSSL_H_

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/x509v3.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace muster {

template <auto free_function>
struct OpensslFree {
  template <class T>
  void operator()(T* object) const {
    free_function(object);
  }
};
template <class T, auto free_function>
using OpensslPtr = std::unique_ptr<T, OpensslFree<free_function>>;

using KeyPtr = OpensslPtr<EVP_PKEY, EVP_PKEY_free>;
using CertificatePtr = OpensslPtr<X509, X509_free>;
using BioPtr = OpensslPtr<BIO, BIO_free_all>;

// Internal: "`what`: the library's reason". Empties this thread's error queue.
absl::Status OpensslError(absl::string_view what);

std::string TextOf(BIO* memory);

// Errors: InvalidArgument (no certificate, more than one, or too long).
absl::StatusOr<CertificatePtr> CertificateFromPem(const std::string& pem);
// Errors: InvalidArgument (no public key of curve P-256).
absl::StatusOr<KeyPtr> PublicKeyFromDer(const std::string& der);

// `bytes` from the kernel's generator, by way of OpenSSL's.
std::string RandomBytes(size_t bytes);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_CHANNEL_OPENSSL_H_
