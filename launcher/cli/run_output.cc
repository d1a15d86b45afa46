#include "launcher/cli/run_output.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "launcher/agent/output_pattern.h"
#include "launcher/cli/console.h"
#include "runtime/base/nearest_name.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

constexpr int64_t kBufferMibMax = 1 << 20;

// One word of --output. Source: Open MPI 5, `mpirun --help output`; host is ours.
absl::Status TakeWord(const std::string& word, OutputFlags* options) {
  const std::pair<std::string, std::string> parts = absl::StrSplit(word, absl::MaxSplits('=', 1));
  const std::string name = absl::AsciiStrToLower(parts.first);
  const bool has_value = word.find('=') != std::string::npos;
  const std::vector<std::pair<std::string, bool*>> switches = {{"tag", &options->tag},
                                                               {"rank", &options->label},
                                                               {"timestamp", &options->timestamp},
                                                               {"merge", &options->merge_stderr},
                                                               {"merge-stderr-to-stdout", &options->merge_stderr}};
  std::vector<std::string> known = {"host", "dir", "file"};
  for (const auto& [known_name, target] : switches) {
    known.push_back(known_name);
    if (name != known_name || has_value) continue;
    *target = true;
    return absl::OkStatus();
  }
  if (name == "host" && !has_value) {
    options->output.set_host(true);
    return absl::OkStatus();
  }
  const bool folder = name == "dir" || name == "directory", file = name == "file" || name == "filename";
  if ((folder || file) && has_value) {
    if (!options->filename.empty()) {
      return absl::InvalidArgumentError(absl::StrCat("--output ", word, ": files were named before; leave one out"));
    }
    options->filename = parts.second;
    const size_t colon = options->filename.find(':');
    // Open MPI's file= adds the rank, and both streams go there; ours are patterns.
    if (file && !absl::StrContains(options->filename, '%')) {
      options->filename.insert(colon == std::string::npos ? options->filename.size() : colon, ".%r");
    }
    return absl::OkStatus();
  }
  const std::string nearest = NearestName(name, known);
  return absl::InvalidArgumentError(
      absl::StrCat("--output ", word, ": ",
                   (folder || file)   ? absl::StrCat("write ", name, "=NAME")
                   : has_value        ? "only dir= and file= have a value"
                   : !nearest.empty() ? absl::StrCat("did you mean ", nearest, "?")
                                      : "there are tag, rank, host, timestamp, merge, dir=FOLDER and file=NAME"));
}

absl::Status TakeWords(const std::string& list, OutputFlags* options) {
  const std::vector<std::string> words = absl::StrSplit(list, ',', absl::SkipEmpty());
  for (const std::string& word : words) {
    // Qualifiers of a file name may be joined by commas.
    if ((word == "nocopy" || word == "nojobid") && absl::StrContains(options->filename, ':')) {
      absl::StrAppend(&options->filename, ",", word);
    } else {
      MUSTER_RETURN_IF_ERROR(TakeWord(word, options));
    }
  }
  return absl::OkStatus();
}

absl::Status SettleMarks(int64_t workers, OutputFlags* options) {
  v1::OutputSettings& output = options->output;
  output.set_tag(options->tag);
  output.set_rank(options->label);
  output.set_timestamp(options->timestamp);
  output.set_merge_stderr(options->merge_stderr);
  output.set_ranks(static_cast<uint32_t>(workers));
  if (output.tag() && (output.rank() || output.host())) {
    return absl::InvalidArgumentError(absl::StrCat("--tag-output writes mpirun's [1,RANK]<stdout>: and --",
                                                   output.rank() ? "label" : "output host",
                                                   " another form; leave one out, or write --output rank,host"));
  }
  const bool marked = output.tag() || output.rank() || output.host() || output.timestamp();
  output.set_pass_partial_lines(workers == 1 && !marked);
  return absl::OkStatus();
}

absl::Status SettleFiles(int64_t workers, int64_t nodes, const std::string& folder, OutputFlags* options) {
  v1::OutputSettings& output = options->output;
  if (options->filename.empty()) return absl::OkStatus();
  const auto wrong = [options](absl::string_view why) {
    return absl::InvalidArgumentError(absl::StrCat("--output-filename ", options->filename, ": ", why));
  };
  const auto pattern = OutputPattern::Parse(options->filename, folder);
  if (!pattern.ok()) return wrong(pattern.status().message());
  if (!pattern->has('r') && !pattern->has('h') && nodes > 1) {
    return wrong("the files of several nodes would be one; add %h for the host or %r for the rank");
  }
  const bool marked = output.tag() || output.rank() || output.host() || output.timestamp();
  if (!pattern->has('r') && workers > 1 && pattern->files_only() && !marked) {
    return wrong("with :nocopy workers write to their files themselves, and lines of several in one would be torn; add %r");
  }
  output.set_file_pattern(pattern->text());
  output.set_files_only(pattern->files_only());
  return absl::OkStatus();
}

absl::Status SettleStdin(int64_t workers, OutputFlags* options) {
  v1::StdinSettings& input = options->standard_input;
  const std::string word = absl::AsciiStrToLower(options->stdin_readers);
  int64_t rank = 0;
  if (word == "all") {
    input.set_readers(v1::StdinSettings::ALL);
  } else if (word == "none") {
    input.set_readers(v1::StdinSettings::NONE);
  } else if (!absl::SimpleAtoi(word, &rank) || rank < 0) {
    return absl::InvalidArgumentError(absl::StrCat("--stdin ", options->stdin_readers, ": write a rank, all or none"));
  } else if (rank >= workers) {
    return absl::InvalidArgumentError(absl::StrCat("--stdin ", rank, ": the job has ranks 0 to ", workers - 1));
  } else {
    input.set_rank(static_cast<uint32_t>(rank));
  }
  return absl::OkStatus();
}

}  // namespace

void DeclareOutput(FlagSet* flags, OutputFlags* options) {
  flags->Switch("--tag-output", &options->tag, "put [1,RANK]<stdout>: before each line, as mpirun does");
  flags->Switch("--timestamp-output", &options->timestamp, "put the time before each line");
  flags->Switch("--label -l", &options->label, "put \"RANK: \" before each line, as srun does");
  flags->Texts("--output", "LIST", &options->words,
               "several of these, with commas between them: rank, host, timestamp\n"
               "(before each line \"TIME RANK HOST: \" or what of it is listed), tag,\n"
               "merge (--merge-stderr-to-stdout), dir=FOLDER, file=NAME (--output-filename)");
  flags->Choices("--output", {"rank", "host", "timestamp", "tag", "merge"});
  flags->Text("--color", "WHEN", &options->color,
              "a colour for each rank's mark: auto (on a terminal; see NO_COLOR),\n"
              "always or never");
  flags->Choices("--color", {"always", "auto", "never"});
  flags->Text("--output-filename", "FOLDER", &options->filename,
              "write each rank's output to files on its own node as well:\n"
              "FOLDER/1/rank.RANK/stdout and stderr, or a path with %r rank, %h host,\n"
              "%j job, %g generation, %s stdout or stderr. With :nocopy at its end the\n"
              "files are all, and workers write to them themselves");
  flags->Switch("--merge-stderr-to-stdout", &options->merge_stderr, "a worker's stderr is its stdout, as with 2>&1");
  flags->Count("--output-buffer", "MIB", &options->buffer_mib, 1, kBufferMibMax,
               "keep so much in the job's folder for a reader that is slow (1024);\n"
               "when it is full and the reader stands still for 2 s, lines are dropped");
}

void DeclareStdin(FlagSet* flags, OutputFlags* options) {
  flags->Text("--stdin", "RANK|all|none", &options->stdin_readers,
              "which rank reads muster's stdin (0), or all of them, or none");
  flags->Choices("--stdin", {"all", "none"});
}

absl::Status SettleOutput(int64_t workers, int64_t nodes, const std::string& folder, OutputFlags* options) {
  for (const std::string& list : options->words) MUSTER_RETURN_IF_ERROR(TakeWords(list, options));
  if (options->color != "auto" && options->color != "always" && options->color != "never") {
    return absl::InvalidArgumentError(absl::StrCat("--color ", options->color, ": choose auto, always or never"));
  }
  options->output.set_spill_bytes_max(static_cast<uint64_t>(options->buffer_mib) << 20);
  MUSTER_RETURN_IF_ERROR(SettleMarks(workers, options));
  MUSTER_RETURN_IF_ERROR(SettleFiles(workers, nodes, folder, options));
  return SettleStdin(workers, options);
}

absl::Status CheckOutputWords(const std::string& list) {
  OutputFlags unused;
  return TakeWords(list, &unused);
}

absl::Status CheckOutputFiles(const std::string& typed) { return OutputPattern::Parse(typed, "/").status(); }

absl::Status CheckStdin(const std::string& word) {
  OutputFlags unused;
  unused.stdin_readers = word;
  return SettleStdin(int64_t{1} << 31, &unused);
}

void AddOutput(const OutputFlags& options, bool attached, v1::JobSpec* job) {
  *job->mutable_output() = options.output;
  *job->mutable_standard_input() = options.standard_input;
  const auto shown = [&](int fd) {
    return attached && (options.color == "always" || (options.color == "auto" && ShowsColor(fd)));
  };
  job->mutable_output()->set_color_stdout(shown(STDOUT_FILENO));
  job->mutable_output()->set_color_stderr(shown(STDERR_FILENO));
}

}  // namespace muster
