#include "runtime/rendezvous/worker_codec.h"

#include <cstdlib>
#include <random>
#include <string>

#include "gtest/gtest.h"
#include "muster/v1/worker.pb.h"

namespace muster {
namespace {

unsigned Seed() {
  const char* given = std::getenv("MUSTER_TEST_SEED");
  return given != nullptr ? static_cast<unsigned>(std::atoi(given)) : std::random_device()() % 1'000'000'000;
}

std::string Copied(const std::string& text, size_t field_bytes) {
  std::string field(field_bytes, 'x');
  CopyText(text, field.data(), field.size());
  return field.c_str();
}

TEST(WorkerCodec, TextIsCutBetweenCharactersAndMadeUtf8) {
  EXPECT_EQ(Copied("short", 10), "short");
  EXPECT_EQ(Copied("exactly 9", 10), "exactly 9");
  EXPECT_EQ(Copied("longer than the field", 10), "longer th");
  EXPECT_EQ(Copied("gr\xc3\xbc\xc3\x9f", 5), "gr\xc3\xbc");
  EXPECT_EQ(Copied("gr\xc3\xbc\xc3\x9f", 6), "gr\xc3\xbc") << "half a character is none";
  EXPECT_EQ(Copied("\xe2\x82\xac \xf0\x9f\x98\x80", 20), "\xe2\x82\xac \xf0\x9f\x98\x80");
  EXPECT_EQ(Copied("a\xff\xc3(\xe2\x82", 20),
            "a?"
            "?(?"
            "?");
  EXPECT_EQ(Copied("\xc0\xaf \xed\xa0\x80 \xf4\x90\x80\x80", 20), "?? ??? ????") << "overlong, a surrogate, too large";
}

// What the worker's side writes the agent's side reads, whatever text the user gave.
TEST(WorkerCodec, ProtobufReadsEveryBlame) {
  const unsigned seed = Seed();
  SCOPED_TRACE("MUSTER_TEST_SEED=" + std::to_string(seed) + " unit_rendezvous_test --gtest_filter=WorkerCodec.*");
  std::mt19937 random(seed);
  for (int round = 0; round < 2000; ++round) {
    std::string text(random() % 600, '\0');
    for (char& byte : text) byte = static_cast<char>(random());
    muster_v1_WorkerMessage message = NewWorkerMessage(std::string(16, 'j'), 7);
    message.which_kind = muster_v1_WorkerMessage_blame_tag;
    message.kind.blame.rank = 3;
    CopyText(text, message.kind.blame.message, sizeof message.kind.blame.message);
    const auto bytes = EncodeWorkerMessage(message);
    ASSERT_TRUE(bytes.ok()) << bytes.status();
    v1::WorkerMessage read;
    ASSERT_TRUE(read.ParseFromString(*bytes));
    EXPECT_EQ(read.generation(), 7u);
    EXPECT_EQ(read.blame().message(), message.kind.blame.message);
    EXPECT_LE(read.blame().message().size(), 512u);
  }
}

// The worker decodes nothing it should not, and never reads beyond its bounds (the address sanitizer looks).
TEST(WorkerCodec, RandomBytesDecodeOrAreRefused) {
  const unsigned seed = Seed();
  SCOPED_TRACE("MUSTER_TEST_SEED=" + std::to_string(seed) + " unit_rendezvous_test --gtest_filter=WorkerCodec.*");
  std::mt19937 random(seed);
  v1::AgentToWorker over;
  over.set_job_id(std::string(16, 'j'));
  over.mutable_over()->set_message(std::string(1000, 'm'));
  const std::string good = over.SerializeAsString();
  ASSERT_TRUE(DecodeAgentToWorker(good).ok());
  for (int round = 0; round < 5000; ++round) {
    std::string bytes = good.substr(0, random() % (good.size() + 1));
    for (int changes = 0; changes < 4 && !bytes.empty(); ++changes)
      bytes[random() % bytes.size()] = static_cast<char>(random());
    const auto message = DecodeAgentToWorker(bytes);
    EXPECT_TRUE(message.ok() || absl::IsInvalidArgument(message.status())) << message.status();
  }
}

}  // namespace
}  // namespace muster
