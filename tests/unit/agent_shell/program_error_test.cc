#include "launcher/agent/program_error.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "launcher/agent/network_interface.h"

namespace muster {
namespace {

using ::testing::EndsWith;
using ::testing::StartsWith;

// As PyTorch 1.13 writes it.
constexpr char kWritten[] = R"({"message": {"message": "RuntimeError: the loss is nan", "extraInfo": {"py_callstack":
"Traceback (most recent call last):\n  File \"/usr/lib/python3/dist-packages/torch/errors.py\", line 346, in wrapper\n    return f(*args)\n  File \"/home/ann/train.py\", line 41, in main\n    raise RuntimeError(\"the loss is nan\")\nRuntimeError: the loss is nan\n",
"timestamp": "1700000000"}}})";

std::string Escaped() {  // JSON knows no line end inside a string
  std::string text = kWritten;
  for (char& byte : text) byte = byte == '\n' ? ' ' : byte;
  return text;
}

TEST(ProgramError, NamesTheExceptionAndTheInnermostCall) {
  const auto error = ParseProgramError(Escaped());
  ASSERT_TRUE(error);
  EXPECT_EQ(error->error, "RuntimeError: the loss is nan (train.py, line 41)");
  EXPECT_THAT(error->trace, StartsWith("Traceback (most recent call last):\n  File"));
  EXPECT_THAT(error->trace, EndsWith("RuntimeError: the loss is nan\n"));
}

TEST(ProgramError, PrefersTheProgramsOwnLineToTheDepthsOfALibrary) {
  const std::string own = R"(File \"/home/ann/train.py\", line 41, in main\n)";
  const std::string library = R"(  File \"/usr/lib/python3/dist-packages/torch/a.py\", line 7, in f\n)";
  const auto error_of = [](const std::string& trace) {
    return ParseProgramError(R"({"message": {"message": "RuntimeError: x", "extraInfo": {"py_callstack": ")" + trace + "\"}}}")
        ->error;
  };
  EXPECT_EQ(error_of(own + library), "RuntimeError: x (train.py, line 41)");
  EXPECT_EQ(error_of(library), "RuntimeError: x (a.py, line 7)");
}

TEST(ProgramError, TakesAPlainMessageAndNeedsNothingElse) {
  EXPECT_EQ(ParseProgramError(R"({"message": "out of tape"})")->error, "out of tape");
  EXPECT_EQ(ParseProgramError(R"({"message": {"message": "out of tape"}})")->error, "out of tape");
  EXPECT_EQ(ParseProgramError(R"({"message": {"message": "out of tape", "extraInfo": 7}})")->error, "out of tape");
  EXPECT_EQ(ParseProgramError(R"({"message": {"message": "a", "extraInfo": {"py_callstack": "File \"x\", line 12345678901"}}})")
                ->error,
            "a");
}

TEST(ProgramError, IsOneBoundedLineOfCharacters) {
  EXPECT_EQ(ParseProgramError(R"({"message": "\n  first\tone\u001b[1m  \nsecond"})")->error, "first one [1m");
  std::string two_bytes;
  for (size_t i = 0; i < kProgramErrorBytesMax; ++i) two_bytes += "\xc3\xa4";
  for (const char* shift : {"", "x"}) {
    const std::string error = ParseProgramError(std::string("{\"message\": \"") + shift + two_bytes + "\"}")->error;
    EXPECT_LE(error.size(), kProgramErrorBytesMax + 3);
    EXPECT_THAT(error, EndsWith("\xc3\xa4..."));
  }
  const auto deep = ParseProgramError("{\"message\": {\"message\": \"deep\", \"extraInfo\": {\"py_callstack\": \"" +
                                      std::string(100'000, 'a') + "end\"}}}");
  EXPECT_LE(deep->trace.size(), kProgramTraceBytesMax + 3);
  EXPECT_THAT(deep->trace, EndsWith("end"));
}

TEST(ProgramError, WhatIsNotUnderstoodIsNothing) {
  for (const char* text : {"", "{", "null", "[]", "7", "{}", R"({"message": 7})", R"({"message": ""})", R"({"message": {}})",
                           R"({"message": {"message": null}})", "{\"message\": \"\xff\"}"}) {
    EXPECT_FALSE(ParseProgramError(text)) << text;
  }
  EXPECT_FALSE(ParseProgramError(std::string(100'000, '[')));
}

TEST(ProgramError, ReadsAFileAndNothingThatOnlyStandsInItsPlace) {
  std::string folder = (std::filesystem::temp_directory_path() / "muster-test-XXXXXX").string();
  ASSERT_NE(::mkdtemp(folder.data()), nullptr);
  const std::string file = ProgramErrorFile(folder, 3);
  EXPECT_EQ(file, folder + "/error-of-rank-3.json");
  EXPECT_FALSE(ReadProgramError(file));
  std::ofstream(file) << Escaped();
  ASSERT_TRUE(ReadProgramError(file));
  EXPECT_THAT(ReadProgramError(file)->error, StartsWith("RuntimeError"));
  std::ofstream(file) << "{\"message\": \"" << std::string(kProgramErrorFileBytesMax, 'a') << "\"}";
  EXPECT_FALSE(ReadProgramError(file)) << "longer than what may be read";
  std::filesystem::remove(file);
  std::ofstream(folder + "/other") << Escaped();
  std::filesystem::create_symlink(folder + "/other", file);
  EXPECT_FALSE(ReadProgramError(file)) << "a link leads to another's file";
  std::filesystem::remove(file);
  ASSERT_EQ(::mkfifo(file.c_str(), 0600), 0);
  EXPECT_FALSE(ReadProgramError(file)) << "a pipe that nobody writes must not hold us up";
  std::filesystem::remove_all(folder);
}

TEST(Traceback, OfAnUncaughtExceptionEndsTheProgramsStderr) {
  const std::string trace =
      "Traceback (most recent call last):\n  File \"/home/ann/train.py\", line 41, in <module>\n    main()\nValueError: no "
      "data\n";
  const auto error = ParseTraceback("epoch 3\n" + trace);
  ASSERT_TRUE(error);
  EXPECT_EQ(error->error, "ValueError: no data (train.py, line 41)");
  EXPECT_EQ(error->trace, trace);
  EXPECT_EQ(ParseTraceback(trace)->error, error->error);
  // Of a chain of exceptions the last one ends it.
  const std::string chained = "During handling of the above exception, another exception occurred:\n\n";
  EXPECT_EQ(
      ParseTraceback(trace + "\n" + chained + "Traceback (most recent call last):\n  File \"a.py\", line 2, in f\nOSError: b")
          ->error,
      "OSError: b (a.py, line 2)");
  EXPECT_EQ(ParseTraceback(
                "[rank1]: Traceback (most recent call last):\n[rank1]:   File \"a.py\", line 2, in f\n[rank1]: OSError: b\n")
                ->error,
            "OSError: b (a.py, line 2)");
  EXPECT_TRUE(ParseTraceback(trace + "terminate called\n")) << "a word or two of what ends with it";
  std::string goes_on = trace;
  for (int i = 0; i < 6; ++i) goes_on += "epoch\n";
  EXPECT_FALSE(ParseTraceback(goes_on)) << "it was caught, and the program went on";
  for (const char* text :
       {"", "\n", "error\n", "Traceback (most recent call last):", "Traceback (most recent call last):\n  File \"a\"\n"}) {
    EXPECT_FALSE(ParseTraceback(text)) << text;
  }
}

TEST(ErrorTails, KeepTheLastOfEachRank) {
  ErrorTails tails;
  EXPECT_EQ(tails.Of(0), "");
  tails.Add(0, "one\n");
  tails.Add(1, "other\n");
  tails.Add(0, "two\n");
  EXPECT_EQ(tails.Of(0), "one\ntwo\n");
  for (int i = 0; i < 10'000; ++i) tails.Add(0, "line\n");
  tails.Add(0, "last\n");
  EXPECT_LE(tails.Of(0).size(), 4 * kProgramTraceBytesMax);
  EXPECT_GE(tails.Of(0).size(), kProgramTraceBytesMax);
  EXPECT_THAT(std::string(tails.Of(0)), EndsWith("line\nlast\n"));
  tails.Add(0, std::string(1 << 20, 'x') + "end");
  EXPECT_THAT(std::string(tails.Of(0)), EndsWith("xend"));
  EXPECT_LE(tails.Of(0).size(), 4 * kProgramTraceBytesMax);
  tails.Forget(0);
  EXPECT_EQ(tails.Of(0), "");
  EXPECT_EQ(tails.Of(1), "other\n");
}

TEST(NetworkInterface, IsFoundByItsAddressAndNeverLoopback) {
  EXPECT_EQ(InterfaceWith("127.0.0.1"), "");
  EXPECT_EQ(InterfaceWith("::1"), "");
  EXPECT_EQ(InterfaceWith("192.0.2.77"), "");  // for documentation: nobody has it
  EXPECT_EQ(InterfaceWith("node-a"), "");
  EXPECT_EQ(InterfaceWith(""), "");
}

TEST(Traceback, IsFoundBeforeTheBoxThatOpenMpiDrawsForAnAbort) {
  const std::string rule(74, '-'),
      trace = "Traceback (most recent call last):\n  File \"a.py\", line 3, in <module>\nValueError: no tape\n";
  const std::string box = rule + "\nMPI_ABORT was invoked on rank 1\nwith errorcode 1.\n\nNOTE: a\nb\nc\nd\n" + rule + "\n";
  ASSERT_TRUE(ParseTraceback(trace + box));
  EXPECT_EQ(ParseTraceback(trace + box)->error, "ValueError: no tape (a.py, line 3)");
  EXPECT_FALSE(ParseTraceback(trace + box + "1\n2\n3\n4\n5\n6\n"));  // it went on
}

}  // namespace
}  // namespace muster
