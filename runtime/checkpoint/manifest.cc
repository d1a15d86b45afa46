#include "runtime/checkpoint/manifest.h"

#include <xxhash.h>

#include <nlohmann/json.hpp>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "runtime/base/status.h"
#include "runtime/checkpoint/json.h"
#include "runtime/checkpoint/names.h"
#include "runtime/checkpoint/safetensors.h"

namespace muster {
namespace {

constexpr char kFormat[] = "muster-checkpoint";
constexpr int64_t kVersion = 1;
constexpr int kDepthMax = 4;  // manifest, files, one file, its checksums
// The last line holds the checksum of all that stands before it, so it has one spelling.
constexpr char kLastLine[] = "\"checksum\":\"";
constexpr size_t kLastLineBytes = sizeof kLastLine - 1 + 16 + 3;

std::string Hexadecimal(uint64_t value) { return absl::StrFormat("%016x", value); }

absl::StatusOr<uint64_t> ParseHexadecimal(const std::string& text) {
  uint64_t value = 0;
  if (text.size() != 16 || !absl::SimpleHexAtoi(text, &value) || Hexadecimal(value) != text) {
    return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" is no checksum of 16 hexadecimal digits"));
  }
  return value;
}

std::string LastLine(absl::string_view before) {
  return absl::StrCat(kLastLine, Hexadecimal(XXH3_64bits(before.data(), before.size())), "\"}\n");
}

absl::StatusOr<ManifestFile> DecodeFile(const nlohmann::json& json, const SaveName& save, int index) {
  ManifestFile file;
  MUSTER_ASSIGN_OR_RETURN(file.name, JsonText(json, "name"));
  if (file.name != DataFileName(save, index)) {
    return absl::InvalidArgumentError(absl::StrCat("\"", file.name, "\" is no file of this save"));
  }
  MUSTER_ASSIGN_OR_RETURN(file.bytes, JsonCount(json, "bytes"));
  MUSTER_ASSIGN_OR_RETURN(const nlohmann::json* const checksums, JsonArray(json, "xxh3_64"));
  for (const nlohmann::json& item : *checksums) {
    const std::string* const text = item.get_ptr<const std::string*>();
    MUSTER_ASSIGN_OR_RETURN(const uint64_t checksum, ParseHexadecimal(text == nullptr ? "" : *text));
    file.chunk_checksums.push_back(checksum);
  }
  if (static_cast<int64_t>(file.chunk_checksums.size()) != ChunksOfBytes(file.bytes)) {
    return absl::InvalidArgumentError(
        absl::StrCat(file.chunk_checksums.size(), " checksums do not belong to ", file.bytes, " bytes"));
  }
  return file;
}

absl::Status DecodeTensor(const nlohmann::json& json, Manifest* manifest) {
  CheckpointTensor tensor;
  MUSTER_ASSIGN_OR_RETURN(tensor.name, JsonText(json, "name"));
  MUSTER_ASSIGN_OR_RETURN(const std::string type_name, JsonText(json, "type"));
  const std::optional<DataType> type = SafetensorsTypeOf(type_name);
  if (!type) return absl::InvalidArgumentError(absl::StrCat("type \"", type_name, "\" is not known here"));
  tensor.type = *type;
  MUSTER_ASSIGN_OR_RETURN(const nlohmann::json* const shape, JsonArray(json, "shape"));
  for (const nlohmann::json& item : *shape) {
    MUSTER_ASSIGN_OR_RETURN(const int64_t extent, JsonCount(item));
    tensor.shape.push_back(extent);
  }
  MUSTER_ASSIGN_OR_RETURN(const int64_t file, JsonCount(json, "file"));
  if (file >= static_cast<int64_t>(manifest->files.size())) {
    return absl::InvalidArgumentError(absl::StrCat("tensor \"", tensor.name, "\" is in file ", file, ", which there is not"));
  }
  MUSTER_ASSIGN_OR_RETURN(const int64_t offset, JsonCount(json, "offset"));
  manifest->places.push_back({static_cast<int>(file), offset});
  manifest->content.tensors.push_back(std::move(tensor));
  return absl::OkStatus();
}

// After CheckContent, which makes sure that bytes() is right.
absl::Status CheckPlaces(const Manifest& manifest) {
  for (size_t i = 0; i < manifest.places.size(); ++i) {
    const ManifestPlace& place = manifest.places[i];
    const CheckpointTensor& tensor = manifest.content.tensors[i];
    const int64_t file_bytes = manifest.files[static_cast<size_t>(place.file)].bytes;
    if (place.offset > file_bytes || tensor.bytes() > file_bytes - place.offset) {
      return absl::InvalidArgumentError(absl::StrCat("tensor \"", tensor.name, "\" reaches beyond its file"));
    }
  }
  return absl::OkStatus();
}

absl::Status DecodeHead(const nlohmann::json& json, Manifest* manifest) {
  MUSTER_ASSIGN_OR_RETURN(const std::string format, JsonText(json, "format"));
  MUSTER_ASSIGN_OR_RETURN(const int64_t version, JsonCount(json, "version"));
  if (format != kFormat) return absl::InvalidArgumentError(absl::StrCat("\"", format, "\" is no ", kFormat));
  if (version != kVersion) {
    return absl::InvalidArgumentError(absl::StrCat("version ", version, " is not known here; use a newer muster"));
  }
  CheckpointContent& content = manifest->content;
  MUSTER_ASSIGN_OR_RETURN(content.step, JsonCount(json, "step"));
  MUSTER_ASSIGN_OR_RETURN(content.generation, JsonUnsigned(json, "generation"));
  MUSTER_ASSIGN_OR_RETURN(const std::string save, JsonText(json, "save"));
  MUSTER_ASSIGN_OR_RETURN(const uint64_t save_id, ParseHexadecimal(absl::StrCat("00000000", save)));
  content.save_id = static_cast<uint32_t>(save_id);
  MUSTER_ASSIGN_OR_RETURN(content.job_id, JsonText(json, "job"));
  MUSTER_ASSIGN_OR_RETURN(manifest->committed_unix_ms, JsonCount(json, "committed_unix_ms"));
  MUSTER_ASSIGN_OR_RETURN(const int64_t chunk_bytes, JsonCount(json, "chunk_bytes"));
  if (chunk_bytes != kCheckpointChunkBytes) {
    return absl::InvalidArgumentError(absl::StrCat("chunks of ", chunk_bytes, " bytes are not known here"));
  }
  MUSTER_ASSIGN_OR_RETURN(const nlohmann::json* const attributes, JsonObject(json, "attributes"));
  for (auto attribute = attributes->begin(); attribute != attributes->end(); ++attribute) {
    const std::string* const value = attribute->get_ptr<const std::string*>();
    if (value == nullptr) return absl::InvalidArgumentError(absl::StrCat("attribute \"", attribute.key(), "\" is no text"));
    content.attributes[attribute.key()] = *value;
  }
  return absl::OkStatus();
}

}  // namespace

int64_t ChunksOfBytes(int64_t file_bytes) {
  return file_bytes / kCheckpointChunkBytes + (file_bytes % kCheckpointChunkBytes != 0 ? 1 : 0);
}

Manifest MakeManifest(const CheckpointContent& content, const std::vector<CheckpointFilePlan>& plan,
                      const std::vector<WrittenFile>& written, int64_t committed_unix_ms) {
  Manifest manifest{content, committed_unix_ms, {}, std::vector<ManifestPlace>(content.tensors.size())};
  for (size_t i = 0; i < plan.size(); ++i) {
    manifest.files.push_back({DataFileName(SaveOf(content), static_cast<int>(i)), plan[i].bytes, written[i].chunk_checksums});
    SafetensorsSize size;
    for (const int place : plan[i].tensors) size.Add(content.tensors[static_cast<size_t>(place)]);
    int64_t offset = size.header_bytes();
    for (const int place : plan[i].tensors) {
      manifest.places[static_cast<size_t>(place)] = {static_cast<int>(i), offset};
      offset += content.tensors[static_cast<size_t>(place)].bytes();
    }
  }
  return manifest;
}

std::string EncodeManifest(const Manifest& manifest) {
  const CheckpointContent& content = manifest.content;
  std::string text =
      absl::StrCat("{\n\"format\":\"", kFormat, "\",\n\"version\":", kVersion, ",\n\"step\":", content.step,
                   ",\n\"generation\":", content.generation, ",\n\"save\":\"", absl::StrFormat("%08x", content.save_id),
                   "\",\n\"job\":", JsonString(content.job_id), ",\n\"committed_unix_ms\":", manifest.committed_unix_ms,
                   ",\n\"chunk_bytes\":", kCheckpointChunkBytes, ",\n\"attributes\":{");
  const char* separator = "\n";
  for (const auto& [name, value] : content.attributes) {
    absl::StrAppend(&text, separator, JsonString(name), ":", JsonString(value));
    separator = ",\n";
  }
  absl::StrAppend(&text, "},\n\"files\":[");
  separator = "\n";
  for (const ManifestFile& file : manifest.files) {
    absl::StrAppend(&text, separator, "{\"name\":", JsonString(file.name), ",\"bytes\":", file.bytes, ",\"xxh3_64\":[");
    absl::StrAppend(&text, absl::StrJoin(file.chunk_checksums, ",", [](std::string* out, uint64_t checksum) {
      absl::StrAppend(out, "\"", Hexadecimal(checksum), "\"");
    }));
    absl::StrAppend(&text, "]}");
    separator = ",\n";
  }
  absl::StrAppend(&text, "],\n\"tensors\":[");
  separator = "\n";
  for (size_t i = 0; i < content.tensors.size(); ++i) {
    const CheckpointTensor& tensor = content.tensors[i];
    absl::StrAppend(&text, separator, "{\"name\":", JsonString(tensor.name), ",\"type\":\"", SafetensorsType(tensor.type),
                    "\",\"shape\":[", absl::StrJoin(tensor.shape, ","), "],\"file\":", manifest.places[i].file,
                    ",\"offset\":", manifest.places[i].offset, "}");
    separator = ",\n";
  }
  absl::StrAppend(&text, "],\n");
  text += LastLine(text);
  return text;
}

absl::StatusOr<Manifest> DecodeManifest(absl::string_view text) {
  if (text.size() < kLastLineBytes) return absl::InvalidArgumentError("it is cut short");
  const absl::string_view before = text.substr(0, text.size() - kLastLineBytes);
  if (text.substr(before.size()) != LastLine(before)) {
    return absl::InvalidArgumentError("its last line is not the checksum of the lines before");
  }
  MUSTER_ASSIGN_OR_RETURN(const nlohmann::json json, ParseJson(text, kDepthMax));
  Manifest manifest;
  MUSTER_RETURN_IF_ERROR(DecodeHead(json, &manifest));
  MUSTER_ASSIGN_OR_RETURN(const nlohmann::json* const files, JsonArray(json, "files"));
  for (const nlohmann::json& item : *files) {
    auto file = DecodeFile(item, SaveOf(manifest.content), static_cast<int>(manifest.files.size()));
    if (!file.ok()) return Annotate(file.status(), absl::StrCat("file ", manifest.files.size()));
    manifest.files.push_back(*std::move(file));
  }
  MUSTER_ASSIGN_OR_RETURN(const nlohmann::json* const tensors, JsonArray(json, "tensors"));
  for (const nlohmann::json& item : *tensors) {
    const absl::Status status = DecodeTensor(item, &manifest);
    if (!status.ok()) return Annotate(status, absl::StrCat("tensor ", manifest.places.size()));
  }
  MUSTER_RETURN_IF_ERROR(CheckContent(manifest.content));
  MUSTER_RETURN_IF_ERROR(CheckPlaces(manifest));
  return manifest;
}

}  // namespace muster
