// Surface -> core: runs a model's body at compile time, so that loops unroll, blocks are instantiated and
// sizes are computed, and appends a node to the function for each op on tensors. Internal to the frontend;
// the door is frontend.h.
//
// Errors don't stop it: an expression in error is worth Val::error(), which silences whatever uses it, so the
// next statement is still checked.
#pragma once

#include <optional>
#include <unordered_set>

#include "frontend/frontend.h"
#include "frontend/unit.h"
#include "frontend/value.h"
#include "ir/builder.h"

namespace graphc {

// One running body: a model's, a block's, or a train section's.
struct Env {
  const FileUnit* unit = nullptr;
  const syntax::BlockDef* def = nullptr;  // null for a train section and for constants
  std::unordered_map<std::string_view, Val> names;
  std::unordered_map<std::string_view, std::shared_ptr<LayerInst>> layers;
  std::unordered_map<std::string_view, Variable*> states;
  std::unordered_set<std::string_view> unbound;  // sizes of the brackets not yet bound
  InstPath path;
  std::vector<int64_t> loops;   // 0-based counts of the compile-time loops around
  LocId loc = -1;               // the application
  Env* random_owner = nullptr;  // whose path and ordinal random ops take
  int ordinal = 0;
  bool early = false;  // a layer's parameter is asked for before the layer is applied
  std::vector<Val> results;
  Pos return_pos;

  std::string suffix() const;  // ".3.1"
};

class Elaborator {
 public:
  using Arg = std::pair<std::string_view, Val>;  // name or "", value
  struct Named {
    std::string_view name;
    Val value;
    Pos pos;
  };

  Elaborator(Units& units, Module& module) : units_(units), diags_(*units.diags), module_(module) {}

  enum class Mode { kInference, kEval, kTrain };
  // Adds @Net, @Net.eval or @Net.train. `overrides` are sizes of the model and constants of the root.
  void build(const syntax::BlockDef& model, const syntax::TrainDef* train, Mode mode);
  std::map<std::string, Val, std::less<>> overrides;

  // Parts of the train section that need no graph; fills the spec and the attributes of the optimize nodes.
  void read_train(const syntax::TrainDef& train, TrainSpec& spec);
  // Names in `overrides` that nothing took.
  std::vector<std::string> unused_overrides() const;
  // A value typed on the command line.
  std::optional<Val> parse_override(const std::string& name, const std::string& text);

 private:
  enum class Flow { kNext, kReturn };
  struct Link {  // of the chain shown under an error
    Pos pos;
    const syntax::BlockDef* block = nullptr;  // or
    const syntax::Stmt* loop = nullptr;
    std::string path;
    int64_t iteration = 0;
    const Val* element = nullptr;
  };
  struct Origin {  // where a value of the graph comes from in the text
    Pos pos;
    std::string_view what;
    const Value* from = nullptr;
  };
  struct Callee {
    enum Kind { kError, kLayer, kBlock, kConfig, kOp } kind = kError;
    std::shared_ptr<LayerInst> layer;
    BlockRef block;
    std::shared_ptr<Config> config;
    const OpDef* op = nullptr;
    Pos pos;
  };

  // ---- messages (report.cpp)
  Val error(Pos pos, std::string message, std::vector<Note> notes = {});
  void add_chain(std::vector<Note>& notes) const;
  // How v came to be: at most `depth` notes.
  void derive(const Value* v, std::string_view name, int depth, std::vector<Note>& notes) const;
  LocId loc_of(Pos pos, const Env& env);

  // ---- statements (statements.cpp)
  Flow run_body(const std::vector<syntax::Stmt*>& body, Env& env);
  Flow run(const syntax::Stmt& s, Env& env);
  void poison(const std::vector<syntax::Stmt*>& body, Env& env);
  Flow run_for(const syntax::Stmt& s, Env& env);
  void declare(const syntax::Stmt& s, Env& env);
  void run_layer(const syntax::Stmt& s, Env& env);
  void run_assign(const syntax::Stmt& s, Env& env);
  void run_assert(const syntax::Stmt& s, Env& env);
  void assign(const syntax::Target& t, Val v, Env& env);
  std::optional<bool> condition(const syntax::Expr& e, Env& env, std::string_view where);
  Variable* declare_variable(const syntax::Stmt& s, Env& env, VariableKind kind);
  bool read_init(const syntax::Expr& e, Env& env, std::string& name, Attrs& attrs);
  std::string interpolate(const std::string& text, Env& env) const;
  bool step(Pos pos);  // counts work; false when a program runs away

  // ---- expressions (evaluate.cpp)
  Val eval(const syntax::Expr& e, Env& env, std::string_view target = {});
  Val eval_name(const syntax::Expr& e, Env& env);
  Val eval_attr(const syntax::Expr& e, Env& env);
  Val eval_index(Val base, const syntax::Expr& e, Env& env);
  Val index_tensor(Value* x, const Dim& i, Pos pos, Env& env);
  Val unary(syntax::Op op, Val a, Pos pos, Env& env);
  Val binary(syntax::Op op, Val a, Val b, Pos pos, Env& env);
  Val constant_binary(syntax::Op op, const Val& a, const Val& b, Pos pos);
  Val compare(syntax::Op op, const Val& a, const Val& b, Pos pos);
  Val tensor_binary(syntax::Op op, const Val& a, const Val& b, Pos pos, Env& env);
  Val constant_of(const FileUnit& unit, std::string_view name, Pos pos);
  // A literal as a tensor of the dtype, which it must fit.
  Val literal(const Val& v, DType dtype, Pos pos, Env& env);
  Val make_node(const OpDef& op, std::vector<Value*> operands, Attrs attrs, Pos pos, Env& env);

  // ---- calls (calls.cpp)
  Callee resolve(const syntax::Expr& e, Env& env);
  Val eval_call(const syntax::Expr& e, Env& env, std::string_view target);
  Val eval_pipe(const syntax::Expr& e, Env& env, std::string_view target);
  Val apply_stage(const syntax::Expr& stage, Val x, std::string_view label, Pos label_pos, Env& env,
                  std::string_view target);
  bool eval_args(const syntax::Expr& call, Env& env, std::vector<Named>& out);
  Val configure(const BlockRef& block, const syntax::Expr* call, Pos pos, Env& env);
  Val instantiate(const Config& config, const std::vector<Named>& args, std::string_view label, Env& env,
                  Pos pos, LayerInst* layer = nullptr);
  Val apply_layer(LayerInst& layer, const std::vector<Named>& args, Env& env, Pos pos);
  Variable* layer_variable(LayerInst& layer, const std::string& name, Pos pos, Env& env);
  Val call_op(const OpDef& op, const std::vector<Named>& args, bool piped, Pos pos, Env& env);
  std::optional<Val> constant_call(const OpDef& op, const std::vector<Val>& operands, Pos pos);
  std::optional<Attr> to_attr(const Val& v) const;
  bool convert_setting(const syntax::Setting& s, Val& v, Pos pos, std::string_view block);
  Value* random_key(Env& env);

  // ---- types (types.cpp)
  std::optional<Dim> eval_dim(const syntax::Expr& e, Env& env);
  std::optional<TensorType> eval_type(const syntax::TypeExpr& t, Env& env);
  // Compares a value's type with a written one, binding sizes of env.unbound that it determines. Names the
  // value and gives `notes` if they differ.
  bool match_type(const syntax::TypeExpr& t, const Value* v, Env& env, Pos pos, std::string_view what,
                  std::string_view role);
  bool check_bounds(const syntax::DimBind& b, const Val& v, Env& env, Pos pos);

  // ---- models and training (model.cpp, train.cpp)
  void build_train(const syntax::TrainDef& train, Mode mode, Func& f, Env& model,
                   const std::vector<Val>& outputs);
  std::optional<Attrs> optimizer_attrs(const syntax::TrainEntry& e, Env& env, bool overridable);
  bool apply_schedule(const syntax::TrainEntry& e, Env& env, Attrs& attrs);
  std::optional<Attrs> named_call(const syntax::Expr& e, Env& env, std::string_view what, std::string& name);

  Units& units_;
  Diagnostics& diags_;
  Module& module_;
  Func* func_ = nullptr;
  std::optional<Builder> builder_;
  DimRanges ranges_;
  bool training_ = false;
  int depth_ = 0;   // of recursion in eval
  int blocks_ = 0;  // nested instantiations
  int64_t steps_ = 0;
  bool stopped_ = false;  // a limit was hit: everything winds up in silence
  std::vector<Link> chain_;
  PathSet* declared_ = nullptr;  // paths of the current function, or of the layer being applied
  std::unordered_map<const Value*, Origin> origins_;
  std::unordered_map<uint64_t, LocId> locs_;
  std::unordered_set<uint64_t> reported_;
  std::unordered_map<const syntax::ConstDef*, Val> consts_;
  std::unordered_set<const syntax::ConstDef*> evaluating_;
  std::unordered_set<std::string> taken_;  // overrides
  std::unordered_set<uint32_t> streams_;   // of random keys, to keep them apart
};

}  // namespace graphc
