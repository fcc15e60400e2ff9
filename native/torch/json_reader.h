#pragma once
// A strict JSON reader over a byte range, for untrusted headers: no recursion without a depth limit, no value beyond 64
// bits, valid UTF-8 only.
#include <cstdint>
#include <string>

namespace fg {

class JsonReader {
 public:
  JsonReader(const char* begin, const char* end, std::string what)
      : start_(begin), p_(begin), end_(end), what_(std::move(what)) {}

  [[noreturn]] void fail(const std::string& why) const;
  void expect(char c);   // skips blanks, then takes `c`
  bool take(char c);     // the same when it is there
  std::string string();  // decoded, UTF-8; lone surrogates are refused
  uint64_t unsigned_integer();
  void skip_value(int depth = 0);
  void finish();  // only blanks may remain

 private:
  void blanks();
  char next();
  unsigned hex4();
  void escape(std::string& out);
  void utf8_sequence(std::string& out, unsigned char first);
  void number();
  void literal(const char* word);
  const char *start_, *p_, *end_;
  std::string what_;
};

}  // namespace fg
