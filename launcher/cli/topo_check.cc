#include "launcher/cli/topo_check.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "launcher/cli/cluster_source.h"
#include "launcher/cli/console.h"
#include "launcher/cli/help_page.h"
#include "launcher/cli/job_argument.h"
#include "launcher/cli/subcommand.h"
#include "launcher/hosts/host_list.h"
#include "launcher/job/job_list.h"
#include "launcher/planner/nccl_check.h"
#include "launcher/planner/nccl_log.h"
#include "launcher/planner/plan.h"
#include "launcher/process/exit_codes.h"
#include "launcher/topology/group_tree.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

using Json = nlohmann::ordered_json;

struct CheckFlags {
  std::string cluster;
  std::string job;
  int64_t per_node = 0;
  bool json = false;
};

FlagSet Declare(CheckFlags* check) {
  FlagSet flags("muster topo check");
  flags.Text("--cluster", "[KIND:]FILE", &check->cluster,
             "where nodes stand, as for plan; of its nodes those that NCCL ran on are planned");
  flags.Text("--job", "JOB", &check->job, "read what the workers of a job have written (muster logs) instead of files");
  flags.Count(
      "--nproc-per-node", "N", &check->per_node, 1, kHostSlotsMax,
      "ranks on each node, for ranks whose lines are not there;\nwithout it one for each GPU, and one on a node without GPUs");
  flags.Switch("--json", &check->json, "one JSON object");
  return flags;
}

// Line by line: a log may be larger than memory, and of it NCCL's lines alone are of use.
absl::Status ReadStream(std::istream& stream, const std::string& name, NcclLog* log) {
  std::string line;
  while (std::getline(stream, line)) log->Read(line);
  return stream.bad() ? absl::NotFoundError(absl::StrCat(name, " cannot be read to its end")) : absl::OkStatus();
}

absl::Status ReadFile(const std::string& path, NcclLog* log) {
  if (path == "-") return ReadStream(std::cin, "standard input", log);
  std::error_code error;
  std::ifstream file(path);
  if (!file || std::filesystem::is_directory(path, error)) {
    return absl::NotFoundError(absl::StrCat(path, " cannot be read; name files of output that hold NCCL's lines"));
  }
  return ReadStream(file, path, log);
}

// The older part of a stream first.
absl::StatusOr<std::vector<std::string>> LogsOf(const std::string& job) {
  MUSTER_ASSIGN_OR_RETURN(const StoredJob stored, FindJob(JobsStateHome(), job));
  std::vector<std::string> paths;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(stored.folder + "/logs", error))
    paths.push_back(entry.path().string());
  if (paths.empty()) return absl::NotFoundError(absl::StrCat("job ", stored.brief(), " has written nothing"));
  std::sort(paths.begin(), paths.end(), [](const std::string& a, const std::string& b) {
    const bool old_a = a.ends_with(".1"), old_b = b.ends_with(".1");
    return old_a != old_b ? old_a : a < b;
  });
  return paths;
}

const char* FollowsName(Follows follows) {
  switch (follows) {
    case Follows::kPlan:
      return "plan";
    case Follows::kOtherOrder:
      return "other order";
    case Follows::kNot:
      return "not";
    case Follows::kUnknown:
      return "unknown";
  }
  return "";
}

std::string CheckJson(const Cluster& cluster, const NcclCheck& check) {
  const auto crossings = [&](const std::vector<int>& counts) {
    Json json = Json::object();
    for (size_t level = 0; level < counts.size(); ++level) json[cluster.levels[level].name] = counts[level];
    return json;
  };
  Json json = {{"follows", FollowsName(check.worst())}, {"crossings", crossings(check.planned)}};
  json["rings"] = Json::array();
  for (const NcclRingCheck& ring : check.rings) {
    Json one = {{"follows", FollowsName(ring.follows)}};
    if (ring.follows != Follows::kUnknown) {
      one["crossings"] = crossings(ring.crossings);
      one["nodes"] = Json::array();
      for (const int node : ring.nodes) one["nodes"].push_back(cluster.nodes[static_cast<size_t>(node)].name);
    }
    if (!ring.difference.empty()) one["difference"] = ring.difference;
    json["rings"].push_back(std::move(one));
  }
  json["notes"] = check.doubts;
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

int Refused(const absl::Status& status) {
  Say(status.message());
  return absl::IsInvalidArgument(status) || absl::IsDataLoss(status) ? kExitJobFile : kExitUsage;
}

}  // namespace

std::vector<FlagDescription> TopoCheckFlags() {
  CheckFlags unused;
  return Declare(&unused).Describe();
}

int TopoCheck(const std::vector<std::string>& arguments) {
  CheckFlags options;
  FlagSet flags = Declare(&options);
  std::vector<std::string> paths;
  // Flags may stand behind files.
  for (std::vector<std::string> left = arguments; !left.empty();) {
    const auto rest = flags.Parse(left);
    if (flags.help_wanted()) return Print(HelpText(TopoPage()));
    if (!rest.ok()) return UsageError(rest.status().message());
    if (rest->empty()) break;
    paths.push_back(rest->front());
    left.assign(rest->begin() + 1, rest->end());
  }
  if (options.cluster.empty())
    return UsageError("muster topo check needs --cluster FILE: where nodes stand; docs/topology.md has the format");
  if (paths.empty() == options.job.empty()) {
    return UsageError(
        "muster topo check needs the output of a job that ran with NCCL_DEBUG=INFO: files (- is standard input), or --job JOB");
  }
  if (!options.job.empty()) {
    auto logs = LogsOf(options.job);
    if (!logs.ok()) return Refused(logs.status());
    paths = *std::move(logs);
  }
  NcclLog log;
  for (const std::string& path : paths) {
    if (const absl::Status read = ReadFile(path, &log); !read.ok()) return Refused(read);
  }
  const auto nccl = log.Take();
  if (!nccl.ok()) return Refused(nccl.status());

  absl::StatusOr<ClusterSource> source = ReadCluster("--cluster", options.cluster);
  if (!source.ok()) return Refused(source.status());
  const auto names = NodesOfNcclHosts(source->cluster, *nccl);
  if (!names.ok()) return Refused(names.status());
  const bool all_said = std::find(nccl->hosts.begin(), nccl->hosts.end(), "") == nccl->hosts.end();
  if (all_said) {
    auto chosen = ChooseNodes(source->cluster, "--cluster", *names);
    if (!chosen.ok()) return Refused(chosen.status());
    source->cluster = *std::move(chosen);
  }
  const Cluster& cluster = source->cluster;
  const GroupTree tree(cluster);
  const Plan plan = MakePlan(cluster, tree, {.ranks_per_node = static_cast<int>(options.per_node), .rings = 0});
  const auto check = CheckNcclRings(cluster, tree, plan, *nccl);
  if (!check.ok()) return Refused(check.status());
  for (const std::string& note : source->notes) Say(absl::StrCat(options.cluster, ": ", note));
  for (const std::string& doubt : check->doubts) Say(doubt);
  const int printed = Print(options.json ? CheckJson(cluster, *check) : NcclCheckText(cluster, *check));
  if (printed != kExitOk) return printed;
  return check->worst() == Follows::kNot ? kExitCheckFailed : kExitOk;
}

}  // namespace muster
