// PMI-1: whatever two ranks send, line by line in turn, each answer is a line that the protocol's own reader takes, and nobody is
// answered who was not asked.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <variant>

#include "absl/strings/str_split.h"
#include "launcher/mpi/pmi_line.h"
#include "launcher/mpi/pmi_table.h"

namespace {

void Check(const muster::PmiTable::Actions& actions) {
  for (const auto& action : actions) {
    const auto* const reply = std::get_if<muster::PmiTable::Reply>(&action);
    if (reply == nullptr) continue;
    if (reply->rank > 1 || reply->line.find('\n') != std::string::npos || !muster::ParsePmiLine(reply->line).ok()) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  muster::MpiWorld world;
  world.job_id = "0123456789abcdef";
  world.generation = 1;
  world.nodes = {0};
  world.places = {{0, 0, 0}, {0, 1, 0}};
  muster::PmiTable table(world);
  uint32_t rank = 0;
  for (const absl::string_view line : absl::StrSplit(absl::string_view(reinterpret_cast<const char*>(data), size), '\n')) {
    Check(table.Line(rank, line));
    rank = 1 - rank;
  }
  return 0;
}
