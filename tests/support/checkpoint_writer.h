// Small checkpoints with known contents, for tests.
#ifndef MUSTER_TESTS_SUPPORT_CHECKPOINT_WRITER_H_
#define MUSTER_TESTS_SUPPORT_CHECKPOINT_WRITER_H_

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/base/status.h"
#include "runtime/checkpoint/load.h"
#include "runtime/checkpoint/save.h"

namespace muster {

// Bytes of a tensor are a function of the step and its place, so that a mix shows.
class CheckpointWriter {
 public:
  CheckpointWriter(FileSystem* files, std::string folder, uint64_t generation, int64_t file_bytes_max = 250)
      : files_(files), folder_(std::move(folder)), generation_(generation), file_bytes_max_(file_bytes_max) {}

  static CheckpointContent ContentOf(int64_t step, uint64_t generation, uint32_t save_id) {
    CheckpointContent content;
    content.step = step;
    content.generation = generation;
    content.save_id = save_id;
    content.job_id = "5f3c9a12d0e4b7a15f3c9a12d0e4b7a1";
    content.attributes = {{"cursor", absl::StrCat(step * 64)}};
    content.tensors = {{"weight", DataType::kFloat32, {2, 3}},
                       {"bias", DataType::kBFloat16, {5}},
                       {"count", DataType::kInt64, {}},
                       {"empty", DataType::kFloat64, {0, 4}},
                       {"bytes", DataType::kUint8, {7}}};
    return content;
  }

  static std::vector<std::byte> BytesOf(const CheckpointContent& content, int tensor) {
    std::vector<std::byte> bytes(static_cast<size_t>(content.tensors[static_cast<size_t>(tensor)].bytes()));
    for (size_t i = 0; i < bytes.size(); ++i) {
      bytes[i] = static_cast<std::byte>(content.step * 31 + tensor * 7 + static_cast<int64_t>(i % 251));
    }
    return bytes;
  }

  // Writes every file of an already started save.
  static absl::StatusOr<std::vector<WrittenFile>> WriteFiles(FileSystem& files, const std::string& folder,
                                                             const CheckpointContent& content,
                                                             const std::vector<CheckpointFilePlan>& plan) {
    std::vector<std::vector<std::byte>> tensors;
    for (size_t i = 0; i < content.tensors.size(); ++i) tensors.push_back(BytesOf(content, static_cast<int>(i)));
    std::vector<WrittenFile> written;
    for (size_t i = 0; i < plan.size(); ++i) {
      MUSTER_ASSIGN_OR_RETURN(
          WrittenFile file,
          WriteCheckpointFile(
              files, folder, content, plan, static_cast<int>(i),
              [&](int tensor) { return std::span<const std::byte>(tensors[static_cast<size_t>(tensor)]); }, nullptr));
      written.push_back(std::move(file));
    }
    return written;
  }

  // A whole save of `step`, without the pruning after it.
  absl::StatusOr<CheckpointContent> Save(int64_t step) {
    CheckpointContent content = ContentOf(step, generation_, static_cast<uint32_t>(generation_ * 1000 + ++saves_));
    const std::vector<CheckpointFilePlan> plan = PlanFiles(content, file_bytes_max_);
    MUSTER_RETURN_IF_ERROR(StartSave(*files_, folder_, content));
    MUSTER_ASSIGN_OR_RETURN(const std::vector<WrittenFile> written, WriteFiles(*files_, folder_, content, plan));
    MUSTER_RETURN_IF_ERROR(CommitSave(*files_, folder_, content, plan, written));
    return content;
  }
  absl::Status SaveAndPrune(int64_t step, int keep) {
    MUSTER_ASSIGN_OR_RETURN(const CheckpointContent content, Save(step));
    return PruneCheckpoints(*files_, folder_, content, keep);
  }

 private:
  FileSystem* const files_;
  const std::string folder_;
  const uint64_t generation_;
  const int64_t file_bytes_max_;
  int saves_ = 0;
};

// OK when `entry` verifies and holds exactly what CheckpointWriter gave its step.
inline absl::Status CheckWhole(FileSystem& files, const CheckpointEntry& entry) {
  MUSTER_RETURN_IF_ERROR(VerifyCheckpoint(files, entry));
  const CheckpointContent expected = CheckpointWriter::ContentOf(entry.step, 0, 0);
  if (entry.content->tensors != expected.tensors || entry.content->attributes != expected.attributes) {
    return absl::DataLossError(absl::StrCat(entry.path, " holds something else"));
  }
  std::vector<std::vector<std::byte>> tensors;
  for (const CheckpointTensor& tensor : expected.tensors) tensors.emplace_back(static_cast<size_t>(tensor.bytes()));
  MUSTER_RETURN_IF_ERROR(
      ReadCheckpoint(files, entry, [&](int tensor) { return std::span<std::byte>(tensors[static_cast<size_t>(tensor)]); }));
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (tensors[i] != CheckpointWriter::BytesOf(expected, static_cast<int>(i))) {
      return absl::DataLossError(absl::StrCat(entry.path, " is a mix: tensor ", expected.tensors[i].name));
    }
  }
  return absl::OkStatus();
}

}  // namespace muster

#endif  // MUSTER_TESTS_SUPPORT_CHECKPOINT_WRITER_H_
