// Trained weights into a program, before Model::create makes a model of it.
//
//   GC_TRY(Program p, load_program("net.gcx"));
//   GC_CHECK(apply_weights(p, "last.safetensors"));
//
// A file of another program has other names and sometimes other layouts. A map says which:
//
//   GC_TRY(WeightsMap map, WeightsMap::load("gpt2.map"));
//   GC_CHECK(apply_weights(p, "gpt2.safetensors", &map));
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "runtime/program.h"

namespace graphc {

// Text, one rule a line, `#` begins a comment:
//
//   wte.weight            = embed.weight
//   h.*.attn.c_proj.weight = blocks.*.proj.weight transpose     # [in, out] there, [out, in] here
//   conv.kernel           = conv.weight transpose=3,2,0,1       # axis i here is axis 3, 2, 0, 1 there
//   *.num_batches_tracked = -                                   # left out
//
// The left side is a name in the file. A `*` stands for any text, dots included, and each one on the right
// for the text of its counterpart. The first rule that fits a name decides; a name that none fits stays as it
// is. `transpose` alone is for matrices.
class WeightsMap {
 public:
  static Result<WeightsMap> parse(std::string_view text, const std::string& name);
  static Result<WeightsMap> load(const std::string& path);

  struct Rule {
    std::string theirs, ours;  // ours "-": leave the tensor out
    bool transpose = false;    // a matrix
    std::vector<int> axes;     // transpose=..; empty: none
    int line = 0;              // of the text
  };
  const std::vector<Rule>& rules() const { return rules_; }
  const std::string& name() const { return name_; }

  // The rule for a name of the file and the model's name; rule -1: none fits, the name stays.
  struct Match {
    int rule = -1;
    std::string ours;
  };
  Match match(std::string_view theirs) const;

 private:
  std::string name_;  // of the text, for messages
  std::vector<Rule> rules_;
};

// Makes the tensors of a safetensors file, foreign or a checkpoint of ours, the initial values of the
// program's variables. Floats are converted to the variable's dtype. Names that the model lacks, parameters
// that the file lacks, other shapes and integer dtypes are errors, and so is a rule of the map that fits no
// tensor; an optimizer's state and random counters (opt.*, rng.*) are taken if the program has them.
Status apply_weights(Program& program, const std::string& path, const WeightsMap* map = nullptr);
// The same with the map's file; "": none.
Status apply_weights(Program& program, const std::string& path, const std::string& map_path);

}  // namespace graphc
