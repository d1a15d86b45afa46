// libpmix as the PMIx server of one node and one generation. The only user of that library.
#ifndef MUSTER_LAUNCHER_PMIX_PMIX_SERVER_H_
#define MUSTER_LAUNCHER_PMIX_PMIX_SERVER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "muster/v1/mpi.pb.h"
#include "runtime/base/event_loop.h"

namespace muster {

// "OpenPMIx 4.2.2", as the library itself says.
std::string PmixLibrary();

// One in the life of a process, for libpmix's server is one; it is never finalized, the process just ends. Belongs to the loop's
// thread; libpmix calls from a thread of its own, and what it says is posted to the loop.
class PmixServer {
 public:
  // `report` is called on the loop; it fills in job and generation. Errors: Internal, with libpmix's word for it.
  static absl::StatusOr<std::unique_ptr<PmixServer>> Start(EventLoop* loop, const v1::PmixWorld& world,
                                                           std::function<void(v1::PmixReport report)> report);
  virtual ~PmixServer() = default;

  virtual uint16_t port() const = 0;  // of 127.0.0.1, where it takes connections
  virtual void OnFenced(v1::PmixFenced fenced) = 0;
  virtual void OnAsked(const v1::PmixAsked& asked) = 0;  // by another node, for a rank of this one
  virtual void OnAnswer(v1::PmixAnswer answer) = 0;      // to what this one has asked
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_PMIX_PMIX_SERVER_H_
