#include "frontend/lexer.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>

namespace graphc::syntax {
namespace {

bool id_start(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool digit(char c) { return c >= '0' && c <= '9'; }
bool id_char(char c) { return id_start(c) || digit(c); }

struct Word {
  std::string_view text;
  Tok kind;
};
constexpr Word kReserved[] = {
    {"if", Tok::kIf},         {"else", Tok::kElse},   {"for", Tok::kFor},     {"in", Tok::kIn},
    {"return", Tok::kReturn}, {"yield", Tok::kYield}, {"scan", Tok::kScan},   {"assert", Tok::kAssert},
    {"param", Tok::kParam},   {"state", Tok::kState}, {"layer", Tok::kLayer}, {"and", Tok::kAnd},
    {"or", Tok::kOr},         {"not", Tok::kNot},     {"true", Tok::kTrue},   {"false", Tok::kFalse}};

// Longest first.
constexpr Word kPunctuation[] = {
    {"...", Tok::kEllipsis}, {"|>", Tok::kPipe},    {"->", Tok::kArrow}, {"**", Tok::kPower},
    {"//", Tok::kFloorDiv},  {"==", Tok::kEq},      {"!=", Tok::kNe},    {"<=", Tok::kLe},
    {">=", Tok::kGe},        {"..", Tok::kRange},   {"(", Tok::kLParen}, {")", Tok::kRParen},
    {"[", Tok::kLBracket},   {"]", Tok::kRBracket}, {"{", Tok::kLBrace}, {"}", Tok::kRBrace},
    {",", Tok::kComma},      {":", Tok::kColon},    {".", Tok::kDot},    {"=", Tok::kAssign},
    {"+", Tok::kPlus},       {"-", Tok::kMinus},    {"*", Tok::kStar},   {"/", Tok::kSlash},
    {"%", Tok::kPercent},    {"@", Tok::kAt},       {"<", Tok::kLt},     {">", Tok::kGt}};

constexpr size_t kMaxName = 64 * 1024;  // LoadLimits: strings

void append_utf8(std::string& out, uint32_t cp) {
  if (cp < 0x80)
    out += static_cast<char>(cp);
  else if (cp < 0x800) {
    out += static_cast<char>(0xC0 | cp >> 6);
    out += static_cast<char>(0x80 | (cp & 63));
  } else if (cp < 0x10000) {
    out += static_cast<char>(0xE0 | cp >> 12);
    out += static_cast<char>(0x80 | (cp >> 6 & 63));
    out += static_cast<char>(0x80 | (cp & 63));
  } else {
    out += static_cast<char>(0xF0 | cp >> 18);
    out += static_cast<char>(0x80 | (cp >> 12 & 63));
    out += static_cast<char>(0x80 | (cp >> 6 & 63));
    out += static_cast<char>(0x80 | (cp & 63));
  }
}

}  // namespace

std::string_view tok_name(Tok t) {
  switch (t) {
    case Tok::kEnd: return "the end of the file";
    case Tok::kNewline: return "the end of the line";
    case Tok::kComment: return "a comment";
    case Tok::kBad: return "an unreadable token";
    case Tok::kId: return "a name";
    case Tok::kInt: return "an integer";
    case Tok::kFloat: return "a number";
    case Tok::kStr: return "a string";
    case Tok::kDType: return "a dtype";
    default: break;
  }
  for (const Word& w : kReserved)
    if (w.kind == t) return w.text;
  for (const Word& w : kPunctuation)
    if (w.kind == t) return w.text;
  return "?";
}

Lexer::Lexer(const SourceMap& sources, uint32_t file, Diagnostics& diags, bool raw)
    : text_(sources.text(file)), file_(file), diags_(&diags), raw_(raw) {
  if (text_.substr(0, 3) == "\xEF\xBB\xBF") i_ = 3;  // a byte order mark
}

Token Lexer::make(Tok kind, size_t begin) {
  Token t;
  t.kind = kind;
  t.pos = {file_, static_cast<uint32_t>(begin)};
  t.text = text_.substr(begin, i_ - begin);
  return t;
}

Token Lexer::bad(size_t begin, std::string message) {
  diags_->error({file_, static_cast<uint32_t>(begin)}, std::move(message));
  return make(Tok::kBad, begin);
}

// Called just behind a newline: does the next token on a later line carry the statement on?
bool Lexer::continues_on_next_line() const {
  size_t j = i_;
  for (;;) {
    while (j < text_.size() && (text_[j] == ' ' || text_[j] == '\t' || text_[j] == '\r' || text_[j] == '\n'))
      ++j;
    if (at(j) != '#') break;
    j = text_.find('\n', j);
    if (j == std::string_view::npos) return false;
  }
  if (text_.substr(j, 2) == "|>") return true;
  return text_.substr(j, 4) == "else" && !id_char(at(j + 4));
}

// The newline that an unclosed bracket swallowed, at the end of its line.
Token Lexer::implied_newline() const {
  Token t;
  t.kind = Tok::kNewline;
  t.pos = {file_, static_cast<uint32_t>(last_end_)};
  return t;
}

Token Lexer::next() {
  const size_t before = i_;
  Token t = advance();
  if (t.kind != Tok::kNewline && i_ > before) last_end_ = i_;
  return t;
}

Token Lexer::advance() {
  if (raw_) return scan();
  for (;;) {
    if (diags_->full()) {
      i_ = text_.size();
      return make(Tok::kEnd, i_);
    }
    Token t = scan();
    switch (t.kind) {
      case Tok::kComment: continue;
      case Tok::kNewline: {
        if (depth_ > 0) continue;
        // swallow the whole run, so that looking ahead happens once
        for (;;) {
          const size_t save = i_;
          while (at(i_) == ' ' || at(i_) == '\t' || (at(i_) == '\r' && at(i_ + 1) == '\n')) ++i_;
          if (at(i_) == '#') {
            const size_t e = text_.find('\n', i_);
            i_ = e == std::string_view::npos ? text_.size() : e;
          }
          if (i_ < text_.size() && text_[i_] == '\n') {
            ++i_;
            continue;
          }
          if (i_ < text_.size()) i_ = save;
          break;
        }
        line_start_ = true;
        if (continues_on_next_line()) continue;
        return t;
      }
      case Tok::kLParen:
      case Tok::kLBracket: ++depth_; return t;
      case Tok::kRParen:
      case Tok::kRBracket:
        if (depth_ > 0) --depth_;
        return t;
      // braces never stand inside brackets: an unclosed bracket ends here, so that the error stays local
      case Tok::kLBrace:
      case Tok::kRBrace: depth_ = 0; return t;
      // nor do these words start a line inside brackets
      case Tok::kReturn:
      case Tok::kYield:
      case Tok::kParam:
      case Tok::kState:
      case Tok::kLayer:
      case Tok::kAssert:
      case Tok::kFor:
        if (t.line_start && depth_ > 0) {
          depth_ = 0;
          i_ = t.pos.offset;
          line_start_ = true;
          return implied_newline();
        }
        return t;
      case Tok::kId:
        if (t.column_one && depth_ > 0 &&
            (t.text == "block" || t.text == "model" || t.text == "train" || t.text == "import" ||
             t.text == "const")) {
          depth_ = 0;
          i_ = t.pos.offset;
          line_start_ = true;
          return implied_newline();
        }
        return t;
      default: return t;
    }
  }
}

Token Lexer::scan() {
  while (at(i_) == ' ' || at(i_) == '\t' || (at(i_) == '\r' && at(i_ + 1) == '\n')) ++i_;
  const size_t b = i_;
  const bool first = line_start_;
  auto flagged = [&](Token t) {
    t.line_start = first;
    t.column_one = b == 0 || text_[b - 1] == '\n';
    return t;
  };
  if (i_ >= text_.size()) return flagged(make(Tok::kEnd, i_));
  const char c = text_[i_];
  if (c == '\n') {
    ++i_;
    line_start_ = true;
    return make(Tok::kNewline, b);
  }
  line_start_ = false;
  if (c == '#') {
    const size_t e = text_.find('\n', i_);
    i_ = e == std::string_view::npos ? text_.size() : e;
    if (i_ > b && text_[i_ - 1] == '\r') --i_;
    return flagged(make(Tok::kComment, b));
  }
  if (id_start(c)) {
    while (id_char(at(i_))) ++i_;
    Token t = make(Tok::kId, b);
    if (t.text.size() > kMaxName) {
      t = bad(b, fmt::format("a name of {} bytes; names have at most {}", t.text.size(), kMaxName));
      return flagged(t);
    }
    for (const Word& w : kReserved)
      if (w.text == t.text) t.kind = w.kind;
    if (auto d = dtype_from_name(t.text)) {
      t.kind = Tok::kDType;
      t.dtype = *d;
    }
    return flagged(t);
  }
  if (digit(c)) return flagged(number());
  if (c == '"') return flagged(string());
  if (c == '`') return flagged(quoted_name());
  for (const Word& w : kPunctuation) {
    if (text_.substr(i_, w.text.size()) == w.text) {
      i_ += w.text.size();
      return flagged(make(w.kind, b));
    }
  }
  // one message for a run of bytes that can't start a token
  const auto byte = static_cast<unsigned char>(c);
  while (i_ < text_.size()) {
    const auto u = static_cast<unsigned char>(text_[i_]);
    if (u == byte || (u >= 0x80 && byte >= 0x80) || (u < 0x20 && byte < 0x20 && u != '\n' && u != '\t'))
      ++i_;
    else
      break;
  }
  if (byte < 0x20 || byte == 0x7F)
    return flagged(bad(b, fmt::format("a control byte 0x{:02x}; .graph files are text", byte)));
  if (c == '\'') {
    while (i_ < text_.size() && text_[i_] != '\'' && text_[i_] != '\n') ++i_;
    if (at(i_) == '\'') ++i_;
    return flagged(bad(b, "strings are written with double quotes"));
  }
  if (c == '!') return flagged(bad(b, "unexpected '!'; negation is written 'not'"));
  if (c == '&' || c == '|')
    return flagged(bad(b, fmt::format("unexpected '{}'; logic is written 'and', 'or', a pipe '|>'", c)));
  if (byte >= 0x80)
    return flagged(bad(b, fmt::format("unexpected {}; names are ASCII, or quoted with backticks",
                                      quoted(text_.substr(b, i_ - b)))));
  return flagged(bad(b, fmt::format("unexpected '{}'", c)));
}

Token Lexer::number() {
  const size_t b = i_;
  while (digit(at(i_)) || at(i_) == '_') ++i_;
  bool real = false;
  if (at(i_) == '.' && digit(at(i_ + 1))) {  // a float needs a digit after its point, so 0..12 is a range
    real = true;
    ++i_;
    while (digit(at(i_))) ++i_;
  }
  if (at(i_) == 'e' || at(i_) == 'E') {
    size_t j = i_ + 1;
    if (at(j) == '+' || at(j) == '-') ++j;
    if (digit(at(j))) {
      real = true;
      i_ = j;
      while (digit(at(i_))) ++i_;
    }
  }
  if (id_char(at(i_))) {
    while (id_char(at(i_))) ++i_;
    return bad(b, fmt::format("{} is neither a number nor a name", quoted(text_.substr(b, i_ - b))));
  }
  Token t = make(real ? Tok::kFloat : Tok::kInt, b);
  if (t.text.size() > 400) return bad(b, "a number of more than 400 digits");
  std::string digits;
  for (char d : t.text)
    if (d != '_') digits += d;
  const char* end = digits.data() + digits.size();
  if (real) {
    const auto r = std::from_chars(digits.data(), end, t.float_value);
    if (r.ec == std::errc::result_out_of_range) {
      const bool tiny = digits.find("e-") != std::string::npos || digits.find("E-") != std::string::npos;
      if (!tiny) return bad(b, fmt::format("{} is too large for a number", quoted(t.text)));
      t.float_value = 0;
    }
  } else {
    const auto r = std::from_chars(digits.data(), end, t.int_value);
    if (r.ec == std::errc::result_out_of_range)
      return bad(b,
                 fmt::format("{} is too large for an integer (at most 9223372036854775807)", quoted(t.text)));
    t.float_value = static_cast<double>(t.int_value);
  }
  return t;
}

Token Lexer::string() {
  const size_t b = i_++;
  for (;;) {
    const char c = at(i_);
    if (i_ >= text_.size() || c == '\n') return bad(b, "a string that isn't closed on its line");
    if (c == '"') break;
    if (c == '\0') return bad(b, "a control byte 0x00 in a string");
    if (c == '\\') {
      const size_t e = i_;
      const char k = at(++i_);
      if (k == 'u' && at(i_ + 1) == '{') {
        i_ += 2;
        uint32_t cp = 0;
        int n = 0;
        while (std::isxdigit(static_cast<unsigned char>(at(i_))) && n < 7) {
          cp = cp * 16 + static_cast<uint32_t>(digit(at(i_)) ? at(i_) - '0' : (at(i_) | 32) - 'a' + 10);
          ++i_, ++n;
        }
        if (n == 0 || at(i_) != '}' || cp > 0x10FFFF || (cp >= 0xD800 && cp < 0xE000)) {
          return bad(e, "\\u{..} takes a code point in hexadecimal, at most 10ffff");
        }
      } else if (k != 'n' && k != 't' && k != 'r' && k != '\\' && k != '"') {
        return bad(e, "an unknown escape; known are \\n \\t \\r \\\\ \\\" \\u{..}");
      }
    }
    ++i_;
  }
  ++i_;
  Token t = make(Tok::kStr, b);
  if (t.text.size() > kMaxName)
    return bad(b, fmt::format("a string of {} bytes; strings have at most {}", t.text.size(), kMaxName));
  return t;
}

Token Lexer::quoted_name() {
  const size_t b = i_++;
  while (i_ < text_.size() && text_[i_] != '`' && text_[i_] != '\n' && text_[i_] != '\0') ++i_;
  if (at(i_) != '`') return bad(b, "a quoted name that isn't closed on its line");
  ++i_;
  Token t = make(Tok::kId, b);
  t.text = t.text.substr(1, t.text.size() - 2);
  t.quoted_id = true;
  if (t.text.empty()) return bad(b, "an empty quoted name");
  if (t.text.size() > kMaxName)
    return bad(b, fmt::format("a name of {} bytes; names have at most {}", t.text.size(), kMaxName));
  return t;
}

std::string unescape(std::string_view s) {
  std::string out;
  for (size_t i = 1; i + 1 < s.size(); ++i) {
    if (s[i] != '\\') {
      out += s[i];
      continue;
    }
    switch (s[++i]) {
      case 'n': out += '\n'; break;
      case 't': out += '\t'; break;
      case 'r': out += '\r'; break;
      case 'u': {
        uint32_t cp = 0;
        for (i += 2; s[i] != '}'; ++i)
          cp = cp * 16 + static_cast<uint32_t>(digit(s[i]) ? s[i] - '0' : (s[i] | 32) - 'a' + 10);
        append_utf8(out, cp);
        break;
      }
      default: out += s[i];
    }
  }
  return out;
}

std::string escape(std::string_view bytes) {
  std::string out = "\"";
  for (const char c : bytes) {
    switch (c) {
      case '\n': out += "\\n"; break;
      case '\t': out += "\\t"; break;
      case '\r': out += "\\r"; break;
      case '"': out += "\\\""; break;
      case '\\': out += "\\\\"; break;
      default: out += c;
    }
  }
  return out + '"';
}

}  // namespace graphc::syntax
