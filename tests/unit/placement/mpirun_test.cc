// Placement equals that of Open MPI's mpirun for the same flags: runs mpirun's dry run on machines that are only described.
#include <gtest/gtest.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "launcher/hosts/host_slots.h"
#include "launcher/placement/place.h"
#include "launcher/process/seating.h"

namespace muster {
namespace {

constexpr char kBig[] = "pack:2 numa:2 l3:4 core:8 pu:1";
constexpr char kSmall[] = "pack:2 numa:2 l3:2 core:2 pu:1";
constexpr char kThreads[] = "pack:1 numa:1 l3:1 core:6 pu:2";
constexpr char kCaches[] = "pack:2 numa:1 l3:2 l2:2 l1:1 core:1 pu:2";
constexpr char kUneven[] = "uneven.xml";  // package 0 with 4 cores, package 1 with 2

// As `mpirun` printed it, by rank.
struct Printed {
  std::string node;
  uint32_t local_rank = 0;
  CpuSet cpus;
  bool bound = false;
};

struct Outcome {
  bool ok = false;
  std::map<uint32_t, Printed> ranks;
  std::string text;
};

// "[BB/..][../..]" -> the positions of the Bs, counted over all hardware threads.
CpuSet ReadPicture(absl::string_view picture) {
  CpuSet cpus;
  uint32_t position = 0;
  if (!absl::StartsWith(picture, "[")) return cpus;  // "UNBOUND"
  for (const char c : picture) {
    if (c == 'B') cpus.Add(position);
    if (c == 'B' || c == '.') ++position;
  }
  return cpus;
}

std::string After(absl::string_view line, absl::string_view key) {
  const size_t at = line.find(key);
  if (at == absl::string_view::npos) return "";
  const std::vector<std::string> words =
      absl::StrSplit(line.substr(at + key.size()), absl::ByAnyChar(" \t"), absl::SkipEmpty());
  return words.empty() ? "" : words[0];
}

class MpirunTest : public testing::Test {
 protected:
  static bool HasMpirun() { return system("mpirun --version 2>/dev/null | grep -q 'Open MPI) 4.1'") == 0; }

  void SetUp() override {
    if (!HasMpirun()) GTEST_SKIP() << "mpirun of Open MPI 4.1 is not installed (Debian: openmpi-bin)";
    char name[] = "/tmp/placement-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    folder_ = name;
    char host[256] = {};
    gethostname(host, sizeof host - 1);
    host_ = host;
    // A machine whose parts are not alike, cut out of one whose are.
    auto whole = Topology::FromSynthetic("pack:2 numa:1 l3:2 core:2 pu:1");
    ASSERT_TRUE(whole.ok());
    auto uneven = whole->Restricted({0, 1, 2, 3, 4, 6});
    ASSERT_TRUE(uneven.ok());
    std::ofstream(folder_ + "/" + kUneven) << *uneven->ToXml();
  }
  void TearDown() override {
    if (folder_.empty()) return;
    ASSERT_EQ(system(("rm -rf " + folder_).c_str()), 0);
  }

  Outcome RunMpirun(const std::string& topology, uint32_t workers, const std::string& flags,
                    const std::vector<std::pair<std::string, uint32_t>>& hosts) {
    std::ofstream file(folder_ + "/hosts");
    for (const auto& [host, slots] : hosts) file << host << " slots=" << slots << "\n";
    file.close();
    const std::string machine = absl::EndsWith(topology, ".xml") ? absl::StrCat("HWLOC_XMLFILE=", folder_, "/", topology)
                                                                 : absl::StrCat("HWLOC_SYNTHETIC='", topology, "'");
    const std::string command =
        absl::StrCat(machine, " HWLOC_THISSYSTEM=1 TMPDIR=", folder_, " mpirun --allow-run-as-root --hostfile ", folder_,
                     "/hosts -np ", workers, " --display-devel-map --do-not-launch ", flags, " true 2>&1 </dev/null");
    Outcome outcome;
    FILE* pipe = popen(command.c_str(), "r");
    char buffer[65536];
    while (fgets(buffer, sizeof buffer, pipe) != nullptr) outcome.text += buffer;
    pclose(pipe);
    std::string node;
    Printed* rank = nullptr;
    for (absl::string_view line : absl::StrSplit(outcome.text, '\n')) {
      if (absl::StrContains(line, "Data for node:")) node = After(line, "Data for node:");
      if (absl::StrContains(line, "Data for proc:")) {
        const std::string name = After(line, "Data for proc:");  // [[4711,1],0]
        uint32_t number = 0;
        EXPECT_TRUE(absl::SimpleAtoi(name.substr(name.rfind(',') + 1, name.size() - name.rfind(',') - 2), &number)) << name;
        rank = &outcome.ranks[number];
        rank->node = node;
      }
      if (rank == nullptr) continue;
      if (absl::StrContains(line, "Local rank:")) {
        EXPECT_TRUE(absl::SimpleAtoi(After(line, "Local rank:"), &rank->local_rank));
      }
      if (absl::StrContains(line, "Binding:")) {
        rank->cpus = ReadPicture(After(line, "Binding:"));
        rank->bound = !rank->cpus.empty();
      }
    }
    outcome.ok = outcome.ranks.size() == workers;
    return outcome;
  }

  absl::StatusOr<PlacementPolicy> PolicyOf(const std::string& flags) {
    PlacementPolicy policy;
    const std::vector<std::string> words = absl::StrSplit(flags, ' ', absl::SkipEmpty());
    for (size_t i = 0; i < words.size(); ++i) {
      absl::Status status;
      if (words[i] == "--map-by")
        status = ParseMapBy(words[++i], &policy);
      else if (words[i] == "--rank-by")
        status = ParseRankBy(words[++i], &policy);
      else if (words[i] == "--bind-to")
        status = ParseBindTo(words[++i], &policy);
      else if (words[i] == "--use-hwthread-cpus")
        policy.hwthread_cpus = true;
      else if (words[i] == "--bycore")
        status = ParseMapBy("core", &policy);
      else if (words[i] == "--bynode")
        status = ParseMapBy("node", &policy);
      else if (words[i] == "--npernode")
        status = ParseMapBy("ppr:" + words[++i] + ":node", &policy);
      else if (words[i] == "--npersocket")
        status = ParseMapBy("ppr:" + words[++i] + ":package", &policy);
      else if (words[i] == "--cpus-per-proc")
        policy.cpus_per_rank = static_cast<uint32_t>(atoi(words[++i].c_str()));
      else
        status = absl::InvalidArgumentError("the test does not know " + words[i]);
      if (!status.ok()) return status;
    }
    return policy;
  }

  Topology TopologyOf(const std::string& name) {
    if (!absl::EndsWith(name, ".xml")) return *Topology::FromSynthetic(name);
    std::ifstream file(folder_ + "/" + name);
    return *Topology::FromXml(std::string(std::istreambuf_iterator<char>(file), {}));
  }

  // Several nodes share one topology in mpirun's dry run, and what it has counted on memory nodes for the first node
  // it still counts on the next; bindings in place it shows for its own host alone. So of nodes beyond the first, only bindings
  // to other things are compared.
  void Compare(const std::string& topology, uint32_t workers, const std::string& flags,
               std::vector<std::pair<std::string, uint32_t>> hosts = {}) {
    SCOPED_TRACE(absl::StrCat("\"", topology, "\" -np ", workers, " ", flags));
    const bool several = hosts.size() > 1;
    if (hosts.empty()) hosts = {{host_, 512}};
    const Outcome theirs = RunMpirun(topology, workers, flags, hosts);
    auto policy = PolicyOf(flags);
    ASSERT_TRUE(policy.ok()) << policy.status();
    const Topology machine = TopologyOf(topology);
    // mpirun shows positions; an uneven machine's numbers have holes.
    std::vector<uint32_t> position_of(CpuSet::kNumberMax, 0);
    uint32_t position = 0;
    for (const Topology::Object& thread : machine.ObjectsOf(PlacementLevel::kHwthread))
      position_of[*thread.cpus.numbers().begin()] = position++;
    std::vector<PlacementNode> nodes;
    // As from a host list of the user's: first which hosts take part, then what goes where on them.
    HostWishes wishes = {.workers = workers};
    TakeFill(*policy, &wishes);
    std::vector<Host> listed;
    for (const auto& [host, slots] : hosts) listed.push_back({host, "", slots, true, 0});
    const auto shares = FillHosts(listed, wishes);
    if (shares.ok()) {
      for (const HostShare& share : *shares)
        nodes.push_back({share.host.name, static_cast<uint32_t>(share.workers), machine, {}});
    }
    const auto ours = shares.ok() ? PlaceRanks(*policy, workers, nodes) : absl::StatusOr<PlacementMap>(shares.status());
    ASSERT_EQ(ours.ok(), theirs.ok) << "ours: " << ours.status() << "\nmpirun: " << theirs.text;
    ++compared_;
    if (!ours.ok()) return;
    for (uint32_t rank = 0; rank < workers; ++rank) {
      const PlacedRank& mine = ours->ranks[rank];
      const Printed& printed = theirs.ranks.at(rank);
      EXPECT_EQ(nodes[mine.node].host, printed.node) << "rank " << rank;
      EXPECT_EQ(mine.local_rank, printed.local_rank) << "rank " << rank;
      CpuSet positions;
      for (const uint32_t number : mine.cpus.numbers()) positions.Add(position_of[number]);
      if (several && (!printed.bound || mine.node > 0) && !absl::StrContains(flags, "--bind-to core")) continue;
      if (mine.cpus == machine.cpus()) positions = CpuSet();  // mpirun calls the whole machine not bound
      EXPECT_EQ(positions.ListText(), printed.cpus.ListText()) << "rank " << rank;
    }
  }

  std::string folder_, host_;
  int compared_ = 0;
};

const std::vector<std::string>& Flags() {
  static const std::vector<std::string> flags = {
      "--map-by slot",
      "--map-by core",
      "--map-by hwthread",
      "--map-by numa",
      "--map-by socket",
      "--map-by node",
      "--map-by l3cache",
      "--bind-to core",
      "--bind-to none",
      "--bind-to hwthread",
      "--bind-to socket",
      "--bind-to l3cache",
      "--bind-to numa",
      "--rank-by core",
      "--rank-by numa",
      "--rank-by socket",
      "--rank-by socket:FILL",
      "--rank-by hwthread",
      "--rank-by slot",
      "--map-by numa --bind-to core",
      "--map-by socket --bind-to l3cache",
      "--map-by l3cache --bind-to hwthread",
      "--map-by core --bind-to socket",
      "--map-by hwthread --bind-to core:overload-allowed",
      "--map-by numa --rank-by core",
      "--map-by core --rank-by numa",
      "--map-by socket --rank-by numa:SPAN",
      "--map-by numa:SPAN",
      "--map-by socket:SPAN --bind-to core",
      "--map-by slot:PE=2",
      "--map-by socket:PE=2",
      "--map-by socket:PE=2 --rank-by core",
      "--map-by node:PE=2",
      "--cpus-per-proc 2",
      "--map-by numa:PE=3",
      "--map-by core:PE=2",
      "--use-hwthread-cpus",
      "--use-hwthread-cpus --bind-to core",
      "--map-by slot:PE=2 --use-hwthread-cpus",
      "--map-by ppr:2:socket",
      "--map-by ppr:1:l3cache",
      "--map-by ppr:4:numa --bind-to core",
      "--map-by ppr:8:node",
      "--npernode 8",
      "--npersocket 4",
      "--bycore",
      "--map-by slot:PE=2 --bind-to socket",
  };
  return flags;
}

TEST_F(MpirunTest, TwoPackagesOfTwoMemoryNodesOfFourCachesOfEightCores) {
  for (const std::string& flags : Flags()) Compare(kBig, 7, flags);
  // Up to two ranks have defaults of their own.
  for (const char* flags : {"--map-by slot", "--map-by node", "--bind-to socket", "--rank-by core", "--cpus-per-proc 2",
                            "--map-by ppr:1:socket", "--use-hwthread-cpus"}) {
    Compare(kBig, 2, flags);
  }
  EXPECT_GE(compared_, 50);
}

TEST_F(MpirunTest, OnePackageOfSixCoresWithTwoThreads) {
  for (const std::string& flags : Flags()) Compare(kThreads, 5, flags);
  for (const char* flags : {"--bind-to core", "--bind-to core:overload-allowed", "--bind-to core:if-supported", "--map-by core",
                            "--map-by hwthread", "--map-by core --bind-to hwthread", "--use-hwthread-cpus --map-by core",
                            "--map-by core --bind-to core:overload-allowed", "--map-by slot:PE=2"}) {
    Compare(kThreads, 8, flags);
  }
}

TEST_F(MpirunTest, SmallMachines) {
  for (const char* flags : {"--map-by l1cache", "--map-by l2cache", "--bind-to l2cache", "--map-by l2cache --bind-to l1cache",
                            "--rank-by l2cache --map-by core", "--map-by ppr:1:l2cache"}) {
    Compare(kCaches, 6, flags);
  }
}

TEST_F(MpirunTest, AMachineWhosePartsAreNotAlike) {
  for (const char* flags :
       {"--map-by core", "--map-by socket", "--map-by socket --bind-to core", "--map-by l3cache",
        "--map-by l3cache --bind-to core", "--bind-to core", "--map-by numa --rank-by core", "--map-by ppr:2:socket"}) {
    Compare(kUneven, 6, flags);
  }
}

TEST_F(MpirunTest, SeveralNodes) {
  const std::vector<std::pair<std::string, uint32_t>> two = {{"203.0.113.1", 4}, {"203.0.113.2", 3}};
  const std::vector<std::pair<std::string, uint32_t>> three = {{"203.0.113.1", 1}, {"203.0.113.2", 5}, {"203.0.113.3", 2}};
  for (const char* flags : {"--map-by node",
                            "--map-by slot",
                            "--map-by numa",
                            "--map-by core",
                            "--map-by numa --rank-by node",
                            "--map-by slot --rank-by node",
                            "--map-by core --rank-by node",
                            "--map-by node --rank-by slot",
                            "--map-by node --bind-to core",
                            "--map-by slot --bind-to core",
                            "--map-by ppr:3:node",
                            "--npernode 3 --bind-to core",
                            "--map-by ppr:1:socket",
                            "--map-by socket --rank-by core",
                            "--map-by numa:SPAN",
                            "--map-by socket:SPAN --rank-by socket",
                            "--map-by numa --rank-by numa:SPAN",
                            "--map-by socket --rank-by socket:FILL",
                            "--map-by socket --rank-by socket:SPAN",
                            "--bynode"}) {
    for (const uint32_t workers : {5u, 7u}) Compare(kSmall, workers, flags, two);
  }
  for (const char* flags :
       {"--map-by node", "--map-by slot", "--map-by slot --rank-by node", "--map-by numa", "--bynode --bind-to core"}) {
    Compare(kSmall, 7, flags, three);
  }
  // More slots than ranks: which hosts take part is decided by the mapping.
  const std::vector<std::pair<std::string, uint32_t>> roomy = {{"203.0.113.1", 4}, {"203.0.113.2", 4}, {"203.0.113.3", 4}};
  for (const char* flags : {"--map-by node", "--map-by node --rank-by slot", "--map-by node --rank-by node", "--map-by slot",
                            "--map-by core", "--map-by ppr:1:node", "--map-by ppr:2:node", "--npernode 1", "--npernode 4",
                            "--map-by ppr:1:socket", "--map-by numa:SPAN", "--map-by slot --rank-by node"}) {
    for (const uint32_t workers : {1u, 2u, 3u, 4u, 6u}) Compare(kSmall, workers, flags, roomy);
  }
  for (const char* flags : {"--map-by node:OVERSUBSCRIBE", "--map-by slot:OVERSUBSCRIBE", "--map-by numa:OVERSUBSCRIBE",
                            "--map-by slot", "--map-by core:NOOVERSUBSCRIBE", "--map-by node:OVERSUBSCRIBE --bind-to core"}) {
    Compare(kSmall, 11, flags, three);
  }
}

}  // namespace
}  // namespace muster
