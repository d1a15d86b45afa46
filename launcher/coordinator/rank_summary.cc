#include "launcher/coordinator/rank_summary.h"

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "launcher/coordinator/cause.h"

namespace muster {
namespace {

constexpr size_t kGroupsInSentence = 4;

// Why somebody looks at a rank, the most suspicious first.
enum class Place {
  kEnded,      // while others go on
  kNoAnswer,   // its agent is stuck, or the way to it
  kStopped,    // by a signal or a debugger
  kBehind,     // has not called what others wait in, or waits in an older call
  kApart,      // never joined, or left, while others have a session
  kBetween,    // outside of any call, as all others
  kDone,       // has what others still wait in
  kWaiting,    // in the newest call
  kUnlinked,   // nobody has a session
  kOver,       // ended, and nobody waits for it
};

struct Sight {
  uint32_t rank = 0;
  Place place = Place::kUnlinked;
  std::string key;    // equal for ranks that are in the same place
  std::string what;   // for one rank
  std::string whats;  // for several
  uint64_t since_ms = 0;
  const char* since = "";  // what `since_ms` counts from: " since "; empty: not told
};

std::string Since(uint64_t ms) {
  if (ms < 10'000) return absl::StrFormat("%.1f s", static_cast<double>(ms) / 1e3);
  if (ms < 300'000) return absl::StrCat(ms / 1000, " s");
  return absl::StrCat(ms / 60'000, " min");
}

std::string Call(const v1::RankState& state) { return absl::StrCat(state.op(), " (op ", state.op_seq(), ")"); }

// What the process does, for one and for several; the letters are those of proc(5).
std::pair<std::string, std::string> Process(const v1::RankState& state) {
  const char letter = state.process_state().empty() ? '?' : state.process_state()[0];
  const std::string& channel = state.wait_channel();
  const std::string in = channel.empty() ? "" : absl::StrCat(" in ", channel);
  switch (letter) {
    case 'R':
      return {absl::StrCat("its process ", state.pid(), " runs (", Since(state.cpu_ms()), " of CPU time so far)"),
              "their processes run"};
    case 'S':
    case 'I':
      return {absl::StrCat("its process ", state.pid(), " sleeps", in), absl::StrCat("their processes sleep", in)};
    case 'D':
      return {absl::StrCat("its process ", state.pid(), " waits", in, " for a device or a file system (state D)"),
              absl::StrCat("their processes wait", in, " for a device or a file system (state D)")};
    case 'T':
      return {absl::StrCat("its process ", state.pid(), " is stopped (SIGCONT lets it go on)"),
              "their processes are stopped (SIGCONT lets them go on)"};
    case 't':
      return {absl::StrCat("its process ", state.pid(), " is stopped by a debugger"), "their processes are stopped by a debugger"};
    case 'Z':
    case 'X':
      return {absl::StrCat("its process ", state.pid(), " has just ended"), "their processes have just ended"};
    default:
      return {absl::StrCat("nothing is to be seen of its process ", state.pid()), "nothing is to be seen of their processes"};
  }
}

bool IsWaiting(const v1::RankState& state) {
  return state.joined() && !state.left() && state.op_seq() != 0 && !state.op_finished();
}

// The newest call of a communicator (0: of all ranks) that somebody waits in; null: nobody waits.
const v1::RankState* Frontier(const std::vector<v1::RankState>& states, uint64_t communicator) {
  const v1::RankState* newest = nullptr;
  for (const v1::RankState& state : states) {
    if (!IsWaiting(state) || state.communicator() != communicator) continue;
    if (newest == nullptr || state.op_seq() > newest->op_seq()) newest = &state;
  }
  return newest;
}

std::string LastCall(const v1::RankState& state, bool one) {
  if (state.op_seq() == 0) return one ? "it has made no call yet" : "they have made no call yet";
  const std::string call = state.communicator() == 0 ? absl::StrCat("op ", state.op_seq()) : Call(state);
  return absl::StrCat(one ? "its" : "their", " last call, ", call, ",");
}

// Each communicator counts its calls. `own`: the frontier of the one in which the rank's last call was, `all`: of that of all ranks.
Sight SightOf(const v1::RankState& state, const v1::RankState* all, const v1::RankState* own, bool anybody_joined) {
  const bool own_is_newer = own != nullptr && state.op_seq() < own->op_seq();
  const v1::RankState* const frontier = own_is_newer ? own : all;
  const bool behind = own_is_newer || (all != nullptr && state.communicator() != 0);
  Sight sight;
  sight.rank = state.rank();
  const auto process = Process(state);  // of one rank, of several
  const char letter = state.process_state().empty() ? '?' : state.process_state()[0];
  const bool stopped = letter == 'T' || letter == 't';
  const auto set = [&](Place place, const std::string& what, const std::string& whats, bool with_process) {
    sight.place = stopped ? Place::kStopped : place;
    sight.what = with_process || stopped ? absl::StrCat(what, "; ", process.first) : what;
    sight.whats = with_process || stopped ? absl::StrCat(whats, "; ", process.second) : whats;
  };
  if (!anybody_joined) {
    set(Place::kUnlinked, "runs without a session of libmuster", "run without a session of libmuster", true);
  } else if (!state.joined()) {
    set(Place::kApart, "has not opened its session", "have not opened their sessions", true);
  } else if (state.left()) {
    set(Place::kApart, "has closed its session", "have closed their sessions", true);
  } else if (state.op_seq() != 0 && !state.op_finished()) {
    const char* still = own_is_newer ? "still " : "";
    set(own_is_newer ? Place::kBehind : Place::kWaiting, absl::StrCat("is ", still, "in ", Call(state)),
        absl::StrCat("are ", still, "in ", Call(state)), false);
    sight.since_ms = state.op_ms();
    sight.since = " since ";
  } else if (behind) {
    const std::string ended = state.op_seq() == 0 ? "" : absl::StrCat(" ended ", Since(state.op_ms()), " before");
    const std::string last_key = absl::StrCat(" has not called ", Call(*frontier), "; ", LastCall(state, true));
    set(Place::kBehind, absl::StrCat("has not called ", Call(*frontier), "; ", LastCall(state, true), ended),
        absl::StrCat("have not called ", Call(*frontier), "; ", LastCall(state, false), ended), true);
    sight.key = last_key;
  } else if (frontier != nullptr) {
    set(Place::kDone, absl::StrCat("has finished ", Call(state)), absl::StrCat("have finished ", Call(state)), true);
  } else if (state.op_seq() == 0) {
    set(Place::kBetween, "has made no collective call yet", "have made no collective call yet", true);
  } else {
    const std::string ended = absl::StrCat(" ended ", Since(state.op_ms()), " before");
    set(Place::kBetween, absl::StrCat("is in no collective call; its last, ", Call(state), ",", ended),
        absl::StrCat("are in no collective call; their last, ", Call(state), ",", ended), true);
    sight.key = absl::StrCat("between ", state.op_seq());
  }
  // Times differ from rank to rank and make no group.
  if (sight.key.empty()) sight.key = sight.whats;
  // Inside a call a rank may sleep, or just look; outside, what its process does tells it from others.
  const bool in_call = sight.since[0] != '\0' && !stopped;
  if (!in_call) absl::StrAppend(&sight.key, "|", state.process_state(), "|", state.wait_channel());
  return sight;
}

Sight SightOfEnded(const v1::WorkerEnded& ended, bool somebody_waits) {
  Sight sight;
  sight.rank = ended.rank();
  sight.place = somebody_waits ? Place::kEnded : Place::kOver;
  const v1::Ending& ending = ended.ending();
  const std::string how = ending.kind() == v1::Ending::EXITED     ? absl::StrCat(" with exit status ", ending.code())
                          : ending.kind() == v1::Ending::SIGNALED ? absl::StrCat(" by ", SignalName(ending.code()))
                                                                  : "";
  sight.what = absl::StrCat("has ended", how);
  sight.whats = absl::StrCat("have ended", how);
  sight.key = sight.whats;
  return sight;
}

struct Bundle {
  Sight first;
  std::vector<uint32_t> ranks;
  uint64_t since_ms = 0;  // of the one that came last
};

std::string What(const Bundle& bundle) {
  const std::string& what = bundle.ranks.size() == 1 ? bundle.first.what : bundle.first.whats;
  return bundle.first.since[0] == '\0' ? what : absl::StrCat(what, bundle.first.since, Since(bundle.since_ms));
}

}  // namespace

std::string RankRanges(const std::vector<uint32_t>& ranks) {
  std::vector<std::string> parts;
  for (size_t i = 0; i < ranks.size();) {
    size_t end = i + 1;
    while (end < ranks.size() && ranks[end] == ranks[end - 1] + 1) ++end;
    parts.push_back(end - i == 1 ? absl::StrCat(ranks[i]) : absl::StrCat(ranks[i], end - i == 2 ? ", " : "-", ranks[end - 1]));
    i = end;
  }
  return absl::StrJoin(parts, ", ");
}

RankSummary SummarizeRanks(const Evidence& evidence) {
  std::map<uint32_t, const v1::RankState*> states;
  std::map<uint32_t, const v1::WorkerEnded*> endings;
  for (const v1::RankState& state : evidence.rank_states) states[state.rank()] = &state;
  // What came of the stop itself is no news.
  for (const v1::WorkerEnded& ended : evidence.endings) {
    if (!ended.expected() && !states.contains(ended.rank())) endings[ended.rank()] = &ended;
  }
  const v1::RankState* const all = Frontier(evidence.rank_states, 0);
  const bool somebody_waits = std::any_of(evidence.rank_states.begin(), evidence.rank_states.end(), IsWaiting);
  const bool anybody_joined = std::any_of(evidence.rank_states.begin(), evidence.rank_states.end(),
                                          [](const v1::RankState& state) { return state.joined(); });
  std::map<std::pair<Place, std::string>, Bundle> by_key;
  for (const Evidence::Member& member : evidence.members) {
    Sight sight;
    if (const auto state = states.find(member.rank); state != states.end()) {
      const v1::RankState* const own = Frontier(evidence.rank_states, state->second->communicator());
      sight = SightOf(*state->second, all, own, anybody_joined);
    } else if (const auto ended = endings.find(member.rank); ended != endings.end()) {
      sight = SightOfEnded(*ended->second, somebody_waits);
    } else {
      sight.place = Place::kNoAnswer;
      sight.what = sight.whats = absl::StrCat("unknown: the agent of host ", member.host, " did not answer");
      sight.key = sight.what;
    }
    Bundle& bundle = by_key[{sight.place, sight.key}];
    if (bundle.ranks.empty()) {
      bundle.first = sight;
      bundle.since_ms = sight.since_ms;
    }
    bundle.since_ms = std::min(bundle.since_ms, sight.since_ms);
    bundle.ranks.push_back(member.rank);
  }
  std::vector<Bundle> bundles;
  for (auto& [key, bundle] : by_key) bundles.push_back(std::move(bundle));
  std::stable_sort(bundles.begin(), bundles.end(), [](const Bundle& a, const Bundle& b) {
    return std::tuple(a.first.place, a.ranks.size(), a.ranks[0]) < std::tuple(b.first.place, b.ranks.size(), b.ranks[0]);
  });

  RankSummary summary;
  for (Bundle& bundle : bundles) {
    std::sort(bundle.ranks.begin(), bundle.ranks.end());
    if (summary.groups.size() < kGroupsInSentence) {
      std::string who = absl::StrCat("ranks ", RankRanges(bundle.ranks));
      for (const Evidence::Member& member : evidence.members) {
        if (bundle.ranks.size() == 1 && member.rank == bundle.ranks[0]) who = NameRank(member.rank, member.program, member.host);
      }
      absl::StrAppend(&summary.sentence, summary.sentence.empty() ? "" : "; ", who,
                      bundle.first.place == Place::kNoAnswer ? ": " : " ", What(bundle));
    }
    summary.groups.push_back({bundle.ranks, What(bundle)});
  }
  if (summary.groups.size() > kGroupsInSentence) {
    absl::StrAppend(&summary.sentence, "; and ", summary.groups.size() - kGroupsInSentence, " more, see --report");
  }
  if (summary.groups.size() > 1 && summary.groups[0].ranks.size() == 1) {
    summary.odd_rank = static_cast<int32_t>(summary.groups[0].ranks[0]);
  }
  return summary;
}

}  // namespace muster
