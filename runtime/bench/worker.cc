// muster-bench-worker: the program that `muster bench` starts on every rank.
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "muster/session.h"
#include "runtime/base/status.h"
#include "runtime/bench/allreduce.h"
#include "runtime/bench/options.h"
#include "runtime/bench/placement.h"
#include "runtime/bench/report.h"

namespace muster::bench {
namespace {

constexpr int kUsage = 64;

// A wrong option is wrong on every rank; one of them says so.
bool SpeaksOfUsage() {
  const char* const rank = std::getenv("RANK");
  return rank == nullptr || std::string(rank) == "0";
}

void Say(const std::string& line) { std::fputs(absl::StrCat("muster-bench-worker: ", line, "\n").c_str(), stderr); }

absl::Status WriteFile(const std::string& path, const std::string& text) {
  std::FILE* const file = std::fopen(path.c_str(), "w");
  if (file == nullptr) return ErrnoToStatus(errno, absl::StrCat("open --json ", path));
  const bool written = std::fwrite(text.data(), 1, text.size(), file) == text.size();
  const int write_error = errno;
  if (std::fclose(file) != 0 || !written)
    return ErrnoToStatus(written ? errno : write_error, absl::StrCat("write --json ", path));
  return absl::OkStatus();
}

absl::Status Run(const Options& options) {
  MUSTER_ASSIGN_OR_RETURN(const std::unique_ptr<Session> session, Session::Create());
  const Setting setting = {.ranks = session->world_size(),
                           .crowded = session->local_world_size() > UsableCores(),
                           .bound = options.bind && BindToOwnCore(session->local_rank(), session->local_world_size())};
  const bool speaks = session->rank() == 0;
  if (speaks) std::fputs(TableHeader(options, setting).c_str(), stdout);
  const auto print = [&](const Row& row) {
    if (!speaks) return;
    std::fputs(TableRow(options, setting, row).c_str(), stdout);
    std::fflush(stdout);
  };
  const auto warn = [&](const std::string& line) {
    if (speaks) Say(line);
  };
  MUSTER_ASSIGN_OR_RETURN(const std::vector<Row> rows, MeasureAllReduce(session->world(), setting, options, print, warn));

  int64_t wrong = 0;
  for (const Row& row : rows) wrong += row.wrong.value_or(0);
  if (speaks && !options.json_file.empty()) {
    MUSTER_RETURN_IF_ERROR(WriteFile(options.json_file, Json(options, setting, rows)));
  }
  if (wrong > 0) return absl::DataLossError(absl::StrCat(wrong, " wrong elements"));
  return absl::OkStatus();
}

int Main(const std::vector<std::string>& words) {
  if (words.empty() || words[0] != "allreduce") {
    if (SpeaksOfUsage()) Say("name the benchmark: allreduce");
    return kUsage;
  }
  const auto options = ParseOptions(std::span(words).subspan(1));
  if (!options.ok()) {
    if (SpeaksOfUsage()) Say(std::string(options.status().message()));
    return kUsage;
  }
  if (options->help) {
    std::fputs(Help().c_str(), stdout);
    return 0;
  }
  if (const absl::Status status = Run(*options); !status.ok()) {
    Say(std::string(status.message()));
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace muster::bench

int main(int argc, char** argv) { return muster::bench::Main(std::vector<std::string>(argv + 1, argv + argc)); }
