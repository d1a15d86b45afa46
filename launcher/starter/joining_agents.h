// No way to the nodes, and none needed: agents come by themselves with a key that they share with the coordinator.
#ifndef MUSTER_LAUNCHER_STARTER_JOINING_AGENTS_H_
#define MUSTER_LAUNCHER_STARTER_JOINING_AGENTS_H_

#include <string>
#include <utility>

#include "launcher/starter/starter.h"

namespace muster {

class JoiningAgents final : public Starter {
 public:
  // `listen_address`: "0.0.0.0" for all of this machine's addresses.
  explicit JoiningAgents(std::string listen_address) : listen_address_(std::move(listen_address)) {}

  absl::Status Start(uint32_t, const std::string&, const std::string&) override { return absl::OkStatus(); }
  void End(uint32_t) override {}
  void EndAll() override {}
  uint32_t running() const override { return 0; }
  bool sees_ends(uint32_t) const override { return false; }
  const std::string& listen_address() const override { return listen_address_; }

 private:
  const std::string listen_address_;
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_STARTER_JOINING_AGENTS_H_
