#include "launcher/cli/topo_measure.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "launcher/cli/program.h"
#include "launcher/topology/measured_groups.h"
#include "launcher/topology/speed_text.h"
#include "runtime/base/fd.h"
#include "runtime/base/status.h"

extern char** environ;

namespace muster {
namespace {

constexpr int kSmallestGroup = 8;  // nodes below one switch that a sample is to find
constexpr uint64_t kSeed = 1;
constexpr size_t kOutputMax = 256 << 20;

std::string LatencyText(int64_t ns) { return absl::StrFormat("%.3g us", static_cast<double>(ns) / 1000); }

absl::StatusOr<UniqueFd> FileOf(const std::string& text) {
  UniqueFd file(::memfd_create("muster-rounds", MFD_CLOEXEC));
  if (!file || ::pwrite(file.get(), text.data(), text.size(), 0) != static_cast<ssize_t>(text.size())) {
    return ErrnoToStatus(errno, "memfd_create");
  }
  return file;
}

// The program's standard output; its stderr is ours.
absl::StatusOr<std::string> RunForText(std::vector<std::string> words, const std::string& input) {
  MUSTER_ASSIGN_OR_RETURN(const UniqueFd stdin_file, FileOf(input));
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return ErrnoToStatus(errno, "pipe2");
  const UniqueFd from(ends[0]);
  UniqueFd to(ends[1]);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, stdin_file.get(), 0);
  posix_spawn_file_actions_adddup2(&actions, to.get(), 1);
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  pid_t child = -1;
  const int error = ::posix_spawn(&child, words[0].c_str(), &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return ErrnoToStatus(error, absl::StrCat("start ", words[0]));
  to.Reset();
  std::string text;
  char bytes[65536];
  ssize_t read = 0;
  while ((read = ::read(from.get(), bytes, sizeof bytes)) > 0 || (read < 0 && errno == EINTR)) {
    if (read > 0 && text.size() < kOutputMax) text.append(bytes, static_cast<size_t>(read));
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return text;
  return absl::UnavailableError(absl::StrCat("the job that measures has failed (exit status ",
                                             WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
                                             "): see above for why"));
}

absl::StatusOr<MeasuredLinks> RunRounds(const MeasureOptions& options, const std::vector<LinkRound>& rounds) {
  MUSTER_ASSIGN_OR_RETURN(const std::string program, OwnProgram());
  MUSTER_ASSIGN_OR_RETURN(const std::string folder, OwnFolder());
  // A round takes some 50 ms where nothing is wrong; a pair that does not answer is given 5 s by the program itself.
  const size_t limit_s = 60 + rounds.size();
  std::vector<std::string> words = {program, "run", "--timeout", absl::StrCat(limit_s), "-x", "OMP_NUM_THREADS=1"};
  words.insert(words.end(), options.run_words.begin(), options.run_words.end());
  words.insert(words.end(), {"--", folder + "/muster-measure-worker"});
  MUSTER_ASSIGN_OR_RETURN(const std::string text, RunForText(std::move(words), RoundsText(rounds)));
  return ParseMeasured(text, options.nodes);
}

}  // namespace

std::string RoundsText(const std::vector<LinkRound>& rounds) {
  std::string text;
  for (const LinkRound& round : rounds) {
    text += "round";
    for (const LinkPair& pair : round) absl::StrAppend(&text, " ", pair.first, "-", pair.second);
    text += "\n";
  }
  return text;
}

absl::StatusOr<MeasuredLinks> ParseMeasured(absl::string_view text, int nodes) {
  MeasuredLinks links;
  links.names.resize(static_cast<size_t>(nodes));
  bool ended = false;
  const auto wrong = [](absl::string_view line) {
    return absl::DataLossError(
        absl::StrCat("the job that measures has written \"", line.substr(0, 80), "\", which is no measurement"));
  };
  for (const absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    const std::vector<std::string> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
    int a = 0, b = 0;
    int64_t latency_ns = 0;
    double speed = 0;
    if (words[0] == "end") {
      ended = true;
    } else if (words[0] == "name" && words.size() == 3 && absl::SimpleAtoi(words[1], &a) && a >= 0 && a < nodes) {
      links.names[static_cast<size_t>(a)] = words[2];
    } else if (words[0] == "link" && words.size() == 5 && absl::SimpleAtoi(words[1], &a) && absl::SimpleAtoi(words[2], &b) &&
               absl::SimpleAtoi(words[3], &latency_ns) && absl::SimpleAtod(words[4], &speed) && a >= 0 && b >= 0 && a < nodes &&
               b < nodes && a != b && latency_ns >= 0 && speed >= 0 && speed <= kBytesPerSecondMax) {
      links.measurements.push_back({a, b, latency_ns, speed});
      links.measurements.push_back({b, a, latency_ns, speed});
    } else {
      return wrong(line);
    }
  }
  if (!ended) return absl::DataLossError("the job that measures has ended before all was measured");
  return links;
}

absl::StatusOr<MeasuredLinks> MeasureLinks(const MeasureOptions& options) {
  if (options.nodes < 2) {
    return absl::InvalidArgumentError(
        "--measure needs two nodes or more; name them with -H node-a,node-b, --hostfile or --nodes 2");
  }
  MeasuredLinks links;
  if (options.nodes <= options.all_pairs_max) {
    MUSTER_ASSIGN_OR_RETURN(links, RunRounds(options, TournamentRounds(options.nodes)));
  } else {
    const int rounds = SampledRoundsFor(options.nodes, kSmallestGroup);
    MUSTER_ASSIGN_OR_RETURN(links, RunRounds(options, SampledRounds(options.nodes, rounds, kSeed)));
    const std::vector<int> chosen = Representatives(InferGroups(options.nodes, links.measurements));
    if (chosen.size() > 1) {
      MUSTER_ASSIGN_OR_RETURN(const MeasuredLinks more, RunRounds(options, TournamentRounds(chosen)));
      links.measurements.insert(links.measurements.end(), more.measurements.begin(), more.measurements.end());
    }
  }
  if (options.names.size() == links.names.size()) links.names = options.names;
  return links;
}

std::string MeasuredText(const MeasuredLinks& links) {
  if (links.measurements.empty()) return "no pair was measured";
  const auto& all = links.measurements;
  const auto by_latency = [](const Cluster::Measurement& x, const Cluster::Measurement& y) {
    return x.latency_ns < y.latency_ns;
  };
  const auto by_speed = [](const Cluster::Measurement& x, const Cluster::Measurement& y) {
    return x.bytes_per_second < y.bytes_per_second;
  };
  const auto [near, far] = std::minmax_element(all.begin(), all.end(), by_latency);
  const auto [slow, fast] = std::minmax_element(all.begin(), all.end(), by_speed);
  return absl::StrCat(all.size() / 2, all.size() == 2 ? " pair" : " pairs", " measured: latency ",
                      LatencyText(near->latency_ns), " to ", LatencyText(far->latency_ns), ", bandwidth ",
                      BitsText(slow->bytes_per_second), " to ", BitsText(fast->bytes_per_second), "; slowest ",
                      links.names[static_cast<size_t>(slow->from)], " and ", links.names[static_cast<size_t>(slow->to)]);
}

LabelSet LabelsOfMeasured(const MeasuredLinks& links) {
  const MeasuredGroups groups = InferGroups(static_cast<int>(links.names.size()), links.measurements);
  LabelSet set;
  set.source = "measured";
  set.notes = groups.notes;
  for (size_t node = 0; node < links.names.size(); ++node) {
    NodeLabels& labels = set.nodes.emplace_back();
    labels.node = links.names[node];
    for (size_t level = 0; level < groups.levels.size(); ++level)
      labels.path.push_back({groups.levels[level], groups.labels[node][level]});
  }
  return set;
}

}  // namespace muster
