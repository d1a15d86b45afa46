// The rules of a worker's session: joining, membership, leaving. Pure: Step(event) -> actions; events and actions are plain
// structs.
//
//   CONNECTING -> HELLO_SENT -> MEMBER(g) -> LEAVING -> LEFT | BROKEN
//
// LEFT is reached by a clean end only; BROKEN is for good. A generation that is over without a next one breaks the session. The
// table is in session_table.cc.
#ifndef MUSTER_RUNTIME_SESSION_TABLE_SESSION_TABLE_H_
#define MUSTER_RUNTIME_SESSION_TABLE_SESSION_TABLE_H_

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "runtime/base/state_table.h"

namespace muster {
namespace session {

enum class State { kConnecting, kHelloSent, kMember, kLeaving, kLeft, kBroken };
inline constexpr int kStates = 6;

enum class Timer { kWarn, kEnd };  // of the state; the machine sets both on entering it

// --- Events ---
struct Connected {};
struct ConnectFailed {
  absl::Status status;
};
struct GenerationBegun {
  uint64_t generation = 0;
  uint32_t rank = 0;
  uint32_t world_size = 0;
};
struct Refused {
  std::string message;
  absl::StatusCode code = absl::StatusCode::kUnavailable;
};
struct GenerationOver {
  uint64_t generation = 0;
  std::string message;
};
struct SocketClosed {};
// A collective failed: the communicators of this generation are broken, or one alone.
struct CollectiveFailed {
  uint32_t blamed_rank = 0;
  uint32_t reason = 0;
  uint64_t op_seq = 0;
  std::string message;
  bool of_some_ranks = false;  // one made by Split is broken alone; each says so once
};
struct StepCommitted {
  int64_t step = 0;
  int64_t checkpoint_step = -1;
};
struct LeaveRequested {};
struct LeaveSent {};  // the Leave frame is with the kernel, or cannot be sent
struct TimerFired {
  Timer timer = Timer::kWarn;
};
using Event = std::variant<Connected, ConnectFailed, GenerationBegun, Refused, GenerationOver, SocketClosed, CollectiveFailed,
                           StepCommitted, LeaveRequested, LeaveSent, TimerFired>;

// What the table distinguishes: the events in their order, with the timers apart.
enum class Kind {
  kConnected,
  kConnectFailed,
  kGenerationBegun,
  kRefused,
  kGenerationOver,
  kSocketClosed,
  kCollectiveFailed,
  kStepCommitted,
  kLeaveRequested,
  kLeaveSent,
  kWarn,
  kEnd,
};
inline constexpr int kKinds = 12;

const char* StateName(State state);
const char* KindName(Kind kind);

// --- Actions, to be carried out in order ---
struct SendHello {};
struct EnterGeneration {
  uint64_t generation = 0;
};  // map its memory; calls may begin
struct BreakCommunicators {
  absl::Status status;
};  // every call, running and later, returns this
struct SendBlame {
  uint32_t blamed_rank = 0;
  uint32_t reason = 0;
  uint64_t op_seq = 0;
  std::string message;
  bool of_some_ranks = false;
};
struct SendStep {
  int64_t step = 0;
  int64_t checkpoint_step = -1;
};
struct SendLeave {};  // answer with LeaveSent
struct MarkLeft {};   // `left` in control memory and life page, then unlock the robust word: a clean end from here on
struct CloseSocket {};
struct FailJoin {
  absl::Status status;
};  // Session::Create returns this
struct SetTimer {
  Timer timer = Timer::kWarn;
  absl::Duration after;
};
struct CancelTimer {
  Timer timer = Timer::kWarn;
};
struct Warn {
  std::string line;
};
using Action = std::variant<SendHello, EnterGeneration, BreakCommunicators, SendBlame, SendStep, SendLeave, MarkLeft,
                            CloseSocket, FailJoin, SetTimer, CancelTimer, Warn>;
using Actions = std::vector<Action>;

struct Options {
  std::array<StateLimit, kStates> limits = DefaultLimits(absl::Minutes(10));  // by state
  // HELLO_SENT ends after `join_timeout`.
  static std::array<StateLimit, kStates> DefaultLimits(absl::Duration join_timeout);
};

}  // namespace session

// One worker's session. Not thread-safe; belongs to whoever steps it.
class SessionTable {
 public:
  class Core;  // session_core.h: its inside

  explicit SessionTable(session::Options options);
  SessionTable(SessionTable&&) noexcept;
  SessionTable& operator=(SessionTable&&) noexcept;
  ~SessionTable();

  session::Actions Step(const session::Event& event);

  session::State state() const;
  uint64_t generation() const;  // 0: not a member yet

  // Its states with their default times and its table as text, and what is wrong with the table (nothing).
  static std::string PrintTable();
  static std::string CheckTable();

 private:
  std::unique_ptr<Core> core_;
};

}  // namespace muster

#endif  // MUSTER_RUNTIME_SESSION_TABLE_SESSION_TABLE_H_
