// What a person who mistyped a name may have meant.
#ifndef MUSTER_RUNTIME_BASE_NEAREST_NAME_H_
#define MUSTER_RUNTIME_BASE_NEAREST_NAME_H_

#include <string>
#include <vector>

namespace muster {

// The candidate nearest to `word` by edit distance, if it is near enough to be a slip of the finger; else empty.
std::string NearestName(const std::string& word, const std::vector<std::string>& candidates);

}  // namespace muster

#endif  // MUSTER_RUNTIME_BASE_NEAREST_NAME_H_
