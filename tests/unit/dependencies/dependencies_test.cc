// Every #include of runtime/, launcher/, proto/ and examples/ points the way tests/unit/dependencies.txt allows.
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/dependencies/rules.h"

namespace muster {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

const fs::path kTop = MUSTER_SOURCE_DIR;

std::string Read(const fs::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

Rules ProjectRules() {
  absl::StatusOr<Rules> rules = ParseRules(Read(kTop / "tests/unit/dependencies.txt"));
  EXPECT_TRUE(rules.ok()) << rules.status();
  return rules.ok() ? *rules : Rules{};
}

// Paths from the top of the tree.
std::vector<std::string> Sources() {
  std::vector<std::string> found;
  for (const char* folder : {"runtime", "launcher", "proto", "examples"}) {
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(kTop / folder)) {
      const fs::path extension = entry.path().extension();
      if (extension == ".h" || extension == ".cc" || extension == ".c" || extension == ".inc") {
        found.push_back(fs::relative(entry.path(), kTop).string());
      }
    }
  }
  return found;
}

TEST(Dependencies, PointDownInTheWholeTree) {
  const Rules rules = ProjectRules();
  const std::vector<std::string> sources = Sources();
  ASSERT_GT(sources.size(), 20u) << "the sources are not where this test looks: " << kTop;
  for (const std::string& path : sources) {
    for (const std::string& violation : Violations(rules, path, Read(kTop / path))) ADD_FAILURE() << violation;
  }
}

TEST(Dependencies, EveryRoomIsAFolder) {
  for (const auto& [name, room] : ProjectRules()) EXPECT_TRUE(fs::is_directory(kTop / name)) << name;
}

// What the check must catch, planted under the project's own rules.
struct Planted {
  const char* path;
  const char* include;
  const char* objection;  // nullptr: allowed
};

class PlantedInclude : public ::testing::TestWithParam<Planted> {};

TEST_P(PlantedInclude, IsJudged) {
  const Planted& planted = GetParam();
  const std::string text = std::string("// A file.\n#include <vector>\n  #  include ") + planted.include + "\n";
  const std::vector<std::string> violations = Violations(ProjectRules(), planted.path, text);
  if (planted.objection == nullptr) {
    EXPECT_THAT(violations, IsEmpty());
  } else {
    ASSERT_THAT(violations, ElementsAre(HasSubstr(planted.objection)));
    EXPECT_THAT(violations[0], StartsWith(std::string(planted.path) + ":"));
  }
}

INSTANTIATE_TEST_SUITE_P(
    Rules, PlantedInclude,
    ::testing::Values(
        Planted{"runtime/shm/x.cc", "\"launcher/agent/worker_port.h\"", "may not include room launcher/agent"},
        Planted{"runtime/base/x.cc", "\"runtime/shm/waiter.h\"", "may not include room runtime/shm"},
        Planted{"runtime/training/x.cc", "\"runtime/backend/native/native.h\"", "may not include room runtime/backend/native"},
        Planted{"runtime/kernels/x.cc", "\"proto/muster/v1/control_memory.h\"", "may not include room proto"},
        Planted{"runtime/session/table/x.cc", "\"runtime/rendezvous/line.h\"", "may not include room runtime/rendezvous"},
        Planted{"runtime/session/table/x.cc", "<sys/socket.h>", "may not use library system"},
        Planted{"runtime/session/table/x.cc", "<thread>", "may not use library system"},
        Planted{"runtime/session/x.cc", "\"muster/v1/worker.pb.h\"", "may not use library protobuf"},
        Planted{"runtime/session/x.cc", "<grpcpp/grpcpp.h>", "may not use library grpc"},
        Planted{"runtime/include/muster/x.h", "<unistd.h>", "may not use library system"},
        Planted{"runtime/include/muster/x.h", "\"runtime/base/log.h\"", "may not include room runtime/base"},
        Planted{"launcher/agent/x.cc", "\"CLI/CLI.hpp\"", "may not use library cli11"},
        Planted{"launcher/cli/x.cc", "<yaml-cpp/yaml.h>", "may not use library yaml"},
        Planted{"launcher/guard/x.cc", "\"launcher/agent/worker_port.h\"", "may not include room launcher/agent"},
        Planted{"examples/allreduce/x.cc", "\"runtime/base/log.h\"", "may not include room runtime/base"},
        Planted{"runtime/base/x.cc", "\"log.h\"", "from the top of the tree"},
        Planted{"runtime/base/x.cc", "<zmq.hpp>", "no library is known"},
        Planted{"runtime/elsewhere/x.cc", "<vector>", "lies in no room"},
        Planted{"runtime/shm/x.cc", "\"runtime/base/fd.h\"", nullptr},
        Planted{"runtime/rendezvous/x.cc", "\"muster/v1/worker.nano.h\"", nullptr},
        Planted{"examples/allreduce/x.cc", "\"muster/muster.h\"", nullptr}));

TEST(Rules, RefusesACircle) {
  EXPECT_THAT(ParseRules("a : b :\nb : c :\nc : a :\n").status().ToString(), HasSubstr("lead back"));
}

TEST(Rules, RefusesAnEdgeToNowhere) {
  EXPECT_THAT(ParseRules("a : b :\n").status().ToString(), HasSubstr("no line for room b"));
}

TEST(Rules, RefusesALineWithoutColons) { EXPECT_THAT(ParseRules("\na b\n").status().ToString(), HasSubstr("line 2")); }

TEST(Rules, RefusesARoomTwice) { EXPECT_THAT(ParseRules("a : :\na : :\n").status().ToString(), HasSubstr("already")); }

}  // namespace
}  // namespace muster
