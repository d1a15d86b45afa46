#include "runtime/transport/frame.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/transport/wire.h"

namespace muster {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr uint64_t kGeneration = 5;

std::string Header(const MeshFrame& frame) {
  std::string bytes(kMeshHeaderBytes, '\0');
  StoreMeshFrame(frame, bytes.data());
  return bytes;
}

// What a parser makes of `bytes` fed in parts of `step`; data bodies are taken as the parser's user would.
std::vector<std::string> Parse(const std::string& bytes, size_t step, uint64_t* stale = nullptr, bool* boundary = nullptr) {
  MeshFrameParser parser(kGeneration);
  std::vector<std::string> events;
  uint64_t body = 0;
  for (size_t at = 0; at < bytes.size(); at += step) {
    absl::string_view part = absl::string_view(bytes).substr(at, step);
    while (!part.empty()) {
      const uint64_t taken = std::min<uint64_t>(body, part.size());
      part.remove_prefix(taken);
      body -= taken;
      if (part.empty()) break;
      const auto event = parser.Next(&part);
      if (!event.ok()) {
        events.push_back(absl::StrCat("error: ", event.status().message()));
        return events;
      }
      switch (*event) {
        case MeshFrameParser::Event::kMore:
          EXPECT_TRUE(part.empty());
          break;
        case MeshFrameParser::Event::kOpen:
          events.push_back("open");
          break;
        case MeshFrameParser::Event::kLeave:
          events.push_back("leave");
          break;
        case MeshFrameParser::Event::kData:
          body = parser.frame().length;
          events.push_back(absl::StrCat("data ", parser.frame().tag.op_seq, " ", parser.frame().tag.segment, " ", body));
          break;
        case MeshFrameParser::Event::kAbort:
          events.push_back(absl::StrCat("abort ", static_cast<int>(parser.abort().reason), " ", parser.abort().rank, " ",
                                        parser.abort().detail, " ", parser.abort().text));
          break;
      }
    }
  }
  if (stale != nullptr) *stale = parser.stale_frames();
  if (boundary != nullptr) *boundary = parser.at_boundary();
  return events;
}

MeshFrame Data(uint64_t op_seq, uint32_t segment, uint64_t length, uint64_t generation = kGeneration) {
  return {MeshFrameType::kData, generation, {op_seq, segment}, length};
}

TEST(FrameParser, FindsFramesHoweverTheBytesComeIn) {
  const std::string bytes = Header({.type = MeshFrameType::kOpen, .generation = kGeneration}) + Header(Data(7, 3, 5)) +
                            "hello" + Header(Data(7, 4, 0)) + Header(Data(6, 1, 40, kGeneration - 1)) + std::string(40, 'x') +
                            MeshAbortBytes(kGeneration, {v1::AbortReason::kMismatch, 2, 9, "rank 2 called barrier"}) +
                            Header({.type = MeshFrameType::kLeave, .generation = kGeneration});
  for (size_t step = 1; step <= bytes.size(); ++step) {
    uint64_t stale = 0;
    bool boundary = false;
    EXPECT_THAT(Parse(bytes, step, &stale, &boundary),
                ElementsAre("open", "data 7 3 5", "data 7 4 0", "abort 3 2 9 rank 2 called barrier", "leave"))
        << "parts of " << step;
    EXPECT_EQ(stale, 1u);
    EXPECT_TRUE(boundary);
  }
}

TEST(FrameParser, KnowsWhetherAnEndIsInTheMiddle) {
  const std::string abort = MeshAbortBytes(kGeneration, {v1::AbortReason::kAborted, 1, 0, "why"});
  const std::string stale = Header(Data(1, 1, 3, 1)) + "abc";
  for (const std::string& bytes : {abort, stale}) {
    for (size_t length = 1; length <= bytes.size(); ++length) {
      bool boundary = false;
      Parse(bytes.substr(0, length), length, nullptr, &boundary);
      EXPECT_EQ(boundary, length == bytes.size()) << length;
    }
  }
}

TEST(FrameParser, AFrameOfAnOlderGenerationIsDroppedWhateverItIs) {
  for (const MeshFrameType type : {MeshFrameType::kOpen, MeshFrameType::kData, MeshFrameType::kAbort, MeshFrameType::kLeave}) {
    uint64_t stale = 0;
    const std::string bytes = Header({.type = type, .generation = 4, .length = 11}) + "hello world" + Header(Data(1, 2, 0));
    EXPECT_THAT(Parse(bytes, 7, &stale), ElementsAre("data 1 2 0"));
    EXPECT_EQ(stale, 1u);
  }
}

TEST(FrameParser, WhatIsNoFrameIsAnError) {
  EXPECT_THAT(Parse(Header(Data(1, 1, 1, kGeneration + 1)), 32),
              ElementsAre("error: a frame of generation 6, this is generation 5"));
  EXPECT_THAT(Parse(Header(Data(1, 1, kMeshMessageMax + 1)), 32), ElementsAre(HasSubstr("error: a frame of 281474976710657")));
  EXPECT_THAT(Parse(Header(Data(1, 1, kMeshMessageMax + 1, 1)), 32), ElementsAre(HasSubstr("error: a frame of")));
  EXPECT_THAT(Parse(Header(Data(1, 1, kMeshMessageMax)), 32), ElementsAre("data 1 1 281474976710656"));
  EXPECT_THAT(Parse("GET / HTTP/1.1\r\nHost: rank-0.example\r\n\r\n", 32), ElementsAre("error: bytes that are no frame"));
  for (const uint16_t type : {0, 5, 65535}) {
    EXPECT_THAT(Parse(Header({.type = static_cast<MeshFrameType>(type), .generation = kGeneration}), 32),
                ElementsAre("error: bytes that are no frame"));
  }
  for (const MeshFrameType type : {MeshFrameType::kOpen, MeshFrameType::kLeave}) {
    EXPECT_THAT(Parse(Header({.type = type, .generation = kGeneration, .length = 1}), 32), ElementsAre(HasSubstr("error: ")));
  }
  for (const uint64_t length : {uint64_t{0}, uint64_t{kMeshAbortBytes - 1}, uint64_t{kMeshAbortBytes + kMeshTextMax + 1}}) {
    EXPECT_THAT(Parse(Header({.type = MeshFrameType::kAbort, .generation = kGeneration, .length = length}), 32),
                ElementsAre(HasSubstr("error: ")));
  }
}

TEST(FrameParser, AnAbortKeepsWhatThisProgramKnows) {
  const std::string text(kMeshTextMax + 100, 't');
  std::string bytes = MeshAbortBytes(kGeneration, {v1::AbortReason::kPeerLost, v1::kNoRank, 0xffffffff, text});
  EXPECT_EQ(bytes.size(), kMeshHeaderBytes + kMeshAbortBytes + kMeshTextMax);
  EXPECT_THAT(Parse(bytes, 100), ElementsAre(absl::StrCat("abort 1 16777215 4294967295 ", text.substr(0, kMeshTextMax))));
  // A reason of a later version, or none: still an abort.
  for (const uint32_t reason : {0u, 8u, 0xffffffffu}) {
    StoreWire<uint32_t>(reason, bytes.data() + kMeshHeaderBytes);
    EXPECT_THAT(Parse(bytes, 100), ElementsAre(testing::StartsWith("abort 4 ")));
  }
}

}  // namespace
}  // namespace muster
