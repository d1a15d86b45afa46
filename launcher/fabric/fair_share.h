// Max-min fair rates of flows that share links.
#ifndef MUSTER_LAUNCHER_FABRIC_FAIR_SHARE_H_
#define MUSTER_LAUNCHER_FABRIC_FAIR_SHARE_H_

#include <vector>

namespace muster {

struct Flow {
  struct Use {
    int link = 0;      // index into the capacities
    double share = 1;  // bytes on that link for each byte of the flow, above 0; uses of one link add up
  };
  std::vector<Use> uses;
};

// The rate of each flow, bytes/s: all rates grow alike until a link is full, then those that use it stay, and the others go on. So
// no rate can be raised but by lowering one that is not higher. Infinite for a flow that uses no link of finite capacity.
// `capacities` are above 0, perhaps infinite, in bytes/s.
// Source: progressive filling, Bertsekas and Gallager, Data Networks (2nd ed., 1992), section 6.5.2.
std::vector<double> FairRates(const std::vector<double>& capacities, const std::vector<Flow>& flows);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_FABRIC_FAIR_SHARE_H_
