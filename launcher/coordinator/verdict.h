// From what was seen of a job's end to one sentence: who caused it, how, and with which exit code the command ends. Pure.
#ifndef MUSTER_LAUNCHER_COORDINATOR_VERDICT_H_
#define MUSTER_LAUNCHER_COORDINATOR_VERDICT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "muster/v1/agent.pb.h"
#include "muster/v1/record.pb.h"

namespace muster {

// Why the job is asked to end from outside.
enum class StopKind { kInterrupt, kTerminate, kHangup, kTimeout };

// Everything known about a job's end, in any order of arrival.
struct Evidence {
  struct Member {
    uint32_t rank = 0;
    uint32_t slot = 0;
    uint32_t node = 0;
    std::string host;
    std::string program;  // which one it ran, where the job has several; else empty
  };
  struct SpawnFailure {
    uint32_t slot = 0;
    uint32_t node = 0;
    v1::Ending ending;
  };
  struct LostAgent {
    uint32_t node = 0;
    std::string host;
    std::string why;
    uint64_t when_ms = 0;
    bool whole_node = false;  // nothing of the node answered
  };
  // An end that no worker caused: the exit code and the sentence are given by whoever saw it.
  struct Fault {
    int exit_code = 0;
    std::string failure_class;
    std::string sentence;
    bool curable = false;  // another try may go better
  };

  std::vector<Member> members;  // of the generation that ended; by rank
  std::vector<v1::WorkerEnded> endings;
  std::vector<v1::PeerBlamed> blames;
  std::vector<SpawnFailure> spawn_failures;
  std::vector<LostAgent> lost_agents;
  std::optional<StopKind> stop;  // set only if it was asked for before anything failed
  std::string stop_detail;       // for kTimeout: "--timeout 10s"
  std::string stop_by;           // who asked; empty: not known
  bool ranks_were_asked = false;           // for kTimeout: where they were
  std::vector<v1::RankState> rank_states;  // what they, or their agents, answered
  std::optional<Fault> fault;
  int64_t committed_step = -1;
};

// A rank, or a node, from which the end came.
struct Cause {
  int32_t rank = -1;  // -1: no single rank
  std::string host;
  std::string program;        // of the rank, where the job has several; else empty
  std::string failure_class;  // "signal", "exit code", "out of memory", "left early", "not found", "agent lost", ...
  std::string sentence;
  int32_t exit_code = 0;         // what `muster` would end with, were this the only cause
  int32_t signal = 0;            // 0: none
  int32_t worker_exit_code = 0;  // the worker's own; 0: none
  int64_t pid = 0;
  uint64_t when_ms = 0;  // hybrid logical clock, milliseconds since the Unix epoch
  uint64_t last_op_seq = 0;
  std::string last_op;  // last collective it began; empty: none
  std::string program_error;  // what the program said of it, one line; empty: nothing
  std::string program_trace;
};

// The verdict and, earliest first, all its causes (none when the job went well or was stopped from outside).
struct Judgement {
  v1::Verdict verdict;
  std::vector<Cause> causes;
};

// True if `ending` by itself shows that the job cannot go on: an unexpected exit code, signal, or failed start. An exit with 0
// is no failure here even if the session was left open: whether somebody still needed that rank, only a blame tells.
bool IsFailure(const v1::WorkerEnded& ended);

// True if a blame shows that the communicators of the job are broken by another rank's doing. One of a communicator of some ranks alone
// shows nothing by itself, since the program may go on without it: only that whom it names is the cause where who says it fails.
bool IsFailure(const v1::PeerBlamed& blame);

// True if another try may go better: not where the program cannot be started, the end was asked for, or it was a fault of ours that
// stays.
bool IsCurable(const Evidence& evidence);

// The causes are the ranks that others blame and that blame nobody (all of a circle that blame each other), and those that
// failed with neither; what the graph leaves open is ordered by the hybrid logical clock. A program's own word that its peer has gone
// (gloo's "Connection closed by peer") makes it no cause where another rank failed otherwise. The others that ended are counted.
Judgement Judge(const Evidence& evidence);

// "SIGKILL"; "signal 65" where there is no name.
std::string SignalName(int signal);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_COORDINATOR_VERDICT_H_
