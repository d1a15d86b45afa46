// The safetensors format: u64 length of the header (little endian), the header (JSON), the tensors' bytes.
// Source: https://github.com/huggingface/safetensors#format
//
// What is written here: tensors in the order of the plan, without gaps; the header padded with spaces so that the first begins at a
// multiple of 64 bytes; no metadata. So the bytes of a file depend on its tensors alone.
#ifndef MUSTER_RUNTIME_CHECKPOINT_SAFETENSORS_H_
#define MUSTER_RUNTIME_CHECKPOINT_SAFETENSORS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/checkpoint/content.h"

namespace muster {

inline constexpr char kSafetensorsMetadata[] = "__metadata__";  // the one reserved name
inline constexpr int64_t kSafetensorsLengthBytes = 8;
inline constexpr int64_t kSafetensorsHeaderBytesMax = 100'000'000;  // as of the reference implementation

const char* SafetensorsType(DataType type);  // "BF16"
std::optional<DataType> SafetensorsTypeOf(absl::string_view name);

// How long a file becomes, tensor by tensor.
class SafetensorsSize {
 public:
  void Add(const CheckpointTensor& tensor);
  int64_t header_bytes() const;  // with the length before it: where the first tensor begins
  int64_t file_bytes() const { return header_bytes() + data_bytes_; }
  int64_t data_bytes() const { return data_bytes_; }

 private:
  int64_t json_bytes_ = 2;
  int64_t data_bytes_ = 0;
};

// Length and header of a file of these tensors.
std::string SafetensorsHeader(const CheckpointContent& content, const CheckpointFilePlan& plan);

struct SafetensorsEntry {
  CheckpointTensor tensor;
  int64_t begin = 0;  // in the file
  int64_t end = 0;
};

// What `bytes`, the first of a file of `file_bytes`, say is in it, in the order of the places. They are all of the header, or
// enough to tell why not. Any writer's file will do. Errors: InvalidArgument, what is wrong.
absl::StatusOr<std::vector<SafetensorsEntry>> ParseSafetensorsHeader(absl::string_view bytes, int64_t file_bytes);

// The length of the header with the length before it, from the first 8 bytes. Errors as above.
absl::StatusOr<int64_t> SafetensorsHeaderBytes(absl::string_view first_bytes, int64_t file_bytes);

}  // namespace muster

#endif  // MUSTER_RUNTIME_CHECKPOINT_SAFETENSORS_H_
