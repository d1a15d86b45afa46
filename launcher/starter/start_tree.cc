#include "launcher/starter/start_tree.h"

#include <algorithm>
#include <functional>
#include <utility>

namespace muster {
namespace {

using Starts = std::vector<v1::AgentStart>;

void Grow(Starts::iterator begin, Starts::iterator end, uint32_t fan_out, bool through_agent,
          const std::function<void(v1::AgentStart)>& give) {
  const size_t count = static_cast<size_t>(end - begin);
  const size_t parts = std::min<size_t>(count, fan_out);
  for (size_t part = 0; part < parts; ++part) {
    const auto first = begin + static_cast<ptrdiff_t>(count * part / parts);
    const auto last = begin + static_cast<ptrdiff_t>(count * (part + 1) / parts);
    v1::AgentStart head = std::move(*first);
    head.set_through_agent(through_agent);
    Grow(first + 1, last, fan_out, true, [&](v1::AgentStart child) { *head.add_children() = std::move(child); });
    give(std::move(head));
  }
}

}  // namespace

Starts MakeStartTrees(Starts starts, uint32_t fan_out) {
  Starts roots;
  const auto others = std::stable_partition(starts.begin(), starts.end(), [](const v1::AgentStart& one) { return one.is_here(); });
  for (auto here = starts.begin(); here != others; ++here) roots.push_back(std::move(*here));
  Grow(others, starts.end(), std::max(fan_out, 1u), false, [&](v1::AgentStart root) { roots.push_back(std::move(root)); });
  return roots;
}

}  // namespace muster
