// muster bench: start a benchmark's worker program on several ranks.
#include <string>
#include <vector>

#include "launcher/cli/bench_arguments.h"
#include "launcher/cli/console.h"
#include "launcher/cli/help_page.h"
#include "launcher/cli/program.h"
#include "launcher/cli/subcommand.h"
#include "launcher/process/exit_codes.h"

namespace muster {
namespace {

constexpr char kHelp[] =
    R"(usage: muster bench allreduce -np N [options]

Measures how fast collectives are here, beside the least that memory allows. N is the number of
ranks; without -np one for each core that may be used.

examples
  muster bench allreduce -np 2                          8 B to 16 MiB in shared windows
  muster bench allreduce -np 4 --private -b 64K -e 1M   private buffers, chosen sizes
  muster bench allreduce --help                         all options
)";

}  // namespace

HelpPage BenchPage() { return {.before = kHelp, .flags = {}, .words = {"allreduce"}}; }

int BenchCommand(const std::vector<std::string>& arguments) {
  if (!arguments.empty() && IsBenchHelp(arguments[0])) return Print(HelpText(BenchPage()));
  const auto own_folder = OwnFolder();
  if (!own_folder.ok()) {
    Say(own_folder.status().message());
    return kExitInternal;
  }
  const auto words = BenchAsRun(arguments, *own_folder + "/muster-bench-worker");
  if (!words.ok()) return UsageError(words.status().message());
  return RunCommand(*words);
}

}  // namespace muster
