#include "runtime/checkpoint/content.h"

#include <algorithm>
#include <set>

#include "absl/strings/str_cat.h"
#include "runtime/base/status.h"
#include "runtime/checkpoint/json.h"
#include "runtime/checkpoint/safetensors.h"

namespace muster {
namespace {

constexpr int64_t kTensorBytesMax = int64_t{1} << 62;

// The bytes of `tensor`, or -1 where they do not fit or an extent is negative.
int64_t CheckedBytes(const CheckpointTensor& tensor) {
  int64_t bytes = SizeOf(tensor.type);
  bool empty = false;
  for (const int64_t extent : tensor.shape) {
    if (extent < 0) return -1;
    if (extent == 0) empty = true;
    if (extent > 0 && bytes > kTensorBytesMax / extent) return -1;
    if (extent > 0) bytes *= extent;
  }
  return empty ? 0 : bytes;
}

}  // namespace

int64_t CheckpointTensor::bytes() const {
  int64_t bytes = SizeOf(type);
  for (const int64_t extent : shape) bytes *= extent;
  return bytes;
}

absl::Status CheckContent(const CheckpointContent& content) {
  if (content.step < 0) return absl::InvalidArgumentError(absl::StrCat("step ", content.step, " of a checkpoint is negative"));
  if (!IsUtf8(content.job_id)) return absl::InvalidArgumentError("the job id of a checkpoint is not UTF-8");
  for (const auto& [name, value] : content.attributes) {
    if (!IsUtf8(name) || !IsUtf8(value)) {
      return absl::InvalidArgumentError("an attribute of a checkpoint is not UTF-8; write bytes as hexadecimal digits");
    }
  }
  std::set<absl::string_view> names;
  for (const CheckpointTensor& tensor : content.tensors) {
    if (tensor.name.empty() || tensor.name == kSafetensorsMetadata || !IsUtf8(tensor.name)) {
      return absl::InvalidArgumentError(absl::StrCat("a tensor cannot be called \"", tensor.name,
                                                     "\": names are UTF-8, not empty and not ", kSafetensorsMetadata));
    }
    if (!names.insert(tensor.name).second) {
      return absl::InvalidArgumentError(absl::StrCat("two tensors of a checkpoint are called \"", tensor.name, "\""));
    }
    if (SizeOf(tensor.type) == 0 || CheckedBytes(tensor) < 0) {
      return absl::InvalidArgumentError(absl::StrCat("tensor \"", tensor.name, "\" has a type or shape that is not possible"));
    }
  }
  return absl::OkStatus();
}

std::vector<CheckpointFilePlan> PlanFiles(const CheckpointContent& content, int64_t file_bytes_max) {
  std::vector<CheckpointFilePlan> plan;
  SafetensorsSize size;
  for (size_t i = 0; i < content.tensors.size(); ++i) {
    SafetensorsSize with = size;
    with.Add(content.tensors[i]);
    if (plan.empty() || with.file_bytes() > file_bytes_max) {
      plan.emplace_back();
      with = SafetensorsSize();
      with.Add(content.tensors[i]);
    }
    size = with;
    plan.back().tensors.push_back(static_cast<int>(i));
  }
  for (CheckpointFilePlan& file : plan) {
    std::stable_sort(file.tensors.begin(), file.tensors.end(), [&content](int a, int b) {
      return SizeOf(content.tensors[static_cast<size_t>(a)].type) > SizeOf(content.tensors[static_cast<size_t>(b)].type);
    });
    SafetensorsSize sorted;
    for (const int tensor : file.tensors) sorted.Add(content.tensors[static_cast<size_t>(tensor)]);
    file.bytes = sorted.file_bytes();
  }
  return plan;
}

}  // namespace muster
