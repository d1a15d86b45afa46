// Life cycles as tables one can read, print and check: in a state, on an event, when a condition holds: the next state and what
// is done.
//
// The machine's Step finds the first row for (state, event kind) whose condition holds, runs its act and enters the next state.
// A pair that needs nothing done has a row as well, with the reason in `meaning`: nothing is ignored silently, and CheckTable
// proves it.
#ifndef MUSTER_RUNTIME_BASE_STATE_TABLE_H_
#define MUSTER_RUNTIME_BASE_STATE_TABLE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "runtime/base/log.h"

namespace muster {

// States as a set, for rows that hold in several of them.
template <typename... States>
constexpr uint32_t In(States... states) {
  return ((1u << static_cast<uint32_t>(states)) | ...);
}

// A row. `next` empty: stay.
template <typename Machine, typename State, typename Kind, typename Event>
struct TableRow {
  uint32_t states = 0;  // In(...)
  Kind kind{};
  bool (Machine::*when)(const Event&) const = nullptr;  // null: always
  std::optional<State> next;
  void (Machine::*act)(const Event&) = nullptr;  // null: nothing is done
  const char* meaning = "";
};

// All values of an enumeration that counts from 0.
template <typename T, int count>
constexpr std::array<T, count> AllOf() {
  std::array<T, count> all{};
  for (int i = 0; i < count; ++i) all[static_cast<size_t>(i)] = static_cast<T>(i);
  return all;
}

// How long a machine may wait in a state: `warn` after which it says so, `end` after which its end row is taken. Infinite: no
// limit.
struct StateLimit {
  absl::Duration warn = absl::InfiniteDuration();
  absl::Duration end = absl::InfiniteDuration();
};

template <typename Row, typename State, typename Kind>
bool RowIsFor(const Row& row, State state, Kind kind) {
  return row.kind == kind && (row.states >> static_cast<uint32_t>(state) & 1u) != 0;
}

// The first row that applies; a table that CheckTable passes always has one.
template <typename Row, typename Machine, typename State, typename Kind, typename Event>
const Row& FindRow(std::span<const Row> rows, const Machine& machine, State state, Kind kind, const Event& event) {
  for (const Row& row : rows) {
    if (RowIsFor(row, state, kind) && (row.when == nullptr || (machine.*row.when)(event))) return row;
  }
  MUSTER_CHECK(false, "state table has no row for this state and event");
  __builtin_unreachable();
}

// What is wrong with a table, one line a fault; empty when every pair ends in an unconditional row and no row is behind one.
template <typename Row, typename State, typename Kind>
std::string CheckTable(std::span<const Row> rows, std::span<const State> states, std::span<const Kind> kinds,
                       const char* (*state_name)(State), const char* (*kind_name)(Kind)) {
  std::string faults;
  for (const State state : states) {
    for (const Kind kind : kinds) {
      bool closed = false;
      for (const Row& row : rows) {
        if (!RowIsFor(row, state, kind)) continue;
        const std::string pair = absl::StrCat("(", state_name(state), ", ", kind_name(kind), ")");
        if (closed) absl::StrAppend(&faults, pair, ": never reached: ", row.meaning, "\n");
        if (row.meaning[0] == '\0') absl::StrAppend(&faults, pair, ": a row without its meaning\n");
        closed = closed || row.when == nullptr;
      }
      if (!closed)
        absl::StrAppend(&faults, "(", state_name(state), ", ", kind_name(kind), "): no row, or none without a condition\n");
    }
  }
  return faults;
}

// The table as text, one line a pair and row: "RUNNING  WorkerEnded  [if]  -> SETTLING  meaning".
template <typename Row, typename State, typename Kind>
std::string PrintTable(std::span<const Row> rows, std::span<const State> states, std::span<const Kind> kinds,
                       const char* (*state_name)(State), const char* (*kind_name)(Kind)) {
  std::string text;
  for (const State state : states) {
    for (const Kind kind : kinds) {
      for (const Row& row : rows) {
        if (!RowIsFor(row, state, kind)) continue;
        absl::StrAppend(&text, state_name(state), "  ", kind_name(kind), row.when == nullptr ? "" : "  [if]", "  -> ",
                        row.next ? state_name(*row.next) : "stay", "  ", row.meaning, "\n");
      }
    }
  }
  return text;
}

// A state's line above its table: "RUNNING: waits for the workers to end; warns after 5s, ends after 1m".
inline std::string PrintState(const char* name, const char* waits_for, const StateLimit& limit) {
  return absl::StrCat(name, ": waits for ", waits_for, "; warns after ", absl::FormatDuration(limit.warn), ", ends after ",
                      absl::FormatDuration(limit.end), "\n");
}

}  // namespace muster

#endif  // MUSTER_RUNTIME_BASE_STATE_TABLE_H_
