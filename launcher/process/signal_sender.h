// Who has sent a signal.
#ifndef MUSTER_LAUNCHER_PROCESS_SIGNAL_SENDER_H_
#define MUSTER_LAUNCHER_PROCESS_SIGNAL_SENDER_H_

#include <sys/signalfd.h>

#include <string>

namespace muster {

// "muster cancel of root@host", "process 812 (bash) of user root"; "Ctrl-C" where a terminal sent SIGINT; empty where nothing is to be
// known, as of a sender in another PID namespace. What is told of a process is what it is now: it may have gone since.
std::string SenderOf(const signalfd_siginfo& signal);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_PROCESS_SIGNAL_SENDER_H_
