// Flags of one subcommand, typed as mpirun's users type them.
#ifndef MUSTER_LAUNCHER_CLI_FLAGS_H_
#define MUSTER_LAUNCHER_CLI_FLAGS_H_

#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/base/nearest_name.h"

namespace muster {

// What help, the manual and completion say of one flag.
struct FlagDescription {
  std::vector<std::string> names;    // as typed; the first is shown in messages
  std::string value_name;            // empty: takes no value
  std::string help;                  // lines, separated by '\n'
  std::string heading;               // empty: under "options"
  std::vector<std::string> choices;  // values that completion offers; empty: whatever fits the value's name
  bool without_effect = false;       // accepted, and so anyway
};

// Declare flags, then Parse, once or with what a Parse has left. Targets are borrowed until then.
//
// Names are given as the user may type them, separated by spaces: "-np -n --np". One dash or two are the same for names of two
// letters and more, '_' is the same as '-', and a value may follow as the next word, after '=', or (counts only) directly: -np
// 4, -np=4, -np4. The first name is the one that help and errors show.
class FlagSet {
 public:
  // `command` as the user types it ("muster run"): for messages.
  explicit FlagSet(std::string command) : command_(std::move(command)) {}

  void Switch(const std::string& names, bool* target, std::string help);
  void Count(const std::string& names, std::string value_name, int64_t* target, int64_t least, int64_t most, std::string help);
  void Seconds(const std::string& names, std::string value_name, double* target, std::string help, double most = 1e9);
  void Text(const std::string& names, std::string value_name, std::string* target, std::string help);
  // May be given many times; values in order.
  void Texts(const std::string& names, std::string value_name, std::vector<std::string>* target, std::string help);
  // The flags declared from here on stand under `heading` in help, a few words in lower case; "" is the first group, which has no
  // heading of its own. A heading may be said again: its flags stand together.
  void Heading(std::string heading) { heading_ = std::move(heading); }
  // Values of the flag `name` (as declared before) for completion to offer. Parse does not look at them.
  void Choices(const std::string& name, std::vector<std::string> values);
  // Accepted and without effect, because what it asks for is so anyway. With a `value_name` it takes a value, any.
  void Ignored(const std::string& names, std::string value_name = "");
  // Known, but refused by this version; `instead` is the remedy, a whole sentence.
  void NotYet(const std::string& names, std::string instead);
  // Known from another launcher, and refused: what it is for is done otherwise. `why`, a whole sentence, says how.
  void NotNeeded(const std::string& names, std::string why);
  // Known as flags of `others`, but refused here: "-x stands <why>". Those that are declared here already stay.
  void Refuse(const FlagSet& others, std::string why);

  // Fills the targets and returns what follows the flags: the first word that is no flag (or what stands after `--`) and all
  // after it. Errors: InvalidArgument, one sentence that names the flag and the remedy.
  absl::StatusOr<std::vector<std::string>> Parse(const std::vector<std::string>& arguments);

  // Whether a Parse met -h or --help. It stops there and returns nothing.
  bool help_wanted() const { return help_wanted_; }
  // Whether the last Parse ended at a `--`.
  bool separated() const { return separated_; }
  // One paragraph a flag, in order of declaration, heading by heading.
  std::string Help() const;
  // The same for other readers; what is NotYet or NotNeeded is left out.
  std::vector<FlagDescription> Describe() const;

 private:
  enum class Kind { kSwitch, kCount, kSeconds, kText, kTexts, kIgnored, kNotYet, kNotNeeded, kRefused };
  struct Flag {
    Kind kind;
    std::vector<std::string> names;  // as typed
    std::string value_name;
    std::string help;
    std::string heading;
    std::vector<std::string> choices;
    int64_t least = 0;
    int64_t most = 0;
    double seconds_most = 0;
    bool* switch_target = nullptr;
    int64_t* count_target = nullptr;
    double* seconds_target = nullptr;
    std::string* text_target = nullptr;
    std::vector<std::string>* texts_target = nullptr;
    bool takes_value() const { return kind <= Kind::kTexts ? kind != Kind::kSwitch : !value_name.empty(); }
    bool is_offered() const { return kind <= Kind::kTexts; }  // in help and suggestions
  };

  Flag& Declare(Kind kind, const std::string& names, std::string value_name, std::string help);
  const Flag* Find(const std::string& bare_name) const;
  Flag* Find(const std::string& bare_name);
  absl::Status Unknown(const std::string& word) const;
  // Flags as CLI11 understands them ("--np" "4"), the rest in `rest`.
  absl::Status Normalise(const std::vector<std::string>& arguments, std::vector<std::string>* normalised,
                         std::vector<std::string>* rest);
  absl::Status Fill(std::vector<std::string> normalised);

  std::string command_;
  std::string heading_;
  std::vector<Flag> flags_;
  bool help_wanted_ = false;
  bool separated_ = false;
};

// One of several flags, and whether it was given.
struct GivenFlag {
  const char* name;
  bool is_given;
};
// A flag where nothing gives it a meaning: "--last-call is about going on after a loss; add --max-restarts N, or leave it out", of the
// first of `flags` that was given; OK where none was.
absl::Status OutOfPlace(std::initializer_list<GivenFlag> flags, const std::string& about, const std::string& remedy);

// One paragraph a flag, heading by heading; a heading is a line of its own after an empty one.
std::string FlagsText(const std::vector<FlagDescription>& flags);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_CLI_FLAGS_H_
