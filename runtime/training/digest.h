// SHA-256 over bytes that come in pieces.
#ifndef MUSTER_RUNTIME_TRAINING_DIGEST_H_
#define MUSTER_RUNTIME_TRAINING_DIGEST_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace muster {

using Digest = std::array<uint8_t, 32>;

// FIPS 180-4. One thread.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;

  void Update(const void* data, size_t bytes);
  // Ends the digest; nothing may be called afterwards.
  Digest Finish();

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

// Lower-case hexadecimal.
std::string ToHex(const Digest& digest);

}  // namespace muster

#endif  // MUSTER_RUNTIME_TRAINING_DIGEST_H_
