#include "runtime/checkpoint/safetensors.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "runtime/base/status.h"
#include "runtime/checkpoint/json.h"

namespace muster {
namespace {

constexpr int64_t kDataAlignment = 64;
constexpr int64_t kTensorBytesMax = int64_t{1} << 62;

constexpr struct {
  DataType type;
  const char* name;
} kTypes[] = {{DataType::kFloat32, "F32"}, {DataType::kFloat64, "F64"}, {DataType::kBFloat16, "BF16"},
              {DataType::kFloat16, "F16"}, {DataType::kInt32, "I32"},   {DataType::kInt64, "I64"},
              {DataType::kUint8, "U8"}};

// One member of the header; `begin` counts from the end of the header.
std::string Member(const CheckpointTensor& tensor, int64_t begin) {
  return absl::StrCat(JsonString(tensor.name), ":{\"dtype\":\"", SafetensorsType(tensor.type), "\",\"shape\":[",
                      absl::StrJoin(tensor.shape, ","), "],\"data_offsets\":[", begin, ",", begin + tensor.bytes(), "]}");
}

absl::StatusOr<SafetensorsEntry> ParseMember(const std::string& name, const nlohmann::json& member, int64_t data_begin,
                                             int64_t file_bytes) {
  SafetensorsEntry entry;
  entry.tensor.name = name;
  MUSTER_ASSIGN_OR_RETURN(const std::string type_name, JsonText(member, "dtype"));
  const std::optional<DataType> type = SafetensorsTypeOf(type_name);
  if (!type) return absl::InvalidArgumentError(absl::StrCat("type \"", type_name, "\" is not known here"));
  entry.tensor.type = *type;
  int64_t bytes = SizeOf(*type);
  bool empty = false;
  MUSTER_ASSIGN_OR_RETURN(const nlohmann::json* const shape, JsonArray(member, "shape"));
  for (const nlohmann::json& item : *shape) {
    MUSTER_ASSIGN_OR_RETURN(const int64_t extent, JsonCount(item));
    entry.tensor.shape.push_back(extent);
    if (extent == 0) {
      empty = true;
    } else if (bytes > kTensorBytesMax / extent) {
      return absl::InvalidArgumentError("its shape is larger than any file");
    } else {
      bytes *= extent;
    }
  }
  if (empty) bytes = 0;
  MUSTER_ASSIGN_OR_RETURN(const nlohmann::json* const offsets, JsonArray(member, "data_offsets"));
  if (offsets->size() != 2) return absl::InvalidArgumentError("\"data_offsets\" are not two");
  MUSTER_ASSIGN_OR_RETURN(entry.begin, JsonCount(offsets->at(0)));
  MUSTER_ASSIGN_OR_RETURN(entry.end, JsonCount(offsets->at(1)));
  if (entry.begin > entry.end || entry.end > file_bytes - data_begin) {
    return absl::InvalidArgumentError(absl::StrCat("bytes ", entry.begin, " to ", entry.end, " are not in the file"));
  }
  if (entry.end - entry.begin != bytes) {
    return absl::InvalidArgumentError(absl::StrCat("has ", entry.end - entry.begin, " bytes where its shape needs ", bytes));
  }
  entry.begin += data_begin;
  entry.end += data_begin;
  return entry;
}

}  // namespace

const char* SafetensorsType(DataType type) {
  for (const auto& known : kTypes) {
    if (known.type == type) return known.name;
  }
  return "?";
}

std::optional<DataType> SafetensorsTypeOf(absl::string_view name) {
  for (const auto& known : kTypes) {
    if (name == known.name) return known.type;
  }
  return std::nullopt;
}

void SafetensorsSize::Add(const CheckpointTensor& tensor) {
  if (json_bytes_ > 2) ++json_bytes_;  // a comma
  json_bytes_ += static_cast<int64_t>(Member(tensor, data_bytes_).size());
  data_bytes_ += tensor.bytes();
}

int64_t SafetensorsSize::header_bytes() const {
  return (kSafetensorsLengthBytes + json_bytes_ + kDataAlignment - 1) / kDataAlignment * kDataAlignment;
}

std::string SafetensorsHeader(const CheckpointContent& content, const CheckpointFilePlan& plan) {
  std::string header(static_cast<size_t>(kSafetensorsLengthBytes), '\0');
  header += '{';
  int64_t begin = 0;
  for (const int place : plan.tensors) {
    const CheckpointTensor& tensor = content.tensors[static_cast<size_t>(place)];
    absl::StrAppend(&header, header.back() == '{' ? "" : ",", Member(tensor, begin));
    begin += tensor.bytes();
  }
  header += '}';
  header.resize((header.size() + kDataAlignment - 1) / kDataAlignment * kDataAlignment, ' ');
  uint64_t length = header.size() - static_cast<size_t>(kSafetensorsLengthBytes);
  for (size_t i = 0; i < static_cast<size_t>(kSafetensorsLengthBytes); ++i, length >>= 8)
    header[i] = static_cast<char>(length & 0xff);
  return header;
}

absl::StatusOr<int64_t> SafetensorsHeaderBytes(absl::string_view first_bytes, int64_t file_bytes) {
  if (first_bytes.size() < static_cast<size_t>(kSafetensorsLengthBytes)) {
    return absl::InvalidArgumentError("it is too short for a safetensors file");
  }
  uint64_t length = 0;
  for (size_t i = static_cast<size_t>(kSafetensorsLengthBytes); i-- > 0;) {
    length = length << 8 | static_cast<unsigned char>(first_bytes[i]);
  }
  if (length > static_cast<uint64_t>(std::min(kSafetensorsHeaderBytesMax, file_bytes - kSafetensorsLengthBytes))) {
    return absl::InvalidArgumentError(absl::StrCat("its header cannot be ", length, " bytes long"));
  }
  return kSafetensorsLengthBytes + static_cast<int64_t>(length);
}

absl::StatusOr<std::vector<SafetensorsEntry>> ParseSafetensorsHeader(absl::string_view bytes, int64_t file_bytes) {
  MUSTER_ASSIGN_OR_RETURN(const int64_t data_begin, SafetensorsHeaderBytes(bytes, file_bytes));
  if (static_cast<int64_t>(bytes.size()) < data_begin) return absl::InvalidArgumentError("its header is cut short");
  const auto json = ParseJson(bytes.substr(kSafetensorsLengthBytes, static_cast<size_t>(data_begin - kSafetensorsLengthBytes)),
                              /*depth_max=*/3);
  if (!json.ok()) return Annotate(json.status(), "its header");
  if (!json->is_object()) return absl::InvalidArgumentError("its header is no object");
  std::vector<SafetensorsEntry> entries;
  for (auto member = json->begin(); member != json->end(); ++member) {
    if (member.key() == kSafetensorsMetadata) continue;
    auto entry = ParseMember(member.key(), member.value(), data_begin, file_bytes);
    if (!entry.ok()) return Annotate(entry.status(), absl::StrCat("its header, tensor \"", member.key(), "\""));
    entries.push_back(*std::move(entry));
  }
  std::stable_sort(entries.begin(), entries.end(), [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
  });
  int64_t end = data_begin;
  for (const SafetensorsEntry& entry : entries) {
    if (entry.begin != end) {
      return absl::InvalidArgumentError(absl::StrCat("tensor \"", entry.tensor.name, "\" begins at byte ", entry.begin,
                                                     " where the one before ends at ", end));
    }
    end = entry.end;
  }
  if (end != file_bytes) {
    return absl::InvalidArgumentError(absl::StrCat("its tensors end at byte ", end, " and the file at ", file_bytes));
  }
  return entries;
}

}  // namespace muster
