// What the exit status of `muster` means; docs and `muster run --help` show the same list.
#ifndef MUSTER_LAUNCHER_PROCESS_EXIT_CODES_H_
#define MUSTER_LAUNCHER_PROCESS_EXIT_CODES_H_

namespace muster {

// 64 and above follow sysexits.h; 124, 126, 127 and 128 + signal follow the shell and timeout(1). A failed worker's own status
// (or 128 + its signal) is passed on as it is; `--report` says whether a code came from a worker or from muster.
enum ExitCode : int {
  kExitOk = 0,
  kExitCheckFailed = 1,      // `muster doctor` found something that must be mended; NCCL does not follow the plan (`muster topo check`)
  kExitUsage = 64,           // wrong flag or value
  kExitDamaged = 65,         // `muster checkpoint verify` found damage, or nothing complete
  kExitUnavailable = 69,     // too few nodes came; an agent found no coordinator
  kExitInternal = 70,        // our bug
  kExitCannotWrite = 73,     // state folder, report, temporary folder, workers' output
  kExitRefused = 77,         // an agent that the coordinator turned away
  kExitJobFile = 78,         // a job file, or one of a cluster, says what it cannot say
  kExitTimeout = 124,        // --timeout
  kExitNotExecutable = 126,  // the program is there but cannot be started
  kExitNotFound = 127,       // there is no such program
  kExitHangUp = 129,         // muster got SIGHUP
  kExitInterrupted = 130,    // Ctrl-C
  kExitBrokenPipe = 141,     // muster's own stdout was closed by its reader
  kExitTerminated = 143,     // muster got SIGTERM
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_PROCESS_EXIT_CODES_H_
