#include "launcher/starter/slurm_command.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace muster {
namespace {

constexpr size_t kNamesShown = 4;
constexpr size_t kLineShown = 300;

// Without an environment of its own a step has no PATH: this one is a login's.
// The shell stays to tell of its child's end: srun says nothing of one task in a form that would not change. Slurm's SIGTERM is for
// the agent.
constexpr char kScript[] = R"sh(trap : TERM
IFS= read -r a || exit 0
IFS= read -r b || exit 0
for m in "$a" "$b" "$(command -v muster)"; do
  [ -n "$m" ] && [ -f "$m" ] && [ -x "$m" ] || continue
  "$m" agent --stdin --host "$SLURMD_NODENAME"
  s=$?
  printf 'muster-line: gone %s %s\n' "$SLURMD_NODENAME" $s
  exit $s
done
printf 'muster-line: missing %s %s\n' "$SLURMD_NODENAME" "$PATH"
exit 127)sh";

// They would be options of the step: srun(1), "Input environment variables". Those that our words say too are not named, for words
// go first; nor are the many that only say where the job is.
constexpr const char* kStepVariables[] = {
    "SLURM_CPUS_PER_TASK",     "SRUN_CPUS_PER_TASK",        "SLURM_NTASKS_PER_CORE", "SLURM_NTASKS_PER_SOCKET",
    "SLURM_NTASKS_PER_GPU",    "SLURM_TRES_PER_TASK",       "SLURM_EXACT",           "SLURM_EXCLUSIVE",
    "SLURM_HINT",              "SLURM_THREADS_PER_CORE",    "SLURM_CORE_SPEC",       "SLURM_MULTI_PROG",
    "SLURM_HOSTFILE",          "SLURM_ARBITRARY_NODELIST",  "SLURM_LABELIO",         "SLURM_UNBUFFEREDIO",
    "SLURM_OPEN_MODE",         "SLURM_SRUN_MULTI",          "SLURM_NO_KILL",         "SLURM_REMOTE_CWD",
    "SLURM_WORKING_DIR",       "SLURM_THREADS",             "SLURM_IMMEDIATE",       "SLURM_DEBUG",
    "SLURM_SRUN_REDUCE_TASK_EXIT_MSG", "SLURM_STEP_KILLED_MSG_NODE_ID", "SLURM_CPU_FREQ_REQ",
};

struct Rule {
  const char* said;  // by srun
  const char* sentence;
  bool is_final;
};

// The first that fits. "%h" are the hosts, "%s" srun's own line.
constexpr Rule kRules[] = {
    {"Invalid job id", "the allocation of Slurm has ended (%s), so nothing can be started on %h; begin with a new salloc or sbatch", true},
    {"Expired", "the allocation of Slurm has ended (%s), so nothing can be started on %h; begin with a new salloc or sbatch", true},
    {"already completing or completed",
     "the allocation of Slurm has ended (%s), so nothing can be started on %h; begin with a new salloc or sbatch", true},
    {"has been revoked", "the allocation of Slurm has ended (%s), so nothing can be started on %h; begin with a new salloc or sbatch",
     true},
    {"unrecognized option", "this srun does not know what muster needs (%s); Slurm 20.11 or newer is needed", true},
    {"DOWN", "Slurm starts nothing on %h (%s): look at `sinfo -R` and at slurmd there", false},
    {"not responding", "Slurm starts nothing on %h (%s): look at `sinfo -R` and at slurmd there", false},
    {"Node failure", "Slurm has lost %h (%s); look at `sinfo -R` and at slurmd there", false},
    {"Zero Bytes were transmitted", "slurmd on %h does not answer (%s); look at `sinfo -R` and at its log", false},
    {"ommunication connection failure", "slurmd on %h does not answer (%s); look at `sinfo -R` and at its log", false},
    {"Unable to contact slurm controller", "Slurm's controller does not answer (%s); look at `scontrol ping`", false},
    {"execve()", "%h could not run /bin/sh (%s)", true},
};

std::string Fill(const char* sentence, const std::string& hosts, const std::string& line) {
  return absl::StrJoin(absl::StrSplit(absl::StrJoin(absl::StrSplit(sentence, "%h"), hosts), "%s"), line);
}

std::string Shown(absl::string_view line) {
  std::string shown(absl::StripAsciiWhitespace(line).substr(0, kLineShown));
  for (char& letter : shown) {
    if (absl::ascii_iscntrl(static_cast<unsigned char>(letter))) letter = ' ';
  }
  return shown;
}

// Its last word about an error, else its last word.
std::string LastError(const std::vector<absl::string_view>& lines) {
  for (auto line = lines.rbegin(); line != lines.rend(); ++line) {
    if (absl::StrContains(*line, "error:")) return Shown(*line);
  }
  return lines.empty() ? "" : Shown(lines.back());
}

std::string PathLine(const std::string& path) { return absl::StrCat(path.find('\n') == path.npos ? path : "", "\n"); }

}  // namespace

std::vector<std::string> SrunWords(const std::string& srun, const std::vector<std::string>& hosts) {
  std::vector<std::string> words = {"env"};
  for (const char* variable : kStepVariables) words.insert(words.end(), {"-u", variable});
  const std::string count = absl::StrCat(hosts.size());
  words.insert(words.end(),
               {srun, "--nodes=" + count, "--ntasks=" + count, "--ntasks-per-node=1", "--nodelist=" + absl::StrJoin(hosts, ","),
                // Other steps of the job may run on these nodes, and the one that this one replaces may not be gone yet. All that the
                // job has there is the agent's, to be shared out among its workers.
                "--overlap", "--mem=0", "--cpu-bind=none", "--distribution=block",
                // The end of one agent is not the end of the others.
                "--kill-on-bad-exit=0", "--wait=0",
                // Workers meet through muster, not through Slurm.
                "--mpi=none",
                // Nothing of our environment but who the user is.
                "--export=HOME,USER,LOGNAME,SHELL,PATH=/usr/local/bin:/usr/bin:/bin", "--chdir=/", "--input=all", "--output=all",
                "--error=all", "--job-name=muster", "/bin/sh", "-c", kScript});
  return words;
}

std::string SlurmFirstLines(const std::string& remote_muster, const std::string& program) {
  return PathLine(remote_muster) + PathLine(program);
}

SlurmFailure DescribeSrun(const std::string& hosts, const std::string& errors, const std::string& how) {
  const std::vector<absl::string_view> lines = absl::StrSplit(errors, '\n', absl::SkipWhitespace());
  for (const Rule& rule : kRules) {
    for (const absl::string_view line : lines) {
      if (absl::StrContains(line, rule.said)) return {Fill(rule.sentence, hosts, Shown(line)), rule.is_final};
    }
  }
  const std::string last = LastError(lines);
  return {absl::StrCat("srun for ", hosts, absl::StartsWith(how, "killed") ? " was " : " ", how,
                       last.empty() ? "" : absl::StrCat(" (", last, ")"), "; look at `sinfo -R` and at slurmd's log there"),
          false};
}

std::string NamesShown(const std::vector<std::string>& hosts) {
  const std::vector<std::string> first(hosts.begin(), hosts.begin() + static_cast<ptrdiff_t>(std::min(hosts.size(), kNamesShown)));
  const std::string shown = absl::StrJoin(first, ", ");
  return hosts.size() <= kNamesShown ? shown : absl::StrCat(shown, " and ", hosts.size() - kNamesShown, " more");
}

}  // namespace muster
