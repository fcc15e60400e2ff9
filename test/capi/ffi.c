/* Any function of a shared library from JavaScript, as ctypes does it in Python: integers and pointers in, an int out. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <node_api.h>
#include <stdint.h>
#include <stdio.h>

static napi_value fail(napi_env env, const char* message) {
  napi_throw_error(env, NULL, message);
  return NULL;
}

/* open(file) -> handle */
static napi_value open_library(napi_env env, napi_callback_info info) {
  size_t n = 1;
  napi_value file, out;
  char path[4096];
  napi_get_cb_info(env, info, &n, &file, NULL, NULL);
  if (napi_get_value_string_utf8(env, file, path, sizeof path, &n) != napi_ok) return fail(env, "a file name");
  void* handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!handle) return fail(env, dlerror());
  napi_create_bigint_uint64(env, (uint64_t)(uintptr_t)handle, &out);
  return out;
}

/* address(typed array) -> BigInt; the memory stays where it is for as long as the array lives */
static napi_value address(napi_env env, napi_callback_info info) {
  size_t n = 1;
  napi_value view, out;
  napi_typedarray_type type;
  void* data;
  napi_get_cb_info(env, info, &n, &view, NULL, NULL);
  if (napi_get_typedarray_info(env, view, &type, NULL, &data, NULL, NULL) != napi_ok) return fail(env, "a typed array");
  napi_create_bigint_uint64(env, (uint64_t)(uintptr_t)data, &out);
  return out;
}

static void* symbol(napi_env env, napi_value handle, napi_value name) {
  char text[256];
  size_t n;
  uint64_t at;
  bool lossless;
  if (napi_get_value_bigint_uint64(env, handle, &at, &lossless) != napi_ok) return NULL;
  if (napi_get_value_string_utf8(env, name, text, sizeof text, &n) != napi_ok) return NULL;
  return dlsym((void*)(uintptr_t)at, text);
}

/* call(handle, name, up to six BigInts) -> number */
static napi_value call(napi_env env, napi_callback_info info) {
  size_t n = 8;
  napi_value argv[8], out;
  int64_t a[6] = {0};
  bool lossless;
  napi_get_cb_info(env, info, &n, argv, NULL, NULL);
  void* found = symbol(env, argv[0], argv[1]);
  if (!found) return fail(env, "no such function");
  for (size_t i = 2; i < n; ++i)
    if (napi_get_value_bigint_int64(env, argv[i], &a[i - 2], &lossless) != napi_ok) return fail(env, "BigInts");
  int (*function)(int64_t, int64_t, int64_t, int64_t, int64_t, int64_t);
  *(void**)&function = found;
  napi_create_int32(env, function(a[0], a[1], a[2], a[3], a[4], a[5]), &out);
  return out;
}

/* text(handle, name, int) -> string */
static napi_value text(napi_env env, napi_callback_info info) {
  size_t n = 3;
  napi_value argv[3], out;
  int32_t a = 0;
  napi_get_cb_info(env, info, &n, argv, NULL, NULL);
  void* found = symbol(env, argv[0], argv[1]);
  if (!found) return fail(env, "no such function");
  napi_get_value_int32(env, argv[2], &a);
  const char* (*function)(int32_t);
  *(void**)&function = found;
  napi_create_string_utf8(env, function(a), NAPI_AUTO_LENGTH, &out);
  return out;
}

NAPI_MODULE_INIT() {
  const struct {
    const char* name;
    napi_callback function;
  } all[] = {{"open", open_library}, {"address", address}, {"call", call}, {"text", text}};
  for (size_t i = 0; i < sizeof all / sizeof *all; ++i) {
    napi_value f;
    napi_create_function(env, all[i].name, NAPI_AUTO_LENGTH, all[i].function, NULL, &f);
    napi_set_named_property(env, exports, all[i].name, f);
  }
  return exports;
}
