#include "launcher/agent/topology_teller.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "launcher/placement/cpu_set.h"
#include "launcher/placement/topology.h"

namespace muster {
namespace {

constexpr absl::Duration kLookAtCoresAgain = absl::Milliseconds(20);
constexpr int kLooksAtCoresMax = 100;  // then what others hold counts as theirs, settled or not

}  // namespace

TopologyTeller::~TopologyTeller() {
  if (timer_) loop_->Cancel(*timer_);
}

void TopologyTeller::Tell(bool has_workers) {
  has_workers_ = has_workers;
  looks_ = 0;
  if (timer_) loop_->Cancel(*timer_);
  timer_.reset();
  Look();
}

// Cores that another job is about to choose from are looked at again, until it has chosen.
void TopologyTeller::Look() {
  auto machine = Topology::Discover();
  if (!machine.ok()) {
    callbacks_.log(LogLevel::kError, absl::StrCat("the topology of this node: ", machine.status().message()));
    return Send("", {});  // the coordinator names this node
  }
  auto xml = machine->ToXml();
  if (!xml.ok()) return Send("", {});
  if (has_workers_) return Send(*std::move(xml), {});  // a coordinator that came back; what they hold they hold
  if (!core_locks_) {
    auto locks = CoreLocks::Open(job_id_);
    if (!locks.ok()) {
      callbacks_.log(LogLevel::kWarning, absl::StrCat("other jobs may take the same cores: ", locks.status().message()));
      return Send(*std::move(xml), {});
    }
    core_locks_ = *std::move(locks);
  }
  const CoreLocks::Taken taken = core_locks_->Take(machine->cpus());
  if (taken.settled || ++looks_ >= kLooksAtCoresMax) return Send(*std::move(xml), taken.held);
  timer_ = loop_->After(kLookAtCoresAgain, [this] {
    timer_.reset();
    Look();
  });
}

void TopologyTeller::Send(std::string xml, const std::vector<HeldCpus>& held) {
  v1::NodeTopology topology;
  topology.set_xml(std::move(xml));
  for (const HeldCpus& one : held) {
    v1::HeldProcessors& entry = *topology.add_held();
    entry.set_cpus(one.cpus.ListText());
    entry.set_pid(one.pid);
  }
  callbacks_.send(std::move(topology));
}

void TopologyTeller::Settle(const v1::Prepare& prepare) {
  if (!core_locks_) return;
  CpuSet wanted;
  for (const v1::Place& place : prepare.places()) {
    if (auto cpus = CpuSet::Parse(place.cpus()); cpus.ok()) wanted.Add(*cpus);
  }
  for (const HeldCpus& other : core_locks_->Settle(wanted)) {
    callbacks_.log(LogLevel::kInfo, absl::StrCat("processors ", other.cpus.ListText(), " are shared with another job (process ",
                                                 other.pid, ")"));
  }
}

}  // namespace muster
