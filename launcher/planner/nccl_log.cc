#include "launcher/planner/nccl_log.h"

#include <algorithm>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace muster {
namespace {

constexpr absl::string_view kMark = "NCCL INFO ";

std::optional<int> Number(absl::string_view word, int below) {
  int number = 0;
  if (!absl::SimpleAtoi(word, &number) || number < 0 || number >= below) return std::nullopt;
  return number;
}

std::vector<absl::string_view> Words(absl::string_view text) { return absl::StrSplit(text, ' ', absl::SkipEmpty()); }

// The word behind `name` in "rank 0 nranks 4".
absl::string_view After(const std::vector<absl::string_view>& words, absl::string_view name) {
  const auto found = std::find(words.begin(), words.end(), name);
  return found == words.end() || found + 1 == words.end() ? absl::string_view() : found[1];
}

// "HOST:PID:TID" at the end of what stands before the mark, and its host; empty where there is none.
struct Speaker {
  std::string thread, host;
};

Speaker SpeakerOf(absl::string_view before) {
  before = absl::StripTrailingAsciiWhitespace(before);
  if (absl::EndsWith(before, "]")) {  // the device
    const size_t open = before.rfind('[');
    if (open == absl::string_view::npos) return {};
    before = absl::StripTrailingAsciiWhitespace(before.substr(0, open));
  }
  const size_t space = before.find_last_of(" \t]>");
  if (space != absl::string_view::npos) before.remove_prefix(space + 1);
  const size_t thread = before.rfind(':');
  if (thread == absl::string_view::npos || thread == 0) return {};
  const size_t process = before.rfind(':', thread - 1);
  if (process == absl::string_view::npos || process == 0) return {};
  return {std::string(before), std::string(before.substr(0, process))};
}

// A cycle through all ranks, from rank 0, along what each says of its neighbours; empty where somebody has said nothing.
// Contradictions: DataLoss.
absl::StatusOr<std::vector<int>> Cycle(int channel, int ranks, const std::map<int, std::pair<int, int>>& between) {
  if (static_cast<int>(between.size()) < ranks) return std::vector<int>();
  std::vector<int> order;
  std::vector<bool> met(static_cast<size_t>(ranks), false);
  for (int rank = 0; static_cast<int>(order.size()) < ranks;) {
    const auto here = between.find(rank);
    if (here == between.end() || met[static_cast<size_t>(rank)]) break;
    met[static_cast<size_t>(rank)] = true;
    order.push_back(rank);
    const int next = here->second.second;
    const auto there = between.find(next);
    if (there == between.end() || there->second.first != rank) {
      return absl::DataLossError(absl::StrCat("channel ", channel, ": rank ", rank, " sends to rank ", next,
                                              ", which receives from ",
                                              there == between.end() ? "nobody" : absl::StrCat("rank ", there->second.first),
                                              "; the lines are not of one communicator, give the log of one run"));
    }
    rank = next;
  }
  if (static_cast<int>(order.size()) < ranks) {
    return absl::DataLossError(absl::StrCat("channel ", channel, ": the neighbours that ranks name make a ring of ",
                                            order.size(), " of ", ranks, " ranks; give the log of one run"));
  }
  return order;
}

bool HasAll(const std::vector<int>& order, int ranks) {
  std::vector<int> sorted = order;
  std::sort(sorted.begin(), sorted.end());
  for (int i = 0; i < static_cast<int>(sorted.size()); ++i) {
    if (sorted[static_cast<size_t>(i)] != i) return false;
  }
  return static_cast<int>(order.size()) == ranks;
}

}  // namespace

void NcclLog::Read(absl::string_view text) {
  for (absl::string_view line : absl::StrSplit(text, '\n')) ReadLine(line);
}

void NcclLog::ReadLine(absl::string_view line) {
  const size_t mark = line.find(kMark);
  if (mark == absl::string_view::npos) return;
  const Speaker speaker = SpeakerOf(line.substr(0, mark));
  if (speaker.thread.empty()) return;
  absl::string_view body = absl::StripAsciiWhitespace(line.substr(mark + kMark.size()));
  if (absl::EndsWith(body, "Init START") || absl::EndsWith(body, "Init COMPLETE")) {
    return Begin(threads_[speaker.thread], speaker.host, body);
  }
  Said said;
  said.is_ring = absl::ConsumePrefix(&body, "Ring ");
  if (!said.is_ring && !absl::ConsumePrefix(&body, "Channel ")) return;
  const std::pair<absl::string_view, absl::string_view> parts = absl::StrSplit(body, absl::MaxSplits(" :", 1));
  // "00/02" of a ring's channel; that of a connection between two ranks has an arrow behind it.
  const auto channel = Number(parts.first.substr(0, parts.first.find('/')), kNcclChannelsMax);
  if (!channel || (!said.is_ring && absl::StrContains(parts.second, "->"))) return;
  said.channel = *channel;
  for (absl::string_view word : Words(parts.second)) {
    if (said.is_ring && word == "->") continue;
    const auto rank = Number(word, kNcclRanksMax);
    if (!rank) {
      if (said.is_ring) return;  // "0[1000]": names no rank before it
      break;                     // cut: "..."
    }
    said.ranks.push_back(*rank);
  }
  if (said.ranks.empty() || (said.is_ring && said.ranks.size() != 3)) return;
  Thread& thread = threads_[speaker.thread];
  if (thread.communicator.empty()) {
    thread.said.push_back(std::move(said));
  } else {
    Put(communicators_[thread.communicator], speaker.host, said);
  }
}

void NcclLog::Begin(Thread& thread, const std::string& host, absl::string_view body) {
  const std::vector<absl::string_view> words = Words(body);
  const auto rank = Number(After(words, "rank"), kNcclRanksMax);
  const auto ranks = Number(After(words, "nranks"), kNcclRanksMax + 1);
  if (!rank || !ranks || *rank >= *ranks) return;
  const absl::string_view id = After(words, "commId");
  const std::string key = id.empty() ? absl::StrCat("of ", *ranks) : std::string(id);
  Communicator& communicator = communicators_[key];
  communicator.ranks = *ranks;
  const bool is_start = absl::EndsWith(body, "START");
  if (is_start || communicator.begun == 0) communicator.begun = ++begun_;
  communicator.hosts[*rank] = host;
  if (!is_start) {
    for (const Said& said : thread.said) Put(communicator, host, said);
  }
  thread.said.clear();
  thread.communicator = is_start ? key : "";
}

void NcclLog::Put(Communicator& communicator, const std::string& host, const Said& said) {
  if (said.is_ring) {
    communicator.between[said.channel][said.ranks[1]] = {said.ranks[0], said.ranks[2]};
    communicator.hosts[said.ranks[1]] = host;
  } else {
    communicator.orders[said.channel] = said.ranks;
  }
}

absl::StatusOr<NcclRings> NcclLog::Take() const {
  // What threads have said of communicators that nobody has named: a log that was cut, or without the lines of INIT.
  std::map<std::string, Communicator> all = communicators_;
  Communicator nameless;
  for (const auto& [name, thread] : threads_) {
    for (const Said& said : thread.said) {
      Put(nameless, name.substr(0, name.rfind(':', name.rfind(':') - 1)), said);
      for (const int rank : said.ranks) nameless.ranks = std::max(nameless.ranks, rank + 1);
    }
  }
  if (nameless.ranks > 0) all[""] = nameless;
  const Communicator* chosen = nullptr;
  for (const auto& [key, communicator] : all) {
    if (communicator.orders.empty() && communicator.between.empty()) continue;
    if (chosen == nullptr || std::pair(communicator.ranks, communicator.begun) > std::pair(chosen->ranks, chosen->begun)) {
      chosen = &communicator;
    }
  }
  if (chosen == nullptr) {
    return absl::NotFoundError(
        "no line of NCCL that says a ring; run the job with NCCL_DEBUG=INFO and NCCL_DEBUG_SUBSYS=INIT,GRAPH, and without "
        "NCCL_DEBUG_FILE or with the files it names");
  }
  NcclRings rings;
  rings.ranks = chosen->ranks;
  rings.hosts.resize(static_cast<size_t>(rings.ranks));
  for (const auto& [rank, host] : chosen->hosts) {
    if (rank < rings.ranks) rings.hosts[static_cast<size_t>(rank)] = host;
  }
  int channels = 0;
  if (!chosen->orders.empty()) channels = chosen->orders.rbegin()->first + 1;
  if (!chosen->between.empty()) channels = std::max(channels, chosen->between.rbegin()->first + 1);
  bool any = false;
  for (int channel = 0; channel < channels; ++channel) {
    std::vector<int>& ring = rings.rings.emplace_back();
    if (const auto order = chosen->orders.find(channel); order != chosen->orders.end() && HasAll(order->second, rings.ranks)) {
      ring = order->second;
    } else if (const auto between = chosen->between.find(channel); between != chosen->between.end()) {
      auto cycle = Cycle(channel, rings.ranks, between->second);
      if (!cycle.ok()) return cycle.status();
      ring = *std::move(cycle);
    }
    any = any || !ring.empty();
  }
  if (!any) {
    return absl::NotFoundError(absl::StrCat("no ring of NCCL is told in full: of ", rings.ranks,
                                            " ranks only some have spoken; give the output of all ranks"));
  }
  return rings;
}

}  // namespace muster
