// Which fields the objects of Kubernetes have: the project's own small table, so that lint needs no cluster and no schema files.
#ifndef MUSTER_LAUNCHER_KUBERNETES_STRUCTURE_H_
#define MUSTER_LAUNCHER_KUBERNETES_STRUCTURE_H_

#include <map>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace muster::kubernetes {

// Lines of three kinds:
//   kind batch/v1 Job Job      an object's API version and kind, and its type
//   type JobSpec               begins a type, whose fields follow
//     completions i            a field: s text, i whole number, n number, b boolean, q quantity, x number or text, a anything,
//                              @T an object of type T; before it [ for a list of, { for a map of; after it (A|B) for the only words,
//                              and ! where the field must be there
extern const char kStructureText[];

struct FieldType {
  enum class Shape { kOne, kList, kMap };
  Shape shape = Shape::kOne;
  char scalar = 'a';  // as above; '@': `type`
  std::string type;
  std::vector<std::string> words;  // empty: any
  bool required = false;
};

using ObjectType = std::map<std::string, FieldType>;

// Null where the table has none.
const std::string* FindKind(absl::string_view api_version, absl::string_view kind);  // the name of its type
const ObjectType* FindType(absl::string_view name);

}  // namespace muster::kubernetes

#endif  // MUSTER_LAUNCHER_KUBERNETES_STRUCTURE_H_
