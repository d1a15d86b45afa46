// A signer of tokens for tests: keys of its own, its public ones as a JSON Web Key Set.
#ifndef MUSTER_TESTS_SUPPORT_SIGNED_TOKEN_H_
#define MUSTER_TESTS_SUPPORT_SIGNED_TOKEN_H_

#include <memory>
#include <string>

struct evp_pkey_st;

namespace muster {

// Base64url without padding.
std::string Base64Url(const std::string& bytes);

class TokenSigner {
 public:
  // "RS256" with 2048 bits, "ES256", or an RSA key of `bits`.
  TokenSigner(const std::string& algorithm, const std::string& id, unsigned int bits = 2048);

  // The set's entry for the key.
  std::string Jwk() const;
  // The token of these two JSON texts.
  std::string Sign(const std::string& header, const std::string& claims) const;
  // With the header of an API server.
  std::string Sign(const std::string& claims) const;

 private:
  const std::string algorithm_, id_;
  std::shared_ptr<evp_pkey_st> key_;
};

}  // namespace muster

#endif  // MUSTER_TESTS_SUPPORT_SIGNED_TOKEN_H_
