// No way to the nodes: somebody else starts the agents, with tickets that lie in a folder.
#ifndef MUSTER_LAUNCHER_STARTER_TICKET_FILES_H_
#define MUSTER_LAUNCHER_STARTER_TICKET_FILES_H_

#include <string>
#include <utility>

#include "launcher/starter/starter.h"

namespace muster {

class TicketFiles final : public Starter {
 public:
  // `listen_address`: "0.0.0.0" for all of this machine's addresses. `say`: how to start one node's agent, a line for a person.
  TicketFiles(std::string folder, std::string listen_address, std::function<void(const std::string& line)> say)
      : folder_(std::move(folder)), listen_address_(std::move(listen_address)), say_(std::move(say)) {}

  // Replaces `folder`/node-N.ticket, which only this user may read.
  absl::Status Start(uint32_t node, const std::string& coordinator, const std::string& ticket) override;
  void End(uint32_t) override {}
  void EndAll() override {}
  uint32_t running() const override { return 0; }
  bool sees_ends(uint32_t) const override { return false; }
  const std::string& listen_address() const override { return listen_address_; }

 private:
  const std::string folder_;
  const std::string listen_address_;
  const std::function<void(const std::string& line)> say_;
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_STARTER_TICKET_FILES_H_
