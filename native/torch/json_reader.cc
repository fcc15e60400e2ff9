#include "torch/json_reader.h"

#include <cstring>

#include "torch/error.h"

namespace fg {

namespace {
constexpr int kMaxDepth = 64;
bool digit(char c) { return c >= '0' && c <= '9'; }

void append_utf8(std::string& out, unsigned code) {
  if (code < 0x80) {
    out += static_cast<char>(code);
  } else if (code < 0x800) {
    out += static_cast<char>(0xc0 | code >> 6);
    out += static_cast<char>(0x80 | (code & 63));
  } else if (code < 0x10000) {
    out += static_cast<char>(0xe0 | code >> 12);
    out += static_cast<char>(0x80 | (code >> 6 & 63));
    out += static_cast<char>(0x80 | (code & 63));
  } else {
    out += static_cast<char>(0xf0 | code >> 18);
    out += static_cast<char>(0x80 | (code >> 12 & 63));
    out += static_cast<char>(0x80 | (code >> 6 & 63));
    out += static_cast<char>(0x80 | (code & 63));
  }
}
}  // namespace

void JsonReader::fail(const std::string& why) const {
  throw model_error(what_ + ": the header is not valid: " + why + " (at byte " + std::to_string(p_ - start_) + ")");
}

void JsonReader::blanks() {
  while (p_ < end_ && (*p_ == ' ' || *p_ == '\n' || *p_ == '\r' || *p_ == '\t')) ++p_;
}

char JsonReader::next() {
  if (p_ >= end_) fail("it ends too early");
  return *p_++;
}

bool JsonReader::take(char c) {
  blanks();
  if (p_ >= end_ || *p_ != c) return false;
  ++p_;
  return true;
}

void JsonReader::expect(char c) {
  if (!take(c)) fail(std::string("expected '") + c + "'");
}

unsigned JsonReader::hex4() {
  unsigned value = 0;
  for (int i = 0; i < 4; ++i) {
    const char c = next();
    if (digit(c))
      value = value * 16 + (c - '0');
    else if (c >= 'a' && c <= 'f')
      value = value * 16 + (c - 'a' + 10);
    else if (c >= 'A' && c <= 'F')
      value = value * 16 + (c - 'A' + 10);
    else
      fail("bad \\u escape");
  }
  return value;
}

void JsonReader::escape(std::string& out) {
  const char c = next();
  static constexpr char kLetters[] = "\"\\/bfnrt", kMeanings[] = "\"\\/\b\f\n\r\t";
  if (const char* letter = c ? std::strchr(kLetters, c) : nullptr) {
    out += kMeanings[letter - kLetters];
    return;
  }
  if (c != 'u') fail("bad escape");
  unsigned code = hex4();
  if (code >= 0xdc00 && code < 0xe000) fail("lone surrogate");
  if (code >= 0xd800 && code < 0xdc00) {
    if (next() != '\\' || next() != 'u') fail("lone surrogate");
    const unsigned low = hex4();
    if (low < 0xdc00 || low >= 0xe000) fail("lone surrogate");
    code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
  }
  append_utf8(out, code);
}

void JsonReader::utf8_sequence(std::string& out, unsigned char first) {
  const int extra = first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : 1;
  if (first < 0xc2 || first > 0xf4) fail("invalid UTF-8");
  unsigned code = first & (0x3f >> extra);
  out += static_cast<char>(first);
  for (int i = 0; i < extra; ++i) {
    const unsigned char c = static_cast<unsigned char>(next());
    if ((c & 0xc0) != 0x80) fail("invalid UTF-8");
    code = code << 6 | (c & 63);
    out += static_cast<char>(c);
  }
  const unsigned least = extra == 1 ? 0x80 : extra == 2 ? 0x800 : 0x10000;
  if (code < least || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) fail("invalid UTF-8");
}

std::string JsonReader::string() {
  expect('"');
  std::string out;
  for (;;) {
    const unsigned char c = static_cast<unsigned char>(next());
    if (c == '"') return out;
    if (c == '\\')
      escape(out);
    else if (c < 0x20)
      fail("control character in a string");
    else if (c < 0x80)
      out += static_cast<char>(c);
    else
      utf8_sequence(out, c);
  }
}

uint64_t JsonReader::unsigned_integer() {
  blanks();
  if (p_ >= end_ || !digit(*p_)) fail("expected a non-negative integer");
  if (*p_ == '0' && p_ + 1 < end_ && digit(p_[1])) fail("a number must not begin with 0");
  uint64_t value = 0;
  for (; p_ < end_ && digit(*p_); ++p_) {
    if (__builtin_mul_overflow(value, uint64_t{10}, &value) ||
        __builtin_add_overflow(value, static_cast<uint64_t>(*p_ - '0'), &value))
      fail("a number does not fit 64 bits");
  }
  if (p_ < end_ && (*p_ == '.' || *p_ == 'e' || *p_ == 'E')) fail("expected an integer");
  return value;
}

void JsonReader::number() {
  if (*p_ == '-') ++p_;
  if (p_ >= end_ || !digit(*p_)) fail("bad number");
  if (*p_ == '0' && p_ + 1 < end_ && digit(p_[1])) fail("a number must not begin with 0");
  while (p_ < end_ && digit(*p_)) ++p_;
  if (p_ < end_ && *p_ == '.') {
    ++p_;
    if (p_ >= end_ || !digit(*p_)) fail("bad number");
    while (p_ < end_ && digit(*p_)) ++p_;
  }
  if (p_ < end_ && (*p_ == 'e' || *p_ == 'E')) {
    ++p_;
    if (p_ < end_ && (*p_ == '+' || *p_ == '-')) ++p_;
    if (p_ >= end_ || !digit(*p_)) fail("bad number");
    while (p_ < end_ && digit(*p_)) ++p_;
  }
}

void JsonReader::literal(const char* word) {
  for (; *word; ++word)
    if (next() != *word) fail("unexpected value");
}

void JsonReader::skip_value(int depth) {
  if (depth > kMaxDepth) fail("nested too deeply");
  blanks();
  if (p_ >= end_) fail("it ends too early");
  switch (*p_) {
    case '"':
      string();
      return;
    case 't':
      return literal("true");
    case 'f':
      return literal("false");
    case 'n':
      return literal("null");
    case '{':
      ++p_;
      if (take('}')) return;
      do {
        string();
        expect(':');
        skip_value(depth + 1);
      } while (take(','));
      return expect('}');
    case '[':
      ++p_;
      if (take(']')) return;
      do skip_value(depth + 1);
      while (take(','));
      return expect(']');
    default:
      return number();
  }
}

void JsonReader::finish() {
  blanks();
  if (p_ != end_) fail("something follows the JSON value");
}

}  // namespace fg
