#include "frontend/format.h"

#include <vector>

#include "frontend/lexer.h"
#include "frontend/parser.h"

namespace graphc {
namespace {

using syntax::Lexer;
using syntax::Tok;
using syntax::Token;

bool opens(Tok t) { return t == Tok::kLParen || t == Tok::kLBracket || t == Tok::kLBrace; }
bool closes(Tok t) { return t == Tok::kRParen || t == Tok::kRBracket || t == Tok::kRBrace; }
// may an operand end with this token?
bool ends_operand(Tok t) {
  return t == Tok::kId || t == Tok::kInt || t == Tok::kFloat || t == Tok::kStr || t == Tok::kDType ||
         t == Tok::kTrue || t == Tok::kFalse || t == Tok::kRParen || t == Tok::kRBracket;
}

class Formatter {
 public:
  std::string run(const std::vector<Token>& tokens) {
    size_t i = 0;
    bool blank = false;
    while (i < tokens.size()) {
      size_t e = i;
      while (e < tokens.size() && tokens[e].kind != Tok::kNewline) ++e;
      if (e == i) {
        blank = true;
      } else {
        // no blank lines at the start of the file, behind an opening brace, before a closing one
        if (blank && !out_.empty() && !after_open_ && !closes(tokens[i].kind)) out_ += '\n';
        blank = false;
        line(tokens, i, e);
      }
      i = e + 1;
    }
    return std::move(out_);
  }

 private:
  struct Open {
    Tok kind;
    int line;
    bool colon = false;  // a ':' stands in the current element
  };

  // A level for each line on which brackets are still open.
  int level(size_t count) const {
    int n = 0;
    for (size_t k = 0; k < count; ++k) n += k == 0 || open_[k].line != open_[k - 1].line;
    return n;
  }

  void line(const std::vector<Token>& tokens, size_t begin, size_t end) {
    ++line_;
    size_t still_open = open_.size();
    for (size_t k = begin; k < end && closes(tokens[k].kind) && still_open > 0; ++k) --still_open;
    int indent = level(still_open);
    if (tokens[begin].kind == Tok::kPipe) ++indent;
    out_.append(static_cast<size_t>(indent) * 2, ' ');
    prev_ = Tok::kEnd;
    tight_ = false;
    for (size_t k = begin; k < end; ++k) emit(tokens[k]);
    out_ += '\n';
    Tok last = tokens[end - 1].kind;
    if (last == Tok::kComment && end - 1 > begin) last = tokens[end - 2].kind;
    after_open_ = opens(last);
  }

  void emit(const Token& t) {
    if (t.kind == Tok::kComment) {
      if (prev_ != Tok::kEnd) out_ += "  ";
      std::string_view text = t.text;
      while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
      out_ += '#';
      if (text.size() > 1 && text[1] != ' ' && text[1] != '\t' && text[1] != '#' && text[1] != '!')
        out_ += ' ';
      out_ += text.substr(1);
      return;
    }
    const bool unary = (t.kind == Tok::kMinus || t.kind == Tok::kPlus) && !ends_operand(prev_);
    const bool keyword_arg =
        t.kind == Tok::kAssign && !open_.empty() && open_.back().kind == Tok::kLParen && !open_.back().colon;
    if (prev_ != Tok::kEnd && !tight_ && wants_space(t, keyword_arg)) out_ += ' ';
    if (t.quoted_id) out_ += '`';
    out_ += t.text;
    if (t.quoted_id) out_ += '`';
    if (opens(t.kind))
      open_.push_back({t.kind, line_});
    else if (closes(t.kind)) {
      if (!open_.empty()) open_.pop_back();
    } else if (!open_.empty() && t.kind == Tok::kColon)
      open_.back().colon = true;
    else if (!open_.empty() && t.kind == Tok::kComma)
      open_.back().colon = false;
    tight_ = unary || keyword_arg || t.kind == Tok::kLParen || t.kind == Tok::kLBracket ||
             t.kind == Tok::kEllipsis || t.kind == Tok::kRange || t.kind == Tok::kDot ||
             t.kind == Tok::kPower;
    prev_ = t.kind;
  }

  bool wants_space(const Token& t, bool keyword_arg) const {
    switch (t.kind) {
      case Tok::kComma:
      case Tok::kRParen:
      case Tok::kRBracket:
      case Tok::kColon:
      case Tok::kDot:
      case Tok::kRange:
      case Tok::kPower: return false;
      case Tok::kLParen:
      case Tok::kLBracket:
        return !(prev_ == Tok::kId || prev_ == Tok::kDType || prev_ == Tok::kRParen ||
                 prev_ == Tok::kRBracket);
      case Tok::kRBrace: return prev_ != Tok::kLBrace;
      case Tok::kAssign: return !keyword_arg;
      default: return true;
    }
  }

  std::string out_;
  std::vector<Open> open_;
  Tok prev_ = Tok::kEnd;
  bool tight_ = false;  // nothing may stand between the last token and the next
  bool after_open_ = false;
  int line_ = 0;
};

std::vector<Token> raw_tokens(const SourceMap& sources, uint32_t file, Diagnostics& diags) {
  Lexer lexer(sources, file, diags, /*raw=*/true);
  std::vector<Token> tokens;
  for (Token t = lexer.next(); t.kind != Tok::kEnd && !diags.full(); t = lexer.next()) tokens.push_back(t);
  return tokens;
}

}  // namespace

Result<std::string> format_source(std::string_view text, std::string_view file_name) {
  SourceMap sources;
  const uint32_t file = sources.add(std::string(file_name), std::string(text));
  Diagnostics diags(sources);
  syntax::parse_source(sources, file, diags);
  if (!diags.ok()) return invalid(diags.render());
  const std::vector<Token> tokens = raw_tokens(sources, file, diags);
  std::string out = Formatter().run(tokens);
  // what a formatter must never do is change the program
  const uint32_t again = sources.add("formatted", out);
  const std::vector<Token> after = raw_tokens(sources, again, diags);
  auto next = [](const std::vector<Token>& v, size_t& i) {
    while (i < v.size() && (v[i].kind == Tok::kNewline || v[i].kind == Tok::kComment)) ++i;
    return i < v.size() ? v[i++] : Token{};
  };
  for (size_t i = 0, j = 0; i < tokens.size() || j < after.size();) {
    const Token a = next(tokens, i), b = next(after, j);
    if (a.kind != b.kind || a.text != b.text)
      return internal_error("formatting would have changed the tokens of " + sources.show(a.pos));
  }
  return out;
}

}  // namespace graphc
