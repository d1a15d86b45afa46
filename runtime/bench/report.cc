#include "runtime/bench/report.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace muster::bench {
namespace {

std::string JsonSummary(const Summary& summary) {
  return absl::StrFormat(R"({"calls": %d, "mean_us": %.3f, "p50_us": %.3f, "p99_us": %.3f, "max_us": %.3f, "over_2ms": %.6f})",
                         summary.calls, summary.mean_us, summary.p50_us, summary.p99_us, summary.max_us, summary.over_2ms);
}

}  // namespace

double Row::algbw_gbps() const { return time.p50_us > 0 ? static_cast<double>(bytes) / time.p50_us / 1e3 : 0; }

double Row::busbw_gbps(int world_size) const { return algbw_gbps() * 2 * (world_size - 1) / world_size; }

std::optional<double> Row::ratio() const {
  if (!floor || time.p50_us <= 0) return std::nullopt;
  return floor->p50_us / time.p50_us;
}

std::string TableHeader(const Options& options, const Setting& setting) {
  std::string text =
      absl::StrFormat("# muster bench allreduce: %d rank%s%s, %s, in place, %s\n", setting.ranks, setting.ranks == 1 ? "" : "s",
                      setting.bound ? ", each bound to a core" : "", options.window ? "windows" : "private buffers",
                      options.fresh ? "each vector rewritten by its rank before every call" : "call after call");
  absl::StrAppend(&text, "# time, floor: median over calls of the slowest rank's time; ratio = floor / time\n#\n");
  absl::StrAppend(
      &text, absl::StrFormat("# %10s %12s %7s %7s %5s %10s %8s %8s %7s %10s %6s %10s %9s\n", "size", "count", "type", "redop",
                             "root", "time", "algbw", "busbw", "#wrong", "floor", "ratio", "p99", ">2ms"));
  absl::StrAppend(&text, absl::StrFormat("# %10s %12s %7s %7s %5s %10s %8s %8s %7s %10s %6s %10s %9s\n", "(B)", "(elements)",
                                         "", "", "", "(us)", "(GB/s)", "(GB/s)", "", "(us)", "", "(us)", "(%)"));
  return text;
}

std::string TableRow(const Options& options, const Setting& setting, const Row& row) {
  const std::string wrong = row.wrong ? absl::StrCat(*row.wrong) : "N/A";
  const std::string floor = row.floor ? absl::StrFormat("%.2f", row.floor->p50_us) : "-";
  const std::string ratio = row.ratio() ? absl::StrFormat("%.2f", *row.ratio()) : "-";
  return absl::StrFormat("  %10d %12d %7s %7s %5d %10.2f %8.2f %8.2f %7s %10s %6s %10.2f %9.4f\n", row.bytes, row.count,
                         Name(options.type), Name(options.op), -1, row.time.p50_us, row.algbw_gbps(),
                         row.busbw_gbps(setting.ranks), wrong, floor, ratio, row.time.p99_us, 100 * row.time.over_2ms);
}

std::string Json(const Options& options, const Setting& setting, const std::vector<Row>& rows) {
  std::string text = absl::StrFormat(
      R"({"benchmark": "allreduce", "ranks": %d, "bound": %s, "buffers": "%s", "fresh": %s, "type": "%s", "op": "%s", "rows": [)",
      setting.ranks, setting.bound ? "true" : "false", options.window ? "window" : "private", options.fresh ? "true" : "false",
      Name(options.type), Name(options.op));
  const char* separator = "\n";
  for (const Row& row : rows) {
    absl::StrAppend(&text, separator, R"(  {"bytes": )", row.bytes, R"(, "count": )", row.count, R"(, "time": )",
                    JsonSummary(row.time), R"(, "floor": )", row.floor ? JsonSummary(*row.floor) : "null", R"(, "ratio": )",
                    row.ratio() ? absl::StrFormat("%.4f", *row.ratio()) : "null", R"(, "algbw_gbps": )",
                    absl::StrFormat("%.4f", row.algbw_gbps()), R"(, "busbw_gbps": )",
                    absl::StrFormat("%.4f", row.busbw_gbps(setting.ranks)), R"(, "wrong": )",
                    row.wrong ? absl::StrCat(*row.wrong) : "null", "}");
    separator = ",\n";
  }
  absl::StrAppend(&text, "\n]}\n");
  return text;
}

}  // namespace muster::bench
