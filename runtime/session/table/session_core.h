// The inside of SessionTable: what it knows, and the conditions and acts that the rows of session_table.cc name.
#ifndef MUSTER_RUNTIME_SESSION_TABLE_SESSION_CORE_H_
#define MUSTER_RUNTIME_SESSION_TABLE_SESSION_CORE_H_

#include <span>
#include <string>
#include <utility>

#include "runtime/session/table/session_table.h"

namespace muster {

class SessionTable::Core {
 public:
  using State = session::State;
  using Kind = session::Kind;
  using Event = session::Event;
  using Row = TableRow<Core, State, Kind, Event>;

  // What a state is called, what it waits for, and what is done on entering it.
  struct StateRow {
    const char* name;
    const char* waits_for;
    void (Core::*enter)();  // null: nothing
  };

  explicit Core(session::Options options) : options_(std::move(options)) {}
  session::Actions Step(const Event& event);

  static std::span<const Row> Rows();
  static const StateRow& RowOf(State state);

 private:
  friend class SessionTable;
  void Enter(State state);

  // Conditions of rows.
  bool IfThisGeneration(const Event& event) const { return std::get<session::GenerationOver>(event).generation == generation_; }
  bool IfFirstFailure(const Event&) const { return !blamed_; }

  // Acts of rows.
  void FailConnect(const Event& event);
  void FailRefused(const Event& event);
  void FailOver(const Event& event);
  void FailClosed(const Event& event);
  void FailLate(const Event& event);
  void NoteGeneration(const Event& event);
  void Blame(const Event& event);
  void TellStep(const Event& event);
  void BreakOver(const Event& event);
  void BreakClosed(const Event& event);
  void LeaveBroken(const Event& event);
  void WarnWaiting(const Event& event);

  // On entering a state.
  void SendHello();
  void EnterGeneration();
  void SendLeave();
  void Leave();
  void CloseSocket();

  void Fail(absl::Status status);
  void Break(absl::Status status);

  session::Options options_;
  State state_ = State::kConnecting;
  uint64_t generation_ = 0;
  bool blamed_ = false;  // one blame of all ranks a generation: what follows is its consequence
  session::Actions actions_;
};

}  // namespace muster

#endif  // MUSTER_RUNTIME_SESSION_TABLE_SESSION_CORE_H_
