#include "launcher/fabric/fair_share.h"

#include <algorithm>
#include <cstddef>
#include <limits>

namespace muster {
namespace {

constexpr double kInfinite = std::numeric_limits<double>::infinity();
// Links that fill up at rates so near each other fill up together: they differ by rounding.
constexpr double kTogether = 1 + 1e-12;

size_t At(int index) { return static_cast<size_t>(index); }

}  // namespace

std::vector<double> FairRates(const std::vector<double>& capacities, const std::vector<Flow>& flows) {
  std::vector<double> rates(flows.size(), kInfinite);
  std::vector<double> left = capacities;              // what those that stay leave of a link
  std::vector<double> growing(capacities.size(), 0);  // bytes on it for each byte/s of those that grow
  std::vector<std::vector<size_t>> users(capacities.size());
  for (size_t f = 0; f < flows.size(); ++f) {
    for (const Flow::Use& use : flows[f].uses) {
      if (capacities[At(use.link)] == kInfinite) continue;
      growing[At(use.link)] += use.share;
      users[At(use.link)].push_back(f);
    }
  }
  std::vector<size_t> open;  // links with somebody that grows
  for (size_t link = 0; link < capacities.size(); ++link) {
    if (!users[link].empty()) open.push_back(link);
  }
  std::vector<bool> stays(flows.size(), false);
  while (!open.empty()) {
    double rate = kInfinite;
    for (const size_t link : open) rate = std::min(rate, std::max(left[link], 0.0) / growing[link]);
    std::vector<size_t> full;
    for (const size_t link : open) {
      if (std::max(left[link], 0.0) / growing[link] <= rate * kTogether) full.push_back(link);
    }
    for (const size_t link : full) {
      for (const size_t f : users[link]) {
        if (stays[f]) continue;
        stays[f] = true;
        rates[f] = rate;
        for (const Flow::Use& use : flows[f].uses) {
          left[At(use.link)] -= rate * use.share;
          growing[At(use.link)] -= use.share;
        }
      }
    }
    std::erase_if(open, [&](size_t link) {
      return std::all_of(users[link].begin(), users[link].end(), [&stays](size_t f) { return stays[f]; });
    });
  }
  return rates;
}

}  // namespace muster
