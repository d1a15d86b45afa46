// write_checkpoints FOLDER STEP...: a checkpoint of each type of tensor for each step, the newest two kept. Element i of tensor t
// is (step + 10 t + i) % 100. With "STEP?" the save stops before its commit.
#include <cstring>
#include <iostream>
#include <span>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/strip.h"
#include "runtime/base/status.h"
#include "runtime/checkpoint/save.h"

namespace muster {
namespace {

template <typename Element>
void Put(std::vector<std::byte>* bytes, Element element) {
  const auto raw = std::as_bytes(std::span(&element, 1));
  bytes->insert(bytes->end(), raw.begin(), raw.end());
}

// A whole number below 100 as the upper half of a float32, or as binary16.
uint16_t ToHalf(DataType type, int number) {
  const float value = static_cast<float>(number);
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  if (type == DataType::kBFloat16) return static_cast<uint16_t>(bits >> 16);
  if (number == 0) return 0;
  return static_cast<uint16_t>((((bits >> 23) - 127 + 15) << 10) | ((bits >> 13) & 0x3ff));
}

std::vector<std::byte> BytesOf(const CheckpointContent& content, int tensor) {
  const CheckpointTensor& about = content.tensors[static_cast<size_t>(tensor)];
  std::vector<std::byte> bytes;
  for (int64_t i = 0; i < about.bytes() / SizeOf(about.type); ++i) {
    const int number = static_cast<int>((content.step + 10 * tensor + i) % 100);
    switch (about.type) {
      case DataType::kFloat32:
        Put(&bytes, static_cast<float>(number));
        break;
      case DataType::kFloat64:
        Put(&bytes, static_cast<double>(number));
        break;
      case DataType::kBFloat16:
      case DataType::kFloat16:
        Put(&bytes, ToHalf(about.type, number));
        break;
      case DataType::kInt32:
        Put(&bytes, static_cast<int32_t>(number));
        break;
      case DataType::kInt64:
        Put(&bytes, static_cast<int64_t>(number));
        break;
      case DataType::kUint8:
        Put(&bytes, static_cast<uint8_t>(number));
        break;
    }
  }
  return bytes;
}

absl::Status Save(const std::string& folder, int64_t step, bool commit) {
  FileSystem& files = PosixFileSystem();
  CheckpointContent content;
  content.step = step;
  content.generation = 3;
  content.save_id = static_cast<uint32_t>(step);
  content.job_id = "5f3c9a12d0e4b7a15f3c9a12d0e4b7a1";
  content.attributes = {{"cursor", std::to_string(step * 64)}};
  content.tensors = {{"weight", DataType::kFloat32, {3, 5}},
                     {"moment/weight", DataType::kFloat64, {7}},
                     {"bias \"b\" \u00fc", DataType::kBFloat16, {9}},
                     {"half", DataType::kFloat16, {2, 2, 3}},
                     {"count", DataType::kInt64, {}},
                     {"places", DataType::kInt32, {11}},
                     {"bytes", DataType::kUint8, {13}},
                     {"none", DataType::kFloat32, {0, 4}}};
  const std::vector<CheckpointFilePlan> plan = PlanFiles(content, /*file_bytes_max=*/600);
  std::vector<std::vector<std::byte>> tensors;
  for (size_t i = 0; i < content.tensors.size(); ++i) tensors.push_back(BytesOf(content, static_cast<int>(i)));
  MUSTER_RETURN_IF_ERROR(StartSave(files, folder, content));
  std::vector<WrittenFile> written;
  for (size_t i = 0; i < plan.size(); ++i) {
    const auto data = [&tensors](int tensor) { return std::span<const std::byte>(tensors[static_cast<size_t>(tensor)]); };
    MUSTER_ASSIGN_OR_RETURN(WrittenFile file,
                            WriteCheckpointFile(files, folder, content, plan, static_cast<int>(i), data, nullptr));
    written.push_back(std::move(file));
  }
  if (!commit) return absl::OkStatus();
  MUSTER_RETURN_IF_ERROR(CommitSave(files, folder, content, plan, written));
  return PruneCheckpoints(files, folder, content, /*keep=*/2);
}

}  // namespace
}  // namespace muster

int main(int argc, char** argv) {
  for (int i = 2; i < argc; ++i) {
    absl::string_view word = argv[i];
    const bool commit = !absl::ConsumeSuffix(&word, "?");
    int64_t step = 0;
    if (!absl::SimpleAtoi(word, &step)) return 64;
    const absl::Status status = muster::Save(argv[1], step, commit);
    if (!status.ok()) {
      std::cerr << status << "\n";
      return 1;
    }
  }
  return 0;
}
