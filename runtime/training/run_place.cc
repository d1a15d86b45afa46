#include "runtime/training/run_place.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace muster {
namespace {

bool IsPermutation(std::vector<int32_t> order, int parameters) {
  if (order.size() != static_cast<size_t>(parameters)) return false;
  std::sort(order.begin(), order.end());
  for (int32_t i = 0; i < parameters; ++i) {
    if (order[static_cast<size_t>(i)] != i) return false;
  }
  return true;
}

}  // namespace

std::map<std::string, std::string> AttributesOf(const RunPlace& place) {
  return {{"cursor", absl::StrCat(place.cursor)},
          {"weight", absl::StrCat(place.weight)},
          {"random_state", absl::StrCat(place.random_state)},
          {"samples_sha256", ToHex(place.samples_digest)},
          {"bucket_order", absl::StrJoin(place.bucket_order, ",")}};
}

std::optional<RunPlace> RunPlaceOf(const std::map<std::string, std::string>& attributes, int parameters) {
  const auto text = [&](const char* name) {
    const auto found = attributes.find(name);
    return found == attributes.end() ? std::string() : found->second;
  };
  RunPlace place;
  const std::string digest = absl::HexStringToBytes(text("samples_sha256"));
  if (!absl::SimpleAtoi(text("cursor"), &place.cursor) || !absl::SimpleAtoi(text("weight"), &place.weight) ||
      !absl::SimpleAtoi(text("random_state"), &place.random_state) || digest.size() != place.samples_digest.size()) {
    return std::nullopt;
  }
  std::memcpy(place.samples_digest.data(), digest.data(), digest.size());
  const std::string order = text("bucket_order");
  for (const absl::string_view word : absl::StrSplit(order, ',', absl::SkipEmpty())) {
    place.bucket_order.push_back(0);
    if (!absl::SimpleAtoi(word, &place.bucket_order.back())) return std::nullopt;
  }
  if (!IsPermutation(place.bucket_order, parameters)) return std::nullopt;
  return place;
}

std::map<std::string, std::string> FixedAttributes(const TrainerOptions& options) {
  return {{"samples", absl::StrCat(options.samples)},
          {"batch", absl::StrCat(options.batch)},
          {"shards", absl::StrCat(options.shards)},
          {"accumulate", absl::StrCat(options.accumulate)},
          {"seed", absl::StrCat(options.seed)},
          {"optimizer", options.optimizer.kind == OptimizerKind::kSgd ? "sgd" : "adamw"}};
}

}  // namespace muster
