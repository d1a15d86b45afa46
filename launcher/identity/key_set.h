// The public keys of a signer of tokens, as it publishes them: a JSON Web Key Set.
#ifndef MUSTER_LAUNCHER_IDENTITY_KEY_SET_H_
#define MUSTER_LAUNCHER_IDENTITY_KEY_SET_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

struct evp_pkey_st;  // OpenSSL's EVP_PKEY

namespace muster {

// What a key may check. Others of RFC 7518 are not used by API servers; none and the HMACs are no signatures of somebody else's.
enum class SignatureAlgorithm { kRs256, kEs256 };
// "RS256", "ES256". Errors: Unimplemented, naming both.
absl::StatusOr<SignatureAlgorithm> SignatureAlgorithmFromText(absl::string_view name);

// Values; copies share the keys. Thread-safe once made.
// Source: RFC 7517 (the set), RFC 7518, sections 3.3, 3.4 and 6 (the algorithms and the keys' numbers).
class KeySet {
 public:
  // Keys for other uses than signatures, and of types and curves that are not known here, are passed over, as RFC 7517, section 5, wants it.
  // Errors: InvalidArgument, "NAME: what is wrong" (no JSON of this form, a number that is no base64url, an RSA key below 2048 bits, no key
  // left at all).
  static absl::StatusOr<KeySet> Parse(const std::string& name, absl::string_view text);

  // Whether `signature` of `text` is that of the key `id`; with an empty id any of the algorithm's keys will do.
  // Errors: NotFound (no such key: the set may be older than the token), PermissionDenied (another signature).
  absl::Status Check(SignatureAlgorithm algorithm, absl::string_view id, absl::string_view text,
                     absl::string_view signature) const;

  size_t size() const { return keys_.size(); }

  static constexpr size_t kBytesMax = 1 << 20;
  static constexpr size_t kKeysMax = 64;

 private:
  struct Key {
    std::string id;  // may be empty
    SignatureAlgorithm algorithm;
    std::shared_ptr<evp_pkey_st> key;
  };
  std::vector<Key> keys_;
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_IDENTITY_KEY_SET_H_
