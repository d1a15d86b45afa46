// Damage of every kind, to every file: named, never taken for data, never a crash.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <xxhash.h>

#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "runtime/checkpoint/json.h"
#include "runtime/checkpoint/manifest.h"
#include "runtime/checkpoint/names.h"
#include "runtime/checkpoint/safetensors.h"
#include "tests/support/checkpoint_writer.h"
#include "tests/support/recording_file_system.h"

namespace muster {
namespace {

using testing::HasSubstr;

constexpr char kFolder[] = "/data/run";

uint64_t Seed() {
  const char* const given = getenv("MUSTER_TEST_SEED");
  return given != nullptr ? strtoull(given, nullptr, 10) : 20261121;
}

Disk DiskWithOne() {
  RecordingFileSystem files;
  EXPECT_TRUE(CheckpointWriter(&files, kFolder, 1).Save(10).ok());
  return files.disk();
}

struct Found {
  absl::Status verified;
  absl::Status read;
};

// What verifying and reading say of the one checkpoint on `disk`.
Found Look(const Disk& disk) {
  RecordingFileSystem files(disk);
  const auto entries = ListCheckpoints(files, kFolder);
  EXPECT_TRUE(entries.ok()) << entries.status();
  EXPECT_EQ(entries->size(), 1u);
  const CheckpointEntry& entry = entries->at(0);
  const CheckpointContent expected = CheckpointWriter::ContentOf(10, 1, 1);
  std::vector<std::vector<std::byte>> tensors;
  for (const CheckpointTensor& tensor : expected.tensors) tensors.emplace_back(static_cast<size_t>(tensor.bytes()));
  Found found;
  found.verified = VerifyCheckpoint(files, entry);
  found.read = ReadCheckpoint(files, entry, [&](int tensor) { return std::span(tensors[static_cast<size_t>(tensor)]); });
  return found;
}

void ExpectDamage(const Disk& disk, const std::string& file, const std::string& what) {
  const Found found = Look(disk);
  EXPECT_TRUE(absl::IsDataLoss(found.verified)) << file << ", " << what << ": " << found.verified;
  EXPECT_THAT(std::string(found.verified.message()), HasSubstr(file)) << what;
  EXPECT_TRUE(absl::IsDataLoss(found.read)) << file << ", " << what << ": " << found.read;
  EXPECT_THAT(std::string(found.read.message()), HasSubstr(file)) << what;
}

TEST(Damage, EveryBitOfEveryFileIsCovered) {
  const Disk disk = DiskWithOne();
  ASSERT_EQ(Look(disk).verified, absl::OkStatus());
  int flips = 0;
  for (const auto& [path, bytes] : disk.files) {
    Disk damaged = disk;
    std::string& file = damaged.files.at(path);
    for (size_t i = 0; i < bytes.size(); ++i) {
      for (int bit = 0; bit < 8; ++bit, ++flips) {
        file[i] = static_cast<char>(bytes[i] ^ (1 << bit));
        ExpectDamage(damaged, path, absl::StrCat("bit ", bit, " of byte ", i));
        if (HasFailure()) return;
      }
      file[i] = bytes[i];
    }
  }
  EXPECT_GT(flips, 8000);
}

TEST(Damage, ALargeFileNamesItsTensorAndBytes) {
  RecordingFileSystem files;
  CheckpointContent content;
  content.tensors = {{"first", DataType::kUint8, {3 * kCheckpointChunkBytes}}, {"second", DataType::kUint8, {1000}}};
  const std::vector<CheckpointFilePlan> plan = PlanFiles(content);
  ASSERT_EQ(StartSave(files, kFolder, content), absl::OkStatus());
  const auto written = CheckpointWriter::WriteFiles(files, kFolder, content, plan);
  ASSERT_EQ(CommitSave(files, kFolder, content, plan, *written), absl::OkStatus());
  const std::string path = "/data/run/step-0/" + DataFileName(SaveOf(content), 0);
  Disk disk = files.disk();
  std::string& file = disk.files.at(path);
  std::mt19937_64 random(Seed());
  for (int i = 0; i < 20; ++i) {
    const size_t at = random() % file.size();
    const char flipped = static_cast<char>(1 << random() % 8);
    file[at] ^= flipped;
    RecordingFileSystem damaged(disk);
    const absl::Status status = VerifyCheckpoint(damaged, ListCheckpoints(damaged, kFolder)->at(0));
    const size_t chunk = at / kCheckpointChunkBytes * kCheckpointChunkBytes;
    EXPECT_THAT(std::string(status.message()), HasSubstr(absl::StrCat(path, " is damaged: bytes ", chunk, " to ")));
    EXPECT_THAT(std::string(status.message()), HasSubstr("tensor \"first\" from its byte ")) << "seed " << Seed();
    // A tensor that does not lie in the damaged bytes can still be read.
    std::vector<std::byte> second(1000);
    const absl::Status read = ReadCheckpoint(damaged, ListCheckpoints(damaged, kFolder)->at(0), [&](int tensor) {
      return tensor == 1 ? std::span(second) : std::span<std::byte>();
    });
    EXPECT_EQ(read.ok(), chunk + kCheckpointChunkBytes < file.size()) << read;
    file[at] ^= flipped;
  }
}

TEST(Damage, FilesCutShortEmptyLongerOrMissing) {
  const Disk disk = DiskWithOne();
  for (const auto& [path, bytes] : disk.files) {
    Disk damaged = disk;
    for (size_t length = 0; length < bytes.size(); ++length) {
      damaged.files.at(path) = bytes.substr(0, length);
      ExpectDamage(damaged, path, absl::StrCat("cut to ", length));
    }
    damaged.files.at(path) = bytes + "x";
    ExpectDamage(damaged, path, "longer");
    damaged.files.at(path) = bytes + bytes;
    ExpectDamage(damaged, path, "twice");
    damaged.files.at(path) = std::string(bytes.size(), '\0');
    ExpectDamage(damaged, path, "zeros");
    if (path.ends_with(kManifestName)) continue;
    damaged.files.erase(path);
    ExpectDamage(damaged, path, "missing");
  }
}

TEST(Damage, AManifestOfAnotherStepIsNone) {
  Disk disk = DiskWithOne();
  Disk moved;
  moved.folders = {"/", "/data", "/data/run", "/data/run/step-11"};
  for (const auto& [path, bytes] : disk.files) moved.files[absl::StrReplaceAll(path, {{"step-10", "step-11"}})] = bytes;
  const Found found = Look(moved);
  EXPECT_THAT(std::string(found.verified.message()), HasSubstr("it is that of step 10"));
}

// `text`, whatever it is, with the right checksum behind it.
std::string Signed(const std::string& before) {
  return absl::StrCat(before, absl::StrFormat("\"checksum\":\"%016x\"}\n", XXH3_64bits(before.data(), before.size())));
}

std::string WithoutChecksum(const std::string& manifest) { return manifest.substr(0, manifest.rfind("\"checksum\"")); }

TEST(Manifest, WhatIsSignedButWrongIsRefused) {
  const Disk disk = DiskWithOne();
  const std::string whole = WithoutChecksum(disk.files.at("/data/run/step-10/manifest.json"));
  ASSERT_TRUE(DecodeManifest(Signed(whole)).ok());
  const std::vector<std::pair<std::string, std::string>> changes = {
      {"\"version\":1", "\"version\":2"},
      {"\"version\":1", "\"version\":1,\"version\":1"},
      {"\"version\":1", "\"version\":-1"},
      {"\"version\":1", "\"version\":1.0"},
      {"\"version\":1", "\"version\":1e999"},
      {"\"version\":1", "\"version\":\"1\""},
      {"muster-checkpoint", "other-checkpoint"},
      {"\"step\":10", "\"step\":18446744073709551616"},
      {"\"step\":10", "\"step\":9223372036854775808"},
      {"\"step\":10", "\"step\":null"},
      {"\"generation\":1", "\"generation\":2"},  // names only files of its own save
      {"\"save\":\"000003e9\"", "\"save\":\"000003ea\""},
      {"\"save\":\"000003e9\"", "\"save\":\"3e9\""},
      {"\"chunk_bytes\":4194304", "\"chunk_bytes\":1"},
      {"\"cursor\":\"640\"", "\"cursor\":640"},
      {"\"cursor\":\"640\"", "\"cursor\":\"640\",\"cursor\":\"641\""},
      {"g1-000003e9-00000", "../g1-000003e9-00000"},
      {"g1-000003e9-00001", "g1-000003e9-00000"},
      {"\"bytes\":", "\"bytes\":99999"},
      {"\"xxh3_64\":[\"", "\"xxh3_64\":[\"0\",\""},
      {"\"xxh3_64\":[\"", "\"xxh3_64\":[7,\""},
      {"\"name\":\"bias\"", "\"name\":\"weight\""},
      {"\"name\":\"bias\"", "\"name\":\"__metadata__\""},
      {"\"type\":\"BF16\"", "\"type\":\"C64\""},
      {"\"shape\":[2,3]", "\"shape\":[2,-3]"},
      {"\"shape\":[2,3]", "\"shape\":[2,3000]"},
      {"\"shape\":[2,3]", "\"shape\":[4611686018427387904,4611686018427387904]"},
      {"\"shape\":[2,3]", "\"shape\":[4611686018427387904,4611686018427387904,0]"},
      {"\"shape\":[2,3]", "\"shape\":{}"},
      {"\"file\":0", "\"file\":99999999999"},
      {"\"offset\":", "\"offset\":9223372036854775"},
      {"\"tensors\":[", "\"tensors\":[7,"},
      {"\"files\":[", "\"file\":["},
      {"{\n\"format\"", "[\n\"format\""},
      {"\"attributes\":{", "\"attributes\":{\"deep\":" + std::string(100'000, '[') + std::string(100'000, ']') + ","},
      {"\"attributes\":{", "\"attributes\":{\"deep\":" + std::string(1'000'000, '[')},
      {"\"attributes\":{", "\"attributes\":{\"\xff\xfe\":\"\","},
  };
  for (const auto& [from, to] : changes) {
    std::string changed = whole;
    const size_t at = changed.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    changed.replace(at, from.size(), to);
    const auto manifest = DecodeManifest(Signed(changed));
    EXPECT_EQ(manifest.status().code(), absl::StatusCode::kInvalidArgument) << to.substr(0, 60);
  }
  EXPECT_FALSE(DecodeManifest("").ok());
  EXPECT_FALSE(DecodeManifest(Signed("")).ok());
  EXPECT_FALSE(DecodeManifest(Signed("{")).ok());
  EXPECT_FALSE(DecodeManifest(Signed("null,")).ok());
}

TEST(Manifest, GarbageThatIsSignedNeverCrashes) {
  const Disk disk = DiskWithOne();
  const std::string whole = WithoutChecksum(disk.files.at("/data/run/step-10/manifest.json"));
  std::mt19937_64 random(Seed());
  constexpr char kBytes[] = "{}[]\",:0123456789-.eEtrufalsn \\\n\xff\x00\xc3";
  for (int i = 0; i < 20'000; ++i) {
    std::string changed = whole;
    for (uint64_t k = random() % 4 + 1; k-- > 0;) {
      const size_t at = random() % changed.size();
      switch (random() % 3) {
        case 0:
          changed[at] = kBytes[random() % (sizeof kBytes - 1)];
          break;
        case 1:
          changed.erase(at, random() % 20);
          break;
        case 2:
          changed.insert(at, changed.substr(random() % changed.size(), random() % 30));
          break;
      }
    }
    static_cast<void>(DecodeManifest(Signed(changed)));
  }
}

std::string File(const std::string& header, const std::string& data = "") {
  std::string file(8, '\0');
  for (size_t i = 0, length = header.size(); i < 8; ++i, length >>= 8) file[i] = static_cast<char>(length & 0xff);
  return file + header + data;
}

TEST(Safetensors, HeadersOfOthersAreRead) {
  const std::string file = File(R"({"__metadata__":{"format":"pt"},"b":{"dtype":"U8","shape":[2],"data_offsets":[8,10]},)"
                                R"("a":{"data_offsets":[0,8],"shape":[1,2],"dtype":"F32"}}   )",
                                std::string(10, 'x'));
  const auto entries = ParseSafetensorsHeader(file, static_cast<int64_t>(file.size()));
  ASSERT_TRUE(entries.ok()) << entries.status();
  ASSERT_EQ(entries->size(), 2u);
  EXPECT_EQ(entries->at(0).tensor, (CheckpointTensor{"a", DataType::kFloat32, {1, 2}}));
  EXPECT_EQ(entries->at(1).tensor, (CheckpointTensor{"b", DataType::kUint8, {2}}));
  EXPECT_EQ(entries->at(1).end, static_cast<int64_t>(file.size()));
}

TEST(Safetensors, BadHeadersAreRefused) {
  const std::string good = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  const std::vector<std::string> files = {
      "",
      "1234567",
      std::string(8, '\xff'),
      File("") + std::string(8, '\0'),
      File(good).substr(0, 30),
      File(good),                       // no data
      File(good, std::string(7, 'x')),  // too little
      File(good, std::string(9, 'x')),  // too much
      File("[]"),
      File("null"),
      File("{\"a\":1}"),
      File(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
           std::string(8, 'x')),                                                                 // twice
      File(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})", std::string(12, 'x')),  // a gap
      File(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", std::string(8, 'x')),
      File(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0]}})", std::string(8, 'x')),
      File(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,18446744073709551615]}})", std::string(8, 'x')),
      File(R"({"a":{"dtype":"F32","shape":[2,1e3],"data_offsets":[0,8]}})", std::string(8, 'x')),
      File(R"({"a":{"dtype":"F32","shape":[9223372036854775807,9223372036854775807],"data_offsets":[0,8]}})",
           std::string(8, 'x')),
      File(R"({"a":{"dtype":"X32","shape":[2],"data_offsets":[0,8]}})", std::string(8, 'x')),
      File(std::string(1'000'000, '[')),
      File("{\"a\":" + std::string(1'000'000, '{')),
      File(R"({"a":{"dtype":"F32","shape":[)" + std::string(500'000, '[') + std::string(500'000, ']') + "]}}"),
  };
  for (const std::string& file : files) {
    const auto entries = ParseSafetensorsHeader(file, static_cast<int64_t>(file.size()));
    EXPECT_EQ(entries.status().code(), absl::StatusCode::kInvalidArgument) << file.substr(0, 100);
  }
  EXPECT_FALSE(ParseSafetensorsHeader(File(good, std::string(8, 'x')).substr(0, 20), 1000).ok());
  EXPECT_TRUE(ParseSafetensorsHeader(File(good, std::string(8, 'x')), static_cast<int64_t>(File(good).size()) + 8).ok());
}

TEST(Verify, AFilesOwnHeaderMustSayWhatTheManifestSays) {
  // All checksums are right; only the two do not belong together.
  Disk disk = DiskWithOne();
  const std::string path = "/data/run/step-10/manifest.json";
  const std::string name =
      absl::StrReplaceAll(WithoutChecksum(disk.files.at(path)), {{"\"name\":\"bias\"", "\"name\":\"bios\""}});
  disk.files.at(path) = Signed(name);
  RecordingFileSystem files(disk);
  const absl::Status status = VerifyCheckpoint(files, ListCheckpoints(files, kFolder)->at(0));
  EXPECT_TRUE(absl::IsDataLoss(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("its header does not have tensor \"bios\""));
}

TEST(Json, Utf8) {
  for (const char* const good : {"", "a", "\x7f", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xee\x80\x80",
                                 "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf"}) {
    EXPECT_TRUE(IsUtf8(good)) << good;
  }
  for (const char* const bad : {"\x80", "\xc0\x80", "\xc1\xbf", "\xc2", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xf0\x8f\xbf\xbf",
                                "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "\xe2\x82", "a\xe2(\xa1"}) {
    EXPECT_FALSE(IsUtf8(bad)) << bad;
  }
}

}  // namespace
}  // namespace muster
