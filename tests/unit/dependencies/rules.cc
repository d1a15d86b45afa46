#include "tests/unit/dependencies/rules.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace muster {
namespace {

// How a header's name begins or ends -> its library. The first that fits counts.
struct Library {
  absl::string_view prefix;
  absl::string_view suffix;
  absl::string_view name;
};
constexpr Library kLibraries[] = {
    {"absl/", "", "absl"},
    {"muster/v1/", ".nano.h", "nanopb"},
    {"muster/v1/", ".grpc.pb.h", "grpc"},
    {"muster/v1/", ".pb.h", "protobuf"},
    {"pb", ".h", "nanopb"},
    {"google/protobuf/", "", "protobuf"},
    {"grpc", "", "grpc"},
    {"nlohmann/", "", "json"},
    {"CLI/", "", "cli11"},
    {"openssl/", "", "openssl"},
    {"xxh", "", "xxhash"},
    {"yaml-cpp/", "", "yaml"},
    {"spdlog/", "", "spdlog"},
    {"hwloc", "", "hwloc"},
    {"pmix", "", "pmix"},
    {"mpi.h", "", "mpi"},
    {"nccl.h", "", "nccl"},
    {"cuda", "", "cuda"},
    {"Eigen/", "", "eigen"},
    {"gtest/", "", "googletest"},
    {"gmock/", "", "googletest"},
    {"rapidcheck", "", "rapidcheck"},
    {"", "mmintrin.h", "simd"},  // immintrin.h, xmmintrin.h, ...
    {"immintrin.h", "", "simd"},
    {"cpuid.h", "", "simd"},
    {"sys/", "", "system"},
    {"linux/", "", "system"},
    {"arpa/", "", "system"},
    {"asm/", "", "system"},
    {"bits/", "", "system"},
    {"net/", "", "system"},
    {"netinet/", "", "system"},
};

// Headers without a folder, as far as muster has met them; one that is missing here is added with its library.
constexpr absl::string_view kSystemHeaders[] = {
    "dirent.h", "dlfcn.h", "elf.h", "endian.h", "errno.h", "fcntl.h", "fenv.h", "ftw.h", "getopt.h", "glob.h", "grp.h",
    "ifaddrs.h", "link.h", "malloc.h", "netdb.h", "poll.h", "pthread.h", "pty.h", "pwd.h", "sched.h", "semaphore.h", "signal.h",
    "spawn.h", "syscall.h", "syslog.h", "termios.h", "time.h", "ucontext.h", "unistd.h",
    // The C++ standard library's own way to threads, clocks and files.
    "chrono", "condition_variable", "csignal", "ctime", "filesystem", "fstream", "future", "mutex", "semaphore", "shared_mutex",
    "stop_token", "thread"};
constexpr absl::string_view kStandardCHeaders[] = {"assert.h",  "float.h",  "inttypes.h", "limits.h", "math.h",   "stdarg.h",
                                                   "stdbool.h", "stddef.h", "stdint.h",   "stdio.h",  "stdlib.h", "string.h"};

std::string LibraryOf(absl::string_view header) {
  for (const Library& library : kLibraries) {
    if (absl::StartsWith(header, library.prefix) && absl::EndsWith(header, library.suffix)) return std::string(library.name);
  }
  if (std::count(std::begin(kSystemHeaders), std::end(kSystemHeaders), header) > 0) return "system";
  if (std::count(std::begin(kStandardCHeaders), std::end(kStandardCHeaders), header) > 0) return "std";
  // The C++ standard library's headers have neither a folder nor an extension.
  if (!absl::StrContains(header, '/') && !absl::StrContains(header, '.')) return "std";
  return "";
}

std::set<std::string> Words(absl::string_view text) { return absl::StrSplit(text, absl::ByAnyChar(" \t"), absl::SkipEmpty()); }

// The rooms reachable from `room`, by depth first; true when `room` itself is among them.
bool Reaches(const Rules& rules, const std::string& from, const std::string& room, std::set<std::string>& seen) {
  for (const std::string& next : rules.at(from).rooms) {
    if (next == room) return true;
    if (seen.insert(next).second && Reaches(rules, next, room, seen)) return true;
  }
  return false;
}

absl::Status CheckEdges(const Rules& rules) {
  for (const auto& [name, room] : rules) {
    for (const std::string& edge : room.rooms) {
      if (!rules.contains(edge)) return absl::InvalidArgumentError(absl::StrCat(name, ": no line for room ", edge));
    }
  }
  for (const auto& [name, room] : rules) {
    std::set<std::string> seen;
    if (Reaches(rules, name, name, seen)) {
      return absl::InvalidArgumentError(absl::StrCat(name, ": its edges lead back to itself; dependencies point down"));
    }
  }
  return absl::OkStatus();
}

// The header and its quote character of an include line; an empty header for every other line.
std::pair<absl::string_view, char> IncludedBy(absl::string_view line) {
  line = absl::StripLeadingAsciiWhitespace(line);
  if (!absl::ConsumePrefix(&line, "#")) return {};
  line = absl::StripLeadingAsciiWhitespace(line);
  if (!absl::ConsumePrefix(&line, "include")) return {};
  line = absl::StripLeadingAsciiWhitespace(line);
  if (line.empty() || (line[0] != '"' && line[0] != '<')) return {};
  const char closing = line[0] == '"' ? '"' : '>';
  const size_t end = line.find(closing, 1);
  if (end == absl::string_view::npos) return {};
  return {line.substr(1, end - 1), line[0]};
}

// Why `room` may not include `header`; empty when it may.
std::string Objection(const Rules& rules, const std::string& room, absl::string_view header, char quote) {
  std::string library = LibraryOf(header);
  if (library.empty() && quote == '"') {
    const bool is_public = absl::StartsWith(header, "muster/");
    const std::string other = RoomOf(rules, is_public ? absl::StrCat("runtime/include/", header) : std::string(header));
    if (other == room || rules.at(room).rooms.contains(other)) return "";
    if (!other.empty()) return absl::StrCat("it may not include room ", other);
    if (!absl::StrContains(header, '/') && room == "examples") return "";  // they also build outside this tree
    if (!absl::StrContains(header, '/')) return "includes are written from the top of the tree";
    return "it lies in no room";
  }
  if (library == "std" || rules.at(room).libraries.contains(library)) return "";
  if (!library.empty()) return absl::StrCat("it may not use library ", library);
  return "no library is known for it; add it to kLibraries in tests/unit/dependencies/rules.cc";
}

}  // namespace

absl::StatusOr<Rules> ParseRules(absl::string_view text) {
  Rules rules;
  int number = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    line = absl::StripAsciiWhitespace(line);
    if (line.empty() || line[0] == '#') continue;
    const std::vector<absl::string_view> parts = absl::StrSplit(line, ':');
    if (parts.size() != 3) return absl::InvalidArgumentError(absl::StrCat("line ", number, ": want room : rooms : libraries"));
    const std::string name(absl::StripAsciiWhitespace(parts[0]));
    if (!rules.emplace(name, Room{Words(parts[1]), Words(parts[2])}).second) {
      return absl::InvalidArgumentError(absl::StrCat("line ", number, ": room ", name, " has a line already"));
    }
  }
  if (absl::Status status = CheckEdges(rules); !status.ok()) return status;
  return rules;
}

std::string RoomOf(const Rules& rules, absl::string_view path) {
  std::string best;
  for (const auto& [name, room] : rules) {
    if (absl::StartsWith(path, absl::StrCat(name, "/")) && name.size() > best.size()) best = name;
  }
  return best;
}

std::vector<std::string> Violations(const Rules& rules, absl::string_view path, absl::string_view text) {
  std::vector<std::string> found;
  const std::string room = RoomOf(rules, path);
  if (room.empty()) return {absl::StrCat(path, ": lies in no room; give its folder a line in tests/unit/dependencies.txt")};
  int number = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    const auto [header, quote] = IncludedBy(line);
    if (header.empty()) continue;
    const std::string objection = Objection(rules, room, header, quote);
    if (!objection.empty()) found.push_back(absl::StrCat(path, ":", number, ": ", room, " includes ", header, ": ", objection));
  }
  return found;
}

}  // namespace muster
