// Tokens of the surface language. Nothing is stored: the lexer makes them as they are asked for, so 64 MiB of
// input costs no more memory than its text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "frontend/diagnostic.h"
#include "runtime/base/dtype.h"

namespace graphc::syntax {

enum class Tok : uint8_t {
  kEnd,
  kNewline,
  kComment,
  kBad,  // kBad: already reported
  kId,
  kInt,
  kFloat,
  kStr,
  kDType,
  // reserved words
  kIf,
  kElse,
  kFor,
  kIn,
  kReturn,
  kYield,
  kScan,
  kAssert,
  kParam,
  kState,
  kLayer,
  kAnd,
  kOr,
  kNot,
  kTrue,
  kFalse,
  // punctuation
  kLParen,
  kRParen,
  kLBracket,
  kRBracket,
  kLBrace,
  kRBrace,
  kComma,
  kColon,
  kDot,
  kRange,
  kEllipsis,
  kAssign,
  kArrow,
  kPipe,
  kPlus,
  kMinus,
  kStar,
  kSlash,
  kFloorDiv,
  kPercent,
  kAt,
  kPower,
  kEq,
  kNe,
  kLt,
  kLe,
  kGt,
  kGe,
};

// "'|>'", "a name": for messages
std::string_view tok_name(Tok t);

struct Token {
  Tok kind = Tok::kEnd;
  Pos pos;
  std::string_view text;    // as written; of a quoted name what stands between the backticks
  bool quoted_id = false;   // `any:text`: never a contextual keyword
  bool line_start = false;  // first token of its line
  bool column_one = false;  // stands at the very start of its line
  int64_t int_value = 0;
  double float_value = 0;
  DType dtype = DType::kF32;
};

class Lexer {
 public:
  // raw: comments and every newline come as tokens (the formatter's view). Otherwise comments vanish,
  // newlines are left out inside
  // () and [] and before |> and else, and runs of newlines are one token.
  Lexer(const SourceMap& sources, uint32_t file, Diagnostics& diags, bool raw = false);
  Token next();

 private:
  Token advance();
  Token implied_newline() const;
  Token scan();
  Token number();
  Token string();
  Token quoted_name();
  Token make(Tok kind, size_t begin);
  Token bad(size_t begin, std::string message);
  bool continues_on_next_line() const;
  char at(size_t i) const { return i < text_.size() ? text_[i] : '\0'; }

  std::string_view text_;
  uint32_t file_;
  Diagnostics* diags_;
  bool raw_;
  size_t i_ = 0;
  size_t last_end_ = 0;  // of the last token that was not a newline
  int depth_ = 0;        // open ( and [
  bool line_start_ = true;
};

// The bytes a string token stands for (its quotes removed, escapes \n \t \r \\ \" \u{..} resolved; the lexer
// has checked them).
std::string unescape(std::string_view literal);
// The reverse: a string literal with quotes.
std::string escape(std::string_view bytes);

}  // namespace graphc::syntax
